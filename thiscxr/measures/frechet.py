"""The Fréchet distance between two sets of feature vectors, in float64.

Source: Dowson and Landau 1982, "The Fréchet distance between multivariate normal distributions", Eq. 4; Heusel et al.
2017, arXiv:1706.08500, Eq. 6. Own code on purpose: the usual packages call an argument that SciPy 1.18 removed, and
fail on singular covariances.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thiscxr.measures.floor import Array, against_floor, check_features
from thiscxr.measures.measured import Measured

_SIZES = 8  # sizes of the subsets through which the line of FD∞ is fitted


def frechet_distance(mu1: Array, sigma1: Array, mu2: Array, sigma2: Array) -> float:
    """Return |mu1 − mu2|² + tr(sigma1 + sigma2 − 2 (sigma1 sigma2)^½) for means [d] and covariances [d, d].

    The trace of the root is the sum of the roots of the eigenvalues of L' sigma2 L, with sigma1 = L L', which is
    symmetric: always real, also where the covariances are singular. Raises ValueError for shapes that do not fit and
    for values that are not finite.
    """
    mu1, mu2, sigma1, sigma2 = (
        np.asarray(a, dtype=np.float64) for a in (np.atleast_1d(mu1), np.atleast_1d(mu2), sigma1, sigma2)
    )
    sigma1, sigma2 = np.atleast_2d(sigma1), np.atleast_2d(sigma2)
    d = mu1.shape[0]
    if mu1.shape != (d,) or mu2.shape != (d,) or sigma1.shape != (d, d) or sigma2.shape != (d, d):
        shapes = f"{mu1.shape}, {mu2.shape} and covariances {sigma1.shape}, {sigma2.shape}"
        raise ValueError(f"means {shapes} do not fit; expected [d] and [d, d]")
    if not all(np.isfinite(a).all() for a in (mu1, mu2, sigma1, sigma2)):
        raise ValueError("a mean or covariance is not finite; look for NaN in the features")
    try:
        root = np.linalg.cholesky(sigma1)
    except np.linalg.LinAlgError:  # singular: the symmetric root does as well, and takes ten times as long
        values, vectors = np.linalg.eigh(sigma1)
        root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    product = root.T @ sigma2 @ root
    trace_root = np.sqrt(np.clip(np.linalg.eigvalsh((product + product.T) / 2), 0, None)).sum()
    distance = ((mu1 - mu2) ** 2).sum() + np.trace(sigma1) + np.trace(sigma2) - 2 * trace_root
    return float(max(distance, 0.0))  # rounding can leave −1e-15 between equal sets


class Moments:
    """Mean and covariance of features that come in batches: float64, in memory that does not grow with their number.

    Batches are merged by the pairwise update of Chan, Golub and LeVeque 1983, Eq. 2.1, which loses nothing where the
    mean is large.
    """

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.mean = np.zeros(dim)
        self._scatter = np.zeros((dim, dim))  # sum of the outer products of deviations

    def add(self, features: Array) -> None:
        """Take in features [k, dim]."""
        batch = np.asarray(features, np.float64)
        if not len(batch):
            return
        mean = batch.mean(axis=0)
        deviations = batch - mean
        total = self.count + len(batch)
        step = mean - self.mean
        self._scatter += deviations.T @ deviations + np.outer(step, step) * (self.count * len(batch) / total)
        self.mean += step * (len(batch) / total)
        self.count = total

    @property
    def covariance(self) -> NDArray[np.float64]:
        """The unbiased covariance [dim, dim]. Raises ValueError for fewer than 2 rows."""
        if self.count < 2:
            raise ValueError(f"{self.count} feature vectors are too few for a covariance; at least 2 are needed")
        return self._scatter / (self.count - 1)


def moments(features: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean [d] and the unbiased covariance [d, d] of features [n, d]. Raises ValueError for fewer than 2
    rows."""
    sums = Moments(features.shape[1])
    for start in range(0, len(features), 8192):
        sums.add(features[start : start + 8192])
    return sums.mean, sums.covariance


def group_distance(real: Array, patients: NDArray, fake: Array, name: str, *, n: int, seed: int = 0) -> Measured:
    """Return the Fréchet distance alone, as `frechet_scores`: of groups too small for a line through several sizes."""
    check_features(real, fake)
    (found,) = against_floor(
        lambda a, b: np.array([frechet_distance(*moments(a), *moments(b))]), real, patients, fake, n=n, seed=seed
    )
    return found.measured("fd", n, 0.0, extractor=name, protocol="small" if n <= real.shape[1] else "")


def frechet_scores(real: Array, patients: NDArray, fake: Array, name: str, *, n: int, seed: int = 0) -> list[Measured]:
    """Return the Fréchet distance at n films per set, and FD∞, where the line of the distance over 1/n meets 0 (Chong
    and Forsyth 2020, arXiv:1911.07023, section 3), of synthetic features [m, d] from real ones [k, d] of `patients` [k]
    by the extractor `name`.

    FD∞ has no small-sample bias, so its floor is about 0; it varies more. Raises ValueError as `against_floor`.
    """
    check_features(real, fake)
    full, line = against_floor(both_distances, real, patients, fake, n=n, seed=seed)
    facts: dict[str, Any] = {"extractor": name, "protocol": "small" if n <= real.shape[1] else ""}
    # FD∞ of equal sets is as often below 0 as above
    return [full.measured("fd", n, 0.0, **facts), line.measured("fdinf", n, **facts)]


def both_distances(a: Array, b: Array) -> NDArray[np.float64]:
    """Return FD at full size and FD∞ from the first rows of both, which are in random order."""
    sizes = np.unique(np.linspace(min(len(a), len(b)) / 3, min(len(a), len(b)), _SIZES).astype(int))
    both, distances = (Moments(a.shape[1]), Moments(b.shape[1])), []
    for last, size in pairwise([0, *sizes.tolist()]):
        for sums, features in zip(both, (a, b), strict=True):
            sums.add(features[last:size])
        distances.append(frechet_distance(*(each for sums in both for each in (sums.mean, sums.covariance))))
    return np.array([distances[-1], np.polyfit(1 / sizes, distances, 1)[1]])
