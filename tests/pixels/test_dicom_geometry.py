"""DICOM films of oblong pixels, of any orientation, and decoded no larger than wanted."""

import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from tests.films import DEEP, dicom, smooth
from tests.greys import difference, load, spread
from thiscxr import pixels as px
from thiscxr.pixels import dicom as pixels_dicom


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
    expected = turn(spread(stored))
    assert difference(film, expected) == 0
    assert (film.native_height, film.native_width) == expected.shape
    assert film.pixel_aspect == (0.5 if expected.shape == stored.shape else 2)


@pytest.mark.parametrize(
    ("orientation", "corner"), [("LF", (0, 1)), ("RF", (0, 0)), ("LH", (1, 1)), ("FL", (1, 0)), ("HL", (1, 1))]
)
def test_a_marker_at_the_left_shoulder_is_at_the_upper_right(orientation, corner):
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
    differences = []
    for _ in range(2):
        squares = [
            px.to_bits(px.to_square(each, 256), 8).astype(int) for each in (areas, load(data, min_side=250).pixels)
        ]
        differences.append(np.abs(squares[0] - squares[1]).max())
        monkeypatch.setattr(pixels_dicom, "recentred", lambda pixels, halvings: pixels)  # what it would be without
    assert differences[0] <= 25 < 40 < differences[1], differences  # at a step of 250


def test_dicom_jpeg_is_reduced_too():
    values = smooth(900, 700, 8)
    film = load(dicom(values, 8, syntax=JPEGBaseline8Bit), min_side=80)
    assert film.pixels.shape == (225, 175)
    assert (film.native_width, film.native_height) == (700, 900)
