"""DICOM files to films, and the few facts of their headers that may leave this module.

Nothing is guessed: a file that is not surely one whole grey film is refused with a reason. Rules: DICOM PS3.3, PS3.5.
"""

import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import keyword_for_tag
from pydicom.encaps import get_frame
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from thiscxr.pixels.display import DISPLAY_TAGS, is_negative, numbers, padding, palette, shown
from thiscxr.pixels.frame import CODED, Frame, Words, coded_words, native_words, recentred
from thiscxr.pixels.grey import (
    DECODE_ERRORS,
    MAX_PIXELS,
    Greys,
    LoadedFilm,
    Pixels,
    Refused,
    check_size,
    first_bytes,
    histogram,
    through_table,
)
from thiscxr.pixels.mark import said_of
from thiscxr.pixels.objects import no_film
from thiscxr.words import DAYS_PER_YEAR, MAX_AGE, is_missing, read_age, read_sex, read_view

_TAGS = [
    *DISPLAY_TAGS, "BitsAllocated", "BitsStored", "Columns", "DoubleFloatPixelData", "FloatPixelData", "HighBit",
    "ImagerPixelSpacing", "NominalScannedPixelSpacing", "NumberOfFrames", "PatientOrientation",
    "PhotometricInterpretation", "PixelAspectRatio", "PixelData", "PixelRepresentation", "PixelSpacing",
    "PlanarConfiguration", "Rows", "SamplesPerPixel",
]  # fmt: skip
_MARK_TAGS = ["SyntheticData", "ImageComments", "PatientComments", "DerivationDescription"]
_GROUPS = ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"]
_HEADER_TAGS = [
    "ImageType", "Modality", "PatientAge", "PatientBirthDate", "PatientID", "PatientOrientation", "PatientSex",
    "SOPClassUID", "StudyDate", "StudyInstanceUID", "ViewCodeSequence", "ViewPosition",
]  # fmt: skip
# SNOMED RT (as the retired SRT and SNM3 schemes spell them) and SNOMED CT codes of PS3.16 CID 4010.
_VIEW_CODES = {
    "PA": ("R-10214", "R-40888", "272479007"),
    "AP": ("R-10206", "399348003"),
    "lateral": ("R-10232", "R-10236", "R-102CD", "399198007", "399173006", "399067008"),
    "other": (
        "R-10204", "R-10208", "R-10210", "R-10212", "R-10216", "R-10218", "R-10220", "R-10234", "R-10238", "R-10241",
        "R-102C1", "R-40783", "R-40985", "260427002", "399004004", "399006002", "399038007", "399059000", "399061009",
        "399135007", "399160007", "399182000", "399184004", "399236003", "399312000", "399356000",
    ),
}  # fmt: skip
_ONE_CHANNEL = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_THREE_CHANNELS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PICTURES = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")  # how JPEG, JPEG-LS and JPEG 2000 begin
_GREY_TOLERANCE = 2 / 255  # mean difference of the channels of a grey film; lossy coding leaves some
_SQUARE_TOLERANCE = 0.01
_HEAD_BYTES = 2**18
_MAX_BYTES = 2 * MAX_PIXELS + _HEAD_BYTES


def is_dicom(data: bytes) -> bool:
    """Return whether `data` begins a DICOM file or a bare data set, as some releases have them: no preamble, group 2 or
    8 first, then a VR or a short length."""
    if data[128:132] == b"DICM":
        return True
    known = data[:3] in (b"\x02\0\0", b"\x08\0\0", b"\x08\0\x05", b"\x08\0\x08", b"\x08\0\x16", b"\0\x08\0")
    return len(data) > 132 and known and (data[4:6].isupper() or int.from_bytes(data[4:8], "little") < 256)


@contextmanager
def _parsing(reason: str) -> Iterator[None]:
    """Turn any error of the libraries on a hostile file into one line, equal for equal defects."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of odd values; what matters is checked here
            yield
    except Refused:
        raise
    except (BytesLengthException, InvalidDicomError, *DECODE_ERRORS) as error:
        raise Refused(reason) from error


def _read(data: bytes, tags: list[str], **options: Any) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(_inflated(data)), force=True, specific_tags=list(tags), **options)


def _inflated(data: bytes) -> bytes:
    """Return a deflated data set inflated, others unchanged: pydicom sets no bound."""
    name = DeflatedExplicitVRLittleEndian.encode()
    if name not in data:
        return data
    file = io.BytesIO(data)
    file.seek(132 if data[128:132] == b"DICM" else 0)
    meta = read_dataset(
        file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, vr, length: tag >> 16 != 2
    )
    if str(meta.get("TransferSyntaxUID") or "") != DeflatedExplicitVRLittleEndian:
        return data
    start = file.tell()
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflater.decompress(data[start:], _MAX_BYTES)
    if inflater.unconsumed_tail:
        raise Refused("absurd size")
    return data[:start].replace(name, name.removesuffix(b".99") + bytes(3)) + plain


def load_dicom(data: bytes, min_side: int) -> LoadedFilm:
    """Read a DICOM file; see `thiscxr.pixels.load_film`."""
    with _parsing("broken DICOM file (its tags)"):
        dataset = _read(data, [*_TAGS, *_GROUPS, *_MARK_TAGS])
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            raise Refused("DICOM file of pixels that are no whole numbers, as no film has them")
        if "PixelData" not in dataset:
            raise Refused("DICOM file without pixels, or cut off before them")
        frame = _frame(dataset)
        _flatten(dataset)
        aspect = _pixel_aspect(dataset)
        orientation = _orientation(dataset)
    with _parsing("broken DICOM file (its coded picture)"):
        words = _words(dataset, frame, min_side)
    with _parsing("broken DICOM file (its look-up tables or window)"):
        inverted = frame.samples == 1 and frame.photometric != "PALETTE COLOR" and is_negative(dataset)
        pixels, greys = _shown(dataset, frame, words, inverted, min_side)
    if words.halvings:
        pixels = recentred(pixels, words.halvings)
    width, height = frame.columns, frame.rows
    mirrored, turned = False, 0
    if orientation is not None:
        pixels, mirrored, turned = _upright(pixels, *orientation)
        if turned % 180:
            width, height, aspect = height, width, 1 / aspect
    return LoadedFilm(pixels, width, height, words.bits, inverted, aspect, greys, mirrored, turned, _said(dataset))


def _said(dataset: pydicom.Dataset) -> str:
    """Return `LoadedFilm.marked`: Synthetic Data (PS3.3 C.7.6.1) is YES, or a comment holds a known notice."""
    synthetic, *comments = (_bare_text(dataset, name) for name in _MARK_TAGS)
    return "synthetic" if synthetic.upper() == "YES" else said_of(comments)


def _flatten(dataset: pydicom.Dataset) -> None:
    """Copy the functional groups of the only frame to the top level: enhanced objects keep window and spacing there
    (C.7.6.16)."""
    groups = (group for name in _GROUPS for group in (dataset.get(name) or [])[:1])
    for macro in (element for group in groups for element in group if element.VR == "SQ"):
        for item in macro.value[:1]:
            for tag, element in item.items():
                if tag not in dataset and keyword_for_tag(tag) in _TAGS:
                    dataset[tag] = element


def _whole(dataset: pydicom.Dataset, name: str, default: int | None = None) -> int:
    value = next(iter(numbers(dataset, name)), default)
    if value is None:
        raise Refused(f"DICOM file without {name}")
    return int(value)  # int(nan) raises


def _frame(dataset: pydicom.Dataset) -> Frame:
    """Return the header's description of the pixels, checked before anything of that size is made."""
    photometric = str(dataset.get("PhotometricInterpretation") or "MONOCHROME2").strip(" \0")
    samples = _whole(dataset, "SamplesPerPixel", 1)
    if (samples, photometric) not in (*((1, name) for name in _ONE_CHANNEL), *((3, name) for name in _THREE_CHANNELS)):
        raise Refused("DICOM file in colour, not a plain film")
    if _whole(dataset, "NumberOfFrames", 1) not in (0, 1):
        raise Refused("DICOM file of more than one frame")
    rows, columns, allocated = (_whole(dataset, name) for name in ("Rows", "Columns", "BitsAllocated"))
    check_size(columns, rows)
    if allocated not in (8, 16):
        raise Refused("DICOM file of neither 8 nor 16 bits a pixel")
    stored = _whole(dataset, "BitsStored", allocated)
    if not 1 <= stored <= allocated:
        raise Refused("broken DICOM file (BitsStored)")
    high_bit = _whole(dataset, "HighBit", stored - 1)
    signed, planar = (_whole(dataset, name, 0) == 1 for name in ("PixelRepresentation", "PlanarConfiguration"))
    return Frame(rows, columns, samples, allocated, stored, high_bit, photometric, signed, planar)


def _words(dataset: pydicom.Dataset, frame: Frame, min_side: int) -> Words:
    """Return the stored words [h,w] in the low `bits` bits; three channels must be grey."""
    data, syntax = dataset.PixelData, UID(str(dataset.file_meta.get("TransferSyntaxUID") or ""))
    if not syntax or (syntax.is_transfer_syntax and not syntax.is_encapsulated):
        if dataset["PixelData"].is_undefined_length:
            raise Refused("DICOM file whose pixels are coded, though it says that they are not")
        big_endian = syntax == ExplicitVRBigEndian if syntax else not dataset.original_encoding[1]
        swapped = big_endian and frame.allocated == 8 and dataset["PixelData"].VR == "OW"
        words = native_words(data, frame, big_endian, swapped)
    elif syntax not in CODED:
        raise Refused(
            "DICOM file of a transfer syntax that is not "
            f"read{f' ({syntax.name})' if syntax.is_transfer_syntax else ''}"
        )
    else:
        bare = data.startswith(_PICTURES)  # against the standard: the coded picture without items round it
        words = coded_words(data if bare else get_frame(data, 0, number_of_frames=1), syntax, frame, min_side)
    return words if frame.samples == 1 else _grey_of_three(words)


def _grey_of_three(words: Words) -> Words:
    """Return the one grey of equal channels, or of a luma whose chroma is nil; the channels decide which."""
    step = max(1, min(words.values.shape[:2]) // 256)
    sample = words.values[::step, ::step].astype(np.int64)
    chroma = np.abs(sample[..., 1:] - 2 ** (words.bits - 1)).mean()
    spread = np.ptp(sample, axis=2).mean()
    if min(chroma, spread) > _GREY_TOLERANCE * 2**words.bits:
        raise Refused("DICOM file in colour, not a plain film")
    grey: Pixels = words.values[..., 0 if chroma < spread else 1]
    return Words(grey, words.bits)


def _shown(dataset: pydicom.Dataset, frame: Frame, words: Words, inverted: bool, min_side: int) -> tuple[Pixels, str]:
    """Return the film and how its greys were made: by the first of the file's tables and windows that does not blank
    it."""
    stored = np.arange(np.iinfo(words.values.dtype).max + 1) & (2**words.bits - 1)
    if frame.signed:
        stored -= (stored >> (words.bits - 1)) << words.bits
    if frame.photometric == "PALETTE COLOR":
        levels = _grey_palette(dataset, words, stored)
        return through_table(words.values, Greys("lut", levels)), "lut"
    refused: Refused | None = None
    padded = padding(dataset, stored)
    for greys in shown(dataset, stored, words.bits):
        try:
            return through_table(words.values, greys, inverted, padded, min_side), greys.how
        except Refused as error:
            refused = refused or error
    assert refused is not None
    raise refused


def _grey_palette(dataset: pydicom.Dataset, words: Words, stored: NDArray[np.int64]) -> NDArray[np.float64]:
    colours = palette(dataset, stored)
    if colours is None or np.average(np.ptp(colours, axis=0), weights=histogram(words.values)) > _GREY_TOLERANCE:
        raise Refused("DICOM file in colour, not a plain film")
    return colours[0]


def _pixel_aspect(dataset: pydicom.Dataset) -> float:
    """Return width / height of a pixel: spacings are row, column (PS3.3 10.7.1.1); the ratio is vertical, horizontal
    (C.7.6.3.1.7)."""
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        sides = numbers(dataset, name)
        if len(sides) == 2 and all(0 < side < np.inf for side in sides):
            aspect = sides[1] / sides[0]
            if not 1 / 4 <= aspect <= 4:
                raise Refused("absurd shape (pixels more than 1:4)")
            return 1.0 if abs(aspect - 1) < _SQUARE_TOLERANCE else aspect
    return 1.0


def _orientation(dataset: pydicom.Dataset) -> tuple[str, str] | None:
    """Return where rows and columns lead, by the main letter of each (PS3.3 C.7.6.1.1.1), or None if absent."""
    value = dataset.get("PatientOrientation")
    if not isinstance(value, (list, pydicom.multival.MultiValue)) or len(value) != 2:
        return None
    row, column = (str(item).strip().upper()[:1] for item in value)
    upright, across = (column, row) if column in ("H", "F") else (row, column)
    return (row, column) if upright in ("H", "F") and across in ("L", "R", "A", "P") else None


def _upright(pixels: Pixels, row: str, column: str) -> tuple[Pixels, bool, int]:
    """Return the film head up, whether it was mirrored left to right for that, and by how many degrees clockwise it was
    then turned.

    A frontal film gets the patient's right on the viewer's left, mirrored if need be; a lateral one is only turned,
    since it may face either way.
    """
    swapped = row in ("H", "F")
    if swapped:
        row, column = column, row
    upside_down = column == "H"
    mirror = row == "R" if row in ("L", "R") else swapped != upside_down  # of the film head up
    mirrored = (swapped != upside_down) != mirror  # rows and columns are swapped by a mirror image and a quarter turn
    turned = (90 if mirror else 270) if swapped else 180 * upside_down
    pixels = np.rot90(pixels[:, ::-1] if mirrored else pixels, -turned // 90)
    return np.ascontiguousarray(pixels), mirrored, turned  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """Facts of a header in the common vocabulary; `patient` and `study` are the file's own ids, for hashing only."""

    view: str = "unknown"
    sex: str = "unknown"
    age_years: float | None = None
    patient: str = ""
    study: str = ""
    sop_class: str = field(default="", compare=False)  # a UID
    no_film: str = ""  # "no film: DICOM …" for an object that is surely none


def read_dicom_header(source: Path | BinaryIO | bytes) -> DicomHeader:
    """Return the facts of a DICOM header; all unknown if the file is not DICOM or cannot be read.

    These tags and no others leave this module: View Position, View Code Sequence, Patient Orientation (for the view),
    Patient's Sex, Patient's Age, or else Patient's Birth Date with Study Date (for the age), Patient ID and Study
    Instance UID (for hashing only), and SOP Class UID, Modality and Image Type (for what the object is). The film
    itself is refused, with its reason, when it is decoded.
    """
    try:
        head = first_bytes(source, _HEAD_BYTES)
        with _parsing("broken DICOM file (its tags)"):
            if head[:2] == b"\x1f\x8b":
                head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, _HEAD_BYTES)
            if not is_dicom(head):
                return DicomHeader()
            dataset = _read(head, _HEADER_TAGS, stop_before_pixels=True)
            patient, study = (_text(dataset, name) for name in ("PatientID", "StudyInstanceUID"))
            sop_class = _text(dataset, "SOPClassUID") or _text(dataset.file_meta, "MediaStorageSOPClassUID")
            image_type = dataset.get("ImageType") or ()
            what = no_film(
                sop_class, _text(dataset, "Modality").upper(), image_type if isinstance(image_type, MultiValue) else ()
            )
            return DicomHeader(_view(dataset), _sex(dataset), _age_years(dataset), patient, study, sop_class, what)
    except (OSError, Refused):
        return DicomHeader()


def _text(dataset: pydicom.Dataset, name: str) -> str:
    return str(dataset.get(name) or "").strip(" \0")


def _bare_text(dataset: pydicom.Dataset, name: str) -> str:
    """As `_text`; a value that cannot be read by its VR gives its letters."""
    try:
        return _text(dataset, name)
    except Exception:  # whatever pydicom raises for an unknown VR or a wrong length
        value = dataset.get_item(name).value
        return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _sex(dataset: pydicom.Dataset) -> str:
    return read_sex(_text(dataset, "PatientSex")) or "unknown"


def _view(dataset: pydicom.Dataset) -> str:
    """Return the view that View Position and View Code agree on; unknown where they differ."""
    said = {read_view(_text(dataset, "ViewPosition"))} - {None, "unknown"}
    for item in dataset.get("ViewCodeSequence") or []:
        code = _text(item, "CodeValue").upper()
        said |= {view for view, codes in _VIEW_CODES.items() if code in codes}
    if not said and (orientation := _orientation(dataset)) and set(orientation) & {"A", "P"}:
        return "lateral"
    if said == {"AP", "AP_supine"}:  # codes do not state how the patient lay
        return "AP_supine"
    return said.pop() or "unknown" if len(said) == 1 else "unknown"


def _age_years(dataset: pydicom.Dataset) -> float | None:
    """Return Patient's Age, or else the age by the dates; a number without the unit that PS3.5 requires is in years, as
    in RSNA's release."""
    text = _text(dataset, "PatientAge")
    born, filmed = (_date(_text(dataset, name)) for name in ("PatientBirthDate", "StudyDate"))
    if born and filmed and (is_missing(text) or text.isdecimal()):
        age = (filmed - born).days / DAYS_PER_YEAR
        return age if 0 <= age <= MAX_AGE else None
    return read_age(text)


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text.replace(".", ""), "%Y%m%d").date()  # dots: before DICOM 3
    except ValueError:
        return None


def gunzip(data: bytes, max_bytes: int) -> bytes:
    """Return the content of one gzip member. Raises Refused when it is damaged, cut off, or larger than `max_bytes`."""
    unzipper = zlib.decompressobj(zlib.MAX_WBITS | 16)
    with _parsing("damaged gzip file"):
        plain = unzipper.decompress(data, max_bytes)
    if unzipper.unconsumed_tail:
        raise Refused("absurd size")
    if not unzipper.eof:
        raise Refused("truncated file")
    if unzipper.unused_data.strip(b"\0"):
        raise Refused("more than one file in the gzip file")
    return plain
