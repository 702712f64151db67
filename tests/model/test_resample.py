"""Resampling against scipy's upfirdn, its gradients, and what runs around it: export, autocast, torch.compile, no
Triton."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.signal import upfirdn
from torch import Tensor

from thiscxr.model import resample
from thiscxr.model.layers import leaky
from thiscxr.model.resample import FIR, downsample2, filter2d, filter_leaky, leaky_filter, upsample2, use_triton


def along(x: np.ndarray, axis: int, taps: np.ndarray, up: int, down: int, crop: slice) -> np.ndarray:
    y = upfirdn(taps, x, up=up, down=1, axis=axis)
    return np.take(y, range(*crop.indices(y.shape[axis])), axis=axis)[
        (slice(None),) * axis + (slice(None, None, down),)
    ]


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (3, 1, 5, 7), (2, 3, 8, 6), (1, 2, 5, 7)])
def test_upsampling_is_zero_insertion_and_fir(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    expected = x
    for axis in (2, 3):
        expected = along(expected, axis, 2 * np.array(FIR), 2, 1, slice(1, 1 + 2 * shape[axis]))
    np.testing.assert_allclose(upsample2(torch.from_numpy(x)).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (3, 1, 5, 7), (2, 3, 8, 6)])
def test_upsampling_with_its_edge_sees_more_of_the_same_beyond_the_border(shape: tuple[int, ...]) -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal(shape))
    wide = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge"))
    torch.testing.assert_close(upsample2(x, edge=True), upsample2(wide)[..., 4:-4, 4:-4])
    flat = torch.full(shape, 0.7, dtype=torch.float64)
    torch.testing.assert_close(upsample2(flat, edge=True), torch.full_like(upsample2(flat), 0.7))


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (2, 3, 8, 6)])
def test_downsampling_is_fir_and_every_second_output(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal(shape)
    expected = x
    for axis in (2, 3):
        expected = along(expected, axis, np.array(FIR), 1, 2, slice(2, 2 + shape[axis]))
    np.testing.assert_allclose(downsample2(torch.from_numpy(x)).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (2, 3, 7, 6)])
@pytest.mark.parametrize("padding", [0, 1, 2, 3])
def test_filtering_is_fir(shape: tuple[int, ...], padding: int) -> None:
    x = np.random.default_rng(2).standard_normal(shape)
    expected = x
    for axis in (2, 3):
        expected = along(expected, axis, np.array(FIR), 1, 1, slice(3 - padding, shape[axis] + padding))
    np.testing.assert_allclose(filter2d(torch.from_numpy(x), padding, gain=3.0).numpy(), 3 * expected, atol=1e-12)


def test_levels_survive_away_from_the_border() -> None:
    for channels in (1, 2):
        flat = torch.full((1, channels, 8, 8), 0.7, dtype=torch.float64)
        for y in (upsample2(flat)[..., 2:-2, 2:-2], downsample2(flat)[..., 1:-1, 1:-1], filter2d(flat, padding=0)):
            torch.testing.assert_close(y, torch.full_like(y, 0.7))


@pytest.mark.parametrize("shape", [(5, 8), (8, 5)])
def test_an_odd_side_cannot_be_halved(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"{shape[0]} × {shape[1]} px and halves even sides"):
        downsample2(torch.zeros(1, 1, *shape))


def affine(x: Tensor, padding: int) -> list[Tensor]:
    n, c, h, w = x.shape
    shapes = ((n, c), (c,), (n, 1, h + 2 * padding - 3, w + 2 * padding - 3))
    return [torch.randn(shape, dtype=x.dtype, device=x.device, requires_grad=True) for shape in shapes]


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "upsample2": upsample2,
    "upsample2 edge": lambda x: upsample2(x, edge=True),
    "downsample2": downsample2,
    "filter2d": lambda x: filter2d(x, 2),
    "leaky_filter": lambda x: leaky_filter(x * 1, 2),
    "filter_leaky": lambda x, *affine: filter_leaky(x, *affine, padding=1, gain=4.0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("channels", [1, 2])
def test_gradients_and_double_gradients(name: str, channels: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, channels, 4, 4, dtype=torch.float64, requires_grad=True)
    inputs = [x, *affine(x, 1)] if name == "filter_leaky" else [x]
    assert torch.autograd.gradcheck(FUNCTIONS[name], inputs)
    assert torch.autograd.gradgradcheck(FUNCTIONS[name], inputs)


def test_activations_beside_the_filter() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    scale, bias, noise = affine(x, 1)
    torch.testing.assert_close(leaky_filter(x.clone(), 2), filter2d(torch.where(x > 0, x, x * 0.2), 2))
    expected = filter2d(x, 1, 4.0) * scale[:, :, None, None] + bias[None, :, None, None] + noise
    torch.testing.assert_close(filter_leaky(x, scale, bias, noise, 1, 4.0), leaky(expected.clone()))
    torch.testing.assert_close(filter_leaky(x, scale, bias, noise[:1], 1, 4.0)[:1], leaky(expected.clone())[:1])


@pytest.mark.parametrize("channels", [1, 3])
def test_an_export_holds_plain_operations_and_any_batch(channels: int) -> None:
    class Both(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return filter2d(downsample2(upsample2(x)), 1)

    x = torch.randn(2, channels, 4, 4)
    with torch.no_grad():
        program = torch.export.export(
            Both(), (x,), dynamic_shapes=({0: torch.export.Dim("films")},)
        ).run_decompositions()
        called = {
            str(node.target)
            for node in program.graph.nodes
            if node.op == "call_function" and "aten" in str(node.target)
        }
        assert {name.split(".")[1] for name in called} >= {"convolution"}
        assert not [node for node in program.graph.nodes if "autograd" in str(node.target)]
        x = torch.randn(5, channels, 4, 4)
        torch.testing.assert_close(program.module()(x), Both()(x))


@pytest.mark.parametrize("name", ["upsample2", "upsample2 edge", "downsample2", "filter2d", "leaky_filter"])
def test_half_precision_and_a_compiled_graph_agree_with_the_plain_call(name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 16, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = FUNCTIONS[name](x)
    (expected,) = torch.autograd.grad(y.square().sum(), x)
    with torch.autocast("cpu", torch.bfloat16):
        half = FUNCTIONS[name](x)
    (gradient,) = torch.autograd.grad(half.float().square().sum(), x)
    assert (half.dtype, gradient.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(half.float(), y, atol=0.02, rtol=0.02)
    torch.testing.assert_close(gradient, expected, atol=0.05, rtol=0.05)
    compiled = torch.compile(FUNCTIONS[name], backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(compiled, y)
    torch.testing.assert_close(torch.autograd.grad(compiled.square().sum(), x)[0], expected)


def test_without_triton_only_the_switch_is_missing() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch\n"
        "from thiscxr.model.resample import upsample2, use_triton\n"
        "assert upsample2(torch.zeros(1, 1, 4, 4)).shape == (1, 1, 8, 8)\n"
        "use_triton(False)\n"
        "try: use_triton(True)\n"
        "except ValueError as error: print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "use_triton(True) found no Triton, which it needs: `pip install triton`, or leave it off\n"


@pytest.mark.skipif(resample.resample_triton is None, reason="Triton is not installed")
def test_films_outside_cuda_never_take_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def launched(*_: object) -> None:
        raise AssertionError("the kernel was launched")

    monkeypatch.setattr(resample.resample_triton, "_launch", launched)
    use_triton(True)
    try:
        assert upsample2(torch.zeros(1, 1, 4, 4)).shape == (1, 1, 8, 8)
    finally:
        use_triton(False)
