"""From collections as released to one pool: read labels, choose films, decode, square, write.

It must not lose a film silently: whatever is not in the pool is counted, with a reason, in the summary and in rejected.csv.
"""

import csv
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from thiscxr.data import labels
from thiscxr.data.ids import default_key_file, load_key
from thiscxr.data.labels import VIEWS, FilmRecord
from thiscxr.data.parallel import ordered_map
from thiscxr.data.pixels import Pixels, load_film, to_bits, to_square
from thiscxr.data.pool import RESOLUTIONS, PoolWriter
from thiscxr.data.sources import COLLECTIONS, Collection
from thiscxr.files import atomic_path, nearest_name

ASPECTS = ("released", "restore")


@dataclass(frozen=True, slots=True)
class PrepareSummary:
    """What `prepare` did. `dropped`: rows not asked for or without a file; `rejected`: films with a file that were refused."""

    path: Path
    key_file: Path
    fingerprint: str
    num_kept: int
    num_rejected: int
    kept: dict[str, int]  # by source
    dropped: dict[str, int]  # by reason
    rejected: dict[str, int]  # by reason

    def __str__(self) -> str:
        """The summary for a terminal, one line a fact."""
        lines = [f"{self.path}: {self.num_kept} films ({', '.join(f'{key} {count}' for key, count in self.kept.items())})"]
        lines += [f"  not taken: {count} ({reason})" for reason, count in self.dropped.items()]
        lines += [f"  refused:   {count} ({reason})" for reason, count in self.rejected.items()]
        return "\n".join([*lines, f"  fingerprint {self.fingerprint[:16]}"])


@dataclass(frozen=True, slots=True)
class _Film:
    source: str
    record: FilmRecord
    path: Path


@dataclass(frozen=True, slots=True)
class _Task:
    """What a worker needs of a film: it is sent to another process, so no more than that."""

    path: Path
    res: int
    bits: int
    aspect: float | None


@dataclass(frozen=True, slots=True)
class _Decoded:
    pixels: Pixels | None
    native: tuple[int, int, int] = (0, 0, 0)
    inverted: bool = False
    reason: str = ""  # why it was refused, or ""


def check_sources(sources: Sequence[tuple[str, Path]]) -> None:
    """Raise ValueError for an unknown collection, a missing folder or an empty one."""
    if not sources:
        raise ValueError(f"no collection given; name at least one: {', '.join(f'--{key} DIR' for key in COLLECTIONS)}")
    for key, root in sources:
        if key not in COLLECTIONS:
            raise ValueError(f"unknown collection '{key}'{nearest_name(key, COLLECTIONS)}; known: {', '.join(COLLECTIONS)}")
        if not root.is_dir():
            raise ValueError(f"--{key} {root} {'is not a folder' if root.exists() else 'does not exist'}; give the collection's folder")
        if not any(root.iterdir()):
            raise ValueError(f"--{key} {root} is empty; give the folder that holds the collection's label table and images")


def check_res(res: int) -> None:
    """Raise ValueError when `res` is not a power of two from 32 to 1024."""
    if res not in RESOLUTIONS:
        nearest = min(RESOLUTIONS, key=lambda allowed: abs(allowed - res))
        raise ValueError(f"--res {res} is not a power of two from {RESOLUTIONS[0]} to {RESOLUTIONS[-1]}; the nearest is {nearest}")


def check_views(views: Sequence[str] | None) -> None:
    """Raise ValueError for a view that is not in the vocabulary."""
    for view in views or ():
        if view not in VIEWS:
            raise ValueError(f"--views {view}{nearest_name(view, VIEWS)} is not one of {', '.join(VIEWS)}")


def select_films(
    collection: Collection, films: Iterable[FilmRecord], files: Mapping[str, Path] | None, views: Sequence[str] | None
) -> tuple[list[FilmRecord], dict[str, int]]:
    """Return the films to take and how many rows were dropped for each reason; files None: labels only, files are not asked for."""
    wanted = tuple(views or collection.default_views)
    kept: dict[str, FilmRecord] = {}
    dropped: Counter[str] = Counter()
    for film in films:
        if film.refused:
            dropped[film.refused] += 1
        elif film.view not in wanted:
            dropped[f"view {film.view}"] += 1
        elif files is not None and film.file not in files:
            dropped["file missing"] += 1
        elif film.film in kept:
            dropped["listed twice"] += 1
        else:
            kept[film.film] = film
    # By id, so that the order of a pool does not hang on the order of a table.
    return [kept[name] for name in sorted(kept)], dict(sorted(dropped.items()))


def prepare(
    pool_path: Path,
    sources: Sequence[tuple[str, Path]],
    res: int,
    views: Sequence[str] | None = None,
    aspect: str = "released",
    derive: bool = False,
    max_rejected: float = 0.1,
    key_file: Path | None = None,
    workers: int | None = None,
    bits: int = 8,
) -> PrepareSummary:
    """Write the pool `pool_path` from `sources`, (collection key, folder) pairs; a collection may come in several folders.

    views None: each collection's default. aspect "restore" undoes the squash of collections that released squares of oblong films.
    derive: fill findings that a collection does not annotate from their children and parents.
    Raises ValueError, one line each, when an input is not as expected, no film is left, or more than the share `max_rejected` of the
    films that have a file is refused. No pool is left behind then.
    """
    pool_path, sources = Path(pool_path), [(key, Path(root)) for key, root in sources]
    check_res(res)
    check_views(views)
    if aspect not in ASPECTS:
        raise ValueError(f"--aspect {aspect}{nearest_name(aspect, ASPECTS)} is not one of {', '.join(ASPECTS)}")
    if not 0 <= max_rejected <= 1:
        raise ValueError(f"--max-rejected {max_rejected} is not a share from 0 to 1")
    if pool_path.exists() and (not pool_path.is_dir() or any(pool_path.iterdir())):
        raise ValueError(f"{pool_path} already exists and is not an empty folder; choose another path or remove it first")
    check_sources(sources)
    films, dropped = _films(sources, views, derive)
    if not films:
        raise ValueError(f"no film left for {pool_path}: {_reasons(dropped)}")
    squashed = {film.record.original_aspect is not None for film in films}
    if aspect == "released" and len(squashed) == 2:
        logging.getLogger(__name__).warning(
            "films that their release squashed to squares are pooled with films of true aspect; --aspect restore undoes the squash"
        )
    key_file = Path(key_file) if key_file is not None else default_key_file()
    if pool_path.resolve() in key_file.resolve().parents:
        raise ValueError(f"--key-file {key_file} lies in the pool {pool_path}, which may be shared; keep the key elsewhere")
    key = load_key(key_file)
    terms = {name: COLLECTIONS[name].terms for name in dict.fromkeys(film.source for film in films)}
    options = {"views": list(views) if views else "default", "aspect": aspect, "derive": derive}
    kept: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    private: list[tuple[str, str, str, str, str]] = []
    tasks = [_Task(film.path, res, bits, film.record.original_aspect if aspect == "restore" else None) for film in films]
    with (
        PoolWriter(pool_path, res, bits, terms, key, options) as writer,
        closing(ordered_map(_decode, tasks, len(tasks), workers)) as results,
    ):
        for film, decoded in zip(films, tqdm(results, "prepare", len(tasks), unit="film", delay=1), strict=True):
            if decoded.pixels is None:
                film_id = writer.reject(film.source, film.record, decoded.reason)
                rejected[decoded.reason] += 1
            else:
                film_id = writer.add(film.source, film.record, decoded.pixels, decoded.native, inverted=decoded.inverted)
                kept[film.source] += 1
            private.append((film_id, film.source, film.record.film, str(film.path), decoded.reason))
        num_rejected = len(tasks) - writer.num_films
        if not writer.num_films:
            raise ValueError(f"no film left for {pool_path}: all {len(tasks)} were refused, {_reasons(rejected)}")
        if num_rejected > max_rejected * len(tasks):
            raise ValueError(
                f"{num_rejected} of {len(tasks)} films were refused ({num_rejected / len(tasks):.0%}), more than --max-rejected "
                f"{max_rejected:g}: {_reasons(rejected)}; look at the films, or allow more"
            )
        fingerprint = writer.finish()
        write_private_map(key_file, fingerprint, private)
    return PrepareSummary(
        pool_path, key_file, fingerprint, sum(kept.values()), num_rejected, dict(kept), dropped, dict(rejected.most_common())
    )


def _films(sources: Sequence[tuple[str, Path]], views: Sequence[str] | None, fill: bool) -> tuple[list[_Film], dict[str, int]]:
    """Return the films to read, ordered by collection (as in COLLECTIONS) and id, and the counts of rows dropped."""
    by_source: dict[str, dict[str, _Film]] = {}
    dropped: Counter[str] = Counter()
    for key, root in sorted(sources, key=lambda source: list(COLLECTIONS).index(source[0])):
        collection = COLLECTIONS[key]
        files = collection.find_files(root)
        records, missed = select_films(collection, collection.read_labels(root), files, views)
        dropped.update(missed)
        mine = by_source.setdefault(key, {})
        for record in records:
            if record.film in mine:
                dropped["listed twice"] += 1
                continue
            mine[record.film] = _Film(key, labels.with_derived(record) if fill else record, files[record.file])
    return [films[name] for films in by_source.values() for name in sorted(films)], dict(sorted(dropped.items()))


def _decode(task: _Task) -> _Decoded:
    try:
        film = load_film(task.path)
        pixels = to_bits(to_square(film.pixels, task.res, task.aspect), task.bits)
        if pixels.min() == pixels.max():
            raise ValueError("constant image once cropped and reduced")
    except ValueError as error:
        return _Decoded(None, reason=str(error))
    return _Decoded(pixels, (film.native_width, film.native_height, film.native_bits), film.inverted)


def _reasons(counts: Mapping[str, int]) -> str:
    """Return the three commonest reasons in one line."""
    common = sorted(counts.items(), key=lambda item: -item[1])
    more = f" and {len(common) - 3} more reasons" if len(common) > 3 else ""
    return ", ".join(f"{count} x {reason}" for reason, count in common[:3]) + more if common else "nothing was listed"


def write_private_map(key_file: Path, fingerprint: str, rows: Iterable[tuple[str, str, str, str, str]]) -> Path:
    """Write which film is which, readable by its owner alone, beside the key and never in the pool; return its path.

    rows: film id of the pool, source, the collection's own id, path, and why it was refused ("" if it was not).
    """
    path = key_file.with_name(f"{key_file.name}.map-{fingerprint[:12]}.csv")
    with atomic_path(path) as part, open(os.open(part, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("film_id", "source", "film", "path", "refused"))
        table.writerows(rows)
    return path
