"""Folders that take the place of older ones: whatever moment a process dies at, one of the two is there, or comes
back."""

import errno
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from thiscxr import files
from thiscxr.files import atomic_folder, free_folder, resumable_folder

# Writes the folder "out" anew, in a child process for each step at which it may die, and says what each left.
KILLED = """
import json, os, shutil, sys
from pathlib import Path
from thiscxr import files

room, maker, steps = Path(sys.argv[1]), getattr(files, sys.argv[2]), json.loads(sys.argv[3])
if sys.argv[4] != "exchange":
    files._exchange = lambda one, other: False

def write(folder, text):
    (folder / "a").write_text(text)
    (folder / "b").write_text(text)

def dying(function, before):
    def wrapped(*arguments, **options):
        if before:
            os._exit(9)
        done = function(*arguments, **options)
        os._exit(9)
    return wrapped

def half_removed(path, **options):
    (Path(path) / "a").unlink()
    os._exit(9)

for name, nth, before in steps:
    home = room / f"{name}-{nth}-{before}"
    home.mkdir()
    write_to = home / "out"
    write_to.mkdir()
    write(write_to, "old")
    if os.fork() == 0:
        owner = {"replace": os, "rmtree": shutil}.get(name, files)
        function, calls = getattr(owner, name), iter(range(99))
        def counted(*arguments, **options):
            if next(calls) == nth:
                return (half_removed if before == "half" else dying(function, before))(*arguments, **options)
            return function(*arguments, **options)
        setattr(owner, name, counted)
        with maker(write_to, replace=True) as part:
            write(part, "new")
        os._exit(0)
    died = os.waitstatus_to_exitcode(os.wait()[1]) == 9
    left = {str(p.relative_to(home)): p.read_text() for p in sorted(home.rglob("*")) if p.is_file()}
    print(json.dumps([name, nth, before, died, left]))
"""


def whole(folder: Path) -> str:
    """What `folder` holds: "old" or "new", both files of it."""
    texts = {path.name: path.read_text() for path in folder.iterdir()}
    assert texts.keys() == {"a", "b"}, texts
    assert len({*texts.values()}) == 1, texts
    return texts["a"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("maker", ["atomic_folder", "resumable_folder"])
@pytest.mark.parametrize("how", ["exchange", "two steps"])
def test_a_kill_at_any_step_of_a_replacement_loses_neither_folder(tmp_path, maker, how):
    if how == "exchange" and not can_exchange(tmp_path):
        pytest.skip("this file system cannot exchange two folders")
    renames = [("replace", nth, before) for nth in range(1 if how == "exchange" else 2) for before in (True, False)]
    steps = [
        *renames,
        ("_exchange", 0, True),
        *([("_exchange", 0, False)] if how == "exchange" else []),
        ("rmtree", 0, True),
        ("rmtree", 0, "half"),
    ]
    command = [sys.executable, "-c", KILLED, str(tmp_path), maker, json.dumps(steps), how]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == len(steps)
    gaps = 0
    for line in lines:
        name, nth, before, died, left = json.loads(line)
        out = tmp_path / f"{name}-{nth}-{before}" / "out"
        assert died, line
        if how == "exchange":
            assert whole(out) in ("old", "new"), left  # there at every moment
        gaps += not out.exists()
        make = getattr(files, maker)
        with suppress(KeyboardInterrupt), make(out, replace=True):
            raise KeyboardInterrupt  # the next call, which comes to nothing
        assert whole(out) in ("old", "new"), left
        with make(out, replace=True) as part:
            for path in part.iterdir():
                if path.name != "lock":
                    path.unlink()
            (part / "a").write_text("newest")
            (part / "b").write_text("newest")
        assert whole(out) == "newest"
        assert not (out.parent / ".out.replaced").exists()
        assert not (out.parent / ".out.part").exists()
    assert bool(gaps) == (how == "two steps")  # the steps are those that matter


def can_exchange(folder: Path) -> bool:
    one, other = folder / "one", folder / "other"
    one.mkdir()
    other.mkdir()
    done = files._exchange(one, other)
    one.rmdir()
    other.rmdir()
    return done


def test_an_exchange_is_one_of_contents(tmp_path):
    if not can_exchange(tmp_path):
        pytest.skip("this file system cannot exchange two folders")
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    assert files._exchange(tmp_path / "one", tmp_path / "other")
    assert [(tmp_path / name / "a").read_text() for name in ("one", "other")] == ["other", "one"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        files._exchange(tmp_path / "one", tmp_path / "nowhere")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
def test_where_folders_cannot_be_exchanged_they_are_renamed(tmp_path, monkeypatch, code):
    class Libc:
        def __init__(self, *arguments, **options) -> None: ...

        @staticmethod
        def renameat2(*arguments) -> int:
            files.ctypes.set_errno(code)
            return -1

    monkeypatch.setattr(files.ctypes, "CDLL", Libc)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("old")
    with atomic_folder(tmp_path / "out", replace=True) as part:
        (part / "a").write_text("new")
    assert (tmp_path / "out" / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("make", [atomic_folder, resumable_folder])
def test_a_replacement_that_fails_leaves_the_old_folder(tmp_path, make, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("old")
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    replace = os.replace

    def refused(source, target):
        if Path(target).name == "out" and Path(source).name != ".out.replaced":
            raise PermissionError(errno.EACCES, "no")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(PermissionError), make(tmp_path / "out", replace=True) as part:
        (part / "a").write_text("new")
    assert (tmp_path / "out" / "a").read_text() == "old"


def test_a_link_to_a_folder_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a").write_text("theirs")
    (tmp_path / "out").symlink_to(tmp_path / "theirs")
    with atomic_folder(tmp_path / "out", replace=True) as part:
        (part / "a").write_text("new")
    assert (tmp_path / "theirs" / "a").read_text() == "theirs"
    assert (tmp_path / "out" / "a").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "theirs"]


@pytest.mark.parametrize("make", [atomic_folder, resumable_folder])
def test_a_file_that_arrives_in_an_empty_folder_meanwhile_is_not_lost(tmp_path, make):
    (tmp_path / "out").mkdir()
    folder = make(tmp_path / "out")
    (folder.__enter__() / "a").write_text("ours")
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(OSError, match="not empty"):
        folder.__exit__(None, None, None)
    assert (tmp_path / "out" / "mine").read_text() == "mine"


@pytest.mark.parametrize("replace", [True, False])
def test_a_file_is_no_folder_to_be_replaced(tmp_path, replace):
    (tmp_path / "out").write_text("mine")
    with (
        pytest.raises(ValueError, match="out already exists and is not"),
        atomic_folder(tmp_path / "out", replace=replace),
    ):
        pass
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_that_a_kill_put_aside_is_there_for_who_asks_for_a_free_place(tmp_path):
    (tmp_path / ".out.replaced").mkdir()
    (tmp_path / ".out.replaced" / "a").write_text("old")
    with pytest.raises(ValueError, match="already exists and is not an empty folder"):
        free_folder(tmp_path / "out")
    assert (tmp_path / "out" / "a").read_text() == "old"
