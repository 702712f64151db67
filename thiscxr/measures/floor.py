"""How any measure of two sets of films gets its interval and its floor: one protocol for all of them.

Half of the real patients stand against the other half (floor) and against the synthetic films (value), at the same
number of films, so that value and floor carry the same small-sample bias. What an interval covers is the expectation of
the measure at that number of films.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thiscxr.measures.resampling import GROUPS, JACKKNIFE_95, generator, halves, jackknife_error, number_patients

Array = NDArray[np.floating]
Rows = NDArray[np.int64]
Measure = Callable[[Array, Array], NDArray[np.float64]]  # real [n, …], others [n, …] -> one or more numbers [k]


@dataclass(frozen=True)
class Floored:
    """Numbers [k], their 95 % intervals, and the same numbers between real patients and other real patients."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    floor: NDArray[np.float64]


def against_floor(
    measure: Measure, real: Array, patients: NDArray, fake: Array, *, n: int, splits: int = 10, seed: int = 0
) -> Floored:
    """Return what `measure` says of `fake` [m, …] against `real` [k, …] at `n` films a side, in the mean over `splits`
    halvings.

    patients: one a real film, of any kind. The interval is a delete-a-group jackknife over patients and synthetic films
    (Efron and Tibshirani 1993, chapter 11), unbiased where a percentile bootstrap of a Fréchet distance is not; a group
    is a tenth of either side, and half the interval is as many errors as Student's t of nine degrees of freedom says:
    with the normal's 1.96 that of a kernel distance held the truth in nine of ten repetitions only. Raises ValueError
    when there are not n films on each side, or too few patients for an interval.
    """
    count = len(np.unique(patients))
    if count < 2 * GROUPS or n < 2 * GROUPS:
        raise ValueError(
            f"{count} real patients and {n} films a side are too few for an interval; at least {2 * GROUPS} are needed"
        )
    if len(fake) < n:
        raise ValueError(f"{len(real)} real and {len(fake)} synthetic films do not give {n} films a side")
    # not the stream of the halves, so that the floor of a pool is the same whatever it is compared with
    rng = generator(seed, 1)
    values, floors, errors = [], [], []
    for rows in halves(patients, n, splits, seed, stream=0):
        a, b = (real[side] for side in rows)
        some = fake[rng.permutation(len(fake))[:n]]
        floors.append(measure(a, b))
        values.extend([measure(a, some), measure(b, some)])
        for half, side in zip((a, b), rows, strict=True):
            whose = number_patients(np.asarray(patients)[side])
            errors.append(jackknife_error(measure, (half, whose), (some, np.arange(n))))
    value, error = np.mean(values, axis=0), JACKKNIFE_95 * np.mean(errors, axis=0)
    return Floored(value, value - error, value + error, np.mean(floors, axis=0))


def films_a_side(patients: NDArray) -> int:
    """Return how many real films there are for each side of the floor: half of them, less what keeps a patient on one
    side."""
    most = int(np.unique(patients, return_counts=True)[1].max()) if len(patients) else 0
    return (len(patients) - most) // 2


def check_features(*sets: Array) -> None:
    """Raise ValueError when features [n, d] are not finite, or the same for every film."""
    for features in sets:
        if not np.isfinite(features).all():
            raise ValueError("some features are not finite (NaN or infinity); look for damaged films or weights")
        if len(features) > 1 and not np.ptp(features, axis=0).any():
            raise ValueError(
                f"all {len(features)} films have the same features; a set of one film over and over cannot be scored"
            )
