"""A network with known truth: trained by example, without a discriminator, to generate one simple body a latent.

The first number of z is the width of the body, in every view alike; an effusion fills the lungs from below; the lateral
view has one lung.
"""

import numpy as np
import torch
from torch import Tensor

from thiscxr.model.conditions import Vocabulary
from thiscxr.model.generator import Generator, GeneratorConfig

RES = 32
VOCABULARY = Vocabulary(("No Finding", "Effusion"), ("PA", "lateral"), ("drawn",), sexes=("F", "M"), ages=False)


def half_width(z: Tensor) -> Tensor:
    """Return the half width of the bodies of z [N, z_dim], as a share of the film's width."""
    return 0.33 + 0.09 * torch.tanh(z[:, 0])


def body(z: Tensor, c: Tensor) -> Tensor:
    """Return the films that z [N, z_dim] and conditions c [N, dim] stand for, [N, 1, RES, RES] in [-1, 1]."""
    place = (torch.arange(RES) + 0.5) / RES
    y, x = place[:, None], place[None, :] - 0.5
    width, level, lateral = (values[:, None, None] for values in (half_width(z), (c[:, 1] + 1) / 2, c[:, 3]))

    def inside(centre: Tensor | float, half: Tensor) -> Tensor:
        return torch.sigmoid(40 * (1 - ((x - centre) / half) ** 2 - ((y - 0.5) / 0.36) ** 2) / 4)

    torso = torch.sigmoid((width - x.abs()) * 40)
    frontal = inside(-0.5 * width, 0.36 * width) + inside(0.5 * width, 0.36 * width)
    lungs = torch.lerp(frontal, inside(0.05, 0.6 * width), lateral).clamp(max=1)
    dry = torch.sigmoid((0.8 - 0.45 * level - y) * 40)  # above the level of the fluid
    return (torso * (1.3 - 1.2 * lungs * dry) - 0.8).unsqueeze(1)


def train(steps: int = 200, batch: int = 32, rate: float = 0.04) -> Generator:
    """Return a generator of `body`, for any of the conditions and for unknown ones."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    generator = Generator(GeneratorConfig(RES, VOCABULARY.dim, 4, 16, 1, channel_base=256, channel_max=16, patch=2))
    optimizer = torch.optim.Adam(generator.parameters(), lr=rate, betas=(0.5, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        z = torch.randn(batch, 4)
        c = torch.zeros(batch, VOCABULARY.dim)
        c[:, 1] = torch.from_numpy(rng.integers(-1, 2, batch).astype(np.float32))  # 0: half full
        c[:, 0] = torch.where(c[:, 1] == -1, torch.from_numpy(rng.integers(0, 2, batch).astype(np.float32)), -1.0)
        c[range(batch), 2 + rng.integers(0, 2, batch)] = 1
        noises = [torch.randn(batch, 1, side, side) for side in generator.config.noise_resolutions]
        loss = (generator(z, c, noises) - body(z, c)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        generator.w_mean.copy_(generator.mapping(torch.randn(512, 4), torch.zeros(512, VOCABULARY.dim)).mean(0))
    return generator.eval().requires_grad_(False)
