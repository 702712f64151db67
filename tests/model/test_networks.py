"""Generator and discriminator: shapes, the factored modulation, gains, and what an unknown condition does."""

import pytest
import torch
import torch.nn.functional as F

from thiscxr.model.discriminator import Discriminator, DiscriminatorConfig, minibatch_std
from thiscxr.model.generator import Generator, GeneratorConfig, ModulatedConv
from thiscxr.model.resample import downsample2, filter2d, upsample2

HEADS = [(1, False), (2, False), (2, True), (4, True)]  # patch, haar


def inputs(config: GeneratorConfig, n: int) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    return (
        torch.randn(n, config.z_dim),
        torch.randn(n, config.c_dim),
        [torch.randn(n, 1, res, res) for res in config.noise_resolutions],
    )


@pytest.mark.parametrize(("res", "c_dim"), [(32, 5), (64, 5), (64, 0), (128, 5), (256, 5), (512, 5), (1024, 5)])
@pytest.mark.parametrize(("patch", "haar"), HEADS)
def test_shapes_at_every_resolution(res: int, c_dim: int, patch: int, haar: bool) -> None:
    config = GeneratorConfig(res, c_dim, 16, 16, 2, channel_base=4 * res, channel_max=8, patch=patch, haar=haar)
    images = Generator(config)(*inputs(config, 2))
    assert images.shape == (2, 1, res, res)
    assert torch.isfinite(images).all()
    discriminator = Discriminator(
        DiscriminatorConfig(res, c_dim, channel_base=4 * res, channel_max=8, patch=patch, haar=haar)
    )
    assert discriminator(images, torch.randn(2, c_dim)).shape == (2,)


@pytest.mark.parametrize(("patch", "haar"), HEADS)
def test_growth_blends_from_half_the_resolution_to_the_full_one(patch: int, haar: bool) -> None:
    torch.manual_seed(0)
    config = GeneratorConfig(64, 0, channel_base=256, channel_max=8, patch=patch, haar=haar)
    generator = Generator(config)
    if haar:
        torch.nn.init.constant_(generator.synthesis.grain.gain, 5.0)
    z, _, noises = inputs(config, 2)
    ws = generator.styles(z, torch.zeros(2, 0))
    full = len(config.resolutions)
    assert config.grown_noise_resolutions(full) == config.noise_resolutions
    # which knows nothing of the grain
    small = generator.synthesis(ws, noises[: len(config.grown_noise_resolutions(full - 1))], full - 1)
    assert small.shape == (2, 1, 32, 32)
    films = {blend: generator.synthesis(ws, noises, full - 1 + blend) for blend in (1e-6, 0.5, 1.0)}
    torch.testing.assert_close(films[1e-6], upsample2(small, edge=haar), atol=1e-4, rtol=0)
    torch.testing.assert_close(films[0.5], (films[1e-6] + films[1.0]) / 2, atol=1e-4, rtol=0)
    torch.testing.assert_close(films[1.0], generator.synthesis(ws, noises))
    generator.synthesis.bake(full - 0.5)
    torch.testing.assert_close(generator.synthesis(ws, noises), films[0.5])
    generator.synthesis.bake(full - 1)
    torch.testing.assert_close(generator.synthesis(ws, noises), upsample2(small, edge=haar))


@pytest.mark.parametrize(("patch", "haar"), HEADS)
def test_a_growing_discriminator_blends_from_half_the_resolution(patch: int, haar: bool) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(
        DiscriminatorConfig(64, 3, channel_base=256, channel_max=8, patch=patch, haar=haar, first_res=16)
    )
    images, c = torch.randn(4, 1, 64, 64), torch.randn(4, 3)
    torch.testing.assert_close(
        discriminator(images, c, 1e-7), discriminator(downsample2(images), c), atol=1e-4, rtol=1e-4
    )
    assert (discriminator(images, c, 0.5) - discriminator(images, c)).abs().max() > 1e-4


@pytest.mark.parametrize("patch", [2, 4])
def test_a_discriminator_of_bands_is_one_of_pixels_with_other_first_weights(patch: int) -> None:
    configs = [
        DiscriminatorConfig(64, 0, channel_base=256, channel_max=8, patch=patch, haar=haar) for haar in (True, False)
    ]
    bands, pixels = (Discriminator(config) for config in configs)
    pixels.load_state_dict(bands.state_dict())
    images, c = torch.randn(4, 1, 64, 64), torch.zeros(4, 0)
    assert (bands(images, c) - pixels(images, c)).abs().max() > 1e-3
    with torch.no_grad():
        for layer in pixels.from_grey.values():
            layer.weight.copy_(torch.einsum("bp,cbhw->cphw", bands.analysis[:, :, 0, 0], layer.weight))
    torch.testing.assert_close(bands(images, c), pixels(images, c), atol=1e-4, rtol=1e-4)
    read = F.conv2d(F.pixel_unshuffle(images, patch), bands.analysis)
    torch.testing.assert_close(read[:, 0], patch * F.avg_pool2d(images, patch)[:, 0])
    assert read.std(dim=(0, 2, 3)).tolist() == pytest.approx([1.0] * patch**2, rel=0.1), "white noise stays white"


@pytest.mark.parametrize("patch", [1, 3, 8])
def test_bands_need_patches_of_two_or_four(patch: int) -> None:
    with pytest.raises(ValueError, match=f"haar is for patches of 2 or 4 pixels, not of {patch}"):
        GeneratorConfig(64, 0, patch=patch, haar=True)


def factored(conv: ModulatedConv, x: torch.Tensor, w: torch.Tensor, demodulate: bool = True) -> torch.Tensor:
    y, demodulation = conv(x, w)
    y = filter2d(y, padding=1, gain=4.0) if conv.up else y
    return y * demodulation[:, :, None, None] if demodulate else y


def grouped(conv: ModulatedConv, x: torch.Tensor, w: torch.Tensor, demodulate: bool = True) -> torch.Tensor:
    """Per-film weights and one grouped convolution: the form of the paper, which does not export with a free batch
    size."""
    n = x.shape[0]
    weight = conv.weight * conv.gain * conv.style(w)[:, None, :, None, None]  # Eq. 1
    if demodulate:
        weight = weight * (weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()  # Eq. 3
    if conv.up:
        # a transposed convolution mirrors the kernel; learnt weights do not mind
        x, weight = upsample2(x), weight.flip(-1, -2)
    y = F.conv2d(
        x.reshape(1, -1, *x.shape[2:]), weight.reshape(-1, *weight.shape[2:]), padding=weight.shape[-1] // 2, groups=n
    )
    return y.reshape(n, -1, *y.shape[2:])


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
def test_factored_modulation_equals_grouped_weights(demodulate: bool, kernel: int) -> None:
    conv = ModulatedConv(6, 4, kernel, 8).double()
    x, w = torch.randn(3, 6, 8, 8, dtype=torch.float64), torch.randn(3, 8, dtype=torch.float64)
    torch.testing.assert_close(factored(conv, x, w, demodulate), grouped(conv, x, w, demodulate))


def test_upsampling_modulation_equals_fir_then_grouped_weights_inside() -> None:
    # At the border the two orders see different zeros; inside they are the same function.
    conv = ModulatedConv(6, 4, 3, 8, up=True).double()
    x, w = torch.randn(3, 6, 8, 8, dtype=torch.float64), torch.randn(3, 8, dtype=torch.float64)
    torch.testing.assert_close(factored(conv, x, w)[..., 2:-2, 2:-2], grouped(conv, x, w)[..., 2:-2, 2:-2])


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_demodulation_keeps_unit_variance_whatever_the_style(scale: float) -> None:
    torch.manual_seed(0)
    conv = ModulatedConv(64, 64, 3, 16)
    y = factored(conv, torch.randn(8, 64, 16, 16), torch.randn(8, 16) * scale)
    assert y[..., 1:-1, 1:-1].std().item() == pytest.approx(1.0, abs=0.1)


def test_truncation_zero_is_the_mean_film_and_one_changes_nothing() -> None:
    config = GeneratorConfig(32, 0, channel_base=64, channel_max=8)
    generator = Generator(config)
    generator.w_mean.normal_()
    z, c, _ = inputs(config, 3)
    ws = generator.styles(z, c, 0.0)
    torch.testing.assert_close(ws, generator.w_mean.expand_as(ws))
    torch.testing.assert_close(generator.styles(z, c, 1.0)[:, 0], generator.mapping(z, c))


@pytest.mark.parametrize(("patch", "haar"), HEADS)
def test_noise_reaches_every_input(patch: int, haar: bool) -> None:
    config = GeneratorConfig(32, 0, channel_base=64, channel_max=8, patch=patch, haar=haar)
    generator = Generator(config)
    if haar:
        torch.nn.init.ones_(generator.synthesis.grain.gain)
    for conv in generator.synthesis.convs:
        torch.nn.init.ones_(conv.noise_strength)
    z, c, noises = inputs(config, 1)
    before = generator(z, c, noises)
    for i in range(len(noises)):
        changed = [noise + 1 if i == k else noise for k, noise in enumerate(noises)]
        assert (generator(z, c, changed) - before).abs().max() > 1e-4, f"noise input {i} does nothing"
    if haar:
        torch.nn.init.zeros_(generator.synthesis.grain.gain)
        torch.testing.assert_close(
            generator(z, c, [*noises[:-1], torch.zeros_like(noises[-1])]), generator(z, c, noises)
        )


def test_minibatch_std_is_zero_for_equal_films_and_one_for_unit_spread() -> None:
    equal = torch.ones(8, 2, 4, 4)
    assert minibatch_std(equal, 4)[:, 2].abs().max() < 1e-3
    spread = torch.tensor([1.0, 1.0, -1.0, -1.0])[:, None, None, None].expand(4, 2, 4, 4)
    torch.testing.assert_close(minibatch_std(spread, 4)[:, 2], torch.ones(4, 4, 4))


def test_several_conditions_of_a_film_are_scored_as_each_alone() -> None:
    discriminator = Discriminator(DiscriminatorConfig(32, 5, channel_base=128, channel_max=8))
    images, c = torch.randn(8, 1, 32, 32), torch.randn(8, 3, 5)
    together = discriminator(images, c)
    assert together.shape == (8, 3)
    torch.testing.assert_close(together, torch.stack([discriminator(images, each) for each in c.unbind(1)], dim=1))
    assert (together.std(dim=1) > 0).all(), "conditions count"


def test_an_unknown_condition_neither_helps_nor_penalises() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(DiscriminatorConfig(32, 5, channel_base=64, channel_max=8))
    images, unknown = torch.randn(4, 1, 32, 32), torch.zeros(4, 5)
    before = discriminator(images, unknown)
    torch.nn.init.normal_(discriminator.embed.weight, std=100)
    torch.testing.assert_close(discriminator(images, unknown), before)
    assert (discriminator(images, torch.ones(4, 5)) - before).abs().min() > 1e-3
