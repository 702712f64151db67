"""Progressive growing: a function of the films seen, so that a resume needs no more than their number.

Most of the films are seen at a low resolution, where they cost little and show the anatomy; then block after block is
blended in. Source: Karras et al. 2018, arXiv:1710.10196, section 2.
"""

import math
from dataclasses import dataclass

from thiscxr.config import Config


@dataclass(frozen=True)
class Stage:
    """The resolution and the blocks that a step trains."""

    res: int  # of the films, in pixels
    grown: float  # blocks at work: a fraction blends the last one in

    @property
    def blend(self) -> float:
        """Share of the last block, in (0, 1]."""
        return self.grown - math.ceil(self.grown) + 1


def stage(config: Config, images_seen: int) -> Stage:
    """Return the stage after that many films: `grow_kimg` thousand at each resolution from `grow_from` on, the first
    `fade_kimg` blended in.

    A generator that rests stays at its first resolution for that much longer.
    """
    res = config.grow_from or config.res
    kimg = images_seen / 1000 - resting_kimg(config)
    blend = 1.0
    while res < config.res and kimg >= config.grow_kimg:
        kimg -= config.grow_kimg
        res *= 2
        fade = min(config.fade_kimg, config.grow_kimg)  # a block is whole before the next one comes
        blend = min(1.0, max(kimg / fade, 1e-3)) if fade else 1.0
    blocks = int(math.log2(res // config.patch)) - 1
    return Stage(res, blocks - 1 + blend)


def resting_kimg(config: Config) -> float:
    """Return for how many thousand films the generator rests: a new discriminator would
    make a trained generator worse."""
    return float(config.rest_kimg) if config.init_sha256 else 0.0
