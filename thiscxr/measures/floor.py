"""The interval and the floor of any measure of two sets of films: one protocol for all of them.

Half of the real patients are compared with the other half (floor) and with the synthetic films (value), at the same
number of films, so that value and floor have the same small-sample bias. The interval covers the expectation of the
measure at that number of films.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thiscxr.measures.measured import Measured
from thiscxr.measures.resampling import GROUPS, JACKKNIFE_95, generator, halves, jackknife_error, number_patients

Array = NDArray[np.floating]
Rows = NDArray[np.int64]
Measure = Callable[[Array, Array], NDArray[np.float64]]  # real [n, …], others [n, …] -> one or more numbers [k]


@dataclass(frozen=True)
class Floored:
    """A number, its 95 % interval, and the same number between real patients and other real patients."""

    value: float
    low: float
    high: float
    floor: float

    def measured(self, measure: str, n: int, least: float = -np.inf, **facts: Any) -> Measured:
        """Return it as a score of n films per set; least: where the interval begins at the lowest; facts: further
        fields."""
        return Measured(measure, self.value, (max(self.low, least), self.high), self.floor, n, n, **facts)


def against_floor(
    measure: Measure, real: Array, patients: NDArray, fake: Array, *, n: int, splits: int = 10, seed: int = 0
) -> list[Floored]:
    """Return each number of `measure` of `fake` [m, …] against `real` [k, …] at `n` films per set, as the mean over
    `splits` halvings.

    patients: one for each real film, of any type. The interval is a delete-a-group jackknife over patients and
    synthetic films (Efron and Tibshirani 1993, chapter 11), unbiased where a percentile bootstrap of a Fréchet distance
    is not; a group is a tenth of either set, and half the interval is the error times Student's t with nine degrees of
    freedom: with the normal's 1.96 the interval of a kernel distance held the truth in nine of ten repetitions only.
    Raises ValueError when there are not n films in each set, or too few patients for an interval.
    """
    check_counts(patients, n)
    if len(fake) < n:
        raise ValueError(f"{len(real)} real and {len(fake)} synthetic films do not give {n} films per set")
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
    numbers = np.stack([value, value - error, value + error, np.mean(floors, axis=0)], axis=1)
    return [Floored(*row) for row in numbers.tolist()]


def check_counts(patients: NDArray, n: int) -> None:
    """Raise ValueError when films of these patients [k], n per set, are too few for an interval."""
    count = len(np.unique(patients))
    if count < 2 * GROUPS or n < 2 * GROUPS:
        raise ValueError(
            f"{count} real patients and {n} films per set are too few for an interval; at least {2 * GROUPS} are needed"
        )


def films_a_side(patients: NDArray) -> int:
    """Return how many real films there are for each half of the floor: half of them, less those that keep a patient in
    one half."""
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
