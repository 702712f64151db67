"""The reader: a small multi-label network for chest films, whose pooled features are also the toolkit's own feature extractor.

It answers for findings, view, sex, age and source at once (the idea of CheXNet: Rajpurkar et al. 2017, arXiv:1711.05225, at a size
that trains on a laptop). Residual blocks as in He et al. 2016, arXiv:1512.03385.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class ReaderConfig:
    """The architecture of a reader."""

    findings: tuple[str, ...]
    views: tuple[str, ...]
    sources: tuple[str, ...]
    res: int = 64  # side at which films are read; others are resized to it
    widths: tuple[int, ...] = (24, 48, 96, 128)  # channels at res/2, res/4, res/8 and res/16; the last is the length of the features

    @property
    def feature_dim(self) -> int:
        """Length of the feature vector."""
        return self.widths[-1]


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions around a skip; halves the side with stride 2."""

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False)
        self.norm0 = nn.BatchNorm2d(fan_out)
        self.conv1 = nn.Conv2d(fan_out, fan_out, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(fan_out)
        self.skip = nn.Conv2d(fan_in, fan_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm0(self.conv0(x)))
        return F.relu(self.norm1(self.conv1(y)) + self.skip(x))


class Reader(nn.Module):
    """images float32 [N, 1, H, W] in [-1, 1] -> a dict of logits; `features` gives float32 [N, feature_dim]."""

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        self.config = config
        first = config.widths[0]
        self.stem = nn.Conv2d(1, first, 5, 2, 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(first)
        pairs = zip((first, *config.widths), config.widths, strict=False)
        self.blocks = nn.ModuleList(ResidualBlock(a, b, 1 if i == 0 else 2) for i, (a, b) in enumerate(pairs))
        self.heads = nn.ModuleDict(
            {
                "findings": nn.Linear(config.feature_dim, len(config.findings)),
                "view": nn.Linear(config.feature_dim, len(config.views)),
                "source": nn.Linear(config.feature_dim, len(config.sources)),
                "sex": nn.Linear(config.feature_dim, 1),  # logit of F
                "age": nn.Linear(config.feature_dim, 1),  # (years - AGE_CENTRE) / AGE_SCALE of model.conditions
            }
        )

    def features(self, images: Tensor) -> Tensor:
        """Return float32 [N, feature_dim], non-negative: the last block, averaged over the film."""
        if images.shape[-1] != self.config.res:
            images = F.interpolate(images, size=(self.config.res, self.config.res), mode="area")
        x = F.relu(self.stem_norm(self.stem(images.contiguous(memory_format=torch.channels_last))))
        for block in self.blocks:
            x = block(x)
        return x.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits: findings [N, F], view [N, V], source [N, S], sex [N, 1], and the scaled age [N, 1]."""
        return self.answers(self.features(images))

    def answers(self, features: Tensor) -> dict[str, Tensor]:
        """Return the logits that belong to features [N, feature_dim]."""
        return {name: head(features) for name, head in self.heads.items()}
