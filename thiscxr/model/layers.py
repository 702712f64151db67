"""The few layers that generator and discriminator share.

Legend: N films, C channels, H and W pixels. Source: Karras et al. 2018, arXiv:1710.10196, section 4.1 (equalised
learning rate).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# keeps unit variance through a leaky ReLU of slope 0.2 (He et al. 2015, Eq. 14, up to 2 %)
ACTIVATION_GAIN = math.sqrt(2)


def leaky(x: Tensor) -> Tensor:
    """Apply leaky ReLU of slope 0.2 in place. It commutes with positive factors, so ACTIVATION_GAIN goes into the
    weights before it."""
    return F.leaky_relu(x, 0.2, inplace=True)


def scale_leaky(x: Tensor, scale: Tensor, bias: Tensor, noise: Tensor) -> Tensor:
    """Return leaky(x · scale + bias + noise): x [N, C, H, W], scale [N, C], bias [C], noise [N, 1, H, W] or [1, 1, H,
    W]."""
    return leaky(torch.addcmul(bias[:, None, None], x, scale[:, :, None, None]) + noise)


class EqualizedLinear(nn.Module):
    """A linear layer [N, fan_in] -> [N, fan_out] whose stored weights have unit variance and are scaled by
    1/sqrt(fan_in) at run time.

    `lr_multiplier` slows the layer down (the mapping network uses 0.01: Karras et al. 2019, arXiv:1812.04948, appendix
    C); `active` adds the leaky ReLU and its gain.
    """

    def __init__(
        self, fan_in: int, fan_out: int, bias: float | None = 0.0, lr_multiplier: float = 1.0, active: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in) / lr_multiplier)
        self.bias = None if bias is None else nn.Parameter(torch.full((fan_out,), bias / lr_multiplier))
        self.active = active
        self.bias_gain = lr_multiplier * (ACTIVATION_GAIN if active else 1)
        self.weight_gain = self.bias_gain / math.sqrt(fan_in)

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.weight * self.weight_gain, None if self.bias is None else self.bias * self.bias_gain)
        return leaky(x) if self.active else x


class EqualizedConv(nn.Module):
    """A convolution [N, fan_in, H, W] -> [N, fan_out, H', W'] with the equalised learning rate; padding keeps H unless
    `stride` is 2.

    `active` adds the leaky ReLU and its gain; `gain` is for a convolution without it.
    """

    def __init__(
        self,
        fan_in: int,
        fan_out: int,
        kernel: int,
        bias: bool = True,
        stride: int = 1,
        padding: int | None = None,
        active: bool = False,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(fan_out)) if bias else None
        self.active = active
        self.bias_gain = ACTIVATION_GAIN if active else gain
        self.weight_gain = self.bias_gain / math.sqrt(fan_in * kernel * kernel)
        self.stride = stride
        self.padding = kernel // 2 if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias * self.bias_gain
        x = F.conv2d(x, self.weight * self.weight_gain, bias, self.stride, self.padding)
        return leaky(x) if self.active else x


def num_channels(res: int, channel_base: int, channel_max: int) -> int:
    """Return the feature maps of the block of `res` pixels: inversely proportional to `res`, at most
    `channel_max`."""
    return max(1, min(channel_base // res, channel_max))
