"""Words on pictures of films, in the typeface that comes with Pillow; contact sheets with captions."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from thiscxr.pixels.grey import Pixels

LEAST_SIDE = 96  # of a film on a contact sheet, px
_GAP, _LINE, _SIZE = 4, 20, 12  # px: between films, height of a line of words, of its letters


def draw_text(picture: Pixels, x: int, y: int, text: str) -> None:
    """Draw white words into a picture, uint8 [h, w] or [h, w, 3], in place; (x, y): their upper left corner, in
    pixels."""
    lines = Image.new("L", (picture.shape[1], picture.shape[0]))
    ImageDraw.Draw(lines).text((x, y), text, fill=255, font=ImageFont.load_default(_SIZE))
    ink = np.asarray(lines)
    np.maximum(picture, ink if picture.ndim == 2 else ink[..., None], out=picture)


def enlarge(pixels: Pixels, least: int) -> Pixels:
    """Return films [..., h, w] with each pixel repeated until h is `least` px or more: enlarged without smoothing."""
    times = max(1, -(-least // pixels.shape[-2]))
    return pixels.repeat(times, axis=-2).repeat(times, axis=-1)


def draw_sheet(
    films: Sequence[Sequence[Pixels | None]],
    captions: Sequence[Sequence[str]],
    head: Sequence[str],
    foot: Sequence[str],
) -> Pixels:
    """Return a contact sheet: rows of films, uint8 [h, w] or [h, w, 3] of one size, a caption above each, lines of text
    above and below.

    None: an empty place. The picture is in colour if any film is.
    """
    known = [film for row in films for film in row if film is not None]
    height, width = known[0].shape[:2]
    colour = any(film.ndim == 3 for film in known)
    font = ImageFont.load_default(_SIZE)
    longest = max((int(np.ceil(font.getlength(line))) for line in (*head, *foot)), default=0)
    columns = max(len(row) for row in films)
    top, step = len(head) * _LINE, height + _LINE + _GAP
    across = _GAP + max(columns * (width + _GAP), longest + _GAP)
    picture: Pixels = np.zeros((top + len(films) * step + len(foot) * _LINE, across, *(3,) * colour), np.uint8)
    for number, line in enumerate(head):
        draw_text(picture, _GAP, number * _LINE + 3, line)
    for number, line in enumerate(foot):
        draw_text(picture, _GAP, top + len(films) * step + number * _LINE + 1, line)
    for row, (some, words) in enumerate(zip(films, captions, strict=True)):
        for column, (film, caption) in enumerate(zip(some, words, strict=True)):
            y, x = top + row * step, _GAP + column * (width + _GAP)
            draw_text(picture[y : y + _LINE, x : x + width], 0, 3, caption)
            if film is not None:
                picture[y + _LINE : y + _LINE + height, x : x + width] = (
                    film[..., None] if colour and film.ndim == 2 else film
                )
    return picture
