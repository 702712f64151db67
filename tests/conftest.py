"""What several rooms' tests stand on: a small pool with known truth."""

import os

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before numpy and torch: two test processes share two cores, their children too

import thiscxr  # noqa: F401, I001 — before torch: it lets threads that wait sleep soon

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from thiscxr.labels import NEGATIVE, POSITIVE, FilmRecord, Terms
from thiscxr.pixels import save_png
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.reader.network import Reader, ReaderConfig
from thiscxr.model.conditions import Condition, FilmConditions
from thiscxr.score import confounders, distributions, panel
from thiscxr.reader.extractors import Extractor
from thiscxr.score.fakes import open_fakes
from thiscxr.score.label_noise import label_noise
from thiscxr.score.panel import Panel
from thiscxr.score.poses import PosedFilms
from thiscxr.score.utility import LabelledFilms
from thiscxr.train.conditions import learnable_vocabulary, read_conditions
from thiscxr.reader.fitting import condition_targets, fit
from thiscxr.reader.training import reader_loss

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
    """A film of a bright disc on a dark ground, lower and wider with the finding: cheap, and easy to classify."""
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


@pytest.fixture(scope="session")
def scored(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Panel]:
    """A folder of 150 films with their requested conditions, and their whole panel by a cross-fitted classifier; what
    trains in it is tiny."""
    path = tmp_path_factory.mktemp("scored")
    with open(path / "samples.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(
            ["file", "seed", "view", "sex", "age_years", "findings", "no_findings", "truncation", "network_sha256"]
        )
        for i in range(150):
            name = f"seed-{i:08d}.png" if i else "<script>.png"
            save_png(path / name, blob(10_000 + i, 32, i % 2 == 0))
            requested = ("Effusion", "") if i % 2 == 0 else ("", "Effusion")
            table.writerow(
                [name, i, "PA" if i % 3 else "AP", "F" if i % 5 else "M", 30 + i % 40, *requested, "0.7", "ab" * 32]
            )
    known = read_conditions(pool, pool.indices("train"))
    vocabulary = learnable_vocabulary(known, pool.codes("patient")[0][pool.indices("train")])
    torch.manual_seed(0)
    reader = Reader(ReaderConfig(vocabulary.findings, vocabulary.views, vocabulary.sources, res=32, widths=(8, 8)))
    fit(reader, pool.read(pool.indices("train")), condition_targets(known, vocabulary), reader_loss, 20, 0)
    prefixes, patients = np.array([digest[:16] for digest in pool.column("sha256")]), pool.codes("patient")[0]
    halves = (frozenset(prefixes[patients >= 51].tolist()), frozenset(prefixes[patients < 51].tolist()))
    folds = tuple(Extractor(f"my_nb-fold{i}", str(i) * 64, reader, trained_on=half) for i, half in enumerate(halves))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributions, "LEAST_GROUP", 25)
        patch.setattr(confounders, "ROUNDS", 99)
        patch.setattr(panel, "pool_utility", partial(panel.pool_utility, steps=3, seeds=2))
        patch.setattr(panel, "pool_poses", partial(panel.pool_poses, films=20))
        train, test = (
            LabelledFilms(pool.read(rows), read_conditions(pool, rows), rows)
            for rows in np.split(np.arange(240), [120])
        )
        patch.setattr(panel, "label_noise", partial(label_noise, shares=(0.0, 0.5), steps=3, widths=(8, 8)))
        posed = PosedFilms(train.pixels[:20], train.patients[:20], train.conditions.take(np.arange(20)))
        with open_fakes(str(path), 32, 64, 1.0, "cpu") as fakes:
            extractor = Extractor("my_nb", "f" * 64, reader, trained_on=frozenset(prefixes.tolist()), folds=folds)
            return path, panel.score(pool, fakes, [extractor], utility=True, posed=posed, labelled=(train, test))
