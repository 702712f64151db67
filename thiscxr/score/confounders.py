"""Confounders: associations of findings with sites or views, in the conditions of films and in a classifier's scores.

A generator trained on several hospitals can generate the hospital instead of the disease, and a classifier trained on
its films then predicts the hospital (Zech et al. 2018, arXiv:1807.00431). Probes on features are in `score.probes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.special import ndtri

from thiscxr.labels import FINDINGS, NEGATIVE, POSITIVE
from thiscxr.measures.measured import Measured
from thiscxr.measures.resampling import (
    JACKKNIFE_95,
    Z_95,
    effective_size,
    generator,
    jackknife_error,
    number_patients,
    student_95,
    wilson,
)
from thiscxr.model.conditions import FilmConditions

ALPHA = 0.01  # significance level of a flag
ROUNDS = 999  # permutations
MOST_PATIENTS = 20_000  # used in the permutations
MIN_CELL = 10  # patients, and latents, in a cell of the shift table

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """One cell of the shift table: the share of films with a finding, of one source and view, real against
    synthetic."""

    finding: str
    source: str
    view: str
    real: float
    fake: float
    difference: float
    """fake - real."""
    ci95: tuple[float, float]
    shifted: bool
    """Whether the difference is significant in a table of as many cells (Bonferroni, at ALPHA)."""
    num_real: int
    num_fake: int


def shift_table(real: FilmConditions, patients: ArrayLike, fake: FilmConditions, seeds: ArrayLike) -> list[Shift]:
    """Return P(finding | source, view) among real films and among the conditions of synthetic ones, the largest
    difference first.

    patients [n], seeds [m]: the patient of each real film, the latent of each synthetic one. Only known states count,
    and only cells of at least ten patients and ten latents are listed. Intervals: Newcombe 1998, method 10, for the
    effective number of films if all films of a patient agree.
    """
    sides = (real, number_patients(patients)), (fake, number_patients(seeds))
    cells = []
    for source in real.names["source"]:
        for view in real.names["view"]:
            places = [_place(films, source, view) for films, _ in sides]
            for column, finding in enumerate(FINDINGS):
                known = []
                for (films, whose), rows in zip(sides, places, strict=True):
                    stated = rows[np.isin(films.findings[rows, column], (POSITIVE, NEGATIVE))]
                    known.append((films.findings[stated, column], whose[stated]))
                if all(len(np.unique(whose)) >= MIN_CELL for _, whose in known):
                    cells.append((finding, source, view, known))
    strict = float(ndtri(1 - ALPHA / max(len(cells), 1) / 2))
    table = []
    for finding, source, view, known in cells:
        share, other = (float((states == POSITIVE).mean()) for states, _ in known)
        sizes = [effective_size(whose) for _, whose in known]
        ci95, widest = (_newcombe(share, sizes[0], other, sizes[1], z) for z in (Z_95, strict))
        shifted = widest[0] > 0 or widest[1] < 0
        table.append(
            Shift(
                finding, source, view, share, other, other - share, ci95, shifted, *(len(states) for states, _ in known)
            )
        )
    return sorted(table, key=lambda shift: -abs(shift.difference))


def _place(films: FilmConditions, source: str, view: str) -> NDArray[np.int64]:
    """Return the rows of the films of this source and view."""
    here = np.ones(len(films), np.bool_)
    for factor, value in (("source", source), ("view", view)):
        names = list(films.names[factor])
        here &= getattr(films, factor) == (names.index(value) if value in names else -2)
    return np.flatnonzero(here)


def _newcombe(p1: float, n1: float, p2: float, n2: float, z: float) -> tuple[float, float]:
    """Return the interval of p2 - p1."""
    (low1, high1), (low2, high2) = ((float(a), float(b)) for a, b in (wilson(p1, n1, z), wilson(p2, n2, z)))
    return p2 - p1 - float(np.hypot(p2 - low2, high1 - p1)), p2 - p1 + float(np.hypot(high2 - p2, p1 - low1))


def ties(
    films: FilmConditions, patients: ArrayLike, factor: str = "source", *, real: bool = True, seed: int = 0
) -> list[Measured]:
    """Return how strongly every finding is associated with the source or view, the strongest of the significant ones
    first; [] for one source only. The floor is the 95th percentile by chance.

    A patient (of one source) counts once, with the share of the films that have the finding; the strength is η, the
    root of the share of variance between sources, which for one film a patient is Cramér's V. Chance is measured by
    permuting the sources over the patients, and p is corrected for the number of findings by the largest χ² of each
    permutation (Westfall and Young 1993, max-T). Of more than MOST_PATIENTS patients a random subset is used: more
    would only make ever weaker associations significant.
    """
    codes = getattr(films, factor)
    known = codes >= 0
    units, first = np.unique(np.stack([number_patients(patients)[known], codes[known]]), axis=1, return_inverse=True)
    places = units[1]
    if len(np.unique(places)) < 2:
        return []
    hits, tries = (np.zeros((units.shape[1], len(FINDINGS))) for _ in range(2))
    np.add.at(tries, first.ravel(), np.isin(films.findings[known], (POSITIVE, NEGATIVE)))
    np.add.at(hits, first.ravel(), films.findings[known] == POSITIVE)
    some = (tries > 0).astype(np.float64)
    shares = hits / np.maximum(tries, 1)
    varied = np.array([len(np.unique(shares[some[:, i] > 0, i])) > 1 for i in range(len(FINDINGS))])
    shares, some = shares[:, varied], some[:, varied]
    if not varied.any():
        return []
    if len(places) > MOST_PATIENTS:
        drawn = np.sort(generator(seed, 8).permutation(len(places))[:MOST_PATIENTS])
        shares, some, places = shares[drawn], some[drawn], places[drawn]
    places = np.unique(places, return_inverse=True)[1]
    both, counts = np.hstack([shares, some]), some.sum(axis=0)
    explained = _explained(both, places)
    rng = generator(seed, 5)
    null = np.stack([_explained(both, rng.permutation(places)) for _ in range(ROUNDS)])
    expected, largest = null.mean(axis=0), (null * counts).max(axis=1)
    alone = np.arange(len(places))
    errors = JACKKNIFE_95 * jackknife_error(
        lambda a, b: _strength(_explained(a, b), expected), (both, alone), (places, alone)
    )
    strengths, limits = _strength(explained, expected), np.quantile(_strength(null, expected), 0.95, axis=0)
    sides = (len(films), 0) if real else (0, len(films))
    found = [
        Measured(
            "tie",
            float(strengths[i]),
            (max(0.0, float(strengths[i] - errors[i])), min(1.0, float(strengths[i] + errors[i]))),
            float(limits[i]),
            *sides,
            group="real" if real else "asked",
            question=finding,
            protocol=factor,
            statistic="v",
            p=float((1 + (largest >= counts[i] * explained[i]).sum()) / (ROUNDS + 1)),
        )
        for i, finding in enumerate(name for name, moves in zip(FINDINGS, varied, strict=True) if moves)
    ]
    return sorted(found, key=lambda tie: (not significant(tie), -(tie.value or 0.0)))


def _explained(both: Array, places: NDArray[np.int64]) -> Array:
    """Return η² [findings]: the share of a finding's variance over the units that lies between their places [units].

    both: shares [units, findings], 0 where unknown, and beside them 1 where known, else 0.
    """
    here = csr_array((np.ones(len(places)), (places, np.arange(len(places)))))  # sparse: one place for each unit
    sums, sizes = np.split(here @ both, 2, axis=1)
    common = sums.sum(axis=0) ** 2 / np.maximum(sizes.sum(axis=0), 1)
    between = (sums**2 / np.maximum(sizes, 1)).sum(axis=0) - common
    variance = np.einsum("uf,uf->f", shares := both[:, : sums.shape[1]], shares) - common
    return np.where(variance > 1e-12, between / np.maximum(variance, 1e-12), 0)


def _strength(explained: Array, expected: Array) -> Array:
    return np.sqrt(np.clip((explained - expected) / np.maximum(1 - expected, 1e-12), 0, 1))


def significant(found: Measured) -> bool:
    """Return whether there would hardly be as much by chance."""
    return found.p is not None and found.p < ALPHA


def shortcut(finding: str, scores: Mapping[str, NDArray[np.floating]], spread: float, seed: int = 0) -> Measured:
    """Return how far a classifier's scores of a finding move with the requested site while the requested finding stays
    the same: from the site with the lowest mean score to that with the highest, in standard deviations of the score on
    real films. The floor is the 95th percentile by chance.

    scores: site -> scores [n] of films for which the finding (or its absence) was requested at that site, of the same
    seeds in the same order. spread: standard deviation of the score on held-out real films. Chance is measured by
    permuting the sites within each seed.
    """
    sites = list(scores)
    table = np.stack([np.asarray(scores[site], np.float64) for site in sites])
    means, n = table.mean(axis=1), table.shape[1]
    top, bottom = int(means.argmax()), int(means.argmin())
    rng = generator(seed, 6)
    null = np.array([np.ptp(rng.permuted(table, axis=0).mean(axis=1)) for _ in range(ROUNDS)])
    pull = float(means[top] - means[bottom])
    error = student_95(n - 1) * float((table[top] - table[bottom]).std(ddof=1)) / np.sqrt(n)
    p = float((1 + (null >= pull - 1e-12).sum()) / (ROUNDS + 1))
    ci95 = (float(max(0.0, pull - error) / spread), float((pull + error) / spread))
    floor, group = float(np.quantile(null, 0.95)) / spread, f"{sites[top]} over {sites[bottom]}"
    return Measured("shortcut", pull / spread, ci95, floor, 0, table.size, question=finding, group=group, p=p)
