"""From collections to a pool: what comes out, that it is the same for everybody, and that mistakes leave nothing
behind."""

import csv
import json
import logging
import os
import pickle
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.films import dicom
from thiscxr.collections import COLLECTIONS, ids
from thiscxr.files import folder_lock, sha256_file
from thiscxr.labels import FINDINGS, FilmRecord, Terms
from thiscxr.parallel import ordered_map
from thiscxr.pixels import load_film, save_png
from thiscxr.pool import Pool, prepare, verify_pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.report import pool as describe

REAL = Path(__file__).parents[3] / "shared" / "data"
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient "
    "Sex,View Position,OriginalImage[Width,Height],"
)
TERMS = Terms("t", "none", "c", "u", "a")


def film(seed: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side), np.uint8)


@pytest.fixture
def release(tmp_path) -> Path:
    """An NIH release of 12 films of 6 patients; film 11 is missing."""
    root = tmp_path / "nih"
    rows = [HEADER]
    for number in range(12):
        name = f"{number // 2 + 1:08d}_{number % 2:03d}.png"
        found = ("No Finding", "Mass|Edema", "Cardiomegaly")[number % 3]
        view, sex = ("PA", "AP")[number % 2], "MF"[number // 6]
        rows.append(f"{name},{found},0,{number // 2 + 1},{40 + number},{sex},{view},2500,2000,")
        if number != 11:
            save_png(root / "images" / name, film(number))
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def key(tmp_path) -> Path:
    return tmp_path / "keys" / "key"


@pytest.fixture
def pool(tmp_path, release, key) -> Path:
    prepare.prepare(tmp_path / "pool", [("nih", release)], 32, key_file=key)
    return tmp_path / "pool"


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in ("nih", "keys"))


def test_the_whole_way(tmp_path, release, key):
    summary = prepare.prepare(tmp_path / "pool", [("nih", release)], 32, key_file=key)
    assert (summary.num_kept, summary.num_rejected, summary.dropped) == (11, 0, {"file missing": 1})
    assert "11 films" in str(summary)
    pool = Pool.open(tmp_path / "pool")
    assert (len(pool), pool.resolution, pool.bits) == (11, 32, 8)
    assert pool.fingerprint == summary.fingerprint
    assert verify_pool(tmp_path / "pool") == []
    # byte for byte, in table order by id
    assert np.array_equal(pool.read([3, 0, 3]), np.stack([film(3), film(0), film(3)]))
    assert pool.column("age_years").tolist() == [40.0 + number for number in range(11)]
    assert pool.findings.dtype == np.int8
    assert pool.findings[1, FINDINGS.index("Mass")] == pool.findings[1, FINDINGS.index("Lung_Lesion")] == 1
    assert pool.findings[1, FINDINGS.index("Lung_Opacity")] == -3
    assert pool.column("view").tolist()[:2] == ["PA", "AP"]
    assert pool.meta["sources"]["nih"]["films"] == 11
    assert "CVPR 2017" in pool.meta["sources"]["nih"]["citation"]
    assert "NIH Clinical Center" in pool.meta["sources"]["nih"]["acknowledgement"]
    both = set(pool.column("patient")[pool.indices("train")]) & set(pool.column("patient")[pool.indices("holdout")])
    assert not both
    assert sorted([*pool.indices("train"), *pool.indices("holdout")]) == pool.indices("all").tolist() == list(range(11))
    copy = pickle.loads(pickle.dumps(pool))
    assert np.array_equal(copy.read([2]), pool.read([2]))
    assert pool.read(np.array([], int)).shape == (0, 32, 32)
    for wrong in ([11], [-1]):
        with pytest.raises(IndexError, match="of a pool of 11"):
            pool.read(wrong)


def test_nothing_in_the_pool_tells_who_it_was(pool, release, key):
    everything = b"".join(path.read_bytes() for path in pool.iterdir())
    text = json.dumps(pq.read_table(pool / "films.parquet").to_pydict())
    for secret in ("00000001_000", str(release), key.read_text().strip()):
        assert secret.encode() not in everything
        assert secret not in text
    (private,) = key.parent.glob("key.map-*.csv")
    with open(private, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["film_id"] for row in rows} == set(Pool.open(pool).column("film_id"))
    assert rows[0]["film"] == "00000001_000.png"
    assert (key.stat().st_mode & 0o777, private.stat().st_mode & 0o777) == (0o600, 0o600)


def test_another_key_gives_other_ids_and_the_same_fingerprint(tmp_path, release, pool):
    prepare.prepare(tmp_path / "other", [("nih", release)], 32, key_file=tmp_path / "keys" / "other")
    one, other = Pool.open(pool), Pool.open(tmp_path / "other")
    assert one.fingerprint == other.fingerprint
    assert one.column("split").tolist() == other.column("split").tolist()
    assert not set(one.column("film_id")) & set(other.column("film_id"))
    assert not set(one.column("patient")) & set(other.column("patient"))


def test_the_fingerprint_covers_pixels_and_labels(tmp_path, release, pool, key):
    fingerprints = {Pool.open(pool).fingerprint}
    table = release / "Data_Entry_2017_v2020.csv"
    text = table.read_text()
    for number, (old, new) in enumerate(
        [(",40,", ",41,"), ("Mass|Edema", "Mass"), ("PA,2500", "AP,2500"), (",M,", ",F,")]
    ):
        table.write_text(text.replace(old, new, 1))
        fingerprints.add(prepare.prepare(tmp_path / f"p{number}", [("nih", release)], 32, key_file=key).fingerprint)
    table.write_text(text)
    pixels = film(0)
    pixels[0, 0] ^= 1
    save_png(release / "images" / "00000001_000.png", pixels)
    fingerprints.add(prepare.prepare(tmp_path / "pixels", [("nih", release)], 32, key_file=key).fingerprint)
    assert len(fingerprints) == 6


def test_order_of_rows_and_number_of_workers_change_nothing(tmp_path, release, pool, key):
    table = release / "Data_Entry_2017_v2020.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *reversed(rows)]) + "\n")
    prepare.prepare(tmp_path / "two", [("nih", release)], 32, key_file=key, workers=2)
    for path in pool.iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_the_default_key_is_made_once_in_the_configuration_folder(tmp_path, release, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "keys"))
    for name in ("a", "b"):
        prepare.prepare(tmp_path / name, [("nih", release)], 32)
    assert (tmp_path / "keys" / "thiscxr" / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a" / "films.parquet").read_bytes() == (tmp_path / "b" / "films.parquet").read_bytes()


def test_a_key_that_is_too_short_is_refused(tmp_path):
    (tmp_path / "key").write_text("abc\n")
    with pytest.raises(ValueError, match="holds 3 bytes, expected at least 16"):
        ids.load_key(tmp_path / "key")


def test_a_key_in_the_pool_is_refused(tmp_path, release):
    with pytest.raises(ValueError, match="keep the key elsewhere"):
        prepare.prepare(tmp_path / "pool", [("nih", release)], 32, key_file=tmp_path / "pool" / "key")
    assert leftovers(tmp_path) == []


def die(task: int) -> int:
    if task == 40:
        os._exit(3)
    return task


def test_a_worker_that_dies_is_reported():
    with pytest.raises(RuntimeError, match="a worker process died"):
        list(ordered_map(die, range(64), 64, workers=2))


def test_the_split_holds_out_a_fifth_by_patient():
    split = [ids.patient_split("nih", str(patient)) for patient in range(10_000)]
    assert 0.19 < split.count("holdout") / len(split) < 0.21
    # Pinned: another split would let the training films of one version be the held-out films of the next.
    assert [patient for patient in range(30) if split[patient] == "holdout"] == [7, 22, 26, 27]


def test_refused_films_are_listed_and_counted(tmp_path, release, key):
    (release / "images" / "00000002_000.png").write_text("this is no film")
    save_png(release / "images" / "00000003_000.png", film(0, 20))
    with pytest.raises(
        ValueError, match=r"2 of 11 films were refused \(18%\), more than --max-rejected 0.1: 1 x .*"
    ) as caught:
        prepare.prepare(tmp_path / "pool", [("nih", release)], 32, key_file=key)
    assert "\n" not in str(caught.value)
    assert leftovers(tmp_path) == []
    summary = prepare.prepare(tmp_path / "pool", [("nih", release)], 32, key_file=key, max_rejected=0.2)
    assert (summary.num_kept, summary.num_rejected) == (9, 2)
    text = "not a PNG, JPEG, TIFF, BMP, WebP or DICOM file (it is text)"
    assert sorted(summary.rejected) == [text, "short side 20 px is below the resolution 32"]
    rejected = (tmp_path / "pool" / "rejected.csv").read_text().splitlines()
    assert rejected[0] == "film_id,reason"
    assert len(rejected) == 3
    assert "00000002" not in "".join(rejected)
    assert verify_pool(tmp_path / "pool") == []
    assert describe.describe_pool(tmp_path / "pool")["rejected"] == summary.rejected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"res": 48}, "--res 48 is not a power of two from 32 to 1024; the nearest is 32"),
        ({"res": 2048}, "--res 2048 .* the nearest is 1024"),
        ({"res": 64}, "no film left .*: all 11 were refused, 11 x short side 32 px is below the resolution 64"),
        ({"views": ["lateral"]}, "no film left .*: 6 x view AP, 6 x view PA"),
        ({"views": ["front"]}, "--views front.* is not one of PA, AP"),
        ({"aspect": "square"}, "--aspect square is not one of released, restore"),
        ({"aspect": "restore"}, "short side 26 px once its aspect is restored"),
        ({"max_rejected": 10}, "--max-rejected 10 is not a share"),
        ({"sources": []}, "no collection given"),
        ({"sources": [("nhi", Path("."))]}, r"unknown collection 'nhi' \(did you mean 'nih'\?\)"),
        ({"sources": [("nih", Path("/nowhere"))]}, "--nih /nowhere does not exist"),
    ],
)
def test_mistakes_are_named_in_one_line_and_leave_nothing(tmp_path, release, key, change, message):
    options = {"sources": [("nih", release)], "res": 32, "key_file": key, **change}
    with pytest.raises(ValueError, match=message) as caught:
        prepare.prepare(tmp_path / "pool", **options)
    assert "\n" not in str(caught.value)
    assert leftovers(tmp_path) == []


def test_an_empty_folder_a_file_and_a_used_pool_are_refused(tmp_path, release, pool, key):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"--folder .*empty is empty"):
        prepare.prepare(tmp_path / "new", [("folder", tmp_path / "empty")], 32, key_file=key)
    with pytest.raises(ValueError, match="is not a folder"):
        prepare.prepare(tmp_path / "new", [("folder", pool / "pool.json")], 32, key_file=key)
    with pytest.raises(ValueError, match="already exists and is not an empty folder"):
        prepare.prepare(pool, [("nih", release)], 32, key_file=key)
    assert verify_pool(pool) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("at", [0, 5, "finish", "finished"])
def test_an_interrupted_prepare_is_gone_on_with(tmp_path, release, pool, key, monkeypatch, caplog, error, at):
    add = PoolWriter.add
    added = []

    def fail(self, source, film, *args, **options):
        if self.num_films == at:
            raise error
        added.append(film.film)
        return add(self, source, film, *args, **options)

    def fail_late(*args, **options):
        raise error

    options = ([("nih", release)], 32)
    with monkeypatch.context() as patch:
        patch.setattr(PoolWriter, "add", fail)
        if at == "finish":
            patch.setattr(PoolWriter, "_write_meta", fail_late)
        if at == "finished":
            patch.setattr(prepare, "write_private_map", fail_late)
        with pytest.raises(type(error)):
            prepare.prepare(tmp_path / "new", *options, key_file=key)
    assert leftovers(tmp_path) == [".new.part", "pool"]
    # no id in the open
    assert not any("00000001" in path.read_bytes().decode("latin-1") for path in (tmp_path / ".new.part").iterdir())
    monkeypatch.setattr(
        PoolWriter, "add", lambda self, *args, **options: added.append(args[1].film) or add(self, *args, **options)
    )
    with caplog.at_level(logging.INFO):
        prepare.prepare(tmp_path / "new", *options, key_file=key)
    assert leftovers(tmp_path) == ["new", "pool"]
    assert leftovers(tmp_path / "new") == leftovers(pool)
    for path in pool.iterdir():
        assert path.read_bytes() == (tmp_path / "new" / path.name).read_bytes(), path.name
    assert len(added) == len(set(added)) == 11  # nothing was done twice
    if at:
        assert f"going on after {5 if at == 5 else 11} films" in caplog.text


def test_another_job_does_not_go_on_with_what_is_left_of_one(tmp_path, release, key, monkeypatch):
    def fail(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PoolWriter, "_write_meta", fail)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(tmp_path / "new", [("nih", release)], 32, key_file=key)
    prepare.prepare(tmp_path / "new", [("nih", release)], 32, views=["PA"], key_file=key)
    assert len(Pool.open(tmp_path / "new")) == 6
    assert verify_pool(tmp_path / "new") == []


def test_two_jobs_do_not_write_one_pool(tmp_path, release, key):
    (tmp_path / ".new.part").mkdir()
    with (
        folder_lock(tmp_path / ".new.part", "busy"),
        pytest.raises(ValueError, match="is being written by another process"),
    ):
        prepare.prepare(tmp_path / "new", [("nih", release)], 32, key_file=key)
    assert (tmp_path / ".new.part").is_dir()


@pytest.mark.parametrize("damage", [b"half a li", b'["00", "", [1, 1, 8], false'])
def test_a_torn_journal_costs_its_last_line_only(tmp_path, release, pool, key, monkeypatch, damage):
    def fail(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PoolWriter, "_write_meta", fail)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(tmp_path / "new", [("nih", release)], 32, key_file=key)
    part = tmp_path / ".new.part"
    lines = (part / "journal").read_bytes().splitlines(keepends=True)
    (part / "journal").write_bytes(b"".join(lines[:-3]) + damage)
    with open(part / "pixels-00000.npy", "ab") as shard:
        shard.write(b"half a film")
    prepare.prepare(tmp_path / "new", [("nih", release)], 32, key_file=key)
    for path in pool.iterdir():
        assert path.read_bytes() == (tmp_path / "new" / path.name).read_bytes(), path.name


def test_shards_are_cut_at_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr("thiscxr.pool.shards.MAX_SHARD_BYTES", 3 * 32 * 32)
    films = [film(number) for number in range(8)]
    with PoolWriter(tmp_path / "pool", 32, 8, {"x": TERMS}, b"k" * 16) as writer:
        for number, pixels in enumerate(films):
            writer.add("x", FilmRecord(str(number), "", str(number), "s"), pixels, (32, 32, 8))
    pool = Pool.open(tmp_path / "pool")
    assert sorted(path.name for path in (tmp_path / "pool").glob("*.npy")) == [
        f"pixels-0000{number}.npy" for number in range(3)
    ]
    assert [len(np.load(path)) for path in sorted((tmp_path / "pool").glob("*.npy"))] == [3, 3, 2]
    order = [7, 0, 4, 4, 3]
    assert np.array_equal(pool.read(order), np.stack([films[number] for number in order]))
    assert np.isnan(pool.column("age_years")).all()
    assert verify_pool(tmp_path / "pool") == []


SIDES = (64, 32, 32, 128, 64, 32, 64, 32, 32)  # of films in the order of a pool


def add_of_many_sides(writer: PoolWriter, number: int) -> None:
    record = FilmRecord(str(number), "", str(number), "s")
    if not writer.knows("x", record):
        writer.add(
            "x",
            record,
            film(number, SIDES[number]),
            (9, 9, 8),
            greys="window",
            orientation="mirrored, turned 90",
            inverted=True,
        )


@pytest.mark.parametrize("interrupted_at", [0, 1, 4, 5, 8, 9])
def test_films_of_each_resolution_have_shards_of_their_own(tmp_path, monkeypatch, interrupted_at):
    monkeypatch.setattr("thiscxr.pool.shards.MAX_SHARD_BYTES", 3 * 32 * 32)  # three of 32, one of the others
    path = tmp_path / "pool"
    with suppress(KeyboardInterrupt), PoolWriter(path, 128, 8, {"x": TERMS}, b"k" * 16, plan="same") as writer:
        for number in range(interrupted_at):
            add_of_many_sides(writer, number)
        raise KeyboardInterrupt
    with PoolWriter(path, 128, 8, {"x": TERMS}, b"k" * 16, plan="same") as writer:
        assert writer.num_done == interrupted_at
        for number in range(len(SIDES)):
            add_of_many_sides(writer, number)
    pool = Pool.open(path)
    assert verify_pool(path) == []
    assert [np.load(shard).shape for shard in sorted(path.glob("*.npy"))] == [
        (1, 64, 64), (3, 32, 32), (1, 128, 128), (1, 64, 64), (1, 64, 64), (2, 32, 32)
    ]  # fmt: skip
    assert pool.column("resolution").tolist() == list(SIDES)
    assert pool.column("shard").tolist() == [0, 1, 1, 2, 3, 1, 4, 5, 5]
    assert pool.column("row").tolist() == [0, 0, 1, 0, 0, 2, 0, 0, 1]
    assert pool.meta["counts"]["resolutions"] == {"32": 5, "64": 3, "128": 1}
    for number, side in enumerate(SIDES):
        assert np.array_equal(pool.read([number])[0], film(number, side))
    assert np.array_equal(pool.read([6, 0]), np.stack([film(6, 64), film(0, 64)]))
    with pytest.raises(ValueError, match="films of 32, 64 px do not fit one array"):
        pool.read([0, 1])
    assert pool.read(np.array([], int)).shape == (0, 128, 128)
    for name, value in (("greys", "window"), ("orientation", "mirrored, turned 90"), ("inverted", True)):
        assert pool.column(name).tolist() == [value] * len(SIDES)  # the journal of the interrupted call too


def test_how_a_film_was_made_is_not_in_the_fingerprint(tmp_path):
    def fingerprint(name: str, **made) -> str:
        with PoolWriter(tmp_path / name, 32, 8, {"x": TERMS}, b"k" * 16) as writer:
            writer.add("x", FilmRecord("1", "", "1", "s"), film(0), (200, 200, 8), **made)
        return writer.fingerprint

    assert fingerprint("a") == fingerprint(
        "b", greys="sigmoid", orientation="turned 180", inverted=True, equalised=True
    )


def test_sixteen_bit_pools(tmp_path, release, key):
    prepare.prepare(tmp_path / "deep", [("nih", release)], 32, key_file=key, bits=16)
    pool = Pool.open(tmp_path / "deep")
    assert pool.read([0]).dtype == np.uint16
    assert np.array_equal(pool.read([0])[0], film(0).astype(np.uint16) * 257)
    assert verify_pool(tmp_path / "deep") == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda pool: shutil.rmtree(pool), "does not exist; make one with: thiscxr prepare"),
        (lambda pool: (pool / "pool.json").unlink(), "is not a pool"),
        (lambda pool: (pool / "pool.json").write_text("{"), "pool.json is damaged"),
        (lambda pool: (pool / "pool.json").write_text('{"format_version": 3}'), "lacks what a pool needs"),
        (
            lambda pool: (pool / "pool.json").write_text('{"format_version": 4}'),
            "format 4, this version reads 3; upgrade",
        ),
        (
            lambda pool: (pool / "pool.json").write_text("[]"),
            "format None, .* make it again with: thiscxr prepare .*pool --nih DIR --res 64",
        ),
        (lambda pool: (pool / "films.parquet").unlink(), "films.parquet is missing"),
        (lambda pool: (pool / "films.parquet").write_bytes(b"PAR1"), "films.parquet is damaged"),
        (lambda pool: (pool / "pixels-00000.npy").unlink(), "pixels-00000.npy is missing"),
        (
            lambda pool: (pool / "pixels-00000.npy").write_bytes((pool / "pixels-00000.npy").read_bytes()[:-5]),
            "cut off or damaged",
        ),
        (
            lambda pool: np.save(pool / "pixels-00000.npy", np.zeros((11, 64, 64), np.uint8)),
            "expected square films of at most 32 px, 8 bits",
        ),
        (lambda pool: np.save(pool / "pixels-00000.npy", np.zeros((11, 32, 16), np.uint8)), "expected square films"),
        (
            lambda pool: np.save(pool / "pixels-00000.npy", np.zeros((11, 16, 16), np.uint8)),
            "pixels-00000.npy holds 11 films of 16 px, films.parquet lists 0",
        ),
        (
            lambda pool: np.save(pool / "pixels-00000.npy", np.zeros((9, 32, 32), np.uint8)),
            "shards hold 9 films, pool.json says 11",
        ),
    ],
)
def test_what_is_no_pool_is_refused_in_one_line(pool, damage, message):
    damage(pool)
    with pytest.raises(ValueError, match=message) as caught:
        Pool.open(pool)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ({}, "--nih DIR --res 32"),
        (
            {"views": ["PA", "lateral"], "aspect": "restore", "derive": True},
            "--nih DIR --res 32 --views PA,lateral --aspect restore --derive",
        ),
    ],
)
def test_an_older_pool_is_refused_with_the_command_that_makes_a_new_one(pool, options, command):
    meta = json.loads((pool / "pool.json").read_text())
    (pool / "pool.json").write_text(
        json.dumps({**meta, "format_version": 2, "options": {**meta["options"], **options}})
    )
    with pytest.raises(ValueError, match=f"format 2, this version reads 3; .*: thiscxr prepare {pool} {command}$"):
        Pool.open(pool)


def test_an_older_phantom_pool_is_refused_with_its_command(tmp_path):
    (tmp_path / "pool.json").write_text(
        '{"format_version": 2, "resolution": 128, "counts": {"films": 9}, "options": {"layout": "phantom"}}'
    )
    with pytest.raises(ValueError, match=f"thiscxr phantom {tmp_path} -n 9 --res 128$"):
        Pool.open(tmp_path)


@pytest.mark.parametrize("name", ["pixels-00000.npy", "rejected.csv", "films.parquet"])
def test_verify_catches_any_flipped_byte(pool, name):
    data = (pool / name).read_bytes()
    for place in {*range(0, len(data), 1 + len(data) // 40), len(data) // 2, len(data) - 1}:
        (pool / name).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        assert any(name in problem for problem in problems_of(pool)), place
    (pool / name).write_bytes(data)
    assert verify_pool(pool) == []


def problems_of(pool: Path) -> list[str]:
    """Problems, or the one line that says why the folder does not even open."""
    try:
        return verify_pool(pool)
    except ValueError as error:
        return [str(error)]


def rewrite(pool: Path, **columns) -> list[str]:
    """Change columns of films.parquet, hash included, as someone who edits a pool by hand would."""
    table = pq.read_table(pool / "films.parquet")
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type))
    pq.write_table(table, pool / "films.parquet")
    meta = json.loads((pool / "pool.json").read_text())
    meta["files"]["films.parquet"] = sha256_file(pool / "films.parquet")
    (pool / "pool.json").write_text(json.dumps(meta))
    return verify_pool(pool)


def test_verify_checks_every_invariant(pool):
    films = pq.read_table(pool / "films.parquet").to_pydict()
    for columns, message in (
        ({"split": ["train", "holdout"] * 5 + ["train"]}, "patients are in both splits"),
        ({"Mass": [7] * 11}, "Mass holds 7"),
        ({"view": ["front"] * 11}, "view holds 'front'"),
        ({"row": [0] * 11}, "do not count up"),
        ({"greys": ["guessed"] * 11}, "greys holds 'guessed'"),
        ({"orientation": ["upside down"] * 11}, "orientation holds 'upside down'"),
        ({"film_id": ["a"] * 11}, "two films have one film_id"),
        ({"sha256": films["sha256"][::-1]}, "its pixels do not have the SHA-256"),
        ({"source": ["elsewhere"] * 11}, "source holds 'elsewhere', expected"),
        ({"age_years": [1.0] * 11}, "fingerprint is not that of the films"),
    ):
        problems = rewrite(pool, **columns)
        assert any(message in problem for problem in problems), (message, problems)
        rewrite(pool, **{name: films[name] for name in columns})


@pytest.mark.parametrize("columns", [{"resolution": [64] * 11}, {"shard": [1] * 11}, {"shard": [-1] + [0] * 10}])
def test_films_that_are_not_where_the_table_says_are_refused(pool, columns):
    with pytest.raises(ValueError, match=r"pixels-00000.npy holds 11 films of 32 px, films.parquet lists (0|10);"):
        rewrite(pool, **columns)


def test_folder_and_nih_in_one_pool(tmp_path, release, key, caplog):
    for number in range(3):
        save_png(tmp_path / "mine" / f"{number}.png", film(100 + number))
    with caplog.at_level(logging.WARNING):
        summary = prepare.prepare(
            tmp_path / "pool", [("folder", tmp_path / "mine"), ("nih", release), ("nih", release)], 32, key_file=key
        )
    assert summary.kept == {"nih": 11, "folder": 3}
    assert summary.dropped == {"file missing": 1, "listed twice": 12}
    assert "--aspect restore" in caplog.text
    pool = Pool.open(tmp_path / "pool")
    assert pool.column("source").tolist() == ["nih"] * 11 + ["folder"] * 3
    assert (pool.findings[11:] == -3).all()


def test_a_pool_says_how_the_greys_were_made(tmp_path, release, key):
    deep = film(50, 64).astype(np.uint16) * 16
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.dcm").write_bytes(dicom(deep, bits=12, WindowCenter=2000, WindowWidth=3000))
    (tmp_path / "mine" / "b.dcm").write_bytes(dicom(deep, bits=12))
    save_png(tmp_path / "mine" / "c.png", film(51, 64))
    prepare.prepare(tmp_path / "pool", [("folder", tmp_path / "mine")], 32, key_file=key)
    assert Pool.open(tmp_path / "pool").column("greys").tolist() == ["window", "percentiles", "as stored"]
    assert describe.describe_pool(tmp_path / "pool")["sources"]["folder"]["native"]["greys"] == {
        "window": 1, "percentiles": 1, "as stored": 1
    }  # fmt: skip


def test_derive_and_views(tmp_path, release, key):
    prepare.prepare(tmp_path / "pool", [("nih", release)], 32, key_file=key, derive=True, views=["AP"])
    pool = Pool.open(tmp_path / "pool")
    assert set(pool.column("view")) == {"AP"}
    assert sorted(set(pool.column("Lung_Opacity").tolist())) == [-3, 1]


def test_describe_of_a_release_and_of_its_pool_agree(release, pool):
    facts = describe.describe_sources([("nih", release)])["sources"]["nih"]
    assert (facts["released"]["films"], facts["kept"]["films"], facts["dropped"]) == (12, 11, {"file missing": 1})
    assert facts["released"]["patients"] == 6
    assert facts["released"]["views"] == {"PA": 6, "AP": 6}
    assert facts["kept"]["findings"]["Mass"] == {
        "positive": 4,
        "negative": 7,
        "uncertain": 0,
        "not_mentioned": 0,
        "not_annotated": 0,
    }
    assert describe.describe_pool(pool)["sources"]["nih"]["kept"] == facts["kept"]
    shutil.rmtree(release / "images")
    facts = describe.describe_sources([("nih", release)], labels_only=True, views=["PA"])["sources"]["nih"]
    assert (facts["kept"]["films"], facts["dropped"]) == (6, {"view AP": 6})
    text = describe.describe_text(describe.describe_pool(pool))
    assert "11 films" in text
    assert max(map(len, text.splitlines())) < 120


def test_every_collection_has_terms():
    for key, collection in COLLECTIONS.items():
        assert collection.key == key
        assert collection.terms.title
        assert collection.terms.terms


@pytest.mark.skipif(not REAL.is_dir(), reason=f"real films are not here: {REAL}")
def test_real_films(tmp_path, key):
    summary = prepare.prepare(tmp_path / "pool", [("nih", REAL / "nih-64")], 64, key_file=key, workers=1)
    pool = Pool.open(tmp_path / "pool")
    assert (summary.num_kept, summary.num_rejected) == (1988, 0)
    assert summary.fingerprint.startswith("182bb697503f4e71")  # da934d34 where these three lay wrong
    put_right = {
        "00003490_011.png": ("turned 180", False),
        "00017625_000.png": ("as stored", True),
        "00017999_000.png": ("as stored", True),
    }
    for index, path in enumerate(sorted((REAL / "nih-64" / "images").iterdir())):
        film, (turned, inverted) = load_film(path).pixels, put_right.get(path.name, ("as stored", False))
        assert (pool.column("orientation")[index], pool.column("inverted")[index]) == (turned, inverted), path.name
        expected = film[::-1, ::-1] if turned == "turned 180" else 255 - film if inverted else film
        assert np.array_equal(pool.read([index])[0], expected), path.name
    assert verify_pool(tmp_path / "pool") == []
