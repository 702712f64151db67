"""The pool: one folder of harmonised films that training and scores read; their origin is kept as hashed ids alone.

The format is the contract in docs/formats.md. A pool is written once, whole or not at all, and never changed.
"""

import csv
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from thiscxr.files import sha256_file
from thiscxr.labels import FINDINGS, SEXES, STATES, VIEWS
from thiscxr.pixels import Pixels, area_means
from thiscxr.pool.shards import shard_name

FORMAT_VERSION = 3
SPLITS = ("train", "holdout")
# How the greys were made: by the file's window, VOI LUT or sigmoid (PS3.3 C.11.2), not at all, or by percentiles.
GREYS = ("window", "lut", "sigmoid", "as stored", "percentiles")
_VERIFY_ROWS = 16_384
log = logging.getLogger(__name__)

SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("film_id", "patient", "study", "source", "view", "sex")]
    + [("age_years", pa.float64()), ("split", pa.string())]
    + [(name, pa.int8()) for name in FINDINGS]
    + [("labeler", pa.string())]
    + [(name, pa.int32()) for name in ("native_width", "native_height", "native_bits", "resolution")]
    + [("greys", pa.string()), ("orientation", pa.string()), ("inverted", pa.bool_()), ("equalised", pa.bool_())]
    + [("sha256", pa.string()), ("shard", pa.int32()), ("row", pa.int32())]
)


def orientation(mirrored: bool, degrees: int) -> str:
    """Return how the stored film was put upright: mirrored, then turned clockwise by 0, 90, 180 or 270°."""
    return ", ".join([*["mirrored"] * mirrored, *[f"turned {degrees}"] * (degrees > 0)]) or "as stored"


ORIENTATIONS = tuple(orientation(mirrored, degrees) for mirrored in (False, True) for degrees in (0, 90, 180, 270))
_CONTENT = ("sha256", "source", "view", "sex", "age_years", "split")


def film_digest(content: Sequence[str | float | None], states: Sequence[int]) -> str:
    """Return the hash that one film adds to the fingerprint: of its pixels and labels, no id.

    content: SHA-256 of the pixels, source, view, sex, age in years or None, split; states: of FINDINGS, in that order.
    """
    return hashlib.sha256(json.dumps([*content, list(states)]).encode()).hexdigest()


def content_fingerprint(resolution: int, bits: int, digests: Iterable[str]) -> str:
    """Return the SHA-256 over size, depth and sorted digests of all films: the same for every key, order, machine."""
    return hashlib.sha256("\n".join([f"{resolution} {bits}", *sorted(digests)]).encode()).hexdigest()


def table_digests(table: pa.Table) -> list[str]:
    """Return the digest of every row of a films table."""
    states = np.stack([table.column(name).to_numpy() for name in FINDINGS], axis=1).tolist()
    contents = zip(*(table.column(name).to_pylist() for name in _CONTENT), strict=True)
    return [film_digest(content, found) for content, found in zip(contents, states, strict=True)]


class Pool:
    """A pool on disk: opens in milliseconds, reads columns and films on demand. A pickled copy opens the same folder.

    Films may have several resolutions; `at_resolution` gives a view of one.
    """

    def __init__(self, path: Path, meta: dict[str, Any], shards: list[NDArray[Any]]) -> None:
        self.path, self.meta, self._shards = path, meta, shards
        self.resolution: int = meta["resolution"]
        self.bits: int = meta["bits"]
        self.fingerprint: str = meta["fingerprint"]
        self.num_films: int = meta["counts"]["films"]
        self._columns: dict[str, NDArray[Any]] = {}
        self._codes: dict[str, tuple[NDArray[np.int32], pa.StringArray]] = {}
        self._checked = np.zeros(self.num_films, np.bool_)
        self._rows: NDArray[np.int64] | None = None  # of the folder that are in this view; None: all, unreduced

    @classmethod
    def open(cls, path: Path) -> "Pool":
        """Open the pool in the folder `path`. Raises ValueError when it is not a whole pool of this format version."""
        path = Path(path)
        meta = _read_meta(path)
        try:
            num_rows, said = pq.read_metadata(path / "films.parquet").num_rows, meta["counts"]["films"]
            if num_rows != said:
                raise ValueError(f"{path}: films.parquet has {num_rows} rows, pool.json says {said}; prepare it again")
            shards = [_open_shard(path, name, meta) for name in sorted(meta["files"]) if name.startswith("pixels-")]
            if (held := sum(map(len, shards))) != said:
                raise ValueError(f"{path}: the shards hold {held} films, pool.json says {said}; prepare it again")
            pool = cls(path, meta, shards)
            pool._check_shards()
            return pool
        except FileNotFoundError as error:
            raise ValueError(f"{path / 'films.parquet'} is missing; copy the pool again or prepare it again") from error
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path / "films.parquet", error) from error
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path / 'pool.json'} lacks what a pool needs ({error}); prepare it again") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self._rows, self.resolution)  # pickling a memory map would copy all its films

    def at_resolution(self, res: int) -> "Pool":
        """Return a view of the films of at least `res` px, reduced by area means to the smallest resolution of them.

        For a pool of one resolution, or without such films, the pool itself. Rows count within the view.
        """
        own = self.column("resolution")
        rows = np.flatnonzero(own >= res)
        if not len(rows) or (len(rows) == len(own) and own.min() == self.resolution):
            return self
        resolution = int(own[rows].min())
        log.info("%s: takes %d of %d films, at %d px", self.path, len(rows), len(own), resolution)
        return self._view(rows if self._rows is None else self._rows[rows], resolution)

    def _view(self, rows: NDArray[np.int64] | None, resolution: int) -> "Pool":
        view = Pool(self.path, self.meta, self._shards)
        view._checked = self._checked
        if rows is not None:
            view._rows, view.num_films, view.resolution = rows, len(rows), resolution
        return view

    def __len__(self) -> int:
        return self.num_films

    @property
    def resolutions(self) -> dict[int, int]:
        """Number of films by resolution, the largest first."""
        resolutions, counts = np.unique(self.column("resolution"), return_counts=True)
        return dict(zip(resolutions[::-1].tolist(), counts[::-1].tolist(), strict=True))

    def _check_shards(self) -> None:
        """Raise ValueError unless films.parquet lists as many films as each shard holds, of its resolution."""
        lengths, resolutions = (np.array([shard.shape[axis] for shard in self._shards]) for axis in (0, 1))
        shards = self.column("shard")
        there = (shards >= 0) & (shards < len(resolutions))
        right = shards[there][resolutions[shards[there]] == self.column("resolution")[there]]
        found = np.bincount(right, minlength=len(resolutions))
        for number in np.flatnonzero(found != lengths)[:1]:
            what = f"holds {lengths[number]} films of {resolutions[number]} px, films.parquet lists {found[number]}"
            raise ValueError(f"{self.path / shard_name(number)} {what}; copy the pool again or prepare it again")

    def column(self, name: str) -> NDArray[Any]:
        """Return one column over all films: findings int8, age_years float64 (nan: unknown), strings as objects."""
        if name not in self._columns:
            if pa.types.is_string(SCHEMA.field(name).type):
                codes, values = self.codes(name)
                array = np.array([*values.to_pylist(), ""], object)[codes]  # films share the strings
            else:
                array = self._mine(self._read_column(name).to_numpy())
            array.flags.writeable = False  # shared by all callers
            self._columns[name] = array
        return self._columns[name]

    def codes(self, name: str) -> tuple[NDArray[np.int32], pa.StringArray]:
        """Return a column of strings as numbers, int32 [n], into its different values, by first appearance."""
        if name not in self._codes:
            coded = self._read_column(name, dictionary=True).combine_chunks()
            self._codes[name] = self._mine(coded.indices.to_numpy()), coded.dictionary
        return self._codes[name]

    def _mine(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the folder's values for the films of this view."""
        return values if self._rows is None else values[self._rows]

    def _read_column(self, name: str, dictionary: bool = False) -> pa.ChunkedArray:
        try:
            table = pq.ParquetFile(self.path / "films.parquet", read_dictionary=[name] if dictionary else None)
            column = table.read([name], use_threads=False).unify_dictionaries().column(name)
            pa.default_memory_pool().release_unused()  # what decompression took
            return column
        except (pa.ArrowException, OSError, KeyError) as error:
            raise _damaged(self.path / "films.parquet", error) from error

    @cached_property
    def findings(self) -> NDArray[np.int8]:
        """All states, int8 [n,21] in the order of FINDINGS."""
        states = np.empty((self.num_films, len(FINDINGS)), np.int8)
        for place, name in enumerate(FINDINGS):
            states[:, place] = self._mine(self._read_column(name).to_numpy())
        return states

    def indices(self, split: str = "all") -> NDArray[np.int64]:
        """Return the rows of "train", "holdout" or "all", ascending."""
        if split == "all":
            return np.arange(self.num_films)
        if split not in SPLITS:
            raise ValueError(f"split '{split}' is not one of train, holdout, all")
        codes, values = self.codes("split")
        return np.flatnonzero(codes == values.index(split).as_py())

    def read(self, indices: Any) -> Pixels:
        """Return the films at `indices` (any order, repeats allowed) as uint8 or uint16 [k, res, res].

        They must have one resolution, unless this is a view by `at_resolution`, which brings them to its own.

        Raises ValueError when they have several, or a film that is touched for the first time does not have the SHA-256
        it was stored with.
        """
        indices = np.asarray(indices)
        assert indices.size == 0 or indices.dtype.kind in "ui", (
            f"indices of type {indices.dtype}; a mask goes through np.flatnonzero"
        )
        if indices.size and not (indices.min() >= 0 and indices.max() < self.num_films):
            raise IndexError(f"films {indices.min()} to {indices.max()} of a pool of {self.num_films}")
        indices = indices.astype(np.int64)
        shards, rows = self.column("shard")[indices], self.column("row")[indices]
        different = np.unique(shards)
        resolutions = {self._shards[shard].shape[1] for shard in different} or {self.resolution}
        if self._rows is not None:
            resolutions = {self.resolution}
        if len(resolutions) > 1:
            raise ValueError(
                f"{self.path}: films of {', '.join(map(str, sorted(resolutions)))} px do not "
                "fit one array; take a view: at_resolution"
            )
        res = resolutions.pop()
        pixels = np.empty((len(indices), res, res), self._shards[0].dtype)
        in_folder = indices if self._rows is None else self._rows[indices]
        for shard in different:
            here = np.flatnonzero(shards == shard)
            films = self._shards[shard][rows[here]]
            fresh = ~self._checked[in_folder[here]]
            for film, place in zip(films[fresh], here[fresh], strict=True):
                # S32 drops zero bytes at the end, so the expected hash must drop them too
                if hashlib.sha256(film.data).digest().rstrip(b"\0") != self.pixel_hashes[indices[place]]:
                    what = f"the film in row {in_folder[place]} is damaged"
                    raise ValueError(f"{self.path}: {what}; copy the pool again, and try: thiscxr verify")
            pixels[here] = area_means(films, res)
        self._checked[in_folder] = True
        return pixels

    @cached_property
    def pixel_hashes(self) -> NDArray[np.bytes_]:
        """SHA-256 of every film's pixels, S32 [n], without zero bytes at the end: strings would take much more."""
        try:
            batches = pq.ParquetFile(self.path / "films.parquet").iter_batches(columns=["sha256"])
            raw = b"".join(bytes.fromhex("".join(batch.column(0).to_pylist())) for batch in batches)
            return self._mine(np.frombuffer(raw, "S32", count=self.meta["counts"]["films"]))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _damaged(self.path / "films.parquet", error) from error


def _reopen(path: Path, rows: NDArray[np.int64] | None, resolution: int) -> Pool:
    return Pool.open(path)._view(rows, resolution)


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is damaged ({' '.join(str(error).split())}); copy the pool again or prepare it again")


def _read_meta(path: Path) -> dict[str, Any]:
    if not (path / "pool.json").is_file():
        what = "does not exist" if not path.exists() else "is not a pool (no pool.json in it)"
        raise ValueError(f"{path} {what}; make one with: thiscxr prepare {path} --nih DIR --res 64")
    try:
        meta = json.loads((path / "pool.json").read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _damaged(path / "pool.json", error) from error
    version = meta.get("format_version") if isinstance(meta, dict) else None
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        advice = "upgrade thiscxr" if newer else f"move it away and make it again with: {_command(path, meta)}"
        raise ValueError(f"{path} is a pool of format {version}, this version reads {FORMAT_VERSION}; {advice}")
    return meta


def _command(path: Path, meta: Any) -> str:
    """Return the command that makes a pool of any format again, as far as its pool.json records it."""
    said = meta if isinstance(meta, dict) else {}
    sources, options, counts = (
        part if isinstance(part := said.get(name), dict) else {} for name in ("sources", "options", "counts")
    )
    res = f"--res {said.get('resolution', 64)}"
    if options.get("layout") == "phantom":
        return f"thiscxr phantom {path} -n {counts.get('films', 2000)} {res}"
    words = ["thiscxr prepare", str(path), *(f"--{key} DIR" for key in sources or ("nih",)), res]
    if isinstance(options.get("views"), list):
        words.append(f"--views {','.join(map(str, options['views']))}")
    if options.get("aspect") == "restore":
        words.append("--aspect restore")
    if options.get("smallest"):
        words.append(f"--smallest {options['smallest']}")
    words += ["--" + name.replace("_", "-") for name in ("derive", "allow_synthetic") if options.get(name)]
    words += ["--labels reports"] if options.get("labels") == "reports" else []
    return " ".join(words)


def _open_shard(path: Path, name: str, meta: Mapping[str, Any]) -> NDArray[Any]:
    expected = f"square films of at most {meta['resolution']} px, {meta['bits']} bits"
    try:
        shard = np.load(path / name, mmap_mode="r")
    except FileNotFoundError as error:
        raise ValueError(f"{path / name} is missing; copy the pool again or prepare it again") from error
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path / name} is cut off or damaged; copy the pool again or prepare it again") from error
    res = shard.shape[-1] if shard.ndim == 3 else 0
    if shard.shape[1:] != (res, res) or not 0 < res <= meta["resolution"] or shard.dtype.itemsize * 8 != meta["bits"]:
        raise ValueError(
            f"{path / name} holds {shard.dtype} of shape {shard.shape}, expected {expected}; prepare it again"
        )
    return shard


def verify_pool(path: Path) -> list[str]:
    """Check every hash and invariant of a pool and return what is wrong, one line each; nothing for a sound pool.

    Raises ValueError when the folder cannot be opened as a pool at all.
    """
    pool = Pool.open(path)
    problems = [
        f"{name}: {'is missing' if not (pool.path / name).is_file() else 'its SHA-256 is not the one in pool.json'}"
        for name, sha256 in pool.meta["files"].items()
        if not (pool.path / name).is_file() or sha256_file(pool.path / name) != sha256
    ]
    if any(problem.startswith("films.parquet:") for problem in problems):
        return problems  # a changed table is not worth parsing
    table = pq.ParquetFile(pool.path / "films.parquet")
    if table.schema_arrow.names != SCHEMA.names:
        return [*problems, f"films.parquet: columns are {', '.join(table.schema_arrow.names)}"]
    allowed = {
        **dict.fromkeys(FINDINGS, tuple(STATES)),
        "view": VIEWS,
        "sex": SEXES,
        "split": SPLITS,
        "greys": GREYS,
        "orientation": ORIENTATIONS,
        "source": tuple(pool.meta["sources"]),
    }
    strange: dict[str, set[Any]] = {name: set() for name in allowed}
    digests: list[str] = []
    ids: set[str] = set()
    splits: dict[tuple[str, str], str] = {}
    torn: set[tuple[str, str]] = set()
    duplicates = duplicate_groups(pool.path)
    groups: dict[str, set[str]] = {}
    index = 0
    filled = Counter[int]()  # films so far, by shard
    for batch in tqdm(table.iter_batches(_VERIFY_ROWS), "verify", -(-len(pool) // _VERIFY_ROWS), unit="batch", delay=1):
        rows = batch.to_pydict()
        for film in range(len(batch)):
            shard, row = rows["shard"][film], rows["row"][film]
            if shard > len(filled) or row != filled[shard]:
                return [*problems, "films.parquet: shard and row do not count up through the shards"]
            filled[shard] += 1
            if hashlib.sha256(pool._shards[shard][row].tobytes()).hexdigest() != rows["sha256"][film]:
                problems.append(
                    f"film {rows['film_id'][film]} (row {index}): its pixels do not have the SHA-256 in films.parquet"
                )
            patient = (rows["source"][film], rows["patient"][film])
            if splits.setdefault(patient, rows["split"][film]) != rows["split"][film]:
                torn.add(patient)
            if (group := duplicates.get(rows["film_id"][film])) is not None:
                groups.setdefault(group, set()).add(rows["split"][film])
            index += 1
        ids.update(rows["film_id"])
        digests += table_digests(pa.Table.from_batches([batch]))
        for name, values in allowed.items():
            strange[name] |= set(rows[name]) - set(values)
    for name, found in strange.items():
        if found:
            problems.append(
                f"films.parquet: {name} holds {', '.join(map(repr, sorted(found, key=str)))}, expected {allowed[name]}"
            )
    if len(ids) != len(pool):
        problems.append("films.parquet: two films have one film_id")
    if torn:
        problems.append(f"films.parquet: {len(torn)} patients are in both splits")
    if across := sum(len(found) > 1 for found in groups.values()):
        problems.append(f"duplicates.csv: {across} groups of duplicates are in both splits")
    if content_fingerprint(pool.resolution, pool.bits, digests) != pool.fingerprint:
        problems.append("pool.json: the fingerprint is not that of the films")
    return problems


def duplicate_groups(path: Path) -> dict[str, str]:
    """Return film id -> group, empty when duplicates were not searched."""
    table = path / "duplicates.csv"
    if not table.is_file():
        return {}
    with open(table, encoding="utf-8", newline="") as file:
        return {row["film_id"]: row["group"] for row in csv.DictReader(file)}
