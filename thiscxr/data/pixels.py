"""Films from and to files, and the three ranges of their pixels. The only room that touches Pillow and pydicom.

`pixels` uint8 or uint16 full scale, `images` float32 [-1, 1] with -1 black, `xrv` float32 [-1024, 1024]. Air is dark, bone bright.
It must not guess: what is not surely a whole film of one channel is refused with a reason. Reading rules: datasets reference, section 9.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_modality_lut, apply_voi

from thiscxr.files import atomic_path

MAX_PIXELS = 89_000_000  # about 9,400 x 9,400; the largest plain films are 20 million pixels
CROP_ASPECT = 1.35  # up to this ratio of sides a film loses its margins, beyond it is padded: 3:4 cassettes are cropped

_MIN_SIDE = 16
_PERCENTILES = (0.5, 99.5)
_JPEG_END = b"\xff\xd9"  # within the coded picture every ff is followed by 00, so it is found at the end only
# What Pillow raises on a damaged file depends on the codec and the place of the damage.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error, zlib.error)

Pixels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class LoadedFilm:
    """A decoded film: pixels [h,w], uint8 for files of up to 8 bits, else uint16; both full scale, air dark and bone bright."""

    pixels: Pixels
    native_width: int
    native_height: int
    native_bits: int
    inverted: bool  # the file stored bone dark (MONOCHROME1)


def load_film(path: Path | BinaryIO, stretch: bool = True) -> LoadedFilm:
    """Read a PNG, JPEG, TIFF or DICOM file as one channel; alpha is dropped, never composited.

    Films of more than 8 bits are stretched from their 0.5 to 99.5 percentiles to full scale, since files of 10 and 12 bits in 16 are
    common and do not say so; stretch=False keeps 16-bit values as they are (for our own files). DICOM goes through the modality LUT
    and the VOI LUT or window (PS3.3 C.11.1, C.11.2) instead where it has them.
    Raises ValueError with the reason when the file is not one whole readable film.
    """
    try:
        data = Path(path).read_bytes() if isinstance(path, (str, Path)) else path.read()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from error
    if not data:
        raise ValueError("empty file")
    film = _load_dicom(data) if data[128:132] == b"DICM" else _load_image(data, stretch)
    if film.pixels.min() == film.pixels.max():
        raise ValueError("constant image")
    return film


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"absurd size {width}x{height}")
    if min(width, height) < _MIN_SIDE:
        raise ValueError(f"only {width}x{height} pixels")


def _load_image(data: bytes, stretch: bool) -> LoadedFilm:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ValueError("Pillow's LOAD_TRUNCATED_IMAGES is on, so broken films would pass; set it to False")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of size and of odd metadata; what matters is checked here
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "TIFF")) as image:
                _check_size(*image.size)
                if getattr(image, "n_frames", 1) != 1:
                    raise ValueError("more than one picture in the file")
                _check_whole(data, image.format or "")
                image.load()
                values = _one_channel(image)
    except Image.DecompressionBombError as error:
        raise ValueError("absurd size") from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"not a PNG, JPEG, TIFF or DICOM file{_looks_like(data)}") from error
    except _DECODE_ERRORS as error:
        if "truncated" in str(error):
            raise ValueError("truncated file") from error  # without Pillow's byte counts: reasons are counted
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(reason if type(error) is ValueError else f"broken file ({reason})") from error
    height, width = values.shape
    bits = 8 if values.dtype == np.uint8 else 16 if values.dtype == np.uint16 else 32
    keep = values.dtype == np.uint8 or (values.dtype == np.uint16 and not stretch)
    pixels: Pixels = values if keep else _percentile_stretch(values.astype(np.float64))
    return LoadedFilm(pixels, width, height, bits, inverted=False)


def _looks_like(data: bytes) -> str:
    """Say what a file that is no film is, for the two things people have under a film's name."""
    start = data[:512].lstrip()
    if start.lower().startswith((b"<!doctype", b"<html")):
        return " (it is a web page: a failed download?)"
    return " (it is text)" if all(byte >= 32 or byte in b"\t\r\n" for byte in data[:512]) else ""


def _check_whole(data: bytes, file_format: str) -> None:
    """Raise ValueError when the end of the file or a PNG checksum is missing: Pillow accepts some files without."""
    if file_format == "PNG":
        position = 8
        while position + 12 <= len(data):  # PNG 5.3: length, type, data, CRC over type and data
            length = int.from_bytes(data[position : position + 4], "big")
            body = data[position + 4 : position + 8 + length]
            if zlib.crc32(body) != int.from_bytes(data[position + 8 + length : position + 12 + length], "big"):
                raise ValueError("damaged PNG file (a checksum does not match)")
            if body[:4] == b"IEND":
                return
            position += 12 + length
        raise ValueError("truncated file")
    if file_format == "JPEG" and _JPEG_END not in data[len(data) // 2 :]:  # a thumbnail in the head has its own
        raise ValueError("truncated file")


def _one_channel(image: Image.Image) -> NDArray[Any]:
    """Return [h,w] of any dtype. Deep modes go through numpy: Pillow's own conversion of I;16 to L clips at 255."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.array(image)
        return values.astype(np.uint16) if values.dtype.kind in "ui" and values.min() >= 0 and values.max() <= 65535 else values
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))
    if image.mode in ("LA", "La"):
        return np.array(image.getchannel("L"))
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    # RGBA -> RGB drops alpha; the luma weights of L sum to one, so equal channels come out as they were.
    return np.array(image.convert("RGB").convert("L"))


def _full_scale(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint16]:
    if not high > low:
        raise ValueError("constant image")
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 65535).astype(np.uint16)


def _percentile_stretch(values: NDArray[np.float64]) -> NDArray[np.uint16]:
    if not np.isfinite(values).all():
        raise ValueError("pixels that are not finite (NaN or infinity)")
    low, high = np.percentile(values, _PERCENTILES)
    if high <= low:  # almost all one value, as a thin phantom or a marker on black: what little there is, is the picture
        low, high = values.min(), values.max()
    return _full_scale(values, float(low), float(high))


def _load_dicom(data: bytes) -> LoadedFilm:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of odd values; what matters is checked here
            dataset = pydicom.dcmread(io.BytesIO(data))
            if "PixelData" not in dataset:
                raise ValueError("DICOM file without pixels, or cut off before them")
            if int(dataset.get("SamplesPerPixel", 1)) != 1 or not str(dataset.PhotometricInterpretation).startswith("MONOCHROME"):
                raise ValueError(f"DICOM file in colour ({dataset.get('PhotometricInterpretation', '?')}), not a plain film")
            if int(dataset.get("NumberOfFrames") or 1) != 1:
                raise ValueError("DICOM file of more than one frame")
            _check_size(int(dataset.Columns), int(dataset.Rows))
            values = apply_modality_lut(dataset.pixel_array, dataset).astype(np.float64)
            if not np.isfinite(values).all():
                raise ValueError("pixels that are not finite (NaN or infinity)")
            pixels = _voi(values, dataset)
    except (InvalidDicomError, AttributeError, NotImplementedError, RuntimeError, *_DECODE_ERRORS) as error:
        reason = " ".join(str(error).split())
        raise ValueError(reason if type(error) is ValueError else f"broken DICOM file ({reason})") from error
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    if inverted:
        pixels = np.uint16(65535) - pixels  # min + max - x: after the stretch min is 0 and max is 65535
    return LoadedFilm(pixels, int(dataset.Columns), int(dataset.Rows), int(dataset.BitsStored), inverted)


def read_dicom_view(path: Path) -> str:
    """Return PA, AP, lateral or unknown as the header's View Position (0018,5101) says; unknown also for what is no DICOM file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["ViewPosition"])
        position = str(dataset.get("ViewPosition", "")).strip().upper()
    except (InvalidDicomError, AttributeError, NotImplementedError, RuntimeError, *_DECODE_ERRORS):
        return "unknown"  # the film itself is refused, with its reason, when it is decoded
    return {"PA": "PA", "AP": "AP", "LL": "lateral", "RL": "lateral", "LATERAL": "lateral"}.get(position, "unknown")


def _first(value: object) -> float:
    """Return a window's first value: several centres and widths are alternatives (PS3.3 C.11.2.1.2)."""
    return float(value[0] if isinstance(value, (list, pydicom.multival.MultiValue)) else value)  # type: ignore[arg-type]


def _voi(values: NDArray[np.float64], dataset: pydicom.Dataset) -> NDArray[np.uint16]:
    """Return the displayed values, stretched from their own minimum to their own maximum: BitsStored is often wrong."""
    if dataset.get("VOILUTSequence"):
        values = apply_voi(values.astype(np.int64), dataset).astype(np.float64)
    elif dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        values = _window(values, _first(dataset.WindowCenter), _first(dataset.WindowWidth), str(dataset.get("VOILUTFunction", "LINEAR")))
    else:
        return _percentile_stretch(values)
    return _full_scale(values, values.min(), values.max())


def _window(values: NDArray[np.float64], center: float, width: float, function: str) -> NDArray[np.float64]:
    """Return the windowed values in [0, 1]. Source: DICOM PS3.3 C.11.2.1.2.1 (LINEAR) and C.11.2.1.3 (the others)."""
    if not width > 0:
        raise ValueError(f"window width {width:g} in the DICOM file")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - center) / width))
    if function == "LINEAR":
        if width == 1:
            return (values > center - 0.5).astype(np.float64)
        center, width = center - 0.5, width - 1
    return np.clip((values - center) / width + 0.5, 0, 1)


def content_box(pixels: Pixels) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) without the rows and columns at the edges that hold one value only."""
    rows = np.flatnonzero(pixels.min(axis=1) != pixels.max(axis=1))
    columns = np.flatnonzero(pixels.min(axis=0) != pixels.max(axis=0))
    if not (len(rows) and len(columns)):
        return 0, 0, pixels.shape[1], pixels.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def to_square(pixels: Pixels, res: int, aspect: float | None = None) -> Pixels:
    """Return the film as [res,res]: constant borders cut off, then square by crop or pad, never stretched, never enlarged.

    Sides up to CROP_ASPECT apart: the middle square is kept; further apart: black is added on the short sides. A square 8-bit film
    that has `res` already comes back as it is, byte for byte.
    aspect: true width / height of a film that its release squashed; the longer true side keeps its pixels, the other is shrunk.
    Raises ValueError when the (restored) short side is below `res`.
    """
    height, width = pixels.shape
    scale_x = scale_y = 1.0  # true pixels for one stored pixel
    if aspect is not None:
        squash = aspect * height / width
        scale_x, scale_y = min(1.0, squash), min(1.0, 1 / squash)
    short = min(width * scale_x, height * scale_y)
    if round(short) < res:
        squashed = " once its aspect is restored" if short < min(width, height) else ""
        raise ValueError(f"short side {short:.0f} px{squashed} is below the resolution {res}")
    if width == height == res and pixels.dtype == np.uint8 and scale_x == scale_y:
        return pixels
    left, top, right, bottom = content_box(pixels)
    if min((right - left) * scale_x, (bottom - top) * scale_y) < res:
        left, top, right, bottom = 0, 0, width, height  # the border is needed: without it the film would have to be enlarged
    pixels = pixels[top:bottom, left:right]  # cut before resizing, or the filter would mix the border in
    height, width = pixels.shape
    true_width, true_height = width * scale_x, height * scale_y
    if max(true_width, true_height) <= CROP_ASPECT * min(true_width, true_height):
        side = min(true_width, true_height)
        trim_x, trim_y = (true_width - side) / scale_x / 2, (true_height - side) / scale_y / 2
        return _resize(pixels, res, res, (trim_x, trim_y, width - trim_x, height - trim_y))
    scale = res / max(true_width, true_height)
    inner_width, inner_height = max(1, round(true_width * scale)), max(1, round(true_height * scale))
    square: Pixels = np.zeros((res, res), pixels.dtype)
    x, y = (res - inner_width) // 2, (res - inner_height) // 2
    square[y : y + inner_height, x : x + inner_width] = _resize(pixels, inner_width, inner_height, (0, 0, width, height))
    return square


def _resize(pixels: Pixels, width: int, height: int, box: tuple[float, float, float, float]) -> Pixels:
    """Lanczos with the support widened by the reduction, so that fine detail is averaged away and does not alias."""
    if pixels.dtype == np.uint8:
        return np.array(Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), Image.Resampling.LANCZOS, box))
    deep = Image.fromarray(pixels.astype(np.float32)).resize((width, height), Image.Resampling.LANCZOS, box)
    return np.clip(np.rint(np.array(deep)), 0, 65535).astype(np.uint16)


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


def images_to_pixels(images: NDArray[np.floating], bits: int = 8) -> Pixels:
    """Return uint8 (bits 8) or uint16 (bits 16), of the same shape; values outside [-1, 1] are clipped."""
    assert bits in (8, 16)
    scaled = np.rint((np.asarray(images, np.float64) + 1) * ((2**bits - 1) / 2))
    return np.clip(scaled, 0, 2**bits - 1).astype(np.uint8 if bits == 8 else np.uint16)


def images_to_xrv(images: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return float32 in [-1024, 1024], the range of torchxrayvision's networks."""
    return np.asarray(images, np.float32) * np.float32(1024)


def make_grid(pixels: Pixels, columns: int) -> Pixels:
    """Return [H,W] from [n,h,w]: a contact sheet in reading order; missing films are black."""
    num, height, width = pixels.shape
    rows = -(-num // columns)
    sheet = np.zeros((rows * columns, height, width), pixels.dtype)
    sheet[:num] = pixels
    sheet = sheet.reshape(rows, columns, height, width).transpose(0, 2, 1, 3)  # [rows, h, columns, w]
    return sheet.reshape(rows * height, columns * width)


def save_png(path: Path, pixels: Pixels, text: Mapping[str, str] | None = None) -> None:
    """Write [h,w] uint8 or uint16 as a grey PNG with text chunks, whole or not at all; the same input gives the same bytes."""
    assert pixels.ndim == 2, pixels.shape
    assert pixels.dtype in (np.uint8, np.uint16), pixels.dtype
    info = PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)  # tEXt for Latin-1, iTXt beyond
    with atomic_path(Path(path)) as part:
        Image.fromarray(pixels).save(part, format="PNG", pnginfo=info)


def read_png_text(path: Path) -> dict[str, str]:
    """Return the text chunks of a PNG file. Raises ValueError when it is not one."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            return {key: str(value) for key, value in getattr(image, "text", {}).items()}
    except _DECODE_ERRORS as error:
        raise ValueError(f"{path} is not a readable PNG file") from error
