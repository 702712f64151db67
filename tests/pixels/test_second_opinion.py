"""A second opinion: films as dcmtk's dcm2pnm shows them, by the first VOI LUT or window of their header, against ours.

`python tests/pixels/test_second_opinion.py FOLDER ...` prints for every DICOM file there what becomes of it and how far
it is from dcmtk's.
"""

import gzip
import io
import shutil
import subprocess
import sys
import tempfile
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from PIL import Image

from tests.films import DEEP, RAMP, dicom, lut_item, smooth
from thiscxr import pixels as px

PROGRAMS = ("dcm2pnm", "dcmj2pnm", "dcml2pnm")  # uncompressed and RLE, JPEG, JPEG-LS; Debian's dcmtk has no JPEG 2000


def display(data: bytes) -> list[str] | None:
    """Return dcm2pnm's options for the first display setting of a header, [] without any, None if it is no single
    grey picture."""
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    if "PixelData" not in dataset or dataset.get("SamplesPerPixel") != 1 or int(dataset.get("NumberOfFrames") or 1) > 1:
        return None
    tables = dataset.get("VOILUTSequence") or []
    if tables and "LUTData" in tables[0]:
        return ["+Wl", "1"]
    try:
        widths = np.atleast_1d(np.asarray(dataset.get("WindowWidth") or [], float)).ravel()
    except ValueError:
        return []
    return next((["+Wi", str(index + 1)] for index, width in enumerate(widths) if width > 0), [])


def as_dcmtk(data: bytes, options: list[str]) -> np.ndarray | None:
    """Return a film as dcmtk shows it, float in [0, 1], or None where it does not."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.dcm").write_bytes(data)
        for program in filter(shutil.which, PROGRAMS):
            subprocess.run(
                [program, "-q", "-O", "+on2", *options, f"{folder}/a.dcm", f"{folder}/a.png"], capture_output=True
            )
            if (Path(folder) / "a.png").is_file():
                with Image.open(f"{folder}/a.png") as image:
                    found = np.asarray(image).astype(float)
                    return found / (65535 if image.mode.startswith("I") else 255) if found.ndim == 2 else None
    return None


def difference(film: px.LoadedFilm, shown: np.ndarray, said: bool) -> tuple[float, float]:
    """Return the mean and the largest difference in levels of 256; a film without its own display is stretched, as in
    docs/data.md.

    Films that their header turns are compared in the best of the eight orientations.
    """
    if not said and film.native_bits > 8:
        box = px.content_box((shown * 65535).astype(np.uint16))
        inner = shown[box[1] : box[3], box[0] : box[2]]
        low, high = np.percentile(inner, (0.5, 99.5))
        shown = np.clip(
            (inner if inner.shape in (film.pixels.shape, film.pixels.shape[::-1]) else shown) - low, 0, None
        ) / (high - low)
    ours = px.to_bits(film.pixels, 16) / 257
    turned = (np.rot90(255 * np.clip(shown, 0, 1), times)[::mirror] for times, mirror in product(range(4), (1, -1)))
    off = [np.abs(ours - one) for one in turned if one.shape == ours.shape]
    return min(((float(one.mean()), float(one.max())) for one in off), default=(255.0, 255.0))


def against_dcmtk(data: bytes) -> tuple[str, str]:
    """Return why a file is refused ("" if it is not), and its difference from dcmtk's (in levels of 256), as text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            options = display(data)
        except Exception:  # whatever pydicom raises: the file is one that it cannot read
            options = None
        shown = None if options is None else as_dcmtk(data, options)
        try:
            film = px.load_film(data)
        except ValueError as error:
            return str(error), "" if shown is None else (
                f"dcmtk shows it: {255 * shown.min():.0f} to {255 * shown.max():.0f}"
            )
    if shown is None:
        return "", "dcmtk does not show it"
    mean, most = difference(film, shown, bool(options))
    return "", f"{mean:.1f} ({most:.0f} at most)"


def dcm2pnm() -> None:
    if shutil.which("dcm2pnm") is None:
        pytest.skip("dcm2pnm is not installed (Debian: apt-get install dcmtk)")


WINDOW = {"WindowCenter": 2000, "WindowWidth": 2801}
CURVE = np.rint((np.arange(4096) / 4095) ** 0.5 * 4095).astype(int)
SIGNED = DEEP.astype(np.int16) - 2048
CASES = {
    "window": dicom(DEEP, **WINDOW),
    "window, negative": dicom(DEEP, photometric="MONOCHROME1", **WINDOW),
    "two windows": dicom(DEEP, WindowCenter=[2000, 5], WindowWidth=[2801, 5]),
    "window beside a table": dicom(DEEP, VOILUTSequence=[lut_item(0, CURVE, 12)], **WINDOW),
    "sigmoid": dicom(DEEP, VOILUTFunction="SIGMOID", **WINDOW),
    "narrow": dicom(DEEP, WindowCenter=2000, WindowWidth=1),
    "identity": dicom(DEEP, photometric="MONOCHROME1", PresentationLUTShape="IDENTITY", **WINDOW),
    "inverse": dicom(DEEP, PresentationLUTShape="INVERSE", **WINDOW),
    "rescaled": dicom(DEEP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=3000, WindowWidth=4000),
    "falling": dicom(DEEP, RescaleSlope=-1, RescaleIntercept=4095, **WINDOW),
    "slope alone": dicom(DEEP, RescaleSlope=2, **WINDOW),
    "slope of 0": dicom(DEEP, RescaleSlope=0, RescaleIntercept=7, **WINDOW),
    "no intercept": dicom(DEEP, RescaleSlope=2, RescaleIntercept=None, **WINDOW),
    "table of 8 bits": dicom(DEEP, VOILUTSequence=[lut_item(0, CURVE // 16, 8)]),
    "packed table": dicom(DEEP, VOILUTSequence=[lut_item(0, CURVE // 16, 8, "packed")]),
    "table of 9 bits": dicom(DEEP, VOILUTSequence=[lut_item(0, CURVE // 8, 9)]),
    "table of 12 bits that says 16": dicom(DEEP, VOILUTSequence=[lut_item(0, CURVE, 16)]),
    "part of a table": dicom(DEEP, VOILUTSequence=[lut_item(1000, np.arange(0, 60000, 60), 16)]),
    "signed table": dicom(SIGNED, VOILUTSequence=[lut_item(-2048, CURVE, 12)]),
    "rescaled table": dicom(DEEP, RescaleSlope=1, RescaleIntercept=-2048, VOILUTSequence=[lut_item(-2048, CURVE, 12)]),
    "modality table": dicom(DEEP, ModalityLUTSequence=[lut_item(0, CURVE, 12)], **WINDOW),
    "modality table alone": dicom(DEEP, ModalityLUTSequence=[lut_item(0, CURVE, 12)]),
    "signed modality table": dicom(SIGNED, ModalityLUTSequence=[lut_item(-2048, CURVE, 12)]),
    "twelve bits": dicom(smooth(60, 64, 12)),
    "eight bits": dicom(RAMP // 2, 8),
    "eight bits, negative": dicom(RAMP, 8, "MONOCHROME1"),
    "eight bits, signed": dicom(RAMP.astype(np.int16) - 128, 8),
    "eight bits, falling": dicom(RAMP, 8, RescaleSlope=-1, RescaleIntercept=255),
    "eight bits in sixteen": dicom(RAMP.astype(np.uint16), 16, BitsStored=8, HighBit=7),
    "seven bits": dicom(RAMP // 2, 8, BitsStored=7, HighBit=6),
    "high bits": dicom(DEEP, frame=(DEEP << 4).tobytes(), HighBit=15, **WINDOW),
    "between the bits": dicom(DEEP, frame=(DEEP << 2).tobytes(), HighBit=13, **WINDOW),
    "overlay bits": dicom(DEEP, frame=(DEEP | 0x8000 * (DEEP % 3 == 0)).astype(np.uint16).tobytes(), **WINDOW),
}


@pytest.mark.parametrize("name", CASES)
def test_films_are_those_of_dcmtk(name):
    dcm2pnm()
    options = display(CASES[name])
    shown = as_dcmtk(CASES[name], options)
    assert shown is not None
    mean, most = difference(px.load_film(CASES[name]), shown, bool(options))
    assert most <= (2 if name == "seven bits" else 1.01), (mean, most)  # of seven bits it makes 254


def test_the_comparison_detects_another_film():
    """The comparison can fail: another window, a negative, a film in another orientation."""
    dcm2pnm()
    film = px.load_film(dicom(DEEP, **WINDOW))
    for other in (
        dicom(DEEP, WindowCenter=2100, WindowWidth=2801),
        dicom(DEEP, RescaleSlope=2, RescaleIntercept=0, **WINDOW),
    ):
        assert difference(film, as_dcmtk(other, ["+Wi", "1"]), True)[0] > 5
    assert difference(film, np.zeros((64, 60)), True)[1] == 255


@pytest.mark.slow
def test_every_film_of_pydicom_is_the_one_of_dcmtk():
    dcm2pnm()
    root = Path(pydicom.data.__file__).parent / "test_files"
    files = sorted(
        path for path in root.rglob("*") if path.is_file() and (path.suffix == ".dcm" or path.name.isdigit())
    )
    off = {path.name: against_dcmtk(path.read_bytes()) for path in files}
    compared = {name: words for name, (refused, words) in off.items() if not refused and "(" in words}
    assert len(compared) > 9
    assert {name: words for name, words in compared.items() if int(words.split("(")[1].split()[0]) > 1} == {}


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            data = path.read_bytes()
            data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" and not path.name.endswith(".tar.gz") else data
            if data[128:132] == b"DICM" or path.suffix == ".dcm":
                print(path.relative_to(folder.parent), *against_dcmtk(data), sep="\t", flush=True)
