"""How far a projection is from its film, and what it lost: known differences are measured and found where they were
put."""

import numpy as np
import pytest

from thiscxr.latent.lost import LEAST_LEVELS, distances, lost, nearest_and_median, projection_picture
from thiscxr.pixels.drawing import LEAST_SIDE

Y, X = np.mgrid[:64, :64]
FILM = (60 + 100 * (np.hypot(X - 32, Y - 32) < 24)).astype(np.uint8)


def test_distances_are_those_of_the_textbook() -> None:
    others = np.stack([FILM, FILM + 10, 255 - FILM]).astype(np.uint8)
    features = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0]])
    found = distances(FILM, features[0], others, features)
    np.testing.assert_allclose(found["mae"][:2], [0, 10])
    np.testing.assert_allclose(found["psnr"][1], 20 * np.log10(25.5))
    np.testing.assert_allclose(found["features"], [0, 5, 2])
    assert found["ms_ssim"][0] == pytest.approx(1, abs=1e-5)
    assert found["ms_ssim"][0] > found["ms_ssim"][1] > found["ms_ssim"][2]
    table = nearest_and_median({name: values[1:] for name, values in found.items()})
    assert table["mae"]["nearest"] == 10
    assert table["psnr"]["nearest"] == pytest.approx(found["psnr"][1])
    assert table["features"] == {"nearest": 2, "median": 3.5}


@pytest.mark.parametrize(
    ("levels", "words"), [(60, "on the film 60 grey levels brighter"), (-60, "on the film 60 grey levels darker")]
)
def test_a_planted_line_is_found_where_it_is(levels: int, words: str) -> None:
    """A slanted line of one pixel in a film that its projection matches except for noise."""
    rng = np.random.default_rng(0)
    line = np.zeros((64, 64), bool)
    line[np.arange(10, 40), 20 + np.arange(30) // 2] = True
    film = np.clip(FILM + levels * line + rng.normal(0, 2, (64, 64)), 0, 255).astype(np.uint8)
    found = lost(film, FILM)
    assert found.largest is not None
    assert (found.largest.left, found.largest.top, found.largest.right, found.largest.bottom) == (20, 10, 35, 40)
    assert found.largest.num_pixels == 30
    assert words in found.largest.words
    assert (found.brightest == found.largest) is (levels > 0)
    energy = (film.astype(float) - FILM) ** 2
    assert found.largest.share == pytest.approx(energy[line].sum() / energy.sum())
    assert found.share == pytest.approx(energy.sum() / ((film - film.mean()) ** 2).sum())


def test_a_bright_piece_is_reported_beside_a_larger_dark_one() -> None:
    film = FILM.copy()
    film[30:40, 20:40] -= 80
    film[5:8, 50:60] += 90
    found = lost(film, FILM)
    assert found.largest is not None
    assert found.brightest is not None
    assert found.largest.mean == -80
    assert (found.brightest.top, found.brightest.left, found.brightest.mean) == (5, 50, 90)


def test_nothing_is_found_where_nothing_stands_out() -> None:
    same = lost(FILM, FILM)
    assert same.share < 1e-12
    assert same.largest is same.brightest is None
    faint = FILM.copy()
    faint[10:12, 10:12] += int(LEAST_LEVELS) - 1
    assert lost(faint, FILM).largest is None
    everywhere = lost((FILM + 30).astype(np.uint8), FILM)
    assert everywhere.share > 0.3
    assert everywhere.largest is None, "a film that is brighter all over lost no piece"


def test_the_picture_says_which_is_real_and_boxes_what_was_lost() -> None:
    film = FILM.copy()
    film[5:8, 50:60] += 90
    found = lost(film, FILM)
    pictures = {real: projection_picture(film, FILM, found, real, ("a line",)) for real in (True, False)}
    assert (pictures[True] != pictures[False]).any(), "the words above differ"
    picture = pictures[True].astype(int)
    side = 64 * -(-2 * LEAST_SIDE // 64)
    orange = (picture[..., 0] > 200) & (picture[..., 2] < 60)
    assert orange.sum() >= 9 * 30, "what is brighter on the film"
    left = picture[40 : 40 + side, 4 : 4 + side]
    np.testing.assert_array_equal(left[:: side // 64, :: side // 64, 0], film)
