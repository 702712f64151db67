"""The ONNX file: its contract, the films of `thiscxr sample` at any batch size, the same bytes, and refusals that leave
no file."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from thiscxr.model.conditions import Condition, Vocabulary
from thiscxr.model.generator import Generator, GeneratorConfig
from thiscxr.model.network_file import NetworkInfo
from thiscxr.sample import onnx_export
from thiscxr.sample.latents import LATENT_STREAM, NOISE_STREAM, normals
from thiscxr.sample.onnx_export import TOLERANCE, export_onnx
from thiscxr.sample.sampling import Network, load, sample_films


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    vocabulary = Vocabulary(("Mass", "Edema"), ("lateral", "PA"), ("here",))
    config = GeneratorConfig(
        res=32, c_dim=vocabulary.dim, z_dim=16, w_dim=16, mapping_layers=2, channel_max=16, patch=4, haar=True
    )
    generator = Generator(config).eval().requires_grad_(False)
    for name, value in generator.named_parameters():
        if name.endswith("noise_strength"):
            value.fill_(0.3)
        elif "to_grey" in name and name.endswith("conv.weight"):
            value.mul_(0.15)
    generator.synthesis.grain.gain.fill_(1.0)
    generator.synthesis.grain.kernel.normal_()
    return Network(generator, NetworkInfo("small", config, vocabulary, [], 0, "", {}), "ab" * 32)


def feeds(network: Network, seeds: list[int], conditions: list[Condition], psi: float) -> dict[str, np.ndarray]:
    """What docs/formats.md tells users to do."""
    config = network.info.architecture
    inputs = {
        "z": normals(seeds, LATENT_STREAM, config.z_dim),
        "c": network.info.vocabulary.encode(conditions),
        "psi": np.full(len(seeds), psi, np.float32),
    }
    for i, side in enumerate(config.noise_resolutions):
        inputs[f"noise_{i}"] = normals(seeds, NOISE_STREAM + i, side * side).reshape(-1, 1, side, side)
    return inputs


def check(path: Path, network: Network, conditions: list[Condition]) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs `pip install 'thiscxr[onnx]'`")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    assert names == ["z", "c", "psi", *(f"noise_{i}" for i in range(len(network.info.architecture.noise_resolutions)))]
    assert {value.shape[0] for value in (*session.get_inputs(), *session.get_outputs())} == {"batch"}
    seeds = list(range(len(conditions)))
    films = np.concatenate(list(sample_films(network, seeds, conditions, 0.8)))
    for part in (slice(0, 1), slice(0, len(seeds))):
        [images] = session.run(["images"], feeds(network, seeds[part], conditions[part], 0.8))
        pixels = np.clip(np.round(images[:, 0] * 127.5 + 127.5), 0, 255)
        assert np.abs(pixels - films[part]).max() <= 1
    assert np.abs(pixels - films[::-1]).max() > 20  # other films are distinguished


@pytest.mark.slow
def test_onnx_generates_the_films_of_sample(network: Network, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs `pip install 'thiscxr[onnx]'`")
    path = tmp_path / "small.onnx"
    difference = export_onnx(path, network.generator, network.info, network.sha256)
    assert difference <= TOLERANCE
    check(path, network, [Condition(view="PA", findings={"Mass": 1}), Condition(), Condition(age_years=80.0, sex="F")])
    data = path.read_bytes()
    export_onnx(tmp_path / "again.onnx", network.generator, network.info, network.sha256)
    assert hashlib.sha256((tmp_path / "again.onnx").read_bytes()).digest() == hashlib.sha256(data).digest()
    for private in (str(Path.home()), str(Path(__file__).parents[2]), "site-packages", "stack_trace"):
        assert private.encode() not in data, private
    model = onnx.load(path)
    assert "not patients, not for diagnosis" in model.doc_string
    facts = json.loads({entry.key: entry.value for entry in model.metadata_props}["thiscxr"])
    assert facts["sha256"] == network.sha256
    assert facts["vocabulary"] == network.info.vocabulary.to_json()
    assert "joint_table" not in facts


@pytest.mark.slow
def test_onnx_of_the_bundled_network(tmp_path: Path) -> None:
    network = load("nih-64")
    export_onnx(tmp_path / "nih.onnx", network.generator, network.info, network.sha256)
    check(tmp_path / "nih.onnx", network, network.conditions(range(4), Condition()))


@pytest.mark.slow
def test_onnx_that_generates_other_films_is_not_written(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx", reason="needs `pip install 'thiscxr[onnx]'`")
    anonymous = onnx_export._anonymous

    def spoil(model: object) -> None:
        """Change one tensor, as a faulty exporter might."""
        anonymous(model)
        weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))  # type: ignore[attr-defined]
        weight.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.05), weight.name)
        )

    monkeypatch.setattr(onnx_export, "_anonymous", spoil)
    with pytest.raises(ValueError, match=r"films differ from torch's by .*, more than 0\.001: not exported"):
        export_onnx(tmp_path / "small.onnx", network.generator, network.info, network.sha256)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_onnx_without_its_packages_says_what_to_install(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None if name == package else json)  # None: not installed
    with pytest.raises(ValueError, match=rf"needs the package {package}; run: pip install 'thiscxr\[onnx\]'"):
        export_onnx(tmp_path / "small.onnx", network.generator, network.info, network.sha256)
    assert list(tmp_path.iterdir()) == []


def test_onnx_refuses_a_folder_and_a_network_without_conditions(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, json)
    with pytest.raises(ValueError, match="is a folder; give the name of a file"):
        export_onnx(tmp_path, network.generator, network.info, network.sha256)
    with pytest.raises(ValueError, match="takes no conditions"):
        export_onnx(tmp_path / "x.onnx", Generator(GeneratorConfig(res=32, c_dim=0)), network.info, network.sha256)
