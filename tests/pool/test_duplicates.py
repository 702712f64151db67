"""Duplicates: copies are found whatever was done to them, and other films are left alone."""

import csv
import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from thiscxr.phantom import draw_film, render
from thiscxr.pixels import load_film, to_bits
from thiscxr.pool import duplicates
from thiscxr.pool.duplicates import DESCRIPTOR_SIZE, Pair, correlations, descriptor, find_duplicates, groups, similarity

REAL = Path(__file__).parents[3] / "shared" / "data"


def rounded(film: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(film), 0, 255).astype(np.uint8)


def jpeg(film: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(film).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def resized(film: np.ndarray, res: int, margin: float = 0.0) -> np.ndarray:
    box = (margin * len(film), margin * len(film), (1 - margin) * len(film), (1 - margin) * len(film))
    return np.array(Image.fromarray(film).resize((res, res), Image.Resampling.LANCZOS, box))


def equalised(film: np.ndarray) -> np.ndarray:
    shares = np.cumsum(np.bincount(film.ravel(), minlength=256))
    return rounded((shares[film] - shares[film.min()]) / (shares[-1] - shares[film.min()]) * 255)


def marked(film: np.ndarray) -> np.ndarray:
    film = film.copy()
    film[4:14:2, 6:40] = 255
    return film


COPIES = {
    "jpeg": lambda film: jpeg(film, 50),
    "darker": lambda film: rounded((film / 255) ** 1.2 * 255),
    "re-windowed": lambda film: rounded((film - 128.0) * 1.2 + 128),
    "equalised": equalised,
    "reduced": lambda film: resized(resized(film, len(film) // 2), len(film)),
    "cropped": lambda film: resized(film, len(film), 0.02),
    "shifted": lambda film: np.pad(film, ((2, 0), (2, 0)), mode="edge")[:-2, :-2],
    "blurred": lambda film: rounded(gaussian_filter(film.astype(float), 1)),
    "marked": marked,
    "cropped and re-encoded": lambda film: jpeg(resized(film, len(film), 0.02), 75),
}


def search(films: np.ndarray) -> list[Pair]:
    digests = [film.tobytes() for film in films]
    return find_duplicates(np.stack([descriptor(film) for film in films]), digests, films.__getitem__)


@pytest.fixture(scope="module")
def films() -> np.ndarray:
    """30 patients of 128 px."""
    return np.stack([draw_film(seed, 128).pixels for seed in range(30)])


def test_films_of_different_patients_are_no_duplicates(films, monkeypatch):
    assert search(films) == []
    monkeypatch.setattr(duplicates, "MIN_SIMILARITY", 0.9)
    assert search(films) == []
    monkeypatch.setattr(duplicates, "MIN_CORRELATION", 0.3)
    assert search(films)  # so there were pairs to be wrong about


@pytest.mark.parametrize("name", COPIES)
def test_every_copy_is_found_and_nothing_else(films, name):
    copies = np.stack([COPIES[name](film) for film in films])
    found = search(np.concatenate([films, copies]))
    assert [(pair.a, pair.b, pair.kind) for pair in found] == [(row, row + 30, "near") for row in range(30)]
    assert all(duplicates.MIN_CORRELATION <= pair.correlation <= 1 for pair in found)


def test_depth_and_size_do_not_matter(films):
    film = films[0]
    assert np.array_equal(descriptor(film), descriptor(film.astype(np.uint16) * 257))
    assert np.array_equal(descriptor(film), descriptor(np.kron(film, np.ones((8, 8), np.uint8))))
    assert correlations(film[None], np.kron(film, np.ones((2, 2), np.uint8))[None]) == pytest.approx(1)
    small = film[::4, ::4]
    # any rising grey scale
    assert np.array_equal(descriptor(small), descriptor(np.rint(np.sqrt(small / 255) * 65535).astype(np.uint16)))


def test_equal_films_are_paired_with_the_first_of_them_which_alone_is_compared(films):
    requested = []

    def read(rows: np.ndarray) -> np.ndarray:
        requested.extend(rows.tolist())
        return pool[rows]

    pool = np.concatenate([films[:4], films[1:2], jpeg(films[1], 75)[None], films[1:2]])
    described = np.stack([descriptor(film) for film in pool])
    found = find_duplicates(described, [film.tobytes() for film in pool], read)
    assert [(pair.a, pair.b, pair.kind) for pair in found] == [(1, 4, "exact"), (1, 5, "near"), (1, 6, "exact")]
    assert {pair.correlation for pair in found if pair.kind == "exact"} == {1.0}
    assert set(requested) == {1, 5}


def test_the_tiles_of_the_search_change_nothing(films, monkeypatch):
    pool = np.concatenate([films, np.stack([jpeg(film, 75) for film in films[:25]]), films[3:5]])
    whole = search(pool)
    assert len(whole) == 27
    monkeypatch.setattr(duplicates, "_TILE", 7)
    monkeypatch.setattr(duplicates, "_BATCH", 3)
    tiled = search(pool)
    assert [(pair.a, pair.b, pair.kind) for pair in tiled] == [(pair.a, pair.b, pair.kind) for pair in whole]
    assert [pair.correlation for pair in tiled] == pytest.approx([pair.correlation for pair in whole], abs=1e-4)


def test_a_mark_is_passed_over_and_grain_everywhere_is_not(films):
    assert correlations(films, np.stack([marked(film) for film in films])).min() > duplicates.MIN_CORRELATION
    grain = np.random.default_rng(0).normal(0, 20, films.shape)
    assert correlations(films, rounded(films + grain)).max() < duplicates.MIN_CORRELATION


def test_a_small_move_costs_similarity_little_and_a_large_one_much(films):
    film = films[0]
    here = descriptor(film)[None]

    def there(pixels: int) -> float:
        moved = np.pad(film, ((0, 0), (pixels, 0)), mode="edge")[:, :128]
        return float(similarity(here, descriptor(moved)[None])[0, 0])

    likeness = [there(pixels) for pixels in (0, 2, 4, 16)]
    assert likeness[0] == pytest.approx(1, abs=1e-3)
    assert all(nearer > farther for nearer, farther in pairwise(likeness))
    assert likeness[1] > duplicates.MIN_SIMILARITY > likeness[3]
    plain = here[0, : DESCRIPTOR_SIZE // 4].astype(float)
    moved = descriptor(np.pad(film, ((0, 0), (4, 0)), mode="edge")[:, :128])[: DESCRIPTOR_SIZE // 4].astype(float)
    assert likeness[2] > plain @ moved / np.linalg.norm(plain) / np.linalg.norm(moved)  # without the moves


def test_films_without_detail_are_similar_to_none():
    blank = np.full((64, 64), 7, np.uint8)
    assert not descriptor(blank).any()
    assert similarity(descriptor(blank)[None], descriptor(blank)[None]) == 0
    assert correlations(blank[None], blank[None]) == pytest.approx(0)
    stripes = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    assert np.isfinite(similarity(descriptor(stripes)[None], descriptor(stripes.T)[None])).all()


def test_noise_is_not_similar_to_other_noise():
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 64), np.uint8)
    assert search(noise) == []


def test_another_exposure_of_a_patient_is_less_similar_than_a_copy(films):
    film = draw_film(3, 128)
    other = render(film.patient, film.view, 128, site=film.site, noise_seed=10**15)
    assert correlations(film.pixels[None], other.pixels[None]) < correlations(
        film.pixels[None], jpeg(film.pixels, 75)[None]
    )


@pytest.mark.parametrize(
    ("descriptors", "found"),
    [
        (np.zeros((2, DESCRIPTOR_SIZE), np.int8), "for 3 films"),
        (np.zeros((3, 5), np.int8), r"\(3, 5\)"),
        (np.zeros((3, DESCRIPTOR_SIZE), np.uint8), "uint8"),
    ],
)
def test_descriptors_that_do_not_fit_are_refused(descriptors, found):
    with pytest.raises(ValueError, match=found) as caught:
        find_duplicates(descriptors, ["a", "b", "c"], lambda rows: rows)
    assert "\n" not in str(caught.value)


def test_a_pool_of_no_film_or_one_has_no_pairs():
    for num in (0, 1):
        assert find_duplicates(np.zeros((num, DESCRIPTOR_SIZE), np.int8), ["a"] * num, lambda rows: rows) == []


def near(a: int, b: int, correlation: float = 0.97) -> Pair:
    return Pair(a, b, "near", correlation)


def test_groups_do_not_chain():
    assert groups([]) == []
    assert groups([near(0, 1), near(1, 2), near(2, 3)]) == [[near(0, 1)], [near(2, 3)]]
    assert groups([near(0, 2), near(1, 2), near(1, 3)]) == [[near(0, 2)], [near(1, 3)]]


def test_an_equal_film_joins_the_group_of_its_original():
    exact = Pair(2, 4, "exact", 1.0)
    assert groups([exact]) == [[exact]]
    assert groups([near(0, 2, 0.96), exact]) == [[near(0, 2, 0.96), near(0, 4, 0.96)]]
    assert groups([near(2, 3), exact]) == [[near(2, 3), exact]]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_groups_are_the_same_whatever_the_order_and_every_film_is_in_one(data):
    ends = st.tuples(st.integers(0, 12), st.integers(0, 12)).filter(lambda ab: ab[0] < ab[1])
    pairs = [near(a, b) for a, b in data.draw(st.sets(ends, max_size=20))]
    found = groups(pairs)
    assert groups(data.draw(st.permutations(pairs))) == found
    films = [film for group in found for film in (group[0].a, *(pair.b for pair in group))]
    assert len(films) == len(set(films))
    assert {pair for group in found for pair in group} <= set(pairs)  # confirmed against the first film
    firsts = {group[0].a for group in found}
    assert all(pair.a == group[0].a < pair.b for group in found for pair in group)
    # a duplicate of a first film is in some group
    assert all(pair.a not in firsts or pair.b in films for pair in pairs)


@pytest.mark.skipif(not (REAL / "nih-64").is_dir(), reason="the real films are not here")
def test_among_real_films_there_is_one_pair_and_it_is_one_film_twice():
    root = REAL / "nih-64"
    names = sorted(path.name for path in (root / "images").iterdir())
    films = np.stack([to_bits(load_film(root / "images" / name).pixels, 8) for name in names])
    patients = {
        row["Image Index"]: row["Patient ID"] for row in csv.DictReader((root / "Data_Entry_2017_v2020.csv").open())
    }
    found = [(names[pair.a], names[pair.b], pair.kind) for pair in search(films)]
    assert found == [("00002658_001.png", "00002658_002.png", "exact")]
    assert len(patients) - len(set(patients.values())) > 700  # so there were films of one patient to be wrong about


@pytest.mark.skipif(not (REAL / "nih-256").is_dir(), reason="the real films are not here")
@pytest.mark.parametrize("name", ["jpeg", "equalised", "cropped and re-encoded"])
def test_copies_of_real_films_are_found(name):
    paths = sorted((REAL / "nih-256" / "images").iterdir())[:120:2]
    films = np.stack([to_bits(load_film(path).pixels, 8) for path in paths])
    found = search(np.concatenate([films, np.stack([COPIES[name](film) for film in films])]))
    right = [pair for pair in found if pair.b == pair.a + 60]
    assert len(right) >= 59
    assert right == found


def test_many_copies_of_one_film_are_one_group(tmp_path):
    film = draw_film(7, 128, view="PA").pixels
    copies = [film] + [
        np.clip(np.rint(255 * (film / 255.0) ** gamma), 0, 255).astype(np.uint8)
        for gamma in (0.8, 0.85, 0.9, 1.1, 1.2, 1.3)
    ]
    unrelated = [draw_film(seed, 128, view="PA").pixels for seed in range(100, 106)]
    films = np.stack([*copies, *unrelated])
    described = np.stack([duplicates.descriptor(one) for one in films])
    (group,) = duplicates.groups(
        duplicates.find_duplicates(described, list(range(len(films))), lambda rows: films[rows])
    )
    assert [(pair.a, pair.b) for pair in group] == [(0, row) for row in range(1, 7)]
