"""Which films of the collections are wanted, and where they lie: labels are read here, films are not.

It must not lose a film silently: whatever is not taken is counted, with a reason.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thiscxr.data.archives import ReleaseFile, compressed_tars, stream
from thiscxr.data.labels import VIEWS, FilmRecord
from thiscxr.data.sources import COLLECTIONS, Collection, find_files
from thiscxr.data.sources.rsna import MAP as RSNA_MAP
from thiscxr.files import nearest_name

MISSING = "file missing"


@dataclass(slots=True)
class Wanted:
    """What is wanted of one collection."""

    collection: Collection
    released: list[FilmRecord] = field(default_factory=list)  # every row of its tables
    films: dict[str, FilmRecord] = field(default_factory=dict)  # by id, in the order of ids
    files: dict[str, ReleaseFile] = field(default_factory=dict)  # by id, of the films that do not lie in a compressed tar
    tars: list[Path] = field(default_factory=list)  # compressed; where the others may be
    dropped: Counter[str] = field(default_factory=Counter)

    def streamed(self, done: Callable[[FilmRecord], bool]) -> Iterator[tuple[FilmRecord, bytes | None]]:
        """Yield (film, bytes; None: absurdly many) in the order of the tars, each read once; those that are `done` are passed over.

        Sets `files` of all that it meets, and counts as dropped, and takes out of `films`, what is nowhere.
        """
        missing = {film.file: film for film in self.films.values() if film.film not in self.files}
        for tar in self.tars if missing else []:

            def wanted(name: str, tar: Path = tar) -> bool:
                film = missing.get(self.collection.image_key(name)) if name.lower().endswith(self.collection.suffixes) else None
                if film is None:
                    return False
                self.files[film.film] = ReleaseFile(str(tar), name)
                if done(film):
                    del missing[film.file]
                return film.file in missing

            for name, data in stream(tar, wanted):
                yield missing.pop(self.collection.image_key(name)), data
        self.dropped[MISSING] += len(missing)
        for film in missing.values():
            del self.films[film.film]


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


def check_views(views: Sequence[str] | None) -> None:
    """Raise ValueError for a view that is not in the vocabulary."""
    for view in views or ():
        if view not in VIEWS:
            raise ValueError(f"--views {view}{nearest_name(view, VIEWS)} is not one of {', '.join(VIEWS)}")


def wanted_films(sources: Sequence[tuple[str, Path]], views: Sequence[str] | None = None, labels_only: bool = False) -> list[Wanted]:
    """Return what is wanted of each collection of (key, folder) pairs, in the order of COLLECTIONS.

    views None: each collection's default. labels_only: films are not looked for. A film that is listed twice, or lies in two folders, is
    taken once; one that lies in a compressed tar is found when the tar is streamed.
    """
    check_sources(sources)
    check_views(views)
    plan = [
        _wanted(collection, roots, tuple(views or collection.default_views), labels_only)
        for key, collection in COLLECTIONS.items()
        if (roots := [root for source, root in sources if source == key])
    ]
    there = {part.collection.key: part for part in plan}
    if {"nih", "rsna"} <= there.keys() and any(film.split_as is None for film in there["rsna"].films.values()):
        raise ValueError(
            f"--rsna films are NIH films under other names, and {RSNA_MAP}, which says which, is not there (or does not name them all); "
            "put it beside RSNA's tables, or pool only one of the two: a patient must not be on both sides of the split"
        )
    return plan


def _wanted(collection: Collection, roots: Sequence[Path], views: Sequence[str], labels_only: bool) -> Wanted:
    wanted = Wanted(collection)
    chosen: dict[str, FilmRecord] = {}
    for root in roots:
        released = collection.read_labels(root)
        wanted.released += released
        here: dict[str, FilmRecord] = {}
        for film in released:
            if film.refused:
                wanted.dropped[film.refused] += 1
            elif film.view not in views:
                wanted.dropped[f"view {film.view}"] += 1
            elif film.film in here:
                wanted.dropped["listed twice"] += 1
            else:
                here[film.film] = film
        files = {} if labels_only else find_files(collection, root, {film.file: film for film in here.values()})
        wanted.dropped["listed twice"] += len(here.keys() & chosen.keys())
        for name, film in here.items():
            chosen.setdefault(name, film)
            if film.file in files:
                wanted.files.setdefault(name, files[film.file])
        if not labels_only:
            wanted.tars += compressed_tars(root)
    # By id, so that the order of a pool does not hang on the order of a table.
    wanted.films = {name: chosen[name] for name in sorted(chosen)}
    if not labels_only and not wanted.tars:
        wanted.dropped[MISSING] += len(wanted.films) - len(wanted.files)
        wanted.films = {name: film for name, film in wanted.films.items() if name in wanted.files}
    wanted.dropped = +wanted.dropped
    return wanted
