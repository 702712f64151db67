"""Films that are inverted or turned, whatever their files say: put right, or refused."""

import csv

import numpy as np
import pytest
from films import dicom

from thiscxr.data.phantom import draw_film
from thiscxr.data.pixels import save_png, to_square
from thiscxr.data.pool import Pool
from thiscxr.data.prepare import prepare


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    root = tmp_path_factory.mktemp("sentinel")
    films = [draw_film(seed, 128, view="PA").pixels for seed in range(12)]
    for number, film in enumerate(films):
        save_png(root / "films" / f"{number:02d}.png", {0: 255 - film, 1: np.rot90(film), 2: film[::-1, ::-1]}.get(number, film))
    # a header that says MONOCHROME1 of values that are not
    (root / "films" / "12.dcm").write_bytes(dicom(films[3].astype(np.uint16) * 16, photometric="MONOCHROME1", bits=12))
    prepare(root / "pool", [("folder", root / "films")], 64, key_file=root / "key", max_rejected=0.2)
    return [to_square(film, 64) for film in films], Pool.open(root / "pool")


def test_an_inverted_film_is_stored_upright_and_marked(pool):
    films, opened = pool
    stored = opened.read(range(len(opened)))
    assert np.abs(stored[0].astype(int) - films[0]).max() <= 1
    assert np.array_equal(stored[1], films[3])
    assert opened.column("inverted").tolist() == [True] + [False] * 10


def test_a_wrong_photometric_interpretation_is_undone(pool):
    films, opened = pool
    last = opened.read([len(opened) - 1])[0].astype(int)
    assert np.corrcoef(last.ravel(), films[3].ravel())[0, 1] > 0.99


def test_turned_films_are_refused(pool):
    _, opened = pool
    assert len(opened) == 11
    with open(opened.path / "rejected.csv", newline="") as file:
        reasons = sorted(row["reason"] for row in csv.DictReader(file))
    assert reasons == ["turned by 180 degrees, by the look of it", "turned by 270 degrees, by the look of it"]


def test_a_film_that_is_at_the_resolution_already_is_kept_byte_for_byte_and_warned_of(tmp_path, caplog):
    films = [draw_film(seed, 64, view="PA").pixels for seed in range(4)]
    films[0] = 255 - films[0]
    for number, film in enumerate(films):
        save_png(tmp_path / "films" / f"{number}.png", film)
    prepare(tmp_path / "pool", [("folder", tmp_path / "films")], 64, key_file=tmp_path / "key")
    assert np.array_equal(Pool.open(tmp_path / "pool").read(range(4)), np.stack(films))
    assert "1 films look inverted or turned" in caplog.text
