"""The house keeps its shape: arrows point one way, heavy imports stay where they belong, files stay readable."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "thiscxr"
MODULES = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}

# What a room may import of ours (prefixes); its own room is always allowed. First match wins.
ALLOWED = {
    "thiscxr.files": (),
    "thiscxr.config": ("thiscxr.files",),
    "thiscxr.data.labels": (),
    "thiscxr.data.pixels.gdcm_frame": (),  # a program of its own
    "thiscxr.data.words": ("thiscxr.data.labels",),
    "thiscxr.data.pixels": ("thiscxr.files", "thiscxr.data.labels", "thiscxr.data.marks", "thiscxr.data.words", "thiscxr.data.pixels"),
    "thiscxr.data.sentinel": ("thiscxr.data.pixels",),
    "thiscxr.data.marks": ("thiscxr.__version__",),
    "thiscxr.data.terms": (),
    "thiscxr.data": ("thiscxr.files", "thiscxr.data"),
    "thiscxr.model": ("thiscxr.files", "thiscxr.data.labels", "thiscxr.model"),
    "thiscxr.train.losses": (),
    "thiscxr.train.draws": (),
    "thiscxr.train.augment": ("thiscxr.train.draws",),
    "thiscxr.train.growth": ("thiscxr.config",),
    "thiscxr.train.runs": ("thiscxr.files", "thiscxr.config"),
    "thiscxr.train.conditions": ("thiscxr.data", "thiscxr.model"),
    "thiscxr.train": ("thiscxr.files", "thiscxr.config", "thiscxr.data", "thiscxr.model", "thiscxr.sample", "thiscxr.train"),
    "thiscxr.sample": ("thiscxr.files", "thiscxr.data", "thiscxr.model", "thiscxr.sample"),
    "thiscxr.score.unpickle": (),  # a program of its own
    "thiscxr.score": (
        "thiscxr.files", "thiscxr.data", "thiscxr.model", "thiscxr.sample", "thiscxr.train.conditions",
        "thiscxr.train.draws", "thiscxr.train.fitting", "thiscxr.train.reader", "thiscxr.train.segmenter", "thiscxr.score",
    ),
    "thiscxr.gallery.study": ("thiscxr.data", "thiscxr.gallery"),  # real films of a pool, and phantoms
    "thiscxr.gallery": (
        "thiscxr.files", "thiscxr.data.labels", "thiscxr.data.marks", "thiscxr.data.pixels", "thiscxr.data.terms", "thiscxr.score.verdict",
        "thiscxr.gallery",
    ),
    "thiscxr.cli": ("thiscxr",),
    "thiscxr.__main__": ("thiscxr.cli",),
    "thiscxr": ("thiscxr.sample.sampling",),  # the lazy `load`
}  # fmt: skip


def under(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


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


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_one_way(module: str) -> None:
    name = module.removesuffix(".__init__")
    allowed = next(prefixes for room, prefixes in ALLOWED.items() if under(name, (room,)))
    for target, inside in imports(MODULES[module]):
        if target.split(".")[0] == "thiscxr" and target != "thiscxr.__version__":
            known = target if target in MODULES or target == "thiscxr" else target.rpartition(".")[0]
            assert known == "thiscxr" or under(known, allowed), f"{module} must not import {target}"
        if inside:
            optional = target in ("av", "fcntl", "distributed.Client") or target.startswith("transformers.")
            assert name == "thiscxr" or under(name, ("thiscxr.cli",)) or optional, f"{module} imports {target} inside a function"
        if target.split(".")[0] in ("PIL", "pydicom"):
            # of the phantom's releases, and of samples
            writers = ("thiscxr.data.layouts.encode", "thiscxr.data.layouts.dicom", "thiscxr.sample.dicom")
            allowed_here = name.startswith("thiscxr.data.pixels") or name in writers
            assert allowed_here, f"{module} must leave {target} to data.pixels and its parts"


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


LIGHT = ["thiscxr", "thiscxr.config", "thiscxr.cli", "thiscxr.data.sources", "thiscxr.data.prepare", "thiscxr.gallery.site"]


@pytest.mark.parametrize("module", LIGHT)
def test_these_import_without_torch_and_without_noise(module: str) -> None:
    code = f"import sys, {module}; assert 'torch' not in sys.modules, 'torch was imported'"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_no_file_is_longer_than_a_reader_wants() -> None:
    long = {module: count for module, path in MODULES.items() if (count := len(path.read_text().splitlines())) > 400}
    assert not long
    assert not {path.name for path in MODULES.values()} & {"utils.py", "helpers.py", "misc.py", "common.py"}
