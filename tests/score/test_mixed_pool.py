"""Scores, classifiers and studies of a pool of several resolutions: which films are used, at which resolution."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from thiscxr import cli
from thiscxr.labels import NEGATIVE, POSITIVE, FilmRecord
from thiscxr.model.conditions import Condition
from thiscxr.phantom.releases import phantom_terms
from thiscxr.pixels import area_means
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.reader import training
from thiscxr.reader.extractors import Extractor
from thiscxr.reader.network import Reader, ReaderConfig
from thiscxr.score import panel
from thiscxr.score.fakes import FakeFilms
from thiscxr.score.memorisation import audit

LARGE, ALL = 120, 240


def film(number: int) -> np.ndarray:
    """A film of 64 px unlike any other, smooth enough to be recognised at 32 px."""
    coarse = np.random.default_rng(number).integers(20, 235, (16, 16))
    return np.kron(coarse, np.ones((4, 4))).astype(np.uint8)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 films of as many patients, the first half of 64 px, the others area means of 32 px."""
    path = tmp_path_factory.mktemp("mixed") / "pool"
    with PoolWriter(path, 64, 8, {"nih": phantom_terms("phantom-a")}, b"key") as writer:
        for i in range(ALL):
            record = FilmRecord(
                str(i), str(i), str(i), str(i), "PA", "F", 40.0, {"Effusion": POSITIVE if i % 2 else NEGATIVE}
            )
            pixels = film(i) if i < LARGE else area_means(film(i)[None], 32)[0]
            writer.add("nih", record, pixels, (*2 * (len(pixels),), 8))
    return path


def test_near_duplicates_are_searched_among_films_of_all_resolutions(mixed: Path) -> None:
    pool = Pool.open(mixed)
    copied = [3, 77, LARGE + 5, ALL - 1]
    fakes = np.stack([*map(film, copied), *map(film, range(1000, 1020))])
    found = audit(pool, fakes)
    assert found.found.row[: len(copied)].tolist() == copied, "films of 32 px too"
    assert found.memorised[: len(copied)].all()
    assert found.memorised[len(copied) :].mean() < 0.2
    only = audit(pool.at_resolution(64), fakes)
    assert only.memorised[: len(copied)].tolist() == [True, True, False, False], (
        "what the large films alone would have found"
    )


@pytest.mark.parametrize("hidden", [0, 6])
def test_distances_use_films_of_one_resolution_and_memorisation_uses_all(
    mixed: Path, monkeypatch: pytest.MonkeyPatch, hidden: int
) -> None:
    pool, contexts = Pool.open(mixed), []

    def part(what: object, context: panel.Context) -> panel.Panel:
        contexts.append(context)
        return panel.Panel()

    monkeypatch.setattr(panel, "whole_or_nothing", part)
    torch.manual_seed(0)
    reader = Reader(ReaderConfig(("Effusion",), ("PA",), ("nih",), res=32, widths=(8, 8))).eval()
    films, names = np.stack([film(seed) for seed in range(1000, 1040)]), [str(number) for number in range(40)]
    fakes = FakeFilms(films, [Condition()] * 40, names, 1.0, "0-39", "a" * 64, None, {}, hidden=hidden)
    panel.score(pool, fakes, [Extractor("tiny", "b" * 64, reader)], allow_small=True)
    context = contexts[0]
    assert (len(context.real), context.real.resolution, len(context.rows)) == (LARGE, 64, LARGE)
    assert len(context.looked[0].sides[0].real) == LARGE
    (record,) = context.records([panel.Measured("fd", 1.0, None, None, 1, 1)])[:1]
    assert record.resolution == 64
    assert (len(context.every), context.every.resolution) == (ALL, 64)
    every = context.every.at_resolution(1)
    assert (len(every), every.resolution) == (ALL, 32)
    for view, rows, height in ((context.real, [5], hidden), (every, [5, 200], hidden // 2)):
        foot = view.read(rows)[:, view.resolution - height :]
        assert len(np.unique(foot[0])) == 1 if hidden else foot.size == 0, "hidden as far up"


@pytest.mark.parametrize(("res", "films", "side"), [("32", ALL, 32), ("64", LARGE, 64)])
def test_a_classifier_is_trained_on_all_films_of_its_resolution_or_higher(
    mixed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    res: str,
    films: int,
    side: int,
) -> None:
    def train_reader(pool: Pool, *_: object) -> None:
        raise ValueError(f"{len(pool)} films at {pool.resolution} px")

    monkeypatch.setattr(training, "train_reader", train_reader)
    caplog.set_level("INFO")
    command = ["classify", "train", "--data", str(mixed), "--res", res, "--out", str(tmp_path / "reader.safetensors")]
    result = CliRunner().invoke(cli.group, command)
    assert f"{films} films at {side} px" in str(result.exception) + result.output
    assert f"takes {films} of {ALL} films, at {side} px" in caplog.text
