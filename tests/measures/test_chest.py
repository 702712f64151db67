"""Sizes, places and opacity of drawn chests, whose answers are known."""

import numpy as np
import pytest

from thiscxr.measures.chest import MEASURES, OPACITIES, measure_masks, measure_opacity


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


def film_of(viewer_left: float, viewer_right: float, heart: float = 200.0, air: float = 40.0) -> np.ndarray:
    """A film of CHEST whose lungs have these opacities, but for their outermost columns, which are air."""
    film = np.full((1, 64, 64), 230.0)
    for columns, share in ((slice(10, 26), viewer_left), (slice(42, 54), viewer_right)):
        film[0, 10:50, columns] = air + share * (heart - air)
    film[0, 10:50, 10] = film[0, 10:50, 53] = air
    film[0, 30:50, 26:42] = heart
    return film


def test_opacity_is_the_mean_between_the_films_own_air_and_heart() -> None:
    found = measure_opacity(film_of(0.5, 0.25), CHEST)
    assert tuple(found) == OPACITIES
    assert found["viewer_left_opacity"][0] == pytest.approx(0.5 * 15 / 16)
    assert found["viewer_right_opacity"][0] == pytest.approx(0.25 * 11 / 12)


def test_opacity_does_not_follow_exposure() -> None:
    film = film_of(0.3, 0.8)
    plain = measure_opacity(film, CHEST)
    for other in (film + 30, film * 0.8, 3 * film - 100, (film * 257).astype(np.uint16)):
        for name, values in measure_opacity(other, CHEST).items():
            np.testing.assert_allclose(values, plain[name], atol=1e-3, err_msg=name)


def test_a_white_lower_zone_is_measured_in_that_zone_of_that_lung() -> None:
    film = film_of(0.1, 0.1)
    clear = measure_opacity(film, CHEST)
    film[0, 38:50, 42:53] = 250.0  # brighter than the heart: no more than tissue
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
