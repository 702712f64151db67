"""The training films of a pool: batches as a function of (seed, images_seen), and what the networks are told of each film."""

import numpy as np
import torch
from torch import Tensor

from thiscxr.config import Config
from thiscxr.data.pixels import pixels_to_images
from thiscxr.data.pool import Pool
from thiscxr.model.conditions import Vocabulary, joint_table
from thiscxr.train.conditions import learnable_vocabulary, read_conditions
from thiscxr.train.draws import Draws


class Films:
    """The training films of a pool and their condition vectors; batches are a function of (seed, images_seen)."""

    def __init__(self, pool: Pool, config: Config) -> None:
        self.pool = pool
        self.indices = pool.indices("train")
        if len(self.indices) == 0:
            raise ValueError(f"{pool.path} has no training films (every patient is held out); add patients")
        self.conditions = read_conditions(pool, self.indices)
        patients = pool.codes("patient")[0][self.indices]
        self.vocabulary = learnable_vocabulary(self.conditions, patients) if config.conditional else Vocabulary((), (), (), (), False)
        self.table = joint_table(self.conditions, patients, self.vocabulary)
        self.seed = config.seed
        self._epoch, self._order = -1, self.indices  # the order of the epoch that was asked for last

    def batch(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return images float32 [k, 1, res, res] and conditions [k, c_dim] of places int64 [k] in the endless row of films.

        The row is one epoch after another, each film once an epoch, in the epoch's own order.
        """
        n = len(self.indices)
        rows = np.array([self._epoch_order(place // n)[place % n] for place in places.tolist()])
        images = pixels_to_images(self.pool.read(self.indices[rows]))
        return torch.from_numpy(images)[:, None], self.vectors(rows)

    def vectors(self, rows: np.ndarray) -> Tensor:
        """Return the condition vectors of training films, float32 [k, c_dim]."""
        return torch.from_numpy(self.conditions.take(rows).encode(self.vocabulary))

    def _epoch_order(self, epoch: int) -> np.ndarray:
        if self._epoch != epoch:
            rng = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            self._epoch, self._order = epoch, rng.permutation(len(self.indices))
        return self._order


def thin(c: Tensor, vocabulary: Vocabulary, dropout: float, draws: Draws) -> Tensor:
    """Return condition vectors [N, c_dim] with factors hidden at random, so that any subset can be asked for later.

    One film in ten knows nothing and a share `dropout` is thinned: each film by a rate of its own, and in every second one all findings are
    hidden together, since "a PA film" without a word on findings is what people ask for most. The rest keep all that they know.
    """
    if c.shape[1] == 0:
        return c
    factors = len(vocabulary.factors)
    keep = draws.uniform(factors) < draws.uniform(1)
    findings = torch.arange(factors) < len(vocabulary.findings)
    keep &= ~(findings & (draws.uniform(1) < 0.5))
    fate = draws.uniform(1)
    keep = (keep & (fate >= 0.1)) | (fate >= 0.1 + dropout)
    widths = torch.tensor([part.stop - part.start for part in vocabulary.factors])
    return c * keep.repeat_interleave(widths, dim=1)
