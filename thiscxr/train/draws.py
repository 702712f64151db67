"""The random numbers of one step: a function of (seed, images_seen) and of the place of a film in the batch, nothing else.

Each process takes those of its own films: one seed is one training, however many share it. All but the grain come from the CPU on any
device; on CUDA the grain is drawn there, since a CPU would need longer for it than the GPU for the whole step.
"""

import torch
from torch import Tensor

_SPREAD = 0x9E3779B97F4A7C15  # odd, so that each seed begins elsewhere among the 2^64 generators, and no two runs come near each other
_STREAMS = 16  # for each film: one generator of the step and one for each field of noise


class Draws:
    """Random numbers for the films `rows` of a batch of `batch` films; each call gives the next ones."""

    def __init__(self, seed: int, images_seen: int, batch: int, rows: Tensor | None = None, device: str = "cpu") -> None:
        self.batch, self.device = batch, device
        self.rows = torch.arange(batch) if rows is None else rows
        self._first = (seed * _SPREAD + images_seen * _STREAMS) % 2**64
        self._rng = torch.Generator().manual_seed(self._first)
        self._stream = 0

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal values, float32 [rows, *shape]."""
        return torch.randn(self.batch, *shape, generator=self._rng)[self.rows]

    def uniform(self, *shape: int) -> Tensor:
        """Return values in [0, 1), float32 [rows, *shape]."""
        return torch.rand(self.batch, *shape, generator=self._rng)[self.rows]

    def whole(self, end: int) -> Tensor:
        """Return whole numbers in [0, end), int64 [rows]."""
        return torch.randint(end, (self.batch,), generator=self._rng)[self.rows]

    def grain(self, *shape: int) -> Tensor:
        """Return standard normal values, float32 [rows, *shape], on CUDA if the draws are for it.

        Elsewhere film by film, so that what other processes need is not drawn; on CUDA all at once, which costs less than the launches.
        """
        self._stream += 1
        if self.device == "cuda":
            rng = torch.Generator(self.device).manual_seed((self._first + self._stream) % 2**63)
            return torch.randn(self.batch, *shape, generator=rng, device=self.device)[self.rows.to(self.device)]
        values = torch.empty(len(self.rows), *shape)
        for value, row in zip(values, self.rows.tolist(), strict=True):
            torch.randn(shape, generator=torch.Generator().manual_seed((self._first + row * _STREAMS + self._stream) % 2**64), out=value)
        return values
