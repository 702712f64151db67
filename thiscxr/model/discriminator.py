"""The discriminator: the residual StyleGAN2 network with minibatch statistics and a projection of the condition.

Source: Karras et al. 2020, arXiv:1912.04958, figure 7c and appendix B; minibatch standard deviation of Karras et al.
2018, arXiv:1710.10196, section 3; projection of Miyato and Koyama 2018, arXiv:1802.05637, Eq. 3.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thiscxr.model.haar import analysis
from thiscxr.model.layers import ACTIVATION_GAIN, EqualizedConv, EqualizedLinear, num_channels
from thiscxr.model.resample import downsample2, leaky_filter

GROUP = 4  # films a minibatch statistic is taken over


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The architecture of a discriminator."""

    res: int
    c_dim: int
    channel_base: int = 1024
    channel_max: int = 128
    patch: int = 1  # a block of resolution r reads films of r · patch pixels: patch × patch a position
    first_res: int | None = None  # of the smallest films in growth; None: no growth
    haar: bool = False  # patches are read as their Haar bands
    # False where only differences of logits count: its gradient would be rounding noise, which Adam blows up
    logit_bias: bool = True


def minibatch_std(x: Tensor, group: int) -> Tensor:
    """Append to [N, C, H, W] one channel: the standard deviation over groups of `group` films, averaged over channels
    and pixels.

    It shows a lack of variety to the discriminator. Groups are strided (film i joins films i + N/group, …); N must be a
    multiple of `group`, or is one group when smaller.
    """
    n, _, h, w = x.shape
    size = min(group, n)
    groups = x.reshape(size, n // size, *x.shape[1:])  # [size, N/size, C, H, W]
    variance = (groups - groups.mean(dim=0)).square().mean(dim=0)  # torch.var does the same several times slower
    std = (variance + 1e-8).sqrt().mean(dim=(1, 2, 3))  # [N/size]
    return torch.cat([x, std.repeat(size)[:, None, None, None].expand(n, 1, h, w)], dim=1)


class ResidualDown(nn.Module):
    """[N, wide, H, W] -> [N, narrow, H/2, W/2]; the sum of the two branches is scaled by 1/sqrt(2) to keep the
    variance."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.conv0 = EqualizedConv(fan_in, fan_in, 3, gain=ACTIVATION_GAIN)  # `leaky_filter` activates
        self.conv1 = EqualizedConv(fan_in, fan_out, 3, stride=2, padding=0, active=True)
        self.skip = EqualizedConv(fan_in, fan_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(leaky_filter(self.conv0(x), padding=2))  # H + 1, then H/2: the filter comes before the stride
        return (y + self.skip(downsample2(x))) / math.sqrt(2)


class Discriminator(nn.Module):
    """images [N, 1, res, res] in [-1, 1] and c [N, c_dim] -> logits [N], high for films that look real under that
    condition.

    Several conditions a film, [N, k, c_dim], give logits [N, k] for next to nothing.
    """

    analysis: Tensor  # pixels of a patch -> its bands, [patch², patch², 1, 1]

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        res = config.res // config.patch
        channels = {
            res >> i: num_channels(res >> i, config.channel_base, config.channel_max)
            for i in range(int(math.log2(res)) - 1)
        }
        entries = [res for res in channels if res * config.patch >= (config.first_res or config.res)]
        kernel = 1 if config.patch == 1 else 3  # across the edges of the patches
        if config.haar:
            # Orthonormal: at first R1 and the weights see what they would of single pixels. Details at four times
            # the scale had three times the penalty and were learnt no faster.
            self.register_buffer("analysis", F.normalize(analysis(config.patch))[:, :, None, None], persistent=False)
        self.from_grey = nn.ModuleDict(
            {str(res): EqualizedConv(config.patch**2, channels[res], kernel, active=True) for res in entries}
        )
        self.blocks = nn.ModuleDict(
            {str(res): ResidualDown(channels[res], channels[res // 2]) for res in channels if res > 4}
        )
        last = channels[4]
        self.conv = EqualizedConv(last + 1, last, 3, active=True)
        self.dense = EqualizedLinear(last * 16, last, active=True)
        self.out = EqualizedLinear(last, 1, bias=0.0 if config.logit_bias else None)
        # No bias: an all-unknown condition (zeros) adds nothing, so it neither helps nor penalises.
        self.embed = EqualizedLinear(config.c_dim, last, bias=None) if config.c_dim else None

    def forward(self, images: Tensor, c: Tensor, blend: float = 1.0, batches: int = 1) -> Tensor:
        """Return the logits of films of the full resolution or, while growing, of a smaller one; below 1, `blend` is
        the share of the largest block.

        The rest comes from the films at half the resolution (Karras et al. 2018, arXiv:1710.10196, figure 2). The films
        may be `batches` batches, one after another: each has its own minibatch statistics, as if it were alone.
        """
        res = images.shape[-1] // self.config.patch
        x = self._read(images)
        while res > 4:
            x = self.blocks[str(res)](x)
            res //= 2
            if blend < 1:
                x = torch.lerp(self._read(downsample2(images)), x, blend)
                blend = 1.0
        x = self.conv(torch.cat([minibatch_std(batch, GROUP) for batch in x.chunk(batches)]))
        x = self.dense(x.flatten(1))
        several = c.dim() == 3
        x = x[:, None] if several else x
        logits = self.out(x).squeeze(-1)
        if self.embed is not None:
            logits = logits + (self.embed(c) * x).sum(dim=-1) / math.sqrt(x.shape[-1])
        return logits

    def _read(self, images: Tensor) -> Tensor:
        images = F.pixel_unshuffle(images, self.config.patch).contiguous(memory_format=torch.channels_last)
        if self.config.haar:
            images = F.conv2d(images, self.analysis)
        return self.from_grey[str(images.shape[-1])](images)
