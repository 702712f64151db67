"""The pixel data of a DICOM file, in any transfer syntax, to stored words.

The stream's own size and precision are checked against the header before it is decoded. pydicom's own decoders are not
used: one of them hangs on a damaged JPEG 2000 box, and crashes of gdcm end the process.
"""

import importlib.util
import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from thiscxr.pixels.grey import Pixels, Refused

_GDCM = Path(__file__).with_name("gdcm_frame.py")
_GDCM_SECONDS = 15
# a smaller picture would have other percentiles than the film: small bright spots are averaged away
_STATISTICS_SIDE = 500
_JPEG = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless)
_JPEG2000 = (JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
CODED = (RLELossless, *_JPEG, *_JPEG2000)
_END = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike, and never inside the coded picture
_BROKEN = "broken DICOM file (its coded picture)"
_OTHER_SIZE = "broken DICOM file (its coded picture is not the one of its header)"


@dataclass(frozen=True, slots=True)
class Frame:
    """The description of the pixels in the header (PS3.3 C.7.6.3.1)."""

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high_bit: int
    photometric: str
    signed: bool  # PixelRepresentation 1
    planar: bool  # PlanarConfiguration 1


@dataclass(frozen=True, slots=True)
class Words:
    """Stored words, [h,w] or [h,w,3]: the low `bits` bits are the value. `halvings`: how often JPEG 2000 was halved."""

    values: Pixels
    bits: int
    halvings: int = 0


def native_words(data: bytes, frame: Frame, big_endian: bool, swapped: bool) -> Words:
    """Return the words of uncompressed pixel data. swapped: 8-bit samples in big-endian 16-bit words (VR OW)."""
    halved = frame.photometric == "YBR_FULL_422"
    expected = frame.rows * frame.columns * (2 if halved else frame.samples) * (frame.allocated // 8)
    if len(data) < expected:
        raise Refused("truncated file")
    if len(data) >= 2 * expected:
        raise Refused("DICOM file of more than one frame")
    dtype = np.dtype(np.uint8 if frame.allocated == 8 else ">u2" if big_endian else "<u2")
    if swapped:
        data = np.frombuffer(data[: len(data) // 2 * 2], np.uint16).byteswap().tobytes()
    flat = np.frombuffer(data, dtype, expected // dtype.itemsize).astype(dtype.newbyteorder("="), copy=False)
    if halved:
        if frame.columns % 2:
            raise Refused(_BROKEN)
        pairs = flat.reshape(frame.rows, frame.columns // 2, 4)  # Y1 Y2 Cb Cr
        chroma = np.repeat(pairs[..., 2:], 2, axis=1)
        return Words(np.dstack([pairs[..., :2].reshape(frame.rows, frame.columns), chroma]), frame.stored)
    return _in_use(_shaped(flat, frame, frame.planar), frame, frame.allocated)


def coded_words(data: bytes, syntax: UID, frame: Frame, min_side: int) -> Words:
    """Return the words of one frame in one of the CODED syntaxes; JPEG and JPEG 2000 may be smaller; min_side: see
    `load_film`."""
    if syntax == RLELossless:
        return _in_use(_rle(data, frame), frame, frame.allocated)
    if _END not in data[len(data) // 2 :]:
        raise Refused("truncated file")
    if syntax in _JPEG2000:
        return _jpeg2000(data, frame, min_side)
    precision, *size = _jpeg_size(data)
    if size != [frame.rows, frame.columns, frame.samples]:
        raise Refused(_OTHER_SIZE)
    if not 2 <= precision <= 16:
        raise Refused(_BROKEN)
    if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit) and precision == 8:
        return Words(_pillow_jpeg(data, frame, min_side), 8)
    return _in_use(_gdcm(data, syntax, frame, precision), frame, precision)


def _shaped(flat: NDArray[Any], frame: Frame, planar: bool) -> NDArray[Any]:
    if frame.samples == 1:
        return flat.reshape(frame.rows, frame.columns)
    if planar:
        return flat.reshape(frame.samples, frame.rows, frame.columns).transpose(1, 2, 0)
    return flat.reshape(frame.rows, frame.columns, frame.samples)


def _in_use(words: NDArray[Any], frame: Frame, coded: int) -> Words:
    """Decide which of the `coded` bits of each word are the value: high bits may hold rubbish, or BitsStored may be too
    small.

    A film without some of its bits is rougher than with them. So is one with rubbish in its high bits.
    """
    if coded <= frame.stored:
        return Words(words, coded)
    shift = min(frame.high_bit, coded - 1) + 1 - frame.stored
    if shift > 0 and int(words.max()) >> frame.stored:
        return Words(words >> np.asarray(shift, words.dtype), frame.stored)  # in the high bits (retired, PS3.5 8.1.1)
    sample = words[:: max(1, len(words) // 256)]

    @cache
    def roughness(bits: int) -> int:
        return int(np.abs(np.diff(_low(sample, bits, frame.signed), axis=1)).sum())

    bits = coded if int(words.max()) >> frame.stored else frame.stored
    while bits > frame.stored and roughness(bits) >= max(map(roughness, range(frame.stored, bits))):
        bits -= 1
    if bits > frame.stored:  # only the bits in use
        values = _low(words, bits, frame.signed)
        bits = max(frame.stored, max(int(values.max()), ~int(values.min())).bit_length() + frame.signed)
    return Words(words, bits)


def _low(words: NDArray[Any], bits: int, signed: bool) -> NDArray[np.int64]:
    values = words.astype(np.int64) & (2**bits - 1)
    return values - ((values >> (bits - 1)) << bits) if signed else values


def _rle(data: bytes, frame: Frame) -> NDArray[Any]:
    """Decode PS3.5 Annex G: a segment for each byte of each sample, the high bytes first."""
    num_segments, num_pixels = frame.samples * frame.allocated // 8, frame.rows * frame.columns
    head = np.frombuffer(data, "<u4", 16) if len(data) >= 64 else np.zeros(16, "<u4")
    if head[0] != num_segments:
        raise Refused(_BROKEN)
    bounds = [int(offset) for offset in head[1 : num_segments + 1]] + [len(data)]
    # As one row, since some writers let a run cross from row to row.
    planes = [
        np.asarray(Image.frombytes("L", (num_pixels, 1), data[start:end], "packbits", "L"))[0]
        for start, end in pairwise(bounds)
    ]
    if frame.allocated == 16:
        planes = [high.astype(np.uint16) << 8 | low for high, low in zip(planes[::2], planes[1::2], strict=True)]
    return _shaped(np.concatenate(planes), frame, planar=True)


def _jpeg_size(data: bytes) -> tuple[int, int, int, int]:
    """Return precision, rows, columns and components of a JPEG or JPEG-LS stream (ITU T.81 B.2.2)."""
    position = 2
    while data[position : position + 1] == b"\xff" and position + 10 < len(data):
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            head = data[position + 4 : position + 10]
            return head[0], int.from_bytes(head[1:3], "big"), int.from_bytes(head[3:5], "big"), head[5]
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise Refused(_BROKEN)


@contextmanager
def _opened(data: bytes, kind: str, frame: Frame) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as image:
            if image.size != (frame.columns, frame.rows):
                raise Refused(_OTHER_SIZE)
            yield image
    except Image.DecompressionBombError as error:
        raise Refused(_OTHER_SIZE) from error


def _pillow_jpeg(data: bytes, frame: Frame, min_side: int) -> NDArray[Any]:
    with _opened(data, "JPEG", frame) as image:
        # Without Adobe's marker Pillow assumes that three channels are YCbCr and converts; raw they serve both ways.
        raw = "YCbCr" if image.mode == "RGB" and "adobe_transform" not in image.info else None
        if raw or min_side:
            image.draft(raw, (2 * min_side, 2 * min_side) if min_side else image.size)
        image.load()
        return np.asarray(image)


def _jpeg2000(data: bytes, frame: Frame, min_side: int) -> Words:
    if not features.check_codec("jpg_2000"):
        raise Refused(
            "JPEG 2000 needs a Pillow with OpenJPEG: pip install --force-reinstall --only-binary :all: pillow"
        )
    # SOC, SIZ (ITU T.800 A.5.1); a JP2 header before it shall be ignored (PS3.5 8.2.4)
    start = data.find(b"\xff\x4f\xff\x51")
    siz = data[start + 4 : start + 43]
    if start < 0 or len(siz) < 39 or int.from_bytes(siz[36:38], "big") != frame.samples:
        raise Refused(_OTHER_SIZE)
    precision, signed = (siz[38] & 0x7F) + 1, bool(siz[38] & 0x80)
    if precision > (16 if frame.samples == 1 else 8):
        raise Refused("JPEG 2000 of more than 16 bits, or of more than 8 in colour")
    reduce = 0
    if min_side:
        levels, short = (
            _wavelet_levels(data, start + 4 + int.from_bytes(siz[:2], "big")),
            min(frame.rows, frame.columns),
        )
        while reduce < levels and short >> (reduce + 1) >= max(2 * min_side, _STATISTICS_SIDE):
            reduce += 1
    # To its end and no further: a tile-part of length 0 extends to there (A.4.2), and OpenJPEG would include the pad
    # byte of PS3.5 A.4.
    with _opened(data[start : data.rfind(_END) + 2], "JPEG2000", frame) as image:
        image.reduce = reduce  # type: ignore[method-assign, assignment]
        image.load()
        values = np.asarray(image)
    # Pillow fills its words from the top and shifts signed values up.
    values = values >> np.asarray(values.itemsize * 8 - precision, values.dtype)
    return replace(
        _in_use(values ^ np.asarray(signed << (precision - 1), values.dtype), frame, precision), halvings=reduce
    )


def recentred(pixels: Pixels, halvings: int) -> Pixels:
    """Return a halved JPEG 2000 film [h,w] shifted to where averages of its pixels would lie: wavelets keep the first
    pixel of two, not the middle."""
    shift = (1 - 0.5**halvings) / 2
    height, width = pixels.shape
    padded = Image.fromarray(np.pad(pixels, (0, 1), mode="edge").astype(np.float32))
    moved = padded.resize((width, height), Image.Resampling.BICUBIC, (shift, shift, width + shift, height + shift))
    return np.clip(np.rint(np.asarray(moved)), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)


def _wavelet_levels(data: bytes, position: int) -> int:
    """Return how often the picture may be halved (ITU T.800 A.6.1)."""
    while data[position : position + 1] == b"\xff" and position + 10 <= len(data):
        if data[position + 1] == 0x52:  # COD
            return data[position + 9]
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return 0


def _gdcm(data: bytes, syntax: UID, frame: Frame, precision: int) -> NDArray[Any]:
    if importlib.util.find_spec("gdcm") is None:
        raise Refused(f"{syntax.name.split(',')[0]} in DICOM needs gdcm: pip install python-gdcm")
    allocated = 8 if precision <= 8 else 16
    sizes = (frame.rows, frame.columns, frame.samples, allocated, precision)
    command = [sys.executable, "-P", str(_GDCM), str(syntax), frame.photometric, *map(str, sizes)]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=_GDCM_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise Refused("broken DICOM file (its coded picture takes too long)") from error
    values = np.frombuffer(done.stdout, np.uint8 if allocated == 8 else "<u2")
    if done.returncode or values.size != frame.rows * frame.columns * frame.samples:
        raise Refused(_BROKEN)
    return _shaped(values.astype(values.dtype.newbyteorder("="), copy=False), frame, planar=False)
