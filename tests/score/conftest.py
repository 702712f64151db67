"""A folder of films, and the panel of its scores by a narrow network."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.networks import network_file, vocabulary
from thiscxr.pixels import save_png
from thiscxr.pool import Pool
from thiscxr.reader.extractors import Extractor
from thiscxr.reader.network import Reader, ReaderConfig
from thiscxr.score import panel
from thiscxr.score.fakes import open_fakes

__all__ = ["network_file", "vocabulary"]  # fixtures


@pytest.fixture(scope="session")
def extractor() -> Extractor:
    """A narrow untrained network: random features respond to noise and blur too."""
    torch.manual_seed(0)
    return Extractor("random8", "0" * 64, Reader(ReaderConfig((), (), (), res=32, widths=(8, 8))).eval())


def folder(path: Path, films: np.ndarray, rows: list[dict[str, str]] | None = None) -> Path:
    path.mkdir()
    for i, pixels in enumerate(films):
        save_png(path / f"seed-{i:08d}.png", pixels)
    if rows is not None:
        with open(path / "samples.csv", "w", newline="") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            table.writerows(rows)
    return path


PARTS = (
    "distances", "native_crops", "groups", "confounders", "diversity", "fine_structure", "memorisation",
    "condition_fidelity", "plausibility", "shortcuts",
)  # fmt: skip


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Leave out the other sections of the panel, each of which takes seconds."""

    def left_out(*some: object, **options: object) -> None:
        raise ValueError("left out by the test")

    def keep(*kept: str) -> None:
        for name in PARTS:
            if name not in kept:
                monkeypatch.setattr(panel, name, left_out)

    return keep


def whole(pool: Pool, path: Path, extractor: Extractor, **options: object) -> panel.Panel:
    with open_fakes(str(path), 32, 64, 1.0, "cpu") as fakes:
        return panel.score(pool, fakes, [extractor], **options)
