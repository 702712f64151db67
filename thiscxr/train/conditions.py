"""The conditions that can be learnt from the films of a pool, in the terms of `model.conditions`."""

import numpy as np
from numpy.typing import NDArray

from thiscxr.labels import FINDINGS, NEGATIVE, POSITIVE
from thiscxr.model.conditions import MIN_PATIENTS, FilmConditions, Vocabulary
from thiscxr.pool import Pool


def read_conditions(pool: Pool, indices: NDArray[np.int64]) -> FilmConditions:
    """Return the known conditions of films: -1, -2 and -3 are unknown alike, and so are unknown views, sexes and
    ages."""
    columns, names = {}, {}
    for name in ("view", "sex", "source"):
        codes, values = pool.codes(name)[0], pool.codes(name)[1].to_pylist()
        known = np.array([value != "unknown" for value in values])
        columns[name], names[name] = np.where(known[codes], codes, -1)[indices], values
    return FilmConditions(
        **columns, age_years=pool.column("age_years")[indices], findings=pool.findings[indices], names=names
    )


def learnable_vocabulary(films: FilmConditions, patients: NDArray[np.integer]) -> Vocabulary:
    """Return what can be learnt from these films: findings with both states in at least MIN_PATIENTS patients, and the
    views and sources seen.

    patients: a number a film, the same for all films of one.
    """
    findings = [
        name
        for name, states in zip(FINDINGS, films.findings.T, strict=True)
        if all(
            np.count_nonzero(np.bincount(patients[states == state])) >= MIN_PATIENTS for state in (POSITIVE, NEGATIVE)
        )
    ]
    seen = {
        name: {films.names[name][code] for code in np.unique(getattr(films, name)).tolist() if code >= 0}
        for name in ("view", "sex", "source")
    }
    sexes = ("F", "M") if seen["sex"] else ()
    ages = bool(np.isfinite(films.age_years).any())
    return Vocabulary(tuple(findings), tuple(sorted(seen["view"])), tuple(sorted(seen["source"])), sexes, ages)
