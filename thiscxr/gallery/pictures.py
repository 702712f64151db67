"""The pictures that a site adds to its films: a contact sheet, the picture of a shared link, and small films for the
grid.

Each carries the marks of the films, burned in where it holds several, and shows nothing but films and marks.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thiscxr.marks import NOTICE, SOFTWARE, origin_text
from thiscxr.pixels import Pixels, encode_png, fit, load_film, make_grid, to_bits
from thiscxr.pixels.mark import WORDS, word_mask
from thiscxr.terms import attribution

SHEET_COLUMNS = 12
SHEET_SIDE_PX = 128  # of a film on the contact sheet, at most
# the proportion of Open Graph pictures; larger would be heavy, and 64 px films have no more to show
SHARED_PX = (600, 315)
THUMB_ABOVE_PX = 256  # films wider than this get a small one for the grid
THUMB_PX = 192


def read_grey(data: bytes, path: Path) -> Pixels:
    """Return a PNG film as uint8 [h, w]. Raises ValueError, naming it, when it is blank or in colour."""
    try:
        return to_bits(load_film(data, stretch=False).pixels, 8)
    except ValueError as error:
        raise ValueError(f"{path} is no film: {error}; sample it again, or other seeds") from None


def sheet_text(network: Mapping[str, Any], restriction: str) -> dict[str, str]:
    """Return the PNG text chunks of a picture of several films."""
    sources = network.get("sources", {})
    marks = origin_text(
        [str(source.get("title") or key) for key, source in sources.items()], restriction, attribution(sources)
    )
    return {"Disclaimer": NOTICE, "Software": SOFTWARE, "Network": str(network["sha256"]), **marks}


def contact_sheet(films: Sequence[Pixels], text: Mapping[str, str]) -> bytes:
    """Return a PNG of the films in reading order, twelve a row, over a strip that says SYNTHETIC."""
    side = min(SHEET_SIDE_PX, max(max(film.shape) for film in films))
    grid = _grid(films, side, SHEET_COLUMNS)
    sheet = np.zeros((grid.shape[0] + 9, grid.shape[1]), np.uint8)
    sheet[: grid.shape[0]] = grid
    return encode_png(_stamped(sheet, 1), text)


def shared_picture(films: Sequence[Pixels], text: Mapping[str, str]) -> bytes:
    """Return the PNG that a shared link shows: eight films, or two or one large, stamped SYNTHETIC."""
    width, height = SHARED_PX
    few = len(films) < 8
    side = width // (2 if few else 4)
    grid = _grid(films[: 2 if few else 8], side, 2 if few else 4)
    top, left = (height - grid.shape[0]) // 2, (width - grid.shape[1]) // 2
    picture = np.zeros((height, width), np.uint8)
    picture[top : top + grid.shape[0], left : left + grid.shape[1]] = grid
    return encode_png(_stamped(picture, 2), text)


def thumbnail(film: Pixels, text: Mapping[str, str]) -> bytes:
    """Return a small PNG of one film."""
    return encode_png(fit(film, THUMB_PX), text)


def _grid(films: Sequence[Pixels], side: int, columns: int) -> Pixels:
    whole = np.zeros((len(films), side, side), np.uint8)
    for place, film in enumerate(films):
        whole[place] = fit(film, side)
    return make_grid(whole, min(columns, len(films)))


def _stamped(picture: Pixels, scale: int) -> Pixels:
    """Return the picture with the mark in its lower left corner, `scale` pixels a stroke."""
    masks = (word_mask(word).repeat(scale, 0).repeat(scale, 1) for word in WORDS)
    mask = next(mask for mask in masks if mask.shape[1] <= picture.shape[1])
    picture[picture.shape[0] - mask.shape[0] :, : mask.shape[1]] = np.where(mask, 255, 0)
    return picture
