"""The grey of a film and its expected grey, in tests: as shares of the full scale, and in steps of 16 bits."""

import numpy as np

from tests.films import DEEP
from thiscxr import pixels as px

WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}  # all of twelve bits
FULL = DEEP / 4095


def levels(data: bytes, **options) -> np.ndarray:
    """Return the film in [0, 1]."""
    return px.to_bits(px.load_film(data, **options).pixels, 16) / 65535


def off(data: bytes, expected: np.ndarray) -> float:
    """Return the largest difference in steps of 16 bits; expected in [0, 1]."""
    found = levels(data)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() * 65535)


def stretched(values: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """Return values between the 0.5 and 99.5 percentiles of those that count, in [0, 1]."""
    low, high = np.percentile(values if counted is None else values[counted], (0.5, 99.5))
    return np.clip((values - low) / (high - low), 0, 1)


def load(data: bytes, **options) -> px.LoadedFilm:
    return px.load_film(data, **options)


def difference(film: px.LoadedFilm, expected: np.ndarray) -> float:
    """Return the largest difference in steps of 16 bits; expected in such steps."""
    assert film.pixels.shape == expected.shape
    return float(np.abs(px.to_bits(film.pixels, 16) - expected).max())


def spread(values: np.ndarray) -> np.ndarray:
    """The grey of a deep film without a window, in whole steps of 16 bits."""
    return np.rint(stretched(values) * 65535)


def default_grey(values: np.ndarray, bits: int) -> np.ndarray:
    """The grey of a film without display settings: unchanged up to 8 bits, else stretched; in steps of 16 bits."""
    return spread(values) if bits > 8 else values * (65535 / (2**bits - 1))


def collimated(fill: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a film within a rhomb, `fill` round it, and where the film is."""
    y, x = np.mgrid[: values.shape[0], : values.shape[1]] / values.shape[0]
    inside = (abs(y - 0.5) + abs(x - 0.5)) < 0.45
    return np.where(inside, values, fill), inside
