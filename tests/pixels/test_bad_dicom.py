"""DICOM files that are no films, damaged or hostile: refused in one line, and never a crash or a hang."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from tests.films import DEEP, LOSSLESS, NATIVE, RAMP, coded_frame, dicom, keywords, smooth
from tests.greys import load
from thiscxr import pixels as px
from thiscxr.pixels import dicom as pixels_dicom
from thiscxr.pixels import frame as pixels_frame

GDCM = [JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless]


def test_a_deflated_bomb_is_refused_before_it_opens(monkeypatch):
    """pydicom itself inflates without a bound."""
    monkeypatch.setattr(pixels_dicom, "_MAX_BYTES", 2**20)
    data = dicom(DEEP, syntax=DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(data[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(4)) + packer.flush()
    with pytest.raises(ValueError, match="absurd size"):
        load(data[:start] + bomb)
    assert px.read_dicom_header(data[:start] + bomb) == px.DicomHeader()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (dicom(DEEP, NumberOfFrames=2), "more than one frame"),
        (dicom(DEEP, NumberOfFrames=10**9), "more than one frame"),
        (dicom(DEEP, frame=np.vstack([DEEP] * 2).tobytes()), "more than one frame"),
        (dicom(DEEP, Rows=65535, Columns=65535), "absurd size"),
        (dicom(DEEP, Rows=65535, Columns=65535, syntax=JPEG2000Lossless), "absurd size"),
        (dicom(DEEP, Rows=0), "absurd size"),
        (dicom(DEEP, Rows=8), "a side of fewer than 16 pixels"),
        (dicom(DEEP, without=["Rows"]), "DICOM file without Rows"),
        (dicom(DEEP, BitsAllocated=32), "neither 8 nor 16 bits"),
        (dicom(DEEP, BitsStored=17), "BitsStored"),
        (dicom(DEEP, BitsStored=0), "BitsStored"),
        (dicom(RAMP, 8, "PALETTE COLOR"), "in colour"),
        (dicom(DEEP, without=["PixelData"]), "without pixels"),
        (
            dicom(DEEP, WindowCenter=90000, WindowWidth=10),
            "constant image: its window or look-up table shows nothing of it",
        ),
        (dicom(np.full((64, 64), 9), WindowCenter=2048, WindowWidth=10), "constant image"),
        (dicom(smooth(64, 64, 12) // 512 + 100), "blank image"),
        (dicom(DEEP, syntax=MPEG2MPML, frame=b"no film"), "a transfer syntax that is not read"),
        (dicom(DEEP).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.1.2.1\0"), "a transfer syntax that is not read"),
        (
            dicom(DEEP[:, :60], syntax=JPEG2000Lossless, frame=coded_frame(DEEP, 12, JPEG2000Lossless)),
            "is not the one of its header",
        ),
        (
            dicom(DEEP[:, :60], syntax=JPEGLossless, frame=coded_frame(DEEP, 12, JPEGLossless)),
            "is not the one of its header",
        ),
        (
            dicom(RAMP[:, :60], 8, syntax=JPEGBaseline8Bit, frame=coded_frame(RAMP, 8, JPEGBaseline8Bit)),
            "is not the one of its header",
        ),
        (dicom(DEEP[:, :60], syntax=RLELossless, frame=coded_frame(DEEP, 12, RLELossless)[:500]), "coded picture"),
    ],
)
def test_bad_dicom_is_refused(data, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        load(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "syntax", [*NATIVE, *LOSSLESS, JPEGExtended12Bit], ids=keywords([*NATIVE, *LOSSLESS, JPEGExtended12Bit])
)
def test_dicom_cut_anywhere_is_refused(syntax):
    whole = dicom(smooth(64, 64, 12), syntax=syntax, WindowCenter=2048, WindowWidth=4096)
    load(whole)
    for length in (140, 200, len(whole) // 2, len(whole) - 300, len(whole) - 20):
        with pytest.raises(ValueError):
            load(whole[:length])


def test_not_finite_values_are_refused():
    for tags in ({"RescaleSlope": "1e308", "RescaleIntercept": "1e308"},):
        with pytest.raises(ValueError, match="not finite"):
            load(dicom(DEEP, **tags))


def test_a_missing_decoder_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(pixels_frame.importlib.util, "find_spec", lambda name: None)
    for syntax in GDCM:
        with pytest.raises(ValueError, match=r"needs gdcm: pip install python-gdcm$"):
            load(dicom(smooth(64, 64, 12), syntax=syntax))
    monkeypatch.setattr(pixels_frame.features, "check_codec", lambda name: False)
    with pytest.raises(ValueError, match=r"pip install .*pillow"):
        load(dicom(DEEP, syntax=JPEG2000Lossless))


def test_a_crash_or_a_hang_of_gdcm_costs_one_film(monkeypatch, tmp_path):
    data = dicom(smooth(64, 64, 12), syntax=JPEGLossless)
    child = tmp_path / "child.py"
    monkeypatch.setattr(pixels_frame, "_GDCM", child)
    child.write_text("import os\nos.abort()")
    with pytest.raises(ValueError, match="coded picture"):
        load(data)
    child.write_text("import time\ntime.sleep(60)")
    monkeypatch.setattr(pixels_frame, "_GDCM_SECONDS", 0.5)
    with pytest.raises(ValueError, match="takes too long"):
        load(data)
    child.write_text(f"import sys\nsys.stdout.buffer.write(bytes({64 * 64 * 2 - 2}))")  # too little
    with pytest.raises(ValueError, match="coded picture"):
        load(data)


@pytest.mark.parametrize(
    ("syntax", "position", "value"),
    [
        (JPEGLossless, 6, 0x11),  # signal 11: seventeen bits
        (JPEGLossless, 15, 0x80),  # signal 6: a table that there is not
        (JPEGLosslessSV1, 16, 0xFF),
        (JPEGExtended12Bit, 3, 0x00),
        (JPEGExtended12Bit, 75, 0x11),  # signal 11: a table of impossible codes
        (JPEGExtended12Bit, 85, 0x00),
        (JPEGLSLossless, 10, 0x00),  # signal 11: no columns
    ],
)
def test_streams_that_crashed_gdcm_are_refused(syntax, position, value):
    """Found by fuzzing gdcm 3.2.6 in this process: each killed it. Here each is one refused film."""
    frame = bytearray(coded_frame(smooth(32, 32, 12), 12, syntax))
    frame[position] = value
    with pytest.raises(ValueError, match="coded picture"):
        load(dicom(smooth(32, 32, 12), syntax=syntax, frame=bytes(frame)))


def test_a_length_of_nothing_in_a_jpeg_2000_box_does_not_hang():
    """pydicom's own reader of such boxes waits for ever."""
    box = b"\x00\x00\x00\x0c\x6a\x50\x20\x20\x0d\x0a\x87\x0a" + bytes(200) + b"\xff\xd9"
    with pytest.raises(ValueError, match="coded picture"):
        load(dicom(DEEP, syntax=JPEG2000Lossless, frame=box))


def test_a_value_of_the_wrong_length_is_refused():
    """Found by fuzzing: pydicom raises an exception of its own that is no ValueError."""
    data = dicom(DEEP)
    rows = data.index(b"\x28\0\x10\0US\x02\0")
    with pytest.raises(ValueError, match="its tags"):
        load(data[:rows] + b"\x28\0\x10\0FD\x04\0abcd" + data[rows + 10 :])


def test_gdcm_is_never_called_in_this_process():
    """pydicom imports it, but only the child may decode with it."""
    code = {path.name: path.read_text() for path in Path(pixels_dicom.__file__).parent.glob("*.py")}
    assert [name for name, text in code.items() if "import gdcm" in text] == ["gdcm_frame.py"]
    assert [name for name, text in code.items() if ".pixel_array" in text] == []
