"""File names on disks and in tables: in either Unicode form, in any encoding, with another machine's folders."""

import codecs
import os
import re
import unicodedata
from collections.abc import Callable, Iterable

AS_LATIN_1 = "thiscxr.latin-1"  # error handler: bytes that are no UTF-8 are read as Latin-1
_SUFFIX = re.compile(r"\.(?:png|jpe?g|jfif|jpe|tiff?|bmp|webp|jp2|dicom|dcm(?:\.gz)?)$")


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error(AS_LATIN_1, _as_latin_1)


def plain_name(name: str) -> str:
    """Return a file's name as text in the composed Unicode form (NFC), whatever form and bytes the disk has.

    Bytes that are no UTF-8 are read as in a table with the same bytes.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", AS_LATIN_1))


def base_name(path: str) -> str:
    """Return the name of a file without its folders, with slashes or backslashes."""
    return path.replace("\\", "/").rpartition("/")[2]


def stem(path: str) -> str:
    """Return the name of a file without folders and without its last suffix."""
    name = base_name(path)
    return name.rpartition(".")[0] or name


def locate(written: Iterable[str], there: Iterable[str]) -> dict[str, str]:
    """Return path in a table -> path of its file, for those that match one of the files `there`.

    The same path goes first; then the same in another case or Unicode form, or with other slashes; then the file that
    shares the longest end with it: `C:\\films\\a.png` is `images/a.png` if no other file matches; last a copy in
    another format, `a.jpg`. Where several files match, or several paths match one file, there is no match.
    """
    files, paths = dict.fromkeys(there), dict.fromkeys(written)
    found = {path: path for path in paths if path in files}
    for spelled in (_in_one_spelling, _without_suffix):
        if len(found) < len(paths):
            found |= _by_ends([path for path in paths if path not in found], files, set(found.values()), spelled)
    return found


def _by_ends(
    paths: Iterable[str], files: Iterable[str], taken: set[str], spelled: Callable[[str], str]
) -> dict[str, str]:
    ends: dict[str, str | None] = {}  # the end of a file's path -> the file; None: there are several
    for file in files:
        ends |= {end: None if end in ends else file for end in _ends(spelled(file))}
    # file -> is it the whole path, how many folders are shared -> paths
    claims: dict[str, dict[tuple[bool, int], list[str]]] = {}
    for path in paths:
        mine = _ends(spelled(path))
        end = next((end for end in mine if end in ends), "")
        meant = ends.get(end)
        if meant is not None:
            nearness = end == mine[0] == _ends(spelled(meant))[0], end.count("/")
            claims.setdefault(meant, {}).setdefault(nearness, []).append(path)
    found: dict[str, str] = {}
    for file, claimed in claims.items():
        nearest = claimed[max(claimed)]
        spellings = {_in_one_spelling(path) for path in nearest}
        if len(spellings) == 1 and (file not in taken or spellings == {_in_one_spelling(file)}):
            found |= dict.fromkeys(nearest, file)
    return found


def _in_one_spelling(path: str) -> str:
    return plain_name(path).replace("\\", "/").casefold()


def _without_suffix(path: str) -> str:
    return _SUFFIX.sub("", _in_one_spelling(path))


def _ends(path: str) -> list[str]:
    """Return the path whole and then without its first folder, its first two, and so on."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    return ["/".join(parts[first:]) for first in range(len(parts))] or [""]
