"""The scripts beside the package: each can be imported, which does nothing, and those with options answer --help."""

import importlib.util
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [path for folder in ("tools", "benchmarks", "docs") for path in sorted((ROOT / folder).glob("*.py"))]
WITH_OPTIONS = [path for path in SCRIPTS if "argparse" in path.read_text()]
# of the extra dev; the others need none
LIBRARIES = {"icons.py": "playwright", "browser_rate.py": "playwright", "pages.py": "mkdocs"}
HOOK = "pages.py"  # which mkdocs calls


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when it is started, a script finds those that lie beside it, and leaves this process as it was."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def run(path: Path, name: str) -> None:
    library = LIBRARIES.get(path.name)
    if library is not None and importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}: pip install 'thiscxr[oracles]'")
    sys.path.insert(0, str(path.parent))
    runpy.run_path(str(path), run_name=name)


def test_there_are_scripts() -> None:
    assert {path.parent.name for path in SCRIPTS} == {"tools", "benchmarks", "docs"}
    assert len(WITH_OPTIONS) > 15


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_can_be_imported_and_does_nothing_then(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    run(path, "imported")
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []
    assert path.name == HOOK or re.search(r'^if __name__ == "__main__":$', path.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("path", WITH_OPTIONS, ids=lambda path: path.name)
def test_a_script_answers_help(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as end:
        run(path, "__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {path.name}")
    assert list(tmp_path.iterdir()) == []


def test_the_demo_prints_distance_and_grid_before_and_after(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(name: str, distance: float, *grids: float) -> str:
        common = {"ci95": [0.0, 0.0], "floor": 1.5, "group": ""}
        records = [{**common, "measure": "fd", "value": distance, "ci95": [distance - 1, distance + 1]}]
        records += [{**common, "measure": "fd", "value": 99.0, "group": "view PA"}]
        records += [{**common, "measure": "grid", "value": grid, "ci95": [grid - 0.1, grid + 0.1]} for grid in grids]
        (tmp_path / name).write_text(json.dumps({"format_version": 2, "records": records}))
        return str(tmp_path / name)

    before, after = written("before.json", 4.0, 0.1, 0.5, -1.0), written("after.json", 4.5, 0.1, 0.2, 0.9)
    for arguments in ([after], [after, "--before", before], [before, "--before", after]):
        monkeypatch.setattr(sys, "argv", ["demo_scores.py", *arguments])
        run(ROOT / "tools" / "demo_scores.py", "__main__")
    assert capsys.readouterr().out.splitlines() == [
        "distance to real films: 4.50; between real films 1.50",
        "grid at its worst, dB above real films: 0.90; between real films 1.50",
        "distance to real films: 4.00 before and 4.50 after training, not shown to be worse; between real films 1.50",
        "grid at its worst, dB above real films: 0.50 before and 0.90 after training, worse; between real films 1.50",
        "distance to real films: 4.50 before and 4.00 after training, no worse; between real films 1.50",
        "grid at its worst, dB above real films: 0.90 before and 0.50 after training, no worse; "
        "between real films 1.50",
    ]
