"""Random numbers that are the same in Python, ONNX and a browser: Philox4x32-10 counters and Box–Muller in float64.

A seed owns numbered streams. The values of a stream do not depend on how many are read at a time, on the batch or on
the machine. Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4.3; test
vectors in docs/formats.md.
"""

from collections.abc import Sequence

import numpy as np

LATENT_STREAM = 0  # z
CONDITION_STREAM = 1  # the condition of a seed, where none is requested
NOISE_STREAM = 2  # first noise input; the following inputs use the following streams
MAX_SEED = 2**53 - 1  # the largest integer that JavaScript holds exactly

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_CACHED_VALUES = 32_768


def philox4x32(counter: np.ndarray, key: tuple[int | np.ndarray, int]) -> np.ndarray:
    """Return the ten-round Philox output: counters uint32 [..., 4] and two 32-bit words of key, the first one number or
    an array that broadcasts to the counters -> uint32 [..., 4]."""
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = np.asarray(key[0], np.uint64), np.uint64(key[1])
    p0, p1 = np.empty_like(c0), np.empty_like(c2)
    for _ in range(10):  # in place: three times as fast
        np.multiply(c0, _MULTIPLIERS[0], out=p0)  # 32 x 32 -> 64 bits: no overflow
        np.multiply(c2, _MULTIPLIERS[1], out=p1)
        for product, other, word, k in ((p1, c1, c0, k0), (p0, c3, c2, k1)):
            np.right_shift(product, _SHIFT, out=word)
            np.bitwise_xor(word, other, out=word)
            np.bitwise_xor(word, k, out=word)
            np.bitwise_and(product, _LOW, out=other)
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def uniforms(seeds: Sequence[int], stream: int, count: int) -> np.ndarray:
    """Return float64 [n, count] of n seeds, in (0, 1).

    (word + 0.5) / 2³² of key (seed mod 2³², stream) and counters (block, 0, seed div 2³², 0). Raises ValueError for a
    seed out of range.
    """
    for seed in seeds:
        if not 0 <= seed <= MAX_SEED:
            raise ValueError(f"seed {seed} is out of range; use 0 to {MAX_SEED} (2^53 - 1)")
    number = np.array(seeds, np.uint64)[:, None]  # [n, 1]
    counter = np.zeros((len(number), -(-count // 4), 4), dtype=np.uint32)
    counter[..., 0] = np.arange(counter.shape[1])
    counter[..., 2] = number >> _SHIFT
    words = philox4x32(counter, (number & _LOW, stream)).reshape(len(number), 4 * counter.shape[1])[:, :count]
    values = words + 0.5
    values /= 2**32
    return values


def normals(seeds: Sequence[int], stream: int, count: int) -> np.ndarray:
    """Return float32 [n, count] of n seeds, standard normal.

    Uniforms in pairs (u, v) give sqrt(-2 ln u) · (cos 2πv, sin 2πv).
    """
    # A few seeds at a time: enough for numpy's calls to cost little, and few enough for the cache.
    group = max(1, _CACHED_VALUES // max(count, 1))
    parts = [
        _box_muller(uniforms(seeds[i : i + group], stream, count + count % 2)) for i in range(0, len(seeds), group)
    ]
    return np.concatenate(parts)[:, :count] if parts else np.empty((0, count), np.float32)


def _box_muller(values: np.ndarray) -> np.ndarray:
    radius = np.sqrt(-2 * np.log(values[..., ::2]))
    angle = 2 * np.pi * values[..., 1::2]
    normal = np.empty(values.shape, np.float32)
    np.multiply(radius, np.cos(angle), out=normal[..., ::2], casting="same_kind")  # in float64, then rounded
    np.multiply(radius, np.sin(angle), out=normal[..., 1::2], casting="same_kind")
    return normal


def condition_uniforms(seeds: Sequence[int]) -> np.ndarray:
    """Return float64 [n, 2]: the numbers that choose the condition of each seed."""
    return uniforms(seeds, CONDITION_STREAM, 2)
