"""Batches in threads: in order, no more than requested at a time, and the caller's threads as they were."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from thiscxr.model.parallel import in_threads

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_batches_come_in_order_and_share_the_threads() -> None:
    together, at_once = threading.Barrier(3, timeout=20), []

    def work(batch: int) -> torch.Tensor:
        together.wait()  # breaks unless three are in work at the same time
        at_once.append(torch.get_num_threads())
        return torch.tensor(batch)

    assert torch.stack(list(in_threads(work, range(9), CPU))).tolist() == list(range(9))
    assert at_once == [1] * 9
    assert torch.get_num_threads() == 3


def test_one_at_a_time_has_all_threads() -> None:
    assert [int(n) for n in in_threads(lambda _: torch.tensor(torch.get_num_threads()), range(3), CPU, at_once=1)] == [
        3,
        3,
        3,
    ]


def test_a_caller_that_stops_leaves_nothing_running() -> None:
    begun: list[int] = []

    def work(batch: int) -> torch.Tensor:
        begun.append(batch)
        return torch.tensor(batch)

    films = in_threads(work, range(1000), CPU)
    assert int(next(films)) == 0
    films.close()  # type: ignore[attr-defined]
    assert len(begun) < 10
    assert torch.get_num_threads() == 3


def test_what_goes_wrong_reaches_the_caller() -> None:
    def work(batch: int) -> torch.Tensor:
        if batch == 4:
            raise OSError("no space")
        return torch.tensor(batch)

    with pytest.raises(OSError, match="no space"):
        list(in_threads(work, range(9), CPU))
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(
    ("given", "left"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")]
)
def test_threads_that_wait_soon_sleep_unless_configured_otherwise(given: dict[str, str], left: str) -> None:
    rest = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    code = "import os, thiscxr; print(os.environ.get('GOMP_SPINCOUNT'))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], env=rest | given, capture_output=True, text=True, check=True
        ).stdout.strip()
        == left
    )
