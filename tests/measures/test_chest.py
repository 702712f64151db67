"""Sizes, places and opacity of drawn chests, whose answers are known."""

import numpy as np
import pytest

from thiscxr.measures.chest import MEASURES, OPACITIES, clipped, measure_masks, measure_opacity


def drawn_chest(left: slice, right: slice, heart: slice, rows: slice = slice(10, 50)) -> np.ndarray:
    masks = np.zeros((1, 2, 64, 64))
    masks[0, 0, rows, left] = masks[0, 0, rows, right] = 1
    masks[0, 1, 30:50, heart] = 1
    return masks


def test_measures_of_a_drawn_chest_are_those_of_its_rectangles() -> None:
    masks = drawn_chest(slice(10, 26), slice(42, 54), slice(26, 42))
    found = {name: float(values[0]) for name, values in measure_masks(masks).items()}
    assert tuple(found) == MEASURES
    assert found["ctr"] == pytest.approx(16 / 44)
    assert found["viewer_left_lung"] == pytest.approx(16 * 40 / 64**2)
    assert found["viewer_right_lung"] == pytest.approx(12 * 40 / 64**2)
    assert found["lung_symmetry"] == pytest.approx(12 / 16)
    assert found["heart_lean"] == pytest.approx((34 - 32) / 44)
    mirrored = measure_masks(masks[..., ::-1])
    assert mirrored["heart_lean"][0] == pytest.approx(-2 / 44)
    assert mirrored["viewer_left_lung"][0] == pytest.approx(found["viewer_right_lung"])


def test_faint_edges_count_by_their_share_of_a_pixel() -> None:
    masks = drawn_chest(slice(10, 26), slice(42, 54), slice(26, 42))
    # the crossing of one half moves by a sixth of a pixel from where the last whole pixel ends
    masks[0, 1, 30:50, 42] = 0.4
    wider = measure_masks(masks)["ctr"][0]
    assert 16 / 44 < wider < 17 / 44


def test_specks_far_from_the_organs_change_nothing_and_half_a_chest_is_no_chest() -> None:
    masks = drawn_chest(slice(10, 26), slice(42, 54), slice(26, 42))
    specks = masks.copy()
    specks[0, 0, 2:4, 60:62] = specks[0, 1, 60, 2] = 1
    for name, values in measure_masks(specks).items():
        np.testing.assert_allclose(values, measure_masks(masks)[name], err_msg=name)
    for gone in (0, 1):
        lacking = masks.copy()
        lacking[0, gone] = 0
        assert all(np.isnan(values[0]) for values in measure_masks(lacking).values())
    one_lung = masks.copy()
    one_lung[0, 0, :, 40:] = 0
    one_lung[0, 0, 10:12, 50:52] = 1  # a speck is no lung
    assert np.isnan(measure_masks(one_lung)["ctr"][0])
    assert measure_masks(np.zeros((0, 2, 64, 64)))["ctr"].shape == (0,)


CHEST = drawn_chest(slice(10, 26), slice(42, 54), slice(26, 42))


@pytest.mark.parametrize("heart", [slice(4, 60), slice(56, 64)], ids=["wider than the thorax", "beyond it"])
def test_a_heart_that_no_upright_chest_has_is_not_measured(heart: slice) -> None:
    masks = drawn_chest(slice(10, 26), slice(42, 54), heart)
    assert all(np.isnan(values[0]) for values in measure_masks(masks).values())


def film_of(viewer_left: float, viewer_right: float, heart: float = 200.0, air: float = 40.0) -> np.ndarray:
    """A film of CHEST whose lungs lie at these shares of the way from air to heart, a little darker upwards, in a
    brighter chest wall."""
    film = np.full((1, 64, 64), 230.0)
    for columns, share in ((slice(10, 26), viewer_left), (slice(42, 54), viewer_right)):
        film[0, 10:50, columns] = air + share * (heart - air) + np.arange(40)[:, None] / 40
    film[0, 30:50, 26:42] = heart
    return film


def test_opacity_is_the_share_of_the_tissue_around_the_lungs_that_is_darker() -> None:
    # the 2nd to 4th px around the lungs: along their sides and 6 at each corner; of the heart, 3 columns on either side
    around, heart = 2 * (2 * 40 + 16 + 12) * 3 + 8 * 6, 2 * 3 * 20
    film = film_of(0, 0)
    found = measure_opacity(film, CHEST)
    assert tuple(found) == OPACITIES
    assert {float(values[0]) for values in found.values()} == {0.0}, "darker than all tissue"
    film[0, 10:50, 42:54] = 210  # whiter than the heart, and the other lung as dark as before
    film[0, 10:50, 43:44] = 230  # one column of twelve is like the chest wall: equal ones are counted half
    expected = (11 * heart / around + (heart / around + (1 - heart / around) / 2)) / 12
    assert measure_opacity(film, CHEST)["viewer_right_opacity"][0] == pytest.approx(expected)
    assert measure_opacity(film, CHEST)["viewer_left_opacity"][0] == 0


def mixed(film: np.ndarray) -> np.ndarray:
    """The film with noise, so that lungs and tissue overlap."""
    return film + 40 * np.random.default_rng(0).normal(size=film.shape)


def test_opacity_does_not_follow_exposure_or_any_window() -> None:
    """On a linear scale from the lungs' own air to the heart a sigmoid window moved it by 13 % of its range, and a film
    20 % darker, whose lungs are cut to black, by 34 %."""
    film = mixed(film_of(0.6, 0.9))
    plain = measure_opacity(film, CHEST)
    for other in (film + 30, film * 0.8, 3 * film - 100, 1 / (1 + np.exp(-(film - 128) / 30)), np.sinh(film / 90)):
        for name, values in measure_opacity(other, CHEST).items():
            np.testing.assert_allclose(values, plain[name], atol=1e-12, err_msg=name)
    film = mixed(film_of(0.3, 0.5))
    dark = np.clip(np.rint(film - 51), 0, 255).astype(np.uint8)
    for name, values in measure_opacity(dark, CHEST).items():
        np.testing.assert_allclose(values, measure_opacity(film, CHEST)[name], atol=0.02, err_msg=name)


def test_a_haze_over_both_lungs_counts() -> None:
    """The air of a linear scale was the lungs' own, and moved with the haze."""
    film = mixed(film_of(0.5, 0.5))
    haze = film.copy()
    haze[:, CHEST[0, 0] > 0] = 200 + 0.5 * (film[:, CHEST[0, 0] > 0] - 200)
    for name, values in measure_opacity(haze, CHEST).items():
        assert values[0] > 1.4 * measure_opacity(film, CHEST)[name][0] + 0.02, name


def test_lungs_that_are_cut_to_black_or_white_are_not_measured() -> None:
    film = mixed(film_of(0.1, 0.3))
    for low, high in ((0, 400), (-200, 60)):
        lost = np.clip(film, low, high)
        lost[0, 10:50, 10:26], lost[0, 14:50, 42:54] = ((low, low), (high, high))[low < 0]
        assert clipped(lost[0], CHEST[0, 0])
        assert all(np.isnan(values[0]) for values in measure_opacity(lost, CHEST).values())
    assert not clipped(film[0], CHEST[0, 0])


def test_a_white_lower_zone_is_measured_in_that_zone_of_that_lung() -> None:
    film = film_of(0.1, 0.1)
    clear = measure_opacity(film, CHEST)
    film[0, 38:50, 42:53] = 250.0
    found = measure_opacity(film, CHEST)
    assert found["viewer_right_lower_opacity"][0] > 0.8
    for name in ("viewer_right_upper_opacity", "viewer_left_lower_opacity", "viewer_left_opacity"):
        assert found[name][0] == clear[name][0]


def test_opacity_of_a_negative_or_of_no_chest_is_nan() -> None:
    for film, masks in (
        (255 - film_of(0.3, 0.3), CHEST),
        (np.full((1, 64, 64), 7.0), CHEST),
        (film_of(0.3, 0.3), 0 * CHEST),
    ):
        assert all(np.isnan(values[0]) for values in measure_opacity(film, masks).values())
