"""Plausibility of anatomy: sizes and places of lungs and heart on frontal films, as the segmenter sees them.

The segmenter has never seen a real film. `trust` says on real films how far its ratio can be relied on; where it
cannot, a report has to say so. It must not be shown laterals: their silhouettes are other ones.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import label
from scipy.stats import wasserstein_distance

from thiscxr.files import sha256_file
from thiscxr.labels import NEGATIVE, POSITIVE
from thiscxr.measures.measured import Measured
from thiscxr.measures.resampling import (
    JACKKNIFE_95,
    Z_95,
    effective_size,
    generator,
    halves,
    interval,
    jackknife_error,
    number_patients,
    patient_weights,
    weighted_auc,
    wilson,
)
from thiscxr.model.network_file import find_weights
from thiscxr.pixels import Pixels, pixels_to_images
from thiscxr.reader.segmenter import CLASSES, Segmenter
from thiscxr.reader.segmenter_training import load_segmenter

DEFAULT = "lungs64"
MEASURES = ("ctr", "viewer_left_lung", "viewer_right_lung", "lung_symmetry", "heart_lean")
SMALLEST = 0.01  # share of the film that a lung or heart must have to be one
BOX = (0.005, 0.995)  # quantiles of real films between which a measure is plausible
LEAST = 20  # films a side
SPLITS = 10
NORMS = 20  # resamplings of the norm of each halving

Measures = Mapping[str, NDArray[np.float64]]


def find_segmenter(name: str = DEFAULT, device: str = "cpu") -> tuple[Segmenter, str]:
    """Return the bundled segmenter of that name and its SHA-256. Raises ValueError for an unknown name or a changed
    file."""
    path = find_weights(name, "segmenter")
    return load_segmenter(path)[0].to(device), sha256_file(path)


def segment(segmenter: Segmenter, batches: Iterable[Pixels]) -> NDArray[np.float32]:
    """Return the probabilities of lungs and heart, float32 [n, 2, 64, 64], of batches of pixels uint8 or uint16 [k,
    res, res]."""
    device, parts = next(segmenter.parameters()).device, []
    with torch.inference_mode():
        for pixels in batches:
            images = torch.from_numpy(pixels_to_images(pixels))[:, None].to(device)
            parts.append(segmenter(images).softmax(1)[:, 1:].cpu().numpy())
    side = segmenter.config.res
    return np.concatenate(parts) if parts else np.empty((0, len(CLASSES) - 1, side, side), np.float32)


def measure_films(segmenter: Segmenter, batches: Iterable[Pixels]) -> dict[str, NDArray[np.float64]]:
    """Return MEASURES, float64 [n] each, of frontal films (pixels uint8 or uint16 [k, res, res]): see
    `measure_masks`."""
    parts = [measure_masks(segment(segmenter, [pixels])) for pixels in batches]
    return {name: np.concatenate([part[name] for part in parts]) if parts else np.empty(0) for name in MEASURES}


def measure_masks(probabilities: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Return MEASURES of probabilities of lungs and heart [n, 2, h, w]; nan where two lungs and a heart are not to be
    seen.

    ctr: cardiothoracic ratio, widest heart over widest inner thorax (Danzer 1919). viewer_left_lung, viewer_right_lung:
    areas as shares of the film. lung_symmetry: smaller over larger area. heart_lean: middle of the heart right of the
    middle of the thorax, seen by the viewer, as a share of the thorax; negative on a mirrored film.
    """
    rows = [_measure_film(lungs, heart) for lungs, heart in probabilities.astype(np.float64)]
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(MEASURES)}


def _measure_film(lungs: NDArray[np.float64], heart: NDArray[np.float64]) -> tuple[float, ...]:
    nothing = (float("nan"),) * len(MEASURES)
    heart = heart * _largest_parts(heart, 1)
    lungs = lungs * _largest_parts(lungs, 2)
    if heart.mean() < SMALLEST or lungs.mean() < 2 * SMALLEST:
        return nothing
    across = np.arange(lungs.shape[1]) + 0.5
    edges = _edges(lungs[lungs.max(axis=1) >= 0.5])
    first, last = edges[(edges[:, 1] - edges[:, 0]).argmax()]
    left, right = _edges(heart.max(axis=0)[None])[0]
    middle = (first + last) / 2
    areas = [float(lungs[:, side].sum() / lungs.size) for side in (across < middle, across >= middle)]
    if min(areas) < SMALLEST:
        return nothing
    lean = float((heart.sum(axis=0) * across).sum() / heart.sum()) - middle
    thorax = last - first
    return (right - left) / thorax, areas[0], areas[1], min(areas) / max(areas), lean / thorax


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
    first, last = (
        inside.argmax(axis=1),
        padded.shape[1] - 1 - inside[:, ::-1].argmax(axis=1),
    )  # pixel i of `padded` has its middle at i - 0.5
    at_first, at_last = padded[rows, first], padded[rows, last]
    left = first - (at_first - 0.5) / (at_first - padded[rows, first - 1])
    right = last + (at_last - 0.5) / (at_last - padded[rows, last + 1])
    return np.stack([left, right], axis=1) - 0.5


@dataclass(frozen=True)
class Trust:
    """How far the segmenter can be relied on, measured on real films."""

    ctr: Measured
    """AUC of the cardiothoracic ratio against the label Cardiomegaly."""
    trusted: bool
    """Whether the interval of that AUC lies above one half."""
    leans_right: float
    """Share of films whose heart leans to the viewer's right, as it should in all but about one in ten thousand
    people."""
    unreadable: float
    """Share of films on which no two lungs and a heart were found."""

    def __str__(self) -> str:
        low, high = self.ctr.ci95 or (float("nan"),) * 2
        verdict = "trusted" if self.trusted else "NOT trusted on these films"
        return f"cardiothoracic ratio {verdict}: AUC against Cardiomegaly {self.ctr.value:.3f} [{low:.3f}, {high:.3f}]"


def trust(measures: Measures, cardiomegaly: ArrayLike, patients: ArrayLike, seed: int = 0) -> Trust:
    """Judge the measured ratio on real frontal films by the label Cardiomegaly (states [n]; others than 1 and 0 are
    left out).

    An AUC that cannot be told (no film with, or none without) is nan, and the ratio is not trusted.
    """
    ratio, states = measures["ctr"], np.asarray(cardiomegaly)
    known = np.isfinite(ratio) & np.isin(states, (POSITIVE, NEGATIVE))
    truth, scores, whose = states[known] == POSITIVE, ratio[known], np.asarray(patients)[known]
    value, ci95 = float("nan"), (float("nan"), float("nan"))
    if truth.any() and not truth.all():
        value = float(weighted_auc(truth, scores, np.ones((1, len(truth)), np.float32))[0])
        ci95 = interval(weighted_auc(truth, scores, patient_weights(whose, seed)))
    lean = measures["heart_lean"]
    seen = np.isfinite(lean)
    measured = _measured("auc", value, ci95, None, int(known.sum()), 0, "ctr cardiomegaly")
    return Trust(
        measured,
        bool(ci95[0] > 0.5),
        float((lean[seen] > 0).mean()) if seen.any() else float("nan"),
        float((~seen).mean()),
    )


def plausibility(
    real: Measures, patients: ArrayLike, fake: Measures, seeds: ArrayLike, seed: int = 0
) -> list[Measured]:
    """Compare the measures of synthetic films with those of real ones, frontal all of them.

    patients [n], seeds [m]: whose films are of one patient, or of one latent. A distance a measure (Wasserstein, in the
    measure's own unit); the share of implausible films: outside of the real 0.5th to 99.5th percentile in any measure,
    or unreadable; and the share of films whose heart leans to the viewer's left. Half of the real patients set the norm
    for the synthetic films and for the other half, which is the floor; means over ten halvings, so that both carry the
    same small-sample bias. Intervals: of distances a delete-a-group jackknife over patients and seeds, of shares
    Wilson's, widened by what a bootstrap over patients makes of the norm. Raises ValueError for fewer than 20 films a
    side.
    """
    whose, latents = number_patients(patients), number_patients(seeds)
    real_rows, fake_rows = (np.stack([values[name] for name in MEASURES], axis=1) for values in (real, fake))
    n = min((len(whose) - int(np.bincount(whose).max(initial=0))) // 2, len(fake_rows))
    if n < LEAST:
        sizes = f"{len(real_rows)} real and {len(fake_rows)} synthetic frontal films"
        raise ValueError(f"{sizes} give {n} a side; plausibility needs at least {LEAST} a side")
    splits = list(halves(whose, n, SPLITS, seed))
    order = generator(seed, 2).permutation(len(fake_rows))[:n]
    some, some_latents = fake_rows[order], number_patients(latents[order])
    results = []
    for column, name in enumerate(MEASURES):
        if min(np.isfinite(rows[:, column]).sum() for rows in (real_rows, some)) < LEAST:
            continue  # nothing to compare: the share of implausible films says why
        drawn = some[:, column]
        distances, floors, errors = [], [], []
        for a, b in splits:
            norm = real_rows[a, column]
            distances.append(_distance(norm, drawn))
            floors.append(_distance(norm, real_rows[b, column]))
            errors.append(jackknife_error(_distance, (norm, number_patients(whose[a])), (drawn, some_latents)))
        value, error = float(np.mean(distances)), JACKKNIFE_95 * float(np.mean(errors))
        ci95, floor = (max(0.0, value - error), value + error), float(np.mean(floors))
        results.append(_measured("w1", value, ci95, floor, n, n, name.replace("_", " ")))
    shares, floors, spreads = [], [], []
    for a, b in splits:
        shares.append(_implausible(real_rows[a], some))
        floors.append(_implausible(real_rows[a], real_rows[b]))
        again = patient_weights(whose[a], seed, NORMS).astype(np.int64)
        spreads.append(np.std([_implausible(np.repeat(real_rows[a], times, axis=0), some) for times in again]))
    share, size = float(np.mean(shares)), effective_size(some_latents)
    ci95 = _share_interval(share, size, Z_95 * float(np.mean(spreads)))
    results.append(_measured("implausible", share, ci95, float(np.mean(floors)), n, n))
    leaning, floor = (float((rows[:, MEASURES.index("heart_lean")] < 0).mean()) for rows in (some, real_rows))
    return [*results, _measured("leans_left", leaning, _share_interval(leaning, size, 0.0), floor, len(real_rows), n)]


def _measured(
    statistic: str,
    value: float,
    ci95: tuple[float, float],
    floor: float | None,
    num_real: int,
    num_fake: int,
    question: str = "",
) -> Measured:
    return Measured(
        "anatomy", value, ci95, floor, num_real, num_fake, extractor=DEFAULT, question=question, statistic=statistic
    )


def _share_interval(share: float, size: float, error: float) -> tuple[float, float]:
    """Return Wilson's interval of a share of `size` films, with another `error` (half a 95 % interval) added in
    squares."""
    low, high = (float(edge) for edge in wilson(share, size))
    return max(0.0, share - float(np.hypot(share - low, error))), min(1.0, share + float(np.hypot(high - share, error)))


def _distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(wasserstein_distance(a[np.isfinite(a)], b[np.isfinite(b)]))


def _implausible(norm: NDArray[np.float64], rows: NDArray[np.float64]) -> float:
    """Return the share of rows [m, measures] that are outside of the box of norm [n, measures] in any measure, or not
    read."""
    known = norm[np.isfinite(norm).all(axis=1)]
    if not len(known):
        return 1.0
    low, high = np.quantile(known, BOX, axis=0)
    return float((~((rows >= low) & (rows <= high)).all(axis=1)).mean())
