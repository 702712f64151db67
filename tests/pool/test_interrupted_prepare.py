"""What is left of a prepare that was stopped: resumed, or left alone, and the pool is the same."""

import logging
import os

import pytest

from tests.pool.conftest import leftovers
from thiscxr.files import folder_lock
from thiscxr.parallel import open_workers
from thiscxr.pool import Pool, prepare, verify_pool
from thiscxr.pool.writer import PoolWriter


def die(task: int) -> int:
    if task == 40:
        os._exit(3)
    return task


def test_a_worker_that_dies_is_reported():
    with pytest.raises(RuntimeError, match="a worker process died"), open_workers(64, workers=2) as hands:
        list(hands.map(die, range(64)))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("at", [0, 5, "finish", "finished"])
def test_an_interrupted_prepare_is_resumed(tmp_path, release, pool, key, monkeypatch, caplog, error, at):
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
        assert f"resuming after {5 if at == 5 else 11} finished films" in caplog.text


def test_another_job_does_not_resume_what_is_left_of_one(tmp_path, release, key, monkeypatch):
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
