"""PNG files, written: a film takes a third of the time that Pillow needs. What is not a film of one channel may still come here.

Source: W3C, Portable Network Graphics (third edition), sections 5 (chunks), 7 (scanlines), 9.2 (filters), 11 (chunk types).
"""

import struct
import zlib
from collections.abc import Mapping

import numpy as np

from thiscxr.data.pixels.grey import Pixels

_UP = 2  # each row as its difference from the one above, in bytes
_GREY, _COLOUR = 0, 2


def encode_png(pixels: Pixels, text: Mapping[str, str] | None = None, compressed: bool = True) -> bytes:
    """Return [h,w] uint8 or uint16 (grey) or [h,w,3] uint8 (colour) as a PNG with text chunks; the same input gives the same bytes.

    compressed: False stores the pixels as they are, so that files of films of one shape have one size, which tells nothing of them.
    """
    assert pixels.ndim == 2 or (pixels.shape[2:] == (3,) and pixels.dtype == np.uint8), (pixels.shape, pixels.dtype)
    assert pixels.dtype in (np.uint8, np.uint16), pixels.dtype
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    lines = np.empty((height, rows.shape[1] + 1), np.uint8)
    lines[:, 0] = _UP
    lines[:1, 1:] = rows[:1]
    np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    # Grain hardly ever comes back elsewhere in a film: looking for it takes two thirds of the time and saves nothing. Drawings repeat.
    strategy = zlib.Z_RLE if pixels.ndim == 2 else zlib.Z_DEFAULT_STRATEGY
    deflate = zlib.compressobj(6 if compressed else 0, strategy=strategy)
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, _GREY if pixels.ndim == 2 else _COLOUR, 0, 0, 0)
    chunks = [
        _chunk(b"IHDR", header),
        *(_text(key, value) for key, value in (text or {}).items()),
        _chunk(b"IDAT", deflate.compress(lines.tobytes()) + deflate.flush()),
        _chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _text(key: str, value: str) -> bytes:
    """Return a tEXt chunk for Latin-1, iTXt beyond and for XMP, which is UTF-8 whatever it holds."""
    if not key.startswith("XML:"):
        try:
            return _chunk(b"tEXt", key.encode("latin-1") + b"\0" + value.encode("latin-1"))
        except UnicodeEncodeError:
            pass
    return _chunk(b"iTXt", key.encode("latin-1") + b"\0" + b"\0\0" + b"\0" + b"\0" + value.encode())  # not compressed, no language


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
