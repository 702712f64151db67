"""Random numbers that are the same in Python, ONNX and a browser: Philox4x32-10 counters and Box–Muller in float64.

A seed owns numbered streams; a stream is a list of values that never depends on how many are read at a time, on the batch or on the
machine. Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4.3; test vectors in docs/formats.md.
"""

from collections.abc import Iterator

import numpy as np

LATENT_STREAM = 0  # z
CONDITION_STREAM = 1  # what is asked where nothing was asked
NOISE_STREAM = 2  # first noise input; the following inputs use the following streams
MAX_SEED = 2**53 - 1  # the largest integer that JavaScript holds exactly

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)


def philox4x32(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Return the ten-round Philox output: counters uint32 [n, 4] and one key of two 32-bit words -> uint32 [n, 4]."""
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _MULTIPLIERS[0] * c0, _MULTIPLIERS[1] * c2  # 32 x 32 -> 64 bits: no overflow
        c0, c1, c2, c3 = (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0), p1 & _LOW, (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def uniforms(seed: int, stream: int, count: int) -> np.ndarray:
    """Return float64 [count] in (0, 1): (word + 0.5) / 2³² of key (seed mod 2³², stream) and counters (block, 0, seed div 2³², 0)."""
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed {seed} is out of range; use 0 to {MAX_SEED} (2^53 - 1)")
    counter = np.zeros((-(-count // 4), 4), dtype=np.uint32)
    counter[:, 0] = np.arange(len(counter))
    counter[:, 2] = seed >> 32
    words = philox4x32(counter, (seed & 0xFFFFFFFF, stream)).reshape(-1)[:count]
    return (words.astype(np.float64) + 0.5) / 2**32


def normals(seed: int, stream: int, count: int) -> np.ndarray:
    """Return float32 [count] standard normal values: uniforms in pairs (u, v) give sqrt(-2 ln u) · (cos 2πv, sin 2πv)."""
    u, v = uniforms(seed, stream, count + count % 2).reshape(-1, 2).T
    radius, angle = np.sqrt(-2 * np.log(u)), 2 * np.pi * v
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[:count].astype(np.float32)


def condition_uniforms(seed: int) -> Iterator[float]:
    """Yield the numbers that decide what a seed is asked for."""
    return iter(uniforms(seed, CONDITION_STREAM, 8).tolist())
