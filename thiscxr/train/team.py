"""The processes of one training: which films of a batch are whose, and the sums over all of them.

A batch is one batch however many processes share it: what is random is drawn for all of it and each process takes its rows, whole
groups of the minibatch statistics, so that the losses are those of one process.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from thiscxr.model.discriminator import GROUP


@dataclass(frozen=True)
class Team:
    """This process among `size`."""

    rank: int = 0
    size: int = 1

    def rows(self, batch: int) -> Tensor:
        """Return this process's rows of a batch, int64 [batch / size]. Raises ValueError when the groups cannot be shared out."""
        group = min(GROUP, batch)
        if batch % (group * self.size):
            raise ValueError(
                f"batch is {batch}, but {self.size} processes need a multiple of {group * self.size} (whole groups of {group})"
            )
        groups = torch.arange(batch).view(group, -1)  # strided, as minibatch_std takes them
        return groups[:, self.rank :: self.size].reshape(-1)

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes; one message for all of them."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))
