"""What the films of a pool can teach about conditions, in the terms of `model.conditions`."""

import numpy as np

from thiscxr.data.labels import FINDINGS, NEGATIVE, POSITIVE
from thiscxr.data.pool import Pool
from thiscxr.model.conditions import MIN_PATIENTS, Condition, Vocabulary


def read_conditions(pool: Pool, indices: np.ndarray) -> list[Condition]:
    """Return the known conditions of films: -1, -2 and -3 are unknown alike."""
    findings = pool.findings[indices]
    columns = {name: pool.column(name)[indices] for name in ("view", "sex", "age_years", "source")}
    conditions = []
    for i in range(len(indices)):
        age = columns["age_years"][i]
        states = {name: int(state) for name, state in zip(FINDINGS, findings[i], strict=True) if state in (POSITIVE, NEGATIVE)}
        conditions.append(
            Condition(
                view=None if columns["view"][i] == "unknown" else str(columns["view"][i]),
                sex=None if columns["sex"][i] == "unknown" else str(columns["sex"][i]),
                age_years=None if np.isnan(age) else float(age),
                source=str(columns["source"][i]),
                findings=states,
            )
        )
    return conditions


def learnable_vocabulary(pool: Pool, indices: np.ndarray) -> Vocabulary:
    """Return what these films can teach: findings with both answers in at least MIN_PATIENTS patients, and the views and sources seen."""
    patients = pool.column("patient")[indices]
    findings = []
    for name, states in zip(FINDINGS, pool.findings[indices].T, strict=True):
        if all(len(set(patients[states == state])) >= MIN_PATIENTS for state in (POSITIVE, NEGATIVE)):
            findings.append(name)
    views = [view for view in dict.fromkeys(pool.column("view")[indices]) if view != "unknown"]
    sources = sorted(set(pool.column("source")[indices]))
    sexes = ("F", "M") if np.isin(pool.column("sex")[indices], ("F", "M")).any() else ()
    ages = bool(np.isfinite(pool.column("age_years")[indices]).any())
    return Vocabulary(tuple(findings), tuple(sorted(views)), tuple(sources), sexes, ages)


def keep_known(conditions: list[Condition], vocabulary: Vocabulary) -> list[Condition]:
    """Return the conditions without the findings that are not in the vocabulary."""
    known = set(vocabulary.findings)
    return [
        Condition(c.view, c.sex, c.age_years, c.source, {name: state for name, state in c.findings.items() if name in known})
        for c in conditions
    ]
