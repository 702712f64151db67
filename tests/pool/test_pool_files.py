"""The files of a pool: shards by size and resolution, and every damage to them is reported in one line."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pool.conftest import film
from thiscxr.files import sha256_file
from thiscxr.labels import FilmRecord, Terms
from thiscxr.pool import Pool, verify_pool
from thiscxr.pool.writer import PoolWriter

TERMS = Terms("t", "none", "c", "u", "a")


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


SIZES = (64, 32, 32, 128, 64, 32, 64, 32, 32)  # of films in the order of a pool


def add_of_many_sizes(writer: PoolWriter, number: int) -> None:
    record = FilmRecord(str(number), "", str(number), "s")
    if not writer.knows("x", record):
        writer.add(
            "x",
            record,
            film(number, SIZES[number]),
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
            add_of_many_sizes(writer, number)
        raise KeyboardInterrupt
    with PoolWriter(path, 128, 8, {"x": TERMS}, b"k" * 16, plan="same") as writer:
        assert writer.num_done == interrupted_at
        for number in range(len(SIZES)):
            add_of_many_sizes(writer, number)
    pool = Pool.open(path)
    assert verify_pool(path) == []
    assert [np.load(shard).shape for shard in sorted(path.glob("*.npy"))] == [
        (1, 64, 64), (3, 32, 32), (1, 128, 128), (1, 64, 64), (1, 64, 64), (2, 32, 32)
    ]  # fmt: skip
    assert pool.column("resolution").tolist() == list(SIZES)
    assert pool.column("shard").tolist() == [0, 1, 1, 2, 3, 1, 4, 5, 5]
    assert pool.column("row").tolist() == [0, 0, 1, 0, 0, 2, 0, 0, 1]
    assert pool.meta["counts"]["resolutions"] == {"32": 5, "64": 3, "128": 1}
    for number, res in enumerate(SIZES):
        assert np.array_equal(pool.read([number])[0], film(number, res))
    assert np.array_equal(pool.read([6, 0]), np.stack([film(6, 64), film(0, 64)]))
    with pytest.raises(ValueError, match="films of 32, 64 px do not fit one array"):
        pool.read([0, 1])
    assert pool.read(np.array([], int)).shape == (0, 128, 128)
    for name, value in (("greys", "window"), ("orientation", "mirrored, turned 90"), ("inverted", True)):
        assert pool.column(name).tolist() == [value] * len(SIZES)  # the journal of the interrupted call too


def test_how_a_film_was_made_is_not_in_the_fingerprint(tmp_path):
    def fingerprint(name: str, **made) -> str:
        with PoolWriter(tmp_path / name, 32, 8, {"x": TERMS}, b"k" * 16) as writer:
            writer.add("x", FilmRecord("1", "", "1", "s"), film(0), (200, 200, 8), **made)
        return writer.fingerprint

    assert fingerprint("a") == fingerprint(
        "b", greys="sigmoid", orientation="turned 180", inverted=True, equalised=True
    )


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
    """Problems, or the one line of error when the folder does not even open."""
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
def test_films_that_are_not_where_the_table_puts_them_are_refused(pool, columns):
    with pytest.raises(ValueError, match=r"pixels-00000.npy holds 11 films of 32 px, films.parquet lists (0|10);"):
        rewrite(pool, **columns)
