"""Spectra with known answers: a planted grid, a blur and a sharpening are each found by their own sign."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage as ndi
from PIL import Image

from thiscxr.measures.floor import films_a_side
from thiscxr.measures.spectrum import (
    GRID_POINTS,
    NUM_BANDS,
    excess_db,
    film_spectra,
    grid_db,
    joined,
    sharpness_db,
    spectrum_scores,
)
from thiscxr.report.verdict import fine_structure
from thiscxr.score.records import Record

SHARED = Path(__file__).parents[3] / "shared" / "data"
Films = np.ndarray

# Nine bins under a Hann window are four independent ones: over 48 films their mean power has a spread of 0.3 dB. Four
# times that.
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
    """White noise of variance s² under a window w has power s² Σw² a bin; a grid of ±a adds a² (Σw)² at its bin and
    some beside it."""
    rng = np.random.default_rng(1)
    n, res, noise, height = 400, 64, 1.0, 0.1
    columns = np.where(np.arange(res) % 2, height, -height)
    found = grid_db(film_spectra(noise * rng.standard_normal((n, res, res)) + columns))[0]
    window = np.outer(*[0.5 - 0.5 * np.cos(2 * np.pi * np.arange(res) / res)] * 2)
    # A Hann window has (½, 1, ½) of its mean at the three bins along a side: the nine bins hold (1.5)² of the power at
    # the middle one.
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


def test_a_gaussian_blur_attenuates_by_its_transfer_function() -> None:
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


def test_contrast_is_no_sharpness_and_batches_are_joined() -> None:
    some = films(12, 64).astype(float)
    whole = film_spectra(some)
    assert sharpness_db(film_spectra(1.4 * some), whole) == pytest.approx(0, abs=1e-9)
    parts = joined(film_spectra(part) for part in (some[:5], some[5:]))
    np.testing.assert_allclose(parts.bands_db, whole.bands_db)


def grid(films: Films) -> Films:
    y, x = np.indices(films.shape[1:]) % 2
    return films + 2 * (x ^ y)  # 2 x 2 px of two grey levels


def stripes(films: Films) -> Films:
    return films + 2 * (np.arange(films.shape[-1]) % 2)


def blur(films: Films) -> Films:
    return ndi.gaussian_filter(films, (0, 0.7, 0.7))


def sharpen(films: Films) -> Films:
    return 2 * films - blur(films)


def nothing(films: Films) -> Films:
    return films


def contrast(films: Films) -> Films:
    return (films - 128) * 1.15 + 128


@pytest.mark.parametrize("res", [64, 128, 256])
def test_what_is_planted_into_a_second_half_of_real_films_is_named_and_nothing_else(res: int) -> None:
    """As in the panel: real patients of one half against films of the other, with intervals by patients."""
    folder = SHARED / f"nih-{res}" / "images"
    if not folder.is_dir():
        pytest.skip(f"the NIH subset of {res} px is not beside this checkout ({folder})")
    count = 240 if res < 256 else 120
    # one of each patient
    files = list({path.name.split("_")[0]: path for path in sorted(folder.glob("*.png"))}.values())[:count]
    pixels, patients = np.stack([np.asarray(Image.open(path).convert("L")) for path in files]), np.arange(len(files))
    here = np.random.default_rng(0).permutation(patients) < len(files) // 2
    real, n = film_spectra(pixels[here]), films_a_side(patients[here])

    def verdict(plant: Callable[[Films], Films]) -> list[str]:
        fake = np.clip(np.rint(plant(pixels[~here].astype(float))), 0, 255).astype(np.uint8)[:n]
        return fine_structure(
            [Record.of(each) for each in spectrum_scores(real, patients[here], film_spectra(fake), n=n)]
        )

    shown = "At the films' own resolution no grid, blur or sharpening beyond 1 dB is shown."
    assert verdict(nothing) == [shown]
    assert not [line for line in verdict(contrast) if re.search("grid lies|blurred|sharpened", line)]
    for plant, words in (
        (grid, "A grid lies over the films: a chess board ("),
        (stripes, "A grid lies over the films: alternating columns ("),
        (blur, "The films are blurred: their fine detail is "),
        (sharpen, "The films are sharpened or noisy: their fine detail is "),
    ):
        (line,) = verdict(plant)
        assert line.startswith(words), plant.__name__


def test_each_number_of_the_spectrum_has_a_key_a_floor_and_an_interval() -> None:
    some = films(80, 64)
    found = spectrum_scores(
        film_spectra(some[:60]), np.arange(60) // 2, film_spectra(blur(some[60:].astype(float))), n=20
    )
    keys = [Record.of(each, resolution=64).key for each in found]
    bands = [f"band_64px_{k}_db" for k in range(1, 9)]
    assert keys == ["grid_64px_columns_db", "grid_64px_rows_db", "grid_64px_both_db", "sharpness_64px_db", *bands]
    for each in found:
        assert each.ci95[0] <= each.value <= each.ci95[1]
        assert abs(each.floor) < 2
    with pytest.raises(ValueError, match="at least 20 are needed"):
        spectrum_scores(film_spectra(some[:18]), np.arange(18), film_spectra(some[60:]), n=9)
