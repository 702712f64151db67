"""Names of files, as disks have them and as tables write them: in either Unicode form, in any bytes, with another machine's folders."""

import codecs
import os
import unicodedata
from collections.abc import Iterable

AS_LATIN_1 = "thiscxr.latin-1"  # error handler: bytes that are no UTF-8 are taken for Latin-1


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error(AS_LATIN_1, _as_latin_1)


def plain_name(name: str) -> str:
    """Return a file's name as text in the composed Unicode form (NFC), whichever form and whichever bytes the disk has.

    Bytes that are no UTF-8 become the characters that a table with the same bytes has.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", AS_LATIN_1))


def base_name(path: str) -> str:
    """Return the name of a file without its folders, whichever way the slashes go."""
    return path.replace("\\", "/").rpartition("/")[2]


def stem(path: str) -> str:
    """Return the name of a file without folders and without its last suffix."""
    name = base_name(path)
    return name.rpartition(".")[0] or name


def locate(written: Iterable[str], there: Iterable[str]) -> dict[str, str]:
    """Return path as a table writes it -> path of the file that it means, for those that mean one of the files `there`.

    The same path goes first; then the same in another case or Unicode form, or with other slashes; then the file that shares the longest
    end with it: `C:\\films\\a.png` is `images/a.png` where no other can be meant. Where several could be, or several paths would mean one
    file, nothing is.
    """
    there, written = dict.fromkeys(there), dict.fromkeys(written)
    found = {path: path for path in written if path in there}
    if len(found) == len(written):
        return found
    ends: dict[str, str | None] = {}  # the end of a path, in one spelling -> the file; None: there are several
    for file in there:
        ends |= {end: None if end in ends else file for end in _ends(file)}
    nearest: dict[str, dict[int, list[str]]] = {}  # file -> how many parts are shared -> paths
    for path in written.keys() - found.keys():
        mine = _ends(path)
        end = next((end for end in mine if end in ends), "")
        meant = ends.get(end)
        if meant is None:
            continue
        if _ends(meant)[0] == mine[0]:
            found[path] = meant
        else:
            nearest.setdefault(meant, {}).setdefault(end.count("/"), []).append(path)
    taken = set(found.values())
    for file, paths in nearest.items():
        if file not in taken and len(longest := paths[max(paths)]) == 1:
            found[longest[0]] = file
    return found


def _ends(path: str) -> list[str]:
    """Return the path in one spelling, whole and then without its first folder, its first two, and so on."""
    parts = [part for part in plain_name(path).replace("\\", "/").casefold().split("/") if part not in ("", ".")]
    return ["/".join(parts[first:]) for first in range(len(parts))] or [""]
