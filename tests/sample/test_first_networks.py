"""Networks of the first file version generate the films they always did: this file keeps the formula of the first
release."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from thiscxr.model.conditions import Condition, Vocabulary
from thiscxr.model.generator import Generator, GeneratorConfig
from thiscxr.model.network_file import NetworkInfo, find_network
from thiscxr.sample.latents import NOISE_STREAM, normals
from thiscxr.sample.sampling import Network, load, noises_of, sample_films, styles_of, to_pixels

SEEDS = range(4)


def first_upsample(x: Tensor) -> Tensor:
    x = F.pad(x * 1.0, (1, 1, 1, 1))
    for dim in (3, 2):
        size = x.shape[dim] - 2
        here = x.narrow(dim, 1, size)
        even, odd = (torch.lerp(x.narrow(dim, start, size), here, 0.75) for start in (0, 2))
        x = torch.stack((even, odd), dim + 1).flatten(dim, dim + 1)
    return x


def first_synthesis(generator: Generator, ws: Tensor, noises: list[Tensor]) -> Tensor:
    network, patch = generator.synthesis, generator.config.patch

    def grey(i: int, x: Tensor) -> Tensor:
        conv = network.to_grey[i].conv
        kernel = 1 if patch == 1 else 3
        style, weight = (
            conv.style(ws[:, 2 * i + 1]),
            conv.weight * (1 / math.sqrt(conv.weight.shape[1] * kernel * kernel)),
        )
        drawn = F.conv2d(x * style[:, :, None, None], weight, padding=kernel // 2)
        return F.pixel_shuffle(drawn + network.to_grey[i].bias[:, None, None], patch)

    x = network.constant.expand(ws.shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
    x = network.convs[0](x, ws[:, 0], noises[0])
    images = grey(0, x)
    for i in range(1, len(generator.config.resolutions)):
        x = network.convs[2 * i - 1](x, ws[:, 2 * i - 1], noises[2 * i - 1])
        x = network.convs[2 * i](x, ws[:, 2 * i], noises[2 * i])
        images = first_upsample(images) + grey(i, x)
    return images


def fresh(patch: int) -> Network:
    torch.manual_seed(patch)
    config = GeneratorConfig(32, 0, 16, 16, 2, channel_base=128, channel_max=16, patch=patch)
    generator = Generator(config).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    for name, value in generator.named_parameters():
        if name.endswith(("noise_strength", "bias")):
            value.normal_(std=0.3)
        elif "to_grey" in name and name.endswith("conv.weight"):
            value.mul_(0.2)  # neither black nor white
    return Network(generator, NetworkInfo("fresh", config, Vocabulary((), (), (), (), False), [], 0, "", {}), "")


@pytest.mark.parametrize("name", ["nih-64", 1, 2, 4])
def test_first_networks_give_the_same_bytes(name: str | int) -> None:
    network = fresh(name) if isinstance(name, int) else load(name)
    res, patch = network.info.architecture.res, network.info.architecture.patch
    sides = [4] + [side for side in (8, 16, 32, 64) if side * patch <= res for _ in range(2)]
    noises = [
        torch.from_numpy(normals(SEEDS, NOISE_STREAM + i, side * side)).view(-1, 1, side, side)
        for i, side in enumerate(sides)
    ]
    assert all(torch.equal(a, b) for a, b in zip(noises, noises_of(network, SEEDS), strict=True))
    conditions = network.conditions(SEEDS, Condition())
    with torch.inference_mode():
        expected = to_pixels(first_synthesis(network.generator, styles_of(network, SEEDS, conditions), noises))
    films = np.concatenate(list(sample_films(network, SEEDS, conditions)))
    assert np.array_equal(films, expected)
    assert films.std() > 20


def test_a_file_of_either_version_is_read_and_of_no_other(tmp_path: Path) -> None:
    with safe_open(find_network("nih-64"), framework="pt") as file:
        metadata = json.loads(file.metadata()["thiscxr"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    metadata.pop("content_sha256", None)
    assert metadata["format_version"] == 1, "the bundled file is one of the first"
    assert "haar" not in metadata["architecture"]
    films = load("nih-64").sample(SEEDS)

    def described(**facts: object) -> str:
        save_file(tensors, tmp_path / "n.safetensors", metadata={"thiscxr": json.dumps({**metadata, **facts})})
        return str(tmp_path / "n.safetensors")

    assert np.array_equal(load(described(format_version=2)).sample(SEEDS), films)
    for version in (0, 3, 9, "2", None, True, 1.5, [1]):
        with pytest.raises(
            ValueError, match=r"has format .*, but thiscxr \S+ reads 1 and 2; export it again or upgrade$"
        ) as error:
            load(described(format_version=version))
        assert "\n" not in str(error.value)
    for wrong in ({"patch": 1, "haar": True}, {"haar": True}):  # bands of single pixels; bands that the tensors are not
        with pytest.raises(ValueError, match="description and its tensors do not fit"):
            load(described(architecture={**metadata["architecture"], **wrong}))
