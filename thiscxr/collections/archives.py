"""The files of a release in place: on disk, or as members of zips and tars, which are never extracted.

Nothing here writes, so that the name of a member can never be a path to write to. What a member may expand to is
bounded.
"""

import bz2
import gzip
import logging
import lzma
import os
import tarfile
import zipfile
import zlib
from collections import Counter
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
_OPENERS: dict[str, Callable[..., Any]] = {
    ".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.bz2": bz2.open, ".tbz2": bz2.open, ".tar.xz": lzma.open,
    ".txz": lzma.open,
}  # fmt: skip
_SYSTEM = {
    "__macosx",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "@eadir",
    "$recycle.bin",
    "system volume information",
    "lost+found",
}
HIDDEN, NO_FILE = "hidden or system file", "link to nowhere, pipe or device"  # why a file is passed over
_ENCRYPTED = 1  # bit 0 of the flags, APPNOTE 4.4.4
_DAMAGE = (
    OSError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
)


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """A file of a release. `path`: on disk; the others only for a member of an archive. It is sent to workers, so it is
    small."""

    path: str
    member: str = ""
    offset: int = -1  # of a tar member's bytes in the archive; -1: not in a tar
    size: int = -1

    def __str__(self) -> str:
        return f"{self.path}!{self.member}" if self.member else self.path

    @property
    def name(self) -> str:
        """Path on disk, or in the archive as it would be unpacked: Windows' own zips have other slashes, and many tars
        begin with `./`."""
        return self.member.replace("\\", "/").removeprefix("./") or self.path

    @property
    def num_bytes(self) -> int:
        """Size; 0 when the file cannot be accessed."""
        try:
            return self.size if self.member else os.stat(self.path).st_size
        except OSError:
            return 0

    def read(self) -> bytes:
        """Return all bytes. Raises ValueError, without a path in it, if they cannot be read or are more than
        MAX_FILE_BYTES."""
        with self._bytes() as (file, size):
            return _bounded(file, size, follows=self.offset >= 0)

    def head(self, num_bytes: int) -> bytes:
        """Return the first bytes, fewer when there are no more. Raises ValueError as `read`."""
        with self._bytes() as (file, size):
            return file.read(min(num_bytes, size))

    @contextmanager
    def _bytes(self) -> Iterator[tuple[IO[bytes], int]]:
        try:
            if self.member and self.offset < 0:
                with self._zipped() as file:
                    yield file, self.size
            else:
                with open(self.path, "rb") as file:
                    file.seek(max(self.offset, 0))
                    yield file, self.size if self.member else os.fstat(file.fileno()).st_size
        except _DAMAGE as error:
            what = "damaged archive" if self.member and not isinstance(error, OSError) else "cannot be read"
            raise ValueError(f"{what} ({getattr(error, 'strerror', None) or type(error).__name__})") from error

    def _zipped(self) -> IO[bytes]:
        archive = _zip(self.path)
        info = archive.getinfo(self.member)
        if info.flag_bits & _ENCRYPTED:
            raise ValueError("in a zip with a password; unpack it first")
        try:
            return archive.open(info)
        except NotImplementedError as error:
            method = zipfile.compressor_names.get(info.compress_type, str(info.compress_type))  # type: ignore[attr-defined]
            raise ValueError(
                f"in a zip that is packed by the method {method}, which is not read here; unpack it first"
            ) from error

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Yield a stream of the bytes, gunzipped where they are gzipped: for tables, which may be larger than films."""
        try:
            opened = self._zipped() if self.member else open(self.path, "rb")  # noqa: SIM115
        except ValueError as error:
            raise ValueError(f"{self} is {error}") from error
        with opened as file:
            head = file.read(2)
            file.seek(0)
            yield gzip.GzipFile(fileobj=file) if head == b"\x1f\x8b" else file  # type: ignore[misc]


def _bounded(file: IO[bytes], size: int, follows: bool = False) -> bytes:
    if size > MAX_FILE_BYTES:
        raise ValueError(f"absurd file of more than {MAX_FILE_BYTES // 2**20} MiB")
    data = file.read(size + (not follows))  # one more than its entry: a member must not be longer
    if len(data) != size:
        raise ValueError(
            "truncated file" if len(data) < size else ("damaged archive (a member is longer than its entry)")
        )
    return data


@lru_cache(maxsize=64)  # PadChest comes in 54 zips; each is opened once a process
def _zip(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _hidden(name: str) -> bool:
    return any(
        part.lower() in _SYSTEM or (part.startswith(".") and part not in (".", "..")) for part in name.split("/")
    )


def walk(root: Path, passed: Counter[str] | None = None) -> Iterator[tuple[str, Path]]:
    """Yield (path inside `root` with forward slashes, path) of every file, sorted in each folder; hidden ones are
    passed over.

    Links to folders are followed, each folder once. passed: counts what is passed over, by reason; a hidden folder
    counts once.
    """
    passed = Counter() if passed is None else passed
    seen = set()
    waiting = [("", str(root))]
    while waiting:
        inside, folder = waiting.pop()
        identity = os.path.realpath(folder)
        if identity in seen:
            continue
        seen.add(identity)
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            passed[f"folder that cannot be read ({error.strerror})"] += 1
            continue
        subfolders = []
        for entry in entries:
            if _hidden(entry.name):
                passed[HIDDEN] += 1
            elif _is(entry.is_dir):
                subfolders.append((f"{inside}{entry.name}/", entry.path))
            elif _is(entry.is_file):
                yield inside + entry.name, Path(entry.path)
            else:
                passed[NO_FILE] += 1
        waiting += reversed(subfolders)


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # a link to itself
        return False


def release_files(
    root: Path, suffixes: tuple[str, ...] = ("",), passed: Counter[str] | None = None
) -> Iterator[tuple[str, ReleaseFile]]:
    """Yield (path inside the release, file) of all files with one of `suffixes`: on disk first, then in zips and
    uncompressed tars.

    A member has the path that it would have if its archive were unpacked where it lies, with forward slashes. passed:
    as in `walk`. An archive that cannot be read to its end is named in a warning; the rest of its files count as
    missing.
    """
    passed = Counter() if passed is None else passed
    archives = []
    for name, path in walk(root, passed):
        lower = name.lower()
        if lower.endswith((".zip", *_TARS)):
            archives.append((name, path))
        elif lower.endswith(suffixes) and not lower.endswith(tuple(_OPENERS)):
            yield name, ReleaseFile(str(path))
    for name, path in archives:
        members = _zip_members if name.lower().endswith(".zip") else _tar_members
        folder = name[: name.rfind("/") + 1]
        try:
            for file in members(str(path), passed):
                if file.name.lower().endswith(suffixes):
                    yield folder + file.name, file
        except _DAMAGE as error:
            _note_damage(path, error, passed)


def with_archive(name: str, member: ReleaseFile) -> str:
    """Return the path inside the release of a member, `name`, with its archive as a folder: no two members share it."""
    return f"{name.removesuffix(member.name)}{os.path.basename(member.path)}/{member.name}" if member.member else name


def _zip_members(path: str, passed: Counter[str]) -> Iterator[ReleaseFile]:
    for info in _zip(path).infolist():
        file = ReleaseFile(path, info.filename, size=info.file_size)
        if _hidden(file.name):
            passed[HIDDEN] += 1
        elif not file.name.endswith("/"):
            yield file


def _tar_members(path: str, passed: Counter[str]) -> Iterator[ReleaseFile]:
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if _offered(member, passed):
                yield ReleaseFile(path, member.name, member.offset_data, member.size)
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep an object a member


def _offered(member: tarfile.TarInfo, passed: Counter[str]) -> bool:
    if member.isdir():
        return False
    reason = HIDDEN if _hidden(member.name) else "" if member.isreg() and not member.issparse() else NO_FILE
    passed[reason] += reason != ""
    return not reason


def compressed_tars(root: Path) -> list[tuple[str, Path]]:
    """Return (folder inside `root`, path) of the archives that can only be read from front to back, sorted; folders end
    in a slash."""
    return [(name[: name.rfind("/") + 1], path) for name, path in walk(root) if name.lower().endswith(tuple(_OPENERS))]


def stream(
    path: Path, wanted: Callable[[str], bool], strict: bool = False, passed: Counter[str] | None = None
) -> Iterator[tuple[str, bytes | None]]:
    """Yield (name, bytes) of the wanted members of a compressed tar, in its order, in one pass and bounded memory.

    None instead of bytes: more than MAX_FILE_BYTES. An archive that is cut off or expands absurdly ends the stream with
    a warning; with a ValueError if `strict`. passed: as in `walk`, for members that were not offered to `wanted`.
    """
    passed = Counter() if passed is None else passed
    bound = _FREE_EXPANSION_BYTES + _MAX_EXPANSION * path.stat().st_size
    opener = next(opener for suffix, opener in _OPENERS.items() if path.name.lower().endswith(suffix))
    try:
        # opened here, not by tarfile, which takes a compressed file that ends too early for the end of the archive
        with opener(path) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
            for member in tar:
                if member.offset_data + member.size > bound:
                    raise tarfile.ReadError(f"it expands to more than {_MAX_EXPANSION} times its size")
                if _offered(member, passed) and wanted(member.name):
                    file = tar.extractfile(member)
                    assert file is not None
                    yield member.name, file.read() if member.size <= MAX_FILE_BYTES else None
                tar.members.clear()  # type: ignore[attr-defined]
    except _DAMAGE as error:
        if strict:
            raise ValueError(f"{path} cannot be read to its end ({_reason(error)}); fetch it again") from error
        _note_damage(path, error, passed)


def _note_damage(path: Path, error: Exception, passed: Counter[str]) -> None:
    passed[f"archive that cannot be read to its end ({_reason(error)})"] += 1
    _warn(path, _reason(error))


@lru_cache(maxsize=256)  # a folder may be read several times; one warning is enough
def _warn(path: Path, reason: str) -> None:
    logging.getLogger(__name__).warning(
        "%s cannot be read to its end (%s); films after that point count as missing", path, reason
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def find_table(root: Path, *names: str) -> ReleaseFile | None:
    """Return the first of `names` that `root`, one of its folders or a zip in either holds, plain or as .gz; None when
    none does. An earlier name in a zip goes before a later one on disk.

    A folder that holds a single folder, as wget and unzip make them, counts as a wrapping: its content is searched too.
    """
    return next((table for name in names if (table := _find_table(root, name)) is not None), None)


def _find_table(root: Path, name: str) -> ReleaseFile | None:
    for _ in range(_MAX_WRAPPINGS):
        inside = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
        folders = [root, *(inside if len(inside) <= _MAX_TABLE_FOLDERS else ())]
        paths = (path for folder in folders for path in (folder / name, folder / f"{name}.gz") if path.is_file())
        plain = next(paths, None)
        table = _zipped_table(folders, name) if plain is None else ReleaseFile(str(plain))
        if table is not None or len(inside) != 1:
            return table
        root = inside[0]
    return None


def _zipped_table(folders: Sequence[Path], name: str) -> ReleaseFile | None:
    for path in (path for folder in folders for path in sorted(folder.iterdir()) if path.suffix.lower() == ".zip"):
        try:
            members = {member.name.rpartition("/")[2]: member for member in _zip_members(str(path), Counter())}
        except _DAMAGE as error:
            _warn(path, _reason(error))
            continue
        if name in members:
            return members[name]
    return None
