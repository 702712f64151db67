"""Phantom releases for tests: label files without films, and films without a release."""

import csv
import gzip
import io
from functools import lru_cache
from itertools import islice

import numpy as np

from thiscxr.collections import COLLECTIONS, Collection
from thiscxr.phantom import releases as layouts
from thiscxr.phantom.releases.release import ReleasedFilm

SEED = 3
MANY = 1200  # films of a release whose label files are looked at


def collection_of(layout: str) -> Collection:
    return COLLECTIONS[layout.removesuffix("-jpg")]


@lru_cache
def many_films(layout: str) -> list[ReleasedFilm]:
    return layouts.truth(layout, MANY, SEED)


@lru_cache
def label_files(layout: str) -> dict[str, bytes]:
    """The label files of a release of MANY films, by path."""
    return dict(layouts.RELEASES[layout].tables(many_films(layout), False))


def read_csv(data: bytes) -> list[dict[str, str]]:
    """The rows of a table, gzipped or not."""
    text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def encoded(
    layout: str, form: str | None = None, count: int = 1, res: int = 64
) -> list[tuple[ReleasedFilm, np.ndarray, bytes]]:
    """The first films of a layout that have the form: the film, what was drawn, and the bytes of its file."""
    films = (film for film in layouts.truth(layout, 300, SEED, res) if form is None or film.form == form)
    return [
        (film, drawn := film.shot.take(res), layouts.RELEASES[layout].encode(film, drawn))
        for film in islice(films, count)
    ]


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel().astype(float), other.ravel().astype(float))[0, 1])
