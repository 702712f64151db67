"""Projection: what the network generated is recovered, what only one film has is lost and named, and a likeness of a
real film is marked as one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from thiscxr.labels import FilmRecord, Terms
from thiscxr.latent.lost import lost
from thiscxr.latent.projected import KEEP, project_films, projection_table, write_projections
from thiscxr.latent.projection import draw_candidates, load_projection, project
from thiscxr.latent.walk import projected_stop
from thiscxr.model.conditions import Condition
from thiscxr.pixels import images_to_pixels, load_film, pixels_to_images, read_png_text, save_png
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.reader.extractors import Extractor, load_extractor
from thiscxr.sample.dicom import DicomOptions, dicom_format
from thiscxr.sample.sampling import Network, load
from thiscxr.sample.writing import write_samples

NIH_64 = Path(__file__).parents[3] / "shared" / "data" / "nih-64"


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return load_extractor("thiscxr64")


def cable(film: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the film with a bright line down its middle, one pixel wide, and where it is."""
    side = len(film)
    rows = np.arange(side // 4, 3 * side // 4)
    where = np.zeros_like(film, bool)
    where[rows, side // 2 + (rows - side // 2) // 4] = True
    return np.where(where, 255, film).astype(np.uint8), where


def inside(piece: object, where: np.ndarray) -> float:
    """Return the share of a line that lies in the box of a piece."""
    box = np.zeros_like(where)
    box[piece.top : piece.bottom, piece.left : piece.right] = True  # type: ignore[attr-defined]
    return float((where & box).sum() / where.sum())


def test_a_film_of_the_network_comes_back_and_a_cable_does_not(trained: Network, extractor: Extractor) -> None:
    own = trained.sample([1001, 1002], view="PA", no_findings=["Effusion"])
    planted, where = cable(own[0])
    images = torch.from_numpy(pixels_to_images(np.stack([*own, planted])))[:, None]
    candidates = draw_candidates(trained, 100, Condition("PA"))
    found = project(trained, images, candidates, extractor.reader.block_maps, 70)
    for each in found[:2]:
        assert each.distance < 0.25 * each.nearest, "far nearer than the nearest of a hundred"
        assert each.ws.shape == (trained.generator.config.num_ws, trained.generator.config.w_dim)
        assert (each.ws == each.ws[0]).all(), "one w for all layers"
    drawn = [images_to_pixels(each.image[0].numpy()) for each in found]
    assert np.abs(drawn[0].astype(int) - own[0]).mean() < 10
    gone, kept = lost(planted, drawn[2]), lost(own[0], drawn[0])
    assert gone.brightest is not None
    assert inside(gone.brightest, where) > 0.9, "the cable is what was lost"
    assert gone.brightest.mean > 40
    assert gone.share > 2 * kept.share
    assert kept.brightest is None or inside(kept.brightest, where) < 0.5


@pytest.mark.slow
def test_more_room_brings_it_nearer(trained: Network, extractor: Extractor) -> None:
    images = torch.from_numpy(pixels_to_images(cable(trained.sample([7], view="PA")[0])[0][None]))[:, None]
    candidates = draw_candidates(trained, 50, Condition("PA"))
    perceive = extractor.reader.block_maps
    w, few, plus = (project(trained, images, candidates, perceive, *how)[0] for how in ((60,), (2,), (60, "w+")))
    assert plus.distance < w.distance < few.distance
    assert (plus.ws[0] != plus.ws[-1]).any()
    with pytest.raises(ValueError, match=r"space 'z' is not one of w, w\+"):
        project(trained, images, candidates, perceive, 1, "z")


@pytest.fixture
def bodies(trained: Network, tmp_path: Path) -> Pool:
    """A pool of forty films of twenty patients, as if they were real."""
    terms = Terms(title="Bodies", terms="none", citation="none", url="none", acknowledgement="none")
    with PoolWriter(tmp_path / "bodies", 32, 8, {"discs": terms}, b"key") as writer:
        for i, film in enumerate(trained.sample(range(500, 540), view="PA")):
            writer.add(
                "discs", FilmRecord(str(i), str(i), str(i // 2), str(i // 2), "PA", "F", 40.0, {}), film, (32, 32, 8)
            )
    return Pool.open(tmp_path / "bodies")


def test_the_report_and_its_files(
    trained: Network,
    extractor: Extractor,
    bodies: Pool,
    trained_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, ours = tmp_path / "patient.png", tmp_path / "samples"
    save_png(real, bodies.read(np.array([6]))[0])
    write_samples(trained, [9], [Condition("PA")], 1.0, ours)
    found = project_films([real, ours / "seed-00000009.png"], trained, extractor, bodies, 30, "w", 32)
    assert [each.real for each in found] == [True, False]
    for each in found:
        assert each.near["mae"] < each.random["mae"]["nearest"] < each.random["mae"]["median"]
        assert each.near["features"] < each.random["features"]["nearest"]
        assert each.others is not None
        assert each.others["mae"]["nearest"] > 0.5, (
            "the film itself and its patient's other one are not among the others"
        )
    assert "patient (real)" in projection_table(found)
    out = tmp_path / "out"
    write_projections(out, found, trained, extractor)
    assert {path.name for path in out.iterdir()} == {
        "patient.png", "patient.safetensors", "seed-00000009.png", "seed-00000009.safetensors", "projections.json",
    }  # fmt: skip
    assert read_png_text(out / "patient.png")["Disclaimer"] == KEEP
    assert "not a patient" in read_png_text(out / "seed-00000009.png")["Disclaimer"]
    facts = json.loads((out / "projections.json").read_text())
    assert facts["films"][0]["lost"]["share"] == found[0].lost.share
    ws, name, was_real = load_projection(out / "patient.safetensors", trained)
    assert (name, was_real) == ("patient", True)
    torch.testing.assert_close(ws, found[0].projection.ws)
    assert projected_stop(out / "patient.safetensors", trained).real
    with pytest.raises(ValueError, match="was found in another network than nih-64"):
        load_projection(out / "patient.safetensors", load("nih-64"))
    with pytest.raises(ValueError, match="is not a thiscxr projection"):
        load_projection(trained_file, trained)
    monkeypatch.setitem(trained.info.sources, "mimic-cxr", {"title": "MIMIC-CXR"})
    write_projections(tmp_path / "restricted", found, trained, extractor)
    assert "MIMIC-CXR" in json.loads((tmp_path / "restricted" / "projections.json").read_text())["restriction"]
    assert "MIMIC-CXR" in read_png_text(tmp_path / "restricted" / "patient.png")["Restriction"]
    with safe_open(tmp_path / "restricted" / "patient.safetensors", framework="pt") as file:
        assert "MIMIC-CXR" in json.loads(file.metadata()["thiscxr"])["restriction"]


def test_what_says_that_it_is_synthetic_is_believed_and_nothing_else(trained: Network, tmp_path: Path) -> None:
    for form in (None, dicom_format(DicomOptions())):
        out = tmp_path / str(form is None)
        write_samples(trained, [0], [Condition("PA")], 1.0, out, *([form] if form else []))
        (film,) = out.glob("seed-*")
        assert load_film(film).marked == "synthetic"
    save_png(tmp_path / "plain.png", load_film(tmp_path / "True" / "seed-00000000.png").pixels)
    assert load_film(tmp_path / "plain.png").marked == ""


def test_films_that_cannot_be_projected_are_named(
    trained: Network, extractor: Extractor, pool: Pool, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no film")
    save_png(tmp_path / "small.png", np.arange(256, dtype=np.uint8).reshape(16, 16))
    save_png(tmp_path / "x.png", cable(trained.sample([0], view="PA")[0])[0])
    for paths, message in (
        (["text.png"], "text.png: not a PNG, JPEG, TIFF, BMP, WebP or DICOM file"),
        (["small.png"], "small.png: short side 16 px is below the resolution 32"),
        (["x.png", "x.png"], "two films have one name"),
    ):
        with pytest.raises(ValueError, match=message):
            project_films([tmp_path / name for name in paths], trained, extractor, None, 1, "w", 16)
    with pytest.raises(ValueError, match="holds films of 32 px, but the network generates 64 px"):
        project_films([tmp_path / "x.png"], load("nih-64"), extractor, pool, 1, "w", 16)


@pytest.mark.slow
def test_a_real_film_with_a_planted_cable_loses_it(extractor: Extractor) -> None:
    if not NIH_64.is_dir():
        pytest.skip(f"the real films are not here ({NIH_64})")
    film = load_film(sorted((NIH_64 / "images").iterdir())[5]).pixels
    planted, where = cable(film)
    network = load("nih-64")
    images = torch.from_numpy(pixels_to_images(np.stack([film, planted])))[:, None]
    found = project(network, images, draw_candidates(network, 200, Condition()), extractor.reader.block_maps, 150)
    plain, gone = (
        lost(one, images_to_pixels(each.image[0].numpy())) for one, each in zip((film, planted), found, strict=True)
    )
    assert gone.brightest is not None
    assert inside(gone.brightest, where) > 0.8
    assert plain.brightest is None or inside(plain.brightest, where) < 0.5
    assert gone.share > plain.share
