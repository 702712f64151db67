"""Are conditions followed? Requested conditions against those that the classifier predicts, with shuffled conditions as
the null.

    python benchmarks/asked_seen.py nih-64 runs/00000-nih-64-64

Only what the classifier predicts well on held-out patients (`thiscxr.score.fidelity`). Each question is measured twice:
`alone`, where the factor is the only condition of the same seeds (findings, sex and age with the view), and `together`,
where every film has a condition of its own from the joint table of the training films, in which factors are correlated.
One JSON line a question. About three minutes.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thiscxr.labels import NEGATIVE, POSITIVE
from thiscxr.model.conditions import Condition, FilmConditions, Vocabulary
from thiscxr.model.network_file import find_weights
from thiscxr.pool import Pool
from thiscxr.reader.answers import read_answers
from thiscxr.reader.extractors import DEFAULT, in_batches
from thiscxr.reader.training import load_reader
from thiscxr.sample.sampling import load, sample_films
from thiscxr.score.fidelity import fidelity
from thiscxr.train.conditions import read_conditions

AGES = (25.0, 75.0)  # years that are requested alone


def pairs(questions: Sequence[str], learnt: Vocabulary) -> dict[str, tuple[Condition, ...]]:
    """Return, for each question that the network has learnt, the conditions that differ in it alone."""
    requests = {f"view {view}": tuple(Condition(each) for each in learnt.views) for view in learnt.views}
    if learnt.sexes:
        requests["sex"] = Condition("PA", "M"), Condition("PA", "F")
    if learnt.ages:
        requests["age"] = Condition("PA", age_years=AGES[0]), Condition("PA", age_years=AGES[1])
    requests |= {
        name: tuple(Condition("PA", findings={name: state}) for state in (NEGATIVE, POSITIVE))
        for name in learnt.findings
    }
    return {name: requests[name] for name in questions if name in requests}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("model", help="a run folder, a network file or a name")
    parser.add_argument("-n", type=int, default=500, help="films a question and value")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    pool, network = Pool.open(arguments.pool), load(arguments.model)
    reader, _ = load_reader(find_weights(DEFAULT, "reader"))
    held = pool.indices("holdout")
    real, patients = read_conditions(pool, held), pool.codes("patient")[0][held]
    real_predicted = read_answers(reader, (pool.read(rows) for rows in in_batches(held)))
    seeds = list(range(arguments.n))

    def evaluate(conditions: Sequence[Sequence[Condition]], how: str, only: str | None = None) -> None:
        """Print the results for films of the same seeds, under each of several rows of conditions."""
        requested = FilmConditions.of([condition for row in conditions for condition in row])
        predicted = read_answers(reader, (films for row in conditions for films in sample_films(network, seeds, row)))
        some = {name: values for name, values in real_predicted.items() if only in (None, name)}
        found = fidelity(real, some, patients, requested, predicted, np.tile(seeds, len(conditions)))
        for each in found:
            numbers: dict[str, Any] = {
                name: getattr(each, name) for name in ("value", "ci95", "null95", "floor", "ceiling95")
            }
            fields = (
                {key: np.round(number, 3).tolist() for key, number in numbers.items()}
                if not each.reason
                else {"not evaluated": each.reason}
            )
            print(
                json.dumps(
                    {"question": each.question, "how": how, "measure": each.statistic, **fields, "films": each.num_fake}
                ),
                flush=True,
            )

    evaluate([network.conditions(seeds, Condition())], "together")
    scored = [
        each.question
        for each in fidelity(real, real_predicted, patients, real, real_predicted, patients)
        if not each.reason
    ]
    for name, row in pairs(scored, network.info.vocabulary).items():
        evaluate([[condition] * arguments.n for condition in row], "alone", name)


if __name__ == "__main__":
    main()
