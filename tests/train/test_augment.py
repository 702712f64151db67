"""Augmentation: identity at zero, safe for chests, steered by the discriminator's overfitting."""

import pytest
import torch

from thiscxr.train.augment import MAX_STRENGTH, AugmentRanges, augment, next_strength
from thiscxr.train.draws import Draws


def test_strength_zero_changes_nothing() -> None:
    images = torch.randn(4, 1, 32, 32)
    torch.testing.assert_close(augment(images, 0.0, Draws(0, 0, 4)), images, rtol=0, atol=0)


def test_one_seed_gives_one_augmentation_however_many_processes_share_the_batch() -> None:
    images = torch.randn(8, 1, 32, 32)
    whole = augment(images, 0.7, Draws(3, 0, 8))
    torch.testing.assert_close(augment(images, 0.7, Draws(3, 0, 8)), whole, rtol=0, atol=0)
    assert (augment(images, 0.7, Draws(3, 8, 8)) - whole).abs().max() > 0.1, "another step is augmented otherwise"
    rows = torch.tensor([1, 6])
    torch.testing.assert_close(augment(images[rows], 0.7, Draws(3, 0, 8, rows)), whole[rows])


def test_the_heart_stays_on_its_side_and_the_film_upright_and_not_inverted() -> None:
    # A bright blob at the lower right (the viewer's), as a heart apex: at full strength its centre of mass must stay in
    # that quadrant.
    films = torch.full((400, 1, 64, 64), -1.0)
    films[:, :, 38:52, 38:52] = 1.0
    # what only hides is left out
    out = augment(films, MAX_STRENGTH, Draws(0, 0, 400), AugmentRanges(noise=0.0, patch=0.0))
    bright = (out - out.amin(dim=(2, 3), keepdim=True)).square()
    at = torch.arange(64.0)
    x = (bright.sum(dim=2) * at).sum(dim=2) / bright.sum(dim=(2, 3)).clamp(min=1e-6)
    y = (bright.sum(dim=3) * at).sum(dim=2) / bright.sum(dim=(2, 3)).clamp(min=1e-6)
    assert (x > 32).all()
    assert (y > 32).all()
    corner = out[:, 0, 2:6, 2:6].mean(dim=(1, 2))
    assert (out[:, 0].amax(dim=(1, 2)) > corner).all(), "bone must stay brighter than air"


def test_gradients_reach_the_films() -> None:
    images = torch.randn(4, 1, 32, 32, requires_grad=True)
    augment(images, 0.8, Draws(0, 0, 4)).square().sum().backward()
    assert (images.grad.abs().sum(dim=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize(("sign", "expected"), [(0.9, 0.51), (0.1, 0.49)])
def test_strength_follows_the_sign_of_d(sign: float, expected: float) -> None:
    assert next_strength(0.5, sign, 1000, 0.6, 100.0) == pytest.approx(expected)


def test_strength_stays_within_its_limits() -> None:
    assert next_strength(0.0, -1.0, 1000, 0.6, 1.0) == 0.0
    assert next_strength(0.8, 1.0, 10**6, 0.6, 1.0) == MAX_STRENGTH
