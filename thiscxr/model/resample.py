"""Resampling by two with the FIR filter [1, 3, 3, 1], as StyleGAN2 uses it around every change of resolution.

No stretching, no learnt weights. Source: Karras et al. 2020, arXiv:1912.04958, section 4.1 and appendix B; the filter
itself is the binomial one of Zhang 2019, arXiv:1904.11486. Borders are zero, as in `scipy.signal.upfirdn`, unless said
otherwise.

Along each axis all of it is one map, y[o] = gain · Σ_k FIR[k] · z[o · down - padding + k], where z is x with up - 1
zeros after each value. It is computed by phases: no zero is inserted, no output dropped. FIR is symmetric, so the
gradient is the same map with up and down swapped and 3 - padding, to any order.

Bytes moved from and to main memory, each operation reading and writing all of it, for films of T bytes at the larger
resolution and many channels (`benchmarks/resample_rate.py` counts them); the Triton kernel passes its tests on an H100,
where it was not timed alone:

    function                 least, plain and Triton, T     its gradient, T
    filter2d                  2     2     2                  2     2     2
    upsample2, downsample2    1.25  1.25  1.25               1.25  1.25  1.25   plain, one channel: slices, upsample 8.6
    leaky_filter              2     4     2                  3     5     3
    filter_leaky              2     8     2                  4    15    13      Triton leaves the sums to torch
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from thiscxr.model.layers import leaky, scale_leaky

try:
    from thiscxr.model import resample_triton
except ImportError:  # Triton has no wheels for macOS and Windows, and torch for CPUs does not bring it
    resample_triton = None  # type: ignore[assignment]

FIR = (0.125, 0.375, 0.375, 0.125)  # [1, 3, 3, 1] / 8: gain 1 at zero frequency
_KERNEL = torch.outer(torch.tensor(FIR), torch.tensor(FIR))  # exact in every floating dtype
_use_triton = False


def use_triton(on: bool) -> None:
    """Let films on a CUDA device take the Triton kernel, where its first call for a dtype agrees with the plain
    version. Off by default.

    Raises ValueError where Triton is not installed.
    """
    global _use_triton
    if on and resample_triton is None:
        raise ValueError("use_triton(True) found no Triton, which it needs: `pip install triton`, or leave it off")
    _use_triton = on


def filter2d(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """Filter each channel at its own resolution: [N, C, H, W] -> [N, C, H + 2 padding - 3, W + 2 padding - 3];
    `padding` is 0 to 3."""
    return _resample(x, 1, 1, padding, gain)


def upsample2(x: Tensor, edge: bool = False) -> Tensor:
    """Double both sides: [N, C, H, W] -> [N, C, 2H, 2W]; a constant film keeps its level away from the border.

    With `edge` it keeps it everywhere: beyond the border are not zeros but the values at it.
    """
    # Gain 4: three of four inputs would be zero.
    return _resample(F.pad(x, (1, 1, 1, 1), mode="replicate"), 2, 1, 0, 4.0) if edge else _resample(x, 2, 1, 2, 4.0)


def downsample2(x: Tensor) -> Tensor:
    """Halve both sides: [N, C, H, W] -> [N, C, H/2, W/2]. Raises ValueError where H or W is odd."""
    if x.shape[2] % 2 or x.shape[3] % 2:
        raise ValueError(
            f"downsample2 was given {x.shape[2]} × {x.shape[3]} px and halves even sides: pad or crop the film first"
        )
    return _resample(x, 1, 2, 1, 1.0)


def leaky_filter(x: Tensor, padding: int) -> Tensor:
    """Apply `layers.leaky`, then `filter2d`: what comes before a strided convolution. May overwrite x."""
    if _fused(x):
        return resample_triton.resample(x, 1, 1, padding, 1.0, active=True)
    return filter2d(leaky(x), padding)


def filter_leaky(x: Tensor, scale: Tensor, bias: Tensor, noise: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """Return leaky(filter2d(x) · scale + bias + noise): what comes after a transposed convolution.

    x [N, C, H, W], scale [N, C], bias [C], noise [N, 1, H', W'] or [1, 1, H', W'] with H' as in `filter2d`.
    """
    if _fused(x):
        return resample_triton.filter_leaky(x, scale, bias, noise, padding, gain)
    return scale_leaky(filter2d(x, padding, gain), scale, bias, noise)


def _fused(x: Tensor) -> bool:
    if not _use_triton or torch.compiler.is_compiling():  # torch.compile fuses by itself, and an export must stay plain
        return False
    return resample_triton.runs_on(x.device) and resample_triton.agrees(_plain, x.dtype, x.device)


def _resample(x: Tensor, up: int, down: int, padding: int, gain: float) -> Tensor:
    if _fused(x):
        return resample_triton.resample(x, up, down, padding, gain)
    return _Plain.apply(x, up, down, padding, gain) if x.requires_grad else _plain(x, up, down, padding, gain)


class _Plain(torch.autograd.Function):
    """`_plain` with its transpose as gradient: autograd's second derivative of a depthwise convolution, in R1, is much
    slower on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, up: int, down: int, padding: int, gain: float) -> Tensor:
        ctx.transposed = (down, up, 3 - padding, gain)
        return _plain(x, up, down, padding, gain)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _resample(gradients[0], *ctx.transposed), None, None, None, None


def _plain(x: Tensor, up: int, down: int, padding: int, gain: float) -> Tensor:
    channels = x.shape[1]
    if up == 2 and channels == 1 and padding in (0, 2):
        return _upsample_one_channel(F.pad(x, (1, 1, 1, 1)) if padding else x, gain / 4)
    # A tensor made on the device from Python numbers would make the host wait for it; a copy of 64 bytes does not.
    weight = _KERNEL.to(x.device, x.dtype, non_blocking=True)
    weight = (weight if gain == 1 else weight * gain).expand(channels, 1, 4, 4)  # one filter a channel
    if up == 2:
        return F.conv_transpose2d(x, weight, stride=2, padding=3 - padding, groups=channels)
    return F.conv2d(x, weight, stride=down, padding=padding, groups=channels)


def _upsample_one_channel(x: Tensor, gain: float) -> Tensor:
    """Slices and adds: depthwise convolutions are made for many channels and take five times as long here. x has a
    border of one value."""
    x = x * gain if gain != 1 else x
    for dim in (3, 2):
        size = x.shape[dim] - 2
        here = x.narrow(dim, 1, size)
        # [1, 3] / 4 of the neighbour and itself
        even, odd = (torch.lerp(x.narrow(dim, start, size), here, 0.75) for start in (0, 2))
        x = torch.stack((even, odd), dim + 1).flatten(dim, dim + 1)
    return x
