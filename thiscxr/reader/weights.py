"""Published weights: imported once, checked, and kept as safetensors in the cache.

Nothing is downloaded unless that is allowed, and no pickle is read in this process: `unpickle` does that, in another.
"""

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

import thiscxr
from thiscxr.files import cache_folder, nearest_name
from thiscxr.model.network_file import read_safetensors, write_safetensors
from thiscxr.reader.networks import NETWORKS, PublicNetwork

WEIGHTS_FORMAT = 1
_UNPICKLE = Path(__file__).with_name("unpickle.py")
_SECONDS = 300  # for a checkpoint of any of these networks; a hostile one may loop for ever
_MAX_BYTES = 2 * 2**30
log = logging.getLogger("thiscxr")


def weights_path(name: str) -> Path:
    """Return the path of the weights of a public network, which may not exist."""
    return cache_folder() / "extractors" / f"{name}.safetensors"


def import_weights(file: Path, name: str | None = None) -> Path:
    """Check a published weight file, write it as safetensors into the cache, and return that path.

    name: of the network (a key of NETWORKS); None: recognised by the file's name or its SHA-256. Raises ValueError for
    a file whose SHA-256 is not the published one, that needs more than tensors, or that is not the weights of that
    network; nothing is written then.
    """
    file = Path(file)
    if not file.is_file():
        raise ValueError(f"{file} is not a file; give the weight file as it was published, see: thiscxr extractors")
    if file.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{file} has {file.stat().st_size / 2**30:.1f} GB, more than any of these networks")
    data = file.read_bytes()  # once: what is checked is what is read
    sha256 = hashlib.sha256(data).hexdigest()
    name = name or _recognise(file, sha256)
    network = find_public(name)
    if network.sha256 and sha256 != network.sha256:
        raise ValueError(
            f"{file} has SHA-256 {sha256}, but {name} was published with "
            f"{network.sha256}; get it again from {network.url}"
        )
    tensors = _read_tensors(file, data)
    del data
    try:
        network.build(tensors)
    except ValueError as error:
        raise ValueError(f"{file} is not the weights of {name}: {error}") from None
    if not network.sha256:
        log.info(
            "nobody published a SHA-256 of %s to check against; this file has %s, which scores will carry", name, sha256
        )
    metadata = {
        "format_version": WEIGHTS_FORMAT,
        "kind": "extractor",
        "name": name,
        "source_sha256": sha256,
        "tensors_sha256": _digest(tensors),
        "url": network.url,
        "licence": network.licence,
        "code_version": thiscxr.__version__,
    }
    path = weights_path(name)
    write_safetensors(path, tensors, metadata)
    return path


def download_weights(name: str) -> Path:
    """Download the weights of a public network from where they were published, then import them (`import_weights`)."""
    network = find_public(name)
    folder = cache_folder() / "extractors"
    folder.mkdir(parents=True, exist_ok=True)
    log.info("downloading %s", network.url)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        file = Path(temporary) / network.file
        try:
            torch.hub.download_url_to_file(network.url, str(file), progress=sys.stderr.isatty())
        except (URLError, OSError, ValueError) as error:
            advice = f"get it by other means and: thiscxr extractors import {network.file}"
            raise ValueError(f"{network.url} cannot be downloaded ({error}); {advice}") from None
        return import_weights(file, name)


def load_public(name: str, allow_download: bool = False) -> tuple[torch.nn.Module, str]:
    """Return a public network (float32, CPU, evaluation mode) and the SHA-256 of its weights as published.

    Raises ValueError if the weights are not in the cache and no download is allowed, or are damaged there.
    """
    network, path = find_public(name), weights_path(name)
    if not path.is_file():
        if not allow_download:
            raise ValueError(
                f"the weights of {name} are not here; get {network.url} ({network.licence}), "
                f"then: thiscxr extractors import {network.file}"
                f" --name {name} (it keeps them in {path}), or allow the download with --allow-download"
            )
        download_weights(name)
    metadata, tensors = read_safetensors(path, "extractor", WEIGHTS_FORMAT)
    if metadata.get("name") != name or metadata.get("tensors_sha256") != _digest(tensors):
        raise ValueError(
            f"{path} is damaged or of another network; import it again: thiscxr "
            f"extractors import {network.file} --name {name}"
        )
    if network.sha256 and metadata.get("source_sha256") != network.sha256:
        raise ValueError(f"{path} was made of another file than the published one; import it again from {network.url}")
    return network.build(tensors).eval().requires_grad_(False), str(metadata["source_sha256"])


def list_public() -> list[dict[str, Any]]:
    """Return what `thiscxr extractors` lists for each public network; `weights` is None if they are not here."""
    return [
        {
            "name": name,
            "dim": network.dim,
            "res": network.res,
            "values": network.values,
            "layer": network.layer,
            "weights": str(weights_path(name)) if weights_path(name).is_file() else None,
            "sha256": network.sha256 or None,
            "licence": network.licence,
            "trained_on": list(network.trained_on),
            "title": network.title,
            "url": network.url,
        }
        for name, network in NETWORKS.items()
    ]


def find_public(name: str) -> PublicNetwork:
    """Return the public network of that name. Raises ValueError for an unknown one."""
    if name not in NETWORKS:
        raise ValueError(f"no public network '{name}'{nearest_name(name, NETWORKS)}; known: {', '.join(NETWORKS)}")
    return NETWORKS[name]


def _recognise(file: Path, sha256: str) -> str:
    for name, network in NETWORKS.items():
        if sha256 == network.sha256 or (file.name == network.file and file.name != "model.safetensors"):
            return name
    raise ValueError(
        f"{file} (SHA-256 {sha256}) is no file that is known; say whose weights it is: --name {'|'.join(NETWORKS)}"
    )


def _read_tensors(file: Path, data: bytes) -> dict[str, Tensor]:
    try:
        return load(data)
    except SafetensorError:
        pass
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "TORCH"))}
    command = [sys.executable, "-I", str(_UNPICKLE)]
    try:
        done = subprocess.run(command, input=data, capture_output=True, env=environment, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{file} is refused: it could not be read in {_SECONDS} s; nothing in it was run") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["its reader crashed"]
        raise ValueError(f"{file} is refused: {lines[-1]}; nothing in it was run")
    return load(done.stdout)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
