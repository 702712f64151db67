"""The pool: one folder of harmonised films that training and scores read, and nothing of where they came from but hashed ids.

The format is the contract in docs/formats.md. A pool is written once, whole or not at all, and never changed.
"""

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from thiscxr.data.ids import patient_split, private_id
from thiscxr.data.labels import FINDINGS, SEXES, STATES, VIEWS, FilmRecord, Terms
from thiscxr.data.pixels import Pixels
from thiscxr.files import atomic_folder, sha256_file

FORMAT_VERSION = 1
MAX_SHARD_BYTES = 512 * 2**20
SPLITS = ("train", "holdout")
RESOLUTIONS = (32, 64, 128, 256, 512, 1024)

_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("film_id", "patient", "study", "source", "view", "sex")]
    + [("age_years", pa.float64()), ("split", pa.string())]
    + [(name, pa.int8()) for name in FINDINGS]
    + [("native_width", pa.int32()), ("native_height", pa.int32()), ("native_bits", pa.int32())]
    + [("equalised", pa.bool_()), ("inverted", pa.bool_()), ("sha256", pa.string()), ("shard", pa.int32()), ("row", pa.int32())]
)


_CONTENT = ("sha256", "source", "view", "sex", "age_years", "split")


def film_digest(content: Sequence[str | float | None], states: Sequence[int]) -> str:
    """Return the hash of what one film adds to the fingerprint: its pixels and labels, no id.

    content: SHA-256 of the pixels, source, view, sex, age in years or None, split; states: of FINDINGS, in that order.
    """
    return hashlib.sha256(json.dumps([*content, list(states)]).encode()).hexdigest()


def content_fingerprint(resolution: int, bits: int, digests: Iterable[str]) -> str:
    """Return the SHA-256 over size, depth and the sorted digests of all films: the same for every key, order and machine."""
    return hashlib.sha256("\n".join([f"{resolution} {bits}", *sorted(digests)]).encode()).hexdigest()


class PoolWriter(AbstractContextManager["PoolWriter"]):
    """Writes a pool film by film; the folder appears when the block ends well, and not at all otherwise.

    options: what was asked of `prepare` (views, aspect, ...), kept in pool.json.
    Raises ValueError when `path` exists and is not an empty folder, or no film was added.
    """

    def __init__(
        self, path: Path, resolution: int, bits: int, sources: Mapping[str, Terms], key: bytes, options: Mapping[str, Any] | None = None
    ) -> None:
        assert resolution in RESOLUTIONS, resolution
        assert bits in (8, 16), bits
        self.path, self.resolution, self.bits, self.sources, self.options = Path(path), resolution, bits, dict(sources), dict(options or {})
        self.fingerprint = ""
        self.num_films = 0
        self._key = key
        self._dtype = np.dtype("u1" if bits == 8 else "<u2")
        self._shard_films = max(1, MAX_SHARD_BYTES // (resolution * resolution * self._dtype.itemsize))
        self._columns: dict[str, list[Any]] = {name: [] for name in _SCHEMA.names}
        self._rejected: list[tuple[str, str]] = []
        self._folder = atomic_folder(self.path)
        self._part: Path
        self._shard: BinaryIO | None = None

    def __enter__(self) -> "PoolWriter":
        self._part = self._folder.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        try:
            if kind is None:
                self._finish()
        except BaseException as own:
            self._drop_shard()
            self._folder.__exit__(type(own), own, own.__traceback__)
            raise
        self._drop_shard()
        return self._folder.__exit__(kind, error, trace)

    def add(
        self,
        source: str,
        film: FilmRecord,
        pixels: Pixels,
        native: tuple[int, int, int],
        *,
        equalised: bool = False,
        inverted: bool = False,
    ) -> str:
        """Append one film and return its hashed id. pixels: [resolution, resolution] of the pool's depth; native: width, height, bits."""
        assert source in self.sources, source
        assert pixels.shape == (self.resolution, self.resolution), pixels.shape
        assert pixels.dtype == self._dtype, pixels.dtype
        shard, row = divmod(self.num_films, self._shard_films)
        if row == 0:
            self._close_shard()
            self._shard = open(self._part / _shard_name(shard), "wb")  # noqa: SIM115 it stays open over many films
            self._write_header(self._shard_films)
        assert self._shard is not None
        data = np.ascontiguousarray(pixels, self._dtype).tobytes()
        self._shard.write(data)
        film_id = private_id(self._key, "film", source, film.film)
        values = (
            film_id,
            private_id(self._key, "patient", source, film.patient),
            private_id(self._key, "study", source, film.study),
            source,
            film.view,
            film.sex,
            None if film.age_years is None else float(film.age_years),
            film.split or patient_split(source, film.patient),
            *film.states(),
            *native,
            equalised,
            inverted,
            hashlib.sha256(data).hexdigest(),
            shard,
            row,
        )
        for column, value in zip(self._columns.values(), values, strict=True):
            column.append(value)
        self.num_films += 1
        return film_id

    def reject(self, source: str, film: FilmRecord, reason: str) -> str:
        """Note a refused film and return its hashed id. The reason must not hold a path: the pool may be shared."""
        film_id = private_id(self._key, "film", source, film.film)
        self._rejected.append((film_id, reason))
        return film_id

    def finish(self) -> str:
        """Write everything but the shards' last bytes, and return the fingerprint; called by the end of the block if not before."""
        self._finish()
        return self.fingerprint

    def _write_header(self, num_films: int) -> None:
        assert self._shard is not None
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (num_films, self.resolution, self.resolution)}
        np.lib.format.write_array_header_1_0(self._shard, header)

    def _close_shard(self) -> None:
        if self._shard is None:
            return
        size = self._shard.tell()
        num_films = size // (self.resolution * self.resolution * self._dtype.itemsize)  # the header is smaller than any film
        self._shard.seek(0)
        self._write_header(num_films)  # numpy leaves room for any count, so the header keeps its length
        assert size - self._shard.tell() == num_films * self.resolution * self.resolution * self._dtype.itemsize
        self._shard.close()
        self._shard = None

    def _drop_shard(self) -> None:
        if self._shard is not None:
            with suppress(OSError):  # on a full disk closing flushes and fails again; the folder goes anyway
                self._shard.close()
            self._shard = None

    def _finish(self) -> None:
        if self.fingerprint:
            return
        if not self.num_films:
            raise ValueError(f"no film for the pool {self.path}")
        self._close_shard()
        table = pa.table(self._columns, schema=_SCHEMA)
        pq.write_table(table, self._part / "films.parquet", compression="zstd")
        with open(self._part / "rejected.csv", "w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("film_id", "reason"))
            rows.writerows(self._rejected)
        self.fingerprint = content_fingerprint(self.resolution, self.bits, table_digests(table))
        names = sorted(path.name for path in self._part.iterdir())
        columns = self._columns
        meta = {
            "format_version": FORMAT_VERSION,
            "resolution": self.resolution,
            "bits": self.bits,
            "counts": {
                "films": self.num_films,
                "patients": len(set(columns["patient"])),
                "studies": len(set(columns["study"])),
                **{split: columns["split"].count(split) for split in SPLITS},
                "rejected": len(self._rejected),
            },
            "fingerprint": self.fingerprint,
            "sources": {key: {"films": columns["source"].count(key), **asdict(terms)} for key, terms in sorted(self.sources.items())},
            "options": self.options,
            "files": {name: sha256_file(self._part / name) for name in names},
        }
        (self._part / "pool.json").write_text(json.dumps(meta, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _shard_name(shard: int) -> str:
    return f"pixels-{shard:05d}.npy"


def table_digests(table: pa.Table) -> list[str]:
    """Return the digest of every row of a films table."""
    states = np.stack([table.column(name).to_numpy() for name in FINDINGS], axis=1).tolist()
    contents = zip(*(table.column(name).to_pylist() for name in _CONTENT), strict=True)
    return [film_digest(content, found) for content, found in zip(contents, states, strict=True)]


class Pool:
    """A pool on disk: opens in milliseconds, reads columns and films on demand. Picklable: a copy opens the same folder."""

    def __init__(self, path: Path, meta: dict[str, Any], shards: list[NDArray[Any]]) -> None:
        self.path, self.meta, self._shards = path, meta, shards
        self.resolution: int = meta["resolution"]
        self.bits: int = meta["bits"]
        self.fingerprint: str = meta["fingerprint"]
        self.num_films: int = meta["counts"]["films"]
        self._columns: dict[str, NDArray[Any]] = {}

    @classmethod
    def open(cls, path: Path) -> "Pool":
        """Open the pool in the folder `path`. Raises ValueError when it is not a whole pool of this format version."""
        path = Path(path)
        meta = _read_meta(path)
        try:
            num_rows = pq.read_metadata(path / "films.parquet").num_rows
            if num_rows != meta["counts"]["films"]:
                raise ValueError(f"{path}: films.parquet has {num_rows} rows, pool.json says {meta['counts']['films']}; prepare it again")
            shards = [_open_shard(path, name, meta) for name in sorted(meta["files"]) if name.startswith("pixels-")]
            if sum(map(len, shards)) != num_rows:
                raise ValueError(f"{path}: the shards hold {sum(map(len, shards))} films, pool.json says {num_rows}; prepare it again")
            return cls(path, meta, shards)
        except FileNotFoundError as error:
            raise ValueError(f"{path / 'films.parquet'} is missing; copy the pool again or prepare it again") from error
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path / "films.parquet", error) from error
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path / 'pool.json'} lacks what a pool needs ({error}); prepare it again") from error

    def __reduce__(self) -> tuple[Any, ...]:
        return Pool.open, (self.path,)  # pickling a memory map would copy all its films

    def __len__(self) -> int:
        return self.num_films

    def column(self, name: str) -> NDArray[Any]:
        """Return one column over all films: findings int8, age_years float64 (nan: unknown), strings as an object array."""
        if name not in self._columns:
            assert name in _SCHEMA.names, name
            try:
                array = pq.read_table(self.path / "films.parquet", columns=[name]).column(name).to_numpy()
            except (pa.ArrowException, OSError, KeyError) as error:
                raise _damaged(self.path / "films.parquet", error) from error
            array.flags.writeable = False  # shared by all who ask
            self._columns[name] = array
        return self._columns[name]

    @cached_property
    def findings(self) -> NDArray[np.int8]:
        """All states, int8 [n,21] in the order of FINDINGS."""
        return np.stack([self.column(name) for name in FINDINGS], axis=1).astype(np.int8)

    def indices(self, split: str = "all") -> NDArray[np.int64]:
        """Return the rows of "train", "holdout" or "all", ascending."""
        if split == "all":
            return np.arange(self.num_films)
        if split not in SPLITS:
            raise ValueError(f"split '{split}' is not one of train, holdout, all")
        return np.flatnonzero(self.column("split") == split)

    def read(self, indices: Any) -> Pixels:
        """Return the films at `indices` (any order, repeats allowed) as uint8 or uint16 [k, resolution, resolution]."""
        indices = np.asarray(indices)
        assert indices.size == 0 or indices.dtype.kind in "ui", f"indices of type {indices.dtype}; a mask goes through np.flatnonzero"
        if indices.size and not (indices.min() >= 0 and indices.max() < self.num_films):
            raise IndexError(f"films {indices.min()} to {indices.max()} of a pool of {self.num_films}")
        indices = indices.astype(np.int64)
        shard_films = len(self._shards[0])  # all shards but the last are full
        pixels = np.empty((len(indices), self.resolution, self.resolution), self._shards[0].dtype)
        shards, rows = np.divmod(indices, shard_films)
        for shard in np.unique(shards):
            here = shards == shard
            pixels[here] = self._shards[shard][rows[here]]
        return pixels


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
        advice = "upgrade thiscxr" if isinstance(version, int) and version > FORMAT_VERSION else "prepare it again"
        raise ValueError(f"{path} is a pool of format {version}, this version reads {FORMAT_VERSION}; {advice}")
    return meta


def _open_shard(path: Path, name: str, meta: Mapping[str, Any]) -> NDArray[Any]:
    expected = f"films of {meta['resolution']}x{meta['resolution']}, {meta['bits']} bits"
    try:
        shard = np.load(path / name, mmap_mode="r")
    except FileNotFoundError as error:
        raise ValueError(f"{path / name} is missing; copy the pool again or prepare it again") from error
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path / name} is cut off or damaged; copy the pool again or prepare it again") from error
    if shard.shape[1:] != (meta["resolution"],) * 2 or shard.dtype.itemsize * 8 != meta["bits"]:
        raise ValueError(f"{path / name} holds {shard.dtype} of shape {shard.shape}, expected {expected}; prepare it again")
    return shard


def verify_pool(path: Path) -> list[str]:
    """Check every hash and invariant of a pool and return what is wrong, one line each; an empty list means a sound pool.

    Raises ValueError when the folder cannot be opened as a pool at all.
    """
    pool = Pool.open(path)
    problems = [
        f"{name}: {'is missing' if not (pool.path / name).is_file() else 'its SHA-256 is not the one in pool.json'}"
        for name, sha256 in pool.meta["files"].items()
        if not (pool.path / name).is_file() or sha256_file(pool.path / name) != sha256
    ]
    if any(problem.startswith("films.parquet:") for problem in problems):
        return problems  # what is not as it was written is not worth parsing
    table = pq.read_table(pool.path / "films.parquet")
    if table.schema.names != _SCHEMA.names:
        return [*problems, f"films.parquet: columns are {', '.join(table.schema.names)}"]
    rows = table.to_pydict()
    shard_films = len(pool._shards[0])
    if [shard * shard_films + row for shard, row in zip(rows["shard"], rows["row"], strict=True)] != list(range(len(pool))):
        problems.append("films.parquet: shard and row do not count up through the shards")
    for index, sha256 in enumerate(rows["sha256"]):
        film = pool._shards[index // shard_films][index % shard_films]
        if hashlib.sha256(film.tobytes()).hexdigest() != sha256:
            problems.append(f"film {rows['film_id'][index]} (row {index}): its pixels do not have the SHA-256 in films.parquet")
    for name, allowed in {**dict.fromkeys(FINDINGS, tuple(STATES)), "view": VIEWS, "sex": SEXES, "split": SPLITS}.items():
        strange = set(rows[name]) - set(allowed)
        if strange:
            problems.append(f"films.parquet: {name} holds {', '.join(map(repr, sorted(strange, key=str)))}, expected {allowed}")
    if len(set(rows["film_id"])) != len(pool):
        problems.append("films.parquet: two films have one film_id")
    splits = set(zip(rows["source"], rows["patient"], rows["split"], strict=True))
    both = len(splits) - len({(source, patient) for source, patient, _ in splits})
    if both:
        problems.append(f"films.parquet: {both} patients are in both splits")
    if set(rows["source"]) - set(pool.meta["sources"]):
        problems.append("pool.json: a source of films.parquet has no terms")
    if content_fingerprint(pool.resolution, pool.bits, table_digests(table)) != pool.fingerprint:
        problems.append("pool.json: the fingerprint is not that of the films")
    return problems
