"""Which films of the collections are wanted, and where they are: labels are read here, films are not.

No film is lost silently: films that are not taken are counted, with a reason.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thiscxr.collections import COLLECTIONS, Collection, find_files
from thiscxr.collections.archives import ReleaseFile, compressed_tars, stream, with_archive
from thiscxr.collections.beside import kind
from thiscxr.collections.collection import COPY
from thiscxr.collections.rsna import MAP as RSNA_MAP
from thiscxr.files import nearest_name
from thiscxr.labels import VIEWS, FilmRecord
from thiscxr.pixels import num_pixels

_HEAD_BYTES = 2**16  # of a picture: everything before the pixels
MISSING, TWICE = "file missing", "listed twice"
# where the findings of a collection come from: its label tables, or the reports of its films
LABELS = ("released", "reports")
_UNREAD = "compressed tar, not looked into: every film lies open"


@dataclass(slots=True)
class Wanted:
    """The films wanted of one collection."""

    collection: Collection
    released: list[FilmRecord] = field(default_factory=list)  # every row of its tables
    films: dict[str, FilmRecord] = field(default_factory=dict)  # by id, in the order of ids
    # by id, of the films outside compressed tars
    files: dict[str, ReleaseFile] = field(default_factory=dict)
    # compressed, with the prefix of the names in it; they may hold other films
    tars: list[tuple[Path, str]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)  # rows that are not taken
    beside: Counter[str] = field(default_factory=Counter)  # files without a row
    listed: set[str] = field(default_factory=set)  # the keys of every row

    def key(self, film: FilmRecord) -> str:
        """Return the key that a film is found by; with several folders, paths inside one are not unique."""
        return film.film if self.collection.by_path else film.file

    def streamed(self, done: Callable[[FilmRecord], bool]) -> Iterator[tuple[FilmRecord, bytes | None]]:
        """Yield (film, bytes; None: absurdly many) in the order of the tars, each read once; skips `done` films.

        Adds each film that it finds to `files`; films that are nowhere are counted as dropped and removed from `films`.
        """
        requested = {self.key(film) for film in self.films.values()}
        missing = {self.key(film): film for film in self.films.values() if film.film not in self.files}
        self.beside[_UNREAD] += 0 if missing else len(self.tars)
        for tar, folder in self.tars if missing else ():
            taken: list[FilmRecord] = []

            def wanted(name: str, tar: Path = tar, folder: str = folder, taken: list[FilmRecord] = taken) -> bool:
                member = ReleaseFile(str(tar), name)
                path = folder + member.name
                keys = [self.collection.key_of(path), self.collection.key_of(with_archive(path, member))]
                film = next((missing[key] for key in keys if key in missing), None)
                if film is None:
                    if keys[0] not in self.listed:
                        self.beside[kind(name, self.collection.suffixes)] += 1
                    self.beside[COPY] += keys[0] in requested
                    return False
                self.files[film.film] = member
                if done(film):
                    del missing[self.key(film)]
                    return False
                taken.append(film)
                return True

            for _, data in stream(tar, wanted, passed=self.beside):
                film = taken.pop()
                del missing[self.key(film)]
                yield film, data
        self.dropped[MISSING] += len(missing)
        for film in missing.values():
            del self.films[film.film]


def check_sources(sources: Sequence[tuple[str, Path]]) -> None:
    """Raise ValueError for an unknown collection, a missing folder or an empty one."""
    if not sources:
        raise ValueError(f"no collection given; name at least one: {', '.join(f'--{key} DIR' for key in COLLECTIONS)}")
    for key, root in sources:
        if key not in COLLECTIONS:
            raise ValueError(
                f"unknown collection '{key}'{nearest_name(key, COLLECTIONS)}; known: {', '.join(COLLECTIONS)}"
            )
        if not root.is_dir():
            raise ValueError(
                f"--{key} {root} "
                f"{'is not a folder' if root.exists() else 'does not exist'}; give the collection's folder"
            )
        if not any(root.iterdir()):
            raise ValueError(
                f"--{key} {root} is empty; give the folder that holds the collection's label table and images"
            )


def check_views(views: Sequence[str] | None) -> None:
    """Raise ValueError for a view that is not in the vocabulary."""
    for view in views or ():
        if view not in VIEWS:
            raise ValueError(f"--views {view}{nearest_name(view, VIEWS)} is not one of {', '.join(VIEWS)}")


def check_labels(sources: Sequence[tuple[str, Path]], labels: str) -> None:
    """Raise ValueError where labels from reports are requested of a collection that has none."""
    if labels not in LABELS:
        raise ValueError(f"--labels {labels}{nearest_name(labels, LABELS)} is not one of {', '.join(LABELS)}")
    for key, _ in sources:
        if labels == "reports" and not (COLLECTIONS[key].reports or COLLECTIONS[key].by_path):
            those = ", ".join(f"--{name}" for name, collection in COLLECTIONS.items() if collection.reports)
            raise ValueError(
                f"--labels reports: --{key} is released without reports; it is for "
                f"{those}, and --folder always reads its own"
            )


def wanted_films(
    sources: Sequence[tuple[str, Path]],
    views: Sequence[str] | None = None,
    labels_only: bool = False,
    labels: str = LABELS[0],
) -> list[Wanted]:
    """Return the wanted films of each collection of (key, folder) pairs, in the order of COLLECTIONS.

    views None: each collection's default. labels_only: film files are not searched. A film that is listed twice, or is
    in two folders, is taken once; one in a compressed tar is found when the tar is streamed. labels: one of
    LABELS, where the findings come from.
    """
    check_sources(sources)
    check_views(views)
    check_labels(sources, labels)
    plan = [
        _wanted(collection, roots, tuple(views or collection.default_views), labels_only, labels == "reports")
        for key, collection in COLLECTIONS.items()
        if (roots := [root for source, root in sources if source == key])
    ]
    there = {part.collection.key: part for part in plan}
    if {"nih", "rsna"} <= there.keys() and any(film.split_as is None for film in there["rsna"].films.values()):
        raise ValueError(
            f"--rsna films are NIH films under other names, and {RSNA_MAP}, the map between them, "
            "is missing (or does not name them all); "
            "put it beside RSNA's tables, or pool only one of the two: a patient must not be in both splits"
        )
    return plan


def _wanted(
    collection: Collection, roots: Sequence[Path], views: Sequence[str], labels_only: bool, by_reports: bool
) -> Wanted:
    wanted = Wanted(collection)
    chosen: dict[str, FilmRecord] = {}
    names = folder_names(roots) if collection.by_path else {}
    places: set[tuple[str, str]] = set()  # of films, where one folder may be inside another
    for root in sorted(roots, key=Path.resolve) if names else roots:
        name = names.get(root.resolve())
        options = {"reports": True} if by_reports and collection.reports else {}
        released = collection.read_labels(root, **options) if name is None else collection.read_labels(root, name)
        wanted.released += released
        here: dict[str, FilmRecord] = {}
        for film in released:
            if film.refused:
                wanted.dropped[film.refused] += 1
            elif film.view not in views:
                wanted.dropped[f"view {film.view}"] += 1
            elif film.film in here:
                wanted.dropped[TWICE] += 1
            else:
                here[film.film] = film
        files = {}
        if not labels_only:
            files = find_files(
                collection, root, {film.file for film in here.values()}, {film.file for film in released}, wanted.beside
            )
            tars = [(path, ("" if name is None else f"{name}/") + folder) for folder, path in compressed_tars(root)]
            wanted.tars += [tar for tar in tars if tar not in wanted.tars]
            wanted.listed |= {wanted.key(film) for film in released} if tars else set()
        for film_id, film in here.items():
            file = files.get(film.file)
            place = (os.path.realpath(file.path), file.member) if file is not None and len(names) > 1 else None
            if film_id in chosen or place in places:
                wanted.dropped[TWICE] += 1
            if place is not None:
                if place in places:
                    continue
                places.add(place)
            chosen.setdefault(film_id, film)
            if file is not None and (film_id not in wanted.files or _size(file) > _size(wanted.files[film_id])):
                wanted.files[film_id] = file
    # By id, so that the order of a pool does not depend on the order of a table.
    wanted.films = {name: chosen[name] for name in sorted(chosen)}
    if not labels_only and not wanted.tars:
        wanted.dropped[MISSING] += len(wanted.films) - len(wanted.files)
        wanted.films = {name: film for name, film in wanted.films.items() if name in wanted.files}
    wanted.dropped, wanted.beside = +wanted.dropped, +wanted.beside
    return wanted


def _size(file: ReleaseFile) -> tuple[int, int]:
    """Return the size of a film: its pixels, where its first bytes hold them, and its bytes."""
    try:
        return num_pixels(file.head(_HEAD_BYTES)), file.num_bytes
    except ValueError:  # the decoder reports why
        return 0, 0


def folder_names(roots: Sequence[Path]) -> dict[Path, str]:
    """Return the prefix of ids for each (resolved) folder: its name, and as much of its path as distinguishes it from
    the others.

    The rest of the path does not matter, so that two people who pool one folder hold out the same films.
    """
    folders = {root.resolve() for root in roots}
    names = {}
    for folder in folders:
        others = [other for other in folders if other != folder and other.name == folder.name]
        most = len(folder.parts)
        length = next(
            n for n in range(1, most + 1) if n == most or all(other.parts[-n:] != folder.parts[-n:] for other in others)
        )
        names[folder] = "/".join(folder.parts[-length:])
    return names
