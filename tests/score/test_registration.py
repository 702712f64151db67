"""Registration: known moves are recovered on phantoms, and films without a chest match nothing."""

import numpy as np
import pytest
import torch

from thiscxr.phantom import SITES, draw_patient, render
from thiscxr.pixels import images_to_pixels, pixels_to_images
from thiscxr.score.registration import LEAST_MATCH, MeanFilm, Motion, find_poses, mean_film, move


@pytest.fixture(scope="module")
def phantoms() -> np.ndarray:
    return np.stack([render(draw_patient(500 + i), "PA", 64, site=SITES[0]).pixels for i in range(40)])


@pytest.fixture(scope="module")
def mean(phantoms: np.ndarray) -> MeanFilm:
    return mean_film(phantoms)


def moved(pixels: np.ndarray, motion: Motion) -> np.ndarray:
    images = torch.from_numpy(pixels_to_images(pixels))[:, None]
    return images_to_pixels(move(images, motion)[:, 0].numpy())


def test_content_moves_by_the_given_amounts() -> None:
    film = np.zeros((1, 64, 64), np.uint8)
    film[0, 16, 32] = 255  # above the middle
    for motion, (row, column) in (
        (Motion(), (16, 32)),
        (Motion(shift_x=0.125), (16, 40)),
        (Motion(shift_y=0.25), (32, 32)),
        (Motion(turn=90), (32, 47)),  # clockwise: to the right
        (Motion(scale=1.5), (8, 32)),
        (Motion(turn=90, shift_x=-0.25), (32, 31)),
    ):
        found = np.unravel_index(np.argmax(moved(film, motion)), film.shape)[1:]
        assert np.abs(np.subtract(found, (row, column))).max() <= 1, (motion, found)
    np.testing.assert_array_equal(moved(film, Motion()), film)


def test_no_black_comes_in_at_the_border() -> None:
    grey = np.full((1, 32, 32), 130, np.uint8)
    for motion in (Motion(turn=20), Motion(shift_x=0.15), Motion(scale=0.8)):
        np.testing.assert_allclose(moved(grey, motion), 130, atol=1)


@pytest.mark.parametrize(
    "motion",
    [
        Motion(turn=-12),
        Motion(turn=6),
        Motion(shift_x=0.1),
        Motion(shift_y=-0.08),
        Motion(scale=0.85),
        Motion(scale=1.15),
    ],
)
def test_known_moves_are_found_again(phantoms: np.ndarray, mean: MeanFilm, motion: Motion) -> None:
    before, match = find_poses(phantoms, mean)
    after, match_after = find_poses(moved(phantoms, motion), mean)
    good = (match > LEAST_MATCH) & (match_after > LEAST_MATCH)
    assert good.mean() > 0.85
    assert np.median(after[good, 0] - before[good, 0]) == pytest.approx(motion.turn, abs=0.6)
    assert np.median(after[good, 3] / before[good, 3]) == pytest.approx(motion.scale, rel=0.025)
    for column, shift in ((1, motion.shift_x), (2, motion.shift_y)):
        assert np.median(after[good, column] - before[good, column]) == pytest.approx(shift, abs=0.012)


def test_brightness_and_contrast_are_no_pose(phantoms: np.ndarray, mean: MeanFilm) -> None:
    before, _ = find_poses(phantoms, mean)
    after, _ = find_poses(np.rint(phantoms * 0.6 + 40).astype(np.uint8), mean)
    assert np.median(np.abs(after[:, 0] - before[:, 0])) < 0.1
    assert abs(np.median(before[:, 0])) < 0.5, "the median film is upright"
    assert np.median(before[:, 3]) == pytest.approx(1, abs=0.02)


def test_what_is_no_chest_matches_nothing(mean: MeanFilm) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (10, 64, 64)).astype(np.uint8)
    flat = np.full((3, 64, 64), 90, np.uint8)
    _, match = find_poses(np.concatenate([noise, flat]), mean)
    assert (match < LEAST_MATCH).all(), match
    assert find_poses(np.empty((0, 64, 64), np.uint8), mean)[0].shape == (0, 4)
    with pytest.raises(ValueError, match="no films to average"):
        mean_film(np.empty((0, 64, 64), np.uint8))
