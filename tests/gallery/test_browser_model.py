"""The browser's network file: half precision, the same bytes each time, and one line for whatever is not a
generator."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from thiscxr.gallery.browser_model import generator_files, read_browser_model
from thiscxr.gallery.site import build_site
from thiscxr.model.conditions import Vocabulary
from thiscxr.model.generator import Generator, GeneratorConfig
from thiscxr.model.network_file import NetworkInfo, find_network, find_weights, save_network
from thiscxr.sample.sampling import load


@pytest.fixture
def network(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    vocabulary = Vocabulary(("Mass",), ("PA",), ("here",))
    config = GeneratorConfig(res=32, c_dim=vocabulary.dim, z_dim=8, w_dim=8, mapping_layers=1, channel_max=8)
    save_network(
        tmp_path / "network.safetensors", Generator(config), NetworkInfo("small", config, vocabulary, [], 0, "", {})
    )
    return tmp_path / "network.safetensors"


def test_a_bundled_network_is_taken_as_it_is() -> None:
    path = find_network("nih-64")
    model = read_browser_model(path)
    assert model.data == path.read_bytes()
    files = generator_files(model)
    assert sorted(files) == ["generator/network.js", "generator/network.safetensors"]
    assert max(map(len, files.values())) < 3e6
    text = files["generator/network.js"].decode().partition('thiscxrNetwork = "')[2].removesuffix('";\n')
    assert base64.b64decode(text) == model.data


def test_a_float32_network_is_halved_and_can_be_sampled(network: Path, tmp_path: Path) -> None:
    model = read_browser_model(network)
    assert model.data == read_browser_model(network).data
    assert b'"F32"' in network.read_bytes()
    assert b'"F32"' not in model.data
    (tmp_path / "half.safetensors").write_bytes(model.data)
    whole, half = load(network), load(tmp_path / "half.safetensors")
    assert model.sha256 == whole.sha256
    assert half.info == whole.info
    assert half.generator.state_dict().keys() == whole.generator.state_dict().keys()
    assert np.abs(half.sample([0, 1]).astype(int) - whole.sample([0, 1])).max() <= 2


def test_what_is_no_generator_is_refused_in_one_line(network: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"

    def refused(message: str, data: bytes | None = None) -> None:
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(ValueError, match=message) as refusal:
            build_site(None, tmp_path / "out", model=path)
        assert "\n" not in str(refusal.value)
        assert not (tmp_path / "out").exists()

    refused("no such network file")
    refused("not a safetensors file", b"\x80\x04K\x01.")  # a pickle
    refused("not a safetensors file", network.read_bytes()[:-1])
    refused("not a thiscxr generator of format 1 or 2", find_weights("thiscxr64", "reader").read_bytes())
    one = {"w": torch.ones(2)}

    def described(**facts: object) -> None:
        save_file(one, path, metadata={"thiscxr": json.dumps(facts)})

    save_file(one, path)
    refused("not a thiscxr generator of format 1")
    described(kind="generator", format_version=9)
    refused("not a thiscxr generator of format 1")
    described(kind="generator", format_version=1, architecture={"res": 32})
    refused("no architecture 'c_dim'")
    save_file(one, path, metadata={"thiscxr": "[]"})
    refused("not a thiscxr generator of format 1")
    architecture = dict.fromkeys(("res", "c_dim", "z_dim", "w_dim", "mapping_layers"), 32)
    facts = {"kind": "generator", "format_version": 1, "architecture": architecture}
    described(**facts, vocabulary=["Mass"])
    refused("no vocabulary 'findings'")
    facts["vocabulary"] = {"findings": [], "views": [], "sources": []}
    one = {"w": torch.tensor([1.0, -70000.0])}
    described(**facts)
    refused(r"w has a value of 7e\+04, which half precision cannot hold")
    one = {"w": torch.ones(2, dtype=torch.bfloat16)}
    described(**facts)
    refused("holds bfloat16|not a safetensors file of plain numbers")


def test_the_same_network_gives_the_same_site(network: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        build_site(None, tmp_path / name, model=network)
    one, two = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("one", "two")
    )
    assert one == two
    assert one[Path("index.html")] == one[Path("make.html")]
    build_site(None, tmp_path / "two", model=network)  # replaces its own


def test_samples_and_network_belong_together(samples: Path, network: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="but the samples come from abababababab…; give the network that made them"):
        build_site(samples, tmp_path / "out", model=network)
    with pytest.raises(ValueError, match="give --samples, or --model without --scores"):
        build_site(None, tmp_path / "out", tmp_path / "scores.json", model=network)
    with pytest.raises(ValueError, match="give --samples, or --model"):
        build_site(None, tmp_path / "out")


def test_gallery_and_generator_lead_to_each_other(
    make_samples: Callable[..., Path], network: Path, tmp_path: Path
) -> None:
    sha256 = read_browser_model(network).sha256
    folder = make_samples({"network_sha256": sha256}, network={"sha256": sha256})
    build_site(folder, tmp_path / "out", model=network)
    assert '<a href="make.html">' in (tmp_path / "out" / "index.html").read_text()
    assert '<a href="index.html">' in (tmp_path / "out" / "make.html").read_text()
    build_site(folder, tmp_path / "alone")
    assert "make.html" not in (tmp_path / "alone" / "index.html").read_text()


def test_the_page_allows_no_more_than_it_needs(network: Path, tmp_path: Path) -> None:
    build_site(None, tmp_path / "plain", model=network)
    plain = (tmp_path / "plain" / "make.html").read_text()
    policy = (
        "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; "
        "connect-src 'self'; worker-src blob:; "
    )
    assert f"content=\"{policy}manifest-src 'self'; base-uri" in plain
    assert " style=" not in plain
    loads = re.findall(r'(?:src|href|action|data)="([^"]*)"', plain)  # names of XMP and licences are no requests
    assert loads
    assert not [
        address for address in loads if "://" in address and not re.search(rf'<a href="{re.escape(address)}"', plain)
    ]
