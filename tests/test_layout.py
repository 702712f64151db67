"""The house keeps its shape: arrows point one way, heavy imports stay where they belong, files stay readable."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "thiscxr"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))
}

# The rooms from the ground up: a room imports only itself and what is above it. The first seven, and api, are single
# modules.
ROOMS = (
    "files", "config", "labels", "words", "terms", "marks", "parallel",
    "pixels", "collections", "pool", "model", "sample", "train", "measures", "reader",
    "score", "phantom", "latent", "report", "gallery", "api", "cli",
)  # fmt: skip
# Modules that import less of ours than their room may: programs of their own, and what many must be able to ask.
LESS: dict[str, tuple[str, ...]] = {
    "thiscxr.pixels.gdcm_frame": (),
    "thiscxr.reader.unpickle": (),
    "thiscxr.train.losses": (),
    "thiscxr.train.draws": (),
    "thiscxr.report.words": ("thiscxr.score.records",),
    "thiscxr.report.verdict": ("thiscxr.score.records", "thiscxr.report.words"),
    "thiscxr.score.records": ("thiscxr.files", "thiscxr.measures.measured"),
}


def room(module: str) -> str:
    return module.split(".")[1]


def under(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


@cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Return (module, inside a function) of every import."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        for child in ast.iter_child_nodes(node):
            child.parent = node  # type: ignore[attr-defined]
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        up, inside = node, False
        while hasattr(up, "parent"):
            up = up.parent
            inside = inside or isinstance(up, ast.FunctionDef)
        found += [(name, inside) for name in names]
    return found


def test_every_room_is_in_the_table() -> None:
    assert {room(module) for module in MODULES} - {"__init__", "__main__"} == set(ROOMS)


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_one_way(module: str) -> None:
    name = module.removesuffix(".__init__")
    for target, inside in imports(MODULES[module]):
        if (
            target.startswith("thiscxr.")
            and target not in ("thiscxr.__version__", "thiscxr.CallableRoom")
            and room(module) in ROOMS
        ):
            known = target if target in MODULES or f"{target}.__init__" in MODULES else target.rpartition(".")[0]
            assert ROOMS.index(room(known)) <= ROOMS.index(room(module)), (
                f"{module} must not import {target}: its room lies below"
            )
            assert under(known, LESS.get(name, ("thiscxr",))), f"{module} must not import {target}"
        if inside:
            optional = target in ("av", "fcntl", "distributed.Client") or target.startswith(
                ("transformers.", "matplotlib.")
            )
            assert under(name, ("thiscxr.cli",)) or optional, f"{module} imports {target} inside a function"
        if target.split(".")[0] in ("PIL", "pydicom"):
            # of the phantom's releases, and of samples
            writers = ("thiscxr.phantom.releases.encode", "thiscxr.phantom.releases.dicom", "thiscxr.sample.dicom")
            allowed_here = name.startswith("thiscxr.pixels") or name in writers
            assert allowed_here, f"{module} must leave {target} to the room of pixels"


def test_no_cycles() -> None:
    edges = {
        module.removesuffix(".__init__"): {
            known
            for target, inside in imports(path)
            for known in (target, target.rpartition(".")[0])
            if not inside and known in MODULES and known != module
        }
        for module, path in MODULES.items()
    }
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"cycle: {' -> '.join((*path, module))}"
        if module not in done:
            for target in edges.get(module, ()):
                walk(target, (*path, module))
            done.add(module)

    for module in edges:
        walk(module, ())


LIGHT = [
    "thiscxr",
    "thiscxr.config",
    "thiscxr.cli",
    "thiscxr.collections",
    "thiscxr.pool.prepare",
    "thiscxr.gallery.site",
]


@pytest.mark.parametrize("module", LIGHT)
def test_these_import_without_torch_or_matplotlib_and_without_noise(module: str) -> None:
    code = f"import sys, {module}; assert not {{'torch', 'matplotlib'}} & set(sys.modules), 'they were imported'"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_no_file_is_longer_than_a_reader_wants() -> None:
    long = {module: count for module, path in MODULES.items() if (count := len(path.read_text().splitlines())) > 400}
    assert not long
    assert not {path.name for path in MODULES.values()} & {"utils.py", "helpers.py", "misc.py", "common.py"}
