"""A network at work on several batches at once, a thread each.

On a CPU one thread a batch is faster than all threads on one batch, where they wait for one another at every small
step: a little on an idle machine, many times on one that has other work (docs/sampling.md).
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from thiscxr.parallel import ahead

AT_ONCE = 4  # batches; more threads than that share them, so that a large machine does not need a large memory

Batch = TypeVar("Batch")


def in_threads(
    work: Callable[[Batch], torch.Tensor], batches: Iterable[Batch], device: torch.device, at_once: int = AT_ONCE
) -> Iterator[torch.Tensor]:
    """Yield what `work` makes of each batch, in their order; at most `at_once` of them are computed at a time, and as
    many wait to be taken.

    On a GPU two threads take turns, so that the next batch is prepared beside it. The caller's number of threads stays
    as it is.
    """
    threads = torch.get_num_threads()
    workers = min(threads if device.type == "cpu" else 2, at_once)
    each = max(threads // workers, 1) if device.type == "cpu" else threads
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(each,)) as pool:
        try:
            yield from ahead(pool, work, batches, workers)
        finally:
            pool.shutdown()  # also when the caller wants no more
            torch.set_num_threads(threads)
