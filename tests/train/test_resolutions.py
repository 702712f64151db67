"""Training on phantom films of which half have half the resolution: batches, the resolution that D reads, exact resume,
what does not fit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.test_loop import assert_same, small
from thiscxr.config import Config
from thiscxr.labels import FilmRecord
from thiscxr.phantom.releases import phantom_terms, truth
from thiscxr.pixels import area_means, pixels_to_images
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.train import loop
from thiscxr.train.films import Films
from thiscxr.train.growth import stage
from thiscxr.train.probe import probe
from thiscxr.train.training import Training


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """48 phantom films: every other one of 64 px, the others their area means of 32 px."""
    path = tmp_path_factory.mktemp("halves") / "pool"
    films = truth("pool", 48, 0, 64)
    with PoolWriter(
        path, 64, 8, {site: phantom_terms(site) for site in {film.shot.site for film in films}}, b"key"
    ) as writer:
        for i, film in enumerate(films):
            pixels = area_means(film.shot.take(64)[None], 64 >> i % 2)[0]
            record = replace(film.record, patient=str(i))  # so that some of each are training films
            writer.add(film.shot.site, record, pixels, (64, 64, 8))
    return Pool.open(path)


def tiny(pool: Pool, out: Path, **changes: object) -> Config:
    return small(pool, out, **{"res": 64, "grow_kimg": 0.04, "fade_kimg": 0.02, **changes})


def test_each_batch_is_of_one_resolution_and_each_has_its_share(halves: Pool, tmp_path: Path) -> None:
    films = Films(halves, tiny(halves, tmp_path))
    resolutions = halves.column("resolution")[films.indices]
    assert films.resolutions == (32, 64)
    shown: list[int] = []
    seen = []
    for step in range(40):
        images, rows = films.batch(8 * step + torch.arange(8))
        assert images.shape[1:] == (1, *2 * (resolutions[rows[0]],))
        assert (resolutions[rows] == resolutions[rows[0]]).all()
        expected = pixels_to_images(halves.read(films.indices[rows]))
        assert np.array_equal(images[:, 0].numpy(), expected)
        shown += rows.tolist()
        seen.append(resolutions[rows[0]])
    assert 0.3 < np.mean(np.array(seen) == 32) < 0.7
    assert len({tuple(seen[i : i + 4]) for i in range(0, 36, 4)}) > 3, (
        "in no fixed order, or R1 would fall on one resolution"
    )
    assert set(shown) == set(range(len(films.indices))), "no film is left out for good"
    again = Films(halves, tiny(halves, tmp_path))
    parts = [again.batch(8 * 17 + part)[1] for part in torch.arange(8).split(4)]  # as two processes share a batch
    assert np.concatenate(parts).tolist() == shown[8 * 17 : 8 * 18]


def test_small_films_enter_at_their_own_block_beside_reduced_synthetic_ones(
    halves: Pool, tmp_path: Path, monkeypatch
) -> None:
    config = tiny(halves, tmp_path)
    training = Training(config, Films(halves, config))
    compared: list[tuple[int, int, float]] = []
    forward = training.D.forward

    def watched(images, c, blend=1.0, batches=1):
        compared.append((stage(config, training.images_seen).res, images.shape[-1], blend))
        return forward(images, c, blend, batches)

    monkeypatch.setattr(training.D, "forward", watched)
    entry, last = training.D.from_grey["16"].weight, training.D.from_grey["32"].weight
    for _ in range(24):
        before = entry.detach().clone(), last.detach().clone()
        first = len(compared)
        training.step()
        generated, res, _ = compared[first]
        assert {some[1] for some in compared[first:]} == {res}, "real and synthetic films of one resolution"
        if generated == 64 and res == 32:
            assert not torch.equal(entry, before[0]), "it learns where the small films enter"
            assert torch.equal(last, before[1]), "and not where they do not come by"
    assert {(generated, res) for generated, res, _ in compared} == {(16, 16), (32, 32), (64, 32), (64, 64)}
    assert {blend for generated, res, blend in compared if (generated, res) == (64, 32)} == {1.0}, (
        "nothing is blended in below the last block"
    )


def test_a_stopped_and_resumed_run_is_the_uninterrupted_one_bit_for_bit(halves: Pool, tmp_path: Path) -> None:
    whole = loop.train(tiny(halves, tmp_path / "whole", kimg=0.12), halves, "halves")
    for kimg in (0.056, 0.096, 0.12):
        parts = loop.train(tiny(halves, tmp_path / "parts", kimg=kimg), halves, "halves")
    assert_same(whole, parts)


def test_a_start_at_full_resolution_has_an_entry_for_the_small_films(halves: Pool, tmp_path: Path) -> None:
    config = tiny(halves, tmp_path, grow_from=64)  # as after --init
    training = Training(config, Films(halves, config))
    assert set(training.D.from_grey) == {"16", "32"}
    for _ in range(6):
        assert all(np.isfinite(value) for value in training.step().values())


def test_a_network_without_an_entry_for_the_small_films_is_refused_in_one_line(halves: Pool, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"holds films of 32 px too, .* no entry for as grow_from is 0; add --set grow_from=32, or"
    ) as caught:
        Films(halves, tiny(halves, tmp_path, grow_from=0))
    assert "\n" not in str(caught.value)


def test_few_films_of_a_resolution_fill_a_batch_by_coming_twice(tmp_path: Path) -> None:
    with PoolWriter(tmp_path / "pool", 64, 8, {"discs": phantom_terms("phantom-a")}, b"key") as writer:
        for i in range(60):
            res = 32 if i in (0, 1, 2, 3, 4, 5) else 64
            pixels = np.random.default_rng(i).integers(0, 256, (res, res), np.uint8)
            writer.add("discs", FilmRecord(str(i), str(i), str(i), str(i)), pixels, (res, res, 8))
    pool = Pool.open(tmp_path / "pool")
    films = Films(pool, tiny(pool, tmp_path))
    resolutions = pool.column("resolution")[films.indices]
    assert 0 < (resolutions == 32).sum() < 8
    order = films.epoch_order(0)
    assert (resolutions[order] == 32).sum() == 8
    assert len(order) % 8 == 0


def test_a_dry_run_reports_time_and_memory(halves: Pool, tmp_path: Path) -> None:
    lines = probe(tiny(halves, tmp_path), halves)
    assert [line.split()[0] for line in lines[1:4]] == ["16", "32", "64"]
