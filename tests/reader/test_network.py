"""The classifier's two backbones, and where their weights may come from."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import densenet121

from thiscxr.model.network_file import find_weights
from thiscxr.reader.network import Reader, ReaderConfig, start_from_imagenet
from thiscxr.reader.training import load_reader


def config(backbone: str, res: int) -> ReaderConfig:
    return ReaderConfig(("Mass", "Edema"), ("AP", "PA"), ("a",), res, backbone=backbone)


@pytest.mark.parametrize(
    ("backbone", "res", "dim", "side"), [("small", 64, 128, 4), ("small", 128, 128, 8), ("densenet121", 64, 1024, 2)]
)
def test_films_of_any_size_become_maps_features_and_logits(backbone: str, res: int, dim: int, side: int) -> None:
    reader = Reader(config(backbone, res)).eval()
    for given in (32, res, 2 * res):
        images = torch.rand(2, 1, given, given) * 2 - 1
        maps = reader.maps(images)
        assert maps.shape == (2, dim, side, side)
        assert maps.min() >= 0
        torch.testing.assert_close(reader.features(images), maps.mean(dim=(2, 3)))
        assert {name: tuple(logits.shape) for name, logits in reader(images).items()} == {
            "findings": (2, 2), "view": (2, 2), "source": (2, 1), "sex": (2, 1), "age": (2, 1),
        }  # fmt: skip
    assert reader.config.feature_dim == dim
    assert reader.first_filters.shape == ((24, 5, 5) if backbone == "small" else (64, 7, 7))


def test_an_enlarged_film_has_no_steps() -> None:
    ramp = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32)
    steps = Reader(config("small", 64)).resize(ramp)[0, 0, 0].diff()
    assert steps.max() < 1.1 * 2 / 31 / 2, "each pixel twice would jump by a whole step"


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match="backbone 'resnet' is not one of small, densenet121"):
        config("resnet", 64)
    with pytest.raises(ValueError, match="classifier of 16 px was requested"):
        config("small", 16)


def test_the_bundled_classifier_of_before_the_backbones_still_loads() -> None:
    reader, _ = load_reader(find_weights("thiscxr64", "reader"))
    assert (reader.config.backbone, reader.config.feature_dim, reader.config.res) == ("small", 128, 64)


@pytest.mark.parametrize("form", ["now.pth", "as distributed.pth", "now.safetensors"])
def test_weights_of_torchvision_read_a_grey_film_as_one_in_three_channels(tmp_path: Path, form: str) -> None:
    theirs = densenet121(weights=None).eval()
    weights = theirs.state_dict()
    path = tmp_path / form
    if form == "as distributed.pth":  # denselayer1.norm1.weight was denselayer1.norm.1.weight
        old = {f".{layer}{i}.": f".{layer}.{i}." for layer in ("norm", "conv") for i in (1, 2)}
        for name in [name for name in weights if "denselayer" in name]:
            new = name
            for now, then in old.items():
                new = new.replace(now, then)
            weights[new] = weights.pop(name)
    if path.suffix == ".pth":
        torch.save(weights, path)
    else:
        save_file(weights, path)
    reader = Reader(config("densenet121", 64)).eval()
    start_from_imagenet(reader, path)
    film = torch.randn(1, 1, 64, 64)
    expected = torch.relu(theirs.features(film.expand(1, 3, 64, 64)))
    torch.testing.assert_close(reader.maps(film), expected, rtol=1e-3, atol=1e-4)


def test_files_without_weights_of_torchvision_are_refused(tmp_path: Path) -> None:
    reader = Reader(config("densenet121", 64))
    torch.save({"features.conv0.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "part.pth")
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    torch.save(Path("x"), tmp_path / "object.pth")  # a pickle of more than tensors
    for name in ("part.pth", "x.safetensors", "object.pth", "none.pth"):
        with pytest.raises(
            ValueError,
            match=rf"--pretrained .*{name} does not hold the weights of torchvision's densenet121 \(.+\)",
        ):
            start_from_imagenet(reader, tmp_path / name)
    with pytest.raises(ValueError, match="is for --backbone densenet121"):
        start_from_imagenet(Reader(config("small", 64)), tmp_path / "part.pth")
