"""Phantom releases: the truth about them, the pipeline from release to pool, the same bytes for everybody, archives,
defects, mistakes."""

import re
import tarfile
import zipfile
from collections import Counter, defaultdict
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tests.releases import MANY, SEED, collection_of, label_files, many_films, read_csv, similarity
from thiscxr.phantom import SITES, render
from thiscxr.phantom import releases as layouts
from thiscxr.phantom.releases import chexpert as layout_chexpert
from thiscxr.phantom.releases import nih as layout_nih
from thiscxr.phantom.releases import padchest as layout_padchest
from thiscxr.phantom.releases import release as layout_release
from thiscxr.pixels import load_film, to_square
from thiscxr.pool import Pool, prepare, verify_pool

N, RES = 16, 32
RELEASES = list(layouts.RELEASES)
ARCHIVED = [name for name, release in layouts.RELEASES.items() if release.archive]
VIEWS = ["PA", "AP", "AP_supine", "lateral", "other", "unknown"]


@pytest.fixture(scope="module", autouse=True)
def each_film_is_rendered_once():
    """Rendering is nearly all the time of these tests, and is tested elsewhere. Worker processes render for
    themselves."""
    rendered = {}

    def render_once(patient, view, res, *, site, noise_seed=None):
        key = (patient.seed, tuple(patient.severities.items()), view, res, site, noise_seed)
        if key not in rendered:
            rendered[key] = render(patient, view, res, site=site, noise_seed=noise_seed)
        return rendered[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout_release, "render", render_once)
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("layouts")
    for layout in layouts.LAYOUTS:
        layouts.write_layout(root / layout, layout, N, RES, seed=SEED)
    return root


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    root = tmp_path_factory.mktemp("archived")
    for layout in ARCHIVED:
        layouts.write_layout(root / layout, layout, 12, RES, seed=SEED, archived=True)
    return root


def tree(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def is_whole(path):
    """Whether a film passes the checks that prepare makes."""
    try:
        return len(np.unique(to_square(load_film(path).pixels, RES))) > 1
    except ValueError:
        return False


# --- the pool


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
    assert len(set(pool.column("sha256"))) == N


def test_the_pool_is_the_same_for_everybody_and_longer_ones_begin_alike(written, tmp_path):
    layouts.write_layout(tmp_path / "again", "pool", N + 2, RES, seed=SEED, workers=2)
    layouts.write_layout(tmp_path / "other", "pool", 2, RES, seed=4)
    one, again, other = Pool.open(written / "pool"), Pool.open(tmp_path / "again"), Pool.open(tmp_path / "other")
    assert np.array_equal(one.read(range(N)), again.read(range(N)))
    assert one.column("film_id").tolist() == again.column("film_id").tolist()[:N]
    assert not set(one.column("patient")) & set(other.column("patient"))


def test_the_folder_holds_the_films_of_the_pool(written):
    pool = Pool.open(written / "pool").read(range(N))
    folder = layouts.truth("folder", N, SEED, RES)
    assert all(np.array_equal(film.shot.take(RES), pixels) for film, pixels in zip(folder, pool, strict=True))


def test_a_key_file_hides_the_ids(written, tmp_path):
    layouts.write_layout(tmp_path / "pool", "pool", 2, RES, seed=SEED, key_file=tmp_path / "key")
    assert Pool.open(tmp_path / "pool").column("film_id")[0] != Pool.open(written / "pool").column("film_id")[0]
    assert len(list(tmp_path.glob("key.map-*.csv"))) == 1


# --- truth


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_truth_says_what_is_drawn_and_longer_releases_begin_alike(layout):
    films, longer = layouts.truth(layout, 40, SEED), layouts.truth(layout, 90, SEED)
    assert len({film.path for film in films}) == 40
    assert [film.shot for film in films] == [film.shot for film in longer[:40]]
    if layout != "padchest":  # where a film's folder depends on the size of the release
        assert [film.path for film in films] == [film.path for film in longer[:40]]
    assert [film.record for film in films] == [film.record for film in longer[:40]]
    assert {film.shot.seed for film in films}.isdisjoint(film.shot.seed for film in layouts.truth(layout, 40, SEED + 1))


def test_nobody_is_a_patient_of_two_collections():
    bodies = [{film.shot.seed for film in many_films(layout)} for layout in RELEASES if layout != "mimic-cxr-jpg"]
    assert sum(map(len, bodies)) == len(set.union(*bodies))
    assert [film.shot for film in many_films("mimic-cxr")] == [film.shot for film in many_films("mimic-cxr-jpg")]


def test_each_collection_has_its_own_hospital():
    sites = {layout: {film.shot.site for film in many_films(layout)} for layout in RELEASES}
    assert sites.pop("folder") == set(SITES)
    assert sites.pop("openi") == {"phantom-a", "phantom-c"}
    assert sites.pop("kermany") == {"phantom-b"}
    assert sites.pop("mimic-cxr-jpg") == sites["mimic-cxr"]
    assert sorted(map(list, sites.values())) == [[site] for site in SITES]


@pytest.mark.parametrize("layout", ["chexpert", "mimic-cxr", "padchest"])
def test_a_patient_comes_again_with_other_findings_and_the_same_body(layout):
    by_patient = defaultdict(dict)
    for film in many_films(layout)[:300]:
        by_patient[film.shot.patient][film.shot.study] = film.shot.body()
    again = [studies for studies in by_patient.values() if len(studies) > 1]
    assert len(again) > 10
    for studies in again:
        assert len({(body.sex, body.age_years, body.half_width, body.seed) for body in studies.values()}) == 1
    assert any(len({tuple(body.severities.items()) for body in studies.values()}) > 1 for studies in again)


# --- from the release to the pool


@pytest.mark.parametrize("layout", RELEASES)
def test_a_release_holds_the_films_of_the_truth_and_the_label_files(written, layout):
    films = layouts.truth(layout, N, SEED, RES)
    tables = dict(layouts.RELEASES[layout].tables(films, False))
    there = tree(written / layout)
    assert set(there) == {film.path for film in films} | set(tables)
    assert all(there[path] == data for path, data in tables.items())


def write_label_files(root, layout):
    if not label_files(layout):  # the labels are in folders and names
        for film in many_films(layout):
            (root / film.path).parent.mkdir(parents=True, exist_ok=True)
            (root / film.path).touch()
    for path, data in label_files(layout).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


@pytest.mark.parametrize("layout", RELEASES)
def test_the_parser_finds_what_the_label_files_report(tmp_path, layout):
    write_label_files(tmp_path / "release", layout)
    collection = collection_of(layout)
    found = {record.file: record for record in collection.read_labels(tmp_path / "release")}
    reported = {collection.image_key(film.path): film.record for film in many_films(layout)}
    unnamed = {key for key, record in reported.items() if record.refused == "in no report"}
    assert len(unnamed) == (2 if layout == "openi" else 0)
    assert found.keys() == reported.keys() - unnamed
    for key, record in found.items():
        for name in ("file", "patient", "study", "view", "sex", "age_years", "split", "original_aspect"):
            assert getattr(record, name) == getattr(reported[key], name), (key, name)
        assert record.states() == reported[key].states(), key
        assert bool(record.refused) == bool(reported[key].refused), key


@pytest.mark.parametrize(
    ("layout", "path", "old", "new"),
    [
        ("nih", "Data_Entry_2017_v2020.csv", b",Mass,", b",Nodule,"),
        ("chexpert", "CheXpert-v1.0-small/train.csv", b",-1.0,", b",1.0,"),
        ("padchest", layout_padchest.TABLE, b"'pneumothorax'", b"'nodule'"),
        ("openi", "ecgen-radiology/1.xml", b"<major>normal", b"<major>No Indexing"),
    ],
)
def test_a_parser_that_finds_something_else_would_be_noticed(tmp_path, layout, path, old, new):
    write_label_files(tmp_path, layout)
    assert old in (tmp_path / path).read_bytes()
    (tmp_path / path).write_bytes((tmp_path / path).read_bytes().replace(old, new))
    reported = {collection_of(layout).image_key(film.path): film.record.states() for film in many_films(layout)}
    assert any(record.states() != reported[record.file] for record in collection_of(layout).read_labels(tmp_path))


@pytest.mark.parametrize("layout", RELEASES)
def test_films_come_out_of_a_pool_as_they_were_drawn(written, tmp_path, layout):
    films = {film.path: film for film in layouts.truth(layout, N, SEED, RES)}
    usable = {path for path, film in films.items() if not film.record.refused}
    sources = [(collection_of(layout).key, written / layout)]
    summary = prepare.prepare(tmp_path / "pool", sources, RES, views=VIEWS, key_file=tmp_path / "key")
    assert (summary.num_kept, summary.num_rejected) == (len(usable), 0)
    pool = Pool.open(tmp_path / "pool")
    rows = dict(zip(pool.column("film_id"), pool.indices(), strict=True))
    taken = set()
    for row in read_csv(next(tmp_path.glob("key.map-*.csv")).read_bytes()):
        film = films[Path(row["path"]).relative_to(written / layout).as_posix()]
        pixels, drawn = pool.read([rows[row["film_id"]]])[0], film.shot.take(RES)
        taken.add(film.path)
        if layout == "openi" or film.form in ("png", "tif"):
            assert np.array_equal(pixels, drawn), film
        else:
            least = 0.5 if layout in ("nih", "mimic-cxr-jpg") else 0.98  # squashed, equalised
            assert similarity(pixels, drawn) > least, film
    assert taken == usable


@pytest.mark.parametrize("layout", ARCHIVED)
def test_releases_are_read_as_they_are_downloaded(packed, tmp_path, layout):
    films = layouts.truth(layout, 12, SEED, RES)
    summary = prepare.prepare(
        tmp_path / "pool", [(layout, packed / layout)], RES, views=VIEWS, key_file=tmp_path / "key"
    )
    assert (summary.num_kept, summary.num_rejected) == (sum(not film.record.refused for film in films), 0)


# --- the same bytes, and defects


@pytest.mark.parametrize("layout", RELEASES)
def test_the_same_arguments_give_the_same_bytes_but_for_the_defects(tmp_path, layout):
    layouts.write_layout(tmp_path / "whole", layout, 8, RES, seed=SEED)
    layouts.write_layout(tmp_path / "broken", layout, 8, RES, seed=SEED, defects=0.75)
    assert not (tmp_path / "whole.defects.csv").exists()
    defects = {row["path"]: row["defect"] for row in read_csv((tmp_path / "broken.defects.csv").read_bytes())}
    assert sorted(defects.values()) == sorted(layouts.DEFECTS)
    whole, broken = tree(tmp_path / "whole"), tree(tmp_path / "broken")
    assert {path for path in whole if whole[path] != broken.get(path)} == set(defects)
    for film in layouts.truth(layout, 8, SEED, RES):
        damage = defects.get(film.path)
        if damage != "flipped byte" or film.path.endswith(".png"):  # a JPEG and raw values hold no checksum
            assert is_whole(tmp_path / "broken" / film.path) == (damage is None), (film.path, damage)


def test_the_number_of_workers_and_the_clock_change_nothing(packed, tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 2e9)
    for layout in ARCHIVED:
        layouts.write_layout(
            tmp_path / layout, layout, 12, RES, seed=SEED, archived=True, workers=2 if layout == "chexpert" else 1
        )
        assert tree(tmp_path / layout) == tree(packed / layout), layout


def test_defects_are_planted_in_equal_numbers_and_refused_for_what_they_are(tmp_path):
    layouts.write_layout(tmp_path / "openi", "openi", 18, RES, seed=SEED, defects=1.0)
    listed = read_csv((tmp_path / "openi.defects.csv").read_bytes())
    assert Counter(row["defect"] for row in listed) == dict.fromkeys(layouts.DEFECTS, 3)
    expected = ("cannot be read", "truncated file", "empty file", "web page", "constant image", "checksum")
    for row in listed:
        with pytest.raises(ValueError, match=expected[layouts.DEFECTS.index(row["defect"])]):
            load_film(tmp_path / "openi" / row["path"])


def test_prepare_counts_the_defects(tmp_path):
    layouts.write_layout(tmp_path / "nih", "nih", 12, RES, seed=SEED, defects=5 / 12)
    summary = prepare.prepare(
        tmp_path / "pool", [("nih", tmp_path / "nih")], RES, max_rejected=0.5, key_file=tmp_path / "key"
    )
    assert (summary.num_kept, summary.num_rejected) == (7, 4)
    assert sum(summary.dropped.values()) == 1  # the missing one


# --- archives


def members(path):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def test_nih_comes_in_tars_and_openi_in_two(packed):
    nih = sorted(path.name for path in (packed / "nih").iterdir())
    assert (nih[0], nih[-2:]) == ("Data_Entry_2017_v2020.csv", ["test_list.txt", "train_val_list.txt"])
    assert all(re.fullmatch(r"images_0(0[1-9]|1[0-2])\.tar\.gz", name) for name in nih[1:-2])
    assert all(
        re.fullmatch(r"images/\d{8}_\d{3}\.png", name) for tar in (packed / "nih").glob("*.gz") for name in members(tar)
    )
    assert {path.name for path in (packed / "openi").iterdir()} == {"NLMCXR_png.tgz", "NLMCXR_reports.tgz"}
    assert "ecgen-radiology/1.xml" in members(packed / "openi" / "NLMCXR_reports.tgz")
    assert all("/" not in name for name in members(packed / "openi" / "NLMCXR_png.tgz"))


def test_chexpert_comes_in_batches_without_a_level_for_train(packed):
    batch = "CheXpert-v1.0 batch 1 (validate & csv)"
    first = members(packed / "chexpert" / f"{batch}.zip")
    assert all(name.startswith(f"{batch}/valid/patient") or name.endswith(".csv") for name in first)
    paths = [row["Path"] for row in read_csv(first[f"{batch}/train.csv"])]
    assert paths
    assert all(path.startswith("CheXpert-v1.0/train/patient") for path in paths)
    assert read_csv(first[f"{batch}/valid.csv"])
    for number, low, high in ((2, 1, 21514), (3, 21514, 43018)):  # nobody of the fourth is among these few
        folder = f"CheXpert-v1.0 batch {number} (train {number - 1})"
        names = members(packed / "chexpert" / f"{folder}.zip")
        assert names
        for name in names:
            assert (
                low <= int(re.match(re.escape(folder) + r"/patient(\d{5})/study\d+/view\d_\w+\.jpg$", name)[1]) < high
            )


def test_padchest_comes_in_flat_numbered_zips(packed):
    rows = read_csv((packed / "padchest" / layout_padchest.TABLE).read_bytes())
    assert len({row["ImageDir"] for row in rows}) > 1
    for row in rows:
        assert row["ImageID"] in members(packed / "padchest" / f"{row['ImageDir']}.zip")


def test_large_releases_fill_all_archives():
    places = Counter(layout_nih.NIH.archive(f"images/{i}.png", i / 112_120)[0] for i in range(112_120))
    assert len(places) == 12
    assert places["images_001.tar.gz"] == pytest.approx(4999, rel=0.01)
    assert places["images_007.tar.gz"] == pytest.approx(10_000, rel=0.01)
    assert (
        len({layout_chexpert.CHEXPERT.archive(film.path, 0)[0] for film in islice(many_films("chexpert"), MANY // 10)})
        == 4
    )


# --- mistakes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"layout": "chexpret"},
            r"--layout chexpret \(did you mean 'chexpert'\?\) does not exist; "
            r"there are: pool, nih, chexpert, mimic",
        ),
        ({"layout": "folders"}, r"did you mean 'folder'\?"),
        ({"res": 33}, "--res 33 is not a power of two"),
        ({"n": 0}, "-n 0 is not a number of films"),
        ({"seed": -1}, "--seed -1 is negative"),
        ({"defects": 1.5}, "--defects 1.5 is not a share from 0 to 1"),
        ({"defects": 0.1}, "--layout pool has no film files to break; choose a collection's layout"),
        ({"archived": True}, "--layout pool has no film files to archive"),
        (
            {"layout": "mimic-cxr", "archived": True},
            "mimic-cxr is not released in archives; those that are: nih, chexpert, padchest, openi",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        layouts.write_layout(tmp_path / "out", **{"layout": "pool", "n": 2, "res": 32, **change})
    assert not list(tmp_path.iterdir())


def test_more_patients_than_numbers_are_refused(monkeypatch):
    monkeypatch.setattr(layout_chexpert, "NUM_TRAIN_PATIENTS", 5)
    with pytest.raises(
        ValueError, match=r"-n 40 needs more patient numbers than the collection has; -n \d+ is the most"
    ):
        layouts.truth("chexpert", 40)


def test_a_used_folder_is_refused(written):
    with pytest.raises(ValueError, match="already exists"):
        layouts.write_layout(written / "nih", "nih", 2, RES, defects=0.5)
    assert not (written / "nih.defects.csv").exists()
    with pytest.raises(ValueError, match="did you mean 'nih'"):
        layouts.truth("nhi", 2)
