"""Diversity: how different films are from one another. The same measures for synthetic and for real films, not a
distance between the two."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from thiscxr.measures.floor import Array, check_features
from thiscxr.measures.measured import Measured
from thiscxr.measures.resampling import JACKKNIFE_95, jackknife_error, student_95
from thiscxr.pixels import Pixels, to_bits

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales: Wang et al. 2003, section 3.2
_WINDOW, _SIGMA = 11, 1.5


def vendi(features: Array) -> float:
    """Return the Vendi score of [n, d]: the effective number of different films (Friedman and Dieng 2023,
    arXiv:2210.02410, Eq. 3).

    Cosine kernel, q = 1: n for orthogonal films, 1 for one film over and over. The eigenvalues of the kernel matrix
    are those of the d × d matrix X'X / n, which is small.
    """
    x = np.asarray(features, np.float64)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    values = np.clip(np.linalg.eigvalsh(x.T @ x / len(x)), 1e-300, None)
    return float(np.exp(-(values * np.log(values)).sum()))


def vendi_scores(real: Array, patients: NDArray, fake: Array, name: str, *, n: int, seed: int = 0) -> list[Measured]:
    """Return the Vendi score of n synthetic films, and as its floor that of n real ones, patient by patient.

    Raises ValueError where there are fewer than n in a set.
    """
    check_features(real, fake)
    if min(len(real), len(fake)) < n:
        raise ValueError(f"{len(real)} real and {len(fake)} synthetic films do not give {n} per set")
    rng = np.random.Generator(np.random.Philox(key=[seed, 2]))
    centre = np.asarray(real, np.float64).mean(axis=0)  # features are not negative: without it all films would be alike
    some = fake[rng.permutation(len(fake))[:n]] - centre
    names = np.unique(patients, return_inverse=True)[1]
    order = rng.permutation(names.max() + 1)[names]
    value, floor = vendi(some), vendi(real[np.argsort(order, kind="stable")[:n]] - centre)
    error = JACKKNIFE_95 * float(jackknife_error(vendi, (some, np.arange(n))))
    return [Measured("vendi", value, (value - error, value + error), floor, n, n, extractor=name)]


def num_scales(res: int) -> int:
    """Return how many of the five scales of MS-SSIM fit into films of `res` px: the window must fit into the
    smallest."""
    scales = [k for k in range(1, 6) if res // 2 ** (k - 1) >= _WINDOW]
    if not scales:
        raise ValueError(f"films of {res} px are too small for MS-SSIM; at least {_WINDOW} px are needed")
    return scales[-1]


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the multi-scale structural similarity of pairs of films, [N], for a, b float [N, 1, H, W] in [0, 255].

    Source: Wang, Simoncelli and Bovik 2003, "Multiscale structural similarity for image quality assessment", Eq. 7.
    Where fewer than five scales fit, the weights of those that do are scaled to sum to 1. Raises ValueError for films
    that are too small.
    """
    weights = torch.tensor(_WEIGHTS[: num_scales(min(a.shape[-2:]))], dtype=a.dtype)
    weights = weights / weights.sum()
    place = torch.arange(_WINDOW, dtype=a.dtype) - _WINDOW // 2
    window = torch.exp(-(place**2) / (2 * _SIGMA**2))
    window = window / window.sum()

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, window.view(1, 1, 1, -1)), window.view(1, 1, -1, 1))

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = torch.ones(len(a), dtype=a.dtype)
    for scale, weight in enumerate(weights):
        mean_a, mean_b = blur(a), blur(b)
        var_a, var_b, both = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
        structure = (2 * both + c2) / (var_a + var_b + c2)
        last = scale == len(weights) - 1
        level = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) if last else 1.0
        similarity = similarity * (structure * level).mean(dim=(1, 2, 3)).clamp(min=0) ** weight
        if not last:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return similarity


def ms_ssim_scores(
    read: Callable[[NDArray[np.int64]], Pixels], patients: NDArray, fake: NDArray[np.uint8], *, n: int, seed: int = 0
) -> list[Measured]:
    """Return the mean MS-SSIM of pairs of synthetic films (pixels [m, res, res]), and as its floor that of pairs of
    different patients.

    read: real films by number, of `patients` [k]. Each film is in one pair, so that pairs are independent; with an odd
    number one film is in none. Lower is more diverse; far below the floor is noise. n: at most so many films per set.
    Raises ValueError for fewer than 4.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, 3]))
    first = np.unique(patients, return_index=True)[1]  # one film a patient
    sets = (fake.__getitem__, np.arange(len(fake))), (read, np.sort(first))
    if (few := min(n, *(len(rows) for _, rows in sets))) < 4:
        raise ValueError(f"{few} films are too few for pairs; at least 4 are needed")
    means, errors, counts = [], [], []
    for films, rows in sets:
        pairs = rng.permutation(rows)[: min(n, len(rows)) // 2 * 2].reshape(-1, 2)
        parts = []
        for some in np.array_split(pairs, max(1, len(pairs) // 64)):
            a, b = (torch.from_numpy(to_bits(films(side), 8).astype(np.float32))[:, None] for side in some.T)
            parts.append(ms_ssim(a, b).numpy())
        values = np.concatenate(parts)
        counts.append(len(values) * 2)
        means.append(float(values.mean()))
        errors.append(float(values.std(ddof=1) / np.sqrt(len(values))))
    reach = student_95(counts[0] // 2 - 1) * errors[0]
    interval = (max(0.0, means[0] - reach), min(1.0, means[0] + reach))
    protocol = f"{num_scales(fake.shape[-1])}scales"
    return [Measured("msssim", means[0], interval, means[1], counts[1], counts[0], protocol=protocol)]
