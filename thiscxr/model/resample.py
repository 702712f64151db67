"""Resampling by two with the FIR filter [1, 3, 3, 1], as StyleGAN2 uses it around every change of resolution.

No stretching, no learnt weights. Source: Karras et al. 2020, arXiv:1912.04958, section 4.1 and appendix B; the filter itself is the
binomial one of Zhang 2019, arXiv:1904.11486. Borders are zero, as in `scipy.signal.upfirdn`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

FIR = (0.125, 0.375, 0.375, 0.125)  # [1, 3, 3, 1] / 8: gain 1 at zero frequency


def _kernel(x: Tensor, gain: float) -> Tensor:
    taps = torch.tensor(FIR, dtype=x.dtype, device=x.device)
    return (gain * torch.outer(taps, taps)).expand(x.shape[1], 1, 4, 4)  # [C, 1, 4, 4]: one filter a channel


def filter2d(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """Filter each channel at its own resolution: [N, C, H, W] -> [N, C, H + 2 padding - 3, W + 2 padding - 3]."""
    return F.conv2d(x, _kernel(x, gain), padding=padding, groups=x.shape[1])


def upsample2(x: Tensor) -> Tensor:
    """Double both sides: [N, C, H, W] -> [N, C, 2H, 2W]; a constant film keeps its level away from the border.

    Zero insertion and filter in one strided transposed convolution, so the inserted zeros are never multiplied.
    """
    return F.conv_transpose2d(x, _kernel(x, 4.0), stride=2, padding=1, groups=x.shape[1])  # gain 4: three of four inputs are zero


def downsample2(x: Tensor) -> Tensor:
    """Halve both sides: [N, C, H, W] -> [N, C, H/2, W/2]; only the kept outputs are computed."""
    return F.conv2d(x, _kernel(x, 1.0), stride=2, padding=1, groups=x.shape[1])
