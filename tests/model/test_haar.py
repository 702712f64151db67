"""Haar bands against their closed form, and the output layer that uses them: flat stays flat, up to the edge and after
training."""

import pytest
import torch
import torch.nn.functional as F

from thiscxr.model.generator import DETAIL, GRAIN, Grain, SmoothToGrey, ToGrey
from thiscxr.model.haar import analysis, detail_synthesis, without_mean
from thiscxr.model.resample import upsample2


def test_bands_of_a_square_are_its_mean_and_half_its_differences() -> None:
    a, b, c, d = 7.0, 1.0, 4.0, 2.0
    bands = analysis(2) @ torch.tensor([a, b, c, d])
    expected = [(a + b + c + d) / 4, (a - b + c - d) / 4, (a + b - c - d) / 4, (a - b - c + d) / 4]
    torch.testing.assert_close(bands, torch.tensor(expected))


def test_bands_of_four_by_four_are_those_of_its_means_and_of_its_quarters() -> None:
    film = torch.randn(1, 1, 4, 4)
    bands = analysis(4) @ film.flatten()
    quarters = F.pixel_unshuffle(film, 2)[0].flatten(1)  # [pixel of a quarter, quarter]
    torch.testing.assert_close(bands[:4], analysis(2) @ quarters.mean(dim=0))
    torch.testing.assert_close(bands[4:].view(3, 4), analysis(2)[1:] @ quarters)


@pytest.mark.parametrize("patch", [2, 4])
def test_the_mean_and_the_details_add_up_to_the_pixels(patch: int) -> None:
    film = torch.randn(5, 1, 4 * patch, 4 * patch)
    bands = torch.einsum("bp,nphw->nbhw", analysis(patch), F.pixel_unshuffle(film, patch))
    first, images = 1, bands[:, :1]
    for level, synthesis in enumerate(detail_synthesis(patch), 1):
        details = bands[:, first : first + 3 * 4 ** (level - 1)]
        first += details.shape[1]
        pixels = F.pixel_shuffle(torch.einsum("pb,nbhw->nphw", synthesis, details), 2**level)
        images = F.interpolate(images, scale_factor=2) + pixels
    assert first == patch * patch
    torch.testing.assert_close(images, film)


def head(patch: int, seed: int = 0) -> SmoothToGrey:
    torch.manual_seed(seed)
    made = SmoothToGrey(6, 8, patch)
    torch.nn.init.normal_(made.bias)
    return made


def steps(images: torch.Tensor) -> float:
    """Return the largest difference between neighbouring pixels."""
    return max(images.diff(dim=dim).abs().max().item() for dim in (2, 3))


@pytest.mark.parametrize("patch", [2, 4])
def test_flat_features_give_no_detail_whatever_the_style_and_up_to_the_edge(patch: int) -> None:
    flat, w = torch.randn(3, 6, 1, 1).expand(3, 6, 8, 8), 3 * torch.randn(3, 8)
    assert steps(head(patch)(flat, w)) < 1e-5
    torch.manual_seed(0)
    assert steps(ToGrey(6, 8, patch)(flat, w)) > 0.1, "free pixels differ: the grid, and a frame"
    assert steps(head(patch)(torch.randn(3, 6, 8, 8), w)) > 0.1, "there are details where something changes"


@pytest.mark.parametrize("patch", [2, 4])
def test_flat_features_give_no_detail_after_training(patch: int) -> None:
    made = head(patch)
    before = made.conv.weight.detach().clone()
    optimizer = torch.optim.Adam(made.parameters(), lr=0.1)
    x, w = torch.randn(4, 6, 8, 8), torch.randn(4, 8)
    for _ in range(5):
        optimizer.zero_grad()
        (made(x, w) - torch.randn(4, 1, 8 * patch, 8 * patch)).square().mean().backward()
        optimizer.step()
    assert ((made.conv.weight - before).abs().amax(dim=(1, 2, 3)) > 0.01).all(), "every band learns"
    assert steps(made(torch.randn(2, 6, 1, 1).expand(2, 6, 8, 8), torch.randn(2, 8))) < 1e-5
    assert without_mean(made.conv.weight).mean(dim=(2, 3)).abs().max() < 1e-6


def test_a_larger_patch_without_its_finest_details_is_the_smaller_one_enlarged() -> None:
    small, large = head(2), head(4)
    x, w = torch.randn(2, 6, 8, 8), torch.randn(2, 8)
    with torch.no_grad():
        large.conv.weight.zero_()[:4] = small.conv.weight
        large.bias.copy_(small.bias)
        large.conv.style.load_state_dict(small.conv.style.state_dict())
    torch.testing.assert_close(large(x, w), upsample2(small(x, w), edge=True))


def test_a_detail_is_generated_where_its_band_is_read() -> None:
    """One band at a time: a change of features to the right gives this pattern of pixels, and no other band."""
    for patch in (2, 4):
        for band in range(1, patch * patch):
            made = head(patch)
            with torch.no_grad():
                made.conv.weight.zero_()[band, 0, 1, 1] = 1.0
                made.bias.zero_()
            x = torch.zeros(1, 6, 5, 5)
            x[0, 0, 2, 2] = 1.0
            with torch.no_grad():
                place = F.pixel_unshuffle(made(x, torch.zeros(1, 8)), patch)[0, :, 2, 2]  # styles of w = 0 are one
            bands = analysis(patch) @ place / (DETAIL * made.conv.gain)
            finest = band >= 4 or patch == 2  # a coarse detail is enlarged smoothly, which leaves finer ones
            assert bands[band] == pytest.approx(8 / 9 if finest else 8 / 9 * 0.5, abs=0.2 if not finest else 1e-5), (
                patch,
                band,
            )
            others = bands[:4] if not finest else bands
            assert others.abs().argmax() == band


def grain(patch: int = 2) -> Grain:
    torch.manual_seed(0)
    made = Grain(6, 8, patch)
    with torch.no_grad():
        made.gain.fill_(2.0)
        made.kernel.normal_()
    return made


def test_grain_is_nothing_at_first_and_learns() -> None:
    made = Grain(6, 8, 2)
    x, w, noise = torch.randn(3, 6, 8, 8), torch.randn(3, 8), torch.randn(3, 1, 16, 16)
    images = made(x, w, noise)
    assert not images.any()
    (images - 0.01 * noise).square().mean().backward()
    assert made.gain.grad.abs() > 0


@pytest.mark.parametrize("patch", [2, 4])
def test_grain_is_as_strong_as_the_gain_says_also_at_the_border(patch: int) -> None:
    made = grain(patch)
    with torch.no_grad():
        made.kernel.mul_(7.0)  # its size says nothing
        images = made(torch.randn(4000, 6, 2, 2), torch.randn(4000, 8), torch.randn(4000, 1, 2 * patch, 2 * patch))
    torch.testing.assert_close(
        images.square().mean(dim=0).sqrt(), torch.full((1, 2 * patch, 2 * patch), 2.0 * GRAIN), rtol=0.06, atol=0
    )


@pytest.mark.parametrize("patch", [2, 4])
def test_grain_is_noise_under_the_kernel_wrapped_around(patch: int) -> None:
    made = grain(patch)
    noise = torch.randn(2, 1, 4 * patch, 4 * patch)
    images = made(torch.randn(2, 6, 4, 4), torch.randn(2, 8), noise)
    wrapped = F.pad(noise, (2, 2, 2, 2), mode="circular")
    torch.testing.assert_close(images, F.conv2d(wrapped, made.kernel[None, None] / made.kernel.norm()) * 2.0 * GRAIN)


def test_grain_differs_by_film_and_place_as_the_features_say() -> None:
    made = grain()
    with torch.no_grad():
        made.conv.weight.normal_()
        x, w = torch.randn(2, 6, 8, 8), torch.randn(2, 8)
        strength = made(x, w, torch.ones(2, 1, 16, 16))  # under flat noise the strength itself shows
        expected = upsample2((made.conv(x, w)[0] + 1) * 2.0 * GRAIN, edge=True) * made.kernel.sum() / made.kernel.norm()
        torch.testing.assert_close(strength, expected)
        assert (strength[0] - strength[1]).abs().max() > 0.05
        noise = torch.randn(2, 1, 16, 16)
        torch.testing.assert_close(made(x, w, -noise), -made(x, w, noise))
