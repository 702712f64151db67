"""Files that are either whole or not there: atomic writes and content hashes.

Bottom of the house: it imports nothing of ours, so that every room may write through it.
"""

import ctypes
import difflib
import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HERE = -100  # AT_FDCWD: relative paths are relative to the working folder
_RENAME_EXCHANGE = 2


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


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all; a text in UTF-8."""
    with atomic_path(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file. Raises ValueError, with `what` was expected, when it is missing, cannot be read or is no
    JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; expected {what}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); expected {what}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); expected {what}") from None


@contextmanager
def atomic_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, and rename it to `path` when the block ends well.

    Raises ValueError when `path` exists and is not an empty folder: nothing is ever overwritten. replace: the
    caller asserts that an older folder there may be removed. It is kept until the new one takes its place: in one step
    where the system can (Linux, on most file systems), else in two; after a kill in between, the next call restores the
    older one.
    """
    path = _folder(path) if replace else free_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.mkdir()
    try:
        yield part
        _take_place(part, path, replace)
    finally:
        _remove(part)


@contextmanager
def resumable_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """As `atomic_folder`, but what an interruption (kill -9, a full disk, Ctrl-C) leaves is there again in the next
    call.

    Only a ValueError, which the next call would meet again, removes it. Raises ValueError when another process works in
    it. replace: as of `atomic_folder`.
    """
    path = _folder(path) if replace else free_folder(path)
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


def _folder(path: Path) -> Path:
    """Return the path of a folder to be, and finish what a kill left of its replacement. Raises ValueError for a file,
    or no name."""
    path = Path(path)
    if path.name in ("", ".."):
        raise ValueError(
            f"the folder '{path}' cannot be renamed into place, since the path has no name; give the name of a folder"
        )
    old = _replaced(path)
    if os.path.lexists(old):
        if path.is_dir() and any(path.iterdir()):
            _remove(old)
        else:
            _move(old, path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} already exists and is not a folder; choose another path")
    return path


def _replaced(path: Path) -> Path:
    return path.with_name(f".{path.name}.replaced")


def _remove(path: Path) -> None:
    """Remove a folder, or a link to one without what it leads to."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def free_folder(path: Path) -> Path:
    """Return the path of a new folder. Raises ValueError when something is there that is not an empty folder."""
    path = _folder(path)
    if path.exists() and any(path.iterdir()):
        raise ValueError(f"{path} already exists and is not an empty folder; choose another path or remove it first")
    return path


def _take_place(part: Path, path: Path, replace: bool = False) -> None:
    if not (replace and path.is_dir() and any(path.iterdir())):
        _move(part, path)
        return
    old = _replaced(path)
    if _exchange(part, path):
        os.replace(part, old)  # at once: another call may need the temporary name
    else:
        os.replace(path, old)
        try:
            os.replace(part, path)
        except OSError:
            os.replace(old, path)
            raise
    _remove(old)


def _move(folder: Path, path: Path) -> None:
    """Rename a folder to `path`, where nothing is or an empty folder."""
    if os.name == "nt" and path.is_dir():
        path.rmdir()  # elsewhere the empty folder is replaced in one step
    os.replace(folder, path)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step and return True, or do nothing and return False where the system cannot. Source:
    renameat2(2)."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if renameat2 is None:
        return False
    if not renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE)):
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):  # the kernel, or the file system
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))


def check_place(path: Path, folder: bool = False) -> None:
    """Raise ValueError when no file (or folder) can be written at `path`: for a check before the work, not after it.

    Missing parent folders are made on writing, so the nearest existing one is tested, and left as it was.
    """
    path = Path(path)
    try:
        if path.exists() and path.is_dir() != folder:
            raise ValueError(f"{path} is {'a file; give a folder' if folder else 'a folder; give the name of a file'}")
        parent = next(above for above in path.absolute().parents if above.exists())
        if not parent.is_dir():
            raise ValueError(f"{path} cannot be written, for {parent} is a file; choose another place")
        probe = parent / f".{path.name}.{os.getpid()}.part"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}); choose another place") from error


@contextmanager
def folder_lock(folder: Path, busy: str = "") -> Iterator[None]:
    """Hold `folder` for this process. Raises ValueError with the text `busy` when another process holds it.

    Without a text it waits until the other lets go, or has ended in whatever way.
    """
    try:
        import fcntl  # absent on Windows, where two writers of one folder are then not noticed
    except ImportError:
        yield
        return
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise ValueError(busy) from None
        yield


def cache_folder() -> Path:
    """Return the folder for what can be made again: THISCXR_CACHE, or thiscxr in the user's cache folder."""
    return Path(
        os.environ.get("THISCXR_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thiscxr"
    )


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def nearest_name(word: str, names: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest of `names`, or an empty string when none is close."""
    lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.5)
    return f" (did you mean '{lower[close[0]]}'?)" if close else ""
