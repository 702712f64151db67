"""Is a requested source in the films, and does a finding that leaves the source open bring one along?

    thiscxr prepare pool --nih nih-256 --nih nih-128 --kermany kermany --res 256 --smallest 128
    python benchmarks/source_conditions.py pool pooled-256

Sources are predicted by logistic regressions on the features of thiscxr128, cross-fitted by patient: the accuracy on
real films is the ceiling. One JSON line a question. The second requests a finding and its absence with the same
seeds, once with the source left open and once with what is open completed by each seed's draw, as for films of one
patient; chance is the 95th percentile over permutations. About five minutes on two cores.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from thiscxr.pixels import pixels_to_images
from thiscxr.pool import Pool
from thiscxr.reader.extractors import LARGE, extract, in_batches, load_extractor, pool_key
from thiscxr.sample.sampling import load, request, sample_films
from thiscxr.score.probes import FOLDS, cross_fit, draw_folds

ROUNDS = 400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("model", help="a run folder, a network file or a name")
    parser.add_argument("--finding", default="Pneumonia")
    parser.add_argument("-n", type=int, default=256, help="films a question and value")
    arguments = parser.parse_args()
    pool, network, extractor = Pool.open(arguments.pool), load(arguments.model), load_extractor(LARGE)
    pool = pool.at_resolution(network.info.architecture.res)
    rows, names, seeds = pool.indices("all"), network.info.vocabulary.sources, list(range(arguments.n))
    asked = {f"source {source} requested": network.conditions(seeds, request(source=source)) for source in names}
    for how, complete in (("left open", network.conditions), ("completed by the seed", network.patients)):
        asked[f"present, source {how}"] = complete(seeds, request(findings=[arguments.finding]))
        asked[f"absent, source {how}"] = complete(seeds, request(no_findings=[arguments.finding]))

    def features_of(films: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return extractor.reader.features(torch.from_numpy(pixels_to_images(films))[:, None]).numpy()

    fakes = [features_of(films) for each in asked.values() for films in sample_films(network, seeds, each)]
    (features,) = extract(
        (pool.read(some) for some in in_batches(rows)), [extractor], count=len(rows), key=pool_key(pool, rows)
    )
    truth = np.array([names.index(source) for source in pool.column("source")[rows]])
    others = np.concatenate(fakes)
    found = cross_fit(
        features.astype(np.float64),
        truth,
        draw_folds(pool.codes("patient")[0][rows], seed=0),
        others.astype(np.float64),
        np.arange(len(others)) % FOLDS,
    )
    real, synthetic = (each.argmax(axis=1) for each in found)
    predicted = dict(zip(asked, synthetic.reshape(len(asked), -1), strict=True))
    report("source of real films", right=float((real == truth).mean()), films=len(rows))
    for i, source in enumerate(names):
        question = f"source {source} requested"
        report(question, right=float((predicted[question] == i).mean()), films=len(seeds))
    for how in ("left open", "completed by the seed"):
        present, absent = (predicted[f"{state}, source {how}"] for state in ("present", "absent"))
        rng, both = np.random.default_rng(0), np.concatenate([present, absent])
        null = [distance(*np.split(rng.permutation(both), 2)) for _ in range(ROUNDS)]
        report(
            f"{arguments.finding} present against absent, source {how}",
            moved=distance(present, absent),
            null95=float(np.quantile(null, 0.95)),
            **{f"{name} where present": float((present == i).mean()) for i, name in enumerate(names)},
            films=len(both),
        )


def report(question: str, **numbers: float) -> None:
    print(json.dumps({"question": question} | {name: round(number, 4) for name, number in numbers.items()}), flush=True)


def distance(some: NDArray[np.int64], others: NDArray[np.int64]) -> float:
    """Return half of the summed differences between the shares of classes in two sets: from 0 to 1."""
    k = int(max(some.max(), others.max())) + 1
    shares = [np.bincount(each, minlength=k) / len(each) for each in (some, others)]
    return float(abs(shares[0] - shares[1]).sum() / 2)


if __name__ == "__main__":
    main()
