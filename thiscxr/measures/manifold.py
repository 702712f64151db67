"""Do synthetic films lie among the real ones, and real ones among the synthetic? Exact nearest neighbours, in bounded
memory.

Source: Kynkäänniemi et al. 2019, arXiv:1904.06991, Eqs. 1 and 2 (improved precision and recall); Naeem et al. 2020,
arXiv:2002.09797, Eqs. 3 and 4 (density and coverage).
"""

import numpy as np
from numpy.typing import NDArray

from thiscxr.measures.floor import Array, against_floor, check_features
from thiscxr.measures.measured import Measured
from thiscxr.measures.resampling import wilson

K = 5  # neighbours that make the radius of a film
NAMES = ("precision", "recall", "density", "coverage")
_BLOCK = 256  # rows at a time: their distances stay in the cache


def squared_distances(a: Array, b: Array) -> NDArray[np.float64]:
    """Return |x − y|² of rows [n, d] and [m, d] as [n, m]. In float64: differences of close films would drown in
    float32."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    distances = -2 * a @ b.T
    distances += (a * a).sum(axis=1)[:, None]  # in place: new arrays of this size take longer than the sums
    distances += (b * b).sum(axis=1)
    return np.maximum(distances, 0, out=distances)


def radii(features: Array, k: int) -> NDArray[np.float64]:
    """Return the squared distance of each row to its k-th nearest other row, [n]. Raises ValueError for fewer than k +
    1 rows."""
    if len(features) <= k:
        raise ValueError(f"{len(features)} films are too few for {k} neighbours; at least {k + 1} are needed")
    parts = []
    for start in range(0, len(features), _BLOCK):
        block = squared_distances(features[start : start + _BLOCK], features)
        # itself comes first, then its duplicates
        block[np.arange(len(block)), np.arange(start, start + len(block))] = -1.0
        block.partition(k, axis=1)
        parts.append(block[:, k].copy())
    return np.concatenate(parts)


def manifold(real: Array, fake: Array, k: int = K) -> NDArray[np.float64]:
    """Return precision, recall, density and coverage of fake [m, d] against real [n, d] features, as [4].

    Precision: share of synthetic films within the k-neighbour radius of some real film; recall: the reverse; density:
    mean number of real radii that a synthetic film lies in, over k; coverage: share of the real films with a synthetic
    film within their radius.
    """
    around_real, around_fake = radii(real, k), radii(fake, k)
    recalled, covered, inside = [], [], np.zeros(len(fake))
    for start in range(0, len(real), _BLOCK):
        block = squared_distances(real[start : start + _BLOCK], fake)
        within = block <= around_real[start : start + _BLOCK, None]
        inside += within.sum(axis=0)
        covered.append(within.any(axis=1))
        recalled.append((block <= around_fake).any(axis=1))
    return np.array(
        [(inside > 0).mean(), np.concatenate(recalled).mean(), inside.mean() / k, np.concatenate(covered).mean()]
    )


def manifold_scores(
    real: Array, patients: NDArray, fake: Array, name: str, *, n: int, k: int = K, seed: int = 0
) -> list[Measured]:
    """Return precision, recall, density and coverage of synthetic features [m, d] against real ones [k, d] of
    `patients` [k].

    The floor is the figure of other real patients. An interval of a share is never narrower than Wilson's for n films:
    where no film, or every film, lies within, leaving films out changes nothing. Raises ValueError as `against_floor`
    and for fewer than k + 1 films.
    """
    check_features(real, fake)
    found = against_floor(lambda a, b: manifold(a, b, k), real, patients, fake, n=n, splits=4, seed=seed)
    scores = []
    for what, each in zip(NAMES, found, strict=True):
        low, high = max(0.0, each.low), each.high
        if what != "density":  # which is no share
            least, most = map(float, wilson(each.value, n))
            low, high = min(low, max(0.0, least)), min(1.0, max(high, most))
        scores.append(Measured(what, each.value, (low, high), each.floor, n, n, extractor=name, protocol=f"k{k}"))
    return scores
