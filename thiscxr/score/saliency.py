"""Where on a film a reader sees a finding. The sheets show films of real patients: they are for who has the pool, and are never published.

Source: Grad-CAM, Selvaraju et al. 2017, arXiv:1610.02391, section 3. The reader's heads are linear in averaged maps, so that the gradients
of Eq. 1 are the weights of the head, the same at every place: the sum of Eq. 2 is that of Zhou et al. 2016, arXiv:1512.04150.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from thiscxr.data.pixels import Pixels, make_grid, pixels_to_images, to_bits
from thiscxr.data.pool import Pool
from thiscxr.model.classifier import Reader
from thiscxr.score.judge import Judgement, Reading

WELL_READ = 0.6  # AUC at the lower end of the interval, from which a finding is shown
COLUMNS = 6  # films a finding
TILE_PX = 128  # side of a film on the sheet at least
ORANGE = np.array([255.0, 120.0, 0.0])


def class_activation(reader: Reader, pixels: Pixels, finding: str) -> NDArray[np.float32]:
    """Return how much each place speaks for the finding, float32 [n, side, side] from 0 to each film's maximum, 1 (all 0 where none does).

    pixels: uint8 or uint16 [n, side, side]. Maps have a side of res / 16 (small) or res / 32 (densenet121), and are interpolated.
    """
    device = next(reader.parameters()).device
    weight = reader.heads["findings"].get_parameter("weight")[reader.config.findings.index(finding)]
    with torch.inference_mode():
        maps = reader.maps(torch.from_numpy(pixels_to_images(pixels))[:, None].to(device))
        heat = F.relu(torch.einsum("nchw,c->nhw", maps, weight))
        heat = heat / heat.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
        return F.interpolate(heat[:, None], size=pixels.shape[1:], mode="bilinear", align_corners=False)[:, 0].cpu().numpy()


def overlay(pixels: Pixels, heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return films uint8 [n, h, w] under their heat [n, h, w] from 0 to 1 in orange, uint8 [n, h, w, 3]."""
    share = 0.6 * heat[..., None]
    return np.rint((1 - share) * pixels[..., None] + share * ORANGE).astype(np.uint8)


def saliency_sheet(
    reader: Reader, pool: Pool, rows: NDArray[np.int64], reading: Reading, found: Judgement
) -> tuple[NDArray[np.uint8], list[str]]:
    """Return a picture uint8 [h, w, 3], and the findings it shows from above: the films that have it and for which the reader is surest.

    Two lines a finding: the films, and the same with the places that speak for it. rows: what `reading` is of. Raises ValueError when no
    finding is read well enough.
    """
    shown = [each.question for each in found.questions if each.calibration and each.ci95[0] > WELL_READ]
    if not shown:
        raise ValueError(
            f"no finding is read well enough to be shown (lower end of the AUC's interval above {WELL_READ}); train for longer"
        )
    lines: list[NDArray[np.uint8]] = []
    for finding in shown:
        present = np.flatnonzero(reading.truths[finding] == 1)
        surest = present[np.argsort(-reading.answers[finding][present], kind="stable")][:COLUMNS]
        films = to_bits(pool.read(rows[surest]), 8)
        heat = class_activation(reader, films, finding)
        lines += [_line(np.repeat(films[..., None], 3, axis=-1)), _line(overlay(films, heat))]
    return np.concatenate(lines), shown


def _line(films: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> NDArray[np.uint8]:
    films = np.asarray(films)
    zoom = max(1, -(-TILE_PX // films.shape[1]))
    line = np.zeros((COLUMNS, *films.shape[1:]), np.uint8)
    line[: len(films)] = films
    line = line.repeat(zoom, axis=1).repeat(zoom, axis=2)
    return np.stack([make_grid(line[..., channel], COLUMNS) for channel in range(3)], axis=-1)
