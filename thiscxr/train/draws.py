"""The random numbers of one step: a function of (seed, images_seen), of the place of a film in the batch and of the
stream, nothing else.

Each process takes those of its own films: one seed is one training, however many share it. They are NumPy's over
Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): key (seed, images_seen), counter
(block, film, stream, returns), all of 64 bits. All but the grain come from the CPU on any device, and are the same on
every processor; on CUDA the grain is drawn there, since a CPU would need longer for it than the GPU for the whole step.
"""

import numpy as np
import torch
from torch import Tensor


class Draws:
    """Random numbers for the films `rows` of a batch of `batch` films; each call gives the next stream.

    seed and images_seen: from 0 to 2^64 − 1. returns: how often the training went back after a collapse; each time it
    draws other numbers.
    """

    def __init__(
        self, seed: int, images_seen: int, batch: int, rows: Tensor | None = None, device: str = "cpu", returns: int = 0
    ) -> None:
        self.batch, self.device = batch, device
        self.rows = torch.arange(batch) if rows is None else rows
        self._philox = np.random.Philox(
            key=np.array([seed, images_seen], np.uint64), counter=np.array([0, 0, 0, returns], np.uint64)
        )
        self._numbers, self._place, self._stream = np.random.Generator(self._philox), self._philox.state, 0

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal values, float32 [rows, *shape]."""
        return torch.from_numpy(self._next().standard_normal((self.batch, *shape), np.float32))[self.rows]

    def uniform(self, *shape: int) -> Tensor:
        """Return values in [0, 1), float32 [rows, *shape]."""
        return torch.from_numpy(self._next().random((self.batch, *shape), np.float32))[self.rows]

    def whole(self, end: int) -> Tensor:
        """Return whole numbers in [0, end), int64 [rows]."""
        return torch.from_numpy(self._next().integers(end, size=self.batch))[self.rows]

    def grain(self, *shape: int, needed: Tensor | None = None) -> Tensor:
        """Return standard normal values, float32 [rows, *shape], on CUDA if the draws are for it.

        Elsewhere film by film: what other processes need is not drawn, and zeros stand for the films that are not
        `needed` (bool [rows]). On CUDA all at once, which costs less than the launches.
        """
        numbers = self._next()
        if self.device == "cuda":  # its own Philox, by a key of 64 bits that depends on all of ours
            rng = torch.Generator(self.device).manual_seed(int(numbers.integers(2**64, dtype=np.uint64)))
            return torch.randn(self.batch, *shape, generator=rng, device=self.device)[self.rows.to(self.device)]
        values = np.zeros((len(self.rows), *shape), np.float32)
        for place in range(len(self.rows)) if needed is None else needed.nonzero().flatten().tolist():
            self._at(int(self.rows[place])).standard_normal(dtype=np.float32, out=values[place])
        return torch.from_numpy(values)

    def _next(self) -> np.random.Generator:
        """Go to the beginning of the next stream."""
        self._stream += 1
        return self._at(0)

    def _at(self, film: int) -> np.random.Generator:
        """Go to the first of a film's numbers of this stream."""
        self._place["state"]["counter"][1:3] = film, self._stream
        self._philox.state = self._place
        return self._numbers


def begin_weights(seed: int) -> None:
    """Seed torch's generator, from which initial weights are drawn. It keeps 32 bits: they are taken from all of the
    seed's 64."""
    torch.manual_seed(int(np.random.Philox(key=np.array([seed, 0], np.uint64)).random_raw()) % 2**32)
