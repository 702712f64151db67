"""A generator as ONNX: a graph with a free batch size and no randomness of its own, checked with onnxruntime before
it is written.

Needs the extra `onnx`; the contract of inputs and outputs is in docs/formats.md. The factored form of the
modulation (`model.generator`) allows a free batch size: no weight depends on a film.
"""

import importlib
import json
import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from thiscxr.files import write_file
from thiscxr.model.generator import Generator
from thiscxr.model.network_file import NetworkInfo
from thiscxr.sample.latents import LATENT_STREAM, NOISE_STREAM, normals

OPSET = 18
TOLERANCE = 1e-3  # largest difference from torch, for films of [-1, 1]: an eighth of a grey level
NOTICE = "Generates synthetic chest x-rays: not patients, not for diagnosis."


class _Whole(nn.Module):
    """z, c, psi and noises -> images."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, z: Tensor, c: Tensor, psi: Tensor, noises: Sequence[Tensor]) -> Tensor:
        return self.generator(z, c, noises, psi[:, None])


def export_onnx(path: Path, generator: Generator, info: NetworkInfo, sha256: str, restriction: str = "") -> float:
    """Write the generator as ONNX with the inputs z, c, psi, noise_0, …; return the largest difference from torch that
    the check found.

    sha256: of the network file; restriction: what the file must state of its terms. The same network and versions give
    the same bytes. Raises ValueError when the extra is not installed, when `path` is a folder, when the network takes
    no conditions, and when onnxruntime generates other films than torch; then nothing is written.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the name of a file, such as {path / 'generator.onnx'}")
    onnx, runtime = (_extra(name) for name in ("onnx", "onnxruntime"))
    _extra("onnxscript")  # torch imports it by itself, and would report it in many lines
    if not generator.config.c_dim:
        raise ValueError(
            f"network {info.name} takes no conditions, which the ONNX contract needs; train one with labels"
        )
    module = _Whole(generator).eval()
    tensors = _inputs(generator, (0, 1))
    arguments = _arguments(tensors, list(tensors.values()))
    free = _arguments(tensors, [{0: torch.export.Dim("batch")}] * len(tensors))
    with _quiet():
        program = torch.onnx.export(
            module,
            arguments,
            input_names=list(tensors),
            output_names=["images"],
            opset_version=OPSET,
            dynamic_shapes=free,
            dynamo=True,
            optimize=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _anonymous(model)
    model.producer_name, model.producer_version, model.doc_string = (
        "thiscxr",
        info.code_version,
        f"{NOTICE} {restriction}".strip(),
    )
    facts = {**info.to_json(), "sha256": sha256}
    facts.pop("joint_table")
    onnx.helper.set_model_props(model, {"thiscxr": json.dumps(facts, sort_keys=True)})
    onnx.checker.check_model(model)
    data = model.SerializeToString(deterministic=True)
    difference = _check(runtime, data, module, generator)
    write_file(path, data)
    return difference


def _extra(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(f"the ONNX export needs the package {name}; run: pip install 'thiscxr[onnx]'") from None


def _inputs(generator: Generator, seeds: Sequence[int]) -> dict[str, Tensor]:
    """Return the inputs of the graph by name, one film per seed, each with other conditions and psi."""
    config = generator.config

    def draw(stream: int, *shape: int) -> Tensor:
        return torch.from_numpy(normals(seeds, stream, math.prod(shape))).reshape(-1, *shape)

    z, c = draw(LATENT_STREAM, config.z_dim), draw(LATENT_STREAM, config.c_dim).sign()
    psi = torch.linspace(1, 0.5, len(seeds))
    noises = {f"noise_{i}": draw(NOISE_STREAM + i, 1, res, res) for i, res in enumerate(config.noise_resolutions)}
    return {"z": z, "c": c, "psi": psi, **noises}


def _arguments(names: Iterable[str], values: list[Any]) -> tuple[Any, ...]:
    """Return one value per input as the modules take them: the noises as one list at the end."""
    noises = [value for name, value in zip(names, values, strict=True) if name.startswith("noise_")]
    return (*values[: len(values) - len(noises)], noises)


def _anonymous(model: Any) -> None:
    """Remove what the exporter records of this machine and of torch's internals: stack traces, paths, object ids."""
    for part in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.input,
        *model.graph.output,
    ):
        del part.metadata_props[:]
        part.doc_string = ""


def _check(runtime: ModuleType, data: bytes, module: nn.Module, generator: Generator) -> float:
    """Return the largest difference between onnxruntime and torch over batches of one film and of three."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for seeds in ((2,), (3, 4, 5)):
        tensors = _inputs(generator, seeds)
        with torch.inference_mode():
            expected = module(*_arguments(tensors, list(tensors.values()))).numpy()
        found = session.run(["images"], {name: tensor.numpy() for name, tensor in tensors.items()})[0]
        worst = max(worst, float(np.abs(found - expected).max()))
    if not worst <= TOLERANCE:
        raise ValueError(
            f"onnxruntime's films differ from torch's by {worst:.2g}, more than "
            f"{TOLERANCE}: not exported; please report it"
        )
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's messages, none of which a user can act upon, off the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
