"""Spectra with known answers: a planted grid, a blur and a sharpening are each found by their own sign."""

import numpy as np
import pytest
import scipy.ndimage as ndi

from thiscxr.measures.spectrum import GRID_POINTS, NUM_BANDS, excess_db, film_spectra, grid_db

# Nine bins under a Hann window are four independent ones: over 48 films their mean power has a spread of 0.3 dB. Four times that.
CHANCE = 1.2


def films(n: int = 48, res: int = 128, seed: int = 0) -> np.ndarray:
    """Return smooth films with a little noise, uint8 [n, res, res]: spectra that fall as those of films do."""
    rng = np.random.default_rng(seed)
    smooth = ndi.gaussian_filter(rng.standard_normal((n, res, res)), (0, 3, 3), mode="wrap") * 350
    return np.clip(smooth + 2 * rng.standard_normal((n, res, res)) + 128, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("res", [64, 128])
def test_a_film_without_a_grid_has_none(res: int) -> None:
    assert np.abs(grid_db(film_spectra(films(64, res)))).max() < CHANCE


@pytest.mark.parametrize("point", range(3))
def test_a_grid_of_two_levels_is_found_at_its_own_point(point: int) -> None:
    plain = films()
    y, x = np.mgrid[:128, :128] % 2
    pattern = (x, y, x ^ y)[point]  # columns, rows, both
    found = grid_db(film_spectra(plain + 2 * pattern.astype(np.uint8)))
    assert found[point] > 10, (GRID_POINTS[point], found)
    assert np.abs(np.delete(found, point)).max() < CHANCE, "and nowhere else"


def test_a_grid_of_known_strength_reads_as_computed() -> None:
    """White noise of variance s² under a window w has power s² Σw² a bin; a grid of ±a adds a² (Σw)² at its bin and some beside it."""
    rng = np.random.default_rng(1)
    n, res, noise, height = 400, 64, 1.0, 0.1
    columns = np.where(np.arange(res) % 2, height, -height)
    found = grid_db(film_spectra(noise * rng.standard_normal((n, res, res)) + columns))[0]
    window = np.outer(*[0.5 - 0.5 * np.cos(2 * np.pi * np.arange(res) / res)] * 2)
    # A Hann window has (½, 1, ½) of its mean at the three bins along a side: the nine bins hold (1.5)² of the power at the middle one.
    expected = 1 + height**2 * window.sum() ** 2 * 1.5**2 / 9 / (noise**2 * (window**2).sum())
    assert found == pytest.approx(10 * np.log10(expected), abs=0.25)


def test_blur_and_sharpening_have_opposite_signs_and_no_grid() -> None:
    plain = films().astype(float)
    whole = film_spectra(plain)
    blurred = film_spectra(ndi.gaussian_filter(plain, (0, 0.7, 0.7)))
    sharp = film_spectra(2 * plain - ndi.gaussian_filter(plain, (0, 0.7, 0.7)))
    assert excess_db(blurred, whole)[-1] < -5
    assert (np.diff(excess_db(blurred, whole)) < 0).all(), "the higher the band, the more is lost"
    assert excess_db(sharp, whole)[-1] > 2
    assert (excess_db(sharp, whole)[2:] > 0).all()
    for spectra in (blurred, sharp):
        assert np.abs(excess_db(spectra, whole)[0]) < 0.2, "what is coarse stays"
        assert np.abs(grid_db(spectra)).max() < CHANCE


def test_a_gaussian_takes_what_its_transfer_function_says() -> None:
    plain = films(8, 256).astype(float)
    frequency = np.fft.fftfreq(256)
    transfer = np.exp(-2 * (np.pi * 0.7) ** 2 * (frequency[:, None] ** 2 + frequency**2))
    blurred = np.fft.ifft2(np.fft.fft2(plain) * transfer).real
    middle = (np.arange(NUM_BANDS) + 0.5) / (2 * NUM_BANDS)  # cycles a pixel
    expected = 20 * np.log10(np.exp(-2 * (np.pi * 0.7 * middle) ** 2))
    np.testing.assert_allclose(excess_db(film_spectra(blurred), film_spectra(plain))[3:], expected[3:], atol=1.2)


def test_films_count_alike_and_brightness_and_batches_do_not() -> None:
    some = films(10)
    whole = film_spectra(some)
    parts = [film_spectra(some[:3]), film_spectra(some[3:])]
    for name in ("peaks", "rings", "bands_db"):
        np.testing.assert_allclose(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))
    brighter = film_spectra(some.astype(float) + 40)
    np.testing.assert_allclose(brighter.bands_db, whole.bands_db)
    np.testing.assert_allclose(excess_db(film_spectra(some * 2.0), whole), 10 * np.log10(4), atol=1e-9)
    np.testing.assert_allclose(grid_db(film_spectra(some * 2.0)), grid_db(whole))


@pytest.mark.parametrize("shape", [(2, 64), (2, 64, 32), (2, 16, 16), (2, 65, 65), (2, 64, 64, 1)])
def test_what_has_no_such_spectrum_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \[n, res, res\] with an even res of 32 or more"):
        film_spectra(np.ones(shape))


def test_a_film_of_one_grey_is_refused() -> None:
    flat = films(3)
    flat[1] = 77
    with pytest.raises(ValueError, match="a film has one grey all over"):
        film_spectra(flat)
