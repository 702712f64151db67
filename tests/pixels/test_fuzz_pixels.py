"""A seeded fuzzer of film files: every damaged file is a film or one line of reason, in bounded time and memory, and
never a crash.

Cases run in processes of their own, so that a crash or a hang is detected and named by its number: `python
tests/pixels/test_fuzz_pixels.py SEED FIRST STOP` runs them by hand, and `… SEED NUMBER > file` writes the one file.
"""

import os
import select
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
import pytest

from tests.damage import case, corpus
from thiscxr import pixels as px

SEED = 20
QUICK, FULL = 500, 12_000
SECONDS = 20
MEMORY_BYTES = 3 * 2**30


def outcome(seed: int, number: int) -> str:
    """Run one case: "film", the reason, or the fault in capitals."""
    name, whole, damaged, covered = case(seed, number)
    header = px.read_dicom_header(damaged)
    assert header.view != ""
    assert header.sex != ""
    min_side = [0, 16][number % 2]
    try:
        film = px.load_film(damaged, min_side=min_side)
        px.to_bits(px.to_square(film.pixels, 16, film.aspect), 8)
    except ValueError as error:
        return str(error) if str(error) and len(str(error).splitlines()) == 1 else f"LINES {error!r}"
    if covered and not np.array_equal(film.pixels, px.load_film(whole, min_side=min_side).pixels):
        return f"WRONG PIXELS {name}"
    return "film"


def work(seed: int, first: int, stop: int) -> None:
    """Print one line a case; the start of one is printed first, so that the last line names the case that killed the
    process."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    corpus()
    print("ready", flush=True)
    for number in range(first, stop):
        try:
            said = outcome(seed, number)
        except Exception as error:
            said = f"EXCEPTION {type(error).__name__}: {error}".replace("\n", " ")
        print(number, said, flush=True)


def line(worker: subprocess.Popen[bytes], seconds: float) -> str | None:
    """Return the worker's next line, "" at its end, None when it is silent for too long."""
    assert worker.stdout is not None
    got = b""
    while not got.endswith(b"\n"):
        if not select.select([worker.stdout], [], [], seconds)[0]:
            return None
        part = os.read(worker.stdout.fileno(), 1)  # byte by byte: what a buffer holds, select does not see
        if not part:
            return ""
        got += part
    return got.decode().rstrip("\n")


def run(seed: int, first: int, stop: int) -> dict[int, str]:
    """Return the outcome of each case; a worker that dies or falls silent is replaced, and its case is named CRASH or
    HANG."""
    found: dict[int, str] = {}
    while first < stop:
        command = [sys.executable, __file__, str(seed), str(first), str(stop)]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert line(worker, 10 * SECONDS) == "ready"
        while first < stop:
            said = line(worker, SECONDS)
            if not said:
                found[first] = "HANG" if said is None else f"CRASH {worker.wait()}"
                first += 1
                break
            number, _, reason = said.partition(" ")
            assert int(number) == first
            found[first] = reason
            first += 1
        worker.kill()
        worker.wait()
    return found


def check(found: dict[int, str], capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter(found.values())
    with capsys.disabled():
        print(f"\n{len(found)} damaged files of seed {SEED}:")
        for said, times in counts.most_common():
            print(f"{times:7d}  {said}")
    bad = {
        number: said
        for number, said in found.items()
        if said.split(" ")[0] in ("WRONG", "LINES", "EXCEPTION", "CRASH", "HANG")
    }
    assert not bad
    assert counts["film"] > len(found) / 20  # otherwise nothing but the first check is fuzzed
    assert len(counts) > 10


def test_damaged_files_are_films_or_reasons(capsys):
    check(run(SEED, 0, QUICK), capsys)


@pytest.mark.slow
def test_many_damaged_files_are_films_or_reasons(capsys):
    half = QUICK + FULL // 2
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(run, (SEED, SEED), (QUICK, half), (half, QUICK + FULL))
        check({number: said for part in parts for number, said in part.items()}, capsys)


def test_the_fuzzer_sees_crashes_hangs_and_wrong_pixels(monkeypatch, tmp_path):
    """Its own alarm works: a worker that aborts, sleeps or returns another film is named."""
    script = "import os, sys, time\nfirst = int(sys.argv[2])\nprint('ready', flush=True)\n"
    script += "print(first, 'film', flush=True)\nos.abort() if first == 0 else time.sleep(60)"
    path = tmp_path / "worker.py"
    path.write_text(script)
    monkeypatch.setitem(globals(), "__file__", str(path))
    monkeypatch.setitem(globals(), "SECONDS", 1)
    found = run(SEED, 0, 4)
    assert found == {0: "film", 1: "CRASH -6", 2: "film", 3: "HANG"}
    number = next(number for number in range(1000) if case(SEED, number)[3] and outcome(SEED, number) != "film")
    others = count()
    monkeypatch.setattr(
        px,
        "load_film",
        lambda data, min_side: px.LoadedFilm(np.full((20, 20), next(others), np.uint8), 20, 20, 8, False),
    )
    assert outcome(SEED, number).startswith("WRONG PIXELS")


def test_the_same_seed_gives_the_same_case():
    assert case(SEED, 77) == case(SEED, 77)
    assert case(SEED, 77) != case(SEED + 1, 77)


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    if len(numbers) == 2:
        sys.stdout.buffer.write(case(*numbers)[2])
    else:
        work(*numbers)
