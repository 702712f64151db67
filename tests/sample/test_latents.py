"""Philox against the published vectors, and the streams built on it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from thiscxr.sample.latents import MAX_SEED, condition_uniforms, normals, philox4x32, uniforms


@pytest.mark.parametrize(
    ("counter", "key", "expected"),  # Random123 1.14, kat_vectors, philox4x32 10 rounds
    [
        ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_published_vectors(counter: list[int], key: tuple[int, int], expected: list[int]) -> None:
    assert philox4x32(np.array([counter], dtype=np.uint32), key)[0].tolist() == expected


def test_documented_values() -> None:
    """The vectors of docs/formats.md, which another implementation can check itself against."""
    np.testing.assert_allclose(uniforms([0], 0, 2)[0], [(0x6627E8D5 + 0.5) / 2**32, (0xE169C58D + 0.5) / 2**32], rtol=0)
    np.testing.assert_allclose(normals([0], 0, 4)[0], [0.9911377, -0.9246626, -0.617609, -0.4820686], rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, MAX_SEED), st.integers(0, 20), st.integers(1, 50), st.integers(0, 50))
def test_a_stream_is_the_same_however_much_is_read(seed: int, stream: int, count: int, more: int) -> None:
    np.testing.assert_array_equal(normals([seed], stream, count), normals([seed], stream, count + more)[:, :count])


def test_seeds_and_streams_are_apart_and_large_seeds_are_not_folded() -> None:
    keys = [(0, 0), (1, 0), (0, 1), (2**32, 0), (2**32 + 1, 0), (MAX_SEED, 0)]
    values = {tuple(normals([seed], stream, 8)[0]) for seed, stream in keys}
    assert len(values) == len(keys)


def test_normals_are_normal_and_uniforms_uniform() -> None:
    assert kstest(normals([5], 0, 100_000)[0], "norm").pvalue > 1e-3
    assert kstest(uniforms([5], 1, 100_000)[0], "uniform").pvalue > 1e-3
    across = normals(range(20_000), 0, 1)[:, 0]  # the first value of consecutive seeds
    assert kstest(across, "norm").pvalue > 1e-3
    assert kstest(condition_uniforms(range(5000))[:, 0], "uniform").pvalue > 1e-3


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed {seed} is out of range"):
        normals([seed], 0, 4)


def test_no_seeds_are_no_numbers() -> None:
    assert uniforms([], 1, 2).shape == (0, 2)
    assert normals([], 0, 5).shape == (0, 5)
