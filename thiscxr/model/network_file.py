"""Network files: safetensors with JSON metadata and a hash of both, of our own or bundled. Nothing here runs code from
a file."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import thiscxr
from thiscxr.files import atomic_path, nearest_name, sha256_file
from thiscxr.model.conditions import Vocabulary
from thiscxr.model.generator import Generator, GeneratorConfig

NETWORK_FORMAT, FIRST_NETWORK_FORMAT = 2, 1  # written, and the oldest that is read
WEIGHTS = Path(thiscxr.__file__).parent / "weights"
DISCRIMINATOR = "discriminator."  # what its tensors begin with, in a file that has it
_ROW_KINDS = {"view": str, "sex": str, "source": str, "age_bin": int}


@dataclass(frozen=True)
class NetworkInfo:
    """The metadata of a network file; see docs/formats.md."""

    name: str
    architecture: GeneratorConfig
    vocabulary: Vocabulary
    joint_table: list[dict[str, Any]]
    images_seen: int
    pool_fingerprint: str
    sources: dict[str, dict[str, str]]  # collection -> title, terms, citation, url, acknowledgement
    code_version: str = thiscxr.__version__
    started_from: str = ""  # name of the network or run that its training started from, and the films seen by then
    augment_strength: float | None = None  # of the last training films; None: the file has no discriminator

    def to_json(self) -> dict[str, Any]:
        """Return the metadata as plain values."""
        return {
            "format_version": NETWORK_FORMAT,
            "kind": "generator",
            **asdict(self),
            "vocabulary": self.vocabulary.to_json(),
        }


def save_network(
    path: Path,
    generator: Generator,
    info: NetworkInfo,
    dtype: torch.dtype = torch.float32,
    discriminator: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write a network file: every tensor in `dtype`, the metadata as one JSON string; with those of the discriminator,
    where a training from this file is to continue with it."""
    tensors = generator.state_dict() | {DISCRIMINATOR + name: value for name, value in (discriminator or {}).items()}
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in tensors.items()}
    write_safetensors(path, tensors, info.to_json())


def write_safetensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON metadata as one of our safetensors files, with a hash of both in it.

    Raises OSError when that fails, as on a full disk.
    """
    metadata = json.loads(json.dumps(metadata))  # as it will be read
    whole = json.dumps({**metadata, "content_sha256": _content_sha256(tensors, metadata)}, sort_keys=True)
    with atomic_path(path) as part:
        try:
            save_file(tensors, part, metadata={"thiscxr": whole})
        except SafetensorError as error:
            raise OSError(f"{path} could not be written: {error}") from None
        part.chmod(0o644)  # safetensors makes files that only their owner can read


def _content_sha256(tensors: dict[str, torch.Tensor], metadata: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_discriminator(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors (float32) of the discriminator in a network file, none where it has none."""
    tensors = read_safetensors(path, "generator", NETWORK_FORMAT, FIRST_NETWORK_FORMAT)[1].items()
    return {name.removeprefix(DISCRIMINATOR): t.float() for name, t in tensors if name.startswith(DISCRIMINATOR)}


def load_network(path: Path) -> tuple[Generator, NetworkInfo]:
    """Return the generator (float32, CPU, evaluation) of a network file, and its metadata.

    Raises ValueError for a file that is not a network of ours, or of another format version, or damaged.
    """
    metadata, tensors = read_safetensors(path, "generator", NETWORK_FORMAT, FIRST_NETWORK_FORMAT)
    try:
        _check_description(metadata)
        architecture = GeneratorConfig(**metadata.pop("architecture"))
        vocabulary = Vocabulary.from_json(metadata.pop("vocabulary"))
        names = {f.name for f in fields(NetworkInfo)}
        info = NetworkInfo(
            architecture=architecture,
            vocabulary=vocabulary,
            **{key: value for key, value in metadata.items() if key in names},
        )
        generator = Generator(architecture)
        own = {name: tensor.float() for name, tensor in tensors.items() if not name.startswith(DISCRIMINATOR)}
        generator.load_state_dict(own)
        if isinstance(info.augment_strength, float) != (len(own) < len(tensors)):
            raise ValueError("a discriminator has an augment_strength, and nothing else has one")
    except (KeyError, TypeError, RuntimeError, AttributeError, ValueError, AssertionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path}: the network's description and its tensors do not fit ({reason}); get the file again"
        ) from None
    damaged = next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)
    if damaged:
        raise ValueError(
            f"{path}: the tensor {damaged} holds values that are not finite; get the file again, or train again"
        )
    return generator.eval().requires_grad_(False).to(memory_format=torch.channels_last), info


def _check_description(metadata: dict[str, Any]) -> None:
    """Raise TypeError or KeyError where the metadata is not as sampling will read it."""
    sources, table = metadata["sources"], metadata["joint_table"]
    if not isinstance(sources, dict) or not all(isinstance(source, dict) for source in sources.values()):
        raise TypeError("sources is not a table of collections")
    if not isinstance(table, list):
        raise TypeError("joint_table is not a list")
    for row in table:
        lists = [row["present"], row["absent"]]
        if not all(isinstance(names, list) for names in lists) or not isinstance(row["films"], int) or row["films"] < 0:
            raise TypeError("a row of joint_table has no lists of findings, or no number of films")
        if not all(row[name] is None or isinstance(row[name], kind) for name, kind in _ROW_KINDS.items()):
            raise TypeError("a row of joint_table has a view, sex, source or age_bin that is none")


def read_safetensors(
    path: Path, kind: str, version: int, oldest: int | None = None
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the JSON metadata and the tensors of one of our safetensors files of that kind ("generator", "reader") and
    version.

    Older versions are read from `oldest` on. Raises ValueError with one line when it is something else.
    """
    if not path.is_file():
        raise ValueError(f"no such network file: {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("thiscxr", "{}"))
            if not isinstance(metadata, dict):
                raise ValueError("its metadata is no table")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a safetensors file ({error}); pickled weights are never loaded") from None
    content = metadata.pop("content_sha256", None)  # old files have none
    whole = content in (None, _content_sha256(tensors, metadata))
    if metadata.get("kind") != kind:
        raise ValueError(f"{path} is not a thiscxr {kind} (its metadata says {metadata.get('kind', 'nothing')!r})")
    found, known = metadata.pop("format_version", None), range(version if oldest is None else oldest, version + 1)
    if type(found) is not int or found not in known:
        reads = " and ".join(map(str, known))
        raise ValueError(
            f"{path} has format {found}, but thiscxr {thiscxr.__version__} reads {reads}; export it again or upgrade"
        )
    if not whole:
        raise ValueError(
            f"{path} was changed after it was written (its content has another "
            "SHA-256 than it says); get the file again"
        )
    metadata.pop("kind")
    return metadata, tensors


def find_network(model: str) -> Path:
    """Return the network file of a FILE, a NAME (of a bundled network) or a RUN (a run folder).

    Raises ValueError for none of them, naming the nearest bundled name, and for a bundled file whose SHA-256 is not the
    recorded one.
    """
    path = Path(model)
    if path.is_dir():
        latest = path / "network-latest.safetensors"
        if not latest.is_file() and model in bundled_weights("generator"):
            return find_weights(model, "generator")  # the folder is another thing of that name, such as its pool
        if not latest.is_file():
            raise ValueError(
                f"{path} is a folder without network-latest.safetensors; give a run "
                "folder, a .safetensors file or a name"
            )
        return latest
    if path.is_file():
        return path
    return find_weights(model, "generator")


def bundled_weights(kind: str) -> dict[str, dict[str, Any]]:
    """Return the table of the bundled files of a kind: name -> {file, sha256, kind, summary}."""
    return {
        name: entry
        for name, entry in json.loads((WEIGHTS / "weights.json").read_text()).items()
        if entry["kind"] == kind
    }


def find_weights(name: str, kind: str) -> Path:
    """Return the path of a bundled file after checking its SHA-256. Raises ValueError for an unknown name or a changed
    file."""
    table = bundled_weights(kind)
    if name not in table:
        known = ", ".join(table) or "none"
        raise ValueError(f"no file, run folder or bundled {kind} '{name}'{nearest_name(name, table)}; bundled: {known}")
    path = WEIGHTS / table[name]["file"]
    if not path.is_file() or sha256_file(path) != table[name]["sha256"]:
        raise ValueError(
            f"{path} is missing or not the file that was shipped (its SHA-256 differs); install thiscxr again"
        )
    return path
