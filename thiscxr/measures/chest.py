"""Sizes, places and opacity of lungs and heart, from pixels and masks of frontal films.

Pure functions: whoever made the masks, they are measured alike.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, label

MEASURES = ("ctr", "viewer_left_lung", "viewer_right_lung", "lung_symmetry", "heart_lean")
SIDES = ("viewer_left", "viewer_right")  # the patient's right and left on an upright film
ZONES = ("upper", "middle", "lower")  # thirds of a lung's height
OPACITIES = (*(f"{side}_opacity" for side in SIDES), *(f"{side}_{zone}_opacity" for side in SIDES for zone in ZONES))
SMALLEST = 0.01  # share of the film that a lung or heart must have to be one
AROUND = (0.015, 0.06)  # of the film's side: from where to where around the lungs the tissue is they are compared with
MOST_CLIPPED = 0.5  # share of the lungs at the film's blackest or whitest grey, above which opacity is not measured


def measure_masks(probabilities: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Return MEASURES of probabilities of lungs and heart [n, 2, h, w]; nan where two lungs and a heart are not found.

    ctr: cardiothoracic ratio, widest heart over widest inner thorax (Danzer 1919). viewer_left_lung, viewer_right_lung:
    areas as shares of the film. lung_symmetry: smaller over larger area. heart_lean: distance of the middle of the
    heart to the viewer's right of the middle of the thorax, as a share of the thorax; negative on a mirrored film.
    """
    rows = [_measure_film(lungs, heart) for lungs, heart in probabilities.astype(np.float64)]
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(MEASURES)}


@dataclass(frozen=True)
class Organs:
    """The organs of one film: probabilities [h, w], zero elsewhere; left and right are the viewer's."""

    left: NDArray[np.float64]
    right: NDArray[np.float64]
    heart: NDArray[np.float64]
    ctr: float
    lean: float


def find_organs(lungs: NDArray[np.float64], heart: NDArray[np.float64]) -> Organs | None:
    """Return the two lungs and the heart of probabilities [h, w], or None where they are not found.

    Nor is a heart found that is wider than the thorax or has its middle beyond it, as in what is no upright chest.
    """
    heart = heart * _largest_parts(heart, 1)
    lungs = lungs * _largest_parts(lungs, 2)
    if heart.mean() < SMALLEST or lungs.mean() < 2 * SMALLEST:
        return None
    edges = _edges(lungs[lungs.max(axis=1) >= 0.5])
    first, last = edges[(edges[:, 1] - edges[:, 0]).argmax()]
    across = np.arange(lungs.shape[1]) + 0.5
    left, right = (lungs * side for side in (across < (first + last) / 2, across >= (first + last) / 2))
    if min(left.mean(), right.mean()) < SMALLEST:
        return None
    thorax, (start, end) = last - first, _edges(heart.max(axis=0)[None])[0]
    lean = float((heart.sum(axis=0) * across).sum() / heart.sum()) - (first + last) / 2
    if end - start > thorax or abs(lean) > thorax / 2:
        return None
    return Organs(left, right, heart, float((end - start) / thorax), float(lean / thorax))


def _measure_film(lungs: NDArray[np.float64], heart: NDArray[np.float64]) -> tuple[float, ...]:
    organs = find_organs(lungs, heart)
    if organs is None:
        return (float("nan"),) * len(MEASURES)
    areas = [float(lung.mean()) for lung in (organs.left, organs.right)]
    return organs.ctr, *areas, min(areas) / max(areas), organs.lean


def _largest_parts(probabilities: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """Return bool [h, w]: the `count` largest connected parts above one half, and the faint rim around them."""
    parts, number = label(probabilities >= 0.5)
    if number == 0:
        return np.zeros(probabilities.shape, np.bool_)
    sizes = np.bincount(parts.ravel())[1:]
    kept = np.isin(parts, np.argsort(-sizes, kind="stable")[:count] + 1)
    padded = np.pad(kept, 1)
    return padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]


def _edges(profiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return [n, 2]: where profiles [n, w] first and last cross one half, in pixels from the left edge, between pixels
    by interpolation."""
    padded = np.pad(profiles, ((0, 0), (1, 1)))
    inside, rows = padded >= 0.5, np.arange(len(padded))
    # pixel i of `padded` has its middle at i - 0.5
    first, last = inside.argmax(axis=1), padded.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    at_first, at_last = padded[rows, first], padded[rows, last]
    left = first - (at_first - 0.5) / (at_first - padded[rows, first - 1])
    right = last + (at_last - 0.5) / (at_last - padded[rows, last + 1])
    return np.stack([left, right], axis=1) - 0.5


def measure_opacity(pixels: NDArray[Any], probabilities: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Return OPACITIES, float64 [n] each, of films [n, h, w] (any unit, air dark) and probabilities of lungs and heart
    [n, 2, h, w]; nan where `measure_masks` has none, and where the lungs are `clipped`.

    The opacity of a pixel is its rank in the tissue AROUND the lungs, chest wall, heart and diaphragm: the share of it
    that is darker, equal ones counted half. That of a lung is the mean. 0 is darker than all tissue, 1 as white as the
    whitest. Ranks are the same under every increasing map of the grey levels: brightness, contrast, a window, a curve.
    The tissue is not of the lungs, so a haze over both of them counts in full. The nearest rim is left out: there lung
    and tissue are mixed.
    """
    rows = [_opacity(grey, lungs, heart) for grey, (lungs, heart) in zip(pixels, probabilities, strict=True)]
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(OPACITIES)}


def clipped(grey: NDArray[Any], lungs: NDArray[np.floating]) -> bool:
    """Return whether more than MOST_CLIPPED of the lungs (probabilities [h, w]) lie at the blackest or whitest grey of
    a film [h, w]: what they showed is lost."""
    inside = grey[lungs >= 0.5]
    ends = np.isin(inside, (grey.min(), grey.max()))
    return bool(len(ends)) and float(ends.mean()) > MOST_CLIPPED


def _opacity(grey: NDArray[Any], lungs: NDArray[np.floating], heart: NDArray[np.floating]) -> tuple[float, ...]:
    nothing = (float("nan"),) * len(OPACITIES)
    organs = find_organs(lungs.astype(np.float64), heart.astype(np.float64))
    if organs is None:
        return nothing
    both = organs.left + organs.right
    inside = both >= 0.5
    near, far = (binary_dilation(inside, iterations=max(1, round(share * len(grey)))) for share in AROUND)
    tissue = np.sort(grey[far & ~near])
    # on a negative the heart is as dark as the darkest of the lungs
    negative = np.median(grey[organs.heart >= 0.5]) <= np.quantile(grey[inside], 0.02)
    if not len(tissue) or negative or clipped(grey, both):
        return nothing
    rank = (tissue.searchsorted(grey, "left") + tissue.searchsorted(grey, "right")) / (2 * len(tissue))
    whole, parts = [], []
    for lung in (organs.left, organs.right):
        whole.append(float((rank * lung).sum() / lung.sum()))
        rows = np.flatnonzero((lung >= 0.5).any(axis=1))
        for zone in np.array_split(rows, len(ZONES)):
            share = lung[zone].sum()
            parts.append(float((rank[zone] * lung[zone]).sum() / share) if share > 0 else float("nan"))
    return (*whole, *parts)
