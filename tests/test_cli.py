"""The command line as a user meets it: one clear line and the right exit code for every mistake, and no traceback."""

import csv
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from thiscxr import cli
from thiscxr.cli.data import SOURCES
from thiscxr.collections import COLLECTIONS
from thiscxr.pixels import load_film, save_png
from thiscxr.pool import Pool

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(cli.group.commands)


def run(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a command, in this process."""
    argv, code = sys.argv, 0
    sys.argv = ["thiscxr", *map(str, args)]
    try:
        cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = argv
    out, err = capsys.readouterr()
    return code, out, err


def noisy(res: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (res, res)).astype(np.uint8)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    for i in range(20):
        save_png(folder / f"{i:02d}.png", noisy(seed=i))
    return folder


def test_help_answers_without_torch() -> None:
    code = (
        "import sys; from thiscxr import cli; sys.argv = ['thiscxr', "
        "'--help']\ncli.main()\nassert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "not for diagnosis" in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    if command != "classify":
        assert re.search(r"Example: (thiscxr|python train_gan.py) ?", out)


def test_the_training_script_is_the_train_command() -> None:
    # it times some steps
    tiny = [word for setting in ("channel_base=64", "channel_max=8", "batch=8") for word in ("--set", setting)]
    program = [sys.executable, "train_gan.py", "--dry-run", "--res", "64", *tiny]
    result = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "res = 64" in result.stdout
    assert '"auto"' not in result.stdout.replace('pool_fingerprint = "auto"', "")


MISTAKES: dict[str, tuple[str, int, str]] = {
    "res 100": ("train --res 100", 1, r"res is 100, but must be one of .*the nearest is --res 128"),
    "unknown option": ("train --set learning_rat=1", 1, r"unknown option 'learning_rat'"),
    "unknown flag": ("train --resolution 64", 2, r"No such option.*--resolution"),
    "missing config": ("train --config plian", 1, r"no config file or preset 'plian' \(did you mean 'plain'\?\)"),
    "missing pool": ("train --data {tmp}/none", 1, r"none"),
    "empty pool": ("train --data {tmp}/empty", 1, r"empty"),
    "missing folder": ("prepare {tmp}/pool --folder {tmp}/none --res 64", 1, r"none"),
    "empty folder": ("prepare {tmp}/pool --folder {tmp}/empty --res 64", 1, r"empty"),
    "no labels": ("prepare {tmp}/pool --nih {tmp}/films --res 64", 1, r"Data_Entry_2017"),
    "label table without columns": (
        "prepare {tmp}/pool --nih {tmp}/headless --res 64", 1, r"Data_Entry_2017_v2020.csv.*Patient ID",
    ),
    "no collection": ("prepare {tmp}/pool --res 64", 2, r"no collection given"),
    "prepare res 100": ("prepare {tmp}/pool --folder {tmp}/films --res 100", 1, r"100.*128"),
    "films too small": ("prepare {tmp}/pool --folder {tmp}/films --res 128", 1, r"20"),
    "unknown model": ("sample --model nih-46 --out {tmp}/s", 1, r"no file, run folder or bundled generator 'nih-46'"),
    "not a network": ("sample --model {tmp}/films/00.png --out {tmp}/s", 1, r"is not a safetensors file"),
    "seeds disagree": ("sample -n 5 --seeds 0-3 --out {tmp}/s", 2, r"-n 5 does not agree with --seeds 0-3"),
    "bad seeds": ("sample --seeds x --out {tmp}/s", 1, r"'x' is not a seed"),
    "seed out of range": ("sample --seeds 9007199254740992 --out {tmp}/s", 1, r"seed 9007199254740992 is out of range"),
    "unlearnt finding": (
        "sample --finding Efusion --out {tmp}/s", 1, r"'Efusion' was not learnt.*did you mean 'Effusion'",
    ),
    "contradiction": (
        "sample --finding Mass --no-finding Mass --out {tmp}/s", 1, r"'Mass' is asked for and asked to be absent",
    ),
    "truncation of layers": ("sample --truncation 0.5:0-99 --out {tmp}/s", 1, r"layers 0 to 99 are not all among"),
    "truncation": ("sample --truncation 2.5 --out {tmp}/s", 1, r"truncation is 2.5, but must be between 0 and 2"),
    "dicom options": ("sample --bits 10 --out {tmp}/s", 2, r"need --format dicom"),
    "malformed png": ("sample --malformed --out {tmp}/s", 2, r"need --format dicom"),
    "malformed and compressed": (
        "sample --format dicom --malformed --compress rle --out {tmp}/s", 1, r"leave --compress out",
    ),
    "no plan": ("sample --plan {tmp}/none.csv --out {tmp}/s", 1, r"none.csv.* cannot be read as a CSV table"),
    "plan and conditions": (
        "sample --plan {tmp}/plan.csv --view PA --out {tmp}/s", 2, r"--plan says what is asked for",
    ),
    "plan that contradicts itself": (
        "sample --plan {tmp}/plan.csv --out {tmp}/s", 1, r"plan.csv line 2: finding 'Mass' is asked for and",
    ),
    "out is a file": ("sample -n 1 --out {tmp}/plan.csv", 1, r"plan.csv is a file; give a folder"),
    "out is a folder of films": ("sample -n 1 --out {tmp}/films", 1, r"holds '.*png', which is not a sample"),
    "pickled weights": ("sample -n 1 --model {tmp}/weights.pt --out {tmp}/s", 1, r"pickled weights are never loaded"),
    "score without pool": ("score --real {tmp}/none --fake {tmp}/films", 1, r"none"),
    "unknown extractor": (
        "score --real {pool} --fake {tmp}/films --extractor incption", 1, r"'incption' \(did you mean 'inception'",
    ),
    "classify without pool": ("classify eval --data {tmp}/none", 1, r"none does not exist"),
    "unknown reader": (
        "classify eval --data {pool} --model thiscxr46", 1, r"'thiscxr46' \(did you mean 'thiscxr64'\?\)",
    ),
    "matrix of one source": (
        "classify matrix --data {pool}", 1, r"films of discs alone; a matrix needs two sources or more",
    ),
    "pretrained small one": (
        "classify train --data {pool} --pretrained {tmp}/films/00.png --out {tmp}/r", 1,
        r"is for --backbone densenet121",
    ),
    "pretrained by nothing": (
        "classify train --data {pool} --backbone densenet121 --pretrained {tmp}/x.pth --out {tmp}/r", 1,
        r"x.pth does not hold the weights",
    ),
    "walk to nowhere": (
        "walk --seeds 1 --out {tmp}/w.webp", 1, r"needs two films or more, and has 1; name them, such as --seeds 1,2,5",
    ),
    "walk of too few": ("walk --seeds 1-9 --frames 4 --out {tmp}/w.webp", 1, r"4 frames are too few to pass 9 films"),
    "walk from a film": (
        "walk --from {tmp}/films/00.png --seeds 1 --out {tmp}/w.webp", 1, r"00.png is not a safetensors file",
    ),
    "walk of two kinds": (
        "walk --seeds 1,2 --format gif --out {tmp}/w.webp", 2, r"--format gif does not agree with --out .*w.webp",
    ),
    "walk of an unknown kind": ("walk --seeds 1,2 --out {tmp}/w.bmp", 2, r"w.bmp ends in none of .*\.webp"),
    "mix of a word": ("mix --rows x --columns 1 --out {tmp}/m.png", 1, r"--rows x: 'x' is not a seed"),
    "card of a folder": (
        "card --model nih-64 --scores {tmp} --out {tmp}/c.md", 1, r"cannot be read \(Is a directory\); expected",
    ),
    "mix of all layers": ("mix --rows 0 --columns 1 --layers 0- --out {tmp}/m.png", 1, r"all layers of this network"),
    "mix of no layer": (
        "mix --rows 0 --columns 1 --layers 99 --out {tmp}/m.png", 1, r"not all among this network's 0 to 7",
    ),
    "pairs without laterals": (
        "sample --pairs --out {tmp}/s", 1, r"view 'lateral' was not learnt by this network; it knows: AP",
    ),
    "pairs in shards": ("sample --pairs --format npz --out {tmp}/s", 2, r"--pairs are single films"),
    "series that nobody can check": (
        "series --finding Effusion --out {tmp}/s", 1, r"thiscxr64 reads Effusion with AUC 0.698",
    ),
    "series of a typo": ("series --finding Efusion --out {tmp}/s", 1, r"did you mean 'Effusion'"),
    "project no film": (
        "project {tmp}/plan.csv --out {tmp}/p", 1, r"plan.csv: not a PNG, JPEG, TIFF, BMP, WebP or DICOM file",
    ),
    "project nothing": ("project --out {tmp}/p", 2, r"Missing argument"),
    "site without samples": ("site --samples {tmp}/films --out {tmp}/site", 1, r"samples.csv"),
    "site of nothing": ("site --out {tmp}/site", 2, r"give --samples, --model, or both"),
    "site of an unknown model": ("site --model nih-46 --out {tmp}/site", 1, r"did you mean 'nih-64'"),
    "site of no network": ("site --model {tmp}/films/00.png --out {tmp}/site", 1, r"is not a safetensors file"),
    "export to a folder": ("export --onnx {tmp}/empty", 1, r"is a folder; give the name of a file"),
    "export of an unknown model": ("export --model nih-46 --onnx {tmp}/x.onnx", 1, r"did you mean 'nih-64'"),
    "serve nothing": ("serve {tmp}/empty", 1, r"index.html"),
    "verify nothing": ("verify {tmp}/empty", 1, r"empty"),
    "describe nothing": ("describe", 2, r"give either a pool or collections"),
    "phantom layout": ("phantom {tmp}/p --layout nhi", 1, r"nhi.*did you mean 'nih'"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_get_one_line_and_leave_nothing(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    films: Path,
    pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "headless").mkdir()
    (tmp_path / "headless" / "Data_Entry_2017_v2020.csv").write_text("Image Index,Finding Labels\n0.png,Mass\n")
    save_png(tmp_path / "headless" / "0.png", noisy())
    (tmp_path / "plan.csv").write_text("findings,no_findings,n\nMass,Mass,3\n")
    (tmp_path / "weights.pt").write_bytes(pickle.dumps({"w": [0.0]}))
    before = sorted(tmp_path.rglob("*"))
    command, expected_code, message = MISTAKES[name]
    code, out, err = run(capsys, *command.format(tmp=tmp_path, pool=pool.path).split())
    assert code == expected_code, err
    assert out == ""
    assert re.search(message, err), err
    assert "Traceback" not in err
    if code == 1:
        assert len([line for line in err.splitlines() if line.startswith("error:")]) == 1
    assert sorted(tmp_path.rglob("*")) == before, "nothing half-written may be left behind"


# What each command writes, by its option or argument; the work would take minutes, and none of what it needs is there.
WRITES = {
    "card out": "card --model x --scores x --out {place}",
    "classify eval filters": "classify eval --data x --filters {place}",
    "classify eval gradcam": "classify eval --data x --gradcam {place}",
    "classify train out": "classify train --data x --out {place}",
    "describe html": "describe x --html {place}",
    "direction out": "direction --view PA --out {place}",
    "export onnx": "export --model x --onnx {place}",
    "label out": "label x --out {place}",
    "mix out": "mix --rows 0 --columns 1 --model x --out {place}.png",
    "phantom out": "phantom {place}",
    "prepare pool": "prepare {place} --nih x --res 64",
    "project out": "project x --model x --out {place}",
    "sample out": "sample --model x --out {place}",
    "score html": "score --real x --fake x --html {place}",
    "score out": "score --real x --fake x --out {place}",
    "series out": "series --finding Mass --model x --out {place}",
    "site out": "site --samples x --out {place}",
    "walk out": "walk --seeds 1,2 --model x --format frames --out {place}",
}  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("place", ["in a file", "closed", "of the other kind"])
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "closed").mkdir()
    folder = name in (
        "direction out",
        "phantom out",
        "prepare pool",
        "project out",
        "sample out",
        "series out",
        "site out",
        "walk out",
    )
    where = {"in a file": "file/deeper/x", "closed": "closed/x", "of the other kind": "file" if folder else "closed"}[
        place
    ]
    if name == "mix out" and place == "of the other kind":
        (tmp_path / "closed.png").mkdir()
    touch = Path.touch

    def closed(path: Path, *args: object, **options: object) -> None:
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied")
        touch(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "touch", closed)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(capsys, *WRITES[name].format(place=where).split())
    said = {
        "in a file": r"/file is a file; choose another",
        "closed": r"cannot be written \(Permission denied\); choose another",
    }
    assert re.search(
        said.get(place, "is a file; give a folder" if folder else "is a folder; give the name of a file"), err
    ), err
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert sorted(tmp_path.rglob("*")) == before


def test_every_option_that_is_written_is_asked_for_before_the_work() -> None:
    def writes(prefix: str, command: object) -> list[str]:
        if isinstance(command, click.Group):
            return [each for name, inner in command.commands.items() for each in writes(f"{prefix}{name} ", inner)]
        assert isinstance(command, click.Command)
        return [
            f"{prefix}{option.name}"
            for option in command.params
            if option.name in ("out", "html", "onnx", "gradcam", "filters")
        ]

    found = {*writes("", cli.group), "prepare pool"}
    assert found == {*WRITES, "train out"}  # of a training it is an option of the config: see below


def test_training_asks_for_its_folder_before_it_makes_films(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr("thiscxr.cli.training.phantom_pool", lambda *_, **__: pytest.fail("it began to work"))
    code, out, err = run(capsys, "train", "--out", tmp_path / "file" / "runs", "--device", "cpu")
    assert (code, out) == (1, "")
    assert re.search(r"runs/run cannot be written, for .*/file is a file", err), err


def test_a_key_beside_which_nothing_can_be_written_is_told_before_the_films_are_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, films: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "key").write_text("0123456789abcdef0123456789abcdef")
    real = os.open
    monkeypatch.setattr(
        Path, "touch", lambda path, *_, **__: real("/dev/null/x", os.O_CREAT) if "keys" in str(path) else None
    )
    monkeypatch.setattr("thiscxr.pool.prepare.wanted_films", lambda *_: pytest.fail("it began to work"))
    monkeypatch.setattr("thiscxr.cli.options.check_place", lambda *_: None)
    code, _, err = run(
        capsys, "prepare", tmp_path / "pool", "--folder", films, "--res", "32", "--key-file", tmp_path / "keys" / "key"
    )
    assert code == 1
    assert re.search(r"keys/key.map cannot be written \(Not a directory\)", err), err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run(capsys, "verify", tmp_path, "--debug")
    assert code == 1
    assert "Traceback" in err


def test_single_bad_films_are_rejected_and_the_rest_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, films: Path
) -> None:
    whole = (films / "00.png").read_bytes()
    (films / "00.png").write_bytes(whole[: len(whole) // 2])
    (films / "01.png").write_text("this is not a film")
    code, out, err = run(capsys, "prepare", tmp_path / "pool", "--folder", films, "--res", 64)
    assert code == 0, err
    with open(tmp_path / "pool" / "rejected.csv", newline="") as file:
        assert len(list(csv.reader(file))) == 3
    assert Pool.open(tmp_path / "pool").num_films == 18
    assert run(capsys, "verify", tmp_path / "pool")[0] == 0
    code, out, _ = run(capsys, "describe", tmp_path / "pool", "--json")
    assert code == 0
    assert json.loads(out)


def test_a_flipped_byte_is_found(capsys: pytest.CaptureFixture[str], tmp_path: Path, films: Path) -> None:
    run(capsys, "prepare", tmp_path / "pool", "--folder", films, "--res", 64)
    shard = tmp_path / "pool" / "pixels-00000.npy"
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    code, _, err = run(capsys, "verify", tmp_path / "pool")
    assert code == 1
    assert "problem" in err


def test_a_pool_of_another_resolution_is_refused_by_train(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pool: Pool
) -> None:
    code, _, err = run(capsys, "train", "--data", pool.path, "--res", 64, "--out", tmp_path / "runs")
    assert code == 1
    assert "holds films of 32 px, but --res is 64" in err


def test_every_collection_has_its_flag() -> None:
    assert tuple(SOURCES) == tuple(COLLECTIONS)


def test_a_release_is_described_as_text_json_and_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run(capsys, "phantom", tmp_path / "release", "-n", 12, "--res", 32, "--layout", "chexpert", "--defects", 0.2)
    code, out, _ = run(
        capsys, "describe", "--chexpert", tmp_path / "release", "--labels-only", "--html", tmp_path / "page.html"
    )
    assert code == 0
    assert "chexpert" in out
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    code, out, _ = run(capsys, "describe", "--chexpert", tmp_path / "release", "--json")
    assert json.loads(out)["sources"]["chexpert"]["released"]["films"] == 12


def test_doctor_and_models(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    facts = json.loads(out)
    assert facts["weights"]
    assert all(state.startswith("whole") for state in facts["weights"].values()), facts["weights"]
    code, out, _ = run(capsys, "models")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} == set(facts["weights"])


def test_formats_and_plans_from_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plan = tmp_path / "plan.csv"
    plan.write_text("view,findings,n\nPA,Mass,1\nAP,,1\n")
    commands = {
        "dicom": "-n 2 --format dicom --dicom-class dx --bits 16 --photometric MONOCHROME1 --compress rle --no-mark",
        "png16": "--seeds 4,9 --format png16 --truncation 0.5:0-3",
        "plan": f"--plan {plan} --seeds 4,9 --format wds",
        "broken": "--seeds 7 --format dicom --malformed",
    }
    for name, command in commands.items():
        code, out, err = run(capsys, "sample", *command.split(), "--out", tmp_path / name)
        assert (code, out) == (0, f"{tmp_path / name}\n"), err
    assert load_film(tmp_path / "dicom" / "seed-00000001.dcm").inverted
    assert load_film(tmp_path / "png16" / "seed-00000009.png").native_bits == 16
    with open(tmp_path / "plan" / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["view"], row["Mass"]) for row in rows] == [("4", "PA", "1"), ("9", "AP", "")]
    assert (tmp_path / "broken" / "malformed.csv").is_file()
    code, _, err = run(capsys, "site", "--samples", tmp_path / "dicom", "--out", tmp_path / "site")
    assert code == 1
    assert "sample again with --format png" in err


def test_the_latent_tools_from_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    commands = {
        "walk.gif": "walk --seeds 1,2 --frames 4 --view PA --loop --out {}",
        "frames": "walk --seeds 1,2 --frames 3 --format frames --out {}",
        "mix.png": "mix --rows 0-1 --columns 2 --layers 0-3 --view PA --truncation 0.8 --out {}",
    }
    for name, command in commands.items():
        code, out, err = run(capsys, *command.format(tmp_path / name).split())
        assert (code, out) == (0, f"{tmp_path / name}\n"), err
    film = tmp_path / "frames" / "frame-00001.png"
    code, out, err = run(
        capsys, "project", film, "--steps", 3, "--candidates", 16, "--json", "--out", tmp_path / "projections"
    )
    assert code == 0, err
    (report,) = json.loads(out)
    assert (report["film"], report["real"]) == ("frame-00001", False)
    walk = (
        f"walk --from {tmp_path}/projections/frame-00001.safetensors --seeds 3 "
        f"--frames 2 --format frames --out {tmp_path}/on"
    )
    assert run(capsys, *walk.split())[0] == 0


def test_extractors_are_listed_and_imported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "extractors")
    assert code == 0
    assert re.search(r"thiscxr64 +128 +64 .*thiscxr64.safetensors", out)
    assert re.search(r"inception +2048 +299 +6726825d0af5f729 +Apache-2.0 +not here: https://", out)
    code, out, _ = run(capsys, "extractors", "--json")
    assert {entry["name"] for entry in json.loads(out)} >= {"thiscxr64", "inception", "rad-dino", "xrv-densenet121-all"}
    code, out, _ = run(capsys, "doctor")
    assert json.loads(out)["extractors"]["inception"] == "not here"
    (tmp_path / "x.pth").write_bytes(b"no weights")
    code, out, err = run(capsys, "extractors", "import", tmp_path / "x.pth", "--name", "inception")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"error: .*x.pth has SHA-256 .* get it again from https://\S+\n", err)
    code, _, err = run(capsys, "extractors", "import")
    assert code == 2
    assert "--name NAME with --allow-download" in err


def test_a_reader_is_trained_judged_and_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path, pool: Pool) -> None:
    reader = tmp_path / "reader.safetensors"
    code, out, err = run(
        capsys, *(f"classify train --data {pool.path} --epochs 6 --res 32 --cross-fit --out {reader}").split()
    )
    assert code == 0, err
    judged = json.loads(out)
    assert judged["auc"]["Effusion"] > 0.9
    evaluate = f"classify eval --data {pool.path} --model {reader} --cross-fit".split()
    code, out, err = run(
        capsys, *evaluate, "--json", "--gradcam", tmp_path / "cam.png", "--filters", tmp_path / "filters.png"
    )
    assert code == 0, err
    found = json.loads(out)
    assert found["holdout"]["questions"][0]["value"] == pytest.approx(judged["auc"]["Effusion"], abs=1e-4)
    assert found["cross-fitted"]["num_films"] == len(pool)
    assert "from above Effusion" in err
    assert "patients whom the reader knows" not in err
    assert (tmp_path / "cam.png").is_file()
    assert (tmp_path / "filters.png").is_file()
    code, out, err = run(capsys, *evaluate, "--split", "train", "--reliability")
    assert code == 0, err
    num_train = len(pool.indices("train"))
    assert f"{num_train} of these {num_train} films are of patients whom the reader knows" in err
    assert re.search(r"Effusion +[01]\.\d{3}  \[[01]\.\d{3}, [01]\.\d{3}\]", out)
    assert "probability told, share seen" in out


def test_a_reader_without_folds_cannot_be_cross_fitted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pool: Pool
) -> None:
    reader = tmp_path / "reader.safetensors"
    code, _, err = run(capsys, *f"classify train --data {pool.path} --epochs 1 --res 32 --out {reader}".split())
    assert code == 0, err
    code, _, err = run(capsys, *f"classify eval --data {pool.path} --model {reader} --cross-fit".split())
    assert code == 1
    assert re.search(r"has no folds; train one that has: thiscxr classify train --cross-fit$", err.strip())
