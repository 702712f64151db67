"""What every collection has in common: a label table, a tree of images, terms.

A collection is one module of this folder that makes one `Collection`; the rest of the house knows no other thing about it.
"""

import csv
import gzip
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from thiscxr.data.labels import FilmRecord, Terms
from thiscxr.files import nearest_name

FRONTAL_VIEWS = ("PA", "AP", "AP_supine")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom")


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection of films as released. `key` is its flag name and its `source` in a pool."""

    key: str
    terms: Terms
    read_labels: Callable[[Path], list[FilmRecord]]  # the label files alone, every row; ValueError when they are not as released
    find_files: Callable[[Path], dict[str, Path]]  # FilmRecord.file -> path, for all images under the folder
    default_views: tuple[str, ...] = FRONTAL_VIEWS


def walk_images(root: Path) -> Iterator[Path]:
    """Yield every image file under `root`, sorted within each folder; hidden files and folders are passed over."""
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                yield Path(folder, name)


def read_table(path: Path, required: Sequence[str | tuple[str, ...]]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row by column name) of a comma-separated file, gzipped or not; all values are stripped strings.

    required: column names, or tuples of names of which one must be there.
    Raises ValueError when a required column is missing, a row ends before it, or the file is not UTF-8 text.
    """
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", newline="")
            if path.suffix == ".gz"
            else open(path, encoding="utf-8-sig", newline="") as file
        ):
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            needed = []
            for names in required:
                names = (names,) if isinstance(names, str) else names
                present = [name for name in names if name in header]
                if not present:
                    found = ", ".join(name or '""' for name in header) if header else "nothing (the file is empty)"
                    hint = nearest_name(names[0], [name for name in header if name])
                    raise ValueError(f"{path} has no column '{' or '.join(names)}'{hint}; found: {found}")
                needed.append(header.index(present[0]))
            for row in reader:
                if not any(row):
                    continue
                if len(row) <= max(needed):
                    raise ValueError(f"{path} line {reader.line_num} has {len(row)} cells, expected {len(header)}; the file may be cut off")
                yield reader.line_num, dict(zip(header, map(str.strip, row), strict=False))
    except (UnicodeDecodeError, csv.Error, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path} is not a comma-separated table in UTF-8 ({error})") from error
