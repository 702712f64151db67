"""Public networks as extractors: the published architectures with weights made here, not with the real ones."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_fid.inception
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import densenet121

from tests.reader.conftest import XRV, small_densenet
from thiscxr.files import sha256_file
from thiscxr.model.network_file import read_safetensors, write_safetensors
from thiscxr.reader import extractors, unpickle, weights
from thiscxr.reader.extractors import load_extractor
from thiscxr.reader.networks import NETWORKS
from thiscxr.reader.weights import import_weights, load_public, weights_path


def liven(network: nn.Module) -> nn.Module:
    """Give batch norms other than trivial statistics, so that a wrong tensor shows."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()


def densenet() -> nn.Module:
    network = densenet121(weights=None, num_classes=18)
    network.features.conv0 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    return liven(network)


@pytest.fixture(scope="module")
def xrv_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole network in one pickle, in the format of torch before 1.6, as torchxrayvision released it."""
    path = tmp_path_factory.mktemp("xrv") / NETWORKS[XRV].file
    torch.save(densenet(), path, _use_new_zipfile_serialization=False)
    return path


def test_torchxrayvisions_network_gives_what_its_own_package_gives() -> None:
    xrv = pytest.importorskip("torchxrayvision.models")
    own = liven(xrv.DenseNet())
    ours = NETWORKS[XRV].build(own.state_dict()).eval()
    images = torch.rand(2, 1, 224, 224) * 2 - 1
    with torch.inference_mode():
        features = ours.features(images)
        torch.testing.assert_close(features, own.features2(images * 1024))
    assert features.shape == (2, NETWORKS[XRV].dim)
    assert features.std() > 0.01


@pytest.fixture(scope="module")
def inception_state() -> dict[str, torch.Tensor]:
    """The tensors of pytorch-fid's network, random instead of downloaded."""
    drawn: dict[str, torch.Tensor] = {}

    def take(network: nn.Module, *_: object, **__: object) -> None:
        drawn.update(liven(network).state_dict())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytorch_fid.inception, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(nn.Module, "load_state_dict", take)
        pytorch_fid.inception.fid_inception_v3()
    return drawn


@pytest.mark.parametrize("side", [64, 299])
def test_inception_gives_what_pytorch_fid_gives(
    inception_state: dict, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    monkeypatch.setattr(pytorch_fid.inception, "load_state_dict_from_url", lambda *_, **__: inception_state)
    own = pytorch_fid.inception.InceptionV3().eval()
    ours = NETWORKS["inception"].build(inception_state).eval()
    films = torch.rand(2, 1, side, side)
    with torch.inference_mode():
        expected = own(films.expand(-1, 3, -1, -1))[0][:, :, 0, 0]
        features = ours.features(films * 2 - 1)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert features.shape == (2, NETWORKS["inception"].dim)


def test_inception_is_pinned(inception_state: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / NETWORKS["inception"].file
    save_file(inception_state, file)
    with pytest.raises(ValueError, match=r"has SHA-256 .*, but inception was published with 6726825d"):
        import_weights(file)
    assert not weights_path("inception").exists()
    monkeypatch.setitem(NETWORKS, "inception", replace(NETWORKS["inception"], sha256=sha256_file(file)))
    import_weights(file)
    loaded = load_extractor("inception")
    assert (loaded.dim, loaded.sha256) == (2048, sha256_file(file))
    assert loaded.features([np.zeros((1, 32, 32), np.uint8)]).shape == (1, 2048)
    with pytest.raises(ValueError, match="inception gives features and no answers"):
        _ = loaded.reader


@pytest.mark.parametrize("new", [True, False])
def test_a_state_dict_is_read_in_either_format(tmp_path: Path, new: bool) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    for content in (network.state_dict(), {"state_dict": network.state_dict()}, network):
        torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=new)
        tensors = unpickle.read_checkpoint((tmp_path / "x.pt").read_bytes())
        assert tensors.keys() == network.state_dict().keys()
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(tensors[name], tensor)


@pytest.mark.slow
def test_rad_dino_gives_its_cls_token_under_either_spelling() -> None:
    transformers = pytest.importorskip("transformers")
    small = {"num_hidden_layers": 1, "hidden_size": 24, "num_attention_heads": 2}
    own = transformers.Dinov2Model(transformers.Dinov2Config(image_size=518, **small)).eval()
    state = {name: torch.randn_like(tensor) * 0.1 for name, tensor in own.state_dict().items()}
    own.load_state_dict(state)
    renamed = {}
    for name, tensor in state.items():  # as the published file spells them
        for new, old in (("q_proj", "attention.query"), ("k_proj", "attention.key"), ("v_proj", "attention.value")):
            name = name.replace(f"attention.{new}", f"attention.{old}")
        renamed[name.replace("attention.o_proj", "attention.output.dense")] = tensor
    films = torch.rand(1, 1, 518, 518)
    with torch.inference_mode():
        expected = own(pixel_values=((films - 0.5307) / 0.2583).expand(-1, 3, -1, -1)).last_hidden_state[:, 0]
        for tensors in (state, renamed):
            ours = NETWORKS["rad-dino"].build(tensors, **small).eval()
            torch.testing.assert_close(ours.features(films * 2 - 1), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"1 tensors are missing.*layernorm.bias"):
        NETWORKS["rad-dino"].build(
            {name: tensor for name, tensor in state.items() if name != "layernorm.bias"}, **small
        )
    with pytest.raises(ValueError, match=r"1 tensors are missing.*layernorm.bias"):
        NETWORKS["rad-dino"].build({**state, "layernorm.bias": torch.zeros(3)}, **small)


def test_a_network_pickled_whole_is_imported_and_used(xrv_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(
        ValueError,
        match=rf"weights of {XRV} are not here; get https://.*thiscxr extractors import .*--allow-download",
    ):
        load_extractor(XRV)
    with caplog.at_level("INFO", logger="thiscxr"):
        assert import_weights(xrv_file) == weights_path(XRV), "known by its name"
    assert "nobody published a SHA-256" in caplog.text
    loaded = load_extractor(XRV)
    assert loaded.sha256 == sha256_file(xrv_file)
    films = np.random.default_rng(0).integers(0, 256, (2, 64, 64)).astype(np.uint8)
    expected = NETWORKS[XRV].build(densenet_like(xrv_file)).eval()
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.from_numpy(loaded.features([films])), expected.features(extractors._images(films))
        )
    entry = next(entry for entry in extractors.list_extractors() if entry["name"] == XRV)
    assert entry["weights"] == str(weights_path(XRV))
    assert entry["sha256"] is None
    resolutions = {entry["name"]: entry["res"] for entry in extractors.list_extractors()}
    assert (resolutions["thiscxr64"], resolutions[XRV], resolutions["inception"]) == (64, 224, 299)
    metadata, tensors = read_safetensors(weights_path(XRV), "extractor", weights.WEIGHTS_FORMAT)
    tensors["features.conv0.weight"][0] += 1
    write_safetensors(
        weights_path(XRV), tensors, {**metadata, "kind": "extractor", "format_version": weights.WEIGHTS_FORMAT}
    )
    with pytest.raises(ValueError, match="is damaged or of another network; import it again"):
        load_extractor(XRV)


def densenet_like(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a network that this test wrote itself."""
    return torch.load(path, weights_only=False).state_dict()


def test_wrong_shapes_and_unknown_files_are_refused(tmp_path: Path) -> None:
    small = tmp_path / "small.pt"
    save_file(small_densenet().state_dict(), small)
    with pytest.raises(
        ValueError,
        match=rf"small.pt is not the weights of {XRV}: [0-9]+ tensors are missing, "
        r"unknown or of another shape, such as ",
    ):
        import_weights(small, XRV)
    with pytest.raises(ValueError, match=r"is no file that is known; say whose weights it is: --name xrv"):
        import_weights(small)
    with pytest.raises(ValueError, match=r"no public network 'incption' \(did you mean 'inception'"):
        import_weights(small, "incption")
    with pytest.raises(ValueError, match="is not a file"):
        import_weights(tmp_path / "none.pt", XRV)
    save_file({"features.conv0.weight": torch.zeros(1)}, tmp_path / "few.safetensors")
    with pytest.raises(ValueError, match="is not the weights of"):
        import_weights(tmp_path / "few.safetensors", XRV)
    assert not weights_path(XRV).parent.exists()


def test_a_download_happens_only_when_allowed_and_is_checked_like_an_import(
    xrv_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []
    fetch = torch.hub.download_url_to_file
    monkeypatch.setattr(
        torch.hub,
        "download_url_to_file",
        lambda url, *rest, **options: (fetched.append(url), fetch(url, *rest, **options)),
    )
    file = tmp_path / "published.safetensors"
    save_file(densenet_like(xrv_file), file)
    monkeypatch.setitem(NETWORKS, XRV, replace(NETWORKS[XRV], url=file.as_uri()))
    with pytest.raises(ValueError, match="are not here"):
        load_public(XRV)
    assert fetched == []
    assert load_public(XRV, allow_download=True)[1] == sha256_file(file)
    assert [path.name for path in weights_path(XRV).parent.iterdir()] == [f"{XRV}.safetensors"]
    weights_path(XRV).unlink()
    monkeypatch.setitem(NETWORKS, XRV, replace(NETWORKS[XRV], url=file.as_uri(), sha256="0" * 64))
    with pytest.raises(ValueError, match="was published with 0000"):
        load_public(XRV, allow_download=True)
    monkeypatch.setitem(NETWORKS, XRV, replace(NETWORKS[XRV], url=(tmp_path / "gone.pt").as_uri()))
    with pytest.raises(
        ValueError, match=r"cannot be downloaded .*get it by other means and: thiscxr extractors import gone.pt"
    ):
        load_public(XRV, allow_download=True)
    assert list(weights_path(XRV).parent.iterdir()) == []


def test_every_public_network_says_what_it_is() -> None:
    assert {name for name in NETWORKS if name.startswith("xrv")} == {
        f"xrv-densenet121-{key}" for key in ("all", "nih", "pc", "chex", "rsna", "mimic_nb", "mimic_ch")
    }
    for network in NETWORKS.values():
        assert len(network.sha256) in (0, 64)
        assert network.licence
        assert network.url.startswith("https://")
    assert NETWORKS["inception"].file.endswith(f"-{NETWORKS['inception'].sha256[:8]}.pth")


def test_torchxrayvision_lists_the_same_weights() -> None:
    xrv = pytest.importorskip("torchxrayvision.models")
    theirs = {
        key.removeprefix("densenet121-res224-"): value["weights_url"]
        for key, value in xrv.model_urls.items()
        if "res224" in key
    }
    assert theirs == {
        name.removeprefix("xrv-densenet121-"): n.url for name, n in NETWORKS.items() if name.startswith("xrv")
    }


def test_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'thiscxr\[rad-dino\]'"):
        NETWORKS["rad-dino"].build(SimpleNamespace())
