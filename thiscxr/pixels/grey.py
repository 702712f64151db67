"""From stored grey values to a film: one histogram, one look-up table, one pass over the pixels.

A film is never copied as floats: look-up tables, window, stretch and inversion are all applied to the table of values.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MAX_PIXELS = 89_000_000  # about 9,400 x 9,400; the largest plain films are 20 million pixels
# Mean distance of the largest from the smallest channel, of 255: blue-base film and JPEG's chroma noise stay below,
# photographs do not.
MAX_COLOUR = 24

_MIN_SIDE = 16
_MAX_ASPECT = 4
_STRETCH = (0.5, 99.5)
# In 3,259 real films (nih-64, nih-256) the 95th percentile is 78 to 200 of 255 above the 5th; in a blank with a marker
# they coincide.
_BULK = (5.0, 95.0)
_BLANK_SPREAD = 8 / 255
_BLANK_STEPS = 8
_BORDERS = 4  # within one another, such as a black border round a white frame
_BLANK = "blank image (almost all of it is one grey)"
_PASS = 2**18  # pixels at a time: their temporary copies stay in the cache

# The error that a decoder raises on a damaged file depends on the codec and the place of the damage.
DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError,
    NotImplementedError, RuntimeError, MemoryError, struct.error, zlib.error,
)  # fmt: skip


class Refused(ValueError):  # noqa: N818 - it is a decision, not a fault
    """Why a file is not one readable film. Equal defects have equal messages: refusals are counted by message."""


Pixels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class LoadedFilm:
    """A decoded film: pixels [h,w], uint8 for files of at most 8 bits, else uint16; both full scale, air dark and bone
    bright."""

    pixels: Pixels
    native_width: int
    """Of the upright film, before any reduction while decoding."""
    native_height: int
    native_bits: int
    inverted: bool
    """The file stored bone dark (MONOCHROME1, Presentation LUT Shape INVERSE, WhiteIsZero)."""
    pixel_aspect: float = 1.0
    """Width / height of one pixel."""
    greys: str = "as stored"
    """How the greys were made: by the file's "window", "lut" or "sigmoid"; without these "as stored" or by
    "percentiles"."""
    mirrored: bool = False
    """Left and right were swapped to put it upright, by its tags,"""
    turned: int = 0
    """and then it was turned clockwise by 0, 90, 180 or 270 degrees."""
    marked: str = ""
    """"synthetic": its file marks it so, "picture": by thiscxr, but no single film (a grid, a projection), or ""."""

    @property
    def aspect(self) -> float | None:
        """True width / height of `pixels` where its pixels are not square, else None: the `aspect` of `to_square`."""
        return None if self.pixel_aspect == 1 else self.pixel_aspect * self.pixels.shape[1] / self.pixels.shape[0]


def first_bytes(source: Path | BinaryIO | bytes, most: int) -> bytes:
    """Return the first bytes of a file or of what is in memory, `most` of them if there are so many."""
    if isinstance(source, bytes):
        return source[:most]
    if isinstance(source, (str, Path)):
        with open(source, "rb") as file:
            return file.read(most)
    return source.read(most)


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


def percentiles(
    values: NDArray[np.float64], counts: NDArray[np.int64], percents: Sequence[float]
) -> NDArray[np.float64]:
    """Return np.percentile of `values`, each repeated `counts` times."""
    order = np.argsort(values, kind="stable")
    ordered, upto = values[order], np.cumsum(counts[order])
    position = np.asarray(percents) / 100 * (upto[-1] - 1)
    below, above = (
        ordered[np.searchsorted(upto, index, side="right")] for index in (np.floor(position), np.ceil(position))
    )
    return below + (above - below) * (position % 1)


def check_contrast(levels: NDArray[np.floating], counts: NDArray[np.int64]) -> None:
    """Raise Refused for a film that is all or almost all of one grey; levels: 0 to 1; counts: pixels of each."""
    occurring = levels[counts > 0]
    if occurring.min() == occurring.max():
        raise Refused("constant image")
    low, high = percentiles(np.asarray(levels, np.float64), counts, _BULK)
    if high - low < _BLANK_SPREAD:
        raise Refused(_BLANK)


@dataclass(frozen=True, slots=True)
class Greys:
    """The grey of each of the 256 or 65,536 words of a film."""

    how: str
    """As in `LoadedFilm.greys`."""
    levels: NDArray[np.float64]
    """[n], in [0, 1]; for "percentiles" values of any range: the film's own 0.5 and 99.5 percentiles become 0 and
    1."""


def content_box(pixels: NDArray[Any]) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) without the rows and columns at the edges that hold one value only: a border,
    or a frame in one."""
    left, top, bottom, right = 0, 0, *pixels.shape
    for _ in range(_BORDERS):
        inner = pixels[top:bottom, left:right]
        if all(edge.min() != edge.max() for edge in (inner[0], inner[-1], inner[:, 0], inner[:, -1])):
            break  # most films end here at once: they have no border
        rows = np.flatnonzero(inner.min(axis=1) != inner.max(axis=1))
        columns = np.flatnonzero(inner.min(axis=0) != inner.max(axis=0))
        if not (len(rows) and len(columns)):
            return 0, 0, pixels.shape[1], pixels.shape[0]
        right, bottom = left + int(columns[-1]) + 1, top + int(rows[-1]) + 1
        left, top = left + int(columns[0]), top + int(rows[0])
    return left, top, right, bottom


def _cut(values: NDArray[Any], min_side: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the film within its border, for the percentiles, and the pixels to keep: the same, unless too small for
    `min_side`."""
    left, top, right, bottom = content_box(values)
    inside = values[top:bottom, left:right]
    short, long = sorted(inside.shape)
    return inside, inside if short >= max(min_side, _MIN_SIDE) and long <= _MAX_ASPECT * short else values


def through_table(
    words: Pixels, greys: Greys, inverted: bool = False, padding: NDArray[np.bool_] | None = None, min_side: int = 0
) -> Pixels:
    """Return the film [h,w] of stored `words`, uint8 where that loses nothing, else uint16. For "percentiles" its
    constant border is cut off.

    inverted: then 1 - level. padding: bool [n], the words that are padding: black, and left out of the percentiles.
    min_side: a border is kept where the short side of the film within is below this. Raises Refused for a constant
    or blank film.
    """
    inside, cut = _cut(words, min_side) if greys.how == "percentiles" else (words, words)
    if padding is None:
        words = cut
    counts = histogram(inside)
    if padding is not None:
        counts[padding] = 0
    occurring = np.flatnonzero(counts)
    values, counts = greys.levels[occurring], counts[occurring]
    if len(occurring) < 2:
        raise Refused("constant image")
    if greys.how != "as stored":
        if values.min() == values.max():
            raise Refused("constant image: its window or look-up table shows nothing of it")
        low, high = percentiles(values, counts, _BULK)
        if np.count_nonzero((values >= low) & (values <= high)) < _BLANK_STEPS:
            raise Refused(_BLANK)  # here, since a stretch or a narrow window makes contrast out of noise
    low, high = percentiles(values, counts, _STRETCH) if greys.how == "percentiles" else (0.0, 1.0)
    levels = _levels(greys.levels, low, high)
    if inverted:
        levels = 1 - levels
    check_contrast(levels[occurring], counts)
    table = np.rint(levels * 65535).astype(np.uint16)
    if padding is not None:
        table[padding] = 0
    if greys.how != "percentiles" and not (table[occurring] % 257).any():  # 65535 / 255
        table = (table // 257).astype(np.uint8)
    film = np.empty(words.shape, table.dtype)
    rows = max(1, _PASS // words.shape[1])
    for start in range(0, len(words), rows):
        np.take(table, words[start : start + rows], out=film[start : start + rows], mode="clip")  # other modes copy
    return film


def stretch_values(
    values: NDArray[np.floating] | NDArray[np.integer], inverted: bool, min_side: int
) -> NDArray[np.uint16]:
    """Return the film of values that do not fit a table (32 bits, floats), stretched from the 0.5 to 99.5 percentiles
    within its border."""
    if not np.isfinite(values).all():
        raise Refused("pixels that are not finite (NaN or infinity)")
    inside, values = _cut(values, min_side)
    levels = _levels(values.astype(np.float64), *np.percentile(inside.astype(np.float64), _STRETCH))
    film = np.rint((1 - levels if inverted else levels) * 65535).astype(np.uint16)
    check_contrast(np.arange(65536) / 65535, histogram(film))
    return film


def _levels(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    if not (np.isfinite(values).all() and np.isfinite(high - low)):
        raise Refused("pixels that are not finite (NaN or infinity)")
    if not high > low:
        raise Refused("constant image" if values.min() == values.max() else _BLANK)
    return np.clip((values - low) / (high - low), 0, 1)
