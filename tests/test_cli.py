"""The command line as a user meets it: one clear line and the right exit code for every mistake, and no traceback."""

import csv
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from thiscxr import cli
from thiscxr.collections import COLLECTIONS
from thiscxr.pixels import save_png
from thiscxr.pool import Pool
from thiscxr.terms import collections

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
    "res 100": ("train --res 100", 1, r"--res 100 is not a power of two from 32 to 1024; the nearest is 128"),
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
        "sample --finding Mass --no-finding Mass --out {tmp}/s", 1, r"'Mass' is requested both present and absent",
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
        "sample --plan {tmp}/plan.csv --view PA --out {tmp}/s", 2, r"--plan says what is requested",
    ),
    "plan that contradicts itself": (
        "sample --plan {tmp}/plan.csv --out {tmp}/s", 1, r"plan.csv line 2: finding 'Mass' is requested both",
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
        "series --finding Effusion --out {tmp}/s", 1, r"thiscxr64 predicts Effusion with AUC 0.698",
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


def test_a_key_beside_which_nothing_can_be_written_is_reported_before_the_films_are_read(
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


def test_single_bad_films_are_rejected_and_the_rest_continues(
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
    assert tuple(collections()) == tuple(COLLECTIONS)
