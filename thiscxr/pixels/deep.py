"""PNG and TIFF files of two to four channels of 16 bits: Pillow has modes of 8 bits for them and drops the low bytes.

So each file is decoded twice: once for the high bytes, and once with the other byte order for the low bytes.
"""

import io
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from thiscxr.pixels.grey import MAX_COLOUR, Pixels, Refused

# TIFF 6.0
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIPS, _SAMPLES, _STRIP_BYTES, _PLANAR = 256, 257, 258, 259, 273, 277, 279, 284
_LITTLE = sys.byteorder == "little"
# the order in which the low byte lies where Pillow takes the high one
_LOW = {"L": "B", "B": "L", "N": "B" if _LITTLE else "L"}
_COLOUR_SIDE = 64

# What Pillow lacks: a negative in big-endian order; and grey with one more channel, whose four bytes it decodes as four
# channels.
TiffImagePlugin.OPEN_INFO.setdefault((b"MM", 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))
for _prefix in (b"II", b"MM"):
    for _photometric in (0, 1):
        for _extra in ((), (0,), (1,), (2,)):
            TiffImagePlugin.OPEN_INFO.setdefault((_prefix, _photometric, (1,), 1, (16, 16), _extra), ("RGBA", "RGBA"))


def deep_grey(image: ImageFile.ImageFile, data: bytes) -> Image.Image | None:
    """Return the grey of a file of several channels of 16 bits in mode I;16, not inverted; None for any other file.

    image: `data`, opened but not loaded yet. Raises Refused for a picture in colour and for compressed planes.
    """
    tags: Any = getattr(image, "tag_v2", {})
    if max(tags.get(_BITS, (0,))) == 16 and tags.get(_SAMPLES, 1) > 1 and tags.get(_PLANAR) == 2:
        return _grey(_planes(tags, data), image.mode)
    if not image.tile:
        return None
    rawmode = _rawmode(image)
    if rawmode == "LA;16B" or tags.get(_BITS) == (16, 16):
        _set_rawmode(image, "RGBA")
        swapped = image.format == "TIFF" and (_LITTLE if image.tile[0][0] == "libtiff" else tags.prefix == b"II")
        first, second = np.asarray(image)[..., :2].transpose(2, 0, 1)
        high, low = (second, first) if swapped else (first, second)
        return Image.fromarray(high.astype(np.uint16) << 8 | low)
    if image.mode not in ("RGB", "RGBA", "CMYK") or rawmode[-4:-1] != ";16":
        return None
    rawmode = rawmode.replace("a", "A")  # or Pillow would undo a multiplication by alpha byte by byte
    with Image.open(io.BytesIO(data), formats=(str(image.format),)) as other:
        _set_rawmode(image, rawmode)
        _set_rawmode(other, rawmode[:-1] + _LOW[rawmode[-1]])
        return _grey(np.asarray(image).astype(np.uint16) << 8 | np.asarray(other), image.mode)


def _rawmode(image: ImageFile.ImageFile) -> str:
    args: Any = image.tile[0][3]
    return args if isinstance(args, str) else args[0]


def _set_rawmode(image: ImageFile.ImageFile, rawmode: str) -> None:
    """Make Pillow unpack the decoded bytes in another mode."""
    known: list[Any] = list(image.tile)  # named tuples from Pillow 11 on, before it plain ones
    args = [rawmode if isinstance(tile[3], str) else (rawmode, *tile[3][1:]) for tile in known]
    known = [getattr(tile, "_make", tuple)((*tile[:3], new)) for tile, new in zip(known, args, strict=True)]
    image.tile = known


def _planes(tags: Any, data: bytes) -> NDArray[np.uint16]:
    """Return [h,w,c] of a TIFF file with one plane after the other, which Pillow reads as if they had 8 bits."""
    if tags.get(_COMPRESSION, 1) != 1 or _STRIPS not in tags or len(set(tags[_BITS])) > 1:
        raise Refused("TIFF file of 16 bits in separate planes that are compressed or tiled, which is not read")
    words = b"".join(
        data[start : start + count] for start, count in zip(tags[_STRIPS], tags[_STRIP_BYTES], strict=True)
    )
    shape = (tags[_SAMPLES], tags[_HEIGHT], tags[_WIDTH])
    if len(words) != 2 * np.prod(shape):
        raise Refused("truncated file")
    return (
        np.frombuffer(words, "<u2" if tags.prefix == b"II" else ">u2")
        .astype(np.uint16)
        .reshape(shape)
        .transpose(1, 2, 0)
    )


def _grey(channels: NDArray[np.uint16], mode: str) -> Image.Image:
    """Return the luma of [h,w,c] as Pillow has it; mode: CMYK, or else red, green and blue come first, or grey
    alone."""
    if channels.shape[2] == 2:
        return Image.fromarray(np.ascontiguousarray(channels[..., 0]))
    colours = channels[..., :3].astype(np.uint32)
    if mode == "CMYK":
        colours = (65535 - colours) * (65535 - channels[..., 3:].astype(np.uint32)) // 65535
    small = colours[:: max(1, len(colours) // _COLOUR_SIDE), :: max(1, colours.shape[1] // _COLOUR_SIDE)]
    low, high = np.percentile(small, (0.5, 99.5))  # the film may have 10 or 12 of the 16 bits
    if np.ptp(small, axis=2).mean() > MAX_COLOUR / 255 * (high - low):
        raise Refused("picture in colour, not a film")
    # ITU-R 601-2
    luma: Pixels = ((colours @ np.array([19595, 38470, 7471], np.uint32) + 32768) >> 16).astype(np.uint16)
    return Image.fromarray(luma)
