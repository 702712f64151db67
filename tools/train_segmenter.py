"""Train the segmenter of lungs and heart on phantoms, and evaluate it on others and, with --pool, on real films.

python tools/train_segmenter.py segmenter.safetensors --pool pool
python tools/bundle_weights.py lungs64 segmenter.safetensors --summary "segmenter, …"
python tools/train_segmenter.py finer.safetensors --twice lungs64 --phantoms 1500 --steps 220 --batch 16 --pool pool

--twice continues a bundled segmenter at twice its resolution, on phantoms of three sites, some of them laterals. No
film of the pool is trained on. The same seeds give the same file on one machine. Three to six minutes on one core.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from thiscxr.files import check_place
from thiscxr.labels import FINDINGS
from thiscxr.measures.chest import MEASURES, measure_masks
from thiscxr.phantom import SITES, draw_patient, render
from thiscxr.phantom.labelled import draw_masked_films
from thiscxr.pool import Pool
from thiscxr.reader.segmenter import Segmenter, find_segmenter, save_segmenter
from thiscxr.reader.segmenter_training import MaskedFilms, at_twice_the_resolution, dice, train_segmenter
from thiscxr.score.anatomy import measure_films, trust, trusted

HELD_OUT_SEEDS = 10_000  # phantoms from here on are held out
LATERALS = 0.08


def evaluate_on_phantoms(segmenter: Segmenter, films: MaskedFilms) -> dict[str, Any]:
    """Return mean Dice of lungs and heart, and correlation and mean error of every measure against that of the true
    masks."""
    with torch.inference_mode():
        found = segmenter(2 * films.images - 1).softmax(1)
    evaluation: dict[str, Any] = {"films": len(films.images)}
    evaluation |= dict(zip(("dice_lungs", "dice_heart"), dice(found, films.masks).mean(0)[1:].tolist(), strict=True))
    truth, read = (measure_masks(masks[:, 1:].numpy()) for masks in (films.masks, found))
    for name in MEASURES:
        known = np.isfinite(truth[name]) & np.isfinite(read[name])
        evaluation[name] = {
            "r": float(np.corrcoef(truth[name][known], read[name][known])[0, 1]),
            "mae": float(np.abs(truth[name] - read[name])[known].mean()),
            "read": float(known.mean()),
        }
    return evaluation


def evaluate_without_chests(segmenter: Segmenter, films: MaskedFilms) -> dict[str, float]:
    """Return the shares of pictures without a chest on which none is found: noise, smooth fields, and films cut up."""
    rng = np.random.default_rng(0)
    drawn = (255 * films.images[:, 0].numpy()).astype(np.uint8)
    n, side, _ = drawn.shape
    noise = rng.integers(0, 256, (n, side, side), dtype=np.uint8)
    smooth = gaussian_filter(rng.normal(size=(n, side, side)), (0, 8, 8))
    # columns in another order: no tile of it occurs in training
    strips = np.stack([film[:, rng.permutation(side)] for film in drawn])
    pictures = {
        "noise": noise,
        "smooth": (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8),
        "columns_shuffled": strips,
        "flat": np.full_like(drawn, 90),
        "laterals": np.stack([render(draw_patient(HELD_OUT_SEEDS + i), "lateral", side, site=SITES[i % 4]).pixels
                              for i in range(60)]),
    }  # fmt: skip
    return {name: float(np.isnan(measure_films(segmenter, [each])["ctr"]).mean()) for name, each in pictures.items()}


def evaluate_on_pool(segmenter: Segmenter, pool: Pool) -> dict[str, Any]:
    """Return the AUC of the cardiothoracic ratio for the label Cardiomegaly, on all frontal films of a pool and by
    view."""
    views, patients = pool.column("view"), pool.column("patient")
    measures = measure_films(
        segmenter, (pool.read(rows) for rows in np.array_split(np.arange(len(pool)), -(-len(pool) // 256)))
    )
    evaluation = {}
    for name, of in (("frontal", ("PA", "AP", "AP_supine")), ("PA", ("PA",)), ("AP", ("AP", "AP_supine"))):
        rows = np.flatnonzero(np.isin(views, of))
        some = {key: values[rows] for key, values in measures.items()}
        found = trust(some, pool.findings[rows, FINDINGS.index("Cardiomegaly")], patients[rows])
        lean = some["heart_lean"]
        evaluation[name] = {
            "films": len(rows), "auc": found.value, "ci95": found.ci95, "trusted": trusted(found),
            # the heart leans to the viewer's right in all but about one in ten thousand people
            "leans_right": float((lean[np.isfinite(lean)] > 0).mean()), "unreadable": float(np.isnan(lean).mean()),
        }  # fmt: skip
    return evaluation


def rounded(value: Any) -> Any:
    """Return the value with all floats in it to four decimals."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pool", type=Path, help="real frontal films with the label Cardiomegaly, for evaluation")
    parser.add_argument("--phantoms", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--twice", metavar="NAME", help="bundled segmenter to continue at twice its resolution")
    arguments = parser.parse_args()
    check_place(arguments.out)
    torch.set_num_threads(1)
    start, drawn = None, range(arguments.phantoms)
    if arguments.twice:
        start = at_twice_the_resolution(find_segmenter(arguments.twice)[0])
        films = draw_masked_films(drawn, start.config.res, SITES[:3], LATERALS)
    else:
        films = draw_masked_films(drawn)
    segmenter = train_segmenter(films, arguments.steps, batch=arguments.batch, start=start)
    others = draw_masked_films(range(HELD_OUT_SEEDS, HELD_OUT_SEEDS + 200), segmenter.config.res)
    evaluation = {
        "phantoms": evaluate_on_phantoms(segmenter, others),
        "no_chest_seen": evaluate_without_chests(segmenter, others),
    }
    if arguments.pool:
        evaluation["pool"] = evaluate_on_pool(segmenter, Pool.open(arguments.pool))
    evaluation = rounded(evaluation)
    save_segmenter(arguments.out, segmenter, evaluation)
    print(json.dumps(evaluation, indent=1))


if __name__ == "__main__":
    main()
