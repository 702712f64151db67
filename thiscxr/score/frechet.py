"""The Fréchet distance between two sets of feature vectors, in float64, with an interval.

Source: Dowson and Landau 1982, "The Fréchet distance between multivariate normal distributions", Eq. 4; Heusel et al. 2017,
arXiv:1706.08500, Eq. 6. Own code on purpose: the usual packages call an argument that SciPy 1.18 removed, and fail on singular
covariances.
"""

from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Z_95 = 1.959963984540054  # the 97.5th percentile of the normal


def frechet_distance(mu1: Array, sigma1: Array, mu2: Array, sigma2: Array) -> float:
    """Return |mu1 − mu2|² + tr(sigma1 + sigma2 − 2 (sigma1 sigma2)^½) for means [d] and covariances [d, d].

    The trace of the root is the sum of the roots of the eigenvalues of sigma1^½ sigma2 sigma1^½, which is symmetric: always real, also
    where the covariances are singular. Raises ValueError for shapes that do not fit and for values that are not finite.
    """
    mu1, mu2, sigma1, sigma2 = (np.asarray(a, dtype=np.float64) for a in (np.atleast_1d(mu1), np.atleast_1d(mu2), sigma1, sigma2))
    sigma1, sigma2 = np.atleast_2d(sigma1), np.atleast_2d(sigma2)
    d = mu1.shape[0]
    if mu1.shape != (d,) or mu2.shape != (d,) or sigma1.shape != (d, d) or sigma2.shape != (d, d):
        shapes = f"{mu1.shape}, {mu2.shape} and covariances {sigma1.shape}, {sigma2.shape}"
        raise ValueError(f"means {shapes} do not fit; expected [d] and [d, d]")
    if not all(np.isfinite(a).all() for a in (mu1, mu2, sigma1, sigma2)):
        raise ValueError("a mean or covariance is not finite; look for NaN in the features")
    values, vectors = np.linalg.eigh(sigma1)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    product = root @ sigma2 @ root
    trace_root = np.sqrt(np.clip(np.linalg.eigvalsh((product + product.T) / 2), 0, None)).sum()
    distance = ((mu1 - mu2) ** 2).sum() + np.trace(sigma1) + np.trace(sigma2) - 2 * trace_root
    return float(max(distance, 0.0))  # rounding can leave −1e-15 between equal sets


def moments(features: Array) -> tuple[Array, Array]:
    """Return the mean [d] and the unbiased covariance [d, d] of features [n, d], both float64. Raises ValueError for fewer than 2 rows."""
    if len(features) < 2:
        raise ValueError(f"{len(features)} feature vectors are too few for a covariance; at least 2 are needed")
    features = np.asarray(features, dtype=np.float64)
    return features.mean(axis=0), np.cov(features, rowvar=False)


@dataclass(frozen=True)
class FrechetScore:
    """A distance to real films, its 95 % interval, and the same distance between real patients and other real patients."""

    value: float
    ci95: tuple[float, float]
    floor: float
    n: int  # films a side


def frechet_score(real: Array, patients: Array, fake: Array, *, n: int, splits: int = 10, groups: int = 10, seed: int = 0) -> FrechetScore:
    """Return the distance of `fake` [m, d] from `real` [k, d], at `n` films a side, with the floor at the same `n`.

    Half of the real patients stand against the other half (floor) and against the synthetic films (value); both are means over `splits`
    random halvings, so that value and floor carry the same small-sample bias. The interval is a delete-a-group jackknife over patients
    and synthetic films (Efron and Tibshirani 1993, chapter 11), which is unbiased where a percentile bootstrap of a Fréchet distance is
    not. Raises ValueError when there are not n films on each side.
    """
    # Two streams, so that the floor of a pool is the same whatever it is compared with.
    real_rng, fake_rng = (np.random.Generator(np.random.Philox(key=[seed, stream])) for stream in (0, 1))
    values, floors, errors = [], [], []
    names = list(dict.fromkeys(patients))  # in order of appearance: the ids themselves differ from user to user
    if len(names) < 2 * groups or n < 2 * groups:
        raise ValueError(f"{len(names)} real patients and {n} films a side are too few for an interval; at least {2 * groups} are needed")
    for _ in range(splits):
        rank = dict(zip(names, real_rng.permutation(len(names)), strict=True))
        ranks = np.array([rank[name] for name in patients])
        sorted_rows = np.argsort(ranks, kind="stable")
        halves = _halve(sorted_rows, ranks, n)
        if halves is None or len(fake) < n:
            raise ValueError(f"{len(real)} real and {len(fake)} synthetic films do not give {n} films a side")
        a, b = (real[rows] for rows in halves)
        some = fake[fake_rng.permutation(len(fake))[:n]]
        floors.append(_distance(a, b))
        values.extend([_distance(a, some), _distance(b, some)])
        for half, rows in zip((a, b), halves, strict=True):
            group = np.unique(ranks[rows], return_inverse=True)[1] % groups
            errors.append(_jackknife_error(half, group, some, np.arange(n) % groups, groups))
    value = float(np.mean(values))
    error = Z_95 * float(np.mean(errors))
    return FrechetScore(value, (max(0.0, value - error), value + error), float(np.mean(floors)), n)


def _halve(sorted_rows: Array, ranks: Array, n: int) -> tuple[Array, Array] | None:
    """Return two disjoint sets of n rows with no patient in both, from rows sorted by patient rank; None when there are not enough."""
    first = sorted_rows[:n]
    if len(first) < n:
        return None
    rest = sorted_rows[n:]
    rest = rest[ranks[rest] > ranks[first[-1]]][:n]  # the patient at the cut stays on one side
    return (first, rest) if len(rest) == n else None


def _distance(a: Array, b: Array) -> float:
    return frechet_distance(*moments(a), *moments(b))


def _jackknife_error(a: Array, group_a: Array, b: Array, group_b: Array, groups: int) -> float:
    """Return the standard error of the distance between a and b from leaving out one group of each at a time."""
    left_out = np.array([_distance(a[group_a != g], b[group_b != g]) for g in range(groups)])
    return float(np.sqrt((groups - 1) / groups * ((left_out - left_out.mean()) ** 2).sum()))
