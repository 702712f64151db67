"""What several rooms' tests stand on: a small pool with known truth."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from thiscxr.data.labels import NEGATIVE, POSITIVE, FilmRecord, Terms
from thiscxr.data.pool import Pool
from thiscxr.data.pool_writer import PoolWriter
from thiscxr.model.conditions import Condition, FilmConditions

NIH_64 = Path(__file__).parents[2] / "shared" / "data" / "nih-64"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Two test processes share two cores, and exactness holds for one thread count."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep keys and caches out of the home of whoever runs the tests."""
    base = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(base / "config"))
    monkeypatch.setenv("THISCXR_CACHE", str(base / "cache"))


@pytest.fixture(scope="session")
def film_conditions() -> Callable[[list[Condition]], FilmConditions]:
    """Conditions, one by one, as columns."""
    return FilmConditions.of


def blob(seed: int, res: int, effusion: bool) -> np.ndarray:
    """A film of a bright disc on a dark ground, lower and wider with the finding: cheap, and telling for a network."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:res, :res] / res
    centre = (0.65 if effusion else 0.35) + 0.05 * rng.standard_normal()
    disc = ((x - 0.5) / (0.3 if effusion else 0.2)) ** 2 + ((y - centre) / 0.2) ** 2 < 1
    return np.clip(40 + 150 * disc + 8 * rng.standard_normal((res, res)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """240 films of 32 px, two a patient; one collection, Effusion known, everything else not annotated."""
    path = tmp_path_factory.mktemp("pool") / "pool"
    terms = Terms(title="Discs", terms="none", citation="none", url="none", acknowledgement="none")
    with PoolWriter(path, 32, 8, {"discs": terms}, b"key") as writer:
        for i in range(240):
            effusion = i % 4 < 2
            patient = str(i // 2)
            findings = {"Effusion": POSITIVE if effusion else NEGATIVE}
            view, sex = "PA" if i % 2 else "AP", "F" if i % 6 < 2 else "M"
            record = FilmRecord(str(i), str(i), patient, patient, view, sex, 30.0 + i % 40, findings)
            writer.add("discs", record, blob(i, 32, effusion), (32, 32, 8))
    return Pool.open(path)
