"""Files that are either whole or not there: atomic writes and content hashes.

Bottom of the house: it imports nothing of ours, so that every room may write through it.
"""

import difflib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and rename it over `path` when the block ends well.

    On any failure (a full disk and Ctrl-C included) the temporary file is removed and an older `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with open(part, "r+b") as file:
            os.fsync(file.fileno())  # the rename must not reach the disk before the bytes do
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, and rename it to `path` when the block ends well.

    Raises ValueError when `path` exists and is not an empty folder: nothing is ever overwritten. replace: an older folder there, of which
    the caller knows that it may go, is kept until the new one takes its place.
    """
    path = _named(path) if replace else free_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.mkdir()
    try:
        yield part
        _take_place(part, path, replace)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def resumable_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """As `atomic_folder`, but what an interruption (kill -9, a full disk, Ctrl-C) leaves is there again in the next call.

    Only a ValueError, which the next call would meet again, removes it. Raises ValueError when another process works in it.
    replace: an older folder at `path`, of which the caller knows that it may go, is kept until the new one takes its place.
    """
    path = _named(path) if replace else free_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.mkdir(exist_ok=True)
    with folder_lock(part, f"{path} is being written by another process; wait for it, or choose another path"):
        try:
            yield part
            (part / "lock").unlink(missing_ok=True)
            _take_place(part, path, replace)
        except ValueError:
            shutil.rmtree(part, ignore_errors=True)
            raise


def _named(path: Path) -> Path:
    path = Path(path)
    if path.name in ("", ".."):
        raise ValueError(f"the folder '{path}' is put in place by its name, and that is none; give the name of a folder")
    return path


def free_folder(path: Path) -> Path:
    """Return the path of a new folder. Raises ValueError when something is there that is not an empty folder."""
    path = _named(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} already exists and is not an empty folder; choose another path or remove it first")
    return path


def _take_place(part: Path, path: Path, replace: bool = False) -> None:
    old = path.with_name(f".{path.name}.old")
    if path.exists() and replace:
        shutil.rmtree(old, ignore_errors=True)
        os.replace(path, old)
    elif path.exists():
        path.rmdir()
    try:
        os.replace(part, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def folder_lock(folder: Path, busy: str) -> Iterator[None]:
    """Hold `folder` for this process. Raises ValueError with the text `busy` when another process holds it."""
    try:
        import fcntl  # absent on Windows, where two writers of one folder are then not noticed
    except ImportError:
        yield
        return
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(busy) from None
        yield


def cache_folder() -> Path:
    """Return the folder for what can be made again: THISCXR_CACHE, or thiscxr in the user's cache folder."""
    return Path(os.environ.get("THISCXR_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thiscxr")


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def nearest_name(word: str, names: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest of `names`, or an empty string when none is close."""
    lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.5)
    return f" (did you mean '{lower[close[0]]}'?)" if close else ""
