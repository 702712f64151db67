"""The same pool, byte for byte: with one worker, several, a Dask cluster, and after being killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from thiscxr.pixels import save_png
from thiscxr.pool import prepare as preparing
from thiscxr.pool import verify_pool
from thiscxr.pool.prepare import prepare

N = 48


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """A folder of oblong films, two of which are no films."""
    root = tmp_path_factory.mktemp("films")
    for number in range(N):
        film = np.random.default_rng(number).integers(0, 256, (70, 64), np.uint8)
        save_png(root / f"{number:03d}.png", film)
    (root / "007.png").write_text("no film")
    (root / "011.png").write_bytes((root / "012.png").read_bytes()[:200])
    return root


@pytest.fixture(scope="module")
def key(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("keys") / "key"


@pytest.fixture(scope="module")
def alone(films, key, tmp_path_factory) -> dict[str, bytes]:
    """The pool as one worker makes it."""
    path = tmp_path_factory.mktemp("alone") / "pool"
    prepare(path, [("folder", films)], 32, key_file=key, workers=1)
    assert verify_pool(path) == []
    return contents(path)


def contents(pool: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in pool.iterdir()}


def test_processes(films, key, alone, tmp_path):
    prepare(tmp_path / "pool", [("folder", films)], 32, key_file=key, workers=2)
    assert contents(tmp_path / "pool") == alone


@pytest.mark.slow
def test_a_dask_cluster_that_loses_a_worker(films, key, alone, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="Dask is an extra: pip install 'thiscxr[dask]'")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        victims = [worker.pid for worker in cluster.workers.values()]
        add = preparing.PoolWriter.add

        def killing(self, *args, **options):
            if self.num_films == 10:
                os.kill(victims[0], signal.SIGKILL)
            return add(self, *args, **options)

        monkeypatch.setattr(preparing.PoolWriter, "add", killing)
        prepare(tmp_path / "pool", [("folder", films)], 32, key_file=key, scheduler=cluster.scheduler_address)
    assert contents(tmp_path / "pool") == alone


def test_without_a_cluster_there_is_one_line(films, key, tmp_path):
    pytest.importorskip("distributed", reason="Dask is an extra: pip install 'thiscxr[dask]'")
    with pytest.raises(ValueError, match=r"--dask tcp://127.0.0.1:9: no Dask scheduler answers there") as caught:
        prepare(tmp_path / "pool", [("folder", films)], 32, key_file=key, scheduler="tcp://127.0.0.1:9")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "pool").exists()


@pytest.mark.slow
def test_kill_9_at_any_moment_and_the_same_command_again(tmp_path, key):
    """Each call is killed a second or so after it began to write, until the fifth gets through."""
    films = tmp_path / "films"
    for number in range(2000):
        save_png(films / f"{number:04d}.png", np.random.default_rng(number).integers(0, 256, (650, 600), np.uint8))
    command = [
        sys.executable,
        "-m",
        "thiscxr",
        "prepare",
        "--folder",
        str(films),
        "--res",
        "64",
        "--key-file",
        str(key),
        "--workers",
        "2",
    ]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    rng = np.random.default_rng(0)
    journal = tmp_path / ".killed.part" / "journal"
    done, kills = [0], 0
    while not (tmp_path / "killed").exists():
        with subprocess.Popen(
            [*command, str(tmp_path / "killed")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            while process.poll() is None and not (journal.exists() and lines(journal) > done[-1]):
                time.sleep(0.05)
            if kills < 4 and process.poll() is None:
                time.sleep(float(rng.uniform(0, 1)))
                workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                process.kill()
                process.wait()
                kills += 1
                deadline = time.monotonic() + 10
                while any(running(worker) for worker in workers):
                    assert time.monotonic() < deadline, "the workers of a killed call must not continue"
                    time.sleep(0.05)
            assert process.stderr is not None
            said = process.stderr.read().decode()
        if process.returncode not in (0, -signal.SIGKILL):
            pytest.fail(said)
        if done[-1]:
            assert f"resuming after {done[-1]} finished films" in said
        if journal.exists():
            done.append(lines(journal))
    assert kills >= 2, "the films were done too fast to be interrupted"
    assert done == sorted(done)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert not journal.parent.exists()


def running(pid: str) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def lines(journal: Path) -> int:
    """Films that the journal names; its first line is the plan."""
    return max(0, journal.read_bytes().count(b"\n") - 1)
