"""DICOM films: every transfer syntax, look-up table and window with known answers."""

import base64
import gzip
import io

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.films import DEEP, LOSSLESS, NATIVE, RAMP, coded_frame, dicom, keywords, lut_item, smooth
from tests.greys import default_grey, difference, load, spread


@pytest.mark.parametrize("syntax", NATIVE + LOSSLESS, ids=keywords(NATIVE + LOSSLESS))
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_lossless_syntaxes_are_exact(bits, syntax):
    values = smooth(70, 91, bits)
    film = load(dicom(values, bits, syntax=syntax))
    assert difference(film, default_grey(values, bits)) == 0
    assert film.pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert (film.native_width, film.native_height, film.native_bits, film.inverted, film.aspect) == (
        91,
        70,
        bits,
        False,
        None,
    )


@pytest.mark.parametrize("syntax", NATIVE + LOSSLESS, ids=keywords(NATIVE + LOSSLESS))
def test_signed_values_are_signed_in_every_syntax(syntax):
    values = smooth(70, 91, 12).astype(np.int16) - 2048
    assert difference(load(dicom(values, syntax=syntax)), spread(values)) == 0


@pytest.mark.parametrize(
    ("syntax", "bits", "within"),
    [
        (JPEGBaseline8Bit, 8, 0.03),
        (JPEGExtended12Bit, 8, 0.03),
        (JPEGExtended12Bit, 12, 0.01),
        (JPEG2000, 8, 0.03),
        (JPEG2000, 12, 0.03),
    ],
)
def test_lossy_syntaxes_are_close(syntax, bits, within):
    values = smooth(70, 91, bits)
    film = load(dicom(values, bits, syntax=syntax))
    assert difference(film, default_grey(values, bits)) <= within * 65535
    assert film.native_bits == bits


# y * 11 + x * 90 over 48 x 40, made with imagecodecs 2026.3.6: htj2k_encode(values, reversible=True)
HT_FRAME = base64.b64decode(
    "/0//UQApQAAAAAAoAAAAMAAAAAAAAAAAAAAAKAAAADAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJCQkJCQiI"
    "iI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAOcAAf+TwAArAD8ATf0j6THmAsM0AMAAE0AAEoDn8wCLdAD3/jIzAMAAFTAABUhlWf4AIjCC"
    "dgDIyMjAIQH+tgDAABXQAAVgNNOkSTNNmtgv1+ILdwBiURTF9ARGEIHsuADAABa0AAFqAJSUlJSUlJSUlJSUlO/6enp6enGCegAwhBBCCCH8/1AAPYAAe/"
    "YAAey9AMAALpoAAW6AMplMJpPJZDKZTCaTyWQymUwmk8lk/H/Kenp6enp6enp6enECcQGUiIiIiIiIiIiI/v99kcnv3ye/fJ798nv3yeyyAf/Z"
)


@pytest.mark.parametrize(
    "syntax", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K], ids=keywords([HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K])
)
def test_high_throughput_jpeg_2000_is_exact(syntax):
    y, x = np.mgrid[:48, :40]
    values = y * 11 + x * 90
    film = load(dicom(values, 16, syntax=syntax, frame=HT_FRAME))
    assert difference(film, spread(values)) == 0


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        RLELossless,
        JPEGBaseline8Bit,
        JPEGLossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
)
def test_grey_shown_as_three_channels_is_read_and_true_colour_is_not(syntax, photometric):
    grey = smooth(70, 90, 8)
    nil = np.full_like(grey, 128)
    film = load(dicom(np.dstack([grey, nil, nil] if photometric == "YBR_FULL" else [grey] * 3), 8, photometric, syntax))
    assert difference(film, default_grey(grey, 8)) <= (0.03 * 65535 if syntax == JPEGBaseline8Bit else 0)
    coloured = np.dstack([grey, np.roll(grey, 20, axis=1), 255 - grey])
    with pytest.raises(ValueError, match="in colour, not a plain film"):
        load(dicom(coloured, 8, photometric, syntax))


def test_planar_and_subsampled_channels():
    grey = smooth(70, 90, 8)
    planes = np.stack([grey] * 3).tobytes()  # all of R, then all of G ...
    film = load(dicom(np.dstack([grey] * 3), 8, "RGB", frame=planes, PlanarConfiguration=1))
    assert difference(film, default_grey(grey, 8)) == 0
    with pytest.raises(ValueError, match="in colour"):  # the same bytes read as if interleaved
        load(
            dicom(
                np.dstack([grey] * 3),
                8,
                "RGB",
                frame=np.stack([grey, 255 - grey, grey // 2]).tobytes(),
                PlanarConfiguration=1,
            )
        )
    quads = np.dstack([grey[:, ::2], grey[:, 1::2], *[np.full((70, 45), 128, np.uint8)] * 2])  # Y Y Cb Cr
    assert (
        difference(load(dicom(np.dstack([grey] * 3), 8, "YBR_FULL_422", frame=quads.tobytes())), default_grey(grey, 8))
        == 0
    )
    deep = smooth(70, 90, 12)
    assert difference(load(dicom(np.dstack([deep] * 3), 12, "RGB")), spread(deep)) == 0


def test_rubbish_in_the_unused_bits_is_ignored_and_real_bits_are_kept():
    values = smooth(70, 90, 12)
    overlay = (np.random.default_rng(0).random(values.shape) < 0.3).astype(np.uint16) << 15
    assert difference(load(dicom(values, 12, frame=(values | overlay).tobytes())), spread(values)) == 0
    assert difference(load(dicom(values, 12, frame=(values | 0xF000).tobytes())), spread(values)) == 0
    wrong = load(dicom(values, 12, BitsStored=10, HighBit=9))  # the header says ten, the pixels are of twelve
    assert difference(wrong, spread(values)) == 0
    assert wrong.native_bits == 12
    high = load(dicom(values, 12, frame=(values << 4).tobytes(), HighBit=15))  # left-aligned, as before 1998
    assert difference(high, spread(values)) == 0
    signed = values.astype(np.int16) - 2048
    masked = (signed.astype(np.uint16) & 0x0FFF) | overlay
    assert difference(load(dicom(signed, 12, frame=masked.tobytes())), spread(signed)) == 0
    coded = coded_frame(values, 16, JPEGLSLossless)  # the stream says sixteen bits, the header twelve
    assert difference(load(dicom(values, 12, syntax=JPEGLSLossless, frame=coded)), spread(values)) == 0


def test_eight_bit_samples_in_big_endian_words_are_swapped():
    values = smooth(70, 90, 8)
    data = dicom(values, 8, syntax=ExplicitVRBigEndian)
    assert difference(load(data), default_grey(values, 8)) == 0
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.PixelData = np.frombuffer(values.tobytes(), np.uint16).byteswap().tobytes()
    dataset["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    assert difference(load(buffer.getvalue()), default_grey(values, 8)) == 0


def test_dicom_window_of_twelve_bits():
    """Expected values by hand from DICOM PS3.3 C.11.2.1.2.1, without pydicom's windowing."""
    film = load(dicom(DEEP, WindowCenter=2048, WindowWidth=1024))
    expected = np.clip((DEEP - 2047.5) / 1023 + 0.5, 0, 1) * 65535
    assert difference(film, expected) <= 1
    assert (film.native_bits, film.inverted) == (12, False)
    first = load(dicom(DEEP, WindowCenter=[2048, 100], WindowWidth=[1024, 10]))
    assert np.array_equal(first.pixels, film.pixels)


def test_dicom_window_functions():
    exact = load(dicom(DEEP, WindowCenter=2048, WindowWidth=1024, VOILUTFunction="LINEAR_EXACT"))
    assert difference(exact, np.clip((DEEP - 2048.0) / 1024 + 0.5, 0, 1) * 65535) <= 1
    sigmoid = load(dicom(DEEP, WindowCenter=2048, WindowWidth=1024, VOILUTFunction="SIGMOID"))
    assert difference(sigmoid, 65535 / (1 + np.exp(-4 * (DEEP - 2048.0) / 1024))) <= 1
    step = load(dicom(DEEP, WindowCenter=2048, WindowWidth=1))
    assert difference(step, (DEEP > 2047.5) * 65535.0) == 0


@pytest.mark.parametrize(
    "tags",
    [{"WindowCenter": None, "WindowWidth": None}, {"WindowCenter": 2048}, {"WindowCenter": [], "WindowWidth": []}],
)
def test_an_empty_window_is_no_window(tags):
    assert difference(load(dicom(DEEP, **tags)), spread(DEEP)) == 0


def test_dicom_monochrome1_is_the_negative():
    plain, negative = (
        load(dicom(DEEP, photometric=name, WindowCenter=2048, WindowWidth=1024))
        for name in ("MONOCHROME2", "MONOCHROME1")
    )
    assert negative.inverted
    assert difference(negative, 65535 - plain.pixels.astype(float)) == 0
    assert negative.pixels[0, 0] == 65535
    assert difference(load(dicom(DEEP, photometric="MONOCHROME1")), 65535 - spread(DEEP)) <= 1


def test_dicom_rescale_comes_before_the_window():
    moved = load(dicom(DEEP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=2 * 2048 - 1000, WindowWidth=2048))
    assert difference(moved, np.clip((2.0 * DEEP - 1000 - (3096 - 0.5)) / 2047 + 0.5, 0, 1) * 65535) <= 1


def test_dicom_modality_table_comes_before_the_window():
    table = (np.arange(4096) ** 2 // 300).astype(np.uint16)
    item = lut_item(0, table)
    item.ModalityLUTType = "US"
    film = load(dicom(DEEP, ModalityLUTSequence=[item], WindowCenter=20000, WindowWidth=30000))
    assert difference(film, np.clip((table[DEEP].astype(float) - 19999.5) / 29999 + 0.5, 0, 1) * 65535) <= 2


def test_dicom_voi_table_is_applied():
    film = load(dicom(DEEP, VOILUTSequence=[lut_item(0, 65535 - 16 * np.arange(4096))]))  # a falling table
    assert film.pixels[0, 0] == 65535
    assert film.pixels[-1, -1] == 65535 - 16 * 4095
    # 1000 entries from value 1000 on
    part = load(dicom(DEEP, VOILUTSequence=[lut_item(1000, np.arange(0, 60000, 60))]))
    assert difference(part, np.clip(DEEP.astype(float) - 1000, 0, 999) * 60) == 0


def test_a_dicom_film_records_how_its_greys_were_made():
    window, table = {"WindowCenter": 2048, "WindowWidth": 1024}, [lut_item(0, 16 * np.arange(4096))]
    assert load(dicom(DEEP)).greys == "percentiles"
    assert (
        load(dicom(DEEP, **window)).greys
        == load(dicom(DEEP, VOILUTFunction="LINEAR_EXACT", **window)).greys
        == "window"
    )
    assert load(dicom(DEEP, VOILUTFunction="SIGMOID", **window)).greys == "sigmoid"
    assert load(dicom(DEEP, VOILUTSequence=table, **window)).greys == "lut"


def test_eight_and_sixteen_bit_dicom():
    assert load(dicom(RAMP, bits=8)).native_bits == 8
    assert load(dicom(DEEP * 16, bits=16)).pixels.max() == 65535


def test_bare_data_sets_and_gzipped_files_are_read():
    data = dicom(DEEP, WindowCenter=2048, WindowWidth=1024)
    whole = load(data).pixels
    assert np.array_equal(load(gzip.compress(data)).pixels, whole)  # early MIMIC releases
    assert np.array_equal(load(data[132:]).pixels, whole)  # no preamble, but file meta
    for implicit in (True, False):
        dataset = pydicom.dcmread(io.BytesIO(data))
        buffer = io.BytesIO()
        dataset.preamble = None
        del dataset.file_meta
        pydicom.dcmwrite(buffer, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert buffer.getvalue()[:2] == b"\x08\0"
        assert np.array_equal(load(buffer.getvalue()).pixels, whole)
