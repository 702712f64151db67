"""The marks of a synthetic film: texts in its file, and SYNTHETIC burned into a corner in our own font of 5 × 7
pixels."""

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

from thiscxr.marks import FILM_TITLE, NOTICE, SOFTWARE
from thiscxr.pixels.grey import Pixels

WORDS = ("SYNTHETIC", "SYN")  # the first that fits
# Our own notice, and the digital source types of IPTC (NewsCodes) for pictures that no camera made.
_SYNTHETIC = (
    NOTICE.lower(),
    "trainedalgorithmicmedia",
    "digitalsourcetype/algorithmicmedia",
    "digitalsourcetype/compositesynthetic",
)
_LIKE = 0.8  # correlation: of 11,000 real films none comes near it
_GLYPHS = {
    "S": ".###. #...# #.... .###. ....# #...# .###.",
    "Y": "#...# #...# .#.#. ..#.. ..#.. ..#.. ..#..",
    "N": "#...# ##..# #.#.# #.#.# #..## #...# #...#",
    "T": "##### ..#.. ..#.. ..#.. ..#.. ..#.. ..#..",
    "H": "#...# #...# #...# ##### #...# #...# #...#",
    "E": "##### #.... #.... ####. #.... #.... #####",
    "I": ".###. ..#.. ..#.. ..#.. ..#.. ..#.. .###.",
    "C": ".###. #...# #.... #.... #.... #...# .###.",
}


@cache
def word_mask(word: str) -> np.ndarray:
    """Return bool [9, 6 · letters + 1]: the word with a margin of one pixel."""
    letters = [np.array([[place == "#" for place in row] for row in _GLYPHS[letter].split()]) for letter in word]
    rows = np.concatenate([np.pad(letter, ((1, 1), (1, 0))) for letter in letters], axis=1)
    return np.pad(rows, ((0, 0), (0, 1)))


def marked(pixels: Pixels, white: int) -> Pixels:
    """Return a copy of the film [h, w] with the mark in its lower left corner, letters of value `white` on black.

    The letters grow with the film: one pixel a stroke below 512 px, two from there on, and so forth.
    """
    height, width = pixels.shape
    scale = max(1, min(height, width) // 256)
    mask = next(
        (mask for word in WORDS if (mask := word_mask(word).repeat(scale, 0).repeat(scale, 1)).shape[1] <= width), None
    )
    assert mask is not None, pixels.shape  # a film is at least 32 px wide
    out: Pixels = pixels.copy()
    out[height - mask.shape[0] :, : mask.shape[1]] = np.where(mask, white, 0)
    return out


def mark_rows(res: int) -> int:
    """Return how many of the last rows of a film [res, res] the mark takes."""
    return word_mask(WORDS[0]).shape[0] * max(1, res // 256)


def is_marked(pixels: Pixels) -> bool:
    """Return whether the film [h, w] has the mark in a corner, however it has been turned, inverted, reduced or
    re-encoded since."""
    scale = max(1, min(pixels.shape) // 256)
    views = [pixels, pixels.T[::-1], pixels[::-1, ::-1], pixels.T[:, ::-1]]
    full, beginning = WORDS  # the short word begins the long one: few films need a second look
    if min(pixels.shape) < word_mask(beginning).shape[1]:
        return False  # films are never marked so small
    views = [view for view, like in zip(views, _likeness(views, beginning, scale), strict=True) if like > _LIKE]
    return any(
        view.shape[1] < word_mask(full).shape[1] * scale or _likeness([view], full, scale)[0] > _LIKE for view in views
    )


@cache
def _letters(word: str) -> np.ndarray:
    """Return the mask of the word, flat, of mean 0 and length 1."""
    letters = (word_mask(word) - word_mask(word).mean()).ravel()
    return letters / np.linalg.norm(letters)


def _likeness(views: Sequence[Pixels], word: str, scale: int) -> np.ndarray:
    """Return the correlation, 0 to 1 and either way round, of the lower left corner of each view with the word."""
    rows, columns = word_mask(word).shape
    corners = np.stack([view[-rows * scale :, : columns * scale] for view in views])
    corners = corners.reshape(len(views), rows, scale, columns, scale).mean(axis=(2, 4)).reshape(len(views), -1)
    corners -= corners.mean(axis=1, keepdims=True)
    return np.abs(corners @ _letters(word)) / np.maximum(np.linalg.norm(corners, axis=1), 1e-6)


def said_of(texts: Iterable[str], title: str = "", software: str = "") -> str:
    """Return "synthetic" when a text of the file marks it as synthetic, "picture" for a picture by thiscxr that is no
    single film, else "".

    texts: all texts of the file. title, software: the text chunks of that name in our PNG files.
    """
    if software.startswith(SOFTWARE.split()[0] + " "):
        return "synthetic" if title.split(",")[0] == FILM_TITLE else "picture"
    return "synthetic" if any(word in text.lower() for text in texts for word in _SYNTHETIC) else ""
