"""One function over many films on all cores, or on a Dask cluster, in order.

Results come back in the order of the tasks whatever the number of workers, and only a few wait in memory at a time.
"""

import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_SERIAL_BELOW = 200  # starting processes costs a second or two: not worth it for a small job
_CHUNK = 16
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def _start_worker() -> None:
    # Ctrl-C reaches the whole process group; one traceback, of the parent, is enough.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A parent that was killed with -9 cannot end its workers, which would continue with what is queued.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _run_chunk(function: Callable[[T], R], chunk: list[T]) -> list[R]:
    return [function(task) for task in chunk]


def ahead(executor: Executor, function: Callable[[T], R], tasks: Iterable[T], most: int) -> Generator[R, None, None]:
    """Yield function(task) for each task, in order; at most `most` wait to be done or to be taken, one more while the
    caller has the last result. Those that were not begun are cancelled when the caller leaves, or one of them fails."""
    waiting: deque[Future[R]] = deque()
    try:
        for task in tasks:
            waiting.append(executor.submit(function, task))
            if len(waiting) > most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


class Workers:
    """Some processes, here or elsewhere, or none: `map` then runs in this one."""

    def __init__(self, executor: Executor | None, num: int) -> None:
        self.executor, self.num = executor, num

    def map(self, function: Callable[[T], R], tasks: Iterable[T], chunk: int = _CHUNK) -> Generator[R, None, None]:
        """Yield function(task) for each task, in order; `function`, tasks and results must be picklable.

        chunk: tasks sent at a time; 1 where a task is heavy. Raises RuntimeError when a worker process dies.
        """
        if self.executor is None:
            yield from map(function, tasks)
            return
        remaining = iter(tasks)
        chunks = iter(lambda: list(islice(remaining, chunk)), [])
        try:
            for results in ahead(self.executor, partial(_run_chunk, function), chunks, 2 * self.num + 1):
                yield from results
        except BrokenProcessPool as error:
            why = 'out of memory, or a script without `if __name__ == "__main__":` around what it does'
            raise RuntimeError(f"a worker process died ({why}); one worker runs without processes") from error
        except CancelledError as error:
            raise OSError("the Dask cluster was lost; run the same command again when it is back") from error


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def open_workers(num_tasks: int, workers: int | None = None, scheduler: str = "") -> Iterator[Workers]:
    """Yield workers: those of the Dask cluster at `scheduler`, or processes on this machine.

    workers None: one a core, or none under 200 tasks; 1: none. Raises ValueError when there is no cluster at the
    address.
    """
    if scheduler:
        with _dask(scheduler) as cluster:
            yield cluster
        return
    if workers is None:
        workers = 1 if num_tasks < _SERIAL_BELOW else num_cores()
    if workers <= 1:
        yield Workers(None, 1)
        return
    # spawn, not fork: a forked copy of a process with running threads (torch's, say) can hang
    executor = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)
    # One thread of linear algebra a worker: more would fight for the same cores. It counts for the processes that are
    # started meanwhile.
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield Workers(executor, workers)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def _dask(scheduler: str) -> Iterator[Workers]:
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError("--dask needs Dask; install it with: pip install 'thiscxr[dask]'") from error
    try:
        client = Client(scheduler, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--dask {scheduler}: no Dask scheduler answers there; start one with: dask scheduler"
        ) from error
    try:
        num = sum(client.nthreads().values())
        if not num:
            raise ValueError(
                f"--dask {scheduler}: the cluster has no workers; start some with: dask worker {scheduler}"
            )
        logging.getLogger(__name__).info("Dask cluster with %d worker threads", num)
        yield Workers(client.get_executor(pure=False), num)
    finally:
        client.close()
