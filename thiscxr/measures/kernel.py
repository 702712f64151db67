"""The kernel distance between two sets of features: an unbiased estimate of a squared maximum mean discrepancy.

Source: Bińkowski et al. 2018, arXiv:1801.01401, section 4 (KID: the cubic polynomial kernel); Gretton et al. 2012, Eq.
3.
"""

import numpy as np
from numpy.typing import NDArray

from thiscxr.measures.floor import Array, against_floor, check_features
from thiscxr.measures.measured import Measured

_BLOCK = 256  # rows at a time: the part of the kernel matrix that is held stays in the cache


def kernel_distance(a: Array, b: Array) -> float:
    """Return the unbiased MMD² of features [n, d] and [m, d] under k(x, y) = (x·y / d + 1)³. It is below 0 by chance
    where sets are alike.

    Raises ValueError for fewer than 2 rows.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(
            f"{len(a)} and {len(b)} feature vectors are too few for a kernel distance; at least 2 are needed"
        )
    n, m = len(a), len(b)
    return (_sum(a, a, True) / (n * (n - 1))) + (_sum(b, b, True) / (m * (m - 1))) - 2 * _sum(a, b, False) / (n * m)


def _sum(a: Array, b: Array, without_diagonal: bool) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    scaled = a / a.shape[1]
    total = sum(_sum_of_kernel(scaled[i : i + _BLOCK] @ b.T) for i in range(0, len(a), _BLOCK))
    return total - _sum_of_kernel((scaled * a).sum(axis=1)) if without_diagonal else total


def _sum_of_kernel(products: NDArray[np.float64]) -> float:
    products += 1
    # to numpy, x ** 3 is a power of real numbers, and ten times as slow
    return float(np.vdot(products * products, products))


def kernel_scores(real: Array, patients: NDArray, fake: Array, name: str, *, n: int, seed: int = 0) -> list[Measured]:
    """Return KID of synthetic features [m, d] from real ones [k, d] of `patients` [k]. Raises ValueError as
    `against_floor`."""
    check_features(real, fake)
    (found,) = against_floor(lambda a, b: np.array([kernel_distance(a, b)]), real, patients, fake, n=n, seed=seed)
    return [found.measured("kid", n, extractor=name)]
