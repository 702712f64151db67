"""What a projection has lost: its distance from the film, compared with unrelated films, and the largest piece that is
missing.

A network generates what most films have. Cables, devices, letters and whatever else is only on this film vanish, and
the projection does not show that they were there; the difference does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from thiscxr.measures.diversity import ms_ssim
from thiscxr.pixels import Pixels
from thiscxr.pixels.drawing import LEAST_SIDE, draw_sheet, draw_text, enlarge

MEASURES = {
    "mae": "mean difference, grey levels",
    "psnr": "PSNR, dB",
    "ms_ssim": "MS-SSIM",
    "features": "distance of features",
}
HIGHER_IS_NEARER = ("psnr", "ms_ssim")
ROBUST_SIGMAS = 4.0  # what stands out of a difference, in standard deviations estimated from its median
LEAST_LEVELS = 12.0  # and in grey levels
_BRIGHT, _DARK, _BOX = (np.array(colour, np.float64) for colour in ((255, 140, 0), (60, 150, 255), (255, 255, 255)))

Array = NDArray[np.float64]


def distances(film: Pixels, features: NDArray, others: Pixels, of_others: NDArray) -> dict[str, Array]:
    """Return the distances of films uint8 [n, h, w] from one film [h, w], and of their features [n, d] from its
    features [d]: [n] for each of MEASURES."""
    a, b = film.astype(np.float64), others.astype(np.float64)
    square = np.maximum(((b - a) ** 2).mean(axis=(1, 2)), 1e-10)
    one = torch.from_numpy(a.astype(np.float32))[None, None]
    alike = [
        ms_ssim(one.expand(len(some), -1, -1, -1), some[:, None])
        for some in torch.from_numpy(b.astype(np.float32)).split(256)
    ]
    return {
        "mae": np.abs(b - a).mean(axis=(1, 2)),
        "psnr": 10 * np.log10(255**2 / square),
        "ms_ssim": torch.cat(alike).numpy().astype(np.float64),
        "features": np.linalg.norm(of_others.astype(np.float64) - features, axis=1),
    }


def nearest_and_median(found: Mapping[str, Array]) -> dict[str, dict[str, float]]:
    """Return the value of the nearest film and the median, for each measure."""
    return {
        name: {
            "nearest": float(values.max() if name in HIGHER_IS_NEARER else values.min()),
            "median": float(np.median(values)),
        }
        for name, values in found.items()
    }


@dataclass(frozen=True)
class Piece:
    """A connected region where the difference stands out."""

    left: int
    top: int
    right: int  # exclusive, px
    bottom: int
    num_pixels: int
    mean: float
    """Film minus projection, grey levels: above 0, the film is brighter there."""
    share: float
    """Of everything that was lost."""

    @property
    def words(self) -> str:
        """Where and what it is, for a line of the report."""
        kind = "brighter" if self.mean > 0 else "darker"
        where = f"columns {self.left} to {self.right - 1}, rows {self.top} to {self.bottom - 1}"
        return (
            f"{where}: {self.num_pixels} px, on the film {abs(self.mean):.0f} grey levels "
            f"{kind}, {self.share:.0%} of what was lost"
        )


@dataclass(frozen=True)
class Lost:
    """What a film shows and its projection does not."""

    share: float
    """Energy of the difference over the energy of the film around its mean."""
    largest: Piece | None
    """By energy; None: nothing stands out."""
    brightest: Piece | None
    """The same among the pieces that are brighter on the film, such as metal, letters and lines."""


def lost(film: Pixels, projected: Pixels) -> Lost:
    """Return what uint8 [h, w] has lost in its projection. A piece is connected, over corners too, and of one sign."""
    difference = film.astype(np.float64) - projected
    energy = difference**2
    total = max(float(energy.sum()), 1e-10)
    odd = difference - np.median(difference)  # a film that is brighter all over has lost no piece
    floor = max(LEAST_LEVELS, ROBUST_SIGMAS * 1.4826 * float(np.median(np.abs(odd))))
    bright, dark = (_pieces(odd * sign > floor, difference, energy, total) for sign in (1, -1))
    return Lost(
        total / max(float(((film - film.mean(dtype=np.float64)) ** 2).sum()), 1e-10),
        max(bright + dark, key=lambda piece: piece.share, default=None),
        max(bright, key=lambda piece: piece.share, default=None),
    )


def _pieces(mask: NDArray[np.bool_], difference: Array, energy: Array, total: float) -> list[Piece]:
    labels, _ = ndimage.label(mask, np.ones((3, 3)))
    pieces = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        inside = labels == number
        mean, share = float(difference[inside].mean()), float(energy[inside].sum()) / total
        pieces.append(Piece(columns.start, rows.start, columns.stop, rows.stop, int(inside.sum()), mean, share))
    return pieces


def projection_picture(film: Pixels, projected: Pixels, found: Lost, real: bool, notes: tuple[str, ...]) -> Pixels:
    """Return film, projection, their difference with its largest bright piece in a box, and the scale, uint8 [h, w,
    3]."""
    difference = film.astype(np.float64) - projected
    limit = max(16.0, 16 * np.ceil(np.abs(difference).max() / 16))
    coloured = _coloured(difference / limit)
    large = [enlarge(film, 2 * LEAST_SIDE), enlarge(projected, 2 * LEAST_SIDE)]
    times = large[0].shape[0] // film.shape[0]
    shown = coloured.repeat(times, 0).repeat(times, 1)
    for piece in filter(None, {found.largest, found.brightest}):
        _frame(shown, piece, times)
    first = "REAL FILM of a patient" if real else "film given, synthetic"
    head = [
        ("A real film and its likeness: keep both where the film may be.")
        if real
        else "Both films are synthetic; no patient."
    ]
    scale = _scale(shown.shape[0], limit)
    names = [first, "nearest generated film", "film minus projection", "grey levels"]
    return draw_sheet([[*large, shown, scale]], [names], head, notes)


def _coloured(share: Array) -> Pixels:
    """Return [h, w, 3]: orange where above 0 (the film is brighter), blue where below, black at 0."""
    size = np.abs(share)[..., None] ** 0.7
    return np.rint(np.where(share[..., None] > 0, _BRIGHT, _DARK) * size).astype(np.uint8)


def _scale(height: int, limit: float) -> Pixels:
    picture = np.zeros((height, height, 3), np.uint8)
    picture[:, : height // 8] = _coloured(np.linspace(1, -1, height)[:, None])
    for y, words in (
        (0, f"+{limit:.0f}: brighter on the film"),
        (height // 2 - 8, "0"),
        (height - 18, f"-{limit:.0f}: darker on the film"),
    ):
        draw_text(picture, height // 8 + 6, y, words)
    return picture


def _frame(picture: Pixels, piece: Piece, times: int) -> None:
    left, top = max(0, times * piece.left - 2), max(0, times * piece.top - 2)
    right, bottom = min(picture.shape[1], times * piece.right + 2), min(picture.shape[0], times * piece.bottom + 2)
    picture[[top, bottom - 1], left:right] = _BOX
    picture[top:bottom, [left, right - 1]] = _BOX
