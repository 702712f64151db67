"""Saliency maps: where on a film a classifier predicts a finding. The grids show films of real patients: they are only
for those who may see the pool, and are never published.

Source: Grad-CAM, Selvaraju et al. 2017, arXiv:1610.02391, section 3. The heads are linear in averaged maps, so the
gradients of Eq. 1 are the weights of the head, the same at every place, and the sum of Eq. 2 is that of Zhou et al.
2016, arXiv:1512.04150. The map of an average film is subtracted before negative values are clipped: for a rare finding
every place is evidence against it, and only the differences are informative. The mean of the difference over places is
the film's logit minus the average logit.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from thiscxr.pixels import Pixels, make_grid, pixels_to_images, to_bits
from thiscxr.pool import Pool
from thiscxr.reader.evaluation import Evaluation, Reading
from thiscxr.reader.network import Reader

WELL_PREDICTED = 0.6  # a finding is shown if the interval of its AUC lies above this
COLUMNS = 6  # films per finding
TILE_PX = 128  # least size of a film in the grid
AVERAGED = 256  # films that are averaged
ORANGE = np.array([255.0, 120.0, 0.0])


def class_activation(reader: Reader, pixels: Pixels, finding: str, average: Tensor) -> NDArray[np.float32]:
    """Return the evidence for the finding at each place, above that of an average film, float32 [n, res, res], in
    logits.

    pixels: uint8 or uint16 [n, res, res]; average: the mean of `last_maps` over many films. The maps have a side of
    res / 16 (small) or res / 32 (densenet121), and are interpolated.
    """
    weight = reader.heads["findings"].get_parameter("weight")[reader.config.findings.index(finding)]
    with torch.inference_mode():
        heat = torch.einsum("nchw,c->nhw", last_maps(reader, pixels) - average, weight)
        return (
            F.interpolate(heat[:, None], size=pixels.shape[1:], mode="bilinear", align_corners=False)[:, 0]
            .cpu()
            .numpy()
        )


def last_maps(reader: Reader, pixels: Pixels) -> Tensor:
    """Return the classifier's last maps, float32 [n, feature_dim, h, w], of pixels [n, res, res]."""
    with torch.inference_mode():
        return reader.maps(torch.from_numpy(pixels_to_images(pixels))[:, None].to(next(reader.parameters()).device))


def overlay(pixels: Pixels, heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return films uint8 [n, h, w] with their heat [n, h, w] above 0, relative to its maximum, in orange, uint8
    [n, h, w, 3]."""
    above = np.maximum(heat, 0)
    share = 0.6 * (above / np.maximum(above.max(axis=(1, 2), keepdims=True), 1e-12))[..., None]
    return np.rint((1 - share) * pixels[..., None] + share * ORANGE).astype(np.uint8)


def saliency_sheet(
    reader: Reader, pool: Pool, rows: NDArray[np.int64], reading: Reading, found: Evaluation
) -> tuple[NDArray[np.uint8], list[str]]:
    """Return a picture uint8 [h, w, 3] and its findings from top to bottom: for each, films with the finding and the
    highest prediction.

    Two rows per finding: the films, and the same under their maps. rows: the films of `reading`. Raises ValueError if
    no finding is predicted well enough.
    """
    shown = [each.question for each in found.questions if each.calibration and each.ci95[0] > WELL_PREDICTED]
    if not shown:
        raise ValueError(
            "no finding is predicted well enough to be shown (lower end of the AUC's "
            f"interval above {WELL_PREDICTED}); train for longer"
        )
    some = rows[np.unique(np.linspace(0, len(rows) - 1, AVERAGED).astype(np.int64))]
    average = last_maps(reader, pool.read(some)).mean(dim=0)
    lines: list[NDArray[np.uint8]] = []
    for finding in shown:
        present = np.flatnonzero(reading.truths[finding] == 1)
        surest = present[np.argsort(-reading.answers[finding][present], kind="stable")][:COLUMNS]
        films = to_bits(pool.read(rows[surest]), 8)
        heat = class_activation(reader, films, finding, average)
        lines += [_line(np.repeat(films[..., None], 3, axis=-1)), _line(overlay(films, heat))]
    return np.concatenate(lines), shown


def _line(films: NDArray[np.uint8]) -> NDArray[np.uint8]:
    zoom = max(1, -(-TILE_PX // films.shape[1]))
    line = np.zeros((COLUMNS, *films.shape[1:]), np.uint8)
    line[: len(films)] = films
    line = line.repeat(zoom, axis=1).repeat(zoom, axis=2)
    return np.stack([make_grid(line[..., channel], COLUMNS) for channel in range(3)], axis=-1)
