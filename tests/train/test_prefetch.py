"""Batches that are read ahead: the same films as without, whatever is requested next, and the time that was waited."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.test_loop import small
from thiscxr.pixels import pixels_to_images
from thiscxr.pool import Pool
from thiscxr.train.films import Films


def read(films: Films, first: int) -> torch.Tensor:
    return films.batch(first + torch.arange(8))[0]


def directly(films: Films, first: int) -> torch.Tensor:
    n = len(films.indices)
    rows = [films.epoch_order(place // n)[place % n] for place in range(first, first + 8)]
    return torch.from_numpy(pixels_to_images(films.pool.read(films.indices[rows])))[:, None]


def test_the_films_are_the_same_in_any_order_of_requests(pool: Pool, tmp_path: Path) -> None:
    films, plain = (Films(pool, small(pool, tmp_path)) for _ in range(2))
    n = len(films.indices)
    in_order, back, across = [0, 8, 16, 24, 32], [16, 24, 0], [n - 12, n - 4, n + 4, 3 * n - 4]
    for first in (*in_order, *back, *across):
        assert torch.equal(read(films, first), directly(plain, first)), first


def test_the_next_batch_is_read_meanwhile(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films = Films(pool, small(pool, tmp_path))
    reading = Pool.read

    def slow(self: Pool, indices: Any) -> np.ndarray:
        time.sleep(0.1)
        return reading(self, indices)

    monkeypatch.setattr(Pool, "read", slow)
    read(films, 0)
    first = films.waited_sec
    assert first >= 0.1
    read(films, 8)
    time.sleep(0.5)  # a step
    before = films.waited_sec
    read(films, 16)
    assert films.waited_sec - before < 0.05


def test_a_damaged_film_is_reported_when_its_batch_is_due_and_not_before(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = Films(pool, small(pool, tmp_path))
    damaged = films.indices[films.epoch_order(0)[20]]
    reading = Pool.read

    def checked(self: Pool, indices: Any) -> np.ndarray:
        if damaged in indices:
            raise ValueError("the film is damaged")
        return reading(self, indices)

    monkeypatch.setattr(Pool, "read", checked)
    read(films, 0)
    read(films, 8)
    with pytest.raises(ValueError, match="the film is damaged"):
        read(films, 16)
