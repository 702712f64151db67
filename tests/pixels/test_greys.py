"""The grey of a film: by its display settings, unchanged, or by percentiles; known answers from DICOM PS3.3 C.11, by
hand."""

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

from tests.films import DEEP, RAMP, dicom, lut_item, png, smooth
from tests.greys import FULL, WINDOW, off, stretched
from thiscxr import pixels as px
from thiscxr.pixels.display import numbers


def test_a_bright_marker_does_not_change_the_chest():
    chest = 300 + smooth(128, 128, 10)
    marked = chest.copy()
    marked[:8, :10] = 4095
    for values in (chest, marked):
        data = dicom(values, **WINDOW)
        assert off(data, values / 4095) <= 1
        assert px.load_film(data).greys == "window"


@pytest.mark.parametrize("width", [1.5, 2, 700, 70000])
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_windows_give_the_greys_of_the_standard(width, photometric):
    values = DEEP.astype(float)
    for function, expected in {
        "": np.clip((values - 1899.5) / (width - 1) + 0.5, 0, 1),
        " linear": np.clip((values - 1899.5) / (width - 1) + 0.5, 0, 1),
        "LINEAR_EXACT": np.clip((values - 1900) / width + 0.5, 0, 1),
        "linear_exact": np.clip((values - 1900) / width + 0.5, 0, 1),
        "Sigmoid ": 1 / (1 + np.exp(np.clip(-4 * (values - 1900) / width, -700, 700))),
    }.items():
        data = dicom(DEEP, photometric=photometric, WindowCenter=1900, WindowWidth=width, VOILUTFunction=function)
        assert off(data, 1 - expected if photometric == "MONOCHROME1" else expected) <= 1, function
        assert px.load_film(data).greys == ("sigmoid" if "ig" in function else "window")


def items(**tags) -> list[pydicom.Dataset]:
    """Return a sequence of one item."""
    item = pydicom.Dataset()
    item.update(tags)
    return [item]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("own", [False, True])
def test_the_only_frame_of_an_enhanced_object_has_its_display_in_functional_groups(own, syntax):
    """They were not read: a film with this window was stretched, 64 levels off."""
    shown = items(
        PixelValueTransformationSequence=items(RescaleSlope="2", RescaleIntercept="-100"),
        FrameVOILUTSequence=items(WindowCenter="3000", WindowWidth="1001"),
        PixelMeasuresSequence=items(PixelSpacing=["0.2", "0.1"]),
    )
    groups = {
        "SharedFunctionalGroupsSequence": items() if own else shown,
        "PerFrameFunctionalGroupsSequence": shown if own else items(),
    }
    data = dicom(DEEP, syntax=syntax, NumberOfFrames=1, **groups)
    assert off(data, np.clip((2.0 * DEEP - 100 - 2999.5) / 1000 + 0.5, 0, 1)) <= 1
    film = px.load_film(data)
    assert (film.greys, film.pixel_aspect) == ("window", 0.5)
    assert off(dicom(DEEP, **groups, RescaleSlope=1, RescaleIntercept=0, **WINDOW), FULL) <= 1, (
        "what the film says itself comes first"
    )
    curve = np.rint(4095 * FULL.ravel() ** 0.5).astype(int)
    groups["SharedFunctionalGroupsSequence"] = items(FrameVOILUTSequence=items(VOILUTSequence=[lut_item(0, curve, 12)]))
    assert off(dicom(DEEP, **groups | {"PerFrameFunctionalGroupsSequence": items()}), curve[DEEP] / 4095) <= 1


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT"])
def test_windows_narrower_than_one_are_exact(function):
    """LINEAR is defined from 1 on; values that were scaled down to 0 to 0.41 have such windows."""
    tags = {
        "RescaleSlope": "0.0001",
        "RescaleIntercept": "0",
        "WindowCenter": "0.2",
        "WindowWidth": "0.28",
        "VOILUTFunction": function,
    }
    assert off(dicom(DEEP, **tags), np.clip((DEEP * 0.0001 - 0.2) / 0.28 + 0.5, 0, 1)) <= 1


def raw_tags(data: bytes, **texts: str) -> bytes:
    """Put texts, as they are, in the place of windows and the like: pydicom would not write all that there is."""
    for name, text in texts.items():
        tag = pydicom.tag.Tag(pydicom.datadict.tag_for_keyword(name))
        head = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little") + b"DS"
        at, value = data.index(head), (text + " " * (len(text) % 2)).encode()
        end = at + 8 + int.from_bytes(data[at + 6 : at + 8], "little")
        data = data[:at] + head + len(value).to_bytes(2, "little") + value + data[end:]
    return data


@pytest.mark.parametrize(
    ("center", "width"),
    [
        ("2048", "4096"),
        ("2048,0", "4096,0"),
        ("2048\\", "4096\\"),
        ("2048\\  ", "4096\\  "),
        ("2048\\100", "4096\\10"),
        ("0\\2048", "0\\4096"),
        ("\\2048", "\\4096"),
        ("abc\\2048", "7\\4096"),
        ("5\\5\\2048", "-1\\NaN\\4096"),
        (" 2048\0", "4.096E3"),
        ("99999\\2048", "10\\4096"),  # the first shows nothing of the film
    ],
)
def test_the_first_window_that_is_one_counts(center, width):
    data = raw_tags(dicom(DEEP, **WINDOW), WindowCenter=center, WindowWidth=width)
    assert off(data, FULL) <= 1
    assert px.load_film(data).greys == "window"


@pytest.mark.parametrize(
    ("center", "width"),
    [("2048", "0"), ("2048", "-5"), ("", "100"), ("2048", ""), ("abc", "100"), ("1", "nan"), ("0\\0", "0\\0")],
)
def test_an_impossible_window_is_ignored(center, width):
    data = raw_tags(dicom(DEEP, **WINDOW), WindowCenter=center, WindowWidth=width)
    assert off(data, stretched(DEEP)) <= 1
    assert px.load_film(data).greys == "percentiles"


@given(
    st.lists(
        st.one_of(st.floats(-1e6, 1e6, width=32), st.sampled_from(["", "x", "1.2.3", "--1", "nan", "inf"])), max_size=5
    ),
    st.booleans(),
)
def test_numbers_of_a_tag_are_read_with_any_separator(items, comma):
    """Every number is at its place, whatever its decimal sign; what is none is nan, and nothing is raised."""
    text = "\\".join(str(entry) for entry in items)
    dataset = pydicom.Dataset()
    value = (text.replace(".", ",") if comma else text).encode()
    tag = pydicom.tag.Tag("WindowCenter")
    dataset._dict[tag] = pydicom.dataelem.RawDataElement(tag, "DS", len(value), value, 0, False, True)
    found = numbers(dataset, "WindowCenter")
    expected = [float(entry) if isinstance(entry, float) else np.nan for entry in items]
    while items and items[-1] == "":
        items, expected = items[:-1], expected[:-1]
    assert [value if np.isfinite(value) else np.nan for value in found] == pytest.approx(expected, nan_ok=True)


TABLES = [(bits, form) for bits in (8, 9, 10, 12, 14, 16) for form in ("OW", "US")] + [
    (8, "packed"),
    (7, "OW"),
    (1, "OW"),
]


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian], ids=["explicit", "implicit", "big"]
)
@pytest.mark.parametrize(("bits", "form"), TABLES)
def test_look_up_tables_of_any_depth(bits, form, syntax):
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    table = np.rint((np.arange(4096) / 4095) ** 0.5 * (2**bits - 1)).astype(int)
    voi = dicom(DEEP, syntax=syntax, VOILUTSequence=[lut_item(0, table, bits, form, order=order)], **WINDOW)
    assert off(voi, table[DEEP] / (2**bits - 1)) <= 1
    assert px.load_film(voi).greys == "lut"
    if bits > 1:
        modality = dicom(DEEP, syntax=syntax, ModalityLUTSequence=[lut_item(0, table, bits, form, order=order)])
        assert off(modality, stretched(table[DEEP])) <= 1
        assert px.load_film(modality).greys == "percentiles"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=["explicit", "implicit"])
@pytest.mark.parametrize("signed", ["stored", "rescaled"])
def test_the_first_value_of_a_table_may_be_negative(signed, syntax):
    table = np.arange(4096) * 16
    if signed == "stored":
        data = dicom(DEEP.astype(np.int16) - 2048, syntax=syntax, VOILUTSequence=[lut_item(-2048, table, 16)])
    else:
        data = dicom(
            DEEP, syntax=syntax, RescaleSlope=1, RescaleIntercept=-2048, VOILUTSequence=[lut_item(-2048, table, 16)]
        )
    assert off(data, DEEP * 16 / 65535) <= 1
    stored = dicom(DEEP.astype(np.int16) - 2048, syntax=syntax, ModalityLUTSequence=[lut_item(-2048, table[::-1], 16)])
    assert off(stored, stretched(-DEEP.astype(float))) <= 1


def test_tables_go_before_their_descriptors():
    table = np.arange(4096)
    short = dicom(DEEP, VOILUTSequence=[lut_item(0, table[:4000], 12, entries=4096)])
    assert off(short, np.minimum(DEEP, 3999) / 4095) <= 1
    for said in (0, 8, 11, 12, 17):  # twelve bits there are
        assert off(dicom(DEEP, VOILUTSequence=[lut_item(0, table, said)]), FULL) <= 1, said
    whole = np.arange(65536)
    # 65,536 entries are written as 0
    assert off(dicom(DEEP * 16, 16, VOILUTSequence=[lut_item(0, whole, 16)]), DEEP * 16 / 65535) <= 1
    odd = (np.arange(255) // 1)[::-1]
    assert off(dicom(RAMP, 8, VOILUTSequence=[lut_item(0, odd, 8, "packed")]), odd[np.minimum(RAMP, 254)] / 255) <= 1


def empty(**tags) -> pydicom.Dataset:
    made = pydicom.Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def test_empty_display_settings_are_ignored():
    for hollow in (
        empty(),
        empty(LUTExplanation=""),
        empty(LUTDescriptor=[4096, 0, 12]),
        empty(LUTDescriptor=[4096, 0, 12], LUTData=b""),
    ):
        for name in ("VOILUTSequence", "ModalityLUTSequence"):
            assert off(dicom(DEEP, **{name: [hollow]}), stretched(DEEP)) <= 1
            assert off(dicom(DEEP, **{name: [hollow]}, **WINDOW), FULL) <= 1
        second = [hollow, lut_item(0, np.arange(4096) * 8, 15)]
        assert off(dicom(DEEP, VOILUTSequence=second), DEEP * 8 / 32767) <= 1
    for slope, intercept in ((None, None), ("1", None), (None, "0"), ("", ""), ("0", "5"), ("0", "0")):
        tags = {"RescaleSlope": slope, "RescaleIntercept": intercept}
        assert off(dicom(DEEP, **tags), stretched(DEEP)) <= 1
        assert off(dicom(DEEP, **tags, **WINDOW), FULL) <= 1, tags
    for slope in ("NaN", "1e400", "abc"):  # it says something, and nobody knows what
        with pytest.raises(ValueError, match="not finite"):
            px.load_film(raw_tags(dicom(DEEP, RescaleSlope=1, RescaleIntercept=0, **WINDOW), RescaleSlope=slope))
    comma = raw_tags(
        dicom(DEEP, RescaleSlope=1, RescaleIntercept=0, **WINDOW), RescaleSlope="0,5", RescaleIntercept="1024,0"
    )
    assert off(comma, (DEEP / 2 + 1024) / 4095) <= 1
    with pytest.raises(ValueError, match="look-up tables"):
        px.load_film(dicom(DEEP, VOILUTSequence=[empty(LUTDescriptor=[4096, 0], LUTData=bytes(8192))]))


def test_a_falling_rescale_turns_the_film_round():
    falling = {"RescaleSlope": -1, "RescaleIntercept": 4095}
    assert off(dicom(DEEP, **falling, **WINDOW), 1 - FULL) <= 1
    assert off(dicom(DEEP, **falling), stretched(-DEEP.astype(float))) <= 1
    assert off(dicom(RAMP, 8, **falling), 1 - RAMP / 255) <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("shape", [None, "IDENTITY", "INVERSE", "inverse ", "NONSENSE"])
def test_the_presentation_shape_goes_before_the_photometric_interpretation(photometric, shape):
    data = dicom(DEEP, photometric=photometric, PresentationLUTShape=shape, **WINDOW)
    inverted = photometric == "MONOCHROME1" if shape in (None, "NONSENSE") else "nv" in shape.lower()
    assert off(data, 1 - FULL if inverted else FULL) <= 1
    assert px.load_film(data).inverted == inverted


@pytest.mark.parametrize("res", [64, 48, 16])
def test_one_exposure_of_eight_bits_is_one_film_as_png_and_as_dicom(res):
    """To the byte, also once it is reduced, in either polarity, signed or not, in more bits than it needs, and as a
    screen capture."""
    plain = px.load_film(png(RAMP))
    assert np.array_equal(plain.pixels, RAMP)
    full = {"WindowCenter": 128, "WindowWidth": 256}
    for data in (
        dicom(RAMP, 8),
        dicom(255 - RAMP, 8, "MONOCHROME1"),
        dicom(RAMP.astype(np.int16) - 128, 8),
        dicom(RAMP.astype(np.uint16), 16, BitsStored=8, HighBit=7),
        dicom(RAMP, 8, **full),
        dicom(RAMP, 8, RescaleSlope=3, RescaleIntercept=-9),
        dicom(RAMP, 8, syntax=JPEGLSLossless),
        dicom(np.dstack([RAMP] * 3), 8, "RGB"),
        dicom(np.dstack([RAMP] * 3), 8, "RGB", WindowCenter=20, WindowWidth=10),  # no window is for colours
    ):
        film = px.load_film(data)
        assert film.greys == ("window" if b"WindowWidth" in data else film.greys)
        assert np.array_equal(px.to_square(film.pixels, res), px.to_square(plain.pixels, res))
    dark = smooth(64, 64, 8) // 4  # it does not fill its range, and stays dark
    assert np.array_equal(px.load_film(dicom(dark, 8)).pixels, dark)
    assert np.array_equal(px.load_film(png(dark)).pixels, dark)


def test_a_modality_table_of_a_film_of_eight_bits():
    curve = np.rint((np.arange(256) / 255) ** 2 * 4095).astype(int)
    assert off(dicom(RAMP, 8, ModalityLUTSequence=[lut_item(0, curve // 16, 8)]), (curve // 16)[RAMP] / 255) <= 1
    # now it has twelve
    assert off(dicom(RAMP, 8, ModalityLUTSequence=[lut_item(0, curve, 12)]), stretched(curve[RAMP])) <= 1
