"""Builders of film files for tests: PNG, JPEG, TIFF and DICOM in any transfer syntax, from arrays of known values."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Sequence

import numpy as np
import pydicom
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

RAMP = np.linspace(0, 255, 64 * 64).round().astype(np.uint8).reshape(64, 64)
DEEP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)  # 0 .. 4095: all of 12 bits
NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
LOSSLESS = [RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless]


def keywords(syntaxes: list[UID]) -> list[str]:
    return [syntax.keyword for syntax in syntaxes]


def smooth(height: int, width: int, bits: int, seed: int = 0) -> np.ndarray:
    """A smooth film with a little noise over most of `bits` bits; uint16, or uint8 for 8 bits."""
    y, x = np.mgrid[:height, :width]
    wave = 0.5 + 0.4 * np.sin(9 * x / width + 2) * np.cos(7 * y / height + 1)
    noise = np.random.default_rng(seed).normal(0, 0.005, wave.shape)
    return np.clip((wave + noise) * (2**bits - 1), 0, 2**bits - 1).round().astype(np.uint8 if bits <= 8 else np.uint16)


def encoded(image: Image.Image, kind: str, **save) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **save)
    return buffer.getvalue()


def png(array: np.ndarray, mode: str | None = None, **save) -> bytes:
    image = Image.fromarray(array)
    return encoded(image.convert(mode) if mode else image, "PNG", **save)


def jpeg(array: np.ndarray, quality: int = 95, **save) -> bytes:
    return encoded(Image.fromarray(array), "JPEG", quality=quality, **save)


def tiff(array: np.ndarray, **save) -> bytes:
    return encoded(Image.fromarray(array), "TIFF", **save)


def raw_tiff(
    values: np.ndarray,
    photometric: int = 1,
    order: str = "<",
    sample_format: int = 1,
    planar: bool = False,
    packed: bool = False,
    **tags: int,
) -> bytes:
    """A TIFF of one strip, or one a plane (TIFF 6.0), byte by byte: Pillow's writer cannot make all that is read.

    values: [h,w] or [h,w,c]; packed: deflated; tags: further ones, as t274=6.
    """
    height, width, channels = (*values.shape, 1)[:3]
    parts = [values[..., band] for band in range(channels)] if planar and channels > 1 else [values]
    strips = [np.ascontiguousarray(part).astype(values.dtype.newbyteorder(order)).tobytes() for part in parts]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    starts = [8 + sum(map(len, strips[:index])) for index in range(len(strips))]
    entries = {
        256: [width],
        257: [height],
        258: [values.itemsize * 8] * channels,
        259: [8 if packed else 1],
        262: [photometric],
    }
    entries |= {
        273: starts,
        277: [channels],
        278: [height],
        279: [len(strip) for strip in strips],
        284: [2 if planar else 1],
    }
    entries |= {339: [sample_format] * channels, **{int(tag[1:]): [value] for tag, value in tags.items()}}
    end = 8 + sum(map(len, strips))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, end)
    after, table, outside = end + 2 + 12 * len(entries) + 4, b"", b""
    for tag, numbers in sorted(entries.items()):
        long = struct.pack(f"{order}{len(numbers)}I", *numbers)
        table += struct.pack(f"{order}HHI", tag, 4, len(numbers))
        table += long if len(numbers) == 1 else struct.pack(f"{order}I", after + len(outside))
        outside += long if len(numbers) > 1 else b""
    return head + b"".join(strips) + struct.pack(f"{order}H", len(entries)) + table + bytes(4) + outside


def deep_png(values: np.ndarray, interlaced: bool = False) -> bytes:
    """A PNG of uint16 [h,w,c]: Pillow writes none of several channels in sixteen bits."""
    height, width, channels = values.shape

    def scanlines(part: np.ndarray) -> bytes:
        """Sub-filtered (PNG 9.2), so that bytes depend on the pixel's size."""
        rows = part.astype(">u2").view(np.uint8).reshape(part.shape[0], -1).astype(int)
        rows[:, 2 * channels :] -= rows[:, : -2 * channels].copy()
        return b"".join(b"\1" + row.tobytes() for row in (rows % 256).astype(np.uint8))

    # PNG 8.2: y, x and steps
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [values[y::down, x::right] for y, x, down, right in passes] if interlaced else [values]
    body = zlib.compress(b"".join(scanlines(part) for part in parts if part.size))
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, int(interlaced))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


# In a process of its own, which ends without cleaning up: gdcm's objects do not survive Python's order of taking them
# down.
_GDCM = """
import os, sys, gdcm
syntax, photometric = sys.argv[1:3]
rows, columns, samples, allocated, bits = map(int, sys.argv[3:])
image = gdcm.Image()
image.SetNumberOfDimensions(2)
image.SetDimensions((columns, rows, 1))
image.SetPixelFormat(gdcm.PixelFormat(samples, allocated, bits, bits - 1, 0))
image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.GetPIType(photometric)))
image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.ExplicitVRLittleEndian))
element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
element.SetByteStringValue(sys.stdin.buffer.read())
image.SetDataElement(element)
change = gdcm.ImageChangeTransferSyntax()
change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
change.SetInput(image)
assert change.Change()
coded = change.GetOutput()
fragments = coded.GetDataElement().GetSequenceOfFragments()
assert fragments.GetNumberOfFragments() == 1
sys.stdout.buffer.write(fragments.GetFragment(0).GetByteValue().GetBuffer().encode("utf-8", "surrogateescape"))
sys.stdout.flush()
os._exit(0)
"""


def gdcm_frame(values: np.ndarray, bits: int, syntax: str, photometric: str) -> bytes:
    """One frame as gdcm codes it; values [h,w] or [h,w,3], uint8 or little-endian uint16."""
    samples = 3 if values.ndim == 3 else 1
    sizes = map(str, (*values.shape[:2], samples, values.itemsize * 8, bits))
    command = [sys.executable, "-c", _GDCM, str(syntax), photometric, *sizes]
    return subprocess.run(command, input=np.ascontiguousarray(values).tobytes(), check=True, capture_output=True).stdout


def coded_frame(values: np.ndarray, bits: int, syntax: str, photometric: str = "MONOCHROME2") -> bytes:
    """One compressed frame; values [h,w] or [h,w,3]."""
    if syntax == JPEGBaseline8Bit:
        mode = "L" if values.ndim == 2 else "YCbCr" if photometric.startswith("YBR") else "RGB"
        return encoded(Image.frombytes(mode, values.shape[1::-1], values.tobytes()), "JPEG", quality=95, subsampling=0)
    if syntax in (JPEG2000Lossless, JPEG2000):
        ratios = [8.0] if syntax == JPEG2000 else None
        return bytes(
            encode_array(
                values,
                bits_stored=bits,
                photometric_interpretation=1 if values.ndim == 3 else 2,
                compression_ratios=ratios,
            )
        )
    if syntax == RLELossless:
        allocated = values.itemsize * 8
        samples = values.shape[2] if values.ndim == 3 else 1
        return RLELosslessEncoder.encode(
            np.ascontiguousarray(values).tobytes(), rows=values.shape[0], columns=values.shape[1],
            samples_per_pixel=samples, bits_allocated=allocated, bits_stored=bits, pixel_representation=0,
            photometric_interpretation=photometric, number_of_frames=1, planar_configuration=0,
            encoding_plugin="pydicom",
        )  # fmt: skip
    return gdcm_frame(values, bits, syntax, photometric)


def dicom(
    values: np.ndarray,
    bits: int = 12,
    photometric: str = "MONOCHROME2",
    syntax: str = ExplicitVRLittleEndian,
    frame: bytes | None = None,
    without: Sequence[str] = (),
    **tags,
) -> bytes:
    """A minimal DX file of values [h,w] or [h,w,3], signed where they are; `frame`: pixel data to use instead; further
    tags by name."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = UID(syntax)
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = meta.MediaStorageSOPClassUID, "1.2.3", "DX"
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.SamplesPerPixel = values.shape[2] if values.ndim == 3 else 1
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = 8 if bits <= 8 else 16
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = (
        bits,
        bits - 1,
        int(values.dtype.kind == "i" and values.min() < 0),
    )
    words = values.astype(np.uint8 if bits <= 8 else np.uint16)
    coded = UID(syntax).is_transfer_syntax and UID(syntax).is_encapsulated
    if coded:
        masked = words & np.asarray(2**bits - 1, words.dtype)
        dataset.PixelData = encapsulate([coded_frame(masked, bits, syntax, photometric) if frame is None else frame])
    else:
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        dataset.PixelData = words.astype(words.dtype.newbyteorder(order)).tobytes() if frame is None else frame
    dataset["PixelData"].VR = "OB" if bits <= 8 or coded else "OW"
    for name, value in tags.items():
        setattr(dataset, name, value)
    for name in without:
        delattr(dataset, name)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def lut_item(
    first: int, table: np.ndarray, bits: int = 16, form: str = "OW", entries: int | None = None, order: str = "<"
) -> pydicom.Dataset:
    """Return a look-up table; form: OW, US, or packed: two entries of 8 bits in a word. A first value below zero is
    written as US, too."""
    made = pydicom.Dataset()
    made.add_new("LUTDescriptor", "US", [(entries or len(table)) % 65536, first % 65536, bits])
    words = (
        table if form != "packed" else np.frombuffer(table.astype(np.uint8).tobytes() + bytes(len(table) % 2), "<u2")
    )
    made.add_new(
        "LUTData",
        "US" if form == "US" else "OW",
        words.tolist() if form == "US" else words.astype(f"{order}u2").tobytes(),
    )
    return made
