"""Films made square: cropped, padded and reduced, never enlarged or squashed."""

import numpy as np
import pytest
from PIL import Image

from tests.films import RAMP, smooth
from thiscxr import pixels as px


def test_resizing_by_boxes_first_stays_close_to_plain_lanczos():
    film = smooth(2048, 2048, 8)
    plain = np.asarray(Image.fromarray(film).resize((128, 128), Image.Resampling.LANCZOS)).astype(int)
    assert np.abs(px.to_square(film, 128) - plain).max() <= 3


def test_a_film_fits_a_picture_whole():
    film = np.full((20, 40), 90, np.uint8)
    for res in (20, 80):
        square = px.fit(film, res)
        assert square.shape == (res, res)
        assert (square[res // 4 : -res // 4] == 90).all()
        assert not square[: res // 4].any()
        assert not square[-res // 4 :].any()
    np.testing.assert_array_equal(px.fit(film[:, :20], 20), film[:, :20])


def test_square_film_at_the_resolution_is_left_alone():
    bordered = RAMP.copy()
    bordered[:5] = 0
    assert px.to_square(bordered, 64) is bordered


def test_crop_and_pad_keep_the_shape_of_things():
    """A disc stays a disc: the second moments along both axes agree."""
    for height, width in ((300, 256), (256, 300), (600, 256), (256, 600)):
        y, x = np.mgrid[:height, :width]
        film = np.where((y - height / 2) ** 2 + (x - width / 2) ** 2 < 60**2, 255, 10).astype(np.uint8)
        film[0, ::2] = film[-1, ::2] = 11  # keep the border from being constant
        film[::2, 0] = film[::2, -1] = 11
        square = px.to_square(film, 128)
        rows, columns = np.nonzero(square > 128)
        assert square.shape == (128, 128)
        assert abs(rows.std() / columns.std() - 1) < 0.02
        padded = max(height, width) / min(height, width) > px.CROP_ASPECT
        assert abs(rows.std() * 2 - 60 * 128 / (max(height, width) if padded else min(height, width))) < 1
        assert (square[0].max() == 0 or square[:, 0].max() == 0) == padded


def test_constant_borders_are_cropped_only_when_enough_is_left():
    film = np.zeros((100, 100), np.uint8)
    film[10:90, 10:90] = np.random.default_rng(0).integers(0, 256, (80, 80))
    assert px.content_box(film) == (10, 10, 90, 90)
    inside = Image.fromarray(film[10:90, 10:90]).resize((64, 64), Image.Resampling.LANCZOS)
    assert np.array_equal(px.to_square(film, 64), np.array(inside))
    small = np.zeros((70, 70), np.uint8)
    small[10:60, 10:60] = film[10:60, 10:60]
    assert px.to_square(small, 64)[0].max() <= 5  # cropped it would be 50 pixels, so the border stays


def test_films_are_never_enlarged():
    with pytest.raises(ValueError, match="short side 60 px is below the resolution 64"):
        px.to_square(np.zeros((200, 60), np.uint8), 64)


def test_restored_aspect_undoes_the_squash():
    y, x = np.mgrid[:512, :512]
    # a disc of a 5:4 film, squashed
    disc = np.where((y - 256) ** 2 + ((x - 256) * 1.25) ** 2 < 150**2, 255, 10).astype(np.uint8)
    disc[0, ::2] = disc[-1, ::2] = disc[::2, 0] = disc[::2, -1] = 11
    rows, columns = np.nonzero(px.to_square(disc, 128) > 128)
    assert rows.std() / columns.std() > 1.2
    rows, columns = np.nonzero(px.to_square(disc, 128, aspect=1.25) > 128)
    assert abs(rows.std() / columns.std() - 1) < 0.02
    with pytest.raises(ValueError, match="short side 410 px once its aspect is restored"):
        px.to_square(disc, 512, aspect=1.25)
