"""Registration: the rotation, shift and scale of each film against the mean film of its kind, and films moved by known
amounts.

A film is aligned to the mean film by inverse compositional registration of a similarity (Baker and Matthews 2004,
section 3.2), at low resolution, from coarse to fine, with brightness and contrast projected out, so that thousands of
films take seconds. The result is the pose of the image: a broad patient and a film taken from nearer are equal to it,
and a crooked spine rotates a film a little.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from thiscxr.pixels import Pixels, pixels_to_images

SIDE = 32  # at which films are registered
STEPS = 20  # of each coarseness
COARSE_TO_FINE = (2.0, 1.0)  # spread of the blur in pixels: the first finds films that lie far off
ROUNDS = 3  # of aligning the films and averaging them again
WINDOW = 0.85  # of the half side: markers and collimators lie outside
LEAST_MATCH = 0.6  # correlation with the mean film, for a pose to count
_BATCH = 512

MOTIONS = ("turn", "shift_x", "shift_y", "scale")


@dataclass(frozen=True)
class Motion:
    """How content moves on a film: rotated clockwise about the middle and scaled, then shifted to the right and
    downwards."""

    turn: float = 0.0  # degrees
    shift_x: float = 0.0  # share of the resolution
    shift_y: float = 0.0
    scale: float = 1.0  # above 1: larger


def move(images: Tensor, motion: Motion) -> Tensor:
    """Return films [N, 1, H, W] in [-1, 1] moved, of the same shape, by bicubic sampling.

    At the border the film continues with its own reflection, which makes neither an edge nor a black wedge, from which
    a classifier could infer the pose; classifiers are trained with it too.
    """
    turn = math.radians(motion.turn)
    cos, sin = math.cos(turn) / motion.scale, math.sin(turn) / motion.scale
    x, y = 2 * motion.shift_x, 2 * motion.shift_y
    back = torch.tensor(
        [[cos, sin, -cos * x - sin * y], [-sin, cos, sin * x - cos * y]], dtype=images.dtype, device=images.device
    )
    grid = F.affine_grid(back.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(-1, 1)


@dataclass(frozen=True)
class MeanFilm:
    """The reference that films are registered to."""

    image: NDArray[np.float32]  # [SIDE, SIDE], mean 0 and spread 1 within the window
    centre: NDArray[np.float64]
    """Median pose of the films that it was averaged from: turn, shift_x, shift_y, log of the scale."""


def mean_film(pixels: Pixels) -> MeanFilm:
    """Return the mean of films [n, res, res], aligned to each other. Raises ValueError when there are none."""
    if not len(pixels):
        raise ValueError("there are no films to average")
    small = torch.cat(list(_small(pixels)))
    image = _normalised(small.mean(dim=0, keepdim=True))[0]
    maps = torch.eye(3).expand(len(small), 3, 3)
    for _ in range(ROUNDS):
        maps = torch.cat([_register(part, image)[0] for part in small.split(_BATCH)])
        aligned = torch.cat(
            [_sample(part, some) for part, some in zip(small.split(_BATCH), maps.split(_BATCH), strict=True)]
        )
        image = _normalised(_normalised(aligned).mean(dim=0, keepdim=True))[0]
    maps = torch.cat([_register(part, image)[0] for part in small.split(_BATCH)])
    return MeanFilm(image.numpy(), np.median(_poses(maps), axis=0))


def find_poses(pixels: Pixels, mean: MeanFilm) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return poses [n, 4] (turn in degrees, shift_x, shift_y in shares of the resolution, scale) against the median of
    the mean film's films, and the correlation [n] of each registered film with the mean film. Below LEAST_MATCH a pose
    means nothing."""
    found = [_register(part, torch.from_numpy(mean.image)) for part in _small(pixels)]
    if not found:
        return np.empty((0, 4)), np.empty(0)
    poses = _poses(torch.cat([maps for maps, _ in found])) - mean.centre
    poses[:, 3] = np.exp(poses[:, 3])
    return poses, torch.cat([match for _, match in found]).numpy().astype(np.float64)


def _small(pixels: Pixels) -> Iterator[Tensor]:
    """Yield films as float32 [k, SIDE, SIDE], averaged down."""
    for start in range(0, len(pixels), _BATCH):
        images = torch.from_numpy(pixels_to_images(pixels[start : start + _BATCH]))[:, None]
        yield F.interpolate(images, size=(SIDE, SIDE), mode="area")[:, 0]


def _blurred(images: Tensor, spread: float) -> Tensor:
    """[n, SIDE, SIDE] blurred by a Gaussian of this spread in pixels."""
    reach = math.ceil(3 * spread)
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / spread) ** 2)
    line /= line.sum()
    padded = F.pad(images[:, None], (reach,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, line[None, None, None]), line[None, None, :, None])[:, 0]


def _coordinates() -> tuple[Tensor, Tensor, Tensor]:
    """Return x, y and the window, each [SIDE, SIDE]."""
    line = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x, y, ((x.abs() < WINDOW) & (y.abs() < WINDOW)).float()


def _normalised(images: Tensor) -> Tensor:
    """[n, SIDE, SIDE] with mean 0 and spread 1 within the window; a film without contrast stays flat."""
    window = _coordinates()[2]
    total = window.sum()
    images = images - (images * window).sum(dim=(1, 2), keepdim=True) / total
    spread = ((images**2 * window).sum(dim=(1, 2), keepdim=True) / total).sqrt()
    return images / spread.clamp(min=1e-6)


def _sample(images: Tensor, maps: Tensor) -> Tensor:
    """Return images [n, SIDE, SIDE] sampled where maps [n, 3, 3] take the mean film's pixels."""
    grid = F.affine_grid(maps[:, :2], [len(images), 1, SIDE, SIDE], align_corners=False)
    return F.grid_sample(images[:, None], grid, mode="bilinear", padding_mode="reflection", align_corners=False)[:, 0]


def _register(images: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps [n, 3, 3] from the mean film onto films, in coordinates [-1, 1], and the correlations [n] that they
    reach."""
    maps = torch.eye(3).repeat(len(images), 1, 1)
    for spread in COARSE_TO_FINE:
        maps = _refine(_blurred(images, spread), _blurred(mean[None], spread)[0], maps)
    window = _coordinates()[2]
    match = (_normalised(_sample(images, maps)) * mean * window).sum(dim=(1, 2)) / window.sum()
    return maps, match


def _refine(images: Tensor, mean: Tensor, maps: Tensor) -> Tensor:
    x, y, window = _coordinates()
    inside = window.flatten() > 0
    slope_y, slope_x = (slope * SIDE / 2 for slope in torch.gradient(_normalised(mean[None])[0]))
    turned, scaled = x * slope_y - y * slope_x, x * slope_x + y * slope_y
    steepest = torch.stack([turned, scaled, slope_x, slope_y]).flatten(1)[:, inside]  # [4, pixels]
    flat = _normalised(mean[None]).flatten()[inside]
    ignored = torch.linalg.qr(torch.stack([torch.ones_like(flat), flat], dim=1))[0]
    steepest = steepest - (steepest @ ignored) @ ignored.T  # brightness and contrast change nothing
    hessian = steepest @ steepest.T
    # parameters that the mean film does not determine stay as they are
    hessian = hessian + (1e-6 * hessian.trace() + 1e-9) * torch.eye(4)
    # Levenberg and Marquardt: a step that does not improve the match is rejected
    damp = torch.full((len(images), 1, 1), 0.1)

    def off(maps: Tensor) -> Tensor:
        return _normalised(_sample(images, maps)).flatten(1)[:, inside] - flat

    away = off(maps)
    for _ in range(STEPS):
        curved = hessian + damp * torch.diag(torch.diag(hessian))
        step = torch.linalg.solve(curved, (away @ steepest.T)[:, :, None])[:, :, 0]
        tried = maps @ torch.linalg.inv(_similarity(step))
        left = off(tried)
        nearer = (left**2).sum(dim=1) < (away**2).sum(dim=1)
        maps, away = torch.where(nearer[:, None, None], tried, maps), torch.where(nearer[:, None], left, away)
        damp = torch.where(nearer[:, None, None], damp / 3, damp * 4).clamp(1e-3, 1e4)
    return maps


def _similarity(steps: Tensor) -> Tensor:
    """[n, 4] radians, log scale, shifts -> maps [n, 3, 3]."""
    a, b = torch.exp(steps[:, 1]) * torch.cos(steps[:, 0]), torch.exp(steps[:, 1]) * torch.sin(steps[:, 0])
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    return torch.stack([a, -b, steps[:, 2], b, a, steps[:, 3], zero, zero, one], dim=1).reshape(-1, 3, 3)


def _poses(maps: Tensor) -> NDArray[np.float64]:
    """Return turn in degrees, shifts in shares of the side and log scale, [n, 4]."""
    a, b = maps[:, 0, 0], maps[:, 1, 0]
    turn, scale = torch.rad2deg(torch.atan2(b, a)), 0.5 * torch.log(a**2 + b**2)
    return torch.stack([turn, maps[:, 0, 2] / 2, maps[:, 1, 2] / 2, scale], dim=1).numpy().astype(np.float64)
