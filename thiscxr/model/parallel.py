"""A network at work on several batches at once, a thread each.

On a CPU one thread a batch is faster than all threads on one batch, where they wait for one another at every small
step: a little on an idle machine, many times on one that has other work (docs/sampling.md).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

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
        made: deque[Future[torch.Tensor]] = deque()
        try:
            for batch in batches:
                made.append(pool.submit(work, batch))
                if len(made) > workers:
                    yield made.popleft().result()
            while made:
                yield made.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)  # of a caller that wants no more
            torch.set_num_threads(threads)
