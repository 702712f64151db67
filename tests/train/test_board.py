"""The pictures of TensorBoard: the filters are what the network computes, the rows are what they say, and they
arrive."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.train.test_loop import small
from thiscxr.labels import FINDINGS, NEGATIVE, POSITIVE
from thiscxr.model.conditions import Condition, Vocabulary
from thiscxr.model.discriminator import Discriminator, DiscriminatorConfig
from thiscxr.model.generator import Generator, GeneratorConfig
from thiscxr.model.network_file import NetworkInfo
from thiscxr.model.resample import filter2d
from thiscxr.pool import Pool
from thiscxr.sample.sampling import Network
from thiscxr.train import loop
from thiscxr.train.board import SEEDS, filter_grid, first_filters, noise_strengths, requested_grid, requested_rows

KNOWN = Vocabulary(("Effusion", "Hernia"), ("AP", "PA"), ("discs",))


@pytest.mark.parametrize(("patch", "haar"), [(1, False), (2, False), (2, True)])
def test_filters_are_what_the_first_block_computes(patch: int, haar: bool) -> None:
    torch.manual_seed(0)
    D = Discriminator(DiscriminatorConfig(32, 0, channel_base=128, channel_max=6, patch=patch, haar=haar))
    res = 32 // patch
    film = torch.randn(1, 1, 32, 32)
    layer, block = D.from_grey[str(res)], D.blocks[str(res)]
    places = F.pixel_unshuffle(film, patch)
    first = F.conv2d(F.conv2d(places, D.analysis) if haar else places, layer.weight, padding=layer.padding)
    whole = F.conv2d(filter2d(F.conv2d(first, block.conv0.weight, padding=1), padding=2), block.conv1.weight, stride=2)
    kernels = first_filters(D, res)
    for answers, kernel, stride, margin in zip(
        (first, whole), kernels, (1, 2), (layer.padding, layer.padding + 3), strict=True
    ):
        found = F.conv2d(film, kernel[:, None], stride=stride * patch, padding=margin * patch)
        inside = slice(4, answers.shape[-1] - 4)  # at the border the layers see their own zeros
        torch.testing.assert_close(found[..., inside, inside], answers[..., inside, inside], rtol=1e-4, atol=1e-3)
    assert [len(first_filters(Discriminator(DiscriminatorConfig(32, 0, patch=patch, first_res=4 * patch)), 4))] == [
        1
    ], "no block at 4"


def test_a_filter_grid_has_the_strongest_first_and_zero_grey() -> None:
    kernels = torch.zeros(9, 6, 6)
    kernels[4, 0, 0], kernels[7, 5, 5] = 3.0, -1.0
    grid = filter_grid(kernels)
    tile = 6 * 8 + 2
    assert grid.shape == (2 * tile, 8 * tile)
    assert (grid[1:9, 1:9] == 255).all()
    assert (grid[10:49, 1:49] == 128).all()
    assert (grid[41:49, tile + 41 : tile + 49] == 0).all()
    assert (grid[0] == 0).all()


def test_rows_request_one_factor_each_that_enough_films_have() -> None:
    findings = np.full((100, len(FINDINGS)), NEGATIVE, np.int8)
    findings[:2, FINDINGS.index("Effusion")] = POSITIVE
    findings[:1, FINDINGS.index("Hernia")] = POSITIVE
    findings[:, FINDINGS.index("Mass")] = POSITIVE
    names = [name for name, _ in requested_rows(KNOWN, findings)]
    assert names == ["nothing", "AP", "PA", "F", "M", "25 years", "75 years", "Effusion"], (
        "Hernia is too rare, Mass was not learnt"
    )
    for name, condition in requested_rows(KNOWN, findings):
        assert np.count_nonzero(KNOWN.encode([condition])) == {"nothing": 0, "25 years": 2, "75 years": 2}.get(name, 1)
    assert [name for name, _ in requested_rows(Vocabulary((), (), (), (), False), findings)] == ["nothing"]


@pytest.mark.parametrize("res", [32, 256])
def test_rows_and_columns_of_the_films_by_condition(res: int) -> None:
    torch.manual_seed(0)
    G = Generator(GeneratorConfig(res, KNOWN.dim, 16, 16, 2, channel_base=4 * res, channel_max=8, patch=2)).eval()
    info = NetworkInfo("x", G.config, KNOWN, [], 0, "", {})
    rows = [("nothing", Condition()), ("PA", Condition(view="PA")), ("F", Condition(sex="F"))]
    grid = requested_grid(G, info, rows)
    shown = min(res, 128)
    assert grid.shape == (3 * shown, 8 * shown)
    film = (
        Network(G, info, "").sample([SEEDS[2]], view="PA")[0].reshape(shown, res // shown, shown, -1).mean(axis=(1, 3))
    )
    # one level, whatever the batch
    np.testing.assert_allclose(grid[shown : 2 * shown, 2 * shown : 3 * shown], film, atol=1.01)
    with torch.no_grad():
        G.mapping.embed.weight.zero_()
    same = requested_grid(G, info, rows)
    assert (same[:shown] == same[shown : 2 * shown]).all(), (
        "columns have one seed: without conditions all rows are alike"
    )


def test_noise_strengths_are_means_over_a_block() -> None:
    G = Generator(GeneratorConfig(32, 0, channel_base=64, channel_max=8, patch=2, haar=True))
    for strength, conv in zip((1.0, 2.0, -4.0, 0.0, 0.5), G.synthesis.convs, strict=True):
        torch.nn.init.constant_(conv.noise_strength, strength)
    assert noise_strengths(G) == {4: 1.0, 8: 3.0, 16: 0.25}


def test_they_arrive_in_the_run_folder(pool: Pool, tmp_path: Path) -> None:
    run = loop.train(small(pool, tmp_path, kimg=0.08), pool, "discs")
    events = EventAccumulator(str(run), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    assert {"fakes", "asked", "D/first layer", "D/first block"} == set(tags["images"])
    assert {"noise/4", "noise/16", "loss/D", "augment/strength", "data/wait_share"} <= set(tags["scalars"])
    (text,) = events.Tensors("asked/text_summary")
    assert b"From above: nothing, AP, PA, F, M, 25 years, 75 years, Effusion" in text.tensor_proto.string_val[0]
    assert sorted(path.name for path in run.glob("*.png")) == ["fakes-000000.png", "reals.png"], (
        "no picture beyond the contract"
    )
