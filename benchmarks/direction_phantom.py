"""Does a direction move what it names, and little else? On the phantom, where the truth is known.

    thiscxr phantom phantom-64 -n 4000 --res 64
    thiscxr classify train --data phantom-64 --out phantom-reader.safetensors
    python train_gan.py --data phantom-64 --res 64 --minutes 25                  # long run
    python benchmarks/direction_phantom.py runs/00000-phantom-64-64 phantom-reader.safetensors

Fits the axis of a finding to films requested as PA and moves held-out seeds along it. At each step: the classifier's
score, the cardiothoracic ratio measured by the segmenter, and the severity predicted by a linear probe on the
classifier's features (trained on fresh phantom films of known severity). For comparison, the same of true phantom films
of which only the severity grows: what else moves there is an error of the classifier. Prints JSON lines. Some minutes.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from thiscxr.latent.direction import movements
from thiscxr.latent.slider import FIRST_SEED, PLACING, TESTING, find_direction, read_films, walk_films
from thiscxr.measures.resampling import interval, patient_weights
from thiscxr.phantom import SITES, draw_patient, render
from thiscxr.pixels import Pixels, pixels_to_images
from thiscxr.reader.segmenter import find_segmenter
from thiscxr.reader.trust import TrustedReader, trusted_reader
from thiscxr.sample.sampling import load
from thiscxr.score.anatomy import measure_films

FRESH = 10**6  # seeds of patients that are in none of our pools


def report(**answers: object) -> None:
    def short(value: object) -> object:
        if isinstance(value, list | tuple):
            return [short(each) for each in value]
        return (
            {key: short(each) for key, each in value.items()}
            if isinstance(value, dict)
            else round(value, 3)
            if isinstance(value, float)
            else value
        )

    print(json.dumps(short(answers)), flush=True)


def true_films(finding: str, severity: float, count: int, first: int = FRESH) -> Pixels:
    """Return PA films of fresh patients with one finding of one severity, or with none."""
    ill = {finding: severity} if severity else {}
    return np.stack(
        [render(draw_patient(first + i, severities=ill), "PA", 64, site=SITES[i % 4]).pixels for i in range(count)]
    )


def learn_ruler(reader: TrustedReader, finding: str, count: int) -> tuple[Callable[[Pixels], np.ndarray], float]:
    """Return a function from films to severities, and its correlation with the truth on held-out films."""
    severities = np.random.default_rng(0).uniform(0, 1, count) * (np.arange(count) % 4 > 0)
    films = np.stack(
        [
            true_films(finding, s, 1, FRESH + 10**5 + i)[0]
            for i, s in enumerate(tqdm(severities, desc="ruler", unit="film"))
        ]
    )

    def features(films: Pixels) -> np.ndarray:
        with torch.inference_mode():
            return reader.network.features(torch.from_numpy(pixels_to_images(films))[:, None]).double().numpy()

    x, cut = features(films), count * 3 // 4
    centre, mean = x[:cut].mean(axis=0), severities[:cut].mean()
    around = x[:cut] - centre
    weights = np.linalg.solve(
        around.T @ around + 0.1 * cut * around.var() * np.eye(x.shape[1]), around.T @ (severities[:cut] - mean)
    )

    def ruler(films: Pixels) -> np.ndarray:
        return (features(films) - centre) @ weights + mean

    return ruler, float(np.corrcoef(ruler(films[cut:]), severities[cut:])[0, 1])


def by_step(values: np.ndarray) -> dict[str, object]:
    """Return the means of values [steps, films], their intervals over films, and in what share of the films and steps
    they rise."""
    weights = patient_weights(np.arange(values.shape[1]), 0)
    means = (weights @ values.T / weights.sum(axis=1, keepdims=True)).T
    steps = np.diff(values.mean(axis=1))
    return {
        "mean": values.mean(axis=1).tolist(), "ci95": [interval(row) for row in means],
        "rises_at_every_step": bool((steps > 0).all()),
        "rises_from_first_to_last_in": float((values[-1] > values[0]).mean()),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a run folder or a network file")
    parser.add_argument("reader", help="classifier of the phantom, a file of `thiscxr classify train`")
    parser.add_argument("--finding", default="Cardiomegaly")
    parser.add_argument("--severity", action="store_true", help="request the finding for all films")
    parser.add_argument(
        "--entirely", action="store_true", help="hold everything else still, however little the target then moves"
    )
    parser.add_argument("-n", type=int, default=2000, help="films that the axis is fitted to")
    parser.add_argument(
        "--ruler", type=int, default=480, help="true films of known severity that the ruler learns from"
    )
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    network, reader, segmenter = load(arguments.model), trusted_reader(arguments.reader), find_segmenter()[0]
    finding = arguments.finding
    found = find_direction(network, reader, finding, arguments.n, 7, arguments.severity, "PA", arguments.entirely)
    first = FIRST_SEED + arguments.n + PLACING
    films = walk_films(network, found.axis, found.places, range(first, first + TESTING), "PA", arguments.severity)
    ruler, correlation = learn_ruler(reader, finding, arguments.ruler)
    for what in ("axis", "true severity 0 to 1"):
        grown = (true_films(finding, severity, 24) for severity in tqdm(np.linspace(0, 1, 7), desc="true films"))
        walked: NDArray[Any] = films if what == "axis" else np.stack(list(grown))
        flat = walked.reshape(-1, 64, 64)
        shape = walked.shape[:2]
        scores = {name: values.reshape(shape).T for name, values in read_films(reader, [flat]).items()}
        spreads = {each.question: 1.0 for each in found.movements}
        moved = movements(finding, {name: scores[name] for name in spreads}, spreads)
        report(
            films=what, finding=finding, severity=arguments.severity, entirely=arguments.entirely,
            films_a_step=shape[1], score=by_step(scores[finding].T),
            cardiothoracic_ratio=by_step(measure_films(segmenter, [flat])["ctr"].reshape(shape)),
            ruler=by_step(ruler(flat).reshape(shape)), ruler_correlation_held_out=correlation,
            ends={each.question: each.ends for each in moved},
        )  # fmt: skip
    facts = found.to_json()
    keys = ("r2", "r2_ci95", "kept", "firmness", "places", "score_percentiles", "rising")
    report(
        **{key: facts[key] for key in keys},
        against={each.question: (each.against, *each.against_ci95) for each in found.movements},
    )


if __name__ == "__main__":
    main()
