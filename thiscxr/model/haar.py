"""Patches of pixels as Haar bands: their mean, and what is left of them in three patterns a scale.

Bands of patches of 2 × 2: mean, horizontal, vertical, diagonal difference; of 4 × 4: the mean, the three differences of
the means of its four quarters, then each of the three of every quarter, row by row. Source: Haar 1910, "Zur Theorie der
orthogonalen Funktionensysteme"; wavelets in both networks: Gal et al. 2021, arXiv:2102.06108 (SWAGAN).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# The differences between the four pixels of a square, row by row: left and right, above and below, one diagonal and the
# other.
_PATTERNS = ((1.0, -1.0, 1.0, -1.0), (1.0, 1.0, -1.0, -1.0), (1.0, -1.0, -1.0, 1.0))


def detail_synthesis(patch: int) -> list[Tensor]:
    """Return for each scale, coarse to fine, the map from its bands to the pixels that it has in a patch: [4, 3], then
    [16, 12].

    Pixels come row by row, as `pixel_shuffle` takes them.
    """
    patterns = torch.tensor(_PATTERNS).view(3, 1, 2, 2)
    maps = []
    for quarters in (2**level for level in range(patch.bit_length() - 1)):  # along an edge
        bands = torch.eye(3 * quarters**2).view(-1, 3, quarters, quarters)  # pattern by pattern, each for every quarter
        maps.append(F.conv_transpose2d(bands, patterns, stride=2).flatten(1).T.contiguous())
    return maps


def analysis(patch: int) -> Tensor:
    """Return the map from the pixels of a patch, row by row, to its bands [patch², patch²]: the mean, then half the
    differences of means.

    The inverse of the sum of the mean and what `detail_synthesis` makes of the other bands.
    """
    pixels = [torch.ones(patch * patch, 1)]
    for level, synthesis in enumerate(detail_synthesis(patch), 1):
        coarse = synthesis.T.reshape(-1, 1, 2**level, 2**level)
        # a coarse pixel is a square of fine ones
        pixels.append(F.interpolate(coarse, size=(patch, patch)).flatten(1).T)
    whole = torch.cat(pixels, dim=1)
    return whole.T / whole.square().sum(dim=0)[:, None]  # its columns are orthogonal


def without_mean(weight: Tensor) -> Tensor:
    """Return kernels [..., k, k] whose sum is zero: their response to a constant input is zero."""
    return weight - weight.mean(dim=(-2, -1), keepdim=True)
