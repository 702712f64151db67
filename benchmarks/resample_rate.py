"""The time of resampling by two against the depthwise convolutions of torch that it replaces, and the bytes it moves
against the least.

Run: OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/resample_rate.py [--films 32] [--rounds 20] [--device cpu|cuda].
Prints one JSON line: per function and shape the ms of a call with its gradient, and of the second derivative (R1), the
least of the rounds, in which all take turns. Bytes are those of the tensors that each operation of torch reads and
writes, by counting; the least is inputs read once and outputs written once. On a CUDA device the Triton kernel takes
its turns too, in float32. About two minutes on one core.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from thiscxr.model.layers import leaky
from thiscxr.model.resample import FIR, downsample2, filter2d, filter_leaky, leaky_filter, upsample2, use_triton

SHAPES = ((16, 64), (32, 32), (64, 16), (128, 8), (1, 64))  # channels, resolution in pixels
Call = Callable[..., Tensor]


def depthwise(x: Tensor, gain: float, transposed: bool = False, **options: Any) -> Tensor:
    """The formulation that is compared with: one convolution of torch and its own gradients."""
    taps = torch.tensor(FIR, dtype=x.dtype, device=x.device)
    weight = (gain * torch.outer(taps, taps)).expand(x.shape[1], 1, 4, 4)
    return (F.conv_transpose2d if transposed else F.conv2d)(x, weight, groups=x.shape[1], **options)


def composed(x: Tensor, scale: Tensor, bias: Tensor, noise: Tensor) -> Tensor:
    return leaky(torch.addcmul(bias[:, None, None], depthwise(x, 4.0, padding=1), scale[:, :, None, None]) + noise)


# Name: what is compared with, ours, and the passes over a film that the Triton kernel makes for a gradient (torch sums
# the last).
FUNCTIONS: dict[str, tuple[Call, Call, int]] = {
    "filter2d": (lambda x: depthwise(x, 1.0, padding=2), lambda x: filter2d(x, 2), 2),
    "upsample2": (lambda x: depthwise(x, 4.0, True, stride=2, padding=1), upsample2, 2),
    "downsample2": (lambda x: depthwise(x, 1.0, stride=2, padding=1), downsample2, 2),
    "leaky_filter": (lambda x: depthwise(leaky(x), 1.0, padding=2), lambda x: leaky_filter(x, 2), 3),
    "filter_leaky": (
        composed,
        lambda x, scale, bias, noise: filter_leaky(x, scale, bias, noise, padding=1, gain=4.0),
        13,
    ),
}


class Moved(TorchDispatchMode):
    """Count the bytes of all tensors that operations read and write; views and allocations move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not function.is_view and "empty" not in str(function) and "detach" not in str(function):
            self.bytes += size(tree_leaves((args, kwargs, result)))
        return result


def size(values: Iterable[Any]) -> int:
    return sum(min(value.nbytes, value.untyped_storage().nbytes()) for value in values if isinstance(value, Tensor))


def inputs_of(name: str, films: int, channels: int, res: int, device: str) -> list[Tensor]:
    res += name == "filter_leaky"  # what a transposed convolution gives
    x = torch.randn(films, channels, res, res, device=device).contiguous(memory_format=torch.channels_last)
    shapes = ((films, channels), (channels,), (films, 1, res - 1, res - 1)) if name == "filter_leaky" else ()
    return [t.requires_grad_() for t in (x, *(torch.randn(shape, device=device) for shape in shapes))]


def copied(inputs: list[Tensor]) -> list[Tensor]:
    return [inputs[0].clone(), *inputs[1:]]  # an activation may overwrite it


def timed(call: Call, inputs: list[Tensor]) -> tuple[float, float]:
    """Return the seconds of a call and its gradient, and of the gradient of the squared gradient."""

    def now() -> float:
        if inputs[0].is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    x = copied(inputs)
    start = now()
    y = call(*x)
    forward = now() - start
    gradient = torch.ones_like(y)
    start = now()
    torch.autograd.grad(y, inputs, gradient)
    first = forward + now() - start
    loss = call(*copied(inputs)).square().sum()
    (gradient,) = torch.autograd.grad(loss, inputs[:1], create_graph=True)
    loss = gradient.square().sum()
    start = now()
    torch.autograd.grad(loss, inputs)
    return first, now() - start


def moved(call: Call, inputs: list[Tensor], gradient_passes: int) -> dict[str, list[int]]:
    """Return the bytes of [the call, its gradient]: the least, and those of the plain version and of the Triton
    kernel."""
    x = copied(inputs)
    with Moved() as forward:
        y = call(*x)
    gradient = torch.ones_like(y)
    with Moved() as backward:
        torch.autograd.grad(y, inputs, gradient)
    once, films = size([*inputs, y]), size([inputs[0], y])
    least = [
        once,
        size([y, *inputs])
        + size([inputs[0]] if gradient_passes > 2 else [])
        + size([y] if gradient_passes > 3 else []),
    ]
    return {"least": least, "plain": [forward.bytes, backward.bytes], "triton": [once, films * gradient_passes // 2]}


def compare(name: str, films: int, channels: int, res: int, device: str, rounds: int) -> dict[str, Any]:
    reference, ours, passes = FUNCTIONS[name]
    inputs = inputs_of(name, films, channels, res, device)
    torch.testing.assert_close(ours(*copied(inputs)), reference(*copied(inputs)))
    result: dict[str, Any] = {
        "function": name,
        "channels": channels,
        "side": res,
        "bytes": moved(ours, inputs, passes),
    }
    turns = {"conv": (reference, False), "plain": (ours, False)} | (
        {"triton": (ours, True)} if device == "cuda" else {}
    )
    best = {turn: (float("inf"), float("inf")) for turn in turns}
    for _ in range(rounds):
        for turn, (call, fused) in turns.items():
            use_triton(fused)
            best[turn] = tuple(map(min, best[turn], *(timed(call, inputs) for _ in range(3))))
            use_triton(False)
    for i, what in enumerate(("ms", "r1_ms")):
        result[what] = {turn: round(1e3 * seconds[i], 3) for turn, seconds in best.items()}
        result[what] |= {
            f"{turn}_to_conv": round(best[turn][i] / best["conv"][i], 2) for turn in turns if turn != "conv"
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.manual_seed(0)
    result = {
        "benchmark": "resample_rate",
        "films": args.films,
        "results": [
            compare(name, args.films, *shape, args.device, args.rounds) for name in FUNCTIONS for shape in SHAPES
        ],
        "triton": torch.cuda.get_device_name() if args.device == "cuda" else "not measured on a GPU",
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": torch.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
