"""Films as DICOM files: what a modality would send, plainly marked as synthetic.

Secondary Capture (PS3.3 A.8) or Digital X-Ray for presentation (PS3.3 A.26). Every file states that it is synthetic
in its patient's name and id, Synthetic Data, Image Type, its comments and, unless that is turned off, its pixels. There
are no private attributes, and nothing depends on the clock: the same film always gives the same file.
"""

import importlib.util
import io
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

import thiscxr
from thiscxr.marks import NOTICE
from thiscxr.pixels import Pixels
from thiscxr.pixels.mark import marked
from thiscxr.sample.formats import Format
from thiscxr.sample.provenance import Film

CLASSES = {"sc": SecondaryCaptureImageStorage, "dx": DigitalXRayImageStorageForPresentation}
PHOTOMETRICS = ("MONOCHROME2", "MONOCHROME1")
COMPRESSIONS = {"none": ExplicitVRLittleEndian, "rle": RLELossless, "j2k": JPEG2000Lossless}
FIELD_MM = 350.0  # width of the field of view that a DX file claims; invented, and the file states that

_SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "thiscxr")  # the namespace of all our UIDs
# View Position (PS3.3 C.8.11.5.1) and View Code (PS3.16 CID 4010) of our views; others have neither.
_VIEWS = {
    "PA": ("PA", "272479007", "postero-anterior"),
    "AP": ("AP", "399348003", "antero-posterior"),
    "AP_supine": ("AP", "399348003", "antero-posterior"),
    "lateral": ("LL", "399173006", "left lateral"),
}


@dataclass(frozen=True)
class DicomOptions:
    """How films become DICOM files. Raises ValueError for options that DICOM or this machine does not support."""

    sop_class: str = "sc"  # sc or dx
    bits: int = 12  # stored, 8 to 16
    photometric: str = "MONOCHROME2"  # or MONOCHROME1, which stores the negative
    compress: str = "none"  # rle or j2k, both lossless
    mark: bool = True  # burn the word SYNTHETIC in

    def __post_init__(self) -> None:
        for name, known in (("sop_class", CLASSES), ("photometric", PHOTOMETRICS), ("compress", COMPRESSIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is '{getattr(self, name)}', but must be one of {', '.join(known)}")
        if not 8 <= self.bits <= 16:
            raise ValueError(f"bits is {self.bits}, but must be from 8 to 16")
        if self.compress == "j2k" and not all(map(importlib.util.find_spec, ("pylibjpeg", "openjpeg"))):
            raise ValueError(
                "JPEG 2000 needs pylibjpeg and pylibjpeg-openjpeg; install it with: pip install 'thiscxr[dicom]'"
            )


def dicom_format(options: DicomOptions) -> Format:
    """Return the format of a sample folder of DICOM files."""

    def encode(pixels: Pixels, films: Sequence[Film]) -> bytes:
        return dicom_bytes(dicom_dataset(pixels[0], films[0], options))

    return Format("dicom", ".dcm", options.bits, encode, options=str(options))


def uid(*words: object) -> UID:
    """Return a UID of 2.25 and the integer of a UUID (PS3.5 B.2) that is a function of the words alone."""
    return UID(f"2.25.{_uuid(*words).int}")


def _uuid(*words: object) -> uuid.UUID:
    return uuid.uuid5(_SPACE, "/".join(map(str, words)))


def dicom_dataset(pixels: Pixels, film: Film, options: DicomOptions) -> Dataset:
    """Return the data set of one film: pixels [h, w] of `options.bits` bits, 0 black. Written by `dicom_bytes`."""
    requested = film.requested
    # One seed is one invented patient, whatever film is requested; another sex or age makes another patient.
    if film.condition.age_years is not None:
        requested["age_years"] = repr(float(film.condition.age_years))  # in full precision
    person = (film.origin.sha256, film.seed, requested.get("sex", ""), requested.get("age_years", ""))
    # The same request in two views is one study of two series; each visit of a follow-up series is a study of its own.
    but_view = sorted(item for item in requested.items() if item[0] != "view")
    visit = (film.visit, repr(film.visit.strength)) if film.visit else ()  # in full precision, too
    study = (*person, *but_view, film.truncation, *visit)
    exposure = (*study, *((requested["view"],) if "view" in requested else ()))
    # Everything that changes the file enters its UID: one instance has one set of attributes.
    instance = uid("instance", *exposure, options, film.origin.restriction, thiscxr.__version__)
    dataset = Dataset()
    dataset.file_meta = _meta(CLASSES[options.sop_class], instance)
    _set(dataset, {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["DERIVED", "SECONDARY"],
        "SOPClassUID": CLASSES[options.sop_class],
        "SOPInstanceUID": instance,
        "StudyInstanceUID": uid("study", *study),
        "SeriesInstanceUID": uid("series", *exposure, options.sop_class),
        "SyntheticData": "YES",
        **_patient(film, person),
        **_visit(film, study),
        **_equipment(film),
        "SeriesNumber": 2 if film.condition.view == "lateral" else 1,
        "InstanceNumber": 1,
        "BodyPartExamined": "CHEST",
        "ImageComments": _comments(film),
        "DerivationDescription": _derivation(film),
        "BurnedInAnnotation": "YES" if options.mark else "NO",
        "LossyImageCompression": "00",
        **_view(film),
    })  # fmt: skip
    _set(dataset, _sc() if options.sop_class == "sc" else _dx(pixels.shape, film, options))
    _set_pixels(dataset, pixels, options)
    return dataset


def dicom_bytes(dataset: Dataset) -> bytes:
    """Return a data set as a file, with a preamble of zeros; the same data set gives the same bytes."""
    file = io.BytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def _set(dataset: Dataset, values: Mapping[str, object]) -> None:
    for keyword, value in values.items():
        setattr(dataset, keyword, value)


def _item(values: Mapping[str, object]) -> Dataset:
    item = Dataset()
    _set(item, values)
    return item


def _code(value: str, meaning: str, scheme: str = "SCT") -> Dataset:
    return _item({"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning})


def _meta(sop_class: UID, instance: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid("implementation")
    # otherwise pydicom writes its own, and the bytes change with its version
    meta.ImplementationVersionName = f"THISCXR_{thiscxr.__version__}"[:16]
    return meta


def _patient(film: Film, person: Sequence[object]) -> dict[str, object]:
    """Patient and Patient Study modules: a person whose name states that they are synthetic."""
    age, today = film.condition.age_years, _study_day(film)
    born = None
    if age is not None:  # on the first visit
        first = today - timedelta(days=film.visit.day if film.visit else 0)
        # infants: by month
        grown, within = (round(int(age) * 365.25), 363) if age >= 2 else (round(int(age * 12) * 30.4375) + 2, 24)
        born = first - timedelta(days=grown + 1 + _uuid("birthday", *person).int % within)
    return {
        "PatientName": f"SYNTHETIC^SEED {film.seed}",
        "PatientID": f"SYN-{_uuid('patient', *person).hex[:16].upper()}",
        "PatientBirthDate": f"{born:%Y%m%d}" if born else "",
        "PatientSex": film.condition.sex or "",
        "PatientAge": _age(born, today) if born else "",
        "PatientComments": NOTICE,
    }


def _study_day(film: Film) -> date:
    # to the end of 2020
    first = date(2001, 1, 1) + timedelta(days=_uuid("day", film.origin.sha256, film.seed).int % 7300)
    return first + timedelta(days=film.visit.day if film.visit else 0)


def _age(born: date, today: date) -> str:
    """Return an age as DICOM writes it: in years, below 2 years in months."""
    months = 12 * (today.year - born.year) + today.month - born.month - (today.day < born.day)
    return f"{months // 12:03d}Y" if months >= 24 else f"{months:03d}M"


def _visit(film: Film, study: Sequence[object]) -> dict[str, object]:
    """General Study, Series and Image modules: invented dates."""
    # in working hours
    day, second = _study_day(film), 8 * 3600 + _uuid("time", film.origin.sha256, film.seed).int % 36_000
    time = f"{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}"
    dates = {f"{level}Date": f"{day:%Y%m%d}" for level in ("Study", "Series", "Content", "Acquisition")}
    times = {f"{level}Time": time for level in ("Study", "Series", "Content", "Acquisition")}
    return {
        **dates,
        **times,
        "AccessionNumber": f"SYN{_uuid('accession', *study).hex[:12].upper()}",
        "StudyID": str(film.seed),
        "ReferringPhysicianName": "",
        "StudyDescription": "Synthetic chest x-ray, not a patient",
        "SeriesDescription": "Synthetic, not for diagnosis; dates are invented",
    }


def _equipment(film: Film) -> dict[str, object]:
    """General Equipment, and the network as Contributing Equipment (PS3.3 C.12.1)."""
    network = _item({
        "PurposeOfReferenceCodeSequence": [_code("109102", "Processing Equipment", "DCM")],
        "Manufacturer": "thiscxr",
        "ManufacturerModelName": film.origin.name[:64],
        "SoftwareVersions": thiscxr.__version__,
        "DeviceSerialNumber": film.origin.sha256,
        "ContributionDescription": _derivation(film),
    })  # fmt: skip
    return {
        "Manufacturer": "thiscxr",
        "ManufacturerModelName": film.origin.name[:64],
        "SoftwareVersions": thiscxr.__version__,
        "InstitutionName": "SYNTHETIC",
        "ContributingEquipmentSequence": [network],
    }


def _derivation(film: Film) -> str:
    network = f"neural network {film.origin.name} (SHA-256 {film.origin.sha256})"
    source = f"seed {film.seed}, truncation {film.truncation}"
    return f"Synthetic: generated by the {network} from {source}. Nobody was exposed."


def _comments(film: Film) -> str:
    return " ".join(filter(None, (NOTICE, film.requested_words, film.origin.terms)))


def _view(film: Film) -> dict[str, object]:
    """View and orientation as requested; generated films are upright, the patient's right on the viewer's left."""
    view = film.condition.view or ""
    values: dict[str, object] = {"PatientOrientation": ["P", "F"] if view == "lateral" else ["L", "F"]}
    if view in _VIEWS:
        position, code, meaning = _VIEWS[view]
        values |= {"ViewPosition": position, "ViewCodeSequence": [_code(code, meaning)]}
    return values


def _sc() -> dict[str, object]:
    """SC Equipment and SC Image modules (PS3.3 C.8.6); without pixel spacing, which is unknown."""
    return {"Modality": "OT", "ConversionType": "SYN", "SecondaryCaptureDeviceManufacturer": "thiscxr"}


def _dx(shape: tuple[int, ...], film: Film, options: DicomOptions) -> dict[str, object]:
    """DX Series, Anatomy Imaged, Image, Positioning and Detector modules (PS3.3 C.8.11)."""
    spacing = f"{FIELD_MM / shape[0]:.6g}"
    lying = _code("102538003", "recumbent")
    lying.PatientOrientationModifierCodeSequence = [_code("40199007", "supine")]
    return {
        **({"PatientOrientationCodeSequence": [lying]} if film.condition.view == "AP_supine" else {}),
        "Modality": "DX",
        "PresentationIntentType": "FOR PRESENTATION",
        "ImageLaterality": "U",
        "AnatomicRegionSequence": [_code("51185008", "Chest")],
        "PixelIntensityRelationship": "LOG",
        "PixelIntensityRelationshipSign": -1 if options.photometric == "MONOCHROME2" else 1,
        "RescaleIntercept": "0",
        "RescaleSlope": "1",
        "RescaleType": "US",
        "PresentationLUTShape": "IDENTITY" if options.photometric == "MONOCHROME2" else "INVERSE",
        "PositionerType": "",
        "DetectorType": "",
        "DetectorDescription": f"None. Pixel spacing is invented: {FIELD_MM:g} mm wide, nothing was measured.",
        "ImagerPixelSpacing": [spacing, spacing],
        "AcquisitionContextSequence": [],
    }


def _set_pixels(dataset: Dataset, pixels: Pixels, options: DicomOptions) -> None:
    """Image Pixel and VOI LUT modules; the window is the whole range, so the film is shown as it was generated."""
    top = 2**options.bits - 1
    stored = marked(pixels, top) if options.mark else pixels
    if options.photometric == "MONOCHROME1":
        stored = (top - stored.astype(np.int64)).astype(pixels.dtype)
    allocated = 8 if options.bits == 8 else 16
    _set(dataset, {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": options.photometric,
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "BitsAllocated": allocated,
        "BitsStored": options.bits,
        "HighBit": options.bits - 1,
        "PixelRepresentation": 0,
        "WindowCenter": str(2 ** (options.bits - 1)),
        "WindowWidth": str(2**options.bits),
        "WindowCenterWidthExplanation": "FULL RANGE",
    })  # fmt: skip
    data = stored.astype("u1" if allocated == 8 else "<u2").tobytes()
    dataset.PixelData = data + bytes(len(data) % 2)
    dataset["PixelData"].VR = "OB" if allocated == 8 else "OW"
    if options.compress != "none":
        plugin = {"rle": "pydicom", "j2k": "pylibjpeg"}[options.compress]
        dataset.compress(COMPRESSIONS[options.compress], encoding_plugin=plugin, generate_instance_uid=False)
