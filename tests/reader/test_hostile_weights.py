"""Pickled weights from elsewhere: what is hostile in them is refused in one line, and never run."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.reader.conftest import XRV, small_densenet
from thiscxr.reader import unpickle, weights
from thiscxr.reader.weights import import_weights, weights_path


def test_what_only_old_layers_hold_is_no_hindrance(tmp_path: Path) -> None:
    """Layers of torch 1.3 refer to a backend, and have no list of buffers that are not kept."""
    thnn = pytest.importorskip("torch.nn.backends.thnn")
    network = nn.Sequential(nn.Linear(2, 2))
    for layer in network.modules():
        layer._backend = Reduced(thnn._get_thnn_function_backend)
        del layer._non_persistent_buffers_set
    torch.save(network, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert unpickle.read_checkpoint((tmp_path / "old.pt").read_bytes()).keys() == {"0.weight", "0.bias"}


PWNED = "pwned"


class Reduced:
    """Pickles as a call."""

    def __init__(self, function: object, *values: object) -> None:
        self.call = (function, values)

    def __reduce__(self) -> tuple:
        return self.call


def as_zip(path: Path, payload: object) -> None:
    torch.save({"features.conv0.weight": payload}, path)


def as_old_format(path: Path, payload: object) -> None:
    torch.save({"features.conv0.weight": payload}, path, _use_new_zipfile_serialization=False)


def as_bare_pickle(path: Path, payload: object) -> None:
    path.write_bytes(pickle.dumps(payload))


def as_swapped_pickle(path: Path, payload: object) -> None:
    """A sound checkpoint whose data.pkl was replaced."""
    sound = path.with_suffix(".sound")
    torch.save({"features.conv0.weight": torch.zeros(3)}, sound)
    with zipfile.ZipFile(sound) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.infolist():
            new.writestr(member, pickle.dumps(payload, 4) if member.filename.endswith("data.pkl") else old.read(member))


def in_layers(path: Path, payload: object) -> None:
    """The call is hidden in an attribute of a layer deep in a network."""
    network = small_densenet()
    network.features.denseblock1.denselayer1.conv1.padding = payload
    torch.save(network, path)


SHELL = f"touch {PWNED}"
PAYLOADS: dict[str, Callable[[], object]] = {
    "os.system": lambda: Reduced(os.system, SHELL),
    "eval": lambda: Reduced(eval, f"__import__('os').system('{SHELL}')"),
    "getattr": lambda: Reduced(getattr, "x", "upper"),
    "nested": lambda: [Reduced(exec, f"import os; os.system('{SHELL}')"), {"x": Reduced(os.system, SHELL)}],
    "import by argument": lambda: Reduced(__import__, "os"),
    "torch": lambda: Reduced(torch.load, "x"),
}


def test_a_hostile_checkpoint_is_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "evil.pt"
    as_old_format(file, PAYLOADS["os.system"]())
    with pytest.raises(
        ValueError, match=r"evil.pt is refused: it asks for \w+.system, which no network needs; nothing in it was run"
    ) as refused:
        import_weights(file, XRV)
    assert "\n" not in str(refused.value)
    assert not weights_path(XRV).exists()
    assert not (tmp_path / PWNED).exists()
    torch.load(file, weights_only=False)  # the payload does work where nothing stops it
    assert (tmp_path / PWNED).exists()


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("wrap", [as_zip, as_old_format, as_bare_pickle, as_swapped_pickle, in_layers])
def test_no_name_is_looked_up_but_the_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrap: Callable, payload: str
) -> None:
    monkeypatch.chdir(tmp_path)
    wrap(tmp_path / "evil.pt", PAYLOADS[payload]())
    with pytest.raises(ValueError, match=r"which no network needs|neither a checkpoint of torch"):
        unpickle.read_checkpoint((tmp_path / "evil.pt").read_bytes())
    assert not (tmp_path / PWNED).exists()


def opcodes(body: bytes) -> bytes:
    """An old-format checkpoint whose object is this pickle."""
    head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    return head + b"\x80\x04" + body + pickle.dumps([], 2)


LAYER = b"ctorch.nn.modules.linear\nLinear\n"
CRAFTED = {
    "dotted name": (b"\x8c\x0bcollections\x8c\x20OrderedDict.__init__.__globals__\x93.", "which no network needs"),
    "a class gets attributes": (LAYER + b"N}\x8c\x0cdump_patches\x88s\x86b.", "it changes classes"),
    "a function gets attributes": (
        b"ctorch._utils\n_rebuild_parameter\nN}\x8c\x0b__wrapped__\x88s\x86b.",
        "it changes functions",
    ),
    "extension registry": (b"\x82\x01.", "unregistered extension"),
    "persistent id of nothing": (b"\x8c\x01xQ.", "."),
    "itself": (LAYER + b")\x81\x94}\x8c\x08_modules}\x8c\x01ah\x00ssb.", "nor a network of known layers"),
    "not a tensor": (b"}\x8c\x01aK\x01s.", "'a' in it is not a tensor"),
    "a number": (b"K\x01.", "nor a network of known layers"),
    "nothing": (b"}.", "there are no tensors"),
    "stack underflow": (b"R.", "."),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_opcodes_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    body, message = CRAFTED[name]
    with pytest.raises(Exception, match=message):  # whatever it is, the program makes one line of it
        unpickle.read_checkpoint(opcodes(body))
    assert list(tmp_path.iterdir()) == []


def test_sources_in_a_pickle_are_not_written_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch offers to write a patch where the source code in an old pickle differs from today's, if the class says
    so."""
    monkeypatch.chdir(tmp_path)
    network = nn.Sequential(nn.Linear(2, 2))
    torch.save(network, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    data = (tmp_path / "old.pt").read_bytes()
    assert b"class Linear" in data, "the pickle carries source code"
    monkeypatch.setattr(nn.Module, "dump_patches", True)
    unpickle.read_checkpoint(data.replace(b"class Linear", b"class LINEAR"))
    assert [path.name for path in tmp_path.iterdir()] == ["old.pt"]


def test_bombs_and_programs_are_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.pt"
    torch.save({"a": torch.zeros(1).expand(10**12)}, bomb)
    with pytest.raises(ValueError, match="tensors are larger"):
        unpickle.read_checkpoint(bomb.read_bytes())
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"")
        for i in range(3):
            archive.writestr(f"x/data/{i}", b"\0" * 2**20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unpickle, "_MAX_BYTES", 2**21)
        with pytest.raises(ValueError, match="unpacks to more"):
            unpickle.read_checkpoint(bomb.read_bytes())
    script = tmp_path / "script.pt"
    with zipfile.ZipFile(script, "w") as archive:
        archive.writestr("x/constants.pkl", b"")
    with pytest.raises(ValueError, match="TorchScript"):
        unpickle.read_checkpoint(script.read_bytes())


def test_a_process_that_hangs_or_crashes_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.pt"
    file.write_bytes(b"x")
    program = tmp_path / "program.py"
    monkeypatch.setattr(weights, "_UNPICKLE", program)
    program.write_text("import os; os.abort()")
    with pytest.raises(ValueError, match="refused: its reader crashed"):
        import_weights(file, XRV)
    program.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(weights, "_SECONDS", 0.2)
    with pytest.raises(ValueError, match=r"could not be read in 0.2 s"):
        import_weights(file, XRV)
