"""What is inside a pool, or inside collections before preparing them, in numbers.

The dict of `describe_sources` is a contract (docs/formats.md); what it has beyond that may grow. How it is shown is in
`text` and `page`.
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from thiscxr.collections import COLLECTIONS, FRONTAL_VIEWS, Collection
from thiscxr.collections.archives import ReleaseFile
from thiscxr.collections.plan import Wanted, wanted_films
from thiscxr.labels import FINDINGS, with_derived
from thiscxr.parallel import open_workers
from thiscxr.pixels import load_film
from thiscxr.pool import Pool
from thiscxr.pool.prepare import check_marks, righted
from thiscxr.report.pool.facts import (
    co_occurrence,
    evenly,
    film_levels,
    film_table,
    intensity_facts,
    part_facts,
    size_facts,
    views_by_finding,
)
from thiscxr.report.pool.text import describe_text
from thiscxr.report.pool.warnings import find_warnings

__all__ = ["describe_pool", "describe_sources", "describe_text"]

RELEASE_SAMPLE = 200  # films of a collection that are decoded: they are large
POOL_SAMPLE = 2000  # films of a source that are read in a pool ...
_SAMPLE_PIXELS = 2**26  # ... or as many as have so many pixels


@dataclass(frozen=True, slots=True)
class _Look:
    """What is measured in a film of a release."""

    levels: NDArray[np.int64]
    native: tuple[int, int, int]  # width, height, bits
    greys: str
    orientation: str
    inverted: bool


def describe_sources(
    sources: Sequence[tuple[str, Path]],
    views: Sequence[str] | None = None,
    labels_only: bool = False,
    derive: bool = False,
    allow_synthetic: bool = False,
    labels: str = "released",
) -> dict[str, Any]:
    """Return {"sources": {key: {"released", "kept", "dropped", ...}}}: every row, what `prepare` would take, and why
    not the others.

    labels_only: read only the label files, so that the films need not be there; else RELEASE_SAMPLE films a source,
    evenly drawn, are decoded for native sizes and intensities. Raises ValueError as `prepare` does.
    """
    plan = wanted_films([(key, Path(root)) for key, root in sources], views, labels_only, labels)
    described: dict[str, Any] = {}
    for part in plan:
        key = part.collection.key
        # first: it finds which films are in no tar either
        pixels = {} if labels_only else _look_at(part, allow_synthetic)
        films = [with_derived(film) if derive else film for film in part.films.values()]
        described[key] = {
            "released": part_facts(film_table(key, part.released, as_released=True)),
            **_kept_facts(film_table(key, films)),
            "dropped": dict(sorted((+part.dropped).items())),
            **({} if labels_only else {"beside": dict(sorted((+part.beside).items()))}),
            "release": _release_facts(part.collection),
            "terms": asdict(part.collection.terms),
            **pixels,
        }
    return _with_warnings({"sources": described})


def _kept_facts(table: pa.Table) -> dict[str, Any]:
    return {
        "kept": part_facts(table),
        "co_occurrence": co_occurrence(table),
        "views_by_finding": views_by_finding(table),
    }


def _release_facts(collection: Collection | None) -> dict[str, Any]:
    """Return what the release did to its films; None: the phantom, which did nothing."""
    squashed, equalised = (collection.squashed, collection.equalised) if collection else (False, ())
    return {"squashed": squashed, "equalised": list(equalised)}


def _with_warnings(facts: dict[str, Any]) -> dict[str, Any]:
    return {**facts, "warnings": find_warnings(facts)}


def _look_at(part: Wanted, allow_synthetic: bool) -> dict[str, Any]:
    """Decode a sample of a collection's films: native sizes and intensities, with the refused ones counted."""
    names = list(part.films)
    sample = {names[place] for place in evenly(len(names), RELEASE_SAMPLE)}
    frontal = {name: film.view in FRONTAL_VIEWS for name, film in part.films.items() if name in sample}
    open_films = [
        (part.files[name], frontal[name], allow_synthetic) for name in names if name in sample and name in part.files
    ]
    looks: list[tuple[str, _Look | str]] = []  # with the name of the file
    with (
        tqdm(desc=f"films of {part.collection.key}", total=len(sample), unit="film", delay=1) as bar,
        open_workers(len(open_films)) as hands,
    ):
        for (file, *_), look in zip(open_films, hands.map(_look, open_films), strict=True):
            looks.append((file.name, look))
            bar.update()
        for film, data in part.streamed(lambda film: film.film not in sample):
            looks.append((part.files[film.film].name, _look((data, frontal[film.film], allow_synthetic))))
            bar.update()
    opened = [(name, look) for name, look in looks if isinstance(look, _Look)]
    sizes = np.array([look.native for _, look in opened], np.int64).reshape(-1, 3)
    equalised = part.collection.equalised
    return {
        "native": {
            **size_facts(*sizes.T),
            "inverted": sum(look.inverted for _, look in opened),
            "equalised": sum(bool(equalised) and name.lower().endswith(equalised) for name, _ in opened),
            **{
                word: dict(Counter(getattr(look, word) for _, look in opened).most_common())
                for word in ("greys", "orientation")
            },
        },
        "intensity": intensity_facts(
            [look.levels for _, look in opened],
            len(part.films),
            Counter(look for _, look in looks if isinstance(look, str)),
        ),
    }


def _look(task: tuple[ReleaseFile | bytes | None, bool, bool]) -> _Look | str:
    """Return what is measured in a film, or why `prepare` refuses it.

    task: the file, its bytes when it is in a compressed tar, or None when it is absurdly large; whether it is known to
    be frontal; and whether it may be synthetic.
    """
    file, frontal, allow_synthetic = task
    try:
        data = file.read() if isinstance(file, ReleaseFile) else file
        film = load_film(io.BytesIO(data or b""))
        check_marks(film.marked, allow_synthetic)
        _, orientation, inverted = righted(film, frontal)
    except ValueError as error:
        return str(error)
    native = (film.native_width, film.native_height, film.native_bits)
    return _Look(film_levels(film.pixels), native, film.greys, orientation, inverted)


def describe_pool(path: Path) -> dict[str, Any]:
    """Return {"pool": {...}, "sources": {key: {"kept", ...}}, "rejected": {reason: count}}, with the counts of
    `describe_sources`.

    Intensities are those of POOL_SAMPLE films a source, evenly drawn. Raises ValueError when `path` is not a pool.
    """
    pool = Pool.open(path)
    table = _read_films(pool.path)
    try:
        facts: dict[str, Any] = {
            "pool": {name: pool.meta[name] for name in ("resolution", "bits", "fingerprint", "counts", "options")}
        }
        facts["sources"] = {key: _pool_source(pool, key, table) for key in pool.meta["sources"]}
    except (KeyError, AttributeError) as error:
        raise ValueError(f"{pool.path / 'pool.json'} lacks what a pool needs ({error}); prepare it again") from error
    rejected = Counter(row["reason"] for row in _rows(pool.path / "rejected.csv", "reason") or [])
    facts["rejected"] = dict(rejected.most_common())
    duplicates = _rows(pool.path / "duplicates.csv", "film_id", "group", "kind")
    if duplicates is not None:
        facts["duplicates"] = _duplicate_facts(duplicates, _read(pool.path, ["film_id"]).column(0), table)
    return _with_warnings(facts)


def _pool_source(pool: Pool, key: str, table: pa.Table) -> dict[str, Any]:
    rows = np.flatnonzero(pc.equal(table["source"], key).to_numpy())
    films = table.take(rows)
    release = _release_facts(COLLECTIONS.get(key))
    if pool.meta["options"].get("aspect") == "restore":
        release["squashed"] = False
    return {
        **_kept_facts(films),
        "release": release,
        "native": {
            **size_facts(*(films[name].to_numpy() for name in ("native_width", "native_height", "native_bits"))),
            **{name: pc.sum(films[name], min_count=0).as_py() for name in ("inverted", "equalised")},
            **{name: dict(Counter(films[name].to_pylist()).most_common()) for name in ("greys", "orientation")},
        },
        "intensity": _pool_intensity(pool, rows),
        "terms": {name: text for name, text in pool.meta["sources"][key].items() if name != "films"},
    }


def _read_films(pool: Path) -> pa.Table:
    """Return the films as `film_table` does; ids are numbered column by column, since as texts a million films take a
    gigabyte."""
    texts = ["source", "view", "sex", "split", "labeler", "greys", "orientation"]
    numbers = ["age_years", *FINDINGS, "native_width", "native_height", "native_bits", "equalised", "inverted"]
    table = _read(pool, [*texts, *numbers], texts).unify_dictionaries()
    for name in ("patient", "study"):
        encoded = _read(pool, [name]).column(name).dictionary_encode()  # one dictionary over all chunks
        table = table.append_column(name, pa.chunked_array([chunk.indices for chunk in encoded.chunks], pa.int32()))
    return table


def _read(pool: Path, columns: list[str], repeated: Sequence[str] = ()) -> pa.Table:
    """repeated: columns of few different texts."""
    path = pool / "films.parquet"
    try:
        return pq.read_table(path, columns=columns, read_dictionary=repeated).select(columns)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged ({' '.join(str(error).split())}); copy the pool again or prepare it again"
        ) from error


def _rows(path: Path, *required: str) -> list[dict[str, str]] | None:
    """Return the rows of a small table of a pool, or None when it is not there. Raises ValueError when a column is
    missing."""
    if not path.is_file():
        return None
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a comma-separated table in UTF-8 ({error}); prepare the pool again") from error
    for name in required:
        if name not in (reader.fieldnames or ()):
            raise ValueError(f"{path} has no column '{name}'; prepare the pool again")
    return rows


def _duplicate_facts(rows: Sequence[Mapping[str, str]], ids: pa.ChunkedArray, table: pa.Table) -> dict[str, Any]:
    """Return how many films are duplicates of another, and how many groups of them span splits, patients or sources.

    ids: `film_id` of the films of `table`.
    """
    places = pc.index_in(pa.array([row["film_id"] for row in rows], pa.string()), ids).to_pylist()
    there = [place for place in places if place is not None]
    groups = [row["group"] for row, place in zip(rows, places, strict=True) if place is not None]
    over = {}
    for name in ("split", "patient", "source"):
        pairs = set(zip(groups, table[name].take(pa.array(there, pa.int64())).to_pylist(), strict=True))
        over[f"across_{name}s"] = sum(count > 1 for count in Counter(group for group, _ in pairs).values())
    kinds = dict(sorted(Counter(row["kind"] for row in rows).items()))
    return {
        "groups": len({row["group"] for row in rows}),
        "films": len({row["film_id"] for row in rows}),
        "kinds": kinds,
        **over,
    }


def _pool_intensity(pool: Pool, rows: NDArray[np.int64]) -> dict[str, Any]:
    sample = rows[evenly(len(rows), min(POOL_SAMPLE, max(1, _SAMPLE_PIXELS // pool.resolution**2)))]
    return intensity_facts([film_levels(pool.read([row])[0]) for row in sample], len(rows))
