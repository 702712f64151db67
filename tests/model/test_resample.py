"""Resampling against scipy's upfirdn, and its gradients."""

import numpy as np
import pytest
import torch
from scipy.signal import upfirdn

from thiscxr.model.resample import FIR, downsample2, filter2d, upsample2


def along(x: np.ndarray, axis: int, taps: np.ndarray, up: int, down: int, crop: slice) -> np.ndarray:
    y = upfirdn(taps, x, up=up, down=1, axis=axis)
    return np.take(y, range(*crop.indices(y.shape[axis])), axis=axis)[(slice(None),) * axis + (slice(None, None, down),)]


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (2, 3, 8, 6), (1, 2, 5, 7)])
def test_upsampling_is_zero_insertion_and_fir(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    expected = x
    for axis in (2, 3):
        expected = along(expected, axis, 2 * np.array(FIR), 2, 1, slice(1, 1 + 2 * shape[axis]))
    np.testing.assert_allclose(upsample2(torch.from_numpy(x)).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (2, 3, 8, 6)])
def test_downsampling_is_fir_and_every_second_output(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal(shape)
    expected = x
    for axis in (2, 3):
        expected = along(expected, axis, np.array(FIR), 1, 2, slice(2, 2 + shape[axis]))
    np.testing.assert_allclose(downsample2(torch.from_numpy(x)).numpy(), expected, atol=1e-12)


def test_levels_survive_away_from_the_border() -> None:
    flat = torch.full((1, 2, 8, 8), 0.7, dtype=torch.float64)
    for y in (upsample2(flat)[..., 2:-2, 2:-2], downsample2(flat)[..., 1:-1, 1:-1], filter2d(flat, padding=0)):
        torch.testing.assert_close(y, torch.full_like(y, 0.7))


@pytest.mark.parametrize("function", [upsample2, downsample2])
def test_gradients_and_double_gradients(function) -> None:
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)
