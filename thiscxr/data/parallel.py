"""One function over many films on all cores, in order.

Results come back in the order of the tasks whatever the number of workers, and only a few wait in memory at a time.
"""

import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_SERIAL_BELOW = 200  # starting processes costs a second or two: not worth it for a small job
_CHUNK = 16


def _leave_interrupts_to_parent() -> None:
    # Ctrl-C reaches the whole process group; one traceback, of the parent, is enough.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_chunk(function: Callable[[T], R], chunk: list[T]) -> list[R]:
    return [function(task) for task in chunk]


def ordered_map(function: Callable[[T], R], tasks: Iterable[T], num_tasks: int, workers: int | None = None) -> Generator[R, None, None]:
    """Yield function(task) for each task, in order; `function`, tasks and results must be picklable.

    workers None: all cores this process may use, or none (serial) under 200 tasks; 1: serial.
    Close it (contextlib.closing) to end the processes of a job that was left early. Raises RuntimeError when a worker process dies.
    """
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if num_tasks < _SERIAL_BELOW:
            workers = 1
    if workers <= 1:
        yield from map(function, tasks)
        return
    # spawn, not fork: a forked copy of a process with running threads (torch's, say) can hang
    executor = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_leave_interrupts_to_parent)
    waiting: deque[Future[list[R]]] = deque()
    remaining = iter(tasks)
    try:
        while True:
            while len(waiting) < 4 * workers and (chunk := list(islice(remaining, _CHUNK))):
                waiting.append(executor.submit(_run_chunk, function, chunk))
            if not waiting:
                return
            yield from waiting.popleft().result()
    except BrokenProcessPool as error:
        why = 'out of memory, or a script without `if __name__ == "__main__":` around what it does'
        raise RuntimeError(f"a worker process died ({why}); one worker runs without processes") from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
