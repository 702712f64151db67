"""PNG, JPEG, TIFF, BMP and WebP files to films.

Nothing is guessed: a file that is not surely one whole grey film is refused with a reason, which names only the kind of
the defect.
"""

import io
import warnings
import zlib
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from thiscxr.pixels.deep import deep_grey
from thiscxr.pixels.grey import (
    DECODE_ERRORS,
    MAX_COLOUR,
    Greys,
    LoadedFilm,
    Pixels,
    Refused,
    check_contrast,
    check_size,
    histogram,
    stretch_values,
    through_table,
)
from thiscxr.pixels.mark import said_of

_JPEG_END = b"\xff\xd9"  # within the coded picture every ff is followed by a small byte, so it is found at the end only
_ORIENTATION = 0x0112  # EXIF and TIFF
# How a film of each orientation is put upright: (mirrored left to right, then turned clockwise by so many degrees).
# Source: TIFF 6.0, section 8.
_UPRIGHT = {
    2: (True, 0),
    3: (False, 180),
    4: (True, 180),
    5: (True, 270),
    6: (False, 90),
    7: (True, 90),
    8: (False, 270),
}
_SOFTWARE = 305  # EXIF and TIFF
_PHOTOMETRIC = 262  # TIFF; 0 is WhiteIsZero
_COLOUR_SIDE = 64
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")


def load_image(data: bytes, stretch: bool, min_side: int) -> LoadedFilm:
    """Read an image file; see `thiscxr.pixels.load_film`."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise Refused("Pillow's LOAD_TRUNCATED_IMAGES is on, so broken films would pass; set it to False")
    kind = "image"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of size and of odd metadata; what matters is checked here
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                kind = image.format or kind
                film = _film(image, data, stretch, min_side)
                mirrored, turned = _UPRIGHT.get(_orientation(image), (False, 0))
                marked = _said(image)
                return (
                    replace(film, mirrored=mirrored, turned=turned, marked=marked)
                    if mirrored or turned or marked
                    else film
                )
    except Refused:
        raise
    except Image.DecompressionBombError as error:
        raise Refused("absurd size") from error
    except Image.UnidentifiedImageError as error:
        if data[:4] in (b"II*\0", b"MM\0*"):
            raise Refused("TIFF file of a kind that Pillow does not read") from error
        raise Refused(f"not a PNG, JPEG, TIFF, BMP, WebP or DICOM file{_looks_like(data)}") from error
    except DECODE_ERRORS as error:
        raise Refused("truncated file" if "truncated" in str(error) else f"broken {kind} file") from error


def _looks_like(data: bytes) -> str:
    """Return a hint for the two kinds of files that most often lie under the name of a film."""
    start = data[:512].lstrip()
    if start.lower().startswith((b"<!doctype", b"<html")):
        return " (it is a web page: a failed download?)"
    return " (it is text)" if all(byte >= 32 or byte in b"\t\r\n" for byte in data[:512]) else ""


def _film(opened: ImageFile.ImageFile, data: bytes, stretch: bool, min_side: int) -> LoadedFilm:
    image: Image.Image = opened
    width, height = image.size
    check_size(width, height)
    if getattr(image, "n_frames", 1) != 1:
        raise Refused("more than one picture in the file")
    check_whole(data, opened.format or "")
    if min_side:
        opened.draft(None, (2 * min_side, 2 * min_side))  # of these formats only JPEG supports it
    inverted = getattr(opened, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    if (deep := deep_grey(opened, data)) is not None:
        deep.getexif()[_ORIENTATION] = _orientation(opened)
        image, (width, height) = deep, deep.size
    image.load()
    orientation = _orientation(image)
    if orientation in range(2, 9):
        image = ImageOps.exif_transpose(image)
    if orientation in range(5, 9):
        width, height = height, width
    values = _one_channel(image)
    if values.dtype == np.uint8:
        check_contrast(np.arange(256) / 255, np.array(Image.fromarray(values).histogram()))
        return LoadedFilm(values, width, height, 8, inverted)  # Pillow has turned WhiteIsZero round
    pixels: Pixels
    if values.dtype != np.uint16:
        return LoadedFilm(stretch_values(values, inverted, min_side), width, height, 32, inverted, greys="percentiles")
    if stretch:
        pixels = through_table(values, Greys("percentiles", np.arange(65536.0)), inverted, min_side=min_side)
    else:
        check_contrast(np.arange(65536) / 65535, histogram(values))
        pixels = np.uint16(65535) - values if inverted else values
    return LoadedFilm(pixels, width, height, 16, inverted, greys="percentiles" if stretch else "as stored")


def check_whole(data: bytes, file_format: str) -> None:
    """Raise Refused when the end of the file or a PNG checksum is missing: decoders accept some files without."""
    if file_format == "PNG":
        view, position = memoryview(data), 8
        while position + 12 <= len(data):  # PNG 5.3: length, type, data, CRC over type and data
            end = position + 8 + int.from_bytes(data[position : position + 4], "big")
            if zlib.crc32(view[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
                raise Refused(
                    "truncated file" if end + 4 > len(data) else ("damaged PNG file (a checksum does not match)")
                )
            if data[position + 4 : position + 8] == b"IEND":
                return
            position = end + 4
        raise Refused("truncated file")
    if file_format == "JPEG" and _JPEG_END not in data[len(data) // 2 :]:  # a thumbnail in the head has its own
        raise Refused("truncated file")


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except DECODE_ERRORS:
        return 1  # broken metadata do not make the picture broken


def _said(image: Image.Image) -> str:
    """Return `LoadedFilm.marked` from the texts of the file, wherever a program keeps them: text chunks, XMP, EXIF,
    comments."""
    try:
        found = {**image.info, **(image.getexif() if "exif" in image.info else {}), **getattr(image, "tag_v2", {})}
    except DECODE_ERRORS:
        found = image.info  # broken metadata do not make the picture broken
    texts = {str(key): _text(value) for key, value in found.items() if isinstance(value, str | bytes)}
    return said_of(texts.values(), texts.get("Title", ""), texts.get("Software", "") or texts.get(str(_SOFTWARE), ""))


def _text(value: str | bytes) -> str:
    """Return a text of a file; profiles that ImageMagick keeps as digits (name, length, hexadecimal) are decoded."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    with suppress(ValueError):
        return bytes.fromhex("".join(text.split()[2:])).decode("utf-8", "replace") or text
    return text


def _one_channel(image: Image.Image) -> NDArray[Any]:
    """Return [h,w] of any dtype. Deep modes go through numpy: Pillow's own conversion of I;16 to L clips at 255."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        whole = values.dtype.kind in "ui" and values.min() >= 0 and values.max() <= 65535
        return values.astype(np.uint16, copy=False) if whole else values
    if image.mode in ("1", "L"):
        return np.asarray(image if image.mode == "L" else image.convert("L"))
    if image.mode in ("LA", "La"):
        return np.asarray(image.getchannel("L"))
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    image = image.convert("RGB")  # drops alpha without compositing
    small = np.asarray(image.reduce(max(1, min(image.size) // _COLOUR_SIDE)))
    if np.ptp(small, axis=2).mean() > MAX_COLOUR:
        raise Refused("picture in colour, not a film")
    return np.asarray(image.convert("L"))  # the weights of luma sum to one, so equal channels keep their values
