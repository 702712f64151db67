"""The synthetic films to be scored: a folder, whoever made it, or samples of a network.

They are written once to a temporary file and memory-mapped, so that memory does not grow with their number.
"""

import csv
import hashlib
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from thiscxr.collections.archives import walk
from thiscxr.collections.beside import kind
from thiscxr.collections.collection import IMAGE_SUFFIXES
from thiscxr.files import read_json
from thiscxr.model.conditions import Condition, draw_conditions, joint_table
from thiscxr.pixels import fit, load_film, to_bits, to_square
from thiscxr.pool import Pool
from thiscxr.pool.covered import cover, rows_to_hide
from thiscxr.sample.latents import condition_uniforms
from thiscxr.sample.sampling import Network, load, sample_films
from thiscxr.sample.writing import requested_condition, spell_ranges
from thiscxr.train.conditions import read_conditions

_BATCH = 64
_AS_LONG_AS_IT_IS = 10**6  # px: longer than any film's short side, so that none is cropped or reduced when it is read
log = logging.getLogger("thiscxr")


@dataclass(frozen=True)
class FakeFilms:
    """Synthetic films and their requested conditions."""

    pixels: NDArray[np.uint8]  # [n, res, res], memory-mapped
    requested: list[Condition]  # empty where unknown
    names: list[str]  # of the files, or of the seeds
    truncation: float | None
    seeds: str  # as ranges
    network_sha256: str | None
    folder: Path | None  # that they came from
    network: dict[str, Any]  # metadata of the network's file, empty when unknown
    sampler: Network | None = None  # can generate more of them; None for films from files
    hidden: int = 0  # last rows to hide in the real films too: the place of a burned-in mark

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def conditional(self) -> bool:
        """Whether any condition is known for any film."""
        return any(condition != Condition() for condition in self.requested)


@contextmanager
def open_fakes(
    fake: str,
    res: int,
    count: int,
    truncation: float,
    device: str,
    check: Callable[[int], object] = bool,
    real: Pool | None = None,
) -> Iterator[FakeFilms]:
    """Yield the films of a folder, or `count` samples (seeds from 0) of the network that FILE, NAME or RUN means.

    check: called with the number of films before any is read or generated, to raise where they are too few. real: the
    pool that they are compared with. Where its films have several resolutions, conditions are drawn from those of its
    training films of `res` px alone: under those of all its films, other patients would be compared with these.

    Raises ValueError when a folder holds no films, films of several sizes, or films that cannot be read or show one
    grey only.
    """
    path = Path(fake)
    if (path / "pool.json").is_file():
        raise ValueError(f"--fake {fake} is a pool of real films; expected a folder of synthetic films, or a network")
    with tempfile.TemporaryDirectory(prefix="thiscxr-") as scratch:
        room = Path(scratch) / "films"
        if path.is_dir() and not (path / "network-latest.safetensors").is_file():
            yield _of_folder(path, res, room, check)
        else:
            check(count)
            yield _of_network(fake, res, count, truncation, device, room, real)


def _of_network(
    fake: str, res: int, count: int, truncation: float, device: str, room: Path, real: Pool | None
) -> FakeFilms:
    network = load(fake, device)
    if network.info.architecture.res != res:
        made = network.info.architecture.res
        raise ValueError(
            f"{fake} makes films of {made} px, but the pool has {res} px; score against a pool of its size"
        )
    seeds = list(range(count))
    requested = network.conditions(seeds, Condition())
    if real is not None and len(real.resolutions) > 1:
        compared = real.at_resolution(res)
        rows = compared.indices("train")
        known, patients = read_conditions(compared, rows), compared.codes("patient")[0][rows]
        table = joint_table(known, patients, network.info.vocabulary)
        requested = draw_conditions(table, condition_uniforms(seeds))
    pixels = store_films(sample_films(network, seeds, requested, truncation, _BATCH), count, res, room, "sample")
    names = [f"seed {seed}" for seed in seeds]
    return FakeFilms(
        pixels, requested, names, truncation, spell_ranges(seeds), network.sha256, None, network.info.to_json(), network
    )


def _of_folder(folder: Path, res: int, room: Path, check: Callable[[int], object]) -> FakeFilms:
    rows = read_rows(folder)
    check(len(rows))
    files = [folder / row["file"] for row in rows]
    sizes: dict[tuple[int, ...], str] = {}
    marks: list[int] = []  # rows a film

    ours = (folder / "network.json").is_file()

    def read() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(files), _BATCH):
            yield np.stack(
                [_read_film(path, res, sizes, marks, stretch=not ours) for path in files[start : start + _BATCH]]
            )

    pixels = store_films(read(), len(files), res, room, "read films")
    if hidden := max(marks):
        bear = f"{sum(map(bool, marks))} of {len(files)} films bear the mark SYNTHETIC"
        log.warning("%s: %s; the last %d of %d rows are hidden in both sets", folder, bear, hidden, res)
        for start in range(0, len(pixels), _BATCH):
            pixels[start : start + _BATCH] = cover(pixels[start : start + _BATCH], hidden)
    digests = {hashlib.sha256(film.tobytes()).digest() for film in pixels}
    if len(digests) < len(files):
        log.warning(
            "%s: %d of %d films are byte for byte the same as another one there",
            folder,
            len(files) - len(digests),
            len(files),
        )
    hashes, truncations = ({row.get(key, "") for row in rows} for key in ("network_sha256", "truncation"))
    one_hash = hashes.pop() if len(hashes) == 1 else ""
    one_truncation = truncations.pop() if len(truncations) == 1 else ""
    facts = read_json(folder / "network.json", "the facts of a network") if ours else {}
    return FakeFilms(
        pixels,
        [requested_condition(row) for row in rows],
        [row["file"] for row in rows],
        float(one_truncation) if one_truncation else None,
        spell_ranges([int(row["seed"]) for row in rows if row.get("seed", "").isdigit()]),
        one_hash or None,
        folder,
        facts,
        hidden=hidden,
    )


def read_rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of samples.csv, or one row {"file"} a film, in sub-folders too, where there is no table.

    Files that are not scored are reported. Raises ValueError for a folder without films, one of several sample folders,
    and a table that lists something else than files of its folder.
    """
    table = folder / "samples.csv"
    there = sorted(name for name, _ in walk(folder))
    films = [name for name in there if name.lower().endswith(IMAGE_SUFFIXES) and PurePosixPath(name).name != "grid.png"]
    if not table.is_file():
        inner = [name.removesuffix("/samples.csv") for name in there if name.endswith("/samples.csv")]
        if inner:
            raise ValueError(
                f"{folder} holds sample folders ({', '.join(inner[:3])}{' …' * (len(inner) > 3)}); score one at a time"
            )
        others = Counter(kind(name, IMAGE_SUFFIXES) for name in there if not name.lower().endswith(IMAGE_SUFFIXES))
        if not films:
            found = f"; there are {_counts(others)}" if others else ""
            raise ValueError(f"{folder} holds no films; expected {', '.join(IMAGE_SUFFIXES)} files{found}")
        if others:
            log.info("%s: not scored: %s", folder, _counts(others))
        return [{"file": name} for name in films]
    with open(table, newline="", encoding="utf-8") as file:
        rows = [{key: value or "" for key, value in row.items() if key} for row in csv.DictReader(file)]
    if not rows or "file" not in rows[0]:
        raise ValueError(
            f"{table} lists no films (expected a column 'file'); remove it to score every film in {folder}"
        )
    seen: set[str] = set()
    for name in (row["file"] for row in rows):
        if Path(name).name != name or not (folder / name).is_file():
            raise ValueError(f"{table} lists {name!r}, which is not a file in {folder}; sample again")
        if name in seen:
            raise ValueError(f"{table} lists {name!r} twice; each film counts once")
        seen.add(name)
    if unlisted := {*films} - seen:
        log.warning(
            "%s: %d films that samples.csv does not list are not scored, such as %s",
            folder,
            len(unlisted),
            min(unlisted),
        )
    return rows


def _counts(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} x {what}" for what, count in sorted(kinds.items()))


def store_films(films: Iterable[NDArray[np.uint8]], count: int, res: int, room: Path, what: str) -> NDArray[np.uint8]:
    """Write films to the file `room` as they come, and return them memory-mapped."""
    with open(room, "wb") as file, tqdm(total=count, unit="film", file=sys.stderr, desc=what, delay=1) as bar:
        for batch in films:
            file.write(np.ascontiguousarray(batch).tobytes())
            bar.update(len(batch))
    return np.memmap(room, np.uint8, "r+").reshape(count, res, res)


def _read_film(
    path: Path, res: int, sizes: dict[tuple[int, ...], str], marks: list[int], stretch: bool
) -> NDArray[np.uint8]:
    try:
        film = load_film(path, stretch, _AS_LONG_AS_IT_IS)
        sizes.setdefault((film.native_height, film.native_width), path.name)
        if len(sizes) > 1:
            (a, first), (b, _) = sizes.items()
            raise ValueError(
                f"it has {b[1]} × {b[0]} px where {first} has {a[1]} × {a[0]}; score films of one size at a time"
            )
        height, width = film.pixels.shape
        square = height == width >= res
        marks.append(rows_to_hide(film.pixels, res) if square else 0)
        # A square film keeps its borders, which its network generated: without them a near-duplicate would be shifted
        # against the real film.
        # one.
        pixels = fit(film.pixels, res) if square and height > res else to_square(film.pixels, res)
        return to_bits(pixels, 8).astype(np.uint8, copy=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; remove it or make it again") from None
