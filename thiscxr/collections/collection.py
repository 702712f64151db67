"""What every collection has in common: a label table, images under its own names, terms.

A collection is one module of this folder that makes one `Collection`; no other package knows more about it. Which words
of its tables mean which finding is data, in mappings/; its name and its terms are in terms.json.
"""

import json
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any

from thiscxr.collections.archives import ReleaseFile, find_table, release_files, with_archive
from thiscxr.collections.beside import kind
from thiscxr.labels import NEGATIVE, NOT_MENTIONED, POSITIVE, FilmRecord, Terms
from thiscxr.terms import collections

FRONTAL_VIEWS = ("PA", "AP", "AP_supine")
COPY = "another copy of a film"
PICTURES = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".tif", ".tiff", ".bmp", ".webp")
DICOM = (".dcm", ".dicom", ".dcm.gz")
IMAGE_SUFFIXES = (*PICTURES, *DICOM)


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection of films as released. `key` is its flag name and its `source` in a pool."""

    key: str
    read_labels: Callable[
        ..., list[FilmRecord]
        # (root: Path), and name: str where `by_path`; the label files alone, every row; ValueError when they are not as
        # released
    ]
    image_key: Callable[[str], str]  # path of an image inside the release -> FilmRecord.file
    default_views: tuple[str, ...] = FRONTAL_VIEWS
    # of its images; of a film in two formats, the earlier one is read
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES
    # its ids are paths: another folder may have the same ones, and any suffix may be a film's
    by_path: bool = False
    equalised: tuple[str, ...] = ()  # suffixes of those that the release histogram-equalised
    squashed: bool = False  # the release made squares of oblong films
    reports: bool = False  # the release has reports: `read_labels` takes reports=True, and labels the films by them

    @property
    def terms(self) -> Terms:
        """What the collection requires of its users."""
        return Terms(**collections()[self.key]["terms"])

    def key_of(self, path: str) -> str | None:
        """Return the FilmRecord.file of an image by its path inside the release; None when its suffix is not that of an
        image."""
        return self.image_key(path) if self.by_path or path.lower().endswith(self.suffixes) else None


def find_files(
    collection: Collection,
    root: Path,
    wanted: Container[str],
    listed: Container[str] = frozenset(),
    passed: Counter[str] | None = None,
) -> dict[str, ReleaseFile]:
    """Return FilmRecord.file -> file for the images under `root` that are `wanted`; compressed tars are not opened.

    Of several copies the one whose suffix comes first in `collection.suffixes` is taken, and of those the largest, then
    the first by path. listed: keys that are counted elsewhere when they are not wanted. passed: counts all other files,
    by kind.
    """
    passed = Counter() if passed is None else passed
    found: dict[str, ReleaseFile] = {}
    ranks: dict[str, int] = {}
    for name, file in release_files(root, passed=passed):
        key = collection.key_of(name)
        if (
            file.member
            and (key in found or key not in wanted)
            and (other := collection.key_of(with_archive(name, file))) in wanted
        ):
            key = other
        if key is None or key not in wanted:
            if key not in listed:
                passed[kind(name, collection.suffixes)] += 1
            continue
        rank = next(
            (rank for rank, suffix in enumerate(collection.suffixes) if name.lower().endswith(suffix)),
            len(collection.suffixes),
        )
        passed[COPY] += key in found
        if key not in found or rank < ranks[key] or (rank == ranks[key] and file.num_bytes > found[key].num_bytes):
            found[key], ranks[key] = file, rank
    return found


def read_mapping(name: str) -> dict[str, Any]:
    """Return one of the mapping tables that lie beside this module."""
    return json.loads((files("thiscxr.collections") / "mappings" / name).read_text(encoding="utf-8"))


def table_name(table: ReleaseFile) -> str:
    """Return the name of a table without folders and without .gz."""
    return PurePosixPath(table.name).name.removesuffix(".gz")


def missing_table(root: Path, title: str, *names: str) -> ValueError:
    """Return the error for a folder without a collection's table; it names the collection that is there instead, if
    it is recognised."""
    return ValueError(
        f"{root} has no {title} label table; expected {' or '.join(names)} in that folder{looks_like(root)}"
    )


def looks_like(root: Path) -> str:
    """Return the end of a message that names the collection whose table is in a folder, "" for none."""
    tables = {table: key for key, known in collections().items() for table in known["tables"]}
    table = find_table(root, *tables)
    return "" if table is None else f"; it looks like --{tables[table_name(table)]}"


def match_terms(
    terms: Set[str], table: Mapping[str, Mapping[str, Sequence[str]]], silent: bool = False
) -> dict[str, int]:
    """Return the state of each finding of `table`, a mapping of finding -> {"tokens", "mask_tokens"}; whole terms are
    compared.

    A token makes it positive; "only" makes it positive when that is the whole set; a mask token, or a `silent` report,
    not mentioned.
    """
    states = {}
    for finding, words in table.items():
        if not terms.isdisjoint(words.get("tokens", ())) or (terms and terms == set(words.get("only", ()))):
            states[finding] = POSITIVE
        else:
            states[finding] = (
                NOT_MENTIONED if silent or not terms.isdisjoint(words.get("mask_tokens", ())) else NEGATIVE
            )
    return states


def share(findings: Mapping[str, int]) -> Mapping[str, int]:
    """Return one dict shared by all films with these findings: a million rows hold some thousand different ones."""
    return _shared(tuple(findings), tuple(findings.values()))


@lru_cache(maxsize=2**16)
def _shared(names: tuple[str, ...], states: tuple[int, ...]) -> Mapping[str, int]:
    return dict(zip(names, states, strict=True))
