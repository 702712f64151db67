"""Every shipped preset, exactly as it is, trains a step on a small phantom pool of its resolution."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from thiscxr.config import Config, load_config, preset_folder
from thiscxr.phantom.releases import phantom_terms, truth
from thiscxr.pixels import area_means
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.train.films import Films
from thiscxr.train.growth import stage
from thiscxr.train.training import Training

FULL = ["demo", "phantom-64", "nih-128", "pooled-256"]  # whose steps at full resolution a CPU can bear
SLOW = {"gpu-256", "gpu-512"}


@pytest.fixture(scope="module")
def pool_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], Pool]:
    """Twelve phantom films of a resolution, every other one reduced to the smaller of two."""

    @cache
    def make(res: int, smallest: int) -> Pool:
        path = tmp_path_factory.mktemp("presets") / "pool"
        films = truth("pool", 12, 0, res)
        terms = {film.shot.site: phantom_terms(film.shot.site) for film in films}
        with PoolWriter(path, res, 8, terms, b"key") as writer:
            for i, film in enumerate(films):
                pixels = area_means(film.shot.take(res)[None], smallest if i % 2 else res)[0]
                record = replace(film.record, patient=str(i))  # so that some of each are training films
                writer.add(film.shot.site, record, pixels, (res, res, 8))
        return Pool.open(path)

    return make


def training_of(preset: str, pool_of: Callable[[int, int], Pool]) -> Training:
    config = load_config(Path(preset))
    pool = pool_of(config.res, 128 if preset == "pooled-256" else config.res)
    config = load_config(Path(preset), data=str(pool.path)).resolve("cpu", 1)
    return Training(config, Films(pool, config))


@pytest.mark.parametrize(
    "preset",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in
     sorted(path.stem for path in preset_folder().glob("*.toml"))],
)  # fmt: skip
def test_a_preset_takes_its_first_step(preset: str, pool_of: Callable[[int, int], Pool]) -> None:
    training = training_of(preset, pool_of)
    assert all(np.isfinite(value) for value in training.step().values())
    assert training.images_seen == training.config.batch


@pytest.mark.parametrize("preset", FULL)
def test_a_preset_takes_a_step_when_grown(preset: str, pool_of: Callable[[int, int], Pool]) -> None:
    training = training_of(preset, pool_of)
    config, films = training.config, training.films
    assert films.resolutions == ((128, 256) if preset == "pooled-256" else (config.res,))
    for res in films.resolutions:
        grown = (seen for seen in range(80_000, 90_000, int(config.batch)) if stage(config, seen).res == config.res)
        training.images_seen = next(seen for seen in grown if shown(films, config, seen) == res)
        assert all(np.isfinite(value) for value in training.step().values())


def shown(films: Films, config: Config, seen: int) -> int:
    """Return the resolution of the films of the batch after so many."""
    return films.batch(seen + torch.arange(int(config.batch)))[0].shape[-1]
