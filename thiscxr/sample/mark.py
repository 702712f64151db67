"""A burned-in mark: the word SYNTHETIC in a corner of the film, in a font of 5 × 7 pixels of our own."""

from functools import cache

import numpy as np

from thiscxr.data.pixels import Pixels

WORDS = ("SYNTHETIC", "SYN")  # the first that fits
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
    mask = next((mask for word in WORDS if (mask := word_mask(word).repeat(scale, 0).repeat(scale, 1)).shape[1] <= width), None)
    assert mask is not None, pixels.shape  # a film is at least 32 px wide
    out: Pixels = pixels.copy()
    out[height - mask.shape[0] :, : mask.shape[1]] = np.where(mask, white, 0)
    return out
