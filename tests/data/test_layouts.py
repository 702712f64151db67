"""Phantom releases go through the same door as real ones, and come out as what was drawn."""

import csv

import numpy as np
import pytest

from thiscxr.data import layouts, prepare
from thiscxr.data.describe import describe_sources
from thiscxr.data.labels import FINDINGS
from thiscxr.data.phantom import SITES
from thiscxr.data.pool import Pool, verify_pool
from thiscxr.data.sources.nih import NIH_FINDINGS

N = 12


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("layouts")
    for layout in layouts.LAYOUTS:
        layouts.write_layout(root / layout, layout, N, 32, seed=3)
    return root


def test_the_pool_is_sound_and_says_what_it_is(written):
    assert verify_pool(written / "pool") == []
    pool = Pool.open(written / "pool")
    assert len(pool) == N
    assert set(pool.column("source")) <= set(SITES)
    assert set(pool.meta["sources"]) == set(SITES)
    for terms in pool.meta["sources"].values():
        assert "no patient, no restriction" in terms["terms"]
    assert set(pool.column("Infiltration")) == {-3}  # the phantom does not draw it
    assert set(pool.column("Cardiomegaly").tolist()) <= {0, 1}
    assert pool.meta["counts"]["patients"] < N  # some patients have several films
    assert pool.read(pool.indices()).std(axis=(1, 2)).min() > 10


def test_the_pool_is_the_same_for_everybody_and_longer_ones_begin_alike(written, tmp_path):
    layouts.write_layout(tmp_path / "again", "pool", N + 2, 32, seed=3, workers=2)
    layouts.write_layout(tmp_path / "other", "pool", 2, 32, seed=4)
    one, again, other = Pool.open(written / "pool"), Pool.open(tmp_path / "again"), Pool.open(tmp_path / "other")
    assert np.array_equal(one.read(range(N)), again.read(range(N)))
    assert one.column("film_id").tolist() == again.column("film_id").tolist()[:N]
    assert not set(one.column("patient")) & set(other.column("patient"))


def test_films_of_one_patient_differ(written):
    pool = Pool.open(written / "pool")
    assert len(set(pool.column("sha256"))) == N


def test_a_key_file_hides_the_ids(written, tmp_path):
    layouts.write_layout(tmp_path / "pool", "pool", 2, 32, seed=3, key_file=tmp_path / "key")
    assert Pool.open(tmp_path / "pool").column("film_id")[0] != Pool.open(written / "pool").column("film_id")[0]
    assert len(list(tmp_path.glob("key.map-*.csv"))) == 1


@pytest.mark.parametrize("layout", ["nih", "folder"])
def test_releases_prepare_without_a_loss(written, tmp_path, layout):
    views = None if layout == "nih" else ["PA", "AP", "AP_supine", "lateral"]
    summary = prepare.prepare(tmp_path / "pool", [(layout, written / layout)], 32, views=views, key_file=tmp_path / "key")
    assert (summary.num_kept, summary.num_rejected, summary.dropped) == (N, 0, {})
    facts = describe_sources([(layout, written / layout)], views=views)["sources"][layout]
    assert facts["released"] == facts["kept"]
    if layout == "folder":  # the same films as the pool layout of this seed
        assert sorted(Pool.open(tmp_path / "pool").column("sha256")) == sorted(Pool.open(written / "pool").column("sha256"))


def test_the_nih_release_speaks_nih(written):
    with open(written / "nih" / "Data_Entry_2017_v2020.csv", newline="") as file:
        header, *rows = list(csv.reader(file))
    assert len(header) == 11
    assert (header[7], header[8]) == ("OriginalImage[Width", "Height]")
    for row in rows:
        assert len(row) == 11
        assert set(row[1].split("|")) <= {*NIH_FINDINGS, "No Finding"}
        assert row[6] in ("PA", "AP")
        assert (written / "nih" / "images" / row[0]).is_file()


def test_the_folder_has_a_column_for_every_finding(written):
    with open(written / "folder" / "metadata.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0])[6:] == FINDINGS
    assert {row["Fibrosis"] for row in rows} == {"-3"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layout": "chexpret"}, "--layout chexpret does not exist; there are: pool, nih, folder"),
        ({"layout": "folders"}, r"did you mean 'folder'\?"),
        ({"res": 33}, "--res 33 is not a power of two"),
        ({"n": 0}, "-n 0 is not a number of films"),
        ({"seed": -1}, "--seed -1 is negative"),
    ],
)
def test_mistakes_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        layouts.write_layout(tmp_path / "out", **{"layout": "pool", "n": 2, "res": 32, **change})
    assert not (tmp_path / "out").exists()


def test_a_used_folder_is_refused(written):
    with pytest.raises(ValueError, match="already exists"):
        layouts.write_layout(written / "nih", "nih", 2, 32)
