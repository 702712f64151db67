"""Training steps of the classifier in float32 and in bfloat16, in turn, so that noise of the machine hits both alike.

    taskset -c 0 python benchmarks/classifier_rate.py
    python benchmarks/classifier_rate.py --res 64 --backbone densenet121

One JSON line: films a second of each, medians over the rounds, and their ratio; films are noise, without the
augmentation. About half a minute on one core.
"""

import argparse
import json
import statistics
import time

import numpy as np
import torch

from thiscxr.model.conditions import Vocabulary
from thiscxr.pixels import Pixels
from thiscxr.reader.fitting import Schedule, fit
from thiscxr.reader.network import Reader
from thiscxr.reader.training import Recipe, reader_loss

STEPS = 4  # in a row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--res", type=int, default=128)
    parser.add_argument("--backbone", choices=["small", "densenet121"], default="small")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    recipe = Recipe(arguments.backbone, arguments.res)
    vocabulary = Vocabulary(("Edema", "Effusion"), ("AP", "PA"), ("nih",), ("F", "M"), True)
    reader = Reader(recipe.config(vocabulary)).to(memory_format=torch.channels_last)
    rng, films = np.random.default_rng(0), recipe.step * STEPS
    pixels: Pixels = rng.integers(0, 256, (films, arguments.res, arguments.res), dtype=np.uint8)
    targets = {
        "findings": torch.from_numpy(rng.integers(0, 2, (films, 2)).astype(np.float32)),
        "sex": torch.zeros(films, 1),
        "age": torch.zeros(films, 1),
        "view": torch.from_numpy(rng.integers(0, 2, films)),
        "source": torch.zeros(films, dtype=torch.int64),
    }
    rates: dict[bool, list[float]] = {False: [], True: []}
    for number in range(arguments.rounds + 1):
        for bf16, measured in rates.items():
            started = time.perf_counter()
            fit(
                reader, pixels, targets, reader_loss, STEPS, number, batch=recipe.step,
                schedule=Schedule(strength=0.0, bf16=bf16),
            )  # fmt: skip
            if number:  # the first round warms up
                measured.append(films / (time.perf_counter() - started))
    plain, half = (statistics.median(measured) for measured in rates.values())
    print(
        json.dumps(
            {
                "benchmark": "classifier_rate", "res": arguments.res, "backbone": arguments.backbone,
                "threads": torch.get_num_threads(), "films_per_sec": round(plain, 1),
                "films_per_sec_bf16": round(half, 1), "ratio": round(half / plain, 2),
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
