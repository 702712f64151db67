"""Kinds of DICOM objects that are no plain films: archives export presentation states, reports and key objects beside
the films.

Only sure cases count: an object of an unknown class, or of none, may be a film until its pixels are read.
"""

from collections.abc import Collection

from pydicom.uid import UID

# Slices, photographs and curves (PS3.3 C.7.3.1.1.1), and objects without pixels whose class some writers leave out.
_OTHER = ("CT", "ECG", "ES", "GM", "IVUS", "MR", "NM", "OCT", "OP", "PT", "SM", "US", "XC")
_NO_PIXELS = ("AU", "DOC", "HD", "KO", "PLAN", "PR", "REG", "RTDOSE", "RTPLAN", "RTRECORD", "RTSTRUCT", "SEG", "SR")
_PLAIN = ("Computed Radiography", "Digital X-Ray")  # a file of these classes is a film, whatever its other tags


def no_film(sop_class: str, modality: str, image_type: Collection[str]) -> str:
    """Return "no film: DICOM …" for an object that is surely no film, else an empty string.

    sop_class: a UID; its name is taken from the list in PS3.6. image_type: values of Image Type; LOCALIZER marks a
    scout view.
    """
    name = UID(sop_class).name if UID(sop_class).is_valid else ""
    known = name != sop_class and name != ""
    if known and "Image Storage" not in name:
        return f"no film: DICOM {name.removesuffix(' Storage')}"
    if "LOCALIZER" in image_type:
        return "no film: DICOM localizer"
    if modality in (*_OTHER, *_NO_PIXELS) and not name.startswith(_PLAIN):
        return f"no film: DICOM {modality}"
    return ""
