"""What grey a film gets: as its file says, as it is, or by percentiles; known answers from DICOM PS3.3 C.11, by
hand."""

import io
from itertools import product

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from tests.films import DEEP, RAMP, coded_frame, deep_png, dicom, encoded, lut_item, png, raw_tiff, smooth
from thiscxr import pixels as px
from thiscxr.pixels.display import numbers
from thiscxr.pixels.grey import content_box

WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}  # all of twelve bits
FULL = DEEP / 4095


def levels(data: bytes, **options) -> np.ndarray:
    """Return the film in [0, 1]."""
    return px.to_bits(px.load_film(data, **options).pixels, 16) / 65535


def off(data: bytes, expected: np.ndarray) -> float:
    """Return the largest difference in steps of 16 bits; expected in [0, 1]."""
    found = levels(data)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() * 65535)


def stretched(values: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """Return values between the 0.5 and 99.5 percentiles of those that count."""
    low, high = np.percentile(values if counted is None else values[counted], (0.5, 99.5))
    return np.clip((values - low) / (high - low), 0, 1)


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
def test_a_window_that_is_none_says_nothing(center, width):
    data = raw_tags(dicom(DEEP, **WINDOW), WindowCenter=center, WindowWidth=width)
    assert off(data, stretched(DEEP)) <= 1
    assert px.load_film(data).greys == "percentiles"


@given(
    st.lists(
        st.one_of(st.floats(-1e6, 1e6, width=32), st.sampled_from(["", "x", "1.2.3", "--1", "nan", "inf"])), max_size=5
    ),
    st.booleans(),
)
def test_numbers_of_a_tag_are_read_whatever_stands_between(items, comma):
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


def test_tables_are_believed_before_their_descriptors():
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


def test_what_is_there_but_empty_says_nothing():
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


def collimated(fill: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a film within a rhomb, `fill` round it, and where the film is."""
    y, x = np.mgrid[: values.shape[0], : values.shape[1]] / values.shape[0]
    inside = (abs(y - 0.5) + abs(x - 0.5)) < 0.45
    return np.where(inside, values, fill), inside


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize(
    ("fill", "dtype", "bits", "tags"),
    [
        (0, np.uint16, 12, {}),
        (4095, np.uint16, 12, {}),
        (-2000, np.int16, 16, {}),
        (-2000, np.int16, 12, {}),
        (-32768, np.int16, 16, {}),
        (63536, np.uint16, 12, {}),  # beyond what is stored
        (65535, np.uint16, 16, {}),
        (3, np.uint16, 12, {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 5}),
        (3, np.uint16, 12, {"PixelPaddingValue": 5, "PixelPaddingRangeLimit": 0}),
        (-1999, np.int16, 16, {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}),
    ],
)
def test_padding_is_black_and_counts_for_nothing(fill, dtype, bits, tags, photometric):
    film = 400 + smooth(96, 96, 11).astype(int)
    values, inside = collimated(fill, film)
    frame = values.astype(np.int64).astype(np.uint16).tobytes()
    signed = dtype == np.int16
    padding = tags or {"PixelPaddingValue": fill}
    data = dicom(film.astype(np.uint16), bits, photometric, frame=frame, PixelRepresentation=int(signed), **padding)
    negative = photometric == "MONOCHROME1"
    expected = stretched(film, inside)
    assert off(data, np.where(inside, 1 - expected if negative else expected, 0)) <= 1
    windowed = dicom(
        film.astype(np.uint16), bits, photometric, frame=frame, PixelRepresentation=int(signed), **padding, **WINDOW
    )
    assert off(windowed, np.where(inside, 1 - film / 4095 if negative else film / 4095, 0)) <= 1


def test_a_film_that_is_all_padding_is_refused():
    with pytest.raises(ValueError, match="constant image"):
        px.load_film(dicom(np.full((64, 64), 7), PixelPaddingValue=7))
    with pytest.raises(ValueError, match="constant image"):
        px.load_film(dicom(DEEP, PixelPaddingValue=0, PixelPaddingRangeLimit=4095, **WINDOW))


def bordered(film: np.ndarray, *greys: int, sides: tuple[int, int] = (9, 6)) -> np.ndarray:
    for grey in greys:
        film = np.pad(film, [sides, sides[::-1]], constant_values=grey)
    return film


@pytest.mark.parametrize("borders", [(0,), (65535,), (0, 65535), (65535, 0, 700), (4095,)])
def test_a_border_does_not_change_the_film(borders):
    """It is cut, before its greys could count: black, white, and one within the other."""
    film = 300 + smooth(100, 90, 11)
    plain = px.load_film(png(film)).pixels
    values = bordered(film, *borders)
    wide = bordered(film.astype(np.float32), *borders)
    tiff = io.BytesIO()
    Image.fromarray(wide).save(tiff, "TIFF")
    for data in (
        png(values),
        dicom(values, 16),
        dicom(values, 16, syntax=JPEG2000Lossless),
        dicom(values, 16, syntax=RLELossless),
    ):
        assert np.array_equal(px.load_film(data).pixels, plain)
    assert np.abs(px.load_film(tiff.getvalue()).pixels.astype(int) - plain).max() <= 1
    found = px.load_film(dicom(values, 16, PixelAspectRatio=[2, 1]))
    assert (found.native_height, found.native_width) == values.shape
    assert found.aspect == 0.5 * 90 / 100  # of what is left
    # what lies within is too small: the border stays, and still does not count
    kept = px.load_film(png(values), min_side=91).pixels
    assert kept.shape == values.shape
    assert np.array_equal(kept[len(borders) * 9 :][:100, len(borders) * 6 :][:, :90], plain)


def test_borders_that_say_how_they_are_shown_are_left_to_the_framing():
    values = bordered(smooth(100, 90, 12), 0)
    assert px.load_film(dicom(values, **WINDOW)).pixels.shape == values.shape
    assert px.load_film(png(values), stretch=False).pixels.shape == values.shape
    padded = px.load_film(dicom(values, PixelPaddingValue=0))
    assert padded.pixels.shape == values.shape


def test_rings_within_rings_do_not_take_for_ever():
    y, x = np.mgrid[-500:500, -500:500]
    left, top, right, bottom = content_box(np.maximum(abs(x + 0.5), abs(y + 0.5)).astype(np.uint16))
    assert (right - left, bottom - top) == (992, 992)  # four of 500


# Channels of sixteen bits.


def channels_of(film: np.ndarray, number: int) -> np.ndarray:
    other = np.random.default_rng(0).integers(0, 65536, film.shape).astype(np.uint16)  # alpha that would ruin it
    return np.dstack([film] * (3 if number > 2 else 1) + [other] * (number % 2 == 0))


@pytest.mark.parametrize("number", [2, 3, 4])
def test_png_of_several_channels_keeps_its_sixteen_bits(number):
    for film, interlaced in product((smooth(50, 70, 12), smooth(50, 70, 16)), (False, True)):
        data = deep_png(channels_of(film, number), interlaced)
        assert np.array_equal(px.load_film(data).pixels, px.load_film(png(film)).pixels)
        assert px.load_film(data).native_bits == 16
        assert np.array_equal(px.load_film(data, stretch=False).pixels, film)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("planar", "packed"), [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize(
    ("number", "photometric"), [(2, 1), (2, 0), (3, 2), (4, 2), (4, 5)], ids=["grey", "negative", "rgb", "rgba", "cmyk"]
)
def test_tiff_of_several_channels_keeps_its_sixteen_bits(number, photometric, planar, packed, order):
    film = smooth(50, 70, 12)
    values = channels_of(film, number)
    if photometric == 5:  # ink, and none of black
        values = np.dstack([65535 - film] * 3 + [np.zeros_like(film)])
    for extra in [None] if number == 3 or photometric == 5 else [0, 1, 2]:  # what the last channel is said to be
        data = raw_tiff(
            values, photometric, order, planar=planar, packed=packed, **({} if extra is None else {"t338": extra})
        )
        if planar and packed:
            with pytest.raises(ValueError, match="separate planes that are compressed"):
                px.load_film(data)
            continue
        found = px.load_film(data, stretch=False)
        assert np.array_equal(found.pixels, 65535 - film if photometric == 0 else film), extra
        assert (found.native_bits, found.native_height, found.native_width) == (16, 50, 70)


def test_channels_of_sixteen_bits_are_turned_and_told_from_colours():
    film = smooth(50, 70, 12)
    hue = np.roll(film, 25, axis=1)
    photograph = np.dstack([film, hue, 4095 - film])
    for data in (deep_png(photograph), raw_tiff(photograph, 2), raw_tiff(photograph, 2, planar=True)):
        with pytest.raises(ValueError, match="in colour, not a film"):
            px.load_film(data)
    tint = np.dstack([film * 0.9, film * 0.95, film]).round().astype(np.uint16)
    assert np.corrcoef(px.load_film(deep_png(tint)).pixels.ravel(), film.ravel())[0, 1] > 0.999
    for planar, orientation in product((False, True), range(1, 9)):
        exif = Image.Exif()
        exif[274] = orientation
        expected = px.load_film(png(film, exif=exif), stretch=False)
        found = px.load_film(raw_tiff(np.dstack([film] * 3), 2, planar=planar, t274=orientation), stretch=False)
        assert np.array_equal(found.pixels, expected.pixels)
        assert (found.native_height, found.native_width) == found.pixels.shape


# Headers.


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("true", [10, 12, 16])
def test_bits_stored_may_be_too_small_by_any_number(true, signed):
    film = smooth(80, 90, true)
    values = film.astype(int) - (2 ** (true - 1) if signed else 0)
    expected = stretched(values)
    for said in range(1, true):
        frame = values.astype(np.int64).astype(np.uint16).tobytes()
        data = dicom(film, true, frame=frame, BitsStored=said, HighBit=said - 1, PixelRepresentation=int(signed))
        assert off(data, expected) <= 1, said
        assert px.load_film(data).native_bits == true
    assert off(dicom(film, true, BitsStored=true - 1, HighBit=true - 2, syntax=RLELossless), stretched(film)) <= 1


def test_bits_stored_of_a_film_with_a_sharp_marker_an_overlay_or_unsaid_padding():
    film = 200 + smooth(128, 128, 11) * 3 // 4  # no more than 1,735, but for the marker
    film[4:14, 4:30] = 3900
    assert off(dicom(film, 12, BitsStored=10, HighBit=9), stretched(film)) <= 1
    box = np.zeros_like(film)
    box[30:60, 40:90] = 0x8000
    for rubbish in (
        box,
        box >> 3,
        np.where(box, 0xF000, 0),
        np.random.default_rng(0).integers(0, 16, film.shape) << 12,
    ):
        assert off(dicom(film, 12, frame=(film | rubbish).astype(np.uint16).tobytes()), stretched(film)) <= 1
    noise = (np.random.default_rng(0).random(film.shape) < 0.3).astype(np.uint16) << 15
    assert off(dicom(film, 12, frame=(film | noise).tobytes(), BitsStored=10, HighBit=9), stretched(film)) <= 1
    border, inside = collimated(65535, film)
    shown = levels(dicom(film, 12, frame=border.astype(np.uint16).tobytes()), min_side=128)
    assert np.ptp(shown[inside]) > 0.3  # the border is as white as white can be, not sixteen times as white


@pytest.mark.parametrize("high_bit", [11, 13, 15, 3])
def test_the_high_bit_may_lie_higher(high_bit):
    values = smooth(70, 90, 12)
    stored = (values << max(0, high_bit - 11)).tobytes()
    assert off(dicom(values, 12, frame=stored, HighBit=high_bit, **WINDOW), values / 4095) <= 1


@pytest.mark.parametrize("frames", [0, 1, "", None])
def test_no_number_of_frames_is_one(frames):
    assert off(dicom(DEEP, NumberOfFrames=frames), stretched(DEEP)) <= 1
    with pytest.raises(ValueError, match="its tags"):
        px.load_film(dicom(DEEP, NumberOfFrames=1).replace(b"IS\2\0001 ", b"IS\2\0MY"))


def test_a_mention_of_the_deflated_syntax_is_not_one():
    for tags in (
        {"ImageComments": "sent as 1.2.840.10008.1.2.1.99"},
        {"DerivationDescription": "1.2.840.10008.1.2.1.99"},
    ):
        data = dicom(DEEP, **tags)
        for form in (data, data[132:]):
            assert off(form, stretched(DEEP)) <= 1
        assert px.read_dicom_header(dicom(DEEP, ViewPosition="PA", **tags)).view == "PA"


def part_of_length_0(values: np.ndarray, bits: int, odd: bool) -> bytes:
    """Return a JPEG 2000 stream of even or odd length whose tile-part says length 0, as some encoders write it."""
    stream = bytearray(coded_frame(values, bits, JPEG2000Lossless))
    part = stream.index(b"\xff\x90\x00\x0a")  # SOT (ITU T.800 A.4.2): length, tile, then the length of the part
    stream[part + 6 : part + 10] = bytes(4)
    if len(stream) % 2 != odd:
        comment = b"\xff\x64\x00\x05\x00\x01x"  # COM, seven bytes
        stream[part:part] = comment
    return bytes(stream)


@pytest.mark.parametrize("odd", [True, False])
@pytest.mark.parametrize("pad", [b"", b"\0", b"\0\0\0", b"\xff"])
def test_a_pad_byte_after_jpeg_2000_is_no_part_of_it(odd, pad):
    values = smooth(70, 90, 12)
    stream = part_of_length_0(values, 12, odd)
    assert len(stream) % 2 == odd
    assert off(dicom(values, syntax=JPEG2000Lossless, frame=stream + pad), stretched(values)) <= 1
    boxed = encoded(Image.fromarray(values), "JPEG2000")  # a JP2 file, whose header counts for nothing
    assert off(dicom(values, 16, syntax=JPEG2000Lossless, frame=boxed + pad), stretched(values)) <= 1


def test_coded_pictures_that_are_stored_bare_or_said_not_to_be_coded():
    values = smooth(70, 90, 12)
    coded = dicom(values, syntax=JPEG2000Lossless)
    with pytest.raises(ValueError, match="pixels are coded, though it says that they are not"):
        px.load_film(coded.replace(b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.1\0\0\0"))
    plain = dicom(values, frame=coded_frame(values, 12, JPEG2000Lossless) + bytes(1))
    at = plain.index(b"1.2.840.10008.1.2.1\0") - 8
    bare = plain[:at] + b"\x02\0\x10\0UI\x16\0" + b"1.2.840.10008.1.2.4.90" + plain[at + 28 :]
    assert off(bare, stretched(values)) <= 1


def test_a_palette_of_greys_is_a_film_and_one_of_colours_is_not():
    dataset = pydicom.dcmread(io.BytesIO(dicom(RAMP, 8, "PALETTE COLOR")))
    rising = np.arange(256) * 257
    for red, green, blue, grey in ((rising, rising, rising, True), (rising, rising[::-1], rising, False)):
        for tag, table in ((0x00281101, red), (0x00281102, green), (0x00281103, blue)):
            dataset.add_new(tag, "US", [256, 0, 16])
            dataset.add_new(tag + 0x100, "OW", table.astype("<u2").tobytes())
        file = io.BytesIO()
        dataset.save_as(file)
        if grey:
            assert off(file.getvalue(), RAMP / 255) <= 1
            continue
        with pytest.raises(ValueError, match="in colour"):
            px.load_film(file.getvalue())


def test_pixels_that_are_no_whole_numbers_are_refused_as_such():
    dataset = pydicom.dcmread(io.BytesIO(dicom(DEEP)))
    del dataset.PixelData
    dataset.FloatPixelData = DEEP.astype("<f4").tobytes()
    dataset.BitsAllocated = 32
    file = io.BytesIO()
    dataset.save_as(file)
    with pytest.raises(ValueError, match="no whole numbers"):
        px.load_film(file.getvalue())
