"""Does a planted confounder light up, and an untied pool not? One JSON line a plant; half a minute on one core.

    python benchmarks/planted_confounders.py [-n 400] [--pools 20]

Patients of the phantom, at sites drawn at random, are tied: with probability `tie`, whoever has an effusion is filmed
at site a and whoever has none at site b. The strength is Cramér's V with chance taken off. Then a finding's frequency
is shifted at one site of a synthetic set. Untied pools count false alarms.
"""

import argparse
import json
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from thiscxr.labels import FINDINGS, NEGATIVE, POSITIVE
from thiscxr.model.conditions import Condition, FilmConditions
from thiscxr.phantom import PHANTOM_FINDINGS, SITES, draw_patient
from thiscxr.score.confounders import shift_table, significant, ties
from thiscxr.score.records import Record


def pool_of(count: int, seed: int, tie: float = 0.0) -> FilmConditions:
    """Return the conditions of films of drawn patients, of which a share `tie` is filmed where their effusion sends
    them."""
    rng = np.random.default_rng(seed)
    conditions = []
    for i in range(count):
        patient = draw_patient(seed * 100_000 + i)
        findings = {name: POSITIVE if patient.severity(name) > 0 else NEGATIVE for name in PHANTOM_FINDINGS}
        site = SITES[int(rng.integers(len(SITES)))]
        if rng.random() < tie:
            site = SITES[0] if findings["Effusion"] == POSITIVE else SITES[1]
        conditions.append(Condition("PA", patient.sex, float(patient.age_years), site, findings))
    return FilmConditions.of(conditions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=400, help="films a pool")
    parser.add_argument("--pools", type=int, default=20, help="untied pools")
    arguments = parser.parse_args()
    if arguments.n < 100:
        parser.error(f"-n {arguments.n}: a pool of fewer than 100 films can show no tie; give more")
    n, patients = arguments.n, np.arange(arguments.n)
    for tie in (1.0, 0.4, 0.2, 0.1, 0.0):
        first, *others = (Record.of(each) for each in ties(pool_of(n, 1, tie), patients))  # with six decimals
        line: dict[str, Any] = {
            "planted": f"effusion tied to sites in {tie:.0%} of the films", "first": first.question,
            "cramers_v": first.value, "ci95": first.ci95,
            "chance95": first.floor, "p": first.p, "tied": significant(first),
            "other_findings_tied": sum(map(significant, others)),
        }  # fmt: skip
        print(json.dumps(line), flush=True)
    alarms = [
        any(map(significant, ties(pool_of(n, 100 + seed), patients, seed=seed)))
        for seed in tqdm(range(arguments.pools))
    ]
    print(json.dumps({"planted": "nothing", "pools": arguments.pools, "pools_with_an_alarm": sum(alarms)}), flush=True)
    real, fake = pool_of(n, 6), pool_of(n, 7)
    mass = FINDINGS.index("Mass")
    for share in (1.0, 0.3, 0.0):
        findings = fake.findings.copy()
        here = np.flatnonzero(fake.source == fake.names["source"].index(SITES[2]))
        findings[here[: round(share * len(here))], mass] = POSITIVE
        cell, *cells = shift_table(real, patients, replace(fake, findings=findings), patients)
        line = {
            "planted": f"a mass in {share:.0%} of the synthetic films of site c",
            "first": [cell.finding, cell.source, cell.view], "real": round(cell.real, 3), "fake": round(cell.fake, 3),
            "ci95": [round(x, 3) for x in cell.ci95], "shifted": cell.shifted,
            "other_cells_shifted": sum(each.shifted for each in cells),
        }  # fmt: skip
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
