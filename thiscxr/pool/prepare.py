"""From collections as released to one pool: read labels, choose films, decode, square, write, look for duplicates.

No film is lost silently: each film that is not in the pool is counted, with a reason, in the summary and in
rejected.csv.
"""

import hashlib
import json
import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from thiscxr.collections import COLLECTIONS, FRONTAL_VIEWS
from thiscxr.collections.archives import MAX_FILE_BYTES, ReleaseFile
from thiscxr.collections.ids import default_key_file, load_key, write_private_map
from thiscxr.collections.plan import LABELS, Wanted, wanted_films
from thiscxr.config import check_res
from thiscxr.files import check_place, free_folder, nearest_name
from thiscxr.labels import FilmRecord, with_derived
from thiscxr.parallel import open_workers
from thiscxr.pixels import LoadedFilm, Pixels, load_film, short_side, to_bits, to_square
from thiscxr.pool import Pool, duplicate_groups, orientation
from thiscxr.pool.duplicates import DESCRIPTOR_SIZE, descriptor, find_duplicates
from thiscxr.pool.sentinel import Sight, look
from thiscxr.pool.writer import PoolWriter

ASPECTS = ("released", "restore")
# raise it when the same file gives other pixels, so that a half-made pool of the old pixels is not resumed
_PLAN_VERSION = 2


@dataclass(frozen=True, slots=True)
class PrepareSummary:
    """What `prepare` did. `dropped`: rows not requested or without a file; `rejected`: films with a file that were
    refused."""

    path: Path
    key_file: Path
    fingerprint: str
    num_kept: int
    num_rejected: int
    kept: dict[str, int]  # by source
    resolutions: dict[int, int]  # films of the pool by resolution, the largest first
    dropped: dict[str, int]  # by reason
    rejected: dict[str, int]  # by reason
    num_duplicates: int  # films that show the same exposure as another one; they are kept, all in one split
    beside: dict[str, int]  # by kind; other files beside the films
    # films of the pool by correction: turned, mirrored, inverted, by their tags or by the sentinel
    put_right: dict[str, int]

    def __str__(self) -> str:
        """The summary for a terminal, one line a fact."""
        kept = ", ".join(f"{key} {count}" for key, count in self.kept.items())
        resolutions = ", ".join(f"{count} films of {res} px" for res, count in self.resolutions.items())
        lines = [f"{self.path}: {self.num_kept} films ({kept})"]
        lines += [f"  resolutions: {resolutions}"] if len(self.resolutions) > 1 else []
        lines += [f"  not taken: {count} ({reason})" for reason, count in self.dropped.items()]
        lines += [f"  refused:   {count} ({reason})" for reason, count in self.rejected.items()]
        lines += [f"  put right: {count} ({what})" for what, count in self.put_right.items()]
        lines += [f"  beside:    {count} ({what})" for what, count in self.beside.items()]
        lines += [f"  duplicates: {self.num_duplicates} films, listed in duplicates.csv"] if self.num_duplicates else []
        return "\n".join([*lines, f"  fingerprint {self.fingerprint[:16]}"])


# What a worker needs to decode a film (it is sent to another process, so no more than that): the file (bytes: a member
# of a compressed tar; None: one that is absurdly large), its true aspect, and whether it is a frontal film.
_Task = tuple[ReleaseFile | bytes | None, float | None, bool]


@dataclass(frozen=True, slots=True)
class FramedFilm:
    """A film as it is in a pool."""

    pixels: Pixels
    native: tuple[int, int, int]  # width, height and bits of the file, upright
    greys: str  # how they were made, one of GREYS
    orientation: str  # how it was put upright, one of ORIENTATIONS
    inverted: bool
    marked: str  # `LoadedFilm.marked`


@dataclass(frozen=True, slots=True)
class _Decoded:
    film: FramedFilm | None
    descriptor: NDArray[np.int8] | None = None
    reason: str = ""  # why it was refused, or ""


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
    scheduler: str = "",
    allow_synthetic: bool = False,
    labels: str = LABELS[0],
    smallest: int | None = None,
) -> PrepareSummary:
    """Write the pool `pool_path` from `sources`, (collection key, folder) pairs; a collection may come in several
    folders.

    views None: each collection's default. aspect "restore" undoes the squash of collections that released squares of
    oblong films. derive: fill findings that a collection does not annotate from their children and parents. scheduler:
    address of a Dask cluster. labels: "reports" takes findings from the reports of collections that have them, not from
    their label tables. smallest: films whose short side is below `res` are kept at the largest power of two that they
    fill, down to this one; None: refused. allow_synthetic: take films that are marked as synthetic; grids and other
    pictures by thiscxr are never taken. The same call resumes an interrupted one; the pool is the same for any number
    of workers. Raises ValueError, one line each, when an input is not as expected, no
    film is left, or more than the share `max_rejected` of the films that have a file is refused. No pool is left behind
    then.
    """
    pool_path, sources = Path(pool_path), [(key, Path(root)) for key, root in sources]
    smallest = res if smallest is None else smallest
    _check_options(res, smallest, aspect, max_rejected)
    free_folder(pool_path)
    key_file = Path(key_file) if key_file is not None else default_key_file()
    if pool_path.resolve() in key_file.resolve().parents:
        raise ValueError(
            f"--key-file {key_file} lies in the pool {pool_path}, which may be shared; keep the key elsewhere"
        )
    check_place(key_file.with_name(f"{key_file.name}.map"))  # the private map is written at the end
    plan = wanted_films(sources, views, labels=labels)  # a film in two sizes is taken at the larger
    for part in plan:
        part.released.clear()  # a million rows are worth freeing
    if not any(part.films for part in plan):
        raise ValueError(f"no film left for {pool_path}: {_not_taken(plan)}")
    _warn_of_mixed_aspects(plan, aspect)
    key = load_key(key_file)
    terms = {part.collection.key: part.collection.terms for part in plan if part.films}
    options: dict[str, Any] = {"views": list(views) if views else "default", "aspect": aspect, "derive": derive}
    options |= {"allow_synthetic": allow_synthetic, "labels": labels}
    options |= {"smallest": smallest} if smallest < res else {}
    digest = _digest(plan, key, res, smallest, bits, aspect, allow_synthetic, labels)
    num_films = sum(len(part.films) for part in plan)
    with (
        PoolWriter(pool_path, res, bits, terms, key, options, digest, DESCRIPTOR_SIZE) as writer,
        open_workers(num_films, workers, scheduler) as hands,
    ):
        if writer.num_done:
            logging.getLogger(__name__).info("resuming after %d finished films", writer.num_done)
        with tqdm(desc="prepare", total=num_films, initial=writer.num_done, unit="film", delay=1) as bar:
            decode = partial(_decode, res=res, bits=bits, allow_synthetic=allow_synthetic, smallest=smallest)
            for film, decoded in _decode_all(plan, writer, partial(hands.map, decode), aspect == "restore", derive):
                if (framed := decoded.film) is None:
                    writer.reject(film.source, film.record, decoded.reason)
                else:
                    equalised = film.file.name.lower().endswith(COLLECTIONS[film.source].equalised or ("\0",))
                    writer.add(
                        film.source, film.record, framed.pixels, framed.native,
                        greys=framed.greys, orientation=framed.orientation, inverted=framed.inverted,
                        equalised=equalised, descriptor=decoded.descriptor,
                    )  # fmt: skip
                bar.update()
        kept, rejected = _outcomes(writer, plan, max_rejected)
        pairs = find_duplicates(writer.descriptors(), writer.hashes(), writer.read, partial(hands.map, chunk=1))
        fingerprint = writer.finish(pairs)
        files = {part.collection.key: part.files for part in plan}
        places = (
            (film_id, source, film.film, str(files[source][film.film]), reason)
            for film_id, source, film, reason in writer.outcomes()
        )
        write_private_map(key_file, fingerprint, places)
    pool = Pool.open(pool_path)
    dropped = dict(sorted(sum((part.dropped for part in plan), Counter[str]()).items()))
    beside = dict(sorted(sum((part.beside for part in plan), Counter[str]()).items()))
    return PrepareSummary(
        pool_path, key_file, fingerprint, kept.total(), rejected.total(), dict(kept), pool.resolutions,
        dropped, dict(rejected.most_common()), len(duplicate_groups(pool_path)), beside, _put_right(pool),
    )  # fmt: skip


def _check_options(res: int, smallest: int, aspect: str, max_rejected: float) -> None:
    check_res(res)
    check_res(smallest, "--smallest")
    if smallest > res:
        raise ValueError(
            f"--smallest {smallest} is above --res {res}: it is the resolution of "
            f"the smallest films; give {res} or less"
        )
    if aspect not in ASPECTS:
        raise ValueError(f"--aspect {aspect}{nearest_name(aspect, ASPECTS)} is not one of {', '.join(ASPECTS)}")
    if not 0 <= max_rejected <= 1:
        raise ValueError(f"--max-rejected {max_rejected} is not a share from 0 to 1")


def _outcomes(writer: PoolWriter, plan: Sequence[Wanted], max_rejected: float) -> tuple[Counter[str], Counter[str]]:
    """Count the kept films by source and the refused ones by reason; raises ValueError where too few are kept."""
    kept: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    for _, source, _, reason in writer.outcomes():
        (rejected if reason else kept)[reason or source] += 1
    if not kept:
        why = f"all {writer.num_done} were refused, {_reasons(rejected)}" if writer.num_done else _not_taken(plan)
        raise ValueError(f"no film left for {writer.path}: {why}")
    if rejected.total() > max_rejected * writer.num_done:
        raise ValueError(
            f"{rejected.total()} of {writer.num_done} films were refused "
            f"({rejected.total() / writer.num_done:.0%}), more than "
            f"--max-rejected {max_rejected:g}: {_reasons(rejected)}; look at the films, or allow more"
        )
    if not writer.num_of(writer.resolution):
        raise ValueError(
            f"no film for {writer.path} has a short side of --res {writer.resolution} px; prepare it "
            f"at a smaller one, such as {writer.resolution // 2}"
        )
    return kept, rejected


def _put_right(pool: Pool) -> dict[str, int]:
    done = Counter(pool.column("orientation").tolist())
    done["as stored"] = 0
    done["inverted"] = int(pool.column("inverted").sum())
    return dict(sorted((+done).items()))


@dataclass(frozen=True, slots=True)
class _Film:
    source: str
    record: FilmRecord
    file: ReleaseFile


def _decode_all(
    plan: Sequence[Wanted], writer: PoolWriter, decode: Callable[..., Iterator[_Decoded]], restore: bool, derive: bool
) -> Iterator[tuple[_Film, _Decoded]]:
    """Yield the unfinished films: first those outside compressed tars, in the order of the plan, then the others as
    streamed."""
    under_way: deque[_Film] = deque()

    def task(source: str, film: FilmRecord, file: ReleaseFile, data: ReleaseFile | bytes | None) -> _Task:
        under_way.append(_Film(source, film, file))
        return data, film.original_aspect if restore else None, film.view in FRONTAL_VIEWS

    def labelled(film: FilmRecord) -> FilmRecord:
        return with_derived(film) if derive else film

    def open_tasks() -> Iterator[_Task]:
        for part in plan:
            source = part.collection.key
            for film, file in (
                (labelled(film), part.files[name]) for name, film in part.films.items() if name in part.files
            ):
                if not writer.knows(source, film):
                    yield task(source, film, file, file)

    def streamed_tasks(part: Wanted) -> Iterator[_Task]:
        source = part.collection.key
        for film, data in part.streamed(lambda film: writer.knows(source, labelled(film))):
            yield task(source, labelled(film), part.files[film.film], data)

    for decoded in decode(open_tasks()):
        yield under_way.popleft(), decoded
    for part in plan:
        for decoded in decode(streamed_tasks(part), chunk=1):  # each carries its bytes
            yield under_way.popleft(), decoded


def check_marks(marked: str, allow_synthetic: bool) -> None:
    """Raise ValueError for a film that is marked as synthetic, unless such films are allowed, and for pictures by
    thiscxr that are no single film."""
    if marked == "picture":
        raise ValueError("a grid, a projection or another picture by thiscxr, no single film")
    if marked and not allow_synthetic:
        raise ValueError("marked as synthetic (--allow-synthetic takes it)")


def righted(film: LoadedFilm, frontal: bool) -> tuple[Sight, str, bool]:
    """Return what the sentinel finds wrong with a film, the orientation of the stored film, and whether it is inverted.

    Both the file's tags and the sentinel count. Raises ValueError for a film that looks wrong where it is not clear
    what is wrong.
    """
    sight = look(film.pixels, frontal)
    if not sight.sure:
        raise ValueError("looks inverted or turned, but it is not clear how")
    return sight, orientation(film.mirrored, (film.turned - sight.turned) % 360), film.inverted != sight.inverted


def frame_film(
    data: ReleaseFile | Path | bytes,
    res: int,
    bits: int = 8,
    aspect: float | None = None,
    frontal: bool = True,
    allow_synthetic: bool = True,
    smallest: int | None = None,
) -> FramedFilm:
    """Read one film and frame it as `prepare` does: square [res, res], reduced, put right where it is surely inverted
    or turned.

    smallest: a film whose short side is below `res` gets the largest power of two that it fills, not below this, as its
    resolution.

    aspect: true width / height of a film that its release squashed; frontal: known to be a frontal film. Raises
    ValueError with the reason for a film that `prepare` would refuse.
    """
    film = load_film(data.read() if isinstance(data, ReleaseFile) else data, min_side=res)
    check_marks(film.marked, allow_synthetic)
    if aspect is not None:  # of the film within its border
        aspect *= film.pixels.shape[1] / film.native_width * film.native_height / film.pixels.shape[0]
    # at the film's own resolution, so that the answer is the same for every pool
    sight, turned, inverted = righted(film, frontal)
    aspect = aspect or film.aspect
    while smallest is not None and res > smallest and short_side(film.pixels, aspect) < res:
        res //= 2
    pixels = np.rot90(to_bits(to_square(film.pixels, res, aspect), bits), sight.turned // 90)
    if pixels.min() == pixels.max():
        raise ValueError("constant image once cropped and reduced")
    if sight.inverted:  # against the file's tags, or without any
        pixels = np.iinfo(pixels.dtype).max - pixels
    width, height = film.native_width, film.native_height
    if sight.turned % 180:
        width, height = height, width
    return FramedFilm(pixels, (width, height, film.native_bits), film.greys, turned, inverted, film.marked)


def _decode(task: _Task, **options: Any) -> _Decoded:
    file, aspect, frontal = task
    try:
        if file is None:
            raise ValueError(f"absurd file of more than {MAX_FILE_BYTES // 2**20} MiB")
        film = frame_film(file, aspect=aspect, frontal=frontal, **options)
    except ValueError as error:
        return _Decoded(None, reason=str(error))
    return _Decoded(film, descriptor(film.pixels))


def _not_taken(plan: Sequence[Wanted]) -> str:
    return _reasons(sum((part.dropped + part.beside for part in plan), Counter[str]()))


def _digest(plan: Sequence[Wanted], key: bytes, *options: int | str) -> str:
    """Return the hash of this job: only the same job resumes an interrupted one."""
    digest = hashlib.sha256(json.dumps([_PLAN_VERSION, *options]).encode() + key)
    for part in plan:
        for name in part.films:
            digest.update(os.fsencode(f"{part.collection.key}\0{name}\0{part.files.get(name)}\n"))
        digest.update(os.fsencode("\0".join(str(path) for path, _ in part.tars)))
    return digest.hexdigest()


def _warn_of_mixed_aspects(plan: Sequence[Wanted], aspect: str) -> None:
    squashed = [part.collection.key for part in plan if part.films and part.collection.squashed]
    if aspect == "released" and squashed and len(squashed) < sum(bool(part.films) for part in plan):
        logging.getLogger(__name__).warning(
            "%s released squares of oblong films, the others did not: the width of a chest will "
            "reveal its source; consider --aspect restore",
            ", ".join(squashed),
        )


def _reasons(counts: Mapping[str, int]) -> str:
    """Return the three commonest reasons in one line."""
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = f" and {len(common) - 3} more reasons" if len(common) > 3 else ""
    return ", ".join(f"{count} x {reason}" for reason, count in common[:3]) + more if common else "nothing was listed"
