"""A program, not a module: it reads a torch checkpoint from stdin and writes its tensors as safetensors to stdout, in a
process of its own.

Nothing in the checkpoint is run. Its pickle may name only what is listed here: tensors, plain containers, and the
layers of networks that were pickled whole, which are replaced by inert objects. Any other name is refused before it is
looked up, with one line on stderr and exit code 1.
"""

import io
import pickle
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save

_MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")  # of checkpoints before torch 1.6; later ones are zip files
_MAX_BYTES = 2 * 2**30  # of a checkpoint, unpacked; the largest network here has 0.35 GB
_MAX_ELEMENTS = 500_000_000
_MAX_LAYERS = 10_000


class _Frozen(type):
    """A class that a pickle cannot change: the BUILD opcode sets attributes of any object on its stack."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise ValueError("it changes classes")


class Layer(metaclass=_Frozen):
    """Replaces any layer: it takes the attributes in the pickle and has no methods to call."""

    dump_patches = False  # or torch would write a file where a pickle carries the source code of its classes


class Allowed:
    """A function that a pickle may call, but not change."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __setattr__(self, name: str, value: object) -> None:
        raise ValueError("it changes functions")

    def __call__(self, *values: Any) -> Any:
        return self._function(*values)


_DENSENET = ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition")
_LAYERS = {
    "torch.nn.modules.activation": ("ReLU",),
    "torch.nn.modules.batchnorm": ("BatchNorm2d",),
    "torch.nn.modules.container": ("Sequential",),
    "torch.nn.modules.conv": ("Conv2d",),
    "torch.nn.modules.linear": ("Linear",),
    "torch.nn.modules.pooling": ("AvgPool2d", "MaxPool2d"),
    "torchvision.models.densenet": _DENSENET,
    "torchxrayvision.models": _DENSENET,
}
_NAMES: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("__builtin__", "set"): set,
    ("builtins", "set"): set,
    ("torch._utils", "_rebuild_parameter"): Allowed(lambda tensor, *_: tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Allowed(torch._utils._rebuild_tensor_v2),
    # referred to by layers of torch 1.3 and older
    ("torch.nn.backends.thnn", "_get_thnn_function_backend"): Allowed(lambda: None),
    **{(module, name): Layer for module, names in _LAYERS.items() for name in names},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise ValueError(f"it asks for {module}.{name}, which no network needs")
        return _NAMES[module, name]


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


def read_checkpoint(data: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint by their names in a state dict. Raises ValueError for anything but the weights
    of a network."""
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
        if sum(member.file_size for member in members) > _MAX_BYTES:
            raise ValueError("it unpacks to more than any of these networks needs")
        if any(member.filename.rpartition("/")[2] == "constants.pkl" for member in members):
            raise ValueError("it is TorchScript, which is a program")
    elif not data.startswith(_MAGIC):
        raise ValueError("it is neither a checkpoint of torch nor safetensors")
    restricted = SimpleNamespace(__name__="restricted", Unpickler=_Unpickler, load=_load)
    # Bytes in memory, since torch would unpack a file that is also a tar. Our unpickler is stricter
    # than weights_only=True, which cannot read networks that were pickled whole before torch 1.6.
    root = torch.load(io.BytesIO(data), map_location="cpu", pickle_module=restricted, weights_only=False)
    tensors = _state(root) if isinstance(root, dict) else _state_of_layers(root)
    if not tensors:
        raise ValueError("there are no tensors in it")
    # before anything is copied: strides can be 0
    if sum(tensor.numel() for tensor in tensors.values()) > _MAX_ELEMENTS:
        raise ValueError("its tensors are larger than those of any of these networks")
    return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


def _state(root: dict[Any, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors of a state dict, or of a dict that holds one as "state_dict"."""
    root = root.get("state_dict", root)
    wrong = [name for name, value in root.items() if not (isinstance(name, str) and isinstance(value, torch.Tensor))]
    if wrong:
        raise ValueError(f"{str(wrong[0])[:40]!r} in it is not a tensor")
    return dict(root)


def _state_of_layers(root: object) -> dict[str, torch.Tensor]:
    """Return the parameters and buffers of a network that was pickled whole."""
    found: dict[str, torch.Tensor] = {}
    queue, seen = [("", root)], 0
    while queue:
        prefix, layer = queue.pop()
        seen += 1
        if not isinstance(layer, Layer) or seen > _MAX_LAYERS:  # layers can hold each other
            raise ValueError("it holds neither a dict of tensors nor a network of known layers")
        parts = vars(layer)
        passing = parts.get("_non_persistent_buffers_set") or ()
        for name, value in {**(parts.get("_parameters") or {}), **(parts.get("_buffers") or {})}.items():
            if isinstance(value, torch.Tensor) and name not in passing:
                found[prefix + name] = value
        queue += [
            (f"{prefix}{name}.", child) for name, child in (parts.get("_modules") or {}).items() if child is not None
        ]
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of torch, on the source code of classes, none of which is used
    try:
        sys.stdout.buffer.write(save(read_checkpoint(sys.stdin.buffer.read())))
    except Exception as error:  # any effect of a hostile file ends as one line
        print((str(error).splitlines() or [type(error).__name__])[0][:300], file=sys.stderr)
        sys.exit(1)
