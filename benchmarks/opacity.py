"""How far `thiscxr measure` can be relied on: opacity against severity on a site never trained on, against exposure,
and on real films against labels.

python benchmarks/opacity.py --pool pool

The site is a fifth one, made here. The severities of each finding are spread evenly over 0 to 1, a patient each. Real
films: areas under the ROC curve, 95 % intervals by bootstrap over patients.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from thiscxr.collections import FRONTAL_VIEWS
from thiscxr.labels import FINDINGS
from thiscxr.measures.chest import measure_masks, measure_opacity
from thiscxr.measures.resampling import interval, patient_weights, weighted_auc
from thiscxr.phantom import Patient, draw_patient, render
from thiscxr.phantom.sites import PROFILES, Site
from thiscxr.pixels import to_bits, to_square
from thiscxr.pool import Pool
from thiscxr.reader.segmenter import Segmenter, find_segmenter, segment

UNSEEN = "unseen"
PROFILES[UNSEEN] = Site(
    photons=1.5e5, scatter=0.32, blur=0.04, low=0.85, detail=1.25, edge=0.4, dark=0.18, bright=0.82, shoulder=0.6,
    floor=0.05, field=39.5, border=0.7, border_grey=0.5, marker="L", marker_size=1.6, marker_place=(0.9, 0.12),
    ring=False, tilt_deg=0.0,
)  # fmt: skip
FIRST_SEED = 7_000_000
RES = 128


def opacity(segmenter: Segmenter, films: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Return all measures of films [n, 128, 128]."""
    masks = segment(segmenter, np.array_split(films, max(1, len(films) // 64)))
    return measure_masks(masks) | measure_opacity(films, masks)


def against_severity(segmenter: Segmenter, finding: str, count: int) -> tuple[str, NDArray[np.uint8]]:
    """Return a line of correlations: over patients, of the difference to the other lung over patients, and within a
    patient whose severity alone changes."""

    def film(patient: Patient) -> NDArray[np.uint8]:
        return render(patient, "PA", RES, site=UNSEEN).pixels

    def read(films: NDArray[np.uint8], sides: list[str]) -> NDArray[np.float64]:
        """Return [2, n]: opacity of the ill lung and that of the other; of both lungs where both are ill."""
        found = opacity(segmenter, films)
        both = np.stack([found["viewer_right_opacity"], found["viewer_left_opacity"]])
        if finding == "Edema":
            return both.mean(axis=0, keepdims=True).repeat(2, axis=0)
        return np.where(np.array(sides) == "left", both, both[::-1])

    first = FIRST_SEED + 10_000 * FINDINGS.index(finding)
    severities = np.linspace(0, 1, count)
    patients = [draw_patient(first + i, severities={finding: float(s)}) for i, s in enumerate(severities)]
    films = np.stack([film(patient) for patient in patients])
    values, others = read(films, [patient.sides.get(finding, "") for patient in patients])
    known = np.isfinite(values)
    across = np.corrcoef(severities[known], values[known])[0, 1]
    aside = "–" if finding == "Edema" else f"{np.corrcoef(severities[known], (values - others)[known])[0, 1]:.3f}"
    steps, within = np.linspace(0, 1, 6), []
    for i in range(8):
        same = [draw_patient(first + 5_000 + i, severities={finding: float(s)}) for s in steps]
        series = read(np.stack([film(patient) for patient in same]), [each.sides.get(finding, "") for each in same])[0]
        within.append(np.corrcoef(steps[np.isfinite(series)], series[np.isfinite(series)])[0, 1])
    numbers = f"{across:.3f} | {aside} | {np.median(within):.3f} | {np.min(within):.3f}"
    return f"| {finding} | {numbers} | {(~known).sum()}/{count} |", films


def exposures() -> dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]]:
    """Return what is done to a film, by name."""

    def grey(change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Callable:
        return lambda film: np.clip(np.rint(255 * change(film / 255)), 0, 255).astype(np.uint8)

    def jpeg(film: NDArray[np.uint8]) -> NDArray[np.uint8]:
        file = io.BytesIO()
        Image.fromarray(film).save(file, "JPEG", quality=75)
        return np.asarray(Image.open(file))

    def crop(film: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut 5 % of the side: on a film of four times the pixels, so that nothing is enlarged in the end."""
        rim = round(0.025 * 4 * RES)
        large = np.asarray(Image.fromarray(film).resize((4 * RES, 4 * RES), Image.Resampling.BICUBIC))
        return to_square(np.ascontiguousarray(large[rim:-rim, rim:-rim]), RES).astype(np.uint8)

    return {
        "brightness × 1.2": grey(lambda g: 1.2 * g), "brightness × 0.8": grey(lambda g: 0.8 * g),
        "brightness + 51 grey levels": grey(lambda g: g + 0.2), "brightness − 51": grey(lambda g: g - 0.2),
        "contrast + 20 %": grey(lambda g: 0.5 + 1.2 * (g - 0.5)),
        "contrast − 20 %": grey(lambda g: 0.5 + 0.8 * (g - 0.5)),
        "window 0.1 to 0.9": grey(lambda g: (g - 0.1) / 0.8),
        "sigmoid window": grey(lambda g: 1 / (1 + np.exp(-4 * (g - 0.5)))), "JPEG 75": jpeg, "crop of 5 %": crop,
    }  # fmt: skip


def real_films(segmenter: Segmenter, pool: Pool) -> list[str]:
    """Return lines of areas under the curve on the frontal films of a pool."""
    rows = np.flatnonzero(np.isin(pool.column("view"), FRONTAL_VIEWS))
    found = opacity(segmenter, to_bits(pool.read(rows), 8).astype(np.uint8))
    view, whose = pool.column("view")[rows], pool.codes("patient")[0][rows]
    sides = np.stack([found["viewer_left_opacity"], found["viewer_right_opacity"]])
    lower = np.stack([found["viewer_left_lower_opacity"], found["viewer_right_lower_opacity"]])
    area = found["viewer_left_lung"] + found["viewer_right_lung"]
    scores = {"opacity, whiter lung": sides.max(0), "opacity, both lungs": sides.mean(0)}
    scores |= {"opacity, whiter lower zone": lower.max(0), "small lungs": -area}
    pairs = [(name, finding) for finding in ("Effusion", "Consolidation", "Edema", "Pneumonia") for name in scores]
    lines = []
    for name, finding in [*pairs, ("ctr", "Cardiomegaly")]:
        score, cells = scores.get(name, found["ctr"]), []
        for views in (FRONTAL_VIEWS, ("PA",), ("AP", "AP_supine")):
            known = np.isfinite(score) & np.isin(view, views)
            truth = pool.findings[rows[known], FINDINGS.index(finding)] == 1
            value = float(weighted_auc(truth, score[known], np.ones((1, len(truth)), np.float32))[0])
            low, high = interval(weighted_auc(truth, score[known], patient_weights(whose[known], 0)))
            cells.append(f"{value:.3f} [{low:.3f}, {high:.3f}] ({truth.sum()})")
        lines.append(f"| {finding} | {name} | {' | '.join(cells)} |")
    unread = int(np.isnan(found["ctr"]).sum())
    return [*lines, "", f"{unread} of {len(rows)} frontal films not measured"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, help="of real frontal films with labels")
    parser.add_argument("--segmenter", default="lungs128")
    parser.add_argument("--count", type=int, default=60, help="phantoms a finding")
    arguments = parser.parse_args()
    segmenter = find_segmenter(arguments.segmenter)[0]
    print("| finding | r over patients | of the difference to the other lung | within a patient, median | least "
          "| not measured |\n|---|---|---|---|---|---|")  # fmt: skip
    films = []
    for finding in ("Effusion", "Consolidation", "Edema"):
        line, some = against_severity(segmenter, finding, arguments.count)
        films.append(some)
        print(line, flush=True)
    every = np.concatenate(films)
    sides = ("viewer_left_opacity", "viewer_right_opacity")
    plain = np.stack([opacity(segmenter, every)[side] for side in sides])
    span = float(np.nanmax(plain) - np.nanmin(plain))
    print(f"\nrange of opacity on these {len(every)} films: {np.nanmin(plain):.3f} to {np.nanmax(plain):.3f}\n")
    print("| change of the film | median change, % of the range | 95th percentile | not measured |\n|---|---|---|---|")
    for name, change in exposures().items():
        found = opacity(segmenter, np.stack([change(film) for film in every]))
        moved = 100 * np.abs(np.stack([found[side] for side in sides]) - plain) / span
        lost = f"{np.isnan(found[sides[0]]).sum()}/{len(every)}"
        print(f"| {name} | {np.nanmedian(moved):.1f} | {np.nanpercentile(moved, 95):.1f} | {lost} |", flush=True)
    if arguments.pool:
        print("\n| label | measure | all frontal films (positive) | PA | AP |\n|---|---|---|---|---|")
        print("\n".join(real_films(segmenter, Pool.open(arguments.pool))))


if __name__ == "__main__":
    main()
