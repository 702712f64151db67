"""Places that commands write to are tried before the work, and refused in one line."""

import re
from pathlib import Path

import click
import pytest

from tests.test_cli import run
from thiscxr import cli

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
    "measure out": "measure x --out {place}",
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
def test_a_place_that_cannot_be_written_is_reported_before_the_work(
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
