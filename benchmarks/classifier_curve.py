"""How well the classifier reads other patients, by how many patients it saw and how often.

    python benchmarks/classifier_curve.py pool --res 128 --bf16 --share 0.25 0.5 1
    python benchmarks/classifier_curve.py pool --res 128 --bf16 --epochs 10 20 40 --within

It is evaluated on the held-out patients or, with --within, on a quarter of the training patients, and trained on a
share of the others, so that a recipe can be chosen before the held-out patients are looked at. One JSON line a
training: AUC of findings, sex and view with 95 % intervals over patients, the mean over the findings, and the error of
the age. Long: at 180 films a second forty passes over 7,189 films take 27 minutes.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from thiscxr.pool import Pool
from thiscxr.reader.evaluation import evaluate, read_films
from thiscxr.reader.training import Recipe, train_reader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--res", type=int, default=128)
    parser.add_argument("--share", type=float, nargs="+", default=[1.0], help="of the training patients")
    parser.add_argument("--epochs", type=int, nargs="+", default=[40], help="passes over the films")
    parser.add_argument("--within", action="store_true", help="do not look at the held-out patients")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pool = Pool.open(arguments.pool).at_resolution(arguments.res)
    train, read = pool.indices("train"), pool.indices("holdout")
    # a place from 0 to 1 for each patient, so that a larger share holds the smaller one
    places = np.random.default_rng(0).random(int(pool.codes("patient")[0].max()) + 1)[pool.codes("patient")[0]]
    if arguments.within:
        train, read = train[places[train] < 0.75], train[places[train] >= 0.75]
    for share in arguments.share:
        rows = train[places[train] < share * (0.75 if arguments.within else 1.0)]
        for epochs in arguments.epochs:
            start, recipe = time.perf_counter(), Recipe(res=arguments.res, bf16=arguments.bf16)
            reader = train_reader(pool, epochs, arguments.seed, recipe=recipe, rows=rows, name=f"{len(rows)} films")
            minutes = (time.perf_counter() - start) / 60
            result = {
                "benchmark": "classifier_curve", "share": share, "epochs": epochs, "within": arguments.within,
                "trained_on": [len(rows), len(np.unique(pool.column("patient")[rows]))], "minutes": round(minutes, 1),
                **evaluate([read_films(reader, pool, read)]).brief(),
            }  # fmt: skip
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
