"""Damaged film files for tests: whole files of every kind, what is done to them, and each case by seed and number."""

import gzip
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pydicom.data
from PIL import Image
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from tests.films import deep_png, dicom, encoded, jpeg, lut_item, png, raw_tiff, smooth, tiff


@cache
def corpus() -> list[tuple[str, bytes]]:
    """Whole files of every kind, by name."""
    shallow, deep = smooth(72, 64, 8), smooth(72, 64, 12)
    window, table = {"WindowCenter": 2048, "WindowWidth": 4000}, lut_item(0, np.arange(4096), 12)
    files = {
        "png8": png(shallow),
        "png16": png(deep),
        "png-rgba": png(shallow, "RGBA"),
        "png-palette": png(shallow, "P", transparency=3),
        "png.gz": gzip.compress(png(shallow), mtime=0),
        "jpeg": jpeg(shallow),
        "jpeg-progressive": jpeg(np.dstack([shallow] * 3), progressive=True),
        "jpeg-cmyk": encoded(Image.fromarray(shallow).convert("RGB").convert("CMYK"), "JPEG"),
        "tiff16": raw_tiff(deep),
        "png16-rgb": deep_png(np.dstack([deep] * 3)),
        "tiff16-rgb": raw_tiff(np.dstack([deep] * 3), 2, packed=True),
        "tiff16-planes": raw_tiff(np.dstack([deep] * 2), 1, planar=True),
        "tiff-lzw": tiff(shallow, compression="tiff_lzw"),
        "tiff-deflate": tiff(deep, compression="tiff_adobe_deflate"),
        "bmp": encoded(Image.fromarray(shallow), "BMP"),
        "webp": encoded(Image.fromarray(shallow), "WEBP", lossless=True),
        "dicom-raw": dicom(deep, **window),
        "dicom-signed": dicom(deep.astype(np.int16) - 2048, PatientOrientation=["R", "F"], PixelSpacing=[0.1, 0.2]),
        "dicom-rgb": dicom(np.dstack([shallow] * 3), 8, "RGB"),
        "dicom-tables": dicom(deep, VOILUTSequence=[table], ModalityLUTSequence=[table], PixelPaddingValue=0),
        "dicom.gz": gzip.compress(dicom(deep, **window), mtime=0),
    }
    eight, twelve = [RLELossless, JPEGBaseline8Bit, JPEG2000Lossless, JPEGLSLossless], [
        ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless,
        JPEG2000, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless,
    ]  # fmt: skip
    files |= {f"dicom8-{syntax.keyword}": dicom(shallow, 8, syntax=syntax) for syntax in eight}
    files |= {f"dicom12-{syntax.keyword}": dicom(deep, syntax=syntax, **window) for syntax in twelve}
    root = Path(pydicom.data.__file__).parent / "test_files"
    paths = [path for path in sorted(root.rglob("*")) if path.is_file() and "TINY_ALPHA/PT" not in path.as_posix()]
    files |= {path.relative_to(root).as_posix(): path.read_bytes() for path in paths if path.stat().st_size < 60_000}
    ours = [
        item
        for item in files.items()
        if item[0].split("-")[0].split(".")[0]
        in ("png", "png8", "png16", "jpeg", "tiff", "tiff16", "dicom", "dicom8", "dicom12")
    ]
    return ours * 6 + [item for item in files.items() if item not in ours]  # two thirds of the cases are of our own


Mutation = Callable[[random.Random, bytearray], bytearray]


def place(rnd: random.Random, data: bytearray) -> int:
    """Somewhere, half of the time in the first 400 bytes, where headers are."""
    return rnd.randrange(max(1, min(len(data), 400) if rnd.random() < 0.5 else len(data)))


def cut(rnd: random.Random, data: bytearray) -> bytearray:
    return data[: rnd.randrange(len(data) + 1)]


def flip(rnd: random.Random, data: bytearray) -> bytearray:
    for _ in range(rnd.choice([1, 1, 2, 8])):
        data[place(rnd, data)] ^= 1 << rnd.randrange(8)
    return data


def overwrite(rnd: random.Random, data: bytearray) -> bytearray:
    start, length = place(rnd, data), rnd.choice([1, 2, 4, 16, 200])
    data[start : start + length] = rnd.choice([bytes(length), b"\xff" * length, rnd.randbytes(length)])
    return data


def huge(rnd: random.Random, data: bytearray) -> bytearray:
    start = place(rnd, data)
    number = rnd.choice([0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0x80000000, 65535, len(data), len(data) * 1000, 0])
    data[start : start + 4] = struct.pack(rnd.choice("<>") + "I", number % 2**32)
    return data


def cut_out(rnd: random.Random, data: bytearray) -> bytearray:
    start = place(rnd, data)
    return data[:start] + data[start + rnd.choice([1, 2, 10, 300]) :]


def repeat(rnd: random.Random, data: bytearray) -> bytearray:
    start, length = place(rnd, data), rnd.choice([1, 2, 10, 300])
    return data[: start + length] + data[start : start + length] * rnd.choice([1, 50]) + data[start + length :]


def exchange(rnd: random.Random, data: bytearray) -> bytearray:
    length, (first, second) = rnd.choice([2, 12, 100]), sorted((place(rnd, data), place(rnd, data)))
    if second < first + length:
        return flip(rnd, data)
    head, a, middle, b, tail = np.split(
        np.frombuffer(bytes(data), np.uint8), [first, first + length, second, second + length]
    )
    return bytearray(b"".join(part.tobytes() for part in (head, b, middle, a, tail)))


def png_chunks(rnd: random.Random, data: bytearray) -> bytearray:
    """Chunks altered, dropped, doubled or swapped, with checksums that match."""
    chunks, position = [], 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        chunks.append((bytes(data[position + 4 : position + 8]), bytearray(data[position + 8 : position + 8 + length])))
        position += 12 + length
    if len(chunks) < 2:
        return flip(rnd, data) if data else data
    index = rnd.randrange(len(chunks))
    kind = rnd.randrange(5)
    if kind == 0:
        body = chunks[0][1]
        body[:8] = struct.pack(">II", rnd.choice([0, 1, 64, 2**31, 99_999]), rnd.choice([0, 1, 72, 2**31 - 1, 9_000]))
    elif kind == 1:
        chunks[0][1][8:13] = bytes(
            [
                rnd.choice([1, 2, 4, 8, 16, 77]),
                rnd.choice([0, 2, 3, 4, 6, 9]),
                rnd.choice([0, 1]),
                0,
                rnd.choice([0, 1, 2]),
            ]
        )
    elif kind == 2:
        del chunks[index]
    elif kind == 3:
        other = rnd.randrange(len(chunks))
        chunks[index], chunks[other] = chunks[other], chunks[index]
    else:
        name = rnd.choice([b"zTXt", b"iCCP", b"tRNS", b"PLTE", b"acTL", b"fcTL", b"eXIf", b"IDAT", b"pHYs"])
        body = rnd.choice(
            [b"", rnd.randbytes(20), b"x\0\0" + zlib.compress(bytes(10**7), 9), struct.pack(">II", 2**31, 0)]
        )
        chunks.insert(rnd.randrange(1, len(chunks)), (name, bytearray(body)))
    written = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return data[:8] + b"".join(written)


def item(tag: str, vr: str, value: bytes, length: int | None = None) -> bytes:
    """One element of explicit VR, little endian."""
    group, element = (int(part, 16) for part in tag.split(","))
    size = len(value) if length is None else length
    head = struct.pack("<HH", group, element) + vr.encode()
    long = vr in ("OB", "OW", "SQ", "UN", "UT", "OF")
    return head + (struct.pack("<HI", 0, size % 2**32) if long else struct.pack("<H", size % 2**16)) + value


def us(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}H", *numbers)


def hostile_elements() -> list[bytes]:
    sizes = [0, 1, 15, 16, 64, 4000, 65535]
    table = item("0028,3002", "US", us(0, 0, 16)) + item("0028,3006", "OW", bytes(30))
    start, end = struct.pack("<HHI", 0xFFFE, 0xE000, len(table)), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    deep = (
        struct.pack("<HH2sHI", 0x0028, 0x3010, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ) * 3000
    texts = [
        b"",
        b"NaN",
        b"inf ",
        b"-1",
        b"0 ",
        b"1e400 ",
        b"abc ",
        b"\\",
        b"\\\\\\",
        b"1\\2\\3 ",
        b"1e9 ",
        b"0.0001",
        b"2,5 ",
        b"9" * 60,
        b"\xff\xfe",
        b"1E-300",
    ]
    reals = ["0028,1050", "0028,1051", "0028,1052", "0028,1053", "0028,0030", "0018,1164", "0018,2010"]
    return [
        *[item(tag, "US", us(size)) for tag in ("0028,0010", "0028,0011") for size in sizes],
        *[
            item(tag, "US", us(size))
            for tag in ("0028,0100", "0028,0101", "0028,0102", "0028,0103", "0028,0002", "0028,0006")
            for size in (0, 1, 3, 7, 12, 32, 64, 255, 65535)
        ],
        *[item(tag, "DS", text) for tag in reals for text in texts],
        *[
            item(tag, vr, value)
            for tag in ("0028,0120", "0028,0121")
            for vr in ("US", "SS", "OB", "LO")
            for value in (b"", us(0), us(65535), b"abcd")
        ],
        *[item(tag, "IS", text) for tag in ("0028,0008", "0028,0034") for text in texts],
        *[
            item("0028,0004", "CS", text)
            for text in (
                b"",
                b"RGB ",
                b"YBR_FULL",
                b"MONOCHROME1 ",
                b"PALETTE COLOR ",
                b"YBR_FULL_422",
                b"\\\\",
                b"\0\0",
            )
        ],
        *[
            item("0020,0020", "CS", text)
            for text in (b"", b"R\\F ", b"H\\L ", b"\\", b"L\\L ", b"\\\\\\", b"AFH\\LPF ")
        ],
        *[
            item(tag, vr, value)
            for tag in ("0028,0010", "0028,0004", "0028,1050")
            for vr in ("UN", "SQ", "OB", "LO", "AT", "FD", "ZZ")
            for value in (b"", b"abcd", bytes(8))
        ],
        *[item(tag, "SQ", start + table + end) for tag in ("0028,3000", "0028,3010")],
        *[item(tag, "SQ", b"") for tag in ("0028,3000", "0028,3010", "0054,0220")],
        *[item(tag, "OB", b"abc", 0xFFFFFFFE) for tag in ("0028,3010", "0009,0010", "7FE0,0010")],
        item("0028,1056", "CS", b"SIGMOID "),
        item("0028,1056", "CS", b"NONSENSE"),
        deep,
    ]


def elements(rnd: random.Random, data: bytearray) -> bytearray:
    """Hostile tags put before the pixels, where they take the place of the true ones."""
    known = hostile_elements()
    at = data.find(b"\xe0\x7f\x10\x00")
    return (
        data[:at] + b"".join(rnd.choice(known) for _ in range(rnd.choice([1, 1, 2, 4]))) + data[at:]
        if at > 0
        else flip(rnd, data)
    )


def other_syntax(rnd: random.Random, data: bytearray) -> bytearray:
    """Pixels said to be of another transfer syntax."""
    for known in (b"1.2.840.10008.1.2.4.", b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2"):
        at = data.find(known, 132, 400)
        if at > 0:
            length = 2 * ((len(data[at : at + 24].split(b"\0")[0]) + 1) // 2)
            names = [
                JPEG2000,
                JPEG2000Lossless,
                JPEGBaseline8Bit,
                JPEGExtended12Bit,
                JPEGLossless,
                JPEGLSLossless,
                RLELossless,
                ExplicitVRLittleEndian,
            ]
            fitting = [name for name in names if len(name) <= length]
            if fitting:
                data[at : at + length] = rnd.choice(fitting).encode().ljust(length, b"\0")
                return data
    return flip(rnd, data)


GENERAL: list[Mutation] = [cut, flip, flip, overwrite, huge, cut_out, repeat, exchange]


def case(seed: int, number: int) -> tuple[str, bytes, bytes, bool]:
    """Return name, the whole file, the damaged one, and whether a checksum covers all of the damage."""
    rnd = random.Random(f"{seed}-{number}")
    files = corpus()
    name, whole = files[number % len(files)]
    choices = list(GENERAL)
    if name.startswith("png") and not name.endswith(".gz"):
        choices += [png_chunks] * 4
    elif not name.startswith(("png", "jpeg", "tiff")):
        choices += [elements] * 6 + [other_syntax] * 2
    data, covered = bytearray(whole), name.startswith("png") or name.endswith(".gz")
    for _ in range(rnd.choice([1, 1, 1, 2, 3])):
        mutation = rnd.choice(choices)
        covered &= mutation in GENERAL
        if data:
            data = mutation(rnd, data)
    return name, whole, bytes(data), covered
