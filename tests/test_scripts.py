"""The scripts beside the package: each can be imported, which does nothing, and those with options answer --help."""

import importlib.util
import re
import runpy
import sys
from pathlib import Path

import pytest

from thiscxr.pixels import load_film, read_png_text

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
        pytest.skip(f"needs {library}: pip install 'thiscxr[dev]'")
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


def test_the_picture_of_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["grid_picture.py", "nih-64", str(tmp_path / "grid.png")])
    run(ROOT / "tools" / "grid_picture.py", "__main__")
    assert load_film(tmp_path / "grid.png").pixels.shape == (1024, 1024)
    assert "not a patient" in read_png_text(tmp_path / "grid.png")["Disclaimer"].lower()
