"""Padding and borders, as declared in a file or not: black, and without effect on the greys of the film."""

import io

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, RLELossless

from tests.films import DEEP, dicom, png, smooth
from tests.greys import WINDOW, collimated, off, stretched
from thiscxr import pixels as px
from thiscxr.pixels.grey import content_box


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


def test_borders_of_films_with_a_window_are_left_to_the_framing():
    values = bordered(smooth(100, 90, 12), 0)
    assert px.load_film(dicom(values, **WINDOW)).pixels.shape == values.shape
    assert px.load_film(png(values), stretch=False).pixels.shape == values.shape
    padded = px.load_film(dicom(values, PixelPaddingValue=0))
    assert padded.pixels.shape == values.shape


def test_rings_within_rings_do_not_take_for_ever():
    y, x = np.mgrid[-500:500, -500:500]
    left, top, right, bottom = content_box(np.maximum(abs(x + 0.5), abs(y + 0.5)).astype(np.uint16))
    assert (right - left, bottom - top) == (992, 992)  # four of 500
