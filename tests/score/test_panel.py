"""Scores of folders and networks: protocol in the key, floors, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from thiscxr.data.pixels import save_png
from thiscxr.data.pool import Pool
from thiscxr.model.classifier import Reader, ReaderConfig
from thiscxr.score import panel
from thiscxr.score.extractors import Extractor, load_extractor
from thiscxr.train.reader import save_reader


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    """A narrow untrained network: random features see noise and blur too."""
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


def score(pool: Pool, path: Path, extractor: Extractor, **options: object) -> dict:
    (record,) = panel.score(pool, panel.open_fakes(str(path), 32, 64, 1.0, "cpu"), extractor, **options)
    return record


def test_a_record_carries_its_protocol(pool: Pool, extractor: Extractor, tmp_path: Path) -> None:
    films = pool.read(pool.indices("holdout"))
    rows = [{"file": f"seed-{i:08d}.png", "seed": str(i), "truncation": "0.7", "network_sha256": "a" * 64} for i in range(len(films))]
    record = score(pool, folder(tmp_path / "fakes", films, rows), extractor)
    n = len(films)
    assert record["key"] == f"fd_random8_{n}"
    assert (record["num_real"], record["num_fake"], record["truncation"], record["seeds"]) == (n, n, 0.7, f"0-{n - 1}")
    assert (record["network_sha256"], record["pool_fingerprint"], record["split"]) == ("a" * 64, pool.fingerprint, "all")
    assert record["ci95"][0] <= record["value"] <= record["ci95"][1]
    design = "key value ci95 floor num_real num_fake extractor extractor_sha256 truncation seeds split pool_fingerprint network_sha256"
    assert set(record) == {*design.split(), "code_version", "seconds"}
    panel.write_scores(tmp_path / "scores.json", [record])
    assert json.loads((tmp_path / "scores.json").read_text()) == [record]
    assert record["key"] in panel.score_table([record])


def test_real_films_score_at_the_floor_and_spoilt_ones_above(pool: Pool, extractor: Extractor, tmp_path: Path) -> None:
    films = pool.read(pool.indices("all"))[::2]
    rng = np.random.default_rng(0)
    noisy = np.clip(films + 40 * rng.standard_normal(films.shape), 0, 255).astype(np.uint8)
    blurred = (
        (films.astype(int) + np.roll(films, 1, 1) + np.roll(films, 1, 2) + np.roll(films, -1, 2) + np.roll(films, -1, 1)) // 5
    ).astype(np.uint8)
    collapsed = np.repeat(films[:2], len(films) // 2, axis=0)
    real = score(pool, folder(tmp_path / "real", films), extractor)
    assert real["value"] < 2 * real["floor"]
    for name, spoilt in (("noisy", noisy), ("blurred", blurred), ("collapsed", collapsed)):
        assert score(pool, folder(tmp_path / name, spoilt), extractor)["value"] > 3 * real["value"], name


def test_too_few_films_are_refused_unless_allowed_and_then_the_key_says_so(pool: Pool, extractor: Extractor, tmp_path: Path) -> None:
    path = folder(tmp_path / "few", pool.read(pool.indices("all")[:6]))
    with pytest.raises(ValueError, match=r"give 6 a side, not more than the 8 dimensions of random8.*--allow-small"):
        score(pool, path, extractor)
    # Ten jackknife groups need more than ten films a side, so the dimensions are raised instead of the films lowered.
    wide = Extractor("random64", "0" * 64, Reader(ReaderConfig((), (), (), res=32, widths=(8, 64))).eval())
    some = folder(tmp_path / "some", pool.read(pool.indices("all")[:40]))
    assert score(pool, some, wide, allow_small=True)["key"] == "fd_random64_40_small"


@pytest.mark.parametrize("split", ["train", "holdout"])
def test_the_split_is_kept(pool: Pool, extractor: Extractor, tmp_path: Path, split: str) -> None:
    record = score(pool, folder(tmp_path / "fakes", pool.read(pool.indices(split))), extractor, split=split)
    assert record["split"] == split
    assert record["num_real"] <= len(pool.indices(split)) // 2


def test_what_cannot_be_scored_is_named(pool: Pool, extractor: Extractor, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no films"):
        panel.open_fakes(str(tmp_path / "empty"), 32, 64, 1.0, "cpu")
    with pytest.raises(ValueError, match="no file, run folder or bundled generator"):
        panel.open_fakes(str(tmp_path / "nothing"), 32, 64, 1.0, "cpu")
    path = folder(tmp_path / "broken", pool.read(pool.indices("all")[:20]))
    (path / "seed-00000003.png").write_text("not a film")
    with pytest.raises(ValueError, match=r"seed-00000003.png: .*remove it or make it again"):
        score(pool, path, extractor)
    listed = folder(tmp_path / "listed", pool.read(pool.indices("all")[:2]), [{"file": "seed-00000009.png", "seed": "9"}])
    with pytest.raises(ValueError, match=r"samples.csv lists 'seed-00000009.png', which is not a file"):
        score(pool, listed, extractor)
    hostile = folder(tmp_path / "hostile", pool.read(pool.indices("all")[:2]), [{"file": "../listed/seed-00000000.png", "seed": "0"}])
    with pytest.raises(ValueError, match="which is not a file in"):
        score(pool, hostile, extractor)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "samples.csv").write_text("name\n")
    with pytest.raises(ValueError, match="lists no films"):
        panel.open_fakes(str(tmp_path / "bare"), 32, 64, 1.0, "cpu")


def test_extractors_by_file(pool: Pool, extractor: Extractor, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_reader(path, extractor.reader, pool, {})
    loaded = load_extractor(str(path))
    assert (loaded.name, loaded.dim, len(loaded.sha256)) == ("mine", 8, 64)
    batch = pool.read(pool.indices("all")[:9])
    np.testing.assert_allclose(loaded.features([batch[:4], batch[4:]]), extractor.features([batch]), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="no reader file or extractor 'thiscxr65'"):
        load_extractor("thiscxr65")
