"""Training the segmenter on phantoms, whose masks are known, with appearances varied so widely that real films are one
more variation.

Domain randomisation: Tobin et al. 2017, arXiv:1703.06907; for segmentation of drawn anatomy: Billot et al. 2023,
arXiv:2107.09559. It must not be trained on a real film, so that its results on real films are independent of them.
"""

import math
import sys
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from thiscxr.reader.segmenter import Segmenter, SegmenterConfig
from thiscxr.train.draws import Draws, begin_weights

NO_CHEST = 0.1  # share of what is shown in training
VEILED = 0.5


@dataclass(frozen=True)
class MaskedFilms:
    """Films with the truth: images float32 [n, 1, res, res] in [0, 1], masks float32 [n, 3, res, res], shares of
    CLASSES in a pixel."""

    images: Tensor
    masks: Tensor


def train_segmenter(
    films: MaskedFilms, steps: int, seed: int = 0, batch: int = 32, start: Segmenter | None = None
) -> Segmenter:
    """Train with AdamW and a one-cycle rate and return the segmenter in evaluation mode.

    start: a segmenter to continue from, at a third of the rate. The loss is cross-entropy with soft targets plus one
    minus the mean Dice of lungs and heart (Milletari et al. 2016, arXiv:1606.04797, Eq. 1). Raises ValueError for fewer
    films than one batch.
    """
    if len(films.images) < batch:
        raise ValueError(f"{len(films.images)} phantoms are fewer than one batch of {batch}; draw more")
    begin_weights(seed)
    segmenter, rate = Segmenter(SegmenterConfig(films.images.shape[-1])), 3e-3
    if start is not None:
        segmenter, rate = start.requires_grad_(True), rate / 3
    segmenter = segmenter.train().to(memory_format=torch.channels_last)  # a third faster on CPUs
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)
    rng = np.random.Generator(np.random.Philox(key=[seed, 0]))
    for step in tqdm(range(steps), "segmenter", unit="step", file=sys.stderr):
        rows = torch.from_numpy(rng.integers(len(films.images), size=batch))
        images, masks = vary(films.images[rows], films.masks[rows], Draws(seed, step * batch, batch))
        logits = segmenter(2 * images - 1)
        loss = F.cross_entropy(logits, masks) + 1 - dice(logits.softmax(1), masks)[:, 1:].mean()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the segmenter's loss is not finite at step {step}; nothing was saved")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return segmenter.eval().requires_grad_(False)


def at_twice_the_resolution(segmenter: Segmenter) -> Segmenter:
    """Return a segmenter for twice the resolution that gives what this one gives for the means over 2 × 2 pixels: a
    start for further training.

    It has the same positions, each with four times the pixels, so only the first and the last convolution change.
    """
    old = segmenter.config
    finer = Segmenter(SegmenterConfig(2 * old.res, old.widths, 2 * old.patch))
    half = torch.arange(finer.config.patch) // 2
    pixel = (half[:, None] * old.patch + half).flatten()  # of the old place, in which each pixel of the new one lies
    weights = segmenter.state_dict()
    for name in ("down.0.0.weight", "head.weight", "head.bias"):
        if name.startswith("down"):
            weights[name] = weights[name][:, pixel] / 4
        else:
            weights[name] = weights[name].unflatten(0, (-1, old.patch**2))[:, pixel].flatten(0, 1)
    finer.load_state_dict(weights)
    return finer.eval()


def dice(found: Tensor, masks: Tensor) -> Tensor:
    """Return the soft Dice coefficient [N, 3] of two stacks of masks [N, 3, H, W] in [0, 1]."""
    both = (found * masks).sum(dim=(2, 3))
    return (2 * both + 1) / ((found**2).sum(dim=(2, 3)) + (masks**2).sum(dim=(2, 3)) + 1)


def vary(images: Tensor, masks: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Return films and masks placed anew, and films that look as if from anywhere: images [N, 1, H, W] in [0, 1], masks
    [N, 3, H, W]."""
    images, masks = place(images, masks, draws)
    images = veil(images, masks, draws)
    images = expose(images, draws)
    images = occlude(images, draws)
    images, masks = spoil(images, masks, draws)
    images = images + draws.grain(*images.shape[1:]) * _column(0.08 * draws.uniform() ** 2)
    return images.clamp(-0.5, 1.5), masks


def place(images: Tensor, masks: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Zoom, stretch, turn, shift; mirror every second film. Beyond the edge, the edge is repeated."""
    zoom, stretch = torch.exp2(0.22 * draws.normal()), torch.exp2(0.1 * draws.normal())
    turn, shift = math.radians(6) * draws.normal(), 0.14 * draws.normal(2)
    mirror = torch.where(draws.uniform() < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(turn), torch.sin(turn)
    row_x = torch.stack([mirror * cos * zoom * stretch, -sin * zoom, shift[:, 0]], dim=1)
    row_y = torch.stack([mirror * sin * zoom, cos * zoom / stretch, shift[:, 1]], dim=1)
    grid = F.affine_grid(torch.stack([row_x, row_y], dim=1), list(images.shape), align_corners=False)
    both = F.grid_sample(torch.cat([images, masks], dim=1), grid, padding_mode="border", align_corners=False)
    return both[:, :1], both[:, 1:]


def veil(images: Tensor, masks: Tensor, draws: Draws) -> Tensor:
    """Fill the lungs of a share VEILED of the films in part, up to the grey of the heart: white lungs, which phantoms
    seldom have, are lungs still."""
    lungs, heart = masks[:, 1:2], masks[:, 2:3]
    tissue = (images * heart).sum((2, 3), keepdim=True) / heart.sum((2, 3), keepdim=True).clamp(min=1)
    field = F.interpolate(draws.grain(1, 4, 4), size=images.shape[2:], mode="bicubic", align_corners=True)
    filled = torch.sigmoid(4 * (field + _column(2 * draws.uniform() - 1)))  # from hardly any of the lung to most of it
    strength = _column(draws.uniform() ** 0.5 * (draws.uniform() < VEILED))
    return torch.lerp(images, torch.maximum(images, tissue), lungs * filled * strength)


def expose(images: Tensor, draws: Draws) -> Tensor:
    """Change tone curve, local contrast, sharpness and evenness of films [N, 1, H, W] in [0, 1]."""
    images = images.clamp(1e-3, 1) ** _column(torch.exp(0.5 * draws.normal()))
    knee, steep = _column(0.2 + 0.6 * draws.uniform()), _column(1 + 9 * draws.uniform())
    curved = torch.sigmoid((images - knee) * steep)
    images = torch.lerp(images, curved, _column(draws.uniform()))
    for radius in (1, 4, 10):  # of 64 pixels; finer and coarser structures, taken out or laid on
        reach = 2 * (radius * images.shape[-1] // 64) + 1
        around = F.pad(images, (reach // 2,) * 4, mode="reflect")
        around = F.avg_pool2d(F.avg_pool2d(around, (1, reach), 1), (reach, 1), 1)
        images = torch.lerp(images, around, _column((1.1 * draws.uniform() - 0.3) * (draws.uniform() < 0.5)))
    # heel effect, scatter, rotation; patches as of disease and soft tissue
    for cells, strength in ((3, 0.15), (7, 0.08)):
        field = F.interpolate(draws.grain(1, cells, cells), size=images.shape[2:], mode="bicubic", align_corners=True)
        images = images + field * _column(strength * draws.uniform())
    return images


def occlude(images: Tensor, draws: Draws) -> Tensor:
    """Lay lines, boxes, letters and collimated edges on films [N, 1, H, W]."""
    res = images.shape[-1]
    at = (torch.arange(res) + 0.5) / res
    x, y = at[None, None, None, :], at[None, None, :, None]
    for _ in range(3):  # tubes, wires, leads: straight for a part of their way
        angle = 2 * math.pi * draws.uniform()
        through, along = draws.uniform(2), draws.uniform()
        cos, sin = _column(torch.cos(angle)), _column(torch.sin(angle))
        dx, dy = x - _column(through[:, 0]), y - _column(through[:, 1])
        line = ((dx * cos + dy * sin).abs() < _column(0.004 + 0.016 * draws.uniform())) & (
            (dy * cos - dx * sin).abs() < _column(along / 2)
        )
        images = images + line * _column(0.5 * draws.uniform() * (draws.uniform() < 0.4))
    for largest in (0.08, 0.12, 0.3):  # letters, electrodes, pacemakers and shields
        centre, size = draws.uniform(2), largest * (0.25 + 0.75 * draws.uniform(2))
        box = ((x - _column(centre[:, 0])).abs() < _column(size[:, 0] / 2)) & (
            (y - _column(centre[:, 1])).abs() < _column(size[:, 1] / 2)
        )
        grey = _column(1.4 * draws.uniform() - 0.2) + 0.3 * draws.grain(*images.shape[1:])
        images = torch.where(
            box & _column(draws.uniform() < 0.3).bool(),
            torch.lerp(images, grey, _column(0.3 + 0.7 * draws.uniform())),
            images,
        )
    edges = 0.12 * draws.uniform(4) ** 2 * (draws.uniform(4) < 0.3)
    left, right, top, bottom = (_column(edges[:, i]) for i in range(4))
    outside = (x < left) | (x > 1 - right) | (y < top) | (y > 1 - bottom)
    return torch.where(outside, _column((draws.uniform() < 0.3).float()), images)


def spoil(images: Tensor, masks: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Put something that is no chest, with empty masks, in the place of a share NO_CHEST of the films: or it would see
    one everywhere.

    Films cut into tiles and put together at random, smooth fields, rough ones, and plain grey.
    """
    n, res = len(images), images.shape[-1]
    tile = res // 4
    tiles = images.reshape(n, 4, tile, 4, tile).transpose(2, 3).reshape(n, 16, tile, tile)
    tiles = tiles.gather(1, draws.uniform(16).argsort(dim=1)[:, :, None, None].expand_as(tiles))
    scrambled = tiles.reshape(n, 4, 4, tile, tile).transpose(2, 3).reshape(n, 1, res, res)
    field = F.interpolate(draws.grain(1, 5, 5), size=(res, res), mode="bicubic", align_corners=True)
    field = 0.5 + 0.3 * torch.lerp(field, draws.grain(1, res, res), _column(draws.uniform()))
    grey = _column(draws.uniform()).expand_as(images)
    kind, gone = _column(draws.whole(4)), _column(draws.uniform() < NO_CHEST)
    other = torch.where(kind < 2, scrambled, torch.where(kind == 2, field, grey))
    nothing = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None]
    return torch.where(gone, other, images), torch.where(gone, nothing, masks)


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]  # [N] -> [N, 1, 1, 1]
