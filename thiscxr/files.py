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
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, and rename it to `path` when the block ends well.

    Raises ValueError when `path` exists and is not an empty folder: nothing is ever overwritten.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} already exists and is not an empty folder; choose another path or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.mkdir()
    try:
        yield part
        if path.exists():
            path.rmdir()
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def nearest_name(word: str, names: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest of `names`, or an empty string when none is close."""
    lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.5)
    return f" (did you mean '{lower[close[0]]}'?)" if close else ""
