"""Does asking work on real films? What was asked against what the reader sees, with shuffled conditions as the null.

    python benchmarks/asked_seen.py nih-64 runs/00000-nih-64-64

Only what the reader can judge: view, sex, age, and findings whose 95 % interval of the AUC on held-out patients (bootstrap over patients)
lies above `--least`. Each question is put twice: `alone`, where the same seeds are asked for nothing but the factor (findings, sex and
age with the view), and `together`, where every film has a condition of its own from the joint table of the training films, in which factors
go along with one another. The measure is the AUC, for the age the correlation; the null is the 95th percentile of the same with the asked
values shuffled over the films; the ceiling is the same on held-out real patients. One JSON line a question. About three minutes.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from thiscxr.data.labels import NEGATIVE, POSITIVE
from thiscxr.data.pixels import pixels_to_images
from thiscxr.data.pool import Pool
from thiscxr.model.classifier import Reader
from thiscxr.model.conditions import AGE_CENTRE, AGE_SCALE, Condition, Vocabulary
from thiscxr.sample.sampling import Network, load, sample_films
from thiscxr.score.extractors import DEFAULT
from thiscxr.train.reader import auc, load_reader, read_targets
from thiscxr.train.runs import find_weights

AGES = (25.0, 75.0)  # years that are asked for alone


def look(reader: Reader, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the reader answers to pixels uint8 [n, res, res]: a logit, or years, [n] for each question."""
    with torch.inference_mode():
        parts = [reader(torch.from_numpy(pixels_to_images(part))[:, None]) for part in np.array_split(pixels, -(-len(pixels) // 256))]
    answers = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    read = {name: answers["findings"][:, i] for i, name in enumerate(reader.config.findings)}
    read |= {f"view {name}": answers["view"][:, i] for i, name in enumerate(reader.config.views)}
    return read | {"sex": answers["sex"][:, 0], "age": answers["age"][:, 0] * AGE_SCALE + AGE_CENTRE}


def correlation(asked: np.ndarray, read: np.ndarray) -> float:
    return float(np.corrcoef(asked, read)[0, 1])


def interval(measure: Callable, truth: np.ndarray, read: np.ndarray, patients: np.ndarray, rounds: int = 500) -> tuple[float, float]:
    """Return the 95 % interval of a measure by bootstrap over patients."""
    rng = np.random.default_rng(0)
    films = [np.flatnonzero(patients == patient) for patient in np.unique(patients)]
    values = []
    for _ in range(rounds):
        rows = np.concatenate([films[i] for i in rng.integers(len(films), size=len(films))])
        values.append(measure(truth[rows], read[rows]))
    low, high = np.nanquantile(values, (0.025, 0.975))
    return float(low), float(high)


def tell(question: str, how: str, measure: Callable, asked: np.ndarray, read: np.ndarray, ceiling: dict) -> None:
    rng = np.random.default_rng(0)
    null = [measure(rng.permutation(asked), read) for _ in range(500)]
    record = {"question": question, "how": how, "measure": measure.__name__, "value": measure(asked, read)}
    record |= {"null95": float(np.quantile(null, 0.95)), **ceiling, "films": len(asked)}
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in record.items()}), flush=True)


def ceilings(reader: Reader, pool: Pool) -> dict[str, dict]:
    """Return, for each question, how well the reader answers it on held-out patients, with its interval."""
    held = pool.indices("holdout")
    read, patients = look(reader, pool.read(held)), pool.codes("patient")[0][held]
    config = reader.config
    targets = read_targets(pool, held, Vocabulary(config.findings, config.views, config.sources))
    truths = {name: targets["findings"][:, i].numpy() for i, name in enumerate(config.findings)}
    truths |= {f"view {name}": (targets["view"].numpy() == i).astype(np.float32) for i, name in enumerate(config.views)}
    truths |= {"sex": targets["sex"][:, 0].numpy(), "age": targets["age"][:, 0].numpy()}
    found = {}
    for name, truth in truths.items():
        known = ~np.isnan(truth)
        measure, truth = (correlation, truth[known]) if name == "age" else (auc, truth[known] > 0.5)
        low, high = interval(measure, truth, read[name][known], patients[known])
        found[name] = {"ceiling": float(measure(truth, read[name][known])), "ceiling95": [round(low, 3), round(high, 3)]}
    return found


def alone(network: Network, reader: Reader, judged: list[str], ceiling: dict[str, dict], n: int) -> None:
    """The same seeds, asked for one value of a factor and for the other."""
    views = [name for name in network.info.vocabulary.views if f"view {name}" in judged]
    asks: dict[str, list[dict]] = {f"view {view}": [{"view": other} for other in (*set(views) - {view}, view)] for view in views}
    asks |= {"sex": [{"view": "PA", "sex": sex} for sex in ("M", "F")], "age": [{"view": "PA", "age_years": age} for age in AGES]}
    asks |= {name: [{"view": "PA", asked: (name,)} for asked in ("no_findings", "findings")] for name in judged if name not in asks}
    for name, pair in ((name, pair) for name, pair in asks.items() if name in judged):
        read = np.concatenate([look(reader, network.sample(range(n), **asked))[name] for asked in pair])
        last = np.arange(len(read)) >= len(read) - n
        if name == "age":
            years = {"read_years": [round(float(read[some].mean()), 1) for some in (~last, last)]}
            tell(name, "alone", correlation, np.where(last, AGES[1], AGES[0]), read, ceiling[name] | years)
        else:
            tell(name, "alone", auc, last, read, ceiling[name])


def together(network: Network, reader: Reader, judged: list[str], ceiling: dict[str, dict], n: int) -> None:
    """Conditions from the joint table, as a user gets them who asks for nothing."""
    seeds = range(n)
    conditions = network.conditions(list(seeds), Condition())
    read = look(reader, np.concatenate(list(sample_films(network, list(seeds), conditions))))
    for name in judged:
        if name == "age":
            values = [condition.age_years for condition in conditions]
        elif name == "sex":
            values = [{"F": 1.0, "M": 0.0, None: None}[condition.sex] for condition in conditions]
        elif name.startswith("view "):
            values = [None if condition.view is None else float(condition.view == name[5:]) for condition in conditions]
        else:
            values = [{POSITIVE: 1.0, NEGATIVE: 0.0}.get(condition.findings.get(name, -3)) for condition in conditions]
        known = np.array([value is not None for value in values])
        asked = np.array([value for value in values if value is not None])
        if name == "age":
            tell(name, "together", correlation, asked, read[name][known], ceiling[name])
        else:
            tell(name, "together", auc, asked > 0.5, read[name][known], ceiling[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("model", help="a run folder, a network file or a name")
    parser.add_argument("-n", type=int, default=500, help="films a question and value")
    parser.add_argument("--least", type=float, default=0.75, help="of the lower end of the AUC's interval, for a finding to be judged")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    pool, network = Pool.open(arguments.pool), load(arguments.model)
    reader, _ = load_reader(find_weights(DEFAULT, "reader"))
    ceiling = ceilings(reader, pool)
    left_out = [name for name in reader.config.findings if not ceiling[name]["ceiling95"][0] > arguments.least]
    learnt = network.info.vocabulary
    askable = {*learnt.findings, *(f"view {name}" for name in learnt.views), *(["sex"] * bool(learnt.sexes)), *(["age"] * learnt.ages)}
    judged = [name for name in ceiling if name not in left_out and name in askable]
    print(json.dumps({"not judged, the reader is not good enough": {name: ceiling[name]["ceiling95"] for name in left_out}}), flush=True)
    alone(network, reader, judged, ceiling, arguments.n)
    together(network, reader, judged, ceiling, arguments.n)


if __name__ == "__main__":
    main()
