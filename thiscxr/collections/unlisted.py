"""The films of a folder without a table: pictures by their suffix, DICOM by its first bytes, since discs give it none.

A picture with a suffix is never opened here, so that a large folder costs no more than its listing.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from thiscxr.collections.archives import ReleaseFile, compressed_tars, stream, with_archive
from thiscxr.collections.collection import DICOM, PICTURES
from thiscxr.parallel import open_workers
from thiscxr.pixels import DicomHeader, begins_like, read_dicom_header

_NO_HEADER = DicomHeader()
_START_BYTES = 512
_HEAD_BYTES = 2**18  # of a header: everything before the pixels
_COPY_BYTES = 2**16


def films_in(root: Path, there: Iterable[tuple[str, ReleaseFile]]) -> dict[str, DicomHeader]:
    """Return path inside `root` -> header of every film (an empty one for a picture); there: the result of
    `release_files`.

    A member has the path it would have if its archive were unpacked in place; where another file has that path already,
    the archive is a folder in it. DICOM objects that are no films are included: see `no_film`.
    """
    files: dict[str, ReleaseFile] = {}
    for name, file in there:
        if name in files:
            if _copy(files[name], file):
                continue
            name = with_archive(name, file)
        files[name] = file
    found = {name: header for name, header in headers(files).items() if header is not None}
    for folder, tar in compressed_tars(root):
        found |= _streamed(folder, tar, files, found)
    return found


def headers(files: Mapping[str, ReleaseFile]) -> dict[str, DicomHeader | None]:
    """Return name -> header of each file; None: it is no film. Only files that may be DICOM are opened."""
    found: dict[str, DicomHeader | None] = dict.fromkeys(files, _NO_HEADER)
    doubtful = {name: file for name, file in files.items() if not name.lower().endswith(PICTURES)}
    with open_workers(len(doubtful)) as hands:
        looks = hands.map(_look, doubtful.values())
        found |= zip(doubtful, tqdm(looks, "headers", len(doubtful), unit="film", delay=1), strict=True)
    return found


def _look(file: ReleaseFile) -> DicomHeader | None:
    name = PurePosixPath(file.name).name
    try:
        return _header(name, partial(file.head, _START_BYTES), partial(file.head, _HEAD_BYTES))
    except ValueError:  # the decoder reports why; a file without a suffix is not known to be a film
        return _NO_HEADER if name.lower().endswith(DICOM) else None


def _header(name: str, start: Callable[[], bytes], head: Callable[[], bytes]) -> DicomHeader | None:
    if name.lower().endswith(DICOM):
        return read_dicom_header(head())
    like = begins_like(start())
    if like == "picture":
        # with a suffix it may be a camera's raw file, which begins like TIFF
        return None if "." in name else _NO_HEADER
    header = read_dicom_header(head()) if like else _NO_HEADER
    return header if like == "DICOM" or header.sop_class or header != _NO_HEADER else None


def _streamed(
    folder: str, tar: Path, files: Mapping[str, ReleaseFile], found: Mapping[str, DicomHeader]
) -> dict[str, DicomHeader]:
    """Return the films of a compressed tar as in `films_in`; it is read from front to back."""
    here: dict[str, DicomHeader] = {}
    opened: list[str] = []

    def wanted(member: str) -> bool:
        file = ReleaseFile(str(tar), member)
        name = folder + file.name
        if name not in files and (name in found or name in here):
            name = with_archive(name, file)
        if name not in files and member.lower().endswith(PICTURES):
            here[name] = _NO_HEADER
            return False
        opened.append(name)
        return True

    for member, data in stream(tar, wanted):
        name, head = opened.pop(), (data or b"")[:_HEAD_BYTES]
        if name in files:
            if data is not None and _same(files[name], len(data), head[:_COPY_BYTES]):
                continue
            name = with_archive(name, ReleaseFile(str(tar), member))
        begin = partial(bytes, head)
        header = _NO_HEADER if member.lower().endswith(PICTURES) else _header(PurePosixPath(member).name, begin, begin)
        if header is not None:
            here[name] = header
    return here


def _same(one: ReleaseFile, num_bytes: int, head: bytes) -> bool:
    """Return whether a file is a copy of another one of its name, as when an archive was unpacked in place."""
    try:
        return one.num_bytes == num_bytes and one.head(_COPY_BYTES) == head
    except ValueError:
        return False


def _copy(one: ReleaseFile, other: ReleaseFile) -> bool:
    try:
        return _same(one, other.num_bytes, other.head(_COPY_BYTES))
    except ValueError:
        return False
