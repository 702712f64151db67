"""Phantom films as the DICOM files of a collection: 16 bits allocated, both photometric interpretations, with or
without a window.

Every file states that it shows no patient. Unique ids are derived from the film's id, so a film always gives the same
file.
"""

import hashlib
import io
from collections.abc import Mapping

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)

from thiscxr.phantom.releases.encode import jpeg2000
from thiscxr.pixels import Pixels

EXPLICIT, IMPLICIT, JPEG_2000 = ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless


def _uid(name: str) -> UID:
    return UID(f"2.25.{int(hashlib.sha256(name.encode()).hexdigest()[:32], 16)}")  # PS3.5 B.2: an integer of 128 bits


def dicom(
    pixels: Pixels, bits: int, name: str, study: str, tags: Mapping[str, object], syntax: UID = EXPLICIT
) -> bytes:
    """Return the DICOM file of uint16 pixels [h, w] that use `bits` bits.

    name, study: ids that the UIDs are made of. tags: further attributes by keyword; with PhotometricInterpretation
    MONOCHROME1 the stored values are the film's negative. syntax: EXPLICIT, IMPLICIT (which older archives send) or
    JPEG_2000 (lossless).
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = _uid(name)
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = _uid("thiscxr phantom")
    # otherwise pydicom writes its own, and the bytes change with its version
    meta.ImplementationVersionName = "THISCXR_PHANTOM"
    file = pydicom.Dataset()
    file.file_meta = meta
    file.SOPClassUID = meta.MediaStorageSOPClassUID
    file.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    file.StudyInstanceUID, file.SeriesInstanceUID = _uid(study), _uid(f"{name} series")
    file.Modality, file.BodyPartExamined, file.Manufacturer = "DX", "CHEST", ""
    file.PatientName, file.ImageComments = "", "Procedural phantom: computed from a seed, no patient, not for diagnosis"
    file.PhotometricInterpretation = "MONOCHROME2"
    for keyword, value in tags.items():
        setattr(file, keyword, value)
    negative = file.PhotometricInterpretation == "MONOCHROME1"
    stored = np.uint16(2**bits - 1) - pixels if negative else pixels
    file.SamplesPerPixel, file.PixelRepresentation, file.PresentationLUTShape = (
        1,
        0,
        "INVERSE" if negative else "IDENTITY",
    )
    file.Rows, file.Columns = stored.shape
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, bits, bits - 1
    file.PixelData = encapsulate([jpeg2000(stored)]) if syntax == JPEG_2000 else stored.astype("<u2").tobytes()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file, implicit_vr=syntax == IMPLICIT, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()
