"""Which films of a folder are scored, and what is refused."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import blob
from tests.score.conftest import folder
from thiscxr.labels import NEGATIVE, FilmRecord, Terms
from thiscxr.model.generator import Generator, GeneratorConfig
from thiscxr.model.network_file import save_network
from thiscxr.pixels import save_png
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.sample.sampling import load
from thiscxr.score.fakes import FakeFilms, open_fakes


def opened(path: Path, res: int = 32) -> FakeFilms:
    with open_fakes(str(path), res, 64, 1.0, "cpu") as fakes:
        return fakes


def test_films_in_sub_folders_are_scored_and_the_rest_is_reported(
    pool: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    films = pool.read(pool.indices("all")[:12])
    path = folder(tmp_path / "fakes", films[:4])
    for number, film in enumerate(films[4:]):
        save_png(path / f"0000{number % 2}" / f"img{number}.png", film)
    save_png(path / "grid.png", films[0])
    (path / "00000" / "notes.txt").write_text("x")
    (path / "film.jp2").write_bytes(b"x")
    with caplog.at_level(logging.INFO):
        fakes = opened(path)
    assert len(fakes) == 12
    assert fakes.names[:2] == ["00000/img0.png", "00000/img2.png"]
    assert "not scored: 1 x .jp2 picture, not read: convert it to PNG, 1 x .txt file" in caplog.text
    (path / "samples.csv").write_text("file\nseed-00000000.png\nseed-00000001.png\n")
    caplog.clear()
    assert len(opened(path)) == 2
    assert "10 films that samples.csv does not list are not scored, such as 00000/img0.png" in caplog.text
    with pytest.raises(ValueError, match=r"holds sample folders \(fakes\); score one at a time"):
        opened(tmp_path)
    (tmp_path / "others" / "deep").mkdir(parents=True)
    (tmp_path / "others" / "deep" / "films.npz").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"holds no films; expected .*; there are 1 x .npz picture"):
        opened(tmp_path / "others")


def test_what_cannot_be_scored_is_named(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no films"):
        opened(tmp_path / "empty")
    with pytest.raises(ValueError, match="no file, run folder or bundled generator"):
        opened(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is a pool of real films"):
        opened(pool.path)
    path = folder(tmp_path / "broken", pool.read(pool.indices("all")[:20]))
    (path / "seed-00000003.png").write_text("not a film")
    with pytest.raises(ValueError, match=r"seed-00000003.png: .*remove it or make it again"):
        opened(path)
    with pytest.raises(ValueError, match=r"short side 32 px is below the resolution 64; remove it"):
        opened(folder(tmp_path / "small", pool.read(pool.indices("all")[:2])), res=64)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"file": "seed-00000009.png"}], "lists 'seed-00000009.png', which is not a file"),
        ([{"file": "../x/seed-00000000.png"}], "which is not a file in"),
        ([{"name": "seed-00000000.png"}], "lists no films"),
        ([{"file": "seed-00000000.png"}, {"file": "seed-00000000.png"}], "twice; each film counts once"),
        ([{"file": "seed-00000000.png", "findings": "Efusion"}], "no finding is called 'Efusion'"),
        ([{"file": "seed-00000000.png", "view": "<b>"}], "view '<b>' is not one of"),
        ([{"file": "seed-00000000.png", "age_years": "old"}], "age_years is 'old'"),
        (
            [{"file": "seed-00000000.png", "findings": "Mass", "no_findings": "Mass"}],
            "Mass is requested twice, or both present and absent",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_named(
    pool: Pool, tmp_path: Path, rows: list[dict[str, str]], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        opened(folder(tmp_path / "fakes", pool.read(pool.indices("all")[:2]), rows))
    assert "\n" not in str(caught.value)


def test_films_that_show_nothing_or_differ_in_size_are_named(pool: Pool, tmp_path: Path) -> None:
    films = pool.read(pool.indices("all")[:4]).copy()
    films[2] = 7
    with pytest.raises(ValueError, match=r"seed-00000002.png: constant image"):
        opened(folder(tmp_path / "grey", films))
    path = folder(tmp_path / "sizes", films[:2])
    save_png(path / "seed-00000002.png", np.kron(films[3], np.ones((2, 2), np.uint8)))
    with pytest.raises(ValueError, match=r"it has 64 × 64 px where seed-00000000.png has 32 × 32"):
        opened(path)


def test_colour_is_refused(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "colour").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)).save(
        tmp_path / "colour" / "a.png"
    )
    with pytest.raises(ValueError, match="colour"):
        opened(tmp_path / "colour")


def test_samples_have_the_conditions_of_the_films_that_they_are_compared_with(
    network_file: Path, tmp_path: Path
) -> None:
    # Asked for what the network has learnt, films of AP, which the pool has at 32 px, were compared with PA of 64 px.
    path, discs = tmp_path / "pool", Terms("Discs", "none", "none", "none", "none")
    with PoolWriter(path, 64, 8, {"discs": discs}, b"key") as writer:
        for i in range(90):
            view, res = ("PA", 64) if i % 3 else ("AP", 32)
            record = FilmRecord(str(i), str(i), str(i), str(i), view, "F", 30.0, {"Effusion": NEGATIVE})
            writer.add("discs", record, blob(i, res, False), (res, res, 8))
    pool, known = Pool.open(path), load(network_file).info
    generator = Generator(GeneratorConfig(64, known.vocabulary.dim, 16, 16, 2, channel_base=256, channel_max=16))
    large = tmp_path / "large.safetensors"
    save_network(large, generator, replace(known, architecture=generator.config))
    for real, views in ((pool, {"PA"}), (None, {"PA", "AP"})):
        with open_fakes(str(large), 64, 64, 1.0, "cpu", real=real) as fakes:
            assert {condition.view for condition in fakes.requested} == views
