"""The discriminator: the residual StyleGAN2 network with minibatch statistics and a projection of the condition.

Source: Karras et al. 2020, arXiv:1912.04958, figure 7c and appendix B; minibatch standard deviation of Karras et al. 2018,
arXiv:1710.10196, section 3; projection of Miyato and Koyama 2018, arXiv:1802.05637, Eq. 3.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from thiscxr.model.layers import EqualizedConv, EqualizedLinear, activate, num_channels
from thiscxr.model.resample import downsample2, filter2d


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The architecture of a discriminator."""

    res: int
    c_dim: int
    channel_base: int = 1024
    channel_max: int = 128
    group: int = 4  # films a minibatch statistic is taken over


def minibatch_std(x: Tensor, group: int) -> Tensor:
    """Append to [N, C, H, W] one channel: the standard deviation over groups of `group` films, averaged over channels and pixels.

    It lets the discriminator see a lack of variety. Groups are strided (film i joins films i + N/group, …); N must be a multiple of
    `group`, or is one group when smaller.
    """
    n, _, h, w = x.shape
    size = min(group, n)
    groups = x.reshape(size, n // size, *x.shape[1:])  # [size, N/size, C, H, W]
    std = (groups.var(dim=0, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))  # [N/size]
    return torch.cat([x, std.repeat(size)[:, None, None, None].expand(n, 1, h, w)], dim=1)


class ResidualDown(nn.Module):
    """[N, wide, H, W] -> [N, narrow, H/2, W/2]; the sum of the two branches is scaled by 1/sqrt(2) to keep the variance."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.conv0 = EqualizedConv(fan_in, fan_in, 3)
        self.conv1 = EqualizedConv(fan_in, fan_out, 3, stride=2, padding=0)
        self.skip = EqualizedConv(fan_in, fan_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = activate(self.conv0(x))
        y = activate(self.conv1(filter2d(y, padding=2)))  # H + 1, then H/2: the filter comes before the stride
        return (y + self.skip(downsample2(x))) / math.sqrt(2)


class Discriminator(nn.Module):
    """images [N, 1, res, res] in [-1, 1] and c [N, c_dim] -> logits [N], high for films that look real under that condition."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        sides = [config.res >> i for i in range(int(math.log2(config.res)) - 1)]  # res … 4
        channels = [num_channels(side, config.channel_base, config.channel_max) for side in sides]
        self.from_grey = EqualizedConv(1, channels[0], 1)
        self.blocks = nn.ModuleList(ResidualDown(a, b) for a, b in pairwise(channels))
        last = channels[-1]
        self.conv = EqualizedConv(last + 1, last, 3)
        self.dense = EqualizedLinear(last * 16, last)
        self.out = EqualizedLinear(last, 1)
        # No bias: an all-unknown condition (zeros) adds nothing, so it neither helps nor penalises.
        self.embed = EqualizedLinear(config.c_dim, last, bias=None) if config.c_dim else None

    def forward(self, images: Tensor, c: Tensor) -> Tensor:
        x = activate(self.from_grey(images.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks:
            x = block(x)
        x = activate(self.conv(minibatch_std(x, self.config.group)))
        x = activate(self.dense(x.flatten(1)))
        logits = self.out(x)[:, 0]
        if self.embed is not None:
            logits = logits + (self.embed(c) * x).sum(dim=1) / math.sqrt(x.shape[1])
        return logits
