"""Films larger than what an extractor reads: they are compared whole, reduced, and in crops at their own resolution."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import blob
from tests.score.conftest import folder
from thiscxr.labels import NEGATIVE, FilmRecord, Terms
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.reader.extractors import Extractor
from thiscxr.score import panel
from thiscxr.score.distributions import crops
from thiscxr.score.fakes import open_fakes
from thiscxr.score.records import Record


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """128 films of 64 px, each of another patient."""
    path = tmp_path_factory.mktemp("large") / "pool"
    with PoolWriter(path, 64, 8, {"discs": Terms("Discs", "none", "none", "none", "none")}, b"key") as writer:
        for i in range(128):
            record = FilmRecord(str(i), str(i), str(i), str(i), "PA", "F", 30.0, {"Effusion": NEGATIVE})
            writer.add("discs", record, blob(i, 64, False) // 2 + 60, (64, 64, 8))
    return Pool.open(path)


def test_a_crop_is_a_square_of_its_film_and_hangs_on_nothing_else() -> None:
    films = np.random.default_rng(0).integers(0, 65536, (40, 64, 64), dtype=np.uint16)
    cut = crops(films, 24)
    assert (cut.shape, cut.dtype) == ((40, 24, 24), np.uint16)
    places = set()
    for film, piece in zip(films, cut, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(film, (24, 24))
        ((y, x),) = np.argwhere((windows == piece).all(axis=(2, 3)))
        places.add((int(y), int(x)))
    assert len(places) > 30
    np.testing.assert_array_equal(crops(films[::-1].copy(), 24)[::-1], cut)
    np.testing.assert_array_equal(crops(films, 64), films)


def test_a_grid_that_the_reduction_removes_is_found_in_the_crops(
    large: Pool, extractor: Extractor, tmp_path: Path, only: Callable[..., None]
) -> None:
    only("distances", "native_crops")
    films = large.read(np.arange(0, len(large), 2)).astype(int)
    chess = 40 * (-1) ** np.add.outer(np.arange(64), np.arange(64))  # its mean over 2 x 2 pixels is 0
    found: dict[str, dict[str, Record]] = {}
    for name, some in (("real", films), ("grid", films + chess)):
        with open_fakes(str(folder(tmp_path / name, some.astype(np.uint8))), 64, 64, 1.0, "cpu") as fakes:
            records = panel.score(large, fakes, [extractor]).records
        found[name] = {each.group: each for each in records if each.measure == "fd"}
    assert [each.key for each in found["grid"].values()] == ["fd_random8_63", "fd_random8_63_native_crops"]
    assert found["real"]["native crops"].value < 2 * found["real"]["native crops"].floor
    assert found["grid"][""].value == pytest.approx(found["real"][""].value, abs=1e-5)
    assert found["grid"]["native crops"].value > 5 * found["grid"]["native crops"].floor


def test_films_of_the_extractors_own_resolution_have_no_crops(
    pool: Pool, extractor: Extractor, tmp_path: Path, only: Callable[..., None]
) -> None:
    only("distances", "native_crops")
    with open_fakes(str(folder(tmp_path / "same", pool.read(np.arange(60)))), 32, 64, 1.0, "cpu") as fakes:
        assert {each.group for each in panel.score(pool, fakes, [extractor]).records} == {""}
