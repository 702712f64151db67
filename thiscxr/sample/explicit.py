"""DICOM attributes as bytes: explicit VR, little endian (PS3.5, section 7 and annex A.2), without a data set in between.

pydicom checks and converts each value, which takes longer than to draw the film itself; that what stands here is right is for the tests to
say, with pydicom and dciodvfy.
"""

import struct
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import UID

LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT", b"UC", b"UR", b"OF", b"OD", b"OL", b"OV", b"SV", b"UV")  # VRs with four bytes of length
_UNDEFINED = 0xFFFFFFFF
_NUMBERS = {b"US": "H", b"SS": "h", b"UL": "I"}
_META = 0x00020000
_PIXELS = 0x7FE00010


def data_element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Return one data element (PS3.5, section 7.1.2); length: what it says of its value, where that is not true."""
    size = len(value) if length is None else length
    long = vr in LONG or not vr.isalpha()
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    return head + (struct.pack("<2xI", size) if long else struct.pack("<H", size & 0xFFFF)) + value


def attributes(values: Mapping[str, Any]) -> bytes:
    """Return attributes by keyword in the order of their tags: text, whole numbers, lists of either, and lists of items (mappings).

    Text is UTF-8. Raises ValueError for text with a backslash, which would be two values.
    """
    parts = (_again(keyword, value) if isinstance(value, str | int) else _attribute(keyword, value) for keyword, value in values.items())
    return b"".join(data for _, data in sorted(parts))


def pixel_data(vr: bytes, data: bytes, encapsulated: bool = False) -> bytes:
    """Return Pixel Data, the last element of a film; encapsulated: frames of a compressed film (PS3.5, annex A.4)."""
    if encapsulated:
        return data_element(_PIXELS, vr, data, _UNDEFINED) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return data_element(_PIXELS, vr, data + bytes(len(data) % 2))


def file_meta(sop_class: UID, instance: UID, syntax: UID, implementation: UID, version: str) -> bytes:
    """Return what stands before the attributes: a preamble of zeros, and the file meta information (PS3.10, section 7.1)."""
    meta = data_element(_META | 1, b"OB", b"\0\1") + attributes({
        "MediaStorageSOPClassUID": sop_class,
        "MediaStorageSOPInstanceUID": instance,
        "TransferSyntaxUID": syntax,
        "ImplementationClassUID": implementation,
        "ImplementationVersionName": version,
    })  # fmt: skip
    return bytes(128) + b"DICM" + data_element(_META, b"UL", struct.pack("<I", len(meta))) + meta


def _attribute(keyword: str, value: Any) -> tuple[int, bytes]:
    tag, vr = _known(keyword)
    return tag, data_element(tag, vr, _value(vr, value))


_again = lru_cache(maxsize=1024)(_attribute)  # most of what films say is the same in all of them


@cache
def _known(keyword: str) -> tuple[int, bytes]:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag, dictionary_VR(tag).encode()


def _value(vr: bytes, value: Any) -> bytes:
    values = value if isinstance(value, list) else [value]
    if vr == b"SQ":
        items = [attributes(item) for item in values]
        return b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item for item in items)
    if vr in _NUMBERS:
        return struct.pack(f"<{len(values)}{_NUMBERS[vr]}", *values)
    words = [str(one) for one in values]
    if any("\\" in word for word in words):
        raise ValueError(f"{words} holds a backslash, which no value in a DICOM file can")
    text = "\\".join(words).encode()
    return text + (b"\0" if vr == b"UI" else b" ") * (len(text) % 2)
