"""A pool as a dataset of torch, for other people's networks."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from thiscxr.model.conditions import Vocabulary
from thiscxr.pixels import pixels_to_images
from thiscxr.pool import Pool
from thiscxr.train.conditions import learnable_vocabulary, read_conditions


class PoolDataset(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """The films of a split: image float32 [1, res, res] in [-1, 1], condition float32 [c] and known bool [c], for each
    film.

    A condition holds, by `names`: 1 or -1 for a finding that is present or absent; one-hot view and source; 1 or -1 for
    the sex, F or M; whether the age is known, and (years - 50) / 25. What is not known is 0 there and False in `known`.
    Views and sources are known or unknown as a whole. Findings that fewer than five patients have, or fewer than five
    lack, are left out. Of a pool of several resolutions the films of the largest are taken.
    """

    def __init__(self, pool: Pool, split: str = "train", vocabulary: Vocabulary | None = None) -> None:
        self.pool = pool.at_resolution(pool.resolution)
        self.rows = self.pool.indices(split)
        films = read_conditions(self.pool, self.rows)
        self.vocabulary = vocabulary or learnable_vocabulary(films, self.pool.codes("patient")[0][self.rows])
        self.patients = self.pool.column("patient")[self.rows]  # to split by, never by film
        self.conditions = torch.from_numpy(films.encode(self.vocabulary))
        self.known = torch.zeros(self.conditions.shape, dtype=torch.bool)
        for factor in self.vocabulary.factors:
            self.known[:, factor] = (self.conditions[:, factor] != 0).any(dim=1, keepdim=True)

    @property
    def names(self) -> list[str]:
        """What each entry of a condition is."""
        return self.vocabulary.names

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor, Tensor]:
        pixels = self.pool.read(np.array([self.rows[place]]))
        return torch.from_numpy(pixels_to_images(pixels)), self.conditions[place], self.known[place]


def open_pool(path: str | Path, split: str = "train", vocabulary: Vocabulary | None = None) -> PoolDataset:
    """Return the films of "train", "holdout" or "all" of the pool in the folder `path`, for a torch DataLoader.

    vocabulary: that of another split, so that conditions mean the same in both. Raises ValueError when `path` is no
    whole pool.
    """
    return PoolDataset(Pool.open(Path(path)), split, vocabulary)
