"""The sentinel: it sees negatives and turned films, keeps silent on real ones, and its features are what they are said to be."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from thiscxr.data import sentinel
from thiscxr.data.ids import patient_split
from thiscxr.data.phantom import PHANTOM_VIEWS, SITES, draw_film
from thiscxr.data.pixels import load_film
from thiscxr.data.sentinel import Sight, look

REAL = Path(__file__).parents[3] / "shared" / "data"


def ways(film: np.ndarray) -> dict[Sight, np.ndarray]:
    """The film in each of the eight ways it may lie, by what should be seen: turned clockwise."""
    return {
        Sight(inverted, degrees): np.rot90(np.iinfo(film.dtype).max - film if inverted else film, -degrees // 90)
        for inverted in (False, True)
        for degrees in (0, 90, 180, 270)
    }


@pytest.fixture(scope="module")
def phantoms() -> dict[str, list[np.ndarray]]:
    """Four films of each view, one a site."""
    return {
        view: [draw_film(20_000 + number, 64, view=view, site=site).pixels for number, site in enumerate(SITES)] for view in PHANTOM_VIEWS
    }


@pytest.mark.parametrize(("view", "least"), [("PA", 0.8), ("AP", 0.8), ("AP_supine", 0.8), ("lateral", 0.5)])
def test_phantoms_of_every_site_are_seen_right_or_not_at_all(phantoms, view, least):
    said = [(expected, look(way)) for film in phantoms[view] for expected, way in ways(film).items()]
    assert all(seen == Sight() for expected, seen in said if expected == Sight())
    assert all(seen.turned in (0, expected.turned) for expected, seen in said)
    right = np.mean([seen == expected for expected, seen in said])
    assert right >= least, right


def test_what_is_seen_undoes_the_turn(phantoms):
    film = phantoms["PA"][0]
    for expected, way in ways(film).items():
        assert look(way) == expected
        assert np.array_equal(np.rot90(way, expected.turned // 90), 255 - film if expected.inverted else film)


@pytest.mark.parametrize("folder", ["nih-64", "nih-256"])
def test_real_films_of_held_out_patients(folder):
    paths = [
        path for path in sorted((REAL / folder / "images").glob("*.png")) if patient_split("nih", str(int(path.name[:8]))) == "holdout"
    ]
    if not paths:
        pytest.skip(f"real films are not here: {REAL / folder}")
    films = [load_film(path).pixels for path in paths]
    assert [path.name for path, film in zip(paths, films, strict=True) if look(film) != Sight()] == []
    negatives = [look(255 - film).inverted for film in films]
    turned = [look(np.rot90(film, -turn)).turned == 90 * turn for film in films for turn in (1, 2, 3)]
    assert np.mean(negatives) >= 0.98
    assert np.mean(turned) >= 0.98


def test_defects_among_real_films_are_found():
    """Two negatives and a film upside down, as released by NIH."""
    defects = {"00017999_000": Sight(inverted=True), "00003490_011": Sight(turned=180)}
    paths = {name: REAL / "nih-64" / "images" / f"{name}.png" for name in defects}
    if not all(path.exists() for path in paths.values()):
        pytest.skip(f"real films are not here: {REAL / 'nih-64'}")
    assert {name: look(load_film(path).pixels) for name, path in paths.items()} == defects


def test_a_tone_curve_depth_and_size_change_nothing(phantoms):
    film = phantoms["PA"][1].astype(np.uint16)
    curve = (255 * (film / 255.0) ** 0.5).round().astype(np.uint16)
    for expected in (Sight(), Sight(True, 90)):
        for each in (
            film * 257,
            curve * 257,
            np.kron(film, np.ones((4, 4), np.uint16)) * 200,
            np.kron(film, np.ones((9, 9), np.uint16)) * 7,
        ):
            way = ways(each)[expected]
            assert look(way.astype(np.uint16)) == expected


def test_nothing_is_seen_in_noise_flat_or_tiny_films():
    generator = np.random.default_rng(0)
    assert look(np.full((64, 64), 9, np.uint8)) == Sight()
    assert look(np.zeros((31, 200), np.uint8)) == Sight()
    seen = [look(generator.integers(0, 256, (64, 64)).astype(np.uint8)) for _ in range(50)]
    assert sum(sight != Sight() for sight in seen) <= 2


def test_features_turn_and_negate_with_the_film():
    film = np.random.default_rng(0).integers(0, 200, (64, 64)).astype(np.uint8)
    plain = sentinel.features(sentinel.thumbnail(film))
    assert plain.shape == (8, 4 * sentinel.THUMB**2)
    turned = sentinel.features(sentinel.thumbnail(np.rot90(film, -1)))
    assert np.array_equal(turned[[1, 2, 3, 0]], plain[:4])
    negative = sentinel.features(sentinel.thumbnail(255 - film))
    assert np.allclose(negative[[4, 5, 6, 7, 0, 1, 2, 3]], plain, atol=1e-6)


def test_ranks_share_their_middle_where_greys_are_equal():
    assert np.allclose(sentinel._ranks(np.array([[5, 5], [1, 9]])), [[0, 0], [-1, 1]])


def test_it_takes_less_than_a_millisecond(phantoms):
    film = np.kron(phantoms["PA"][0], np.ones((4, 4), np.uint8))
    look(film)
    seconds = []
    for _ in range(20):
        start = time.process_time()
        look(film)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.001


def test_the_weights_are_small_and_carry_their_card():
    assert sentinel.WEIGHTS.stat().st_size < 200_000
    with safe_open(sentinel.WEIGHTS, framework="np") as file:
        facts = json.loads(file.metadata()["sentinel"])
        assert file.get_tensor("weights").shape == (4 * sentinel.THUMB**2,)
    for name, judged in facts["judged"].items():
        assert judged["false_alarms"] == 0, name
        assert judged["films"] > 30, name


def test_noise_is_no_body_and_nothing_is_seen_in_it():
    rng = np.random.default_rng(0)
    assert all(look(rng.integers(0, 256, (side, side), np.uint8)) == Sight() for side in (32, 48, 64, 128) for _ in range(50))


def test_looking_is_the_odds_of_the_features():
    with safe_open(sentinel.WEIGHTS, framework="np") as file:
        weights = file.get_tensor("weights")
        facts = json.loads(file.metadata()["sentinel"])
    for film in (draw_film(seed, 64, view=view).pixels for seed in range(3) for view in PHANTOM_VIEWS):
        for way in ways(film).values():
            inverted, turned, degrees = sentinel.odds(way, weights)
            expected = Sight(inverted > facts["sure_inverted"], degrees if turned > facts["sure_turned"] else 0)
            assert look(way) == expected
