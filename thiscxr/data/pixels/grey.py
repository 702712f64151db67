"""From stored grey values to a film: one histogram, one look-up table, one pass over the pixels.

It must not copy a film as floats: look-up tables, window, stretch and inversion are all done to the table of values that occur.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAX_PIXELS = 89_000_000  # about 9,400 x 9,400; the largest plain films are 20 million pixels

_MIN_SIDE = 16
_MAX_ASPECT = 4
_STRETCH = (0.5, 99.5)
# Of 3,259 real films (nih-64, nih-256) the 5th and 95th percentiles are 78 to 200 of 255 apart; on a blank with a marker they coincide.
_BULK = (5.0, 95.0)
_BLANK_SPREAD = 8 / 255
_BLANK_STEPS = 8
_BLANK = "blank image (almost all of it is one grey)"
_PASS = 2**18  # pixels at a time: their temporary copies stay in the cache

# What a decoder raises on a damaged file depends on the codec and the place of the damage.
DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, NotImplementedError, RuntimeError,
    MemoryError, struct.error, zlib.error,
)  # fmt: skip


class Refused(ValueError):  # noqa: N818 - it is a verdict, not a fault
    """Why a file is not one readable film, in words that are equal for equal defects: refusals are counted by them."""


Pixels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class LoadedFilm:
    """A decoded film: pixels [h,w], uint8 for image files of up to 8 bits, else uint16; both full scale, air dark and bone bright."""

    pixels: Pixels
    native_width: int
    """As the film is seen, upright, before any reduction while decoding."""
    native_height: int
    native_bits: int
    inverted: bool
    """The file stored bone dark (MONOCHROME1, WhiteIsZero)."""
    pixel_aspect: float = 1.0
    """Width / height of one pixel."""
    greys: str = "as stored"
    """How the greys were made: "window", "lut" and "sigmoid" as the file says, "as stored", or "percentiles" where it says nothing."""

    @property
    def aspect(self) -> float | None:
        """True width / height of the film where its pixels are not square, else None: what `to_square` asks for."""
        return None if self.pixel_aspect == 1 else self.pixel_aspect * self.native_width / self.native_height


def check_size(width: int, height: int) -> None:
    """Raise Refused for a size that no film has, before anything of that size is made."""
    if min(width, height) < 1 or width * height > MAX_PIXELS:
        raise Refused("absurd size")
    if min(width, height) < _MIN_SIDE:
        raise Refused(f"a side of fewer than {_MIN_SIDE} pixels")
    if max(width, height) > _MAX_ASPECT * min(width, height):
        raise Refused(f"absurd shape (sides more than 1:{_MAX_ASPECT})")


def histogram(words: Pixels) -> NDArray[np.int64]:
    """Return how often each of the 256 or 65,536 values of `words` [h,w] occurs."""
    counts = np.zeros(np.iinfo(words.dtype).max + 1, np.int64)
    rows = max(1, _PASS // words.shape[1])
    for start in range(0, len(words), rows):
        counts += np.bincount(words[start : start + rows].ravel(), minlength=len(counts))
    return counts


def percentiles(values: NDArray[np.float64], counts: NDArray[np.int64], percents: Sequence[float]) -> NDArray[np.float64]:
    """Return what np.percentile gives for each of `values` repeated as often as it was counted."""
    order = np.argsort(values, kind="stable")
    ordered, upto = values[order], np.cumsum(counts[order])
    position = np.asarray(percents) / 100 * (upto[-1] - 1)
    below, above = (ordered[np.searchsorted(upto, index, side="right")] for index in (np.floor(position), np.ceil(position)))
    return below + (above - below) * (position % 1)


def check_contrast(levels: NDArray[np.floating], counts: NDArray[np.int64]) -> None:
    """Raise Refused for a film that is all or almost all of one grey; levels: 0 to 1, each counted."""
    occurring = levels[counts > 0]
    if occurring.min() == occurring.max():
        raise Refused("constant image")
    low, high = percentiles(np.asarray(levels, np.float64), counts, _BULK)
    if high - low < _BLANK_SPREAD:
        raise Refused(_BLANK)


def through_table(words: Pixels, values: NDArray[np.float64], by_percentiles: bool, inverted: bool) -> NDArray[np.uint16]:
    """Return the film [h,w] of stored `words`: values[word] stretched to full scale, from the 0.5 to 99.5 percentiles or the extremes.

    values: float64 [256 or 65536], what each word stands for. inverted: then min + max - x.
    Raises Refused for a constant or blank film and for values that are not finite.
    """
    counts = histogram(words)
    occurring = np.flatnonzero(counts)
    values, counts = values[occurring], counts[occurring]
    low, high = percentiles(values, counts, _BULK)
    if values.min() < values.max() and np.count_nonzero((values >= low) & (values <= high)) < _BLANK_STEPS:
        raise Refused(_BLANK)  # here, since a stretch makes anything of nothing
    low, high = percentiles(values, counts, _STRETCH) if by_percentiles else (values.min(), values.max())
    levels = _levels(values, low, high)
    if inverted:
        levels = 1 - levels
    check_contrast(levels, counts)
    table = np.zeros(np.iinfo(words.dtype).max + 1, np.uint16)
    table[occurring] = np.rint(levels * 65535)
    film = np.empty(words.shape, np.uint16)
    rows = max(1, _PASS // words.shape[1])
    for start in range(0, len(words), rows):
        np.take(table, words[start : start + rows], out=film[start : start + rows], mode="clip")  # other modes copy
    return film


def stretch_values(values: NDArray[np.floating] | NDArray[np.integer], inverted: bool) -> NDArray[np.uint16]:
    """Return the film of values that no table can hold (32 bits, floats), stretched from their 0.5 to 99.5 percentiles."""
    if not np.isfinite(values).all():
        raise Refused("pixels that are not finite (NaN or infinity)")
    low, high = np.percentile(values.astype(np.float64), _STRETCH)
    levels = _levels(values.astype(np.float64), low, high)
    film = np.rint((1 - levels if inverted else levels) * 65535).astype(np.uint16)
    check_contrast(np.arange(65536) / 65535, histogram(film))
    return film


def _levels(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    if not (np.isfinite(values).all() and np.isfinite(high - low)):
        raise Refused("pixels that are not finite (NaN or infinity)")
    if not high > low:
        raise Refused("constant image" if values.min() == values.max() else _BLANK)
    return np.clip((values - low) / (high - low), 0, 1)
