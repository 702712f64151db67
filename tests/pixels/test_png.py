"""Pixels to numbers and to pictures: exact both ways, with their text."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.films import DEEP, RAMP
from thiscxr import pixels as px


@pytest.mark.parametrize("bits", [8, 16])
def test_pixels_survive_the_way_to_images_and_back(bits):
    every = np.arange(2**bits).astype(np.uint8 if bits == 8 else np.uint16)
    images = px.pixels_to_images(every)
    assert images.dtype == np.float32
    assert (images[0], images[-1]) == (-1, 1)
    assert np.array_equal(px.images_to_pixels(images), px.to_bits(every, 8))


def test_bits_are_exact_both_ways():
    every = np.arange(256, dtype=np.uint8)
    assert np.array_equal(px.to_bits(px.to_bits(every, 16), 8), every)
    assert px.to_bits(every, 16)[-1] == 65535
    deep = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(px.to_bits(deep, 8), np.rint(deep / 257))


def test_values_outside_the_range_are_clipped():
    assert px.images_to_pixels(np.array([-3.0, 0.0, 3.0])).tolist() == [0, 128, 255]


def test_grid_is_in_reading_order():
    films = np.arange(5, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 3), np.uint8)
    grid = px.make_grid(films, 3)
    assert grid.shape == (4, 9)
    assert grid[::2, ::3].tolist() == [[0, 1, 2], [3, 4, 0]]


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(
    ("shape", "kind"), [((64, 64), np.uint8), ((33, 17), np.uint16), ((5, 9, 3), np.uint8), ((1, 1), np.uint8)]
)
def test_every_png_that_is_written_comes_back_with_its_text(shape, kind, compressed):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max + 1, shape).astype(kind)
    text = {"Title": "plain", "Latin": "é", "Beyond": "日本", "XML:com.adobe.xmp": "<x>é</x>"}
    for some in (pixels, pixels[:, ::-1]):
        data = px.encode_png(some, text, compressed)
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            assert np.array_equal(np.array(image), some)
            assert dict(image.text) == text
    same = px.encode_png(np.zeros(shape, kind), text, compressed)
    assert (len(same) == len(data)) != compressed or shape == (1, 1), (
        "stored as they are, all films of a shape have one size"
    )


def test_png_text_round_trip_is_deterministic(tmp_path: Path):
    text = {"Comment": "synthetic, not a patient", "Größe": "64 px – ok"}
    px.save_png(tmp_path / "a.png", RAMP, text)
    px.save_png(tmp_path / "b.png", RAMP, text)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert px.read_png_text(tmp_path / "a.png") == text
    assert np.array_equal(px.load_film(tmp_path / "a.png").pixels, RAMP)
    px.save_png(tmp_path / "deep.png", DEEP)
    assert np.array_equal(px.load_film(tmp_path / "deep.png", stretch=False).pixels, DEEP)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "deep.png"]


def test_a_picture_in_colour_is_written_as_it_is(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    px.save_png(tmp_path / "x.png", pixels)
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == "RGB"
        assert (np.array(image) == pixels).all()
    with pytest.raises(AssertionError):
        px.save_png(tmp_path / "y.png", np.zeros((5, 7, 3), np.uint16))
