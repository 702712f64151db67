"""Fine structure that features at 64 px miss: a grid at the Nyquist frequencies, a blur, a sharpening, from the films'
power spectra.

Everything is kept per film, so that an interval can come from resampling films.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.signal.windows import hann

from thiscxr.measures.floor import against_floor
from thiscxr.measures.measured import Measured

Array = NDArray[np.float64]

# what alternates: the Nyquist points (u, v) = (½, 0), (0, ½) and (½, ½) cycles a pixel
GRID_POINTS = ("columns", "rows", "both")
NUM_BANDS = 8  # rings of equal width from 0 to the Nyquist frequency
COARSE, FINE = slice(0, 3), slice(4, 7)  # bands; not the last, into which a grid leaks
# half widths in bins: 3 × 3 at the point, the ring of 13 × 13 around it without its inner 7 × 7
_PEAK, _INNER, _OUTER = 1, 3, 6
_AT_ONCE = 2**24  # pixels transformed at a time


@dataclass(frozen=True)
class Spectra:
    """The parts of the power spectra of n films that are compared, one row for each film."""

    peaks: Array  # [n, 3], mean power at each of GRID_POINTS
    rings: Array  # [n, 3], mean power in the ring around it
    bands_db: Array  # [n, 8], 10 log10 of the mean power of each band


def film_spectra(films: NDArray) -> Spectra:
    """Return the spectra of films [n, res, res] of any scale, under a Hann window and without their mean.

    Raises ValueError for films that are not square or too small for the ring (32 px), and for a film of one grey, whose
    power is zero.
    """
    if films.ndim != 3 or films.shape[1] != films.shape[2] or films.shape[1] < 32 or films.shape[1] % 2:
        raise ValueError(
            f"films of shape {films.shape} have no such spectrum; expected [n, res, res] with an even res of 32 or more"
        )
    res = films.shape[1]
    along = hann(res, sym=False)
    window = np.outer(along, along)
    frequency = np.abs(scipy.fft.fftfreq(res))
    radius = np.hypot(frequency[:, None], frequency) * 2 * NUM_BANDS
    # band k: radii in (k, k + 1]; not the mean, nor the corners
    band = np.where(radius < NUM_BANDS, np.ceil(radius), 0).astype(int) - 1
    members = [np.flatnonzero(band == k) for k in range(NUM_BANDS)]
    points = ((0, res // 2), (res // 2, 0), (res // 2, res // 2))  # rows and columns of the transform
    around = np.arange(-_OUTER, _OUTER + 1)
    far = np.maximum(abs(around)[:, None], abs(around))
    parts = []
    step = max(1, _AT_ONCE // res**2)
    for start in range(0, len(films), step):
        some = films[start : start + step].astype(np.float64)
        some -= some.mean(axis=(1, 2), keepdims=True)
        power = np.abs(scipy.fft.fft2(some * window)) ** 2
        if not (power.reshape(len(some), -1).max(axis=1) > 0).all():
            raise ValueError("a film has one grey all over, which has no spectrum; leave it out")
        near = [power[:, (row + around[:, None]) % res, (column + around) % res] for row, column in points]
        peaks, rings = (
            np.stack([one[:, cells].mean(axis=1) for one in near], axis=1) for cells in (far <= _PEAK, far > _INNER)
        )
        flat = power.reshape(len(some), -1)
        parts.append(
            (peaks, rings, np.stack([10 * np.log10(flat[:, cells].mean(axis=1)) for cells in members], axis=1))
        )
    return Spectra(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def joined(parts: Iterable[Spectra]) -> Spectra:
    """Return the spectra of films that came in batches."""
    several = list(parts)
    return Spectra(*(np.concatenate([getattr(each, part.name) for each in several]) for part in fields(Spectra)))


def grid_db(spectra: Spectra) -> Array:
    """Return by how much the mean power at each of GRID_POINTS stands above the ring around it, [3] in dB; 0: no
    grid."""
    return 10 * np.log10(spectra.peaks.mean(axis=0) / spectra.rings.mean(axis=0))


def excess_db(fake: Spectra, real: Spectra) -> Array:
    """Return how much more power each band has in fake films than in real ones, mean over films, [8] in dB.

    A blur takes from the upper bands, a sharpening adds to them.
    """
    return fake.bands_db.mean(axis=0) - real.bands_db.mean(axis=0)


def sharpness_db(fake: Spectra, real: Spectra) -> float:
    """Return by how much fine detail stands above coarse detail, in dB, less the same of real films; contrast alone
    changes nothing."""
    excess = excess_db(fake, real)
    return float(excess[FINE].mean() - excess[COARSE].mean())


def spectrum_scores(real: Spectra, patients: NDArray, fake: Spectra, *, n: int, seed: int = 0) -> list[Measured]:
    """Return the grid at each of GRID_POINTS, the sharpness and each band, in dB above real films of `patients` [k], at
    n films per set.

    0 is as in real films; the floor is that of other real films. Raises ValueError as `against_floor`.
    """
    sides = [np.concatenate([each.peaks, each.rings, each.bands_db], axis=1) for each in (real, fake)]

    def differences(a: NDArray[np.floating], b: NDArray[np.floating]) -> Array:
        one, other = (Spectra(*np.split(side, (3, 6), axis=1)) for side in (a, b))
        return np.array([*(grid_db(other) - grid_db(one)), sharpness_db(other, one), *excess_db(other, one)])

    found = against_floor(differences, sides[0], patients, sides[1], n=n, seed=seed)
    named = [
        *(("grid", point) for point in GRID_POINTS),
        ("sharpness", ""),
        *(("band", str(k + 1)) for k in range(NUM_BANDS)),
    ]
    return [
        each.measured(measure, n, question=question, statistic="db")
        for (measure, question), each in zip(named, found, strict=True)
    ]
