"""What a collection does to a film before its users see it: canvas, tone, bit depth, file format. The same input always
gives the same bytes.

Independent of the collections. DICOM files are made in `dicom`.
"""

import io

import numpy as np
from PIL import Image

from thiscxr.pixels import Pixels


def on_canvas(pixels: Pixels, size: tuple[int, int], grey: int = 0) -> Pixels:
    """Return the film in the middle of a canvas of (width, height): the collimated border of an oblong film."""
    width, height = size
    canvas: Pixels = np.full((height, width), grey, pixels.dtype)
    y, x = (height - pixels.shape[0]) // 2, (width - pixels.shape[1]) // 2
    canvas[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
    return canvas


def squashed(pixels: Pixels, res: int) -> Pixels:
    """Return uint8 [res, res] of an oblong uint8 film, width and height scaled independently."""
    return np.array(Image.fromarray(pixels).resize((res, res), Image.Resampling.LANCZOS))


def deepened(pixels: Pixels, bits: int, random: np.random.Generator) -> Pixels:
    """Return uint16 of `bits` bits with quantum noise below the grey step of the uint8 film; what no ray reached stays
    0."""
    step = 2 ** (bits - 8)
    deep: Pixels = pixels.astype(np.uint16) * np.uint16(step) + random.integers(0, step, pixels.shape, dtype=np.uint16)
    deep[pixels == 0] = 0
    return deep


def equalised(pixels: Pixels) -> Pixels:
    """Return the uint8 film with its histogram flattened, rounded as OpenCV's equalizeHist does; a constant one as it
    is."""
    counts = np.bincount(pixels.ravel(), minlength=256)
    darkest = int(np.flatnonzero(counts)[0])
    rest = pixels.size - counts[darkest]
    if rest == 0:
        return pixels
    above = np.cumsum(counts) - counts[darkest]
    table = np.clip(np.rint(above * (255 / rest)), 0, 255).astype(np.uint8)
    return table[pixels]


def png(pixels: Pixels, mode: str = "L") -> bytes:
    """Return a PNG file of uint8 (mode L, RGB or RGBA) or uint16 pixels [h, w]."""
    deep = pixels.dtype == np.uint16
    image = Image.fromarray(pixels) if deep else Image.fromarray(pixels).convert(mode)
    # Level 6 is what most writers use; on the noise of 16-bit films it takes as long as the rendering and saves 4 %.
    return _encoded(image, "PNG", compress_level=1 if deep else 6)


def jpeg(pixels: Pixels, quality: int, mode: str = "L") -> bytes:
    """Return a JPEG file of uint8 pixels [h, w], as one channel (mode L) or three (RGB)."""
    return _encoded(Image.fromarray(pixels).convert(mode), "JPEG", quality=quality)


def tiff(pixels: Pixels) -> bytes:
    """Return an uncompressed TIFF file of uint8 or uint16 pixels [h, w]."""
    return _encoded(Image.fromarray(pixels), "TIFF")


def jpeg2000(pixels: Pixels) -> bytes:
    """Return the lossless JPEG 2000 code stream of uint16 pixels [h, w], without a file around it, as DICOM wants
    it."""
    return _encoded(Image.fromarray(pixels), "JPEG2000", no_jp2=True, irreversible=False)


def _encoded(image: Image.Image, file_format: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()
