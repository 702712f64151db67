"""The files of a release where they lie: on disk, or as members of zips and tars, which are read in place and never extracted.

Names of members only ever serve as names: nothing here writes, so no member can land anywhere. What a member may expand to is bounded.
"""

import bz2
import gzip
import logging
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

MAX_FILE_BYTES = 256 * 2**20  # no film is larger: 89 million pixels of 16 bits are 178 MB
_MAX_EXPANSION = 100  # films hardly compress; gzip can reach a thousand
_FREE_EXPANSION_BYTES = 2**30
_MAX_WRAPPINGS = 5
_MAX_TABLE_FOLDERS = 200  # PadChest has 54 beside its table; a folder for each of thousands of patients holds none

_TARS = (".tar",)
_OPENERS: dict[str, Callable[..., Any]] = {".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.bz2": bz2.open, ".tar.xz": lzma.open}
_DAMAGE = (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """A file of a release. `path`: on disk; the others only for a member of an archive. It travels to workers, so it is small."""

    path: str
    member: str = ""
    offset: int = -1  # of a tar member's bytes in the archive; -1: not in a tar
    size: int = -1

    def __str__(self) -> str:
        return f"{self.path}!{self.member}" if self.member else self.path

    @property
    def name(self) -> str:
        """Path on disk, or in the archive."""
        return self.member or self.path

    @property
    def num_bytes(self) -> int:
        """Size; 0 when the file cannot be looked at."""
        try:
            return self.size if self.member else os.stat(self.path).st_size
        except OSError:
            return 0

    def read(self) -> bytes:
        """Return all bytes. Raises ValueError, without a path in it, when they are not to be had or more than MAX_FILE_BYTES."""
        try:
            if not self.member:
                with open(self.path, "rb") as file:
                    return _bounded(file, os.fstat(file.fileno()).st_size)
            if self.offset >= 0:
                with open(self.path, "rb") as file:
                    file.seek(self.offset)
                    return _bounded(file, self.size, follows=True)
            with _zip(self.path).open(self.member) as member:
                return _bounded(member, self.size)
        except _DAMAGE as error:
            what = "damaged archive" if self.member and not isinstance(error, OSError) else "cannot be read"
            raise ValueError(f"{what} ({getattr(error, 'strerror', None) or type(error).__name__})") from error

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Yield a stream of the bytes, gunzipped where they are gzipped: for tables, which may be larger than films."""
        with open(self.path, "rb") if not self.member else _zip(self.path).open(self.member) as file:
            head = file.read(2)
            file.seek(0)
            yield gzip.GzipFile(fileobj=file) if head == b"\x1f\x8b" else file  # type: ignore[misc]


def _bounded(file: IO[bytes], size: int, follows: bool = False) -> bytes:
    if size > MAX_FILE_BYTES:
        raise ValueError(f"absurd file of more than {MAX_FILE_BYTES // 2**20} MiB")
    data = file.read(size + (not follows))  # one more than it says: a member must not be longer than its entry
    if len(data) != size:
        raise ValueError("truncated file" if len(data) < size else "damaged archive (a member is longer than its entry)")
    return data


@lru_cache(maxsize=64)  # PadChest comes in 54 zips; each is opened once a process
def _zip(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _hidden(name: str) -> bool:
    return any(part == "__MACOSX" or (part.startswith(".") and part not in (".", "..")) for part in name.split("/"))


def walk(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield (path inside `root` with forward slashes, path) of every file, sorted in each folder; hidden ones are passed over.

    Links to folders are followed, each folder once.
    """
    seen = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        identity = os.path.realpath(folder)
        if identity in seen:
            subfolders.clear()
            continue
        seen.add(identity)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        inside = "" if folder == str(root) else Path(os.path.relpath(folder, root)).as_posix() + "/"
        for name in sorted(names):
            if not name.startswith("."):
                yield inside + name, Path(folder, name)


def release_files(root: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, ReleaseFile]]:
    """Yield (path inside the release, file) of all files with one of `suffixes`: on disk first, then in zips and uncompressed tars.

    An archive that cannot be read to its end is named in a warning; what it held is missing, like any other missing file.
    """
    archives = []
    for name, path in walk(root):
        lower = name.lower()
        if lower.endswith(suffixes):
            yield name, ReleaseFile(str(path))
        elif lower.endswith((".zip", *_TARS)):
            archives.append(path)
    for path in archives:
        members = _zip_members if path.name.lower().endswith(".zip") else _tar_members
        try:
            for file in members(str(path)):
                if file.member.lower().endswith(suffixes) and not _hidden(file.member):
                    yield file.member, file
        except _DAMAGE as error:
            _warn_of_damage(path, error)


def _zip_members(path: str) -> Iterator[ReleaseFile]:
    for info in _zip(path).infolist():
        if not info.is_dir():
            yield ReleaseFile(path, info.filename, size=info.file_size)


def _tar_members(path: str) -> Iterator[ReleaseFile]:
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if member.isreg() and not member.issparse():
                yield ReleaseFile(path, member.name, member.offset_data, member.size)
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep an object a member


def compressed_tars(root: Path) -> list[Path]:
    """Return the archives under `root` that can only be read from front to back, sorted."""
    return [path for name, path in walk(root) if name.lower().endswith(tuple(_OPENERS))]


def stream(path: Path, wanted: Callable[[str], bool], strict: bool = False) -> Iterator[tuple[str, bytes | None]]:
    """Yield (name, bytes) of the wanted members of a compressed tar, in its order, in one pass and bounded memory.

    None instead of bytes: more than MAX_FILE_BYTES. An archive that is cut off or expands absurdly ends the stream with a warning;
    with a ValueError if `strict`.
    """
    bound = _FREE_EXPANSION_BYTES + _MAX_EXPANSION * path.stat().st_size
    opener = next(opener for suffix, opener in _OPENERS.items() if path.name.lower().endswith(suffix))
    try:
        # opened here, not by tarfile, which takes a compressed file that ends too early for the end of the archive
        with opener(path) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
            for member in tar:
                if member.offset_data + member.size > bound:
                    raise tarfile.ReadError(f"it expands to more than {_MAX_EXPANSION} times its size")
                if member.isreg() and not member.issparse() and not _hidden(member.name) and wanted(member.name):
                    file = tar.extractfile(member)
                    assert file is not None
                    yield member.name, file.read() if member.size <= MAX_FILE_BYTES else None
                tar.members.clear()  # type: ignore[attr-defined]
    except _DAMAGE as error:
        if strict:
            raise ValueError(f"{path} cannot be read to its end ({_reason(error)}); fetch it again") from error
        _warn_of_damage(path, error)


def _warn_of_damage(path: Path, error: Exception) -> None:
    logging.getLogger(__name__).warning("%s cannot be read to its end (%s); films after that point count as missing", path, _reason(error))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def find_table(root: Path, *names: str) -> ReleaseFile | None:
    """Return the first of `names` that `root`, one of its folders or a zip in either holds, plain or as .gz; None when none does.

    A folder that holds a single folder is only a wrapping, as wget and unzip make them: what is inside counts too.
    """
    for _ in range(_MAX_WRAPPINGS):
        inside = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        folders = [root, *(inside if len(inside) <= _MAX_TABLE_FOLDERS else ())]
        table = _plain_table(folders, names) or _zipped_table(folders, names)
        if table is not None or len(inside) != 1:
            return table
        root = inside[0]
    return None


def _plain_table(folders: Sequence[Path], names: Sequence[str]) -> ReleaseFile | None:
    paths = (path for name in names for folder in folders for path in (folder / name, folder / f"{name}.gz"))
    return next((ReleaseFile(str(path)) for path in paths if path.is_file()), None)


def _zipped_table(folders: Sequence[Path], names: Sequence[str]) -> ReleaseFile | None:
    for path in (path for folder in folders for path in sorted(folder.glob("*.zip"))):
        try:
            members = {member.member.rpartition("/")[2]: member for member in _zip_members(str(path))}
        except _DAMAGE as error:
            _warn_of_damage(path, error)
            continue
        for name in names:
            if name in members:
                return members[name]
    return None
