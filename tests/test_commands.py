"""Commands at work: what each writes and says."""

import csv
import json
import re
from pathlib import Path

import pytest

from tests.test_cli import run
from thiscxr.pixels import load_film
from thiscxr.pool import Pool
from thiscxr.reader.training import load_reader


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


def test_a_classifier_is_trained_evaluated_and_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pool: Pool
) -> None:
    reader = tmp_path / "reader.safetensors"
    code, out, err = run(
        capsys, *(f"classify train --data {pool.path} --epochs 6 --res 32 --cross-fit --out {reader}").split()
    )
    assert code == 0, err
    summary = json.loads(out)
    assert summary["auc"]["Effusion"] > 0.9
    assert (summary["films"], summary["held_out"]["films"]) == (len(pool), len(pool.indices("holdout")))
    evaluate = f"classify eval --data {pool.path} --model {reader} --cross-fit".split()
    code, out, err = run(
        capsys, *evaluate, "--json", "--gradcam", tmp_path / "cam.png", "--filters", tmp_path / "filters.png"
    )
    assert code == 0, err
    found = json.loads(out)
    for part, kept in (("holdout", summary["held_out"]), ("cross-fitted", summary)):
        assert found[part]["questions"][0]["value"] == pytest.approx(kept["auc"]["Effusion"], abs=1e-4)
    assert found["cross-fitted"]["num_films"] == len(pool)
    assert load_reader(reader)[1]["judged"] == summary, "what decides which predictions are used"
    assert "from above Effusion" in err
    assert "in the classifier's training set" not in err
    assert (tmp_path / "cam.png").is_file()
    assert (tmp_path / "filters.png").is_file()
    code, out, err = run(capsys, *evaluate, "--keep")
    assert code == 0, err
    assert json.loads(reader.with_suffix(".json").read_text())["judged"]["films"] == len(pool)
    code, out, err = run(capsys, *evaluate, "--split", "train", "--reliability")
    assert code == 0, err
    num_train = len(pool.indices("train"))
    assert f"{num_train} of these {num_train} films are of patients in the classifier's training set" in err
    assert re.search(r"Effusion +[01]\.\d{3}  \[[01]\.\d{3}, [01]\.\d{3}\]", out)
    assert "predicted probability, share with it" in out


def test_a_reader_without_folds_cannot_be_cross_fitted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, pool: Pool
) -> None:
    reader = tmp_path / "reader.safetensors"
    code, _, err = run(capsys, *f"classify train --data {pool.path} --epochs 1 --res 32 --out {reader}".split())
    assert code == 0, err
    code, _, err = run(capsys, *f"classify eval --data {pool.path} --model {reader} --cross-fit".split())
    assert code == 1
    assert re.search(r"has no folds; train one that has: thiscxr classify train --cross-fit$", err.strip())
