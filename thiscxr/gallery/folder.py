"""The folder of a site: what we wrote there, and how a new one replaces it. It must never delete a file that we did not
write."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from thiscxr.files import read_json, resumable_folder, sha256_file

MARKER = ".thiscxr-site"
ADVICE = "choose another --out, or move it away first"


def check_ours(out: Path) -> Mapping[str, str]:
    """Return what an earlier build wrote to `out`, name -> SHA-256; nothing when it is absent or empty.

    Raises ValueError when it holds anything else, or a file that was changed since.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return {}
    if not (out / MARKER).is_file():
        raise ValueError(f"{out} exists and was not written by `thiscxr site` (no {MARKER} inside); {ADVICE}")
    marker = read_json(out / MARKER, "the list of files that `thiscxr site` wrote")
    ours = marker.get("files") if isinstance(marker, dict) else None
    if not isinstance(ours, dict):
        raise ValueError(f"{out / MARKER} holds no list of files; {ADVICE}")
    folders = {parent.as_posix() for name in ours for parent in Path(name).parents}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if name == MARKER or (path.is_dir() and not path.is_symlink() and name in folders):
            continue
        if name not in ours or path.is_symlink():
            raise ValueError(f"{path} was not written by `thiscxr site`, and replacing {out} would delete it; {ADVICE}")
        if sha256_file(path) != ours[name]:
            raise ValueError(
                f"{path} was changed since `thiscxr site` wrote it, and replacing {out} would lose that; {ADVICE}"
            )
    return ours


class SiteFolder:
    """A site while it is written; `names` holds what was written so far, name -> SHA-256."""

    def __init__(self, part: Path, out: Path, ours: Mapping[str, str]) -> None:
        self.names: dict[str, str] = {}
        self._part, self._out, self._ours = part, out, ours

    def write(self, name: str, data: bytes) -> None:
        """Write one file, or keep it where an interrupted build or the site that is replaced has the same bytes."""
        path, digest = self._part / name, hashlib.sha256(data).hexdigest()
        self.names[name] = digest
        if path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
            return
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)  # it may be the same file as the old site's, which must not change
        if self._ours.get(name) == digest:
            try:
                os.link(self._out / name, path)
                return
            except OSError:
                pass  # no links on this file system
        path.write_bytes(data)

    def finish(self) -> None:
        """Remove files of an interrupted build that this one does not have, and write the list of files."""
        for path in sorted(self._part.rglob("*"), reverse=True):  # files before their folders
            name = path.relative_to(self._part).as_posix()
            if path.is_dir():
                if not any(path.iterdir()):
                    path.rmdir()
            elif name not in self.names and name != "lock":
                path.unlink()
        self.write(MARKER, (json.dumps({"format": 1, "files": self.names}, indent=0, sort_keys=True) + "\n").encode())


@contextmanager
def site_folder(out: Path) -> Iterator[SiteFolder]:
    """Yield a folder that takes the place of `out` when the block ends well; what an interruption leaves is kept for
    the next call.

    Raises ValueError as `check_ours`, and when `.NAME.part` beside it is not an interrupted build of ours.
    """
    ours = check_ours(out)
    part = out.with_name(f".{out.name}.part")
    if (
        part.exists()
        and not (part / MARKER).is_file()
        and (not part.is_dir() or {path.name for path in part.iterdir()} - {"lock"})
    ):
        raise ValueError(
            f"{part} was not written by `thiscxr site` (no {MARKER} inside), and it would work there; {ADVICE}"
        )
    with resumable_folder(out, replace=True) as room:
        (room / MARKER).unlink(missing_ok=True)
        (room / MARKER).write_text("{}")
        folder = SiteFolder(room, out, ours)
        yield folder
        folder.finish()
        check_ours(out)  # once more: a file may have arrived meanwhile
