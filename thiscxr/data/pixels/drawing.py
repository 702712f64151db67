"""Words on pictures of films, in the typeface that comes with Pillow, and films made larger by whole pixels."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from thiscxr.data.pixels.grey import Pixels


def draw_text(picture: Pixels, x: int, y: int, text: str, size: int = 12) -> None:
    """Draw white words into a picture, uint8 [h, w] or [h, w, 3], in place; (x, y): their upper left corner, in pixels."""
    lines = Image.new("L", (picture.shape[1], picture.shape[0]))
    ImageDraw.Draw(lines).text((x, y), text, fill=255, font=ImageFont.load_default(size))
    ink = np.asarray(lines)
    np.maximum(picture, ink if picture.ndim == 2 else ink[..., None], out=picture)


def text_width(text: str, size: int = 12) -> int:
    """Return how many pixels wide `draw_text` draws that."""
    return int(np.ceil(ImageFont.load_default(size).getlength(text)))


def enlarge(pixels: Pixels, least: int) -> Pixels:
    """Return films [..., h, w] with each pixel repeated so often that h is `least` px or more: larger, and not smoother than they are."""
    times = max(1, -(-least // pixels.shape[-2]))
    return pixels.repeat(times, axis=-2).repeat(times, axis=-1)
