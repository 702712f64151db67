"""The table of measures: one row per film, reasons, pictures, percentiles, and atomic writes."""

import csv
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from thiscxr.api import phantom
from thiscxr.cli import group
from thiscxr.model.network_file import WEIGHTS
from thiscxr.phantom import SITES, draw_patient, render
from thiscxr.pixels import encode_png, save_png
from thiscxr.reader.measuring import CLIPPED, COLUMNS, NO_CHEST, measure, outlined, percentile
from thiscxr.reader.segmenter import Segmenter, find_segmenter, segment


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return find_segmenter("lungs128")[0]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frontal phantoms of several sizes, one in three channels, and what is no film of a chest."""
    folder = tmp_path_factory.mktemp("films")
    white = {"Effusion": 0.9}
    for i, res in enumerate((64, 128, 256, 512)):
        film = render(draw_patient(3_000_000 + i, severities=white if i == 3 else {}), "PA", res, site="phantom-a")
        pixels = film.pixels[..., None].repeat(3, axis=-1) if i == 1 else film.pixels
        (folder / f"chest-{res}.png").write_bytes(encode_png(pixels))
    rng = np.random.default_rng(0)
    save_png(folder / "noise.png", rng.integers(0, 256, (128, 128), dtype=np.uint8))
    save_png(folder / "blank.png", np.full((128, 128), 128, np.uint8))
    save_png(folder / "small.png", rng.integers(0, 256, (40, 40), dtype=np.uint8))
    (folder / "photo.png").write_bytes(encode_png(rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)))
    (folder / "empty.jpg").touch()
    (folder / "notes.txt").write_text("no film")
    (folder / "inside").mkdir()
    save_png(folder / "inside" / "chest.png", film.pixels)
    return folder


def rows_of(table: Path) -> dict[str, dict[str, str]]:
    with open(table, newline="", encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_every_film_has_a_row_and_every_reason_is_counted(films: Path, segmenter: Segmenter, tmp_path: Path) -> None:
    summary = measure(films, tmp_path / "m.csv", segmenter, tmp_path / "pictures")
    rows = rows_of(tmp_path / "m.csv")
    assert len(rows) == 10
    measured = {name for name, row in rows.items() if not row["reason"]}
    assert measured == {"chest-64.png", "chest-128.png", "chest-256.png", "chest-512.png", "inside/chest.png"}
    assert summary.measured == 5
    assert summary.reasons == {
        NO_CHEST: 1, "constant image": 1, "smaller than 64 px": 1, "picture in colour, not a film": 1, "empty file": 1,
    }  # fmt: skip
    assert summary.passed == {".txt file": 1}
    assert "5 of 10 films measured" in str(summary)
    for name, row in rows.items():
        values = [row[column] for column in COLUMNS]
        assert all(values) if name in measured else not any(values), name
    assert rows["chest-512.png"] == rows["inside/chest.png"] | {"file": "chest-512.png"}
    assert {path.name for path in (tmp_path / "pictures").glob("*.png")} == {
        "chest-64.png", "chest-128.png", "chest-256.png", "chest-512.png", "noise.png",
    }  # fmt: skip


def test_films_that_cannot_be_read_at_all_are_rows_too(segmenter: Segmenter, tmp_path: Path) -> None:
    """No film of the batch reaches the network, which takes none for an error."""
    folder = tmp_path / "films"
    folder.mkdir()
    for i in range(3):
        (folder / f"cut-{i}.png").write_bytes(encode_png(np.eye(99, dtype=np.uint8))[:60])
    summary = measure(folder, tmp_path / "m.csv", segmenter)
    assert (summary.measured, summary.reasons.total()) == (0, 3)
    assert all(row["reason"] for row in rows_of(tmp_path / "m.csv").values())


def test_left_and_right_are_the_patients(segmenter: Segmenter, tmp_path: Path) -> None:
    for seed, side in ((i, draw_patient(i).sides["Effusion"]) for i in range(8)):
        patient = draw_patient(seed, severities={"Effusion": 0.8})
        save_png(tmp_path / f"{side}-{seed}.png", render(patient, "PA", 128, site="phantom-a").pixels)
    measure(tmp_path, tmp_path / "m.csv", segmenter)
    rows = rows_of(tmp_path / "m.csv")
    assert {name.split("-")[0] for name in rows} == {"left", "right"}
    for name, row in rows.items():
        ill, well = ("left", "right") if name.startswith("left") else ("right", "left")
        assert float(row[f"opacity_{ill}_lower"]) > float(row[f"opacity_{well}_lower"]) + 0.2, name


def test_pools_have_views_and_laterals_are_counted(segmenter: Segmenter, tmp_path: Path) -> None:
    phantom(tmp_path / "pool", n=30, res=64)
    summary = measure(tmp_path / "pool", tmp_path / "m.csv", segmenter)
    rows = rows_of(tmp_path / "m.csv")
    assert len(rows) == 30
    laterals = [row for row in rows.values() if row["view"] == "lateral"]
    assert summary.reasons["lateral view: only frontal films are measured"] == len(laterals) > 0
    assert all(row["reason"] for row in laterals)
    assert summary.measured + summary.reasons.total() == 30


def test_samples_requested_as_laterals_are_not_measured(segmenter: Segmenter, tmp_path: Path) -> None:
    film = render(draw_patient(1, severities={}), "PA", 128, site="phantom-a").pixels
    for name in ("a.png", "b.png"):
        save_png(tmp_path / name, film)
    (tmp_path / "samples.csv").write_text("file,view\na.png,PA\nb.png,lateral\n")
    summary = measure(tmp_path, tmp_path / "m.csv", segmenter)
    assert (summary.measured, summary.reasons) == (1, {"lateral view: only frontal films are measured": 1})


def table_of(path: Path, *films: tuple[str, float]) -> Path:
    """A table of measures whose films have these views and values."""
    lines = [",".join(["file", "view", *COLUMNS, "reason"])]
    lines += [",".join([f"{i}.png", view, *[str(value)] * len(COLUMNS), ""]) for i, (view, value) in enumerate(films)]
    path.write_text("\n".join([*lines, "none.png,PA" + "," * len(COLUMNS) + ",no chest"]) + "\n")
    return path


def test_percentiles_are_among_real_films_of_the_same_view(segmenter: Segmenter, tmp_path: Path) -> None:
    """Percentiles were among all films: AP enlarges the heart, so a common heart on AP was called a large one."""
    assert percentile(2.0, np.array([1.0, 2.0, 2.0, 3.0])) == 50
    assert percentile(9.0, np.array([1.0, 2.0])) == 100
    film = render(draw_patient(1, severities={}), "PA", 128, site="phantom-a").pixels
    views = ("PA", "AP", "AP_supine", "unknown")
    for view in views:
        save_png(tmp_path / "films" / f"{view}.png", film)
    lines = "".join(f"{view}.png,{view}\n" for view in views)
    (tmp_path / "films" / "samples.csv").write_text(f"file,view\n{lines}")
    low, high = ("PA", 0.0), ("AP", 1.0)
    few = [("AP_supine", 0.0)] * 20
    summary = measure(
        tmp_path / "films", tmp_path / "m.csv", segmenter, against=table_of(tmp_path / "a.csv", *[low, high] * 60, *few)
    )
    rows = rows_of(tmp_path / "m.csv")
    for view, percent, reference in (
        ("PA", "100.0", "60 PA films"),
        ("AP", "0.0", "60 AP films"),
        ("AP_supine", "25.0", "80 AP and AP_supine films"),
        ("unknown", "57.1", "140 frontal films"),
    ):
        row = rows[f"{view}.png"]
        assert (row["ctr_percentile"], row["reference"]) == (percent, reference)
        assert all(row[f"{name}_percentile"] == percent for name in COLUMNS), view
    assert "without percentiles" not in str(summary)
    table = table_of(tmp_path / "b.csv", *[low] * 50, *[high] * 29, *few)
    summary = measure(tmp_path / "films", tmp_path / "m.csv", segmenter, against=table)
    rows = rows_of(tmp_path / "m.csv")
    assert rows["PA.png"]["ctr_percentile"] == "100.0"
    for view in ("AP", "AP_supine"):
        row = rows[f"{view}.png"]
        assert (row["ctr_percentile"], row["reference"]) == ("", "49 AP and AP_supine films, 50 are needed")
    assert "2 without percentiles: 49 AP and AP_supine films, 50 are needed" in str(summary)
    assert "4 of 4 films measured" in str(summary)


def test_percentiles_of_opacity_are_among_as_many_films_as_all_others(segmenter: Segmenter, tmp_path: Path) -> None:
    """Where most films of a view had sizes alone, opacity was placed among the few with it, or divided by zero."""
    film = render(draw_patient(1, severities={}), "PA", 128, site="phantom-a").pixels
    save_png(tmp_path / "films" / "a.png", film)
    (tmp_path / "films" / "samples.csv").write_text("file,view\na.png,PA\n")
    table = table_of(tmp_path / "a.csv", *[("PA", 0.0)] * 50, *[("AP", 0.0)] * 50)
    rows = [line.split(",") for line in table.read_text().splitlines()]
    for cells in rows[2:51]:
        cells[rows[0].index("opacity_left")] = ""
    table.write_text("\n".join(map(",".join, rows)) + "\n")
    measure(tmp_path / "films", tmp_path / "m.csv", segmenter, against=table)
    row = rows_of(tmp_path / "m.csv")["a.png"]
    assert (row["ctr_percentile"], row["reference"]) == ("100.0", "50 PA films")
    assert (row["opacity_right_percentile"], row["opacity_left_percentile"]) == ("100.0", "")


def test_percentiles_of_films_are_among_films_that_are_measured_on_the_way(
    films: Path, segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thiscxr.reader.measuring.LEAST_REFERENCE", 5)
    measure(films, tmp_path / "real.csv", segmenter)
    known = sorted(float(row["ctr"]) for row in rows_of(tmp_path / "real.csv").values() if row["ctr"])
    measure(films, tmp_path / "m.csv", segmenter, against=films)
    for row in rows_of(tmp_path / "m.csv").values():
        expected = f"{percentile(float(row['ctr']), np.array(known)):.1f}" if row["ctr"] else ""
        assert row["ctr_percentile"] == expected
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other.csv has no measures in ctr, .*expected a table that `thiscxr"):
        measure(films, tmp_path / "m.csv", segmenter, against=tmp_path / "other.csv")
    with pytest.raises(ValueError, match=r"--against .*chest-64.png cannot be read as a CSV table"):
        measure(films, tmp_path / "m.csv", segmenter, against=films / "chest-64.png")


def test_of_a_film_whose_lungs_are_cut_to_black_only_sizes_are_measured(segmenter: Segmenter, tmp_path: Path) -> None:
    film = render(draw_patient(1, severities={}), "PA", 128, site="phantom-a")
    inside = film.pixels[film.lungs > 0.5]
    for name, share in (("some", 0.2), ("most", 0.8)):
        black = float(np.quantile(inside, share))
        dark = np.clip((film.pixels - black) * 255 / (255 - black), 0, 255).astype(np.uint8)
        save_png(tmp_path / "films" / f"{name}.png", dark)
    summary = measure(tmp_path / "films", tmp_path / "m.csv", segmenter)
    some, most = (rows_of(tmp_path / "m.csv")[f"{name}.png"] for name in ("some", "most"))
    assert some["opacity_left"], some["reason"]
    assert (most["opacity_left"], most["opacity_right_upper"], most["reason"]) == ("", "", CLIPPED)
    assert most["ctr"]
    assert summary.reasons == {CLIPPED: 1}


def test_a_failure_leaves_what_was_there(
    films: Path, segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.csv").write_text("older")

    def broken(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("thiscxr.reader.measuring.segment", broken)
    with pytest.raises(OSError, match="no space left"):
        measure(films, tmp_path / "m.csv", segmenter, tmp_path / "pictures")
    assert [path.name for path in tmp_path.iterdir()] == ["m.csv"]
    assert (tmp_path / "m.csv").read_text() == "older"


def test_places_without_films_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.md").write_text("x")
    runner = CliRunner()
    for place, words in (
        ("bare", "holds no films"),
        ("text", "there are 1 x .md file"),
        ("nowhere", "is not there; expected a pool, a folder of films, or a film"),
    ):
        result = runner.invoke(group, ["measure", str(tmp_path / place), "--out", str(tmp_path / "m.csv")])
        assert words in str(result.exception), place
        assert not (tmp_path / "m.csv").exists()
    result = runner.invoke(group, ["measure", str(tmp_path), "--out", str(tmp_path)])
    assert "is a folder; give the name of a file" in str(result.exception)


def test_a_picture_is_the_film_with_outlines_in_colour() -> None:
    film, masks = np.full((128, 128), 100, np.uint8), np.zeros((2, 128, 128), np.float32)
    masks[0, 20:60, 20:50] = masks[1, 70:100, 40:80] = 1
    picture = outlined(film, masks)
    assert picture.shape == (384, 384, 3)
    assert (picture[0, 0] == 100).all(), "the film where nothing is outlined"
    assert (picture[120, 100] == 100).all(), "and within an outline"
    for row, column in ((120, 60), (250, 120)):  # on the left edges of the two
        red, green, blue = picture[row, column - 1 : column + 2].astype(int).T
        assert (np.ptp([red, green, blue], axis=0) > 0).any()


def test_the_bundled_segmenter_is_small_and_keeps_white_lung_in_the_lungs(segmenter: Segmenter) -> None:
    assert (WEIGHTS / "lungs128.safetensors").stat().st_size < 2_000_000
    assert segmenter.config.res == 128
    white = {"Effusion": 0.8}
    films = [
        render(draw_patient(9_000_000 + i, severities=white), "PA", 128, site=site) for i, site in enumerate(SITES)
    ]
    found = segment(segmenter, [np.stack([film.pixels for film in films])])[:, 0]
    true = np.stack([film.lungs for film in films])
    overlap = 2 * (found * true).sum((1, 2)) / (found.sum((1, 2)) + true.sum((1, 2)))
    assert overlap.mean() > 0.85, overlap


def test_the_command_prints_what_it_measured(films: Path, tmp_path: Path) -> None:
    table, pictures = str(tmp_path / "m.csv"), tmp_path / "pictures"
    command = ["measure", str(films / "chest-128.png"), "--out", table, "--pictures", str(pictures)]
    result = CliRunner().invoke(group, command, catch_exceptions=False)
    assert result.output.splitlines()[-1] == "1 of 1 films measured"
    assert [path.name for path in pictures.iterdir()] == ["chest-128.png"]
