"""The processes of one training: which films of a batch are whose, and the messages between them.

A batch is one batch however many processes share it: what is random is drawn for all of it and each process takes its
rows, whole groups of the minibatch statistics, so that the losses are those of one process. The first process leads: it
alone writes.
"""

import io
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from thiscxr.model.discriminator import GROUP

PATIENCE = timedelta(minutes=10)  # with a process that does not answer; the leader's longest silence is a save


@dataclass(frozen=True)
class Team:
    """This process among `size`."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that reads and writes the run folder."""
        return self.rank == 0

    def rows(self, batch: int) -> Tensor:
        """Return this process's rows of a batch, int64 [batch / size]. Raises ValueError when the groups cannot be
        shared out."""
        group = min(GROUP, batch)
        if batch % (group * self.size):
            raise ValueError(
                f"batch is {batch}, but {self.size} processes need a multiple of "
                f"{GROUP * self.size} (whole groups of {GROUP})"
            )
        groups = torch.arange(batch).view(group, -1)  # strided, as minibatch_std takes them
        return groups[:, self.rank :: self.size].reshape(-1)

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes; one message for all of them."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with _connected():
            dist.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def most(self, value: int) -> int:
        """Return the largest value of all processes."""
        if self.size == 1:
            return value
        largest = torch.tensor(value)
        with _connected():
            dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest.item())

    def share(self, value: Any) -> Any:
        """Return the leader's value, made of plain values and tensors; the tensors of the others are copies on the
        CPU."""
        if self.size == 1:
            return value
        packed = io.BytesIO()
        if self.leads:
            torch.save(value, packed)
        size = self.most(packed.tell())
        data = torch.frombuffer(bytearray(packed.getvalue() or size), dtype=torch.uint8)
        with _connected():
            dist.broadcast(data, src=0)
        return (
            value
            if self.leads
            else torch.load(io.BytesIO(data.numpy().tobytes()), map_location="cpu", weights_only=True)
        )


@contextmanager
def open_team(device: str) -> Iterator[Team]:
    """Yield the team that torchrun's environment describes, gloo between CPUs and NCCL between GPUs, or one process
    alone.

    Raises ValueError for a device that cannot be shared, ConnectionError when the others do not come.
    """
    size = int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1
    if size == 1:
        yield Team()
        return
    rank, place = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", 0))
    if device == "cuda":
        if place >= torch.cuda.device_count():
            raise ValueError(
                f"process {place} of this machine has no GPU, there are "
                f"{torch.cuda.device_count()}; lower --nproc-per-node"
            )
        torch.cuda.set_device(place)  # what "cuda" means from here on
    elif device != "cpu":
        raise ValueError(
            f"device is {device}, but several processes train on cpu or cuda only; "
            "give --device cpu or leave out torchrun"
        )
    with _connected():
        store, _, _ = next(dist.rendezvous("env://", rank, size, timeout=PATIENCE))
        # torchrun keeps one store for all its restarts: under the same names the addresses of those who died would be
        # found.
        store = dist.PrefixStore(f"thiscxr-{restarts()}", store)
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    if rank > 0:
        logging.getLogger("thiscxr").setLevel(logging.WARNING)
    team = Team(rank, size)
    yield team
    team.most(0)  # nobody leaves before the leader has saved
    # Only after success: a group that has lost a process may wait for it, and the error must come out first.
    dist.destroy_process_group()


def restarts() -> int:
    """Return how often torchrun has started this training again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def fair_threads() -> int:
    """Return the CPU threads of this process: torch's choice, or under torchrun (which sets one) a fair share of the
    cores it may use."""
    neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if neighbours == 1:
        return torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // neighbours)


def first_to_fail() -> bool:
    """Return whether no other process of this torchrun launch has failed before: one failure is reported once, by
    the process that meets it first."""
    if "MASTER_PORT" not in os.environ:
        return True
    try:
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(*address, is_master=False, timeout=timedelta(seconds=5))
        return store.add(f"thiscxr-failed-{restarts()}", 1) == 1
    except RuntimeError:  # the store went with the machine that held it
        return True


@contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # all that gloo and NCCL raise for a closed connection and for silence
        # without gloo's file names and advice
        reason = re.sub(r"^\[.*?\] ", "", str(error).splitlines()[0]).split(". ")[0]
        raise ConnectionError(
            f"another process of this training has ended or does not answer ({reason}); the "
            "same command resumes from the last saved state"
        ) from None
