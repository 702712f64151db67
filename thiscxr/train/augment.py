"""Adaptive augmentation of what the discriminator sees, with transforms that are safe for chest films.

No flip (the heart would change sides), no inversion (bone would turn black) and no quarter turn: those leak into the
samples as dextrocardia and upside-down films. Source: Karras et al. 2020, arXiv:2006.06676, section 3 and appendix B.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from thiscxr.train.draws import Draws

# transforms stay invertible in distribution, hence leak-free, only while p < 1 (section 2.2 of the paper)
MAX_STRENGTH = 0.85


@dataclass(frozen=True)
class AugmentRanges:
    """Standard deviations of the transforms; each is applied to each film with probability `strength`."""

    scale: float = 0.12  # log2 of the isotropic zoom
    stretch: float = 0.05  # log2 of the change of aspect
    turn_degrees: float = 5.0
    shift: float = 0.06  # share of the width
    brightness: float = 0.12  # of the range [-1, 1]
    contrast: float = 0.25  # log2
    noise: float = 0.06
    patch: float = 0.3  # width of the blanked square, share of the film's width


def augment(images: Tensor, strength: float, draws: Draws, ranges: AugmentRanges = AugmentRanges()) -> Tensor:
    """Transform films at random: [N, 1, H, W] in about [-1, 1] -> the same shape, differentiable in `images`.

    All random numbers come from `draws`, so one seed gives one augmentation on any device.
    """
    if strength <= 0:
        return images
    # Values from a normal of each spread, zero for the films on which the transform is not applied.
    turned, shifted = math.radians(ranges.turn_degrees), 2 * ranges.shift
    spreads = [ranges.scale, ranges.stretch, turned, shifted, shifted, ranges.contrast, ranges.brightness, ranges.noise]
    values = (
        draws.normal(len(spreads)).to(images.dtype) * torch.tensor(spreads) * (draws.uniform(len(spreads)) < strength)
    )
    zoom, stretch, turn, shift_x, shift_y, contrast, brightness, grain = values.unbind(dim=1)
    blank, centre = draws.uniform() < strength, draws.uniform(2)

    # The inverse map, from output to input coordinates in [-1, 1], as grid_sample wants it.
    zoom, stretch, contrast, grain = torch.exp2(zoom), torch.exp2(stretch), torch.exp2(contrast), grain.abs()
    cos, sin = torch.cos(turn), torch.sin(turn)
    row_x = torch.stack([cos * zoom * stretch, -sin * zoom, shift_x], dim=1)
    row_y = torch.stack([sin * zoom, cos * zoom / stretch, shift_y], dim=1)
    theta = torch.stack([row_x, row_y], dim=1).to(images)  # [N, 2, 3]
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    images = images * _per_film(contrast, images) + _per_film(brightness, images)
    images = images + draws.grain(*images.shape[1:], needed=grain > 0).to(images) * _per_film(grain, images)
    return images * _patch_mask(images.shape[2], blank, centre, ranges.patch).to(images)


def _per_film(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images)[:, None, None, None]  # [N] -> [N, 1, 1, 1]


def _patch_mask(res: int, blank: Tensor, centre: Tensor, size: float) -> Tensor:
    """[N] flags and [N, 2] centres in [0, 1] -> mask bool [N, 1, res, res], false inside the blanked square of
    flagged films."""
    at = (torch.arange(res) + 0.5) / res
    inside = (at[None, None, :] - centre[:, :, None]).abs() < size / 2  # [N, 2, res]
    square = inside[:, 0, :, None] & inside[:, 1, None, :]  # [N, res, res]
    return (~(square & blank[:, None, None]))[:, None]


def next_strength(strength: float, sign_mean: float, images: int, target: float, ada_kimg: float) -> float:
    """Return the strength after `images` more films: up when E[sign D(real)] is above `target` (the discriminator
    overfits), else down.

    It can go from 0 to 1 in `ada_kimg` thousand films at most. Source: Karras et al. 2020, arXiv:2006.06676, section
    3.1.
    """
    step = math.copysign(images / (ada_kimg * 1000), sign_mean - target)
    return min(max(strength + step, 0.0), MAX_STRENGTH)
