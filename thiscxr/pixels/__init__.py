"""Films from and to files, and the two ranges of their pixels. No other room reads with Pillow or pydicom.

`pixels` uint8 or uint16 full scale, `images` float32 [-1, 1] with -1 black. Air is dark, bone bright. Nothing is
guessed: a file that is not surely one whole film of one channel is refused with a reason.
"""

import io
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from thiscxr.files import write_file
from thiscxr.pixels.dicom import DicomHeader, gunzip, is_dicom, load_dicom, read_dicom_header
from thiscxr.pixels.grey import DECODE_ERRORS, MAX_PIXELS, LoadedFilm, Pixels, Refused, content_box, first_bytes
from thiscxr.pixels.image import load_image
from thiscxr.pixels.mark import is_marked, mark_rows

__all__ = [
    "CROP_ASPECT",
    "DicomHeader",
    "LoadedFilm",
    "Pixels",
    "area_means",
    "begins_like",
    "content_box",
    "encode_png",
    "fit",
    "images_to_pixels",
    "load_film",
    "make_grid",
    "mark_rows",
    "num_pixels",
    "pixels_to_images",
    "read_dicom_header",
    "read_png_text",
    "save_png",
    "short_side",
    "to_bits",
    "to_square",
]

CROP_ASPECT = 1.35  # up to this ratio of sides a film loses its margins, beyond it is padded: 3:4 cassettes are cropped

_PICTURE_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*")
_MAX_FILE_BYTES = 3 * MAX_PIXELS  # the largest film in 16 bits, and half as much again for what else a file may hold
# Boxes of pixels are averaged first while the rest is reduced at least twofold: from 1,024 to 256 px 0.3 grey levels
# from plain Lanczos in the mean, 6 at most at a marker's edge, and twice as fast.
_REDUCING_GAP = 2.0


def load_film(source: Path | BinaryIO | bytes, stretch: bool = True, min_side: int = 0) -> LoadedFilm:
    """Read a PNG, JPEG, TIFF, BMP, WebP or DICOM file, gzipped or not, as one grey channel, upright; alpha is dropped,
    never composited.

    Where a DICOM file has a VOI LUT, or else a window, its grey is that of PS3.3 C.11.2, over the window's own output
    range. Other files of 8 bits keep their values. Deeper ones seldom fill their range and do not state which part
    they use: constant borders are cut off, and the 0.5 to 99.5 percentiles of the rest, without padding, are stretched
    to full scale. stretch=False keeps the 16-bit values of image files (for our own files). DICOM is turned by its
    Patient Orientation, image files by EXIF. min_side: the short side that the caller needs. JPEG and JPEG 2000 may
    then be decoded to a half, a quarter ... of their size while the short side stays at least twice that, and a border
    stays where the short side of the film within would be below it; 0: full size. The native size and bits are always
    those of the file. Raises ValueError when the file is not one whole readable film; equal defects have equal reasons.
    """
    try:
        data = first_bytes(source, _MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Refused(f"cannot be read ({error.strerror})") from error
    if data[:2] == b"\x1f\x8b":
        data = gunzip(data, _MAX_FILE_BYTES)
    if not data:
        raise Refused("empty file")
    if len(data) > _MAX_FILE_BYTES:
        raise Refused("absurd size")
    film = load_dicom(data, min_side) if is_dicom(data) else load_image(data, stretch, min_side)
    return film if film.marked or not is_marked(film.pixels) else replace(film, marked="synthetic")


def begins_like(start: bytes) -> str:
    """Return what a file is by its first 512 bytes, gzipped or not: "DICOM", "bare DICOM" (no preamble: likely),
    "picture", or ""."""
    if start[:2] == b"\x1f\x8b":
        try:
            start = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(start, len(start))
        except zlib.error:
            return ""
    if is_dicom(start):
        return "DICOM" if start[128:132] == b"DICM" else "bare DICOM"
    return "picture" if start.startswith(_PICTURE_STARTS) else ""


def to_square(pixels: Pixels, res: int, aspect: float | None = None) -> Pixels:
    """Return the film as [res,res]: constant borders cut off, then square by crop or pad, never stretched, never
    enlarged.

    Long side up to CROP_ASPECT times the short one: the middle square is kept; beyond: black is added on the short
    sides. A square 8-bit film of `res` px is returned unchanged, byte for byte. aspect: true width / height of a film
    that its release squashed; the longer true side keeps its pixels, the other is shrunk. Raises ValueError when the
    (restored) short side is below `res`.
    """
    height, width = pixels.shape
    scale_x, scale_y = _scales(pixels, aspect)
    short = min(width * scale_x, height * scale_y)
    if round(short) < res:
        squashed = " once its aspect is restored" if short < min(width, height) else ""
        raise ValueError(f"short side {short:.0f} px{squashed} is below the resolution {res}")
    if width == height == res and pixels.dtype == np.uint8 and scale_x == scale_y:
        return pixels
    left, top, right, bottom = content_box(pixels)
    if min((right - left) * scale_x, (bottom - top) * scale_y) < res:
        # the border is needed: without it the film would have to be enlarged
        left, top, right, bottom = 0, 0, width, height
    pixels = pixels[top:bottom, left:right]  # cut before resizing, or the filter would mix the border in
    height, width = pixels.shape
    true_width, true_height = width * scale_x, height * scale_y
    if max(true_width, true_height) <= CROP_ASPECT * min(true_width, true_height):
        side = min(true_width, true_height)
        trim_x, trim_y = (true_width - side) / scale_x / 2, (true_height - side) / scale_y / 2
        return _resize(pixels, res, res, (trim_x, trim_y, width - trim_x, height - trim_y))
    return _padded(pixels, res, true_width, true_height)


def _padded(pixels: Pixels, res: int, true_width: float, true_height: float) -> Pixels:
    """Return the whole film as [res, res], black beside it; true_width, true_height: of the film, in any unit."""
    scale = res / max(true_width, true_height)
    inner_width, inner_height = max(1, round(true_width * scale)), max(1, round(true_height * scale))
    square: Pixels = np.zeros((res, res), pixels.dtype)
    x, y = (res - inner_width) // 2, (res - inner_height) // 2
    square[y : y + inner_height, x : x + inner_width] = _resize(
        pixels, inner_width, inner_height, (0, 0, pixels.shape[1], pixels.shape[0])
    )
    return square


def _scales(pixels: Pixels, aspect: float | None) -> tuple[float, float]:
    """Return the size of a stored pixel in true pixels, across and down: at most 1."""
    squash = 1.0 if aspect is None else aspect * pixels.shape[0] / pixels.shape[1]
    return min(1.0, squash), min(1.0, 1 / squash)


def short_side(pixels: Pixels, aspect: float | None = None) -> int:
    """Return the short side of a film [h, w] in whole px, once its aspect is restored as `to_square` does: the largest
    `res` for it."""
    return round(min(side * scale for side, scale in zip(pixels.shape[::-1], _scales(pixels, aspect), strict=True)))


def _resize(pixels: Pixels, width: int, height: int, box: tuple[float, float, float, float]) -> Pixels:
    """Lanczos with the support widened by the reduction, so that fine detail is averaged away and does not alias."""
    deep = pixels.dtype == np.uint16
    image = Image.fromarray(pixels.astype(np.float32) if deep else np.ascontiguousarray(pixels))
    values = np.array(image.resize((width, height), Image.Resampling.LANCZOS, box, _REDUCING_GAP))
    return np.clip(np.rint(values), 0, 65535).astype(np.uint16) if deep else values


def num_pixels(head: bytes) -> int:
    """Return the number of pixels of a picture from the first bytes of its file; 0 where they do not hold it (DICOM, no
    picture)."""
    try:
        with Image.open(io.BytesIO(head)) as image:
            return image.width * image.height
    except DECODE_ERRORS:
        return 0


def area_means(pixels: Pixels, res: int) -> Pixels:
    """Return films [n, native, native] as [n, res, res], each pixel the rounded mean of a square of pixels; native is a
    multiple of res."""
    num, native = pixels.shape[:2]
    assert native % res == 0, (native, res)
    if native == res:
        return pixels
    blocks = pixels.reshape(num, res, native // res, res, native // res)
    return np.rint(blocks.mean(axis=(2, 4), dtype=np.float64)).astype(pixels.dtype)


def fit(pixels: Pixels, res: int) -> Pixels:
    """Return the whole film as [res, res], reduced or enlarged, never cropped or stretched; black beside it. For
    pictures of films."""
    height, width = pixels.shape
    return _padded(pixels, res, width, height)


def to_bits(pixels: Pixels, bits: int) -> Pixels:
    """Return full-scale pixels as uint8 (bits 8) or uint16 (bits 16)."""
    assert bits in (8, 16)
    if bits == 8 and pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 / 255 = 257
    return pixels.astype(np.uint16) * np.uint16(257) if bits == 16 and pixels.dtype == np.uint8 else pixels


def pixels_to_images(pixels: Pixels) -> NDArray[np.float32]:
    """Return float32 in [-1, 1], of the same shape."""
    assert pixels.dtype in (np.uint8, np.uint16), pixels.dtype
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max / 2) - np.float32(1)


def images_to_pixels(images: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return uint8 of the same shape; values outside [-1, 1] are clipped."""
    return np.clip(np.rint((np.asarray(images, np.float64) + 1) * 127.5), 0, 255).astype(np.uint8)


def make_grid(pixels: Pixels, columns: int) -> Pixels:
    """Return [H,W] from [n,h,w]: a contact sheet in reading order; missing films are black."""
    num, height, width = pixels.shape
    rows = -(-num // columns)
    grid = np.zeros((rows * columns, height, width), pixels.dtype)
    grid[:num] = pixels
    grid = grid.reshape(rows, columns, height, width).transpose(0, 2, 1, 3)  # [rows, h, columns, w]
    return grid.reshape(rows * height, columns * width)


def encode_png(pixels: Pixels, text: Mapping[str, str] | None = None, compressed: bool = True) -> bytes:
    """Return [h,w] uint8 or uint16 (grey) or [h,w,3] uint8 (colour) as a PNG with text chunks; the same input gives the
    same bytes.

    compressed: False stores the pixels without compression: files of films of one shape have one size, which reveals
    nothing about the films.
    """
    assert pixels.ndim == 2 or (pixels.shape[2:] == (3,) and pixels.dtype == np.uint8), (pixels.shape, pixels.dtype)
    assert pixels.dtype in (np.uint8, np.uint16), pixels.dtype
    info = PngInfo()
    for key, value in (text or {}).items():
        if key.startswith("XML:"):
            info.add_itxt(key, value)  # XMP is UTF-8 whatever it holds
        else:
            info.add_text(key, value)  # tEXt for Latin-1, iTXt beyond
    file = io.BytesIO()
    # Grain hardly ever repeats: searching for matches takes longer and saves nothing, so only runs are coded.
    how = {"compress_type": zlib.Z_RLE} if compressed else {"compress_level": 0}
    Image.fromarray(pixels).save(file, format="PNG", pnginfo=info, **how)
    return file.getvalue()


def save_png(path: Path, pixels: Pixels, text: Mapping[str, str] | None = None) -> None:
    """Write what `encode_png` returns, whole or not at all."""
    write_file(path, encode_png(pixels, text))


def read_png_text(path: Path) -> dict[str, str]:
    """Return the text chunks of a PNG file. Raises ValueError when it is not one."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            return {key: str(value) for key, value in getattr(image, "text", {}).items()}
    except DECODE_ERRORS as error:
        raise ValueError(f"{path} is not a readable PNG file") from error
