"""How the stored values of a DICOM file are displayed: modality LUT, VOI LUT, windows, palettes, padding (PS3.3 C.7,
C.11).

Entries without content (an empty item, a window of width 0, a slope of 0 or without an intercept) count as absent, as
in dcmtk.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement

from thiscxr.pixels.grey import Greys, Refused

DISPLAY_TAGS = [
    "BluePaletteColorLookupTableData", "BluePaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableDescriptor", "ModalityLUTSequence", "PixelPaddingRangeLimit", "PixelPaddingValue",
    "PresentationLUTShape", "RedPaletteColorLookupTableData", "RedPaletteColorLookupTableDescriptor",
    "RescaleIntercept", "RescaleSlope", "VOILUTFunction", "VOILUTSequence", "WindowCenter", "WindowWidth",
]  # fmt: skip
_AS_IT_IS_BITS = 8


def numbers(dataset: pydicom.Dataset, name: str) -> list[float]:
    """Return the numbers of a tag that may be absent, empty, single or multiple, nan for an entry that is no number; a
    decimal comma is accepted."""
    element = dataset.get_item(name)
    if element is None or element.value is None:
        return []
    value: Any = element.value
    if isinstance(element, RawDataElement):
        vr = element.VR if element.VR not in (None, "UN") else dictionary_VR(element.tag)
        value = value.decode("latin-1").split("\\") if vr in ("DS", "IS", "CS", "LO", "SH") else dataset[name].value
    items = list(value) if isinstance(value, (list, pydicom.multival.MultiValue)) else [value]
    while items and str(items[-1]).strip(" \0") == "":  # a backslash at the end
        items.pop()
    return [_number(item) for item in items]


def _number(value: Any) -> float:
    try:
        return float(value.strip(" \0").replace(",", ".") if isinstance(value, str) else value)
    except (TypeError, ValueError):
        return nan


def is_negative(dataset: pydicom.Dataset) -> bool:
    """Return whether low values are bright; Presentation LUT Shape, where present, goes before MONOCHROME1 (C.11.6), as
    in dcmtk."""
    shape = str(dataset.get("PresentationLUTShape") or "").strip().upper()
    return (
        shape == "INVERSE"
        if shape in ("IDENTITY", "INVERSE")
        else dataset.get("PhotometricInterpretation") == "MONOCHROME1"
    )


def padding(dataset: pydicom.Dataset, stored: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """Return which words are padding (C.7.5.1.1.2), or None; stored: the value of each word."""
    ends = [
        word for name in ("PixelPaddingValue", "PixelPaddingRangeLimit") for word in _words(dataset, name)[:1].tolist()
    ]
    if not ends or dataset.get("SamplesPerPixel") == 3:
        return None
    if stored.min() < 0:
        ends = [word - 65536 if word >= 32768 else word for word in ends]
    if all(stored.min() <= end <= stored.max() for end in ends):
        return (stored >= min(ends)) & (stored <= max(ends))
    words = np.arange(len(stored))  # a value beyond BitsStored: compared with the whole word
    return (words >= min(ends) % 65536) & (words <= max(ends) % 65536)


def shown(dataset: pydicom.Dataset, stored: NDArray[np.int64], bits: int) -> Iterator[Greys]:
    """Yield the greys of each VOI LUT and window, in order; without any, the default alone.

    stored: int64 [256 or 65536], the value of each word; bits: BitsStored.
    """
    if dataset.get("SamplesPerPixel") == 3:  # C.11 is for one channel
        yield _default(stored.astype(np.float64), 0, 2**bits - 1, bits)
        return
    values, low, high, bits = _modality(dataset, stored, bits)
    found = False
    for item in dataset.get("VOILUTSequence") or []:
        if table := _table(item, "LUTDescriptor", "LUTData", values.min() < 0):
            found = True
            yield Greys("lut", table.of(values) / (2**table.bits - 1))
    function = str(dataset.get("VOILUTFunction") or "").strip().upper()
    for center, width in zip(numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth"), strict=False):
        if isfinite(center) and 0 < width < np.inf:
            found = True
            yield Greys("sigmoid" if function == "SIGMOID" else "window", _window(values, center, width, function))
    if not found:
        yield _default(values, low, high, bits)


def _default(values: NDArray[np.float64], low: float, high: float, bits: int) -> Greys:
    """Return values of at most 8 bits unchanged, as in a PNG; deeper ones seldom fill their range and are stretched by
    percentiles."""
    return Greys("as stored", (values - low) / (high - low)) if bits <= _AS_IT_IS_BITS else Greys("percentiles", values)


def _modality(
    dataset: pydicom.Dataset, stored: NDArray[np.int64], bits: int
) -> tuple[NDArray[np.float64], float, float, int]:
    """Return the values after C.11.1, the ends of their range, and their bits."""
    for item in dataset.get("ModalityLUTSequence") or []:
        if table := _table(item, "LUTDescriptor", "LUTData", stored.min() < 0):
            return table.of(stored), 0, 2**table.bits - 1, table.bits if bits <= _AS_IT_IS_BITS else bits
    slope, intercept = (next(iter(numbers(dataset, name)), None) for name in ("RescaleSlope", "RescaleIntercept"))
    values = stored.astype(np.float64)
    if slope and intercept is not None:
        values = values * slope + intercept
        if not np.isfinite(values).all():
            raise Refused("pixels that are not finite (NaN or infinity)")
    return values, values.min(), values.max(), bits


def _window(values: NDArray[np.float64], center: float, width: float, function: str) -> NDArray[np.float64]:
    """Return the windowed values in [0, 1]. Source: C.11.2.1.2.1 (LINEAR) and C.11.2.1.3 (the others).

    LINEAR is defined from a width of 1 on; a narrower window, of values that were scaled down, is LINEAR_EXACT.
    """
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function != "LINEAR_EXACT" and width >= 1:
        if width == 1:
            return (values > center - 0.5).astype(np.float64)
        center, width = center - 0.5, width - 1
    return np.clip((values - center) / width + 0.5, 0, 1)


@dataclass(frozen=True, slots=True)
class _Table:
    """A look-up table: `entries` from the value `first` on, each of `bits` bits."""

    first: int
    entries: NDArray[np.int64]
    bits: int

    def of(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the entry of each value; values below and above get the first and the last entry."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return self.entries[index].astype(np.float64)


def _table(dataset: pydicom.Dataset, descriptor: str, data: str, signed: bool) -> _Table | None:
    """Return a look-up table, or None for one without entries. signed: its first value may be below zero, whatever its
    VR.

    Entries of up to 8 bits may be packed two in a word (C.11.1.1.1). Where the data are shorter than in their
    descriptor, or need more bits, the data count.
    """
    words, said = _words(dataset, data), _words(dataset, descriptor)
    if not len(words):
        return None
    if len(said) != 3:
        raise Refused("broken DICOM file (its look-up tables or window)")
    count, first, bits = (int(word) for word in said)
    count = count or 65536
    if bits <= 8 and len(words) == (count + 1) // 2:
        words = words.astype("<u2").view(np.uint8)
    entries = words[:count].astype(np.int64)
    if not (1 <= bits <= 16 and entries.max() < 2**bits):
        bits = max(8, int(entries.max()).bit_length())
    signed = signed or dataset.get_item(descriptor).VR == "SS"
    return _Table(first - 65536 if signed and first >= 32768 else first, entries, bits)


def _words(dataset: pydicom.Dataset, name: str) -> NDArray[np.uint16]:
    """Return the 16-bit words of a tag that is US, SS, OW or OB; none where it is absent or empty."""
    element = dataset.get_item(name)
    value = None if element is None else element.value
    if value is None:
        return np.zeros(0, np.uint16)
    if isinstance(value, bytes):
        little = element.VR == "OB" or getattr(element, "is_little_endian", True)
        return np.frombuffer(value + bytes(len(value) % 2), "<u2" if little else ">u2").astype(np.uint16)
    return (np.atleast_1d(np.asarray(value, np.int64)) & 0xFFFF).astype(np.uint16)


def palette(dataset: pydicom.Dataset, stored: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Return red, green and blue of each word in [0, 1] (C.7.6.3.1.5), float64 [3, n], or None without the tables."""
    names = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
    tables = [_table(dataset, f"{name}Descriptor", f"{name}Data", bool(stored.min() < 0)) for name in names]
    return np.stack([table.of(stored) / (2**table.bits - 1) for table in tables if table]) if all(tables) else None
