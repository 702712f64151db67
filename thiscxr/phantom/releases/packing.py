"""A release packed as downloaded: zips, and gzipped tars. The same files always give the same bytes.

Films are packed one by one and then removed, so that neither memory nor disk holds a release twice.
"""

import gzip
import io
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def pack(root: Path, out: Path, place: Callable[[str, float], tuple[str, str] | None]) -> None:
    """Move all files under `root` into the archives of the folder `out`, in sorted order.

    place: (path inside `root`, its rank 0..1 in its folder) -> name of the archive and path inside it, or None to move
    the file as it is.
    """
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    by_archive: dict[str, list[tuple[str, str]]] = {}
    in_folder = Counter(path.rpartition("/")[0] for path in paths)
    ranks: Counter[str] = Counter()
    for path in paths:
        folder = path.rpartition("/")[0]
        placed = place(path, ranks[folder] / in_folder[folder])
        ranks[folder] += 1
        if placed is None:
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).rename(out / path)
        else:
            by_archive.setdefault(placed[0], []).append((path, placed[1]))
    for archive, members in by_archive.items():
        with (_zip if archive.endswith(".zip") else _tar_gz)(out / archive) as add:
            for path, member in members:
                add(member, (root / path).read_bytes())
                (root / path).unlink()


@contextmanager
def _zip(path: Path) -> Iterator[Callable[[str, bytes], None]]:
    with zipfile.ZipFile(path, "w") as archive:

        def add(name: str, data: bytes) -> None:
            entry = zipfile.ZipInfo(name)  # dated 1980, like nothing else
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            # films are compressed already
            entry.compress_type = zipfile.ZIP_DEFLATED if name.endswith(".csv") else zipfile.ZIP_STORED
            archive.writestr(entry, data)

        yield add


@contextmanager
def _tar_gz(path: Path) -> Iterator[Callable[[str, bytes], None]]:
    with (
        open(path, "wb") as file,
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):

        def add(name: str, data: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))

        yield add
