"""Writes a pool film by film: pixels at once, the table at the end, when it is known which patients belong together.

A pool appears whole or not at all. With a plan, the next call resumes an interrupted one: a journal lists the finished
films, and everything written after its last line is cut off.
"""

import csv
import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from thiscxr.collections.ids import private_id
from thiscxr.collections.splits import Splits
from thiscxr.config import RESOLUTIONS
from thiscxr.files import atomic_folder, resumable_folder, sha256_file, write_file
from thiscxr.labels import FilmRecord, Terms
from thiscxr.pixels import Pixels
from thiscxr.pool import FORMAT_VERSION, GREYS, ORIENTATIONS, SCHEMA, SPLITS, content_fingerprint, table_digests
from thiscxr.pool.duplicates import Pair, groups
from thiscxr.pool.shards import ShardWriter

_SCRATCH = ("journal", "descriptors")  # what a resume needs beside the pixels
_SYNC_SECONDS = 2.0  # of work that a kill -9 may lose
_GROUP_ROWS = 65_536  # of films.parquet are in memory at a time


@dataclass(slots=True)
class _Done:
    """The outcome of one film: a line of the journal, and the record, once the plan reaches it. There may be
    millions of these."""

    reason: str  # why it was refused, or ""
    native: tuple[int, int, int] = (0, 0, 0)  # width, height, bits
    resolution: int = 0
    greys: str = ""
    orientation: str = ""
    inverted: bool = False
    equalised: bool = False
    sha256: bytes = b""
    source: str = ""
    film: FilmRecord | None = None


class PoolWriter(AbstractContextManager["PoolWriter"]):
    """Writes the pool `path`; the folder appears when the block ends well.

    options: the options of `prepare` (views, aspect, ...), kept in pool.json. plan: a hash of all that decides what is
    written; a call with the same plan resumes an interrupted one. Empty: nothing is kept of an interrupted call.
    descriptor_bytes: of a film. Raises ValueError when `path` exists and is not an empty folder,
    another process writes it, or no film was added.
    """

    def __init__(
        self,
        path: Path,
        resolution: int,
        bits: int,
        sources: Mapping[str, Terms],
        key: bytes,
        options: Mapping[str, Any] | None = None,
        plan: str = "",
        descriptor_bytes: int = 0,
    ) -> None:
        assert resolution in RESOLUTIONS, resolution
        assert bits in (8, 16), bits
        self.path, self.resolution, self.bits = Path(path), resolution, bits
        self.sources, self.options = dict(sources), dict(options or {})
        self.fingerprint = ""
        self._key, self._plan, self._descriptor_bytes = key, plan, descriptor_bytes
        self._dtype = np.dtype("u1" if bits == 8 else "<u2")
        self._done: dict[str, _Done] = {}  # by film id, in the order of the pool
        self._part: Path
        self._shards: ShardWriter
        self._journal: BinaryIO | None = None
        self._descriptors: BinaryIO | None = None
        self._pending: list[tuple[str, _Done]] = []  # not in the journal yet
        self._synced = 0.0

    def __enter__(self) -> "PoolWriter":
        self._session = self._open()
        self._session.__enter__()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._session.__exit__(*error)

    @contextmanager
    def _open(self) -> Iterator[None]:
        with (resumable_folder if self._plan else atomic_folder)(self.path) as self._part:
            self._shards = ShardWriter(self._part, self._dtype)
            try:
                if self._plan:
                    self._resume()
                try:
                    yield
                except BaseException:
                    if self._plan:
                        with suppress(OSError):  # a full disk, most likely: the next call resumes from the last sync
                            self._sync()
                    raise
                self.finish()
            finally:
                self._close()
        for name in _SCRATCH:  # not before the pool is in its place: a kill in between would lose all the work
            (self.path / name).unlink(missing_ok=True)

    @property
    def num_done(self) -> int:
        """Number of films added or rejected, by an interrupted call too."""
        return len(self._done)

    @property
    def num_films(self) -> int:
        """Number of films in the pool so far."""
        return len(self._shards)

    def num_of(self, resolution: int) -> int:
        """Return the number of films of a resolution in the pool so far."""
        return sum(done.resolution == resolution for done in self._done.values())

    def knows(self, source: str, film: FilmRecord) -> bool:
        """Return whether an interrupted call finished the film already; it then counts as added, or rejected, by this
        one."""
        done = self._done.get(self._film_id(source, film))
        if done is None:
            return False
        done.source, done.film = source, film
        return True

    def add(
        self,
        source: str,
        film: FilmRecord,
        pixels: Pixels,
        native: tuple[int, int, int],
        *,
        greys: str = "as stored",
        orientation: str = "as stored",
        inverted: bool = False,
        equalised: bool = False,
        descriptor: NDArray[np.int8] | None = None,
    ) -> str:
        """Append one film and return its hashed id.

        pixels: square, of the pool's depth and at most its resolution; native: width, height, bits. descriptor: int8,
        of all films or none, kept until the end for `descriptors`.
        """
        resolution = len(pixels)
        assert source in self.sources, source
        assert pixels.shape == (resolution, resolution), pixels.shape
        assert resolution in RESOLUTIONS, resolution
        assert resolution <= self.resolution, resolution
        assert pixels.dtype == self._dtype, pixels.dtype
        assert greys in GREYS, greys
        assert orientation in ORIENTATIONS, orientation
        data = np.ascontiguousarray(pixels, self._dtype).tobytes()
        self._shards.add(data, resolution)
        if descriptor is not None:
            assert descriptor.nbytes == self._descriptor_bytes, descriptor.nbytes
            if self._descriptors is None:
                self._descriptors = open(self._part / "descriptors", "ab")  # noqa: SIM115
            self._descriptors.write(descriptor.tobytes())
        sha256 = hashlib.sha256(data).digest()
        return self._note(_Done("", native, resolution, greys, orientation, inverted, equalised, sha256, source, film))

    def reject(self, source: str, film: FilmRecord, reason: str) -> str:
        """Note a refused film and return its hashed id. The reason must not hold a path: the pool may be shared."""
        return self._note(_Done(reason, source=source, film=film))

    def outcomes(self) -> Iterator[tuple[str, str, FilmRecord, str]]:
        """Yield (film id, source, record, reason of refusal or "") of every film, in order."""
        for film_id, done in self._done.items():
            assert done.film is not None, "the plan of an interrupted call named a film that this one does not"
            yield film_id, done.source, done.film, done.reason

    def descriptors(self) -> NDArray[np.int8]:
        """Return the descriptors of the films added, int8 [n, d], memory-mapped."""
        assert self._descriptors is not None
        self._descriptors.flush()
        return np.memmap(self._part / "descriptors", np.int8, "r").reshape(self.num_films, -1)

    def read(self, rows: NDArray[np.int64]) -> Pixels:
        """Return films that were added and have one resolution, [k, resolution, resolution]."""
        return self._shards.read(rows)

    def hashes(self) -> list[bytes]:
        """Return the SHA-256 of the stored pixels of the films added."""
        return [done.sha256 for done in self._done.values() if not done.reason]

    def _film_id(self, source: str, film: FilmRecord) -> str:
        return private_id(self._key, "film", source, film.film)

    def _note(self, done: _Done) -> str:
        assert done.film is not None
        film_id = self._film_id(done.source, done.film)
        self._done[film_id] = done
        if self._plan:
            self._pending.append((film_id, done))
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                self._sync()
        return film_id

    def _sync(self) -> None:
        """Flush the added films to the disk, the journal last: every film that it names is there."""
        self._shards.sync()
        if self._descriptors is not None:
            self._descriptors.flush()
            os.fsync(self._descriptors.fileno())
        if self._journal is not None and not self._journal.closed:
            for name, d in self._pending:
                made = d.greys, d.orientation, d.inverted, d.equalised
                line = [name, d.reason, d.native, d.resolution, *made, d.sha256.hex()]
                self._journal.write(json.dumps(line).encode() + b"\n")
            self._journal.flush()
            os.fsync(self._journal.fileno())
            self._pending.clear()
        self._synced = time.monotonic()

    def _resume(self) -> None:
        path = self._part / "journal"
        # anything after the last newline is half a line
        lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
        if lines and lines[0].decode() == self._plan:
            for line in lines[1:]:
                film_id, reason, native, resolution, greys, orientation, inverted, equalised, sha256 = json.loads(line)
                made = sys.intern(greys), sys.intern(orientation), inverted, equalised
                self._done[film_id] = _Done(reason, tuple(native), resolution, *made, bytes.fromhex(sha256))
            self._shards.resume(done.resolution for done in self._done.values() if not done.reason)
            self._cut_descriptors()
            # tables are written anew, at the end
            keep = {*_SCRATCH, "lock", *(path.name for path in self._part.glob("pixels-*.npy"))}
        else:
            keep = {"lock"}
        for old in self._part.iterdir():
            if old.name not in keep:
                old.unlink()
        if not path.is_file():
            path.write_text(self._plan + "\n", encoding="utf-8")
        else:
            with open(path, "r+b") as file:
                file.truncate(sum(len(line) + 1 for line in lines))
        self._journal = open(path, "ab")  # noqa: SIM115
        self._synced = time.monotonic()

    def _cut_descriptors(self) -> None:
        """Cut off what was written after the journal's last line."""
        descriptors = self._part / "descriptors"
        if descriptors.is_file() and self.num_films:
            self._descriptors = open(descriptors, "r+b")  # noqa: SIM115
            self._descriptors.truncate(self.num_films * self._descriptor_bytes)
            self._descriptors.seek(0, os.SEEK_END)
        else:
            descriptors.unlink(missing_ok=True)

    def _close(self) -> None:
        self._shards.abandon()
        for file in (self._journal, self._descriptors):
            if file is not None:
                with suppress(OSError):  # on a full disk closing flushes and fails again
                    file.close()
        self._journal = self._descriptors = None

    def finish(self, duplicates: Sequence[Pair] | None = None) -> str:
        """Write the tables and return the fingerprint; the end of the block does it otherwise.

        duplicates: those found, whose patients are put in one split, or None when they were not searched.
        """
        if self.fingerprint:
            return self.fingerprint
        if not self.num_films:
            raise ValueError(f"no film for the pool {self.path}")
        if self._plan:
            self._sync()
        self._shards.finish()
        self._close()
        kept = [(film_id, source, film) for film_id, source, film, reason in self.outcomes() if not reason]
        splits = Splits()
        for _, source, film in kept:
            splits.add(source, film)
        for pair in duplicates or ():
            splits.tie(*((kept[row][1], kept[row][2].patient) for row in (pair.a, pair.b)))
        splits.close()
        with pq.ParquetWriter(self._part / "films.parquet", SCHEMA, compression="zstd") as table:
            rows = (self._row(index, *film, splits) for index, film in enumerate(kept))
            while group := list(islice(rows, _GROUP_ROWS)):
                columns = zip(zip(*group, strict=True), SCHEMA, strict=True)
                table.write_table(pa.table([pa.array(column, field.type) for column, field in columns], schema=SCHEMA))
        rejected = [(film_id, done.reason) for film_id, done in self._done.items() if done.reason]
        _write_csv(self._part / "rejected.csv", ("film_id", "reason"), rejected)
        found = None if duplicates is None else groups(duplicates)
        if found is not None:
            lines: list[tuple[str | int, ...]] = []
            for number, pairs in enumerate(found):
                members = [Pair(pairs[0].a, pairs[0].a, "first", 1.0), *pairs]
                lines += [(kept[pair.b][0], number, pair.kind, f"{pair.correlation:.4f}") for pair in members]
            _write_csv(self._part / "duplicates.csv", ("film_id", "group", "kind", "correlation"), lines)
        self._write_meta(len(rejected), None if found is None else len(found))
        return self.fingerprint

    def _row(self, index: int, film_id: str, source: str, film: FilmRecord, splits: Splits) -> tuple[Any, ...]:
        done = self._done[film_id]
        return (
            film_id,
            private_id(self._key, "patient", source, film.patient),
            private_id(self._key, "study", source, film.study),
            source,
            film.view,
            film.sex,
            None if film.age_years is None else float(film.age_years),
            splits.of(source, film),
            *film.states(),
            film.labeler,
            *done.native,
            done.resolution,
            done.greys,
            done.orientation,
            done.inverted,
            done.equalised,
            done.sha256.hex(),
            self._shards.shards[index],
            self._shards.rows[index],
        )

    def _write_meta(self, num_rejected: int, num_duplicate_groups: int | None) -> None:
        table = pq.ParquetFile(self._part / "films.parquet")
        digests = [
            digest
            for batch in table.iter_batches(_GROUP_ROWS)
            for digest in table_digests(pa.Table.from_batches([batch]))
        ]
        self.fingerprint = content_fingerprint(self.resolution, self.bits, digests)
        splits, sources, resolutions = (
            Counter(table.read([name])[name].to_pylist()) for name in ("split", "source", "resolution")
        )
        meta = {
            "format_version": FORMAT_VERSION,
            "resolution": self.resolution,
            "bits": self.bits,
            "counts": {
                "films": self.num_films,
                "patients": pc.count_distinct(table.read(["patient"])["patient"]).as_py(),
                "studies": pc.count_distinct(table.read(["study"])["study"]).as_py(),
                **{split: splits[split] for split in SPLITS},
                "rejected": num_rejected,
                "duplicate_groups": num_duplicate_groups,
                "resolutions": {str(res): count for res, count in sorted(resolutions.items())},
            },
            "fingerprint": self.fingerprint,
            "sources": {key: {"films": sources[key], **asdict(terms)} for key, terms in sorted(self.sources.items())},
            "options": self.options,
            "files": {
                path.name: sha256_file(path)
                for path in sorted(self._part.iterdir())
                if path.name not in (*_SCRATCH, "lock")
            },
        }
        write_file(self._part / "pool.json", json.dumps(meta, indent=2, ensure_ascii=False) + "\n")


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)
