"""The pixels of a pool that is being written: one .npy file a shard, of films of one resolution, in the order in which
they are added."""

import os
from array import array
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from thiscxr.pixels import Pixels

MAX_SHARD_BYTES = 512 * 2**20


def shard_name(shard: int) -> str:
    return f"pixels-{shard:05d}.npy"


class ShardWriter:
    """Appends films to the shards in `folder`: each to the shard of its resolution that has room, or else to a new one.

    dtype: of all films, little-endian.
    """

    def __init__(self, folder: Path, dtype: np.dtype) -> None:
        self.folder, self.dtype = folder, dtype
        self.shards, self.rows = array("i"), array("i")  # where each film is
        self._num_shards = 0
        self._newest: dict[int, tuple[int, int]] = {}  # by resolution: shard, and how many films it has
        self._files: dict[int, BinaryIO] = {}  # by resolution: they stay open over many films

    def __len__(self) -> int:
        return len(self.shards)

    def _film_bytes(self, resolution: int) -> int:
        return resolution * resolution * self.dtype.itemsize

    def _capacity(self, resolution: int) -> int:
        return max(1, MAX_SHARD_BYTES // self._film_bytes(resolution))

    def _place(self, resolution: int) -> tuple[int, int]:
        """Return shard and row of the next film."""
        shard, row = self._newest.get(resolution, (0, 0))
        if row in (0, self._capacity(resolution)):
            shard, row = self._num_shards, 0
            self._num_shards += 1
        self._newest[resolution] = shard, row + 1
        self.shards.append(shard)
        self.rows.append(row)
        return shard, row

    def add(self, data: bytes, resolution: int) -> None:
        """Append the bytes of a film [resolution, resolution]."""
        shard, row = self._place(resolution)
        if row == 0:
            self._close(resolution, self._capacity(resolution))
            self._files[resolution] = open(self.folder / shard_name(shard), "wb")  # noqa: SIM115
            self._write_header(resolution, self._capacity(resolution))
        self._files[resolution].write(data)

    def read(self, films: NDArray[np.int64]) -> Pixels:
        """Return films by their place in the pool, all of one resolution, [k, resolution, resolution]."""
        for file in self._files.values():
            file.flush()
        pixels = []
        for place in films.tolist():
            with open(self.folder / shard_name(self.shards[place]), "rb") as file:
                res, first = _header(file)
                size = self._film_bytes(res)
                file.seek(first + self.rows[place] * size)
                pixels.append(np.frombuffer(file.read(size), self.dtype).reshape(res, res))
        return np.stack(pixels)

    def resume(self, resolutions: Iterable[int]) -> None:
        """Continue after films of these resolutions, which the folder holds: cut off what was written after them."""
        for resolution in resolutions:
            self._place(resolution)
        for path in self.folder.glob("pixels-*.npy"):
            if path.name >= shard_name(self._num_shards):
                path.unlink()
        for resolution, (shard, num_films) in self._newest.items():
            file = self._files[resolution] = open(self.folder / shard_name(shard), "r+b")  # noqa: SIM115
            file.truncate(_header(file)[1] + num_films * self._film_bytes(resolution))
            file.seek(0, os.SEEK_END)

    def sync(self) -> None:
        """Flush the added films to the disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> None:
        """Close all shards, whole."""
        for resolution, (_, num_films) in self._newest.items():
            self._close(resolution, num_films)

    def abandon(self) -> None:
        """Close all shards as they are."""
        for file in self._files.values():
            with suppress(OSError):  # on a full disk closing flushes and fails again
                file.close()
        self._files.clear()

    def _write_header(self, resolution: int, num_films: int) -> None:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (num_films, resolution, resolution)}
        np.lib.format.write_array_header_1_0(self._files[resolution], header)

    def _close(self, resolution: int, num_films: int) -> None:
        """Close the shard of `resolution` that is being written, if one is, with `num_films` in it."""
        if resolution not in self._files:
            return
        self._files[resolution].seek(0)
        self._write_header(resolution, num_films)  # numpy leaves room for any count: the length stays
        with self._files.pop(resolution) as file:
            file.flush()
            os.fsync(file.fileno())


def _header(file: BinaryIO) -> tuple[int, int]:
    """Return the resolution of a shard's films, and how many bytes come before the first."""
    file.seek(0)
    np.lib.format.read_magic(file)
    shape, _, _ = np.lib.format.read_array_header_1_0(file)
    return shape[-1], file.tell()
