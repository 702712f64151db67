"""Makes the generator that runs in a visitor's browser: a network file in half precision, twice, and what else its page
loads.

`generator/network.safetensors` is an ordinary network file, so `thiscxr sample --model` reads it too;
`generator/network.js` is the same in base64, for pages opened from file://, which may not read files but may run
scripts. The arithmetic is site/generator.js. It must load without torch, and nothing here is fetched from anywhere.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from thiscxr.files import sha256_file
from thiscxr.marks import NOTICE, SOFTWARE, origin_text
from thiscxr.terms import attribution

FORMATS = (1, 2)  # of network files, see docs/formats.md
# What the page reads of a network's description.
REQUIRED = {
    "architecture": ("res", "c_dim", "z_dim", "w_dim", "mapping_layers"),
    "vocabulary": ("findings", "views", "sources"),
}


@dataclass(frozen=True)
class BrowserModel:
    """A generator for the browser: the description in a network file, its hash, and the file in half precision."""

    info: Mapping[str, Any]
    sha256: str  # of the network file that it was made from
    data: bytes  # safetensors, every tensor float16; the file itself where that is so already


def read_browser_model(path: Path) -> BrowserModel:
    """Read a network file for the browser. The same file gives the same bytes.

    Raises ValueError when it is not a generator of ours, of another format version, or has a value that half precision
    cannot hold.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no such network file: {path}")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            info = json.loads(metadata.get("thiscxr", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError, TypeError) as error:  # TypeError: a dtype that numpy lacks
        raise ValueError(
            f"{path} is not a safetensors file of plain numbers ({error}); expected a network file of thiscxr"
        ) from None
    if not isinstance(info, dict) or info.get("kind") != "generator" or info.get("format_version") not in FORMATS:
        raise ValueError(
            f"{path} is not a thiscxr generator of format 1 or 2; give a network that "
            "`thiscxr train` wrote, or a bundled one"
        )
    if others := {str(tensor.dtype) for tensor in tensors.values()} - {"float16", "float32"}:
        raise ValueError(f"{path} holds {others.pop()}; expected a network in float16 or float32")
    for part, keys in REQUIRED.items():
        found = info.get(part)
        if missing := [key for key in keys if not isinstance(found, dict) or key not in found]:
            raise ValueError(f"{path}: the network's description has no {part} {missing[0]!r}; get the file again")
    sha256 = sha256_file(path)
    if all(tensor.dtype == np.float16 for tensor in tensors.values()):
        return BrowserModel(info, sha256, path.read_bytes())
    with np.errstate(over="ignore"):
        halves = {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
    for name, half in halves.items():
        if not np.isfinite(half).all():
            raise ValueError(
                f"{path}: {name} has a value of {np.abs(tensors[name]).max():.3g}, "
                "which half precision cannot hold (65504)"
            )
    info.pop("content_sha256", None)  # of the tensors before
    return BrowserModel(info, sha256, save(halves, metadata={"thiscxr": json.dumps(info, sort_keys=True)}))


def generator_files(model: BrowserModel) -> dict[str, bytes]:
    """Return the files that the page loads at a click: path inside the site -> bytes."""
    text = base64.b64encode(model.data).decode()
    return {
        "generator/network.safetensors": model.data,
        "generator/network.js": f'"use strict";\nglobalThis.thiscxrNetwork = "{text}";\n'.encode(),
    }


def page_facts(model: BrowserModel, files: Mapping[str, bytes], restriction: str = "") -> dict[str, Any]:
    """Return what make.html and its script need to know of the network, and the bytes that a click loads: from a host,
    and from file://.

    files: those of `generator_files`, and generator.js.
    """
    sizes = {name: len(data) for name, data in files.items()}
    sources = model.info["sources"]
    marks = origin_text(
        [str(source.get("title") or key) for key, source in sources.items()], restriction, attribution(sources)
    )
    from_file = {"generator.js", "generator/network.js"}
    return {
        "sha256": model.sha256,
        "code_version": model.info.get("code_version", ""),
        "integrity": "sha256-" + base64.b64encode(hashlib.sha256(model.data).digest()).decode(),
        "res": model.info["architecture"]["res"],
        "marks": {"Disclaimer": NOTICE, "Software": SOFTWARE, **marks},  # of the films that it saves
        "bytes": sum(size for name, size in sizes.items() if name not in ("make.js", "generator/network.js")),
        "bytes_from_file": sum(size for name, size in sizes.items() if name in from_file),
    }
