"""DICOM files that are broken on purpose, each with its defect and what a DICOM reader should do: a test for pipelines.

Each is made from a valid synthetic file by one change to its bytes, so a reader that fails on it fails on that change.
All files that still can state that they are synthetic do, most of them in the patient's name and the preamble too. The
same seed gives the same bytes. Sources of what is right: DICOM PS3.5 sections 6 to 8 and annex A (encoding), PS3.3
C.7.6.3 and C.11 (pixels), PS3.10 section 7 (files).
"""

import csv
import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from thiscxr.files import atomic_folder
from thiscxr.model.conditions import Condition
from thiscxr.pixels import Pixels
from thiscxr.sample.dicom import DicomOptions, dicom_bytes, dicom_dataset, uid
from thiscxr.sample.latents import MAX_SEED
from thiscxr.sample.provenance import Film, origin_of
from thiscxr.sample.sampling import Network, sample_images, to_pixels
from thiscxr.sample.truncation import Truncation
from thiscxr.sample.writing import check_ours

READ, REFUSE, EITHER = "read it", "refuse it", "read it or refuse it, and say so"
_PREAMBLE = (
    b"SYNTHETIC, AND BROKEN ON PURPOSE: not a patient, not for diagnosis. Made by thiscxr to test readers."
).ljust(128)
# VRs with four bytes of length
_LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR", b"OF", b"OD", b"OL", b"OV", b"SV", b"UV")

Element = tuple[int, bytes, bytes]  # tag, VR, value; explicit VR, little endian


@dataclass(frozen=True)
class File:
    """A DICOM file in its parts."""

    meta: tuple[Element, ...]  # group 2, without its length
    data: tuple[Element, ...]
    preamble: bytes = _PREAMBLE
    tail: bytes = b""

    def put(self, tag: int, value: bytes, vr: bytes | None = None) -> "File":
        """Return the file with one element added or changed; the VR stays unless it is given."""
        before = next((element for element in (*self.meta, *self.data) if element[0] == tag), (tag, b"UN", b""))
        others = self.without(tag)
        elements = [*(others.meta if tag >> 16 == 2 else others.data), (tag, vr or before[1], value)]
        ordered = tuple(sorted(elements, key=lambda element: element[0]))
        return replace(others, meta=ordered) if tag >> 16 == 2 else replace(others, data=ordered)

    def without(self, *tags: int) -> "File":
        """Return the file without some elements."""
        meta, data = (tuple(element for element in part if element[0] not in tags) for part in (self.meta, self.data))
        return replace(self, meta=meta, data=data)

    def get(self, tag: int) -> bytes:
        """Return the value of an element."""
        return next(element[2] for element in (*self.meta, *self.data) if element[0] == tag)

    def to_bytes(self) -> bytes:
        """Return the file."""
        meta = b"".join(_encode(*element) for element in self.meta)
        head = (
            self.preamble + b"DICM" + _encode(0x00020000, b"UL", struct.pack("<I", len(meta))) if self.preamble else b""
        )
        return head + meta + b"".join(_encode(*element) for element in self.data) + self.tail


def _encode(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    long = vr in _LONG or not vr.isalpha()
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    return head + (struct.pack("<2xI", size) if long else struct.pack("<H", size & 0xFFFF)) + value


def parse(data: bytes) -> File:
    """Return the parts of a file as `dicom_bytes` writes it: explicit VR, little endian, every length given."""
    elements, position = [], 132
    while position < len(data):
        group, number = struct.unpack_from("<HH", data, position)
        vr = data[position + 4 : position + 6]
        start = position + (12 if vr in _LONG else 8)
        length = (
            struct.unpack_from("<I", data, position + 8)[0]
            if vr in _LONG
            else struct.unpack_from("<H", data, position + 6)[0]
        )
        elements.append((group << 16 | number, vr, data[start : start + length]))
        position = start + length
    meta = tuple(element for element in elements if element[0] >> 16 == 2 and element[0] != 0x00020000)
    return File(meta, tuple(element for element in elements if element[0] >> 16 != 2))


@dataclass(frozen=True)
class Defect:
    """One defect: its name, what is wrong, what a reader should do, and the function that breaks a valid file."""

    name: str
    wrong: str
    reader: str
    broken: Callable[[File], bytes]


ROWS, COLUMNS, FRAMES, PIXELS = 0x00280010, 0x00280011, 0x00280008, 0x7FE00010
SAMPLES, PHOTOMETRIC, PLANAR = 0x00280002, 0x00280004, 0x00280006
ALLOCATED, STORED, HIGH_BIT, SIGNED = 0x00280100, 0x00280101, 0x00280102, 0x00280103
CENTER, WIDTH, INTERCEPT, SLOPE = 0x00281050, 0x00281051, 0x00281052, 0x00281053
CHARSET, INSTANCE, STUDY_DATE, SYNTAX = 0x00080005, 0x00080018, 0x00080020, 0x00020010
PATIENT_NAME, PATIENT_ID = 0x00100010, 0x00100020
COMMENTS, VOI_LUT, ANY_SEQUENCE = 0x00204000, 0x00283010, 0x00400555
STUDY, SERIES, META_INSTANCE = 0x0020000D, 0x0020000E, 0x00020003


IMPLICIT, BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
JPEG_2000, RLE = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"


def _u16(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


def _syntax(name: str) -> bytes:
    return name.encode() + b"\0" * (len(name) % 2)


def _noise(file: File, count: int) -> bytes:
    """Return meaningless bytes, the same for the same film."""
    seed = file.get(INSTANCE)
    return b"".join(hashlib.sha256(seed + struct.pack("<I", i)).digest() for i in range(count // 32 + 1))[:count]


def _change(tag: int, value: bytes, vr: bytes | None = None) -> Callable[[File], bytes]:
    return lambda file: file.put(tag, value, vr).to_bytes()


def _lose(*tags: int) -> Callable[[File], bytes]:
    return lambda file: file.without(*tags).to_bytes()


def _cut_pixels(file: File) -> bytes:
    return file.to_bytes()[: -len(file.get(PIXELS)) // 2]


def _short_pixels(file: File) -> bytes:
    value = file.get(PIXELS)
    return file.put(PIXELS, value[: len(value) // 4 * 2]).to_bytes()


def _lying_length(file: File) -> bytes:
    whole = file.without(PIXELS).to_bytes()
    return whole + _encode(PIXELS, b"OW", file.get(PIXELS), length=0xFFFFFFF0)


def _odd_length(file: File) -> bytes:
    name = file.get(PATIENT_NAME).rstrip(b" ")
    return file.put(PATIENT_NAME, name + b"X" * (1 - len(name) % 2)).to_bytes()


def _encapsulated(file: File, fragments: bytes, syntax: str) -> bytes:
    body = file.without(PIXELS).put(SYNTAX, _syntax(syntax)).to_bytes()
    return body + _encode(PIXELS, b"OB", fragments, length=0xFFFFFFFF)


def _fragment(data: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(data)) + data


_DELIMITER = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def _nested(file: File) -> bytes:
    """Two thousand nested sequences, in front of the pixels."""
    opened = _encode(ANY_SEQUENCE, b"SQ", b"", length=0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return file.without(PIXELS).to_bytes() + opened * 2000 + _encode(PIXELS, b"OW", file.get(PIXELS))


def _endless(file: File) -> bytes:
    opened = _encode(ANY_SEQUENCE, b"SQ", b"", length=0xFFFFFFFF)
    return file.without(PIXELS).to_bytes() + opened + _encode(PIXELS, b"OW", file.get(PIXELS))


def _shuffled(file: File) -> bytes:
    return replace(file, data=(*file.data[20:-1], *file.data[:20], file.data[-1])).to_bytes()


def _twice(file: File) -> bytes:
    """A second Rows, which disagrees with the first."""
    data = tuple(
        part
        for element in file.data
        for part in ((element, (ROWS, b"US", _u16(7))) if element[0] == ROWS else (element,))
    )
    return replace(file, data=data).to_bytes()


def _planar_rgb(file: File) -> bytes:
    return file.put(SAMPLES, _u16(3)).put(PHOTOMETRIC, b"RGB ").put(PLANAR, _u16(7), b"US").to_bytes()


def _cut_header(file: File) -> bytes:
    """Cut after the patient's name and ID, so that even this file says that it is synthetic."""
    whole = file.without(PIXELS).to_bytes()
    return whole[: whole.index(file.get(PATIENT_ID)) + len(file.get(PATIENT_ID)) + 5]


def _inverse(file: File) -> bytes:
    other = {b"MONOCHROME1": b"MONOCHROME2 ", b"MONOCHROME2": b"MONOCHROME1 "}[file.get(PHOTOMETRIC).strip()]
    return file.put(PHOTOMETRIC, other).to_bytes()


DEFECTS = (
    Defect("truncated-pixels", "the file ends in the middle of the pixels", REFUSE, _cut_pixels),
    Defect("truncated-header", "the file ends in the middle of the header", REFUSE, _cut_header),
    Defect("short-pixels", "PixelData is whole but holds fewer pixels than Rows × Columns", REFUSE, _short_pixels),
    Defect("padded-pixels", "PixelData holds 4,096 bytes more than Rows × Columns", EITHER,
           lambda f: f.put(PIXELS, f.get(PIXELS) + bytes(4096)).to_bytes()),
    Defect("no-pixels", "there is no PixelData", REFUSE, _lose(PIXELS)),
    Defect("empty-pixels", "PixelData has no bytes", REFUSE, _change(PIXELS, b"")),
    Defect("lying-length", "PixelData says that it is 4 GiB long", EITHER, _lying_length),
    Defect("no-rows", "Rows is missing", REFUSE, _lose(ROWS)),
    Defect("zero-rows", "Rows is 0", REFUSE, _change(ROWS, _u16(0))),
    Defect("empty-columns", "Columns has no value", REFUSE, _change(COLUMNS, b"")),
    Defect("huge", "Rows and Columns are 65,535: four thousand million pixels are announced, and not there", REFUSE,
           lambda f: f.put(ROWS, _u16(65535)).put(COLUMNS, _u16(65535)).to_bytes()),
    Defect("negative-rows", "Rows is -64, as a signed number (SS)", REFUSE,
           _change(ROWS, struct.pack("<h", -64), b"SS")),
    Defect("rows-in-words", "Rows is the text SIXTY (LO)", REFUSE, _change(ROWS, b"SIXTY ", b"LO")),
    Defect("rows-twice", "Rows is there twice, with two values", EITHER, _twice),
    Defect("bits-allocated", "BitsAllocated is 32, but the pixels have 16", REFUSE, _change(ALLOCATED, _u16(32))),
    Defect("bits-allocated-odd", "BitsAllocated is 13", REFUSE, _change(ALLOCATED, _u16(13))),
    Defect("bits-stored", "BitsStored is 20 of 16 bits allocated", REFUSE, _change(STORED, _u16(20))),
    Defect("bits-stored-lies", "BitsStored is 8, but the pixels use more bits", EITHER,
           lambda f: f.put(STORED, _u16(8)).put(HIGH_BIT, _u16(7)).to_bytes()),
    Defect("high-bit", "HighBit is 3, below BitsStored", EITHER, _change(HIGH_BIT, _u16(3))),
    Defect("signed", "PixelRepresentation says signed, but the pixels are unsigned", EITHER,
           lambda f: f.put(STORED, _u16(12)).put(SIGNED, _u16(1)).to_bytes()),
    Defect("samples", "SamplesPerPixel is 0", REFUSE, _change(SAMPLES, _u16(0))),
    Defect("planar", "three planes of colour are announced, in a PlanarConfiguration of 7; there is one of grey",
           REFUSE, _planar_rgb),
    Defect("photometric-rgb", "PhotometricInterpretation is RGB, with one sample a pixel", REFUSE,
           _change(PHOTOMETRIC, b"RGB ")),
    Defect("photometric-unknown", "PhotometricInterpretation is MONOCHROME9", REFUSE,
           _change(PHOTOMETRIC, b"MONOCHROME9 ")),
    Defect("photometric-inverse", "PhotometricInterpretation is the inverse of how the pixels are stored", EITHER,
           _inverse),
    Defect("frames", "NumberOfFrames is 1,000, but there is one", REFUSE, _change(FRAMES, b"1000", b"IS")),
    Defect("frames-in-words", "NumberOfFrames is the text MANY", REFUSE, _change(FRAMES, b"MANY", b"IS")),
    Defect("window-zero", "WindowWidth is 0", EITHER, _change(WIDTH, b"0 ")),
    Defect("window-negative", "WindowWidth is -4096", EITHER, _change(WIDTH, b"-4096 ")),
    Defect("window-nan", "WindowCenter is nan", EITHER, _change(CENTER, b"nan ")),
    Defect("window-in-words", "WindowWidth is the text WIDE", EITHER, _change(WIDTH, b"WIDE")),
    Defect("slope-nan", "RescaleSlope is nan", REFUSE,
           lambda f: f.put(INTERCEPT, b"0 ", b"DS").put(SLOPE, b"nan ", b"DS").to_bytes()),
    Defect("slope-infinite", "RescaleSlope is 1e400, more than any number of 64 bits", REFUSE,
           lambda f: f.put(INTERCEPT, b"0 ", b"DS").put(SLOPE, b"1e400 ", b"DS").to_bytes()),
    Defect("voi-lut-empty", "VOILUTSequence holds one item with nothing in it", EITHER,
           _change(VOI_LUT, struct.pack("<HHI", 0xFFFE, 0xE000, 0), b"SQ")),
    Defect("bad-vr", "ImageComments has the VR ZZ, which there is not", EITHER,
           lambda f: f.put(COMMENTS, f.get(COMMENTS), b"ZZ").to_bytes()),
    Defect("odd-length", "PatientName has an odd number of bytes", EITHER, _odd_length),
    Defect("bad-date", "StudyDate is 20231345", READ, _change(STUDY_DATE, b"20231345")),
    Defect("unknown-charset", "SpecificCharacterSet is ISO_IR 999", READ, _change(CHARSET, b"ISO_IR 999")),
    Defect("wrong-charset", "the name is in Latin-1, but SpecificCharacterSet says UTF-8", READ,
           _change(PATIENT_NAME, "SYNTHETIC^KÖRNER".encode("latin-1"))),
    Defect("bad-uid", "SOPInstanceUID has letters and more than 64 characters", READ,
           _change(INSTANCE, b"2.25.SYNTHETIC" + b".00" * 20)),
    Defect("no-uid", "SOPInstanceUID is missing", READ, _lose(INSTANCE)),
    Defect("no-preamble", "the file begins with group 2, without a preamble and DICM", EITHER,
           lambda f: replace(f, preamble=b"").to_bytes()),
    Defect("no-meta", "there is no file meta information at all, and so no transfer syntax", EITHER,
           lambda f: replace(f, meta=(), preamble=b"").to_bytes()),
    Defect("no-syntax", "TransferSyntaxUID is missing", EITHER, _lose(SYNTAX)),
    Defect("implicit-lies", "TransferSyntaxUID says implicit VR, but it is explicit", EITHER,
           _change(SYNTAX, _syntax(IMPLICIT))),
    Defect("big-endian-lies", "TransferSyntaxUID says big endian, but it is little", REFUSE,
           _change(SYNTAX, _syntax(BIG_ENDIAN))),
    Defect("jpeg2000-lies", "TransferSyntaxUID says JPEG 2000, but the pixels are not coded", REFUSE,
           _change(SYNTAX, _syntax(JPEG_2000))),
    Defect("unknown-syntax", "TransferSyntaxUID is one that nobody has defined", EITHER,
           _change(SYNTAX, _syntax(str(uid("no transfer syntax"))))),
    Defect("deflated-garbage", "TransferSyntaxUID says deflated, and what follows is noise", REFUSE,
           lambda f: replace(f.put(SYNTAX, _syntax(DEFLATED)), data=(), tail=_noise(f, 4096)).to_bytes()),
    Defect("jpeg2000-garbage", "one JPEG 2000 fragment, of noise", REFUSE,
           lambda f: _encapsulated(f, _fragment(b"") + _fragment(_noise(f, 2048)) + _DELIMITER, JPEG_2000)),
    Defect("rle-garbage", "one RLE fragment whose header points far behind its end", REFUSE,
           lambda f: _encapsulated(
               f, _fragment(b"") + _fragment(struct.pack("<16I", 15, *[2**31] * 15)) + _DELIMITER, RLE)),
    Defect("no-fragments", "coded pixels without a fragment", REFUSE,
           lambda f: _encapsulated(f, _fragment(b"") + _DELIMITER, RLE)),
    Defect("endless-fragment", "a fragment that says that it is 4 GiB long", REFUSE,
           lambda f: _encapsulated(f, _fragment(b"") + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFF00), JPEG_2000)),
    Defect("meta-length", "FileMetaInformationGroupLength is 4 GiB", EITHER,
           lambda f: f.to_bytes().replace(
               f.to_bytes()[132:144], _encode(0x00020000, b"UL", struct.pack("<I", 0xFFFFFF00)), 1)),
    Defect("shuffled", "the elements are not in the order of their tags", EITHER, _shuffled),
    Defect("endless-sequence", "a sequence of undefined length that never ends", REFUSE, _endless),
    Defect("nested", "two thousand sequences in each other, none of them closed", REFUSE, _nested),
    Defect("empty", "the file has no bytes (it cannot say that it is synthetic)", REFUSE, lambda f: b""),
    Defect("preamble-only", "the file ends after DICM", REFUSE, lambda f: f.preamble + b"DICM"),
    Defect("text", "the file is plain text", REFUSE,
           lambda f: b"SYNTHETIC: this is no DICOM file, though its name says so.\n" * 20),
)  # fmt: skip


_TWINS = Defect(
    "shared-uids",
    "two patients, but one SOP, series and study instance UID: this file and its twin",
    READ,
    File.to_bytes,
)


def broken_files(films: Sequence[Film], pixels: Pixels, options: DicomOptions) -> Iterator[tuple[str, bytes, Defect]]:
    """Yield (file name, bytes, what is wrong): every defect of the first of two films, then both, whole, with the same
    UIDs.

    pixels: [2, h, w] of `options.bits` bits.
    """
    whole, other = (
        parse(dicom_bytes(dicom_dataset(image, film, options))) for image, film in zip(pixels, films, strict=True)
    )
    stem = f"broken-{films[0].seed:08d}"
    for number, defect in enumerate(DEFECTS):
        yield f"{stem}-{number:02d}-{defect.name}.dcm", defect.broken(whole), defect
    for tag in (INSTANCE, STUDY, SERIES, META_INSTANCE):
        other = other.put(tag, whole.get(tag))
    for letter, file in (("a", whole), ("b", other)):
        yield f"{stem}-{len(DEFECTS):02d}-{_TWINS.name}-{letter}.dcm", file.to_bytes(), _TWINS


def write_malformed(
    network: Network,
    seeds: Sequence[int],
    conditions: Sequence[Condition],
    truncation: Truncation,
    out: Path,
    options: DicomOptions,
    permission: bool = False,
) -> None:
    """Write the broken files of each seed and `malformed.csv` (file, seed, defect, wrong, reader) into the folder
    `out`.

    An older sample folder there is replaced. Raises ValueError for options that the defects cannot be made of: they
    need 12 bits or more, not compressed.
    """
    if options.compress != "none" or options.bits < 12:
        raise ValueError(
            "--malformed breaks uncompressed files of 12 bits or more; leave --compress out and --bits at 12 to 16"
        )
    check_ours(out)
    origin = origin_of(network, permission)
    with (
        atomic_folder(out, replace=True) as part,
        open(part / "malformed.csv", "w", newline="", encoding="utf-8") as table,
    ):
        rows = csv.writer(table)
        rows.writerow(("file", "seed", "defect", "wrong", "reader"))
        for seed, condition in zip(seeds, conditions, strict=True):
            pair = (seed, seed + 1 if seed < MAX_SEED else 0)
            images = next(sample_images(network, pair, [condition] * 2, truncation))
            films = [Film(one, condition, truncation, origin) for one in pair]
            for name, data, defect in broken_files(films, to_pixels(images, options.bits), options):
                (part / name).write_bytes(data)
                rows.writerow((name, seed, defect.name, defect.wrong, defect.reader))
