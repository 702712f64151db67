"""Networks that generate bands and grain: the grain has a stream of its own, films do not depend on the batch, files
come back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from thiscxr.model.conditions import Condition, Vocabulary
from thiscxr.model.generator import Generator, GeneratorConfig
from thiscxr.model.network_file import NetworkInfo, save_network
from thiscxr.sample.latents import NOISE_STREAM, normals
from thiscxr.sample.sampling import Network, load, noises_of, sample_films

SEEDS = list(range(9))
# the first row begins with these: seed 0, 128 px, patches of 2
GRAIN_VECTOR = [-0.2124503, -0.7410183, 0.9424425, -1.4414285]


def network(res: int = 64, patch: int = 2, haar: bool = True, gain: float = 1.0) -> Network:
    torch.manual_seed(0)
    vocabulary = Vocabulary(("Mass",), ("AP", "PA"), ("here",))
    config = GeneratorConfig(res, vocabulary.dim, 16, 16, 2, channel_base=256, channel_max=16, patch=patch, haar=haar)
    generator = Generator(config).eval().requires_grad_(False)
    for name, value in generator.named_parameters():
        if "to_grey" in name and name.endswith("conv.weight"):
            value.mul_(0.2)
    if haar:
        generator.synthesis.grain.gain.fill_(gain)
        generator.synthesis.grain.kernel.normal_()
    return Network(generator, NetworkInfo("bands", config, vocabulary, [], 0, "", {}), "")


def draw(made: Network, seeds: list[int] = SEEDS, batch: int = 64) -> np.ndarray:
    return np.concatenate(list(sample_films(made, seeds, [Condition("PA")] * len(seeds), batch=batch))).astype(int)


@pytest.mark.parametrize("patch", [2, 4])
def test_a_seed_gives_the_same_film_whatever_the_batch(patch: int) -> None:
    films = {batch: draw(network(patch=patch), batch=batch) for batch in (1, 4, 9)}
    assert max(abs(films[1] - films[batch]).max() for batch in (4, 9)) <= 1
    assert abs(films[9][0] - films[9][1]).max() > 10


@pytest.mark.parametrize("patch", [2, 4])
def test_the_grain_has_a_stream_of_its_own_after_the_others(patch: int) -> None:
    old, new = (noises_of(network(patch=patch, haar=haar), SEEDS) for haar in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(old, new[:-1], strict=True)), "the other noises of a seed stay"
    expected = normals(SEEDS, NOISE_STREAM + len(old), 64 * 64).reshape(-1, 1, 64, 64)
    assert np.array_equal(new[-1].numpy(), expected)


def test_documented_grain() -> None:
    """The vector of docs/formats.md."""
    [grain] = noises_of(network(128), [0])[-1][:, 0].numpy()
    np.testing.assert_allclose(grain[0, :4], GRAIN_VECTOR, rtol=1e-6)
    assert np.array_equal(grain.ravel(), normals([0], 11, 128 * 128)[0])


def test_grain_changes_single_pixels_and_without_strength_none() -> None:
    loud, silent = draw(network()), draw(network(gain=0.0))
    difference = loud - silent
    assert 5 < difference.std() < 30  # a gain of 1 is 0.1 of [-1, 1], where films are not clipped
    assert abs(difference[:, ::2, ::2].mean()) < 1, "and no grey level as a whole"
    assert not np.array_equal(difference[0], difference[1])


def test_a_file_of_version_2_comes_back(tmp_path: Path) -> None:
    made = network()
    save_network(tmp_path / "bands.safetensors", made.generator, made.info)
    with safe_open(tmp_path / "bands.safetensors", framework="pt") as file:
        facts = json.loads(file.metadata()["thiscxr"])
        names = set(file.keys())
    assert (facts["format_version"], facts["architecture"]["haar"]) == (2, True)
    assert {f"synthesis.grain.{name}" for name in ("kernel", "gain", "bias", "conv.weight")} <= names
    assert not [name for name in names if name.endswith(".synthesis")], "what is computed is not stored"
    again = load(tmp_path / "bands.safetensors")
    assert again.info == made.info
    assert np.array_equal(draw(again), draw(made))
