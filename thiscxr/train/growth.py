"""How much of the networks is at work: a function of the films seen, so that a resume needs no more than their number.

Most of the films are seen small, where they cost little and where the anatomy is; then block after block is blended in.
Source: Karras et al. 2018, arXiv:1710.10196, section 2.
"""

import math
from dataclasses import dataclass

from thiscxr.config import Config


@dataclass(frozen=True)
class Stage:
    """What a step trains."""

    side: int  # of the films, in pixels
    grown: float  # blocks at work: a fraction blends the last one in

    @property
    def blend(self) -> float:
        """Share of the last block, in (0, 1]."""
        return self.grown - math.ceil(self.grown) + 1


def stage(config: Config, images_seen: int) -> Stage:
    """Return the stage after that many films: `grow_kimg` thousand at each side from `grow_from` on, the first
    `fade_kimg` blended in.

    A generator that rests stays at its first side for so much longer.
    """
    side = config.grow_from or config.res
    kimg = images_seen / 1000 - resting_kimg(config)
    blend = 1.0
    while side < config.res and kimg >= config.grow_kimg:
        kimg -= config.grow_kimg
        side *= 2
        fade = min(config.fade_kimg, config.grow_kimg)  # a block is whole before the next one comes
        blend = min(1.0, max(kimg / fade, 1e-3)) if fade else 1.0
    blocks = int(math.log2(side // config.patch)) - 1
    return Stage(side, blocks - 1 + blend)


def resting_kimg(config: Config) -> float:
    """Return for how many thousand films the generator rests: a trained one that meets a new discriminator would only
    be spoilt by it."""
    return float(config.rest_kimg) if config.init_sha256 else 0.0
