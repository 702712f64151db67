"""What the lateral film adds: classifiers of the frontal alone, of the lateral alone, and of both films of a study.

    python benchmarks/two_views.py                       # films are drawn, then kept in two-views-pool
    python benchmarks/two_views.py --pool FOLDER --epochs 40 --bf16

Phantom patients, each a PA and a lateral film of 64 px of one body, with mild effusions, hernias behind the heart and
nodules, each in 30 % of the patients independently. Three classifiers of the same backbone, number of steps and
training patients; each is tested on the same held-out patients, the two-view one also with one of its films missing.
Prints one JSON line: per finding the AUC with 95 % intervals (500 bootstrap rounds over patients), and the differences
to the one-view classifiers with theirs, from the same rounds. About eight minutes of one core.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from thiscxr.labels import NEGATIVE, POSITIVE, FilmRecord
from thiscxr.measures.resampling import interval, mean_over
from thiscxr.phantom import SITES, draw_patient, render
from thiscxr.phantom.releases import phantom_terms
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.reader.evaluation import Bootstrap, Reading, read_films
from thiscxr.reader.network import PAIR
from thiscxr.reader.training import Recipe, train_reader
from thiscxr.reader.views import find_studies, read_studies, train_studies

# from faint to moderate where the frontal hides the faint ones; a nodule is small at any severity
SEVERITIES = {"Effusion": (0.05, 0.5), "Hernia": (0.05, 0.5), "Nodule": (0.3, 1.0)}
PREVALENCE = 0.3
FIRST_SEED = 20_000_000  # of patients that no pool of ours holds


def draw_pool(path: Path, train: int, held: int) -> None:
    """Write a pool of studies, a PA and a lateral film each: `train` patients to train on, then `held` to test."""
    with PoolWriter(path, 64, 8, {site: phantom_terms(site) for site in SITES}, b"two views") as writer:
        for i in tqdm(range(train + held), "phantoms", unit="study", file=sys.stderr):
            rng = np.random.default_rng(i)
            severities = {name: rng.uniform(*span) for name, span in SEVERITIES.items() if rng.random() < PREVALENCE}
            patient = draw_patient(FIRST_SEED + i, severities=severities)
            site, name = SITES[i % len(SITES)], str(i)
            states = {finding: POSITIVE if finding in severities else NEGATIVE for finding in SEVERITIES}
            for view in ("PA", "lateral"):
                record = FilmRecord(
                    f"{i}-{view}", f"{i}-{view}", name, name, view, patient.sex, patient.age_years, states,
                    split="train" if i < train else "holdout",
                )  # fmt: skip
                writer.add(site, record, render(patient, view, 64, site=site).pixels, (64, 64, 8))


def read_alone(pool: Pool, name: str, recipe: Recipe, epochs: int, seed: int) -> dict[str, Reading]:
    """Train a classifier of the films of one view, and return what it answers to those of the held-out studies."""
    view = {"frontal": "PA", "lateral": "lateral"}[name]
    train, held = (rows[pool.column("view")[rows] == view] for rows in (pool.indices("train"), pool.indices("holdout")))
    alone = train_reader(pool, epochs, seed, recipe=recipe, rows=train, name=f"{name} alone")
    return {f"{name} classifier": read_films(alone, pool, held)}


def read_together(pool: Pool, recipe: Recipe, epochs: int, seed: int) -> dict[str, Reading]:
    """Train a classifier of both films of a study, and return what it answers to the held-out studies, by both and by
    either."""
    together = train_studies(find_studies(pool, pool.indices("train")), recipe, epochs, seed)
    studies = find_studies(pool, pool.indices("holdout"))
    alone = {f"both views, {name} alone": read_studies(together, studies.alone(name)) for name in PAIR}
    return {"both views": read_studies(together, studies), **alone}


DIFFERENCES = (
    ("both views", "frontal classifier"),
    ("both views", "lateral classifier"),
    ("both views, frontal alone", "frontal classifier"),
    ("both views, lateral alone", "lateral classifier"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, default=Path("two-views-pool"), help="drawn there unless it exists")
    parser.add_argument("--train", type=int, default=1000, help="patients")
    parser.add_argument("--held", type=int, default=600, help="patients")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16")
    arguments = parser.parse_args()
    recipe = Recipe(batch=32, bf16=arguments.bf16)
    torch.set_num_threads(1)
    start = time.process_time()
    if not arguments.pool.exists():
        draw_pool(arguments.pool, arguments.train, arguments.held)
    pool = Pool.open(arguments.pool)
    readings: dict[str, Reading] = {}
    for name in PAIR:
        readings |= read_alone(pool, name, recipe, arguments.epochs, arguments.seed)
    readings |= read_together(pool, recipe, arguments.epochs, arguments.seed)
    # patients stand in the same order in every reading, so that each round draws the same ones of all
    rounds = {
        name: {finding: Bootstrap([reading]).measure(finding) for finding in SEVERITIES}
        for name, reading in readings.items()
    }
    for areas in rounds.values():
        areas["mean"] = mean_over(list(areas.values()))

    def rounded(values: np.ndarray) -> list[float]:
        return [round(each, 3) for each in (float(values[0]), *interval(values[1:]))]

    result = {
        "benchmark": "two_views",
        "patients": [len(np.unique(pool.column("patient")[pool.indices(split)])) for split in ("train", "holdout")],
        "with": {name: int(np.nansum(readings["both views"].truths[name])) for name in SEVERITIES},
        "epochs": arguments.epochs,
        "seed": arguments.seed,
        "bf16": arguments.bf16,
        "auc": {name: {what: rounded(values) for what, values in areas.items()} for name, areas in rounds.items()},
        "difference": {
            f"{one} - {other}": {what: rounded(rounds[one][what] - rounds[other][what]) for what in rounds[one]}
            for one, other in DIFFERENCES
        },
        "cpu_minutes": round((time.process_time() - start) / 60, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
