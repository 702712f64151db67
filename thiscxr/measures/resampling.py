"""Intervals by resampling patients: all films of a patient are drawn together or not at all.

The weights of all rounds are drawn once and the measures are weighted, so that hundreds of rounds are one pass over
arrays. Source: Efron and Tibshirani 1993, chapters 6, 11 and 13.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

ROUNDS = 500
GROUPS = 10
LEAST_HIT = 20  # patients, for a bootstrap of a share to know its variance
Z_95 = 1.959963984540054  # the 97.5th percentile of the normal


def student_95(freedom: float) -> float:
    """Return the 97.5th percentile of Student's t: half a 95 % interval, in standard errors that are estimated from few
    values."""
    return float(stdtrit(freedom, 0.975))


JACKKNIFE_95 = student_95(GROUPS - 1)  # a jackknife of ten groups estimates its error from ten values


def generator(seed: int, stream: int) -> np.random.Generator:
    """Return a random generator for one use."""
    return np.random.Generator(np.random.Philox(key=[seed, stream]))


def number_patients(patients: ArrayLike) -> NDArray[np.int64]:
    """Return int64 [n]: the patient of each film, as numbers from 0 in order of appearance (the ids themselves differ
    from user to user)."""
    _, first, codes = np.unique(np.asarray(patients), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first, kind="stable"), kind="stable")[codes]


def patient_weights(patients: ArrayLike, seed: int, rounds: int = ROUNDS) -> NDArray[np.float32]:
    """Return float32 [rounds, n]: how often each film is in a sample of as many patients, drawn with replacement."""
    codes = number_patients(patients)
    count = int(codes.max()) + 1 if len(codes) else 0
    drawn = generator(seed, 0).multinomial(count, np.full(count, 1 / max(count, 1)), size=rounds)
    return drawn.astype(np.float32)[:, codes]


def interval(values: NDArray[np.floating]) -> tuple[float, float]:
    """Return the 2.5th and 97.5th percentile of bootstrapped values without nan; (nan, nan) when all are nan."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def mean_over(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean of the arrays [..., 1 + rounds] whose value, first on the last axis, is not nan; nan in rounds in
    which one of them is nan, and everywhere when there is no such array.

    A mean over the arrays that happen to have a value would have a different meaning in each round.
    """
    known = [each for each in values if np.isfinite(each[..., 0]).all()]
    return np.mean(known, axis=0) if known else np.full(1, np.nan)


def weighted_auc(
    positive: NDArray[np.bool_], scores: NDArray[np.floating], weights: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return [rounds]: area under the ROC curve of truth [n] and scores [n], weights [rounds, n]; ties count half; nan
    for one class."""
    _, rank = np.unique(scores, return_inverse=True)
    order = np.argsort(rank, kind="stable")
    weights, positive, starts = (
        weights[:, order].astype(np.float64),
        positive[order],
        np.flatnonzero(np.diff(rank[order], prepend=-1)),
    )
    above, below = (np.add.reduceat(weights * side, starts, axis=1) for side in (positive, ~positive))
    won = (above * (np.cumsum(below, axis=1) - below / 2)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return won / (above.sum(axis=1) * below.sum(axis=1))


def weighted_correlation(
    a: NDArray[np.floating], b: NDArray[np.floating], weights: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return [rounds]: Pearson correlation of a [n] and b [n] with weights [rounds, n]; nan where one of them is
    constant."""
    weights = weights.astype(np.float64)
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_a, mean_b = weights @ a / total, weights @ b / total
        cross = weights @ (a * b) / total - mean_a * mean_b
        spread = (weights @ (a * a) / total - mean_a**2) * (weights @ (b * b) / total - mean_b**2)
        return np.where(spread > 1e-20, cross / np.sqrt(np.abs(spread)), np.nan)


def halves(
    patients: ArrayLike, n: int, splits: int, seed: int, stream: int = 1
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield `splits` pairs of n rows each with no patient in both. Raises ValueError when there are not enough
    patients or films."""
    codes = number_patients(patients)
    rng = generator(seed, stream)
    for _ in range(splits):
        ranks = rng.permutation(int(codes.max()) + 1 if len(codes) else 0)[codes]
        rows = np.argsort(ranks, kind="stable")
        first = rows[:n]
        # the patient at the cut stays in one set
        rest = rows[n:][ranks[rows[n:]] > ranks[first[-1]]][:n] if len(first) else first
        if n < 1 or len(rest) < n:
            raise ValueError(
                f"{len(codes)} real films do not give {n} per set with no patient in both; add films or ask for fewer"
            )
        yield first, rest


def jackknife_error(
    measure: Callable[..., Any], *samples: tuple[NDArray[Any], NDArray[np.int64]]
) -> NDArray[np.float64]:
    """Return the standard error of measure(*arrays) from leaving out one group of patients in ten of every array at a
    time.

    samples: (rows [n, …], patient numbers [n]) a sample; the measure may be several numbers. For distances, of which a
    percentile bootstrap is biased. JACKKNIFE_95 of these errors is half an interval.
    """
    left = [measure(*(rows[codes % GROUPS != group] for rows, codes in samples)) for group in range(GROUPS)]
    return np.asarray(np.sqrt((GROUPS - 1) * np.var(left, axis=0)))


def effective_size(patients: ArrayLike) -> float:
    """Return the effective number of independent films if all films of a patient agree (Kish 1965): (Σ m)² / Σ m²."""
    _, films = np.unique(np.asarray(patients), return_counts=True)
    return float(films.sum() ** 2 / max((films**2).sum(), 1))


def wilson(share: ArrayLike, n: ArrayLike, z: float = Z_95) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the interval of shares of n (Wilson 1927): inside [0, 1], and not empty at 0 and 1."""
    share, n = np.asarray(share, np.float64), np.asarray(n, np.float64)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - reach, middle + reach


def bootstrapped_means(values: ArrayLike, whose: ArrayLike, seed: int = 0, rounds: int = ROUNDS) -> NDArray[np.float64]:
    """Return [rounds]: the mean of values [n] over the films of as many patients (whose [n]), drawn with
    replacement."""
    codes = number_patients(whose)
    sums, films = np.bincount(codes, np.asarray(values, np.float64)), np.bincount(codes)
    weights = patient_weights(np.arange(len(films)), seed, rounds).astype(np.float64)
    return (weights @ sums) / (weights @ films)


def share_interval(hits: ArrayLike, whose: ArrayLike, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the share of films [n] that are hits (bool [n]), with the films of one patient (whose
    [n]) kept together.

    It is Wilson's for the effective number of independent films by a bootstrap over patients, at most n (Korn and
    Graubard 1998, Survey Methodology 24: 193). Where fewer than LEAST_HIT patients have a hit, or have none, the
    variance is poorly estimated, and the films of a patient count as if they all agreed (`effective_size`): rather too
    wide than too narrow. Where each film is of another patient, as synthetic films are, it is Wilson's interval
    unchanged.
    """
    hits, codes = np.asarray(hits, np.float64), number_patients(whose)
    share, size, patients = float(hits.mean()), float(len(hits)), int(codes.max()) + 1
    if patients < len(hits):
        alone = share * (1 - share)
        variance = max(float(np.var(bootstrapped_means(hits, codes, seed))), alone / len(hits))
        fewest = min(len(np.unique(codes[hits == side])) for side in (0, 1))
        size = alone / variance if fewest >= LEAST_HIT else effective_size(codes)
    low, high = wilson(share, size)
    return float(low), float(high)
