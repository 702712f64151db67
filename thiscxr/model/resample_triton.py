"""The resampling of `resample.py` and the leaky ReLU beside it in one Triton kernel, for CUDA; compiled at the first
call.

A program makes a square of pixels of up to 32 channels, so that all but the rim of what it reads is read once; channels
lie next to each other in memory (channels_last). Sums are in float32, or float64 for float64. Import it through
`resample.py`: Triton is optional.
"""

import logging
from collections.abc import Callable
from functools import cache
from subprocess import CalledProcessError
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from thiscxr.model.layers import leaky

log = logging.getLogger("thiscxr")
SLOPE = 0.2  # of `layers.leaky`
ELEMENTS = 2048  # outputs of one program


@triton.jit
def _kernel(  # type: ignore[no-untyped-def]
    x, before, after, scale, bias, noise, y, channels, height, width, out_height, out_width,
    UP: tl.constexpr, DOWN: tl.constexpr, PADDING: tl.constexpr, GAIN: tl.constexpr, OWN: tl.constexpr,
    SLOPE: tl.constexpr, SIDE: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """y = leaky_after(GAIN · FIR(leaky_before(x)) · scale + bias + noise); what is None is left out.

    leaky_before multiplies by SLOPE where `before` (x itself if OWN) is not positive; leaky_after where `after` is not,
    or without it, and with a scale, where the sum is not.
    """
    tile, film = tl.program_id(0), tl.program_id(2).to(tl.int64)  # int64: a batch may hold more than 2^31 values
    pixel = tl.arange(0, PIXELS)[:, None]
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    tiles = tl.cdiv(out_width, SIDE)
    out_row = tile // tiles * (PIXELS // SIDE) + pixel // SIDE
    out_column = tile % tiles * SIDE + pixel % SIDE
    film_in = film * height * width * channels
    film_out = film * out_height * out_width * channels
    row, column = out_row * DOWN - PADDING, out_column * DOWN - PADDING
    first_row, first_column = row & (UP - 1), column & (UP - 1)  # the first tap that meets no inserted zero
    total = tl.zeros((PIXELS, CHANNELS), SUM)
    for i in tl.static_range(4 // UP):
        tap = first_row + UP * i
        h = (row + tap) // UP
        row_weight = tl.where((tap == 0) | (tap == 3), 0.125, 0.375)
        for j in tl.static_range(4 // UP):
            tap = first_column + UP * j
            w = (column + tap) // UP
            weight = row_weight * tl.where((tap == 0) | (tap == 3), 0.125, 0.375)
            inside = (h >= 0) & (h < height) & (w >= 0) & (w < width) & (channel < channels)
            at = (h * width + w) * channels + channel
            value = tl.load(x + film_in + at, inside, 0.0).to(SUM)
            if OWN:
                value = tl.where(value > 0, value, value * SLOPE)
            if before is not None:
                value = tl.where(tl.load(before + film_in + at, inside, 0.0) > 0, value, value * SLOPE)
            total += weight * value
    total *= GAIN
    inside = (out_row < out_height) & (out_column < out_width) & (channel < channels)
    place = out_row * out_width + out_column
    at = film_out + place * channels + channel
    if scale is not None:
        total *= tl.load(scale + film * channels + channel, channel < channels, 0.0).to(SUM)
        total += tl.load(bias + channel, channel < channels, 0.0).to(SUM)
        total += tl.load(
            noise + film * out_height * out_width + place, (out_row < out_height) & (out_column < out_width), 0.0
        ).to(SUM)
        total = tl.where(total > 0, total, total * SLOPE)
    if after is not None:
        total = tl.where(tl.load(after + at, inside, 0.0) > 0, total, total * SLOPE)
    tl.store(y + at, total, inside)


def runs_on(device: torch.device) -> bool:
    """Return whether kernels run on `device`: on CUDA or, under Triton's interpreter (TRITON_INTERPRET=1, for tests),
    anywhere."""
    return device.type == "cuda" or not isinstance(_kernel, triton.JITFunction)


def resample(x: Tensor, up: int, down: int, padding: int, gain: float, active: bool = False) -> Tensor:
    """Return the map of `resample.py`, of `layers.leaky` of x with `active`: [N, C, H, W] -> [N, C, H · up / down + 2
    padding - 3, …].

    Without the 2 padding - 3 where up or down is 2. Differentiable to any order.
    """
    return _Resample.apply(x, x if active else None, None, up, down, padding, gain)


def filter_leaky(x: Tensor, scale: Tensor, bias: Tensor, noise: Tensor, padding: int, gain: float) -> Tensor:
    """Return what `resample.filter_leaky` returns."""
    side = 2 * padding - 3
    noise = noise.expand(x.shape[0], 1, x.shape[2] + side, x.shape[3] + side)
    return _FilterLeaky.apply(x, scale, bias, noise, padding, gain)


class _Resample(torch.autograd.Function):
    """leaky_after(FIR(leaky_before(x))), linear in x for given masks; the gradient swaps the masks and transposes the
    filter."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, before: Tensor | None, after: Tensor | None, up: int, down: int, padding: int, gain: float
    ) -> Tensor:
        ctx.save_for_backward(before, after)
        ctx.transposed = (down, up, 3 - padding, gain)
        return _launch(x, up, down, padding, gain, before, after)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        before, after = ctx.saved_tensors
        return _Resample.apply(gradients[0], after, before, *ctx.transposed), None, None, None, None, None, None


class _FilterLeaky(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, bias: Tensor, noise: Tensor, padding: int, gain: float) -> Tensor:
        y = _launch(x, 1, 1, padding, gain, affine=(scale, bias, noise))
        ctx.save_for_backward(x, scale, y)
        ctx.transposed = (1, 1, 3 - padding, gain)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, y = ctx.saved_tensors
        gradient = torch.ops.aten.leaky_relu_backward(gradients[0], y, SLOPE, False)
        unscaled = resample(gradient, *ctx.transposed)
        at_scale, at_x = (unscaled * x).sum(dim=(2, 3)), unscaled * scale[:, :, None, None]
        return at_x, at_scale, gradient.sum(dim=(0, 2, 3)), gradient.sum(dim=1, keepdim=True), None, None


def _launch(
    x: Tensor,
    up: int,
    down: int,
    padding: int,
    gain: float,
    before: Tensor | None = None,
    after: Tensor | None = None,
    affine: tuple[Tensor, ...] = (),
) -> Tensor:
    own = before is x
    films, channels, height, width = x.shape
    out_height, out_width = (side * up // down + (2 * padding - 3 if up == down else 0) for side in (height, width))
    y = torch.empty(
        (films, channels, out_height, out_width), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    )
    many = min(32, triton.next_power_of_2(channels))
    pixels = ELEMENTS // many
    side = 1 << (pixels.bit_length() // 2)
    tiles = triton.cdiv(out_height, pixels // side) * triton.cdiv(out_width, side)
    scale, bias, noise = (t.contiguous() for t in affine) if affine else (None, None, None)
    with torch.cuda.device_of(x):
        _kernel[(tiles, triton.cdiv(channels, many), films)](
            _channels_last(x), None if own else _channels_last(before), _channels_last(after), scale, bias, noise, y,
            channels, height, width, out_height, out_width,
            UP=up, DOWN=down, PADDING=padding, GAIN=gain, OWN=own, SLOPE=SLOPE,
            SIDE=side, PIXELS=pixels, CHANNELS=many, SUM=tl.float64 if x.dtype == torch.float64 else tl.float32,
        )  # fmt: skip
    return y


def _channels_last(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous(memory_format=torch.channels_last)


@cache
def agrees(plain: Callable[..., Tensor], dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether the kernel does on `device` what `plain` does in float64, gradients too; log a warning where it
    does not."""
    try:
        with torch.inference_mode(False), torch.enable_grad():
            worst = max(_differences(plain, dtype, device))
    except (
        RuntimeError,
        OSError,
        CalledProcessError,
        triton.TritonError,
    ) as error:  # no C compiler, an old driver, no place for a cache, …
        reason = str(error).strip().partition("\n")[0]
        log.warning("the Triton kernel for %s does not run here, the plain version does its work: %s", dtype, reason)
        return False
    tolerance = 16 * torch.finfo(dtype).eps
    if not worst <= tolerance:
        log.warning(
            "the Triton kernel for %s is off by %.1e (at most %.1e): the plain version does its work",
            dtype,
            worst,
            tolerance,
        )
    return worst <= tolerance


def _differences(plain: Callable[..., Tensor], dtype: torch.dtype, device: torch.device) -> list[float]:
    """Return the largest difference of each output and gradient from that of `plain`, by its largest value."""
    random = torch.Generator().manual_seed(0)
    shapes = ((2, 37, 6, 10), (2, 37), (37,), (2, 1, 5, 9))
    x, scale, bias, noise = inputs = [
        torch.randn(shape, generator=random).to(device, dtype).requires_grad_() for shape in shapes
    ]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    pairs = [
        (resample(x, *geometry, 1.0), plain(exact[0], *geometry, 1.0)) for geometry in ((2, 1, 2), (1, 2, 1), (1, 1, 2))
    ]
    pairs.append((resample(x, 1, 1, 2, 1.0, active=True), plain(leaky(exact[0] * 1), 1, 1, 2, 1.0)))
    z = plain(exact[0], 1, 1, 1, 4.0) * exact[1][:, :, None, None] + exact[2][:, None, None] + exact[3]
    pairs.append((filter_leaky(x, scale, bias, noise, 1, 4.0), leaky(z)))
    losses = [torch.stack([y.double().square().mean() for y in several]).sum() for several in zip(*pairs, strict=True)]
    gradients = zip(torch.autograd.grad(losses[0], inputs), torch.autograd.grad(losses[1], exact), strict=True)
    return [((a.double() - b).abs().max() / b.abs().max()).item() for a, b in (*pairs, *gradients)]
