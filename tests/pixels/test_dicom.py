"""DICOM films: every transfer syntax, look-up table, window and orientation with known answers, and pydicom's own files
as a table."""

import base64
import gzip
import io
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    MPEG2MPML,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from tests.films import DEEP, RAMP, coded_frame, dicom, lut_item, smooth
from thiscxr import pixels as px
from thiscxr.pixels import dicom as pixels_dicom
from thiscxr.pixels import frame as pixels_frame

NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
LOSSLESS = [RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless]
GDCM = [JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless]


def load(data: bytes, **options) -> px.LoadedFilm:
    return px.load_film(data, **options)


def stretched(values: np.ndarray) -> np.ndarray:
    """What a film without window becomes, by numpy's own percentiles of the values themselves."""
    low, high = np.percentile(values, (0.5, 99.5))
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 65535)


def unsaid(values: np.ndarray, bits: int) -> np.ndarray:
    """What a film becomes that says nothing of its display: as it is up to 8 bits, else stretched; full scale of 16
    bits."""
    return stretched(values) if bits > 8 else values * (65535 / (2**bits - 1))


def off(film: px.LoadedFilm, expected: np.ndarray) -> float:
    """Return the largest difference, of 65,535."""
    assert film.pixels.shape == expected.shape
    return float(np.abs(px.to_bits(film.pixels, 16) - expected).max())


def names(syntaxes: list[UID]) -> list[str]:
    return [syntax.keyword for syntax in syntaxes]


@pytest.mark.parametrize("syntax", NATIVE + LOSSLESS, ids=names(NATIVE + LOSSLESS))
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_lossless_syntaxes_are_exact(bits, syntax):
    values = smooth(70, 91, bits)
    film = load(dicom(values, bits, syntax=syntax))
    assert off(film, unsaid(values, bits)) == 0
    assert film.pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert (film.native_width, film.native_height, film.native_bits, film.inverted, film.aspect) == (
        91,
        70,
        bits,
        False,
        None,
    )


@pytest.mark.parametrize("syntax", NATIVE + LOSSLESS, ids=names(NATIVE + LOSSLESS))
def test_signed_values_are_signed_in_every_syntax(syntax):
    values = smooth(70, 91, 12).astype(np.int16) - 2048
    assert off(load(dicom(values, syntax=syntax)), stretched(values)) == 0


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
    assert off(film, unsaid(values, bits)) <= within * 65535
    assert film.native_bits == bits


# y * 11 + x * 90 over 48 x 40, made with imagecodecs 2026.3.6: htj2k_encode(values, reversible=True)
HT_FRAME = base64.b64decode(
    "/0//UQApQAAAAAAoAAAAMAAAAAAAAAAAAAAAKAAAADAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJCQkJCQiI"
    "iI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAOcAAf+TwAArAD8ATf0j6THmAsM0AMAAE0AAEoDn8wCLdAD3/jIzAMAAFTAABUhlWf4AIjCC"
    "dgDIyMjAIQH+tgDAABXQAAVgNNOkSTNNmtgv1+ILdwBiURTF9ARGEIHsuADAABa0AAFqAJSUlJSUlJSUlJSUlO/6enp6enGCegAwhBBCCCH8/1AAPYAAe/"
    "YAAey9AMAALpoAAW6AMplMJpPJZDKZTCaTyWQymUwmk8lk/H/Kenp6enp6enp6enECcQGUiIiIiIiIiIiI/v99kcnv3ye/fJ798nv3yeyyAf/Z"
)


@pytest.mark.parametrize(
    "syntax", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K], ids=names([HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K])
)
def test_high_throughput_jpeg_2000_is_exact(syntax):
    y, x = np.mgrid[:48, :40]
    values = y * 11 + x * 90
    film = load(dicom(values, 16, syntax=syntax, frame=HT_FRAME))
    assert off(film, stretched(values)) == 0


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
    assert off(film, unsaid(grey, 8)) <= (0.03 * 65535 if syntax == JPEGBaseline8Bit else 0)
    coloured = np.dstack([grey, np.roll(grey, 20, axis=1), 255 - grey])
    with pytest.raises(ValueError, match="in colour, not a plain film"):
        load(dicom(coloured, 8, photometric, syntax))


def test_planar_and_subsampled_channels():
    grey = smooth(70, 90, 8)
    planes = np.stack([grey] * 3).tobytes()  # all of R, then all of G ...
    film = load(dicom(np.dstack([grey] * 3), 8, "RGB", frame=planes, PlanarConfiguration=1))
    assert off(film, unsaid(grey, 8)) == 0
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
    assert off(load(dicom(np.dstack([grey] * 3), 8, "YBR_FULL_422", frame=quads.tobytes())), unsaid(grey, 8)) == 0
    deep = smooth(70, 90, 12)
    assert off(load(dicom(np.dstack([deep] * 3), 12, "RGB")), stretched(deep)) == 0


def test_rubbish_in_the_unused_bits_is_ignored_and_real_bits_are_kept():
    values = smooth(70, 90, 12)
    overlay = (np.random.default_rng(0).random(values.shape) < 0.3).astype(np.uint16) << 15
    assert off(load(dicom(values, 12, frame=(values | overlay).tobytes())), stretched(values)) == 0
    assert off(load(dicom(values, 12, frame=(values | 0xF000).tobytes())), stretched(values)) == 0
    wrong = load(dicom(values, 12, BitsStored=10, HighBit=9))  # the header says ten, the pixels are of twelve
    assert off(wrong, stretched(values)) == 0
    assert wrong.native_bits == 12
    high = load(dicom(values, 12, frame=(values << 4).tobytes(), HighBit=15))  # left-aligned, as before 1998
    assert off(high, stretched(values)) == 0
    signed = values.astype(np.int16) - 2048
    masked = (signed.astype(np.uint16) & 0x0FFF) | overlay
    assert off(load(dicom(signed, 12, frame=masked.tobytes())), stretched(signed)) == 0
    coded = coded_frame(values, 16, JPEGLSLossless)  # the stream says sixteen bits, the header twelve
    assert off(load(dicom(values, 12, syntax=JPEGLSLossless, frame=coded)), stretched(values)) == 0


def test_eight_bit_samples_in_big_endian_words_are_swapped():
    values = smooth(70, 90, 8)
    data = dicom(values, 8, syntax=ExplicitVRBigEndian)
    assert off(load(data), unsaid(values, 8)) == 0
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.PixelData = np.frombuffer(values.tobytes(), np.uint16).byteswap().tobytes()
    dataset["PixelData"].VR = "OW"
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    assert off(load(buffer.getvalue()), unsaid(values, 8)) == 0


def test_dicom_window_of_twelve_bits():
    """Expected values by hand from DICOM PS3.3 C.11.2.1.2.1, without pydicom's windowing."""
    film = load(dicom(DEEP, WindowCenter=2048, WindowWidth=1024))
    expected = np.clip((DEEP - 2047.5) / 1023 + 0.5, 0, 1) * 65535
    assert off(film, expected) <= 1
    assert (film.native_bits, film.inverted) == (12, False)
    first = load(dicom(DEEP, WindowCenter=[2048, 100], WindowWidth=[1024, 10]))
    assert np.array_equal(first.pixels, film.pixels)


def test_dicom_window_functions():
    exact = load(dicom(DEEP, WindowCenter=2048, WindowWidth=1024, VOILUTFunction="LINEAR_EXACT"))
    assert off(exact, np.clip((DEEP - 2048.0) / 1024 + 0.5, 0, 1) * 65535) <= 1
    sigmoid = load(dicom(DEEP, WindowCenter=2048, WindowWidth=1024, VOILUTFunction="SIGMOID"))
    assert off(sigmoid, 65535 / (1 + np.exp(-4 * (DEEP - 2048.0) / 1024))) <= 1
    step = load(dicom(DEEP, WindowCenter=2048, WindowWidth=1))
    assert off(step, (DEEP > 2047.5) * 65535.0) == 0


@pytest.mark.parametrize(
    "tags",
    [{"WindowCenter": None, "WindowWidth": None}, {"WindowCenter": 2048}, {"WindowCenter": [], "WindowWidth": []}],
)
def test_an_empty_window_is_no_window(tags):
    assert off(load(dicom(DEEP, **tags)), stretched(DEEP)) == 0


def test_dicom_monochrome1_is_the_negative():
    plain, negative = (
        load(dicom(DEEP, photometric=name, WindowCenter=2048, WindowWidth=1024))
        for name in ("MONOCHROME2", "MONOCHROME1")
    )
    assert negative.inverted
    assert off(negative, 65535 - plain.pixels.astype(float)) == 0
    assert negative.pixels[0, 0] == 65535
    assert off(load(dicom(DEEP, photometric="MONOCHROME1")), 65535 - stretched(DEEP)) <= 1


def test_dicom_rescale_comes_before_the_window():
    moved = load(dicom(DEEP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=2 * 2048 - 1000, WindowWidth=2048))
    assert off(moved, np.clip((2.0 * DEEP - 1000 - (3096 - 0.5)) / 2047 + 0.5, 0, 1) * 65535) <= 1


def test_dicom_modality_table_comes_before_the_window():
    table = (np.arange(4096) ** 2 // 300).astype(np.uint16)
    item = lut_item(0, table)
    item.ModalityLUTType = "US"
    film = load(dicom(DEEP, ModalityLUTSequence=[item], WindowCenter=20000, WindowWidth=30000))
    assert off(film, np.clip((table[DEEP].astype(float) - 19999.5) / 29999 + 0.5, 0, 1) * 65535) <= 2


def test_dicom_voi_table_is_applied():
    film = load(dicom(DEEP, VOILUTSequence=[lut_item(0, 65535 - 16 * np.arange(4096))]))  # a falling table
    assert film.pixels[0, 0] == 65535
    assert film.pixels[-1, -1] == 65535 - 16 * 4095
    # 1000 entries from value 1000 on
    part = load(dicom(DEEP, VOILUTSequence=[lut_item(1000, np.arange(0, 60000, 60))]))
    assert off(part, np.clip(DEEP.astype(float) - 1000, 0, 999) * 60) == 0


def test_a_film_says_how_its_greys_were_made():
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


@pytest.mark.parametrize(
    ("tags", "aspect"),
    [
        ({}, None),
        ({"PixelSpacing": [0.2, 0.2]}, None),
        ({"PixelSpacing": [0.2, 0.1]}, 0.5),  # rows 0.2 mm apart, columns 0.1: pixels half as wide as high
        ({"ImagerPixelSpacing": [0.1, 0.2]}, 2.0),
        ({"PixelAspectRatio": [2, 1]}, 0.5),  # vertical, horizontal
        ({"PixelSpacing": [0.2, 0.2], "PixelAspectRatio": [2, 1]}, None),
        ({"PixelSpacing": [0, 0], "PixelAspectRatio": [1, 2]}, 2.0),
        ({"PixelSpacing": None, "PixelAspectRatio": ["1", "1"]}, None),
    ],
)
def test_oblong_pixels_give_the_true_aspect(tags, aspect):
    film = load(dicom(smooth(80, 120, 12), **tags))
    assert film.pixels.shape == (80, 120)
    assert film.aspect == (None if aspect is None else aspect * 120 / 80)
    assert film.pixel_aspect == (aspect or 1)


def test_a_disc_of_oblong_pixels_is_round_again():
    y, x = np.mgrid[:300, :600]  # pixels half as wide as high
    disc = np.where((y - 150) ** 2 + ((x - 300) / 2) ** 2 < 100**2, 4000, 100) + np.random.default_rng(0).integers(
        0, 50, (300, 600)
    )
    film = load(dicom(disc.astype(np.uint16), PixelAspectRatio=[2, 1]))
    rows, columns = np.nonzero(px.to_square(film.pixels, 128, film.aspect) > 32768)
    assert abs(rows.std() / columns.std() - 1) < 0.02
    with pytest.raises(ValueError, match="absurd shape"):
        load(dicom(DEEP, PixelSpacing=[0.1, 1]))


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (["L", "F"], lambda a: a),
        (["R", "F"], lambda a: a[:, ::-1]),
        (["L", "H"], lambda a: a[::-1]),
        (["R", "H"], lambda a: a[::-1, ::-1]),
        (["F", "L"], lambda a: a.T),
        (["H", "L"], lambda a: np.rot90(a)),
        (["F", "R"], lambda a: np.rot90(a, -1)),
        (["H", "R"], lambda a: a[::-1, ::-1].T),
        (["LP", "FR"], lambda a: a),
        (["A", "F"], lambda a: a),  # a lateral may face either way: turned, never mirrored
        (["P", "F"], lambda a: a),
        (["A", "H"], lambda a: a[::-1, ::-1]),
        (["F", "A"], lambda a: np.rot90(a, -1)),
        (["H", "P"], lambda a: np.rot90(a)),
        (["L", "P"], lambda a: a),
        (["X", ""], lambda a: a),
        ("L", lambda a: a),
        (None, lambda a: a),
    ],
)
def test_patient_orientation_puts_the_film_upright(orientation, turn):
    stored = smooth(40, 60, 12)
    film = load(dicom(stored, PatientOrientation=orientation, PixelAspectRatio=[2, 1]))
    expected = turn(stretched(stored))
    assert off(film, expected) == 0
    assert (film.native_height, film.native_width) == expected.shape
    assert film.pixel_aspect == (0.5 if expected.shape == stored.shape else 2)


@pytest.mark.parametrize(
    ("orientation", "corner"), [("LF", (0, 1)), ("RF", (0, 0)), ("LH", (1, 1)), ("FL", (1, 0)), ("HL", (1, 1))]
)
def test_a_marker_at_the_left_shoulder_comes_to_the_upper_right(orientation, corner):
    """corner: where the patient's upper left lies in what is stored, by hand: FL has its rows lead down, its columns to
    the left."""
    quarters = np.zeros((2, 2), int)
    quarters[corner] = 3000
    stored = np.kron(quarters, np.ones((32, 32), int)) + np.random.default_rng(0).integers(0, 300, (64, 64))
    film = load(dicom(stored.astype(np.uint16), PatientOrientation=list(orientation)))
    assert film.pixels[:32, 32:].mean() > 5 * film.pixels[:, :32].mean()


def test_reduced_jpeg_2000_is_the_reduced_film(monkeypatch):
    """Within 3 grey steps of the full decode once both are squared; the wavelet's own shift of half a block is taken
    back."""
    values = smooth(1100, 1000, 12)
    data = dicom(values, syntax=JPEG2000Lossless)
    full = load(data)
    for min_side, shape in ((0, (1100, 1000)), (300, (1100, 1000)), (250, (550, 500)), (64, (550, 500))):
        film = load(data, min_side=min_side)
        assert film.pixels.shape == shape
        assert (film.native_width, film.native_height, film.native_bits) == (1000, 1100, 12)
        res = max(min_side, 64)
        squares = [px.to_bits(px.to_square(each.pixels, res), 8).astype(int) for each in (full, film)]
        assert np.abs(squares[0] - squares[1]).max() <= 3
    y, x = np.mgrid[:1024, :1024]
    edge = (np.where(x + y > 1000, 3000, 1000) + np.random.default_rng(0).normal(0, 10, x.shape)).astype(np.uint16)
    data = dicom(edge, syntax=JPEG2000Lossless)
    areas = load(data).pixels.reshape(512, 2, 512, 2).mean(axis=(1, 3)).round().astype(np.uint16)
    apart = []
    for _ in range(2):
        squares = [
            px.to_bits(px.to_square(each, 256), 8).astype(int) for each in (areas, load(data, min_side=250).pixels)
        ]
        apart.append(np.abs(squares[0] - squares[1]).max())
        monkeypatch.setattr(pixels_dicom, "recentred", lambda pixels, halvings: pixels)  # what it would be without
    assert apart[0] <= 25 < 40 < apart[1], apart  # at a step of 250


def test_dicom_jpeg_is_reduced_too():
    values = smooth(900, 700, 8)
    film = load(dicom(values, 8, syntax=JPEGBaseline8Bit), min_side=80)
    assert film.pixels.shape == (225, 175)
    assert (film.native_width, film.native_height) == (700, 900)


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
    "syntax", [*NATIVE, *LOSSLESS, JPEGExtended12Bit], ids=names([*NATIVE, *LOSSLESS, JPEGExtended12Bit])
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


@pytest.mark.parametrize(
    ("position", "view"),
    [
        ("PA", "PA"),
        (" ap ", "AP"),
        ("AP SUPINE", "AP_supine"),
        ("PA VIEW", "PA"),
        ("LL", "lateral"),
        ("RL", "lateral"),
        ("LATERAL", "lateral"),
        ("LLD", "other"),
        ("RLD", "other"),
        ("PA LLD", "other"),
        ("LLO", "other"),
        ("RAO", "other"),
        ("SWIMMERS", "other"),
        ("YES", "unknown"),
        ("", "unknown"),
    ],
)
def test_the_view_of_a_dicom_header(tmp_path, position, view):
    (tmp_path / "a.dcm").write_bytes(dicom(DEEP, ViewPosition=position))
    assert px.read_dicom_header(tmp_path / "a.dcm").view == view


def code_item(value: str, scheme: str) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "a view"
    return item


@pytest.mark.parametrize(
    ("tags", "view"),
    [
        ({"ViewCodeSequence": [code_item("R-10206", "SRT")]}, "AP"),
        ({"ViewCodeSequence": [code_item("399348003", "SCT")]}, "AP"),
        ({"ViewCodeSequence": [code_item("R-10214", "SNM3")]}, "PA"),
        ({"ViewCodeSequence": [code_item("272479007", "SCT")]}, "PA"),
        ({"ViewCodeSequence": [code_item("R-10236", "SRT")]}, "lateral"),
        ({"ViewCodeSequence": [code_item("399198007", "SCT")]}, "lateral"),
        ({"ViewCodeSequence": [code_item("399356000", "SCT")]}, "other"),
        ({"ViewCodeSequence": [code_item("X-1", "99ME")]}, "unknown"),
        ({"ViewCodeSequence": [code_item("R-10206", "SRT")], "ViewPosition": "AP"}, "AP"),
        # they contradict each other
        ({"ViewCodeSequence": [code_item("R-10206", "SRT")], "ViewPosition": "PA"}, "unknown"),
        ({"PatientOrientation": ["A", "F"]}, "lateral"),
        ({"PatientOrientation": ["L", "F"]}, "unknown"),  # frontal, but which?
        ({"PatientOrientation": ["P", "F"], "ViewPosition": "LL"}, "lateral"),
    ],
)
def test_the_view_of_codes_and_orientation(tags, view):
    assert px.read_dicom_header(dicom(DEEP, **tags)).view == view


@pytest.mark.parametrize(
    ("tags", "sex", "age"),
    [
        ({"PatientSex": "F", "PatientAge": "042Y"}, "F", 42.0),
        ({"PatientSex": "m", "PatientAge": "006M"}, "M", 0.5),
        ({"PatientSex": "O", "PatientAge": "010D"}, "unknown", 10 / 365.25),
        ({"PatientAge": "026W"}, "unknown", 26 * 7 / 365.25),
        ({"PatientAge": "155Y", "PatientBirthDate": "19500101", "StudyDate": "20000101"}, "unknown", None),
        ({"PatientAge": "XX"}, "unknown", None),
        ({"PatientAge": "51", "PatientSex": "Female"}, "F", 51.0),  # RSNA's headers have no unit: it was unknown
        ({"PatientAge": "051"}, "unknown", 51.0),
        (
            {"PatientAge": "6", "PatientBirthDate": "19991201", "StudyDate": "20000601"},
            "unknown",
            183 / 365.25,
        ),  # months
        ({"PatientAge": "155"}, "unknown", None),
        ({"PatientBirthDate": "19500101", "StudyDate": "20000101"}, "unknown", 18262 / 365.25),
        ({"PatientBirthDate": "20000101", "StudyDate": "19500101"}, "unknown", None),
        ({"PatientBirthDate": "19500101"}, "unknown", None),
        ({"PatientBirthDate": "", "StudyDate": ""}, "unknown", None),
        ({}, "unknown", None),
    ],
)
def test_sex_and_age_of_a_dicom_header(tags, sex, age):
    header = px.read_dicom_header(io.BytesIO(dicom(DEEP, **tags)))
    assert (header.sex, header.age_years) == (sex, pytest.approx(age))


def test_ids_of_a_dicom_header_and_nothing_else():
    tags = {
        "PatientID": "A17 ",
        "StudyInstanceUID": "1.2.840.99",
        "PatientName": "Doe^Jane",
        "InstitutionName": "Secret",
        "AccessionNumber": "7",
    }
    data = dicom(DEEP, ViewPosition="PA", **tags)
    expected = px.DicomHeader("PA", "unknown", None, "A17", "1.2.840.99")
    assert px.read_dicom_header(data) == expected
    assert px.read_dicom_header(gzip.compress(data)) == expected
    assert px.read_dicom_header(data[132:]) == expected
    assert all(secret not in repr(px.read_dicom_header(data)) for secret in ("Jane", "Secret", "AccessionNumber"))
    read = {pydicom.datadict.tag_for_keyword(name) for name in pixels_dicom._HEADER_TAGS}
    assert None not in read
    assert not {"PatientName", "InstitutionName", "AccessionNumber", "OtherPatientIDs"} & set(pixels_dicom._HEADER_TAGS)


@pytest.mark.parametrize(
    "data",
    [b"", b"no DICOM", bytes(200), b"\x1f\x8b" + bytes(50), dicom(DEEP)[:150], dicom(DEEP, PatientBirthDate="1950")],
)
def test_a_header_that_cannot_be_read_is_unknown(tmp_path, data):
    assert px.read_dicom_header(data) == px.DicomHeader()
    assert px.read_dicom_header(tmp_path / "none.dcm") == px.DicomHeader()


def test_the_head_of_a_large_film_is_enough():
    data = dicom(smooth(1000, 1000, 12), ViewPosition="PA", PatientID="7")
    assert len(data) > 2 * pixels_dicom._HEAD_BYTES

    class Counting(io.BytesIO):
        taken = 0

        def read(self, size: int = -1) -> bytes:
            part = super().read(size)
            self.taken += len(part)
            return part

    file = Counting(data)
    assert px.read_dicom_header(file).view == "PA"
    assert file.taken <= pixels_dicom._HEAD_BYTES


# What becomes of every file that comes with pydicom, by reason; "" are films.
PYDICOM_FILES = {
    "": """
        693_J2KI.dcm CT_small.dcm J2K_pixelrep_mismatch.dcm JPEG-lossy.dcm JPEG2000.dcm JPGExtended.dcm MR_small.dcm
        MR_small_RLE.dcm MR_small_bigendian.dcm MR_small_expb.dcm MR_small_implicit.dcm MR_small_jp2klossless.dcm
        MR_small_jpeg_ls_lossless.dcm MR_small_padded.dcm dicomdirtests/77654033/CR1/6154
        dicomdirtests/77654033/CR2/6247 dicomdirtests/77654033/CR3/6278 dicomdirtests/77654033/CT2/17106
        dicomdirtests/98892001/CT2N/6293 dicomdirtests/98892001/CT2N/6924 dicomdirtests/98892001/CT5N/2062
        dicomdirtests/98892001/CT5N/2392 dicomdirtests/98892001/CT5N/2693 dicomdirtests/98892001/CT5N/3023
        dicomdirtests/98892001/CT5N/3353 dicomdirtests/98892003/MR1/15820 dicomdirtests/98892003/MR1/4919
        dicomdirtests/98892003/MR1/5641 dicomdirtests/98892003/MR2/15970 dicomdirtests/98892003/MR2/4950
        dicomdirtests/98892003/MR2/4981 dicomdirtests/98892003/MR2/5011 dicomdirtests/98892003/MR2/6273
        dicomdirtests/98892003/MR2/6605 dicomdirtests/98892003/MR2/6935 dicomdirtests/98892003/MR700/4467
        dicomdirtests/98892003/MR700/4528 dicomdirtests/98892003/MR700/4558 dicomdirtests/98892003/MR700/4588
        dicomdirtests/98892003/MR700/4618 dicomdirtests/98892003/MR700/4648 dicomdirtests/98892003/MR700/4678
        examples_overlay.dcm image_dfl.dcm zipMR.gz
    """,
    "DICOM file in colour, not a plain film": """
        ExplVR_BigEnd.dcm SC_rgb_dcmtk_+eb+cr.dcm SC_rgb_dcmtk_+eb+cy+n1.dcm SC_rgb_dcmtk_+eb+cy+n2.dcm
        SC_rgb_dcmtk_+eb+cy+np.dcm SC_rgb_dcmtk_+eb+cy+s2.dcm SC_rgb_dcmtk_+eb+cy+s4.dcm SC_rgb_gdcm_KY.dcm
        SC_rgb_jls_lossy_line.dcm SC_rgb_jls_lossy_sample.dcm SC_rgb_jpeg_dcmtk.dcm SC_rgb_jpeg_gdcm.dcm
        SC_rgb_jpeg_lossy_gdcm.dcm SC_rgb_rle.dcm SC_rgb_rle_16bit.dcm SC_ybr_full_422_uncompressed.dcm
        examples_jpeg2k.dcm examples_palette.dcm examples_rgb_color.dcm
    """,
    "DICOM file without pixels, or cut off before them": """
        ExplVR_BigEndNoMeta.dcm ExplVR_LitEndNoMeta.dcm UN_sequence.dcm dicomdirtests/DICOMDIR
        dicomdirtests/DICOMDIR-bigEnd dicomdirtests/DICOMDIR-empty.dcm dicomdirtests/DICOMDIR-implicit
        dicomdirtests/DICOMDIR-nooffset dicomdirtests/DICOMDIR-nopatient dicomdirtests/DICOMDIR-reordered
        dicomdirtests/TINY_ALPHA/DICOMDIR dicomdirtests/TINY_ALPHA/PT000000/* empty_charset_LEI.dcm
        no_meta_group_length.dcm priv_SQ.dcm reportsi.dcm reportsi_with_empty_number_tags.dcm rtplan.dcm
        rtplan_truncated.dcm rtstruct.dcm test-SR.dcm waveform_ecg.dcm
    """,
    "broken DICOM file (its coded picture)": """
        GDCMJ2K_TextGBR.dcm
    """,
    "broken DICOM file (its coded picture is not the one of its header)": """
        JPEG2000-embedded-sequence-delimiter.dcm
    """,
    "a side of fewer than 16 pixels": """
        JPEGLSNearLossless_08.dcm JPEGLSNearLossless_16.dcm SC_rgb_small_odd.dcm SC_rgb_small_odd_big_endian.dcm
        SC_rgb_small_odd_jpeg.dcm rtdose_1frame.dcm rtdose_expb_1frame.dcm rtdose_rle_1frame.dcm
    """,
    "truncated file": """
        MR_truncated.dcm
    """,
    "broken DICOM file (its tags)": """
        badVR.dcm
    """,
    "not a PNG, JPEG, TIFF, BMP, WebP or DICOM file (it is text)": """
        README.txt dicomdirtests/README.txt dicomdirtests/TINY_ALPHA/README rtplan.dump rtstruct.dump test1.json
        test_PN.json
    """,
    "blank image (almost all of it is one grey)": """
        SC_jpeg_no_color_transform.dcm SC_jpeg_no_color_transform_2.dcm SC_rgb_jpeg.dcm SC_rgb_jpeg_app14_dcmd.dcm
        SC_rgb_jpeg_dcmd.dcm dicomdirtests/77654033/CT2/17136
    """,
    "DICOM file of more than one frame": """
        SC_rgb_rle_16bit_2frame.dcm SC_rgb_rle_2frame.dcm SC_rgb_rle_32bit_2frame.dcm examples_ybr_color.dcm rtdose.dcm
        rtdose_expb.dcm rtdose_rle.dcm
    """,
    "DICOM file of neither 8 nor 16 bits a pixel": """
        SC_rgb_rle_32bit.dcm liver_1frame.dcm liver_expb_1frame.dcm
    """,
    "not a PNG, JPEG, TIFF, BMP, WebP or DICOM file": """
        crayons.icc no_meta.dcm
    """,
    "constant image: its window or look-up table shows nothing of it": """
        dicomdirtests/77654033/CT2/17166 dicomdirtests/77654033/CT2/17196
    """,
    "DICOM file without Rows": """
        meta_missing_tsyntax.dcm nested_priv_SQ.dcm
    """,
}


def pydicom_paths() -> dict[str, Path]:
    root = Path(pydicom.data.__file__).parent / "test_files"
    return {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(("reason", "names"), PYDICOM_FILES.items())
def test_files_of_pydicom(reason, names):
    paths = pydicom_paths()
    for name in names.split():
        for path in [
            path
            for known, path in paths.items()
            if known == name or (name.endswith("*") and known.startswith(name[:-1]))
        ]:
            if reason:
                with pytest.raises(ValueError) as caught:
                    px.load_film(path)
                assert str(caught.value) == reason, name
            else:
                film = px.load_film(path)
                data = path.read_bytes()
                dataset = pydicom.dcmread(io.BytesIO(gzip.decompress(data) if name.endswith(".gz") else data))
                assert (film.native_height, film.native_width) == (dataset.Rows, dataset.Columns), name
                assert film.pixels.shape == (dataset.Rows, dataset.Columns) or film.greys == "percentiles", name


def test_the_table_names_every_file_of_pydicom():
    named = [name for names in PYDICOM_FILES.values() for name in names.split()]
    assert len(named) == len(set(named))
    unnamed = {
        name
        for name in pydicom_paths()
        if name not in named and not name.startswith("dicomdirtests/TINY_ALPHA/PT000000/")
    }
    if pydicom.__version__ == "3.0.2":
        assert not unnamed


@pytest.mark.parametrize(
    "name",
    [
        "JPGExtended.dcm",
        "J2K_pixelrep_mismatch.dcm",
        "693_J2KI.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "image_dfl.dcm",
        "examples_overlay.dcm",
    ],
)
def test_films_of_pydicom_have_the_values_of_its_own_decoders(name):
    path = pydicom_paths()[name]
    dataset = pydicom.dcmread(path)
    if name == "JPGExtended.dcm":
        with pytest.raises(RuntimeError):
            _ = dataset.pixel_array  # pydicom has no decoder for it without a GPL package
        assert px.load_film(path).pixels.std() > 1000
        return
    window = [dataset.get(tag) is not None for tag in ("WindowCenter", "WindowWidth")]
    values = pydicom.pixels.apply_modality_lut(dataset.pixel_array, dataset)
    if all(window):
        center, width = (float(np.atleast_1d(dataset[tag].value)[0]) for tag in ("WindowCenter", "WindowWidth"))
        expected = np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1) * 65535
    else:
        expected = unsaid(values, dataset.BitsStored)
    assert off(px.load_film(path), expected) <= 1
