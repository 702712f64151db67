"""The folder of a site: what we wrote there, and how a fresh one takes its place. It must never delete a file that we did not write."""

import hashlib
import os
import shutil
from pathlib import Path

from thiscxr.files import sha256_file
from thiscxr.gallery.samples import read_json

MARKER = ".thiscxr-site"


def check_ours(out: Path) -> None:
    """Raise ValueError unless `out` is absent, empty, or holds nothing but what an earlier build wrote, unchanged."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    advice = "choose another --out, or move it away first"
    if not (out / MARKER).is_file():
        raise ValueError(f"{out} exists and was not written by `thiscxr site` (no {MARKER} inside); {advice}")
    marker = read_json(out / MARKER, "the list of files that `thiscxr site` wrote")
    ours = marker.get("files") if isinstance(marker, dict) else None
    if not isinstance(ours, dict):
        raise ValueError(f"{out / MARKER} holds no list of files; {advice}")
    folders = {parent.as_posix() for name in ours for parent in Path(name).parents}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if name == MARKER or (path.is_dir() and not path.is_symlink() and name in folders):
            continue
        if name not in ours or path.is_symlink():
            raise ValueError(f"{path} was not written by `thiscxr site`, and replacing {out} would delete it; {advice}")
        if sha256_file(path) != ours[name]:
            raise ValueError(f"{path} was changed since `thiscxr site` wrote it, and replacing {out} would lose that; {advice}")


def swap(fresh: Path, out: Path) -> None:
    """Put the finished folder `fresh` in the place of `out`; on a failure the old folder is put back."""
    check_ours(out)  # once more: a file may have arrived while the films were copied
    if not out.exists():
        os.replace(fresh, out)
        return
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    os.replace(out, old)
    try:
        os.replace(fresh, out)
    except OSError:
        os.replace(old, out)
        raise
    shutil.rmtree(old)


def write(folder: Path, name: str, data: bytes, written: dict[str, str]) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    written[name] = hashlib.sha256(data).hexdigest()
