"""Plausibility of anatomy: sizes, positions and opacities of lungs and heart on frontal films, as the segmenter finds
them.

The segmenter was trained on phantoms only. `trust` measures on real films how far its ratio can be relied on; where it
cannot, a report must state so. It must not be given laterals, whose silhouettes differ.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import ks_2samp, wasserstein_distance

from thiscxr.labels import NEGATIVE, POSITIVE
from thiscxr.measures.chest import MEASURES, OPACITIES, measure_masks, measure_opacity
from thiscxr.measures.floor import against_floor, films_a_side
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
from thiscxr.pixels import Pixels, fit, to_bits
from thiscxr.reader.segmenter import DEFAULT, Segmenter, segment

BOX = (0.005, 0.995)  # quantiles of real films between which a measure is plausible
LEAST = 20  # films per set
SPLITS = 10
NORMS = 20  # resamplings of the reference half in each halving
COMPARED = (*MEASURES, *OPACITIES)  # measures whose distributions are compared

Measures = Mapping[str, NDArray[np.float64]]


def measure_films(segmenter: Segmenter, batches: Iterable[Pixels]) -> dict[str, NDArray[np.float64]]:
    """Return COMPARED, float64 [n] each, of frontal films (pixels uint8 or uint16 [k, res, res]): see `measure_masks`
    and `measure_opacity`."""
    parts = []
    for pixels in batches:
        masks = segment(segmenter, [pixels])
        films = pixels if pixels.shape[1:] == masks.shape[2:] else [fit(film, masks.shape[-1]) for film in pixels]
        parts.append(measure_masks(masks) | measure_opacity(np.array([to_bits(film, 16) for film in films]), masks))
    return {name: np.concatenate([part[name] for part in parts]) if parts else np.empty(0) for name in COMPARED}


def trust(measures: Measures, cardiomegaly: ArrayLike, patients: ArrayLike, seed: int = 0) -> Measured:
    """Evaluate the measured ratio on real frontal films against the label Cardiomegaly (states [n]; others than 1 and 0
    are left out): it can be relied on where the interval of the AUC lies above one half.

    Without films of both answers the AUC is nan, and the ratio is not trusted.
    """
    ratio, states = measures["ctr"], np.asarray(cardiomegaly)
    known = np.isfinite(ratio) & np.isin(states, (POSITIVE, NEGATIVE))
    truth, scores, whose = states[known] == POSITIVE, ratio[known], np.asarray(patients)[known]
    value, ci95 = float("nan"), (float("nan"), float("nan"))
    if truth.any() and not truth.all():
        value = float(weighted_auc(truth, scores, np.ones((1, len(truth)), np.float32))[0])
        ci95 = interval(weighted_auc(truth, scores, patient_weights(whose, seed)))
    return _measured("auc", value, ci95, None, int(known.sum()), 0, "ctr cardiomegaly")


def trusted(ctr: Measured) -> bool:
    """Return whether the interval of what `trust` found lies above one half."""
    return ctr.ci95 is not None and ctr.ci95[0] > 0.5


def trust_words(ctr: Measured) -> str:
    """Return what `trust` found as a sentence."""
    low, high = ctr.ci95 or (float("nan"),) * 2
    verdict = "trusted" if trusted(ctr) else "NOT trusted on these films"
    return f"cardiothoracic ratio {verdict}: AUC against Cardiomegaly {ctr.value:.3f} [{low:.3f}, {high:.3f}]"


def films_per_set(patients: NDArray, num_fake: int) -> int:
    """Return how many films of either set are compared, all of them frontal. Raises ValueError for fewer than 20."""
    n = min(films_a_side(patients), num_fake)
    if n < LEAST:
        sizes = f"{len(patients)} real and {num_fake} synthetic frontal films"
        raise ValueError(f"{sizes} give {n} per set; plausibility needs at least {LEAST}")
    return n


def plausibility(
    real: Measures, patients: ArrayLike, fake: Measures, seeds: ArrayLike, seed: int = 0
) -> list[Measured]:
    """Compare the measures of synthetic films with those of real ones, all of them frontal.

    patients [n], seeds [m]: the patient of each real film, the latent of each synthetic one. Returned are a distance
    for each measure (Wasserstein, in the measure's own unit); the share of implausible films: outside of the real 0.5th
    to 99.5th percentile in any measure, or unreadable; and the share of films whose heart leans to the viewer's left.
    Half of the real patients are the reference for the synthetic films and for the other half, which is the floor;
    values are means over ten halvings, so that both have the same small-sample bias. Intervals: for distances a
    delete-a-group jackknife over patients and seeds, for shares Wilson's, widened by the variance of the reference,
    from a bootstrap over patients. Raises ValueError for fewer than 20 films per set.
    """
    whose, latents = number_patients(patients), number_patients(seeds)
    real_rows, fake_rows = (np.stack([values[name] for name in MEASURES], axis=1) for values in (real, fake))
    n = films_per_set(whose, len(fake_rows))
    splits = list(halves(whose, n, SPLITS, seed))
    order = generator(seed, 2).permutation(len(fake_rows))[:n]
    some, some_latents = fake_rows[order], number_patients(latents[order])
    results = []
    for column, name in enumerate(MEASURES):
        if min(np.isfinite(rows[:, column]).sum() for rows in (real_rows, some)) < LEAST:
            continue  # nothing to compare: the share of implausible films accounts for it
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


def lacking(found: Iterable[Measured]) -> list[str]:
    """Return a note of the measures without a distance in what `plausibility` found."""
    measured = {each.question for each in found}
    names = [name for each in MEASURES if (name := each.replace("_", " ")) not in measured]
    few = f"on fewer than {LEAST} films of a set two lungs and a heart were found"
    return [f"no distance of the {', '.join(names)}: {few}"] if names else []


@dataclass(frozen=True)
class Frontals:
    """The measures of some frontal films, their views [n] ("" where unknown), and their patients or latents [n]."""

    measures: Measures
    views: NDArray[np.str_]
    whose: NDArray[np.integer]


def compare(real: Frontals, fake: Frontals, seed: int = 0) -> tuple[list[Measured], list[str]]:
    """Compare the distribution of each of COMPARED on synthetic films with that on real films of the same view; of all
    frontal films where no view has enough.

    The number is the distance of Kolmogorov and Smirnov, the largest gap between the shares of films below a value,
    with a sign: above 0 the synthetic films have more. Value, floor and interval are those of `against_floor`, p that
    of the two-sample test on one film a patient, times the number of tests (Bonferroni). Films that are not measured
    are left out: `plausibility` counts them. Returned too are notes of what has too few films.
    """
    found: list[Measured] = []
    few = []
    views = sorted(set(real.views) & set(fake.views) - {""})
    for group in (*views, ""):
        if not group and found:
            break
        sides = []
        for side in (real, fake):
            rows = np.stack([side.measures[name] for name in COMPARED], axis=1)
            kept = np.isfinite(rows).all(axis=1) & ((side.views == group) | (group == ""))
            sides.append((rows[kept], number_patients(side.whose[kept])))
        (here, whose), (there, _) = sides
        n = min(films_a_side(whose), len(there))
        if n < LEAST:
            few.append(f"{group or 'all'} ({len(here)} real, {len(there)} synthetic)")
            continue
        named = f"view {group}" if group else ""
        gaps = against_floor(signed_gaps, here, whose, there, n=n, seed=seed)
        alone = (_one_each(*side, seed).T for side in sides)
        for name, gap, one, other in zip(COMPARED, gaps, *alone, strict=True):
            facts = {"extractor": DEFAULT, "question": name.replace("_", " "), "statistic": "ks", "group": named}
            p = float(ks_2samp(one, other).pvalue)
            found.append(gap.measured("anatomy", n, -1.0, p=p, **facts))
    notes = [f"distributions of lungs and heart need {LEAST} measured films per set; too few of {', '.join(few)}"]
    return [replace(each, p=min(1.0, (each.p or 0.0) * len(found))) for each in found], notes if few else []


def signed_gaps(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the distance of Kolmogorov and Smirnov of each column of a [n, k] and b [m, k], float64 [k]; above 0 where
    b has the larger values."""
    gaps = []
    for one, other in zip(np.sort(a, axis=0).T, np.sort(b, axis=0).T, strict=True):
        both = np.concatenate([one, other])
        gap = one.searchsorted(both, "right") / len(one) - other.searchsorted(both, "right") / len(other)
        gaps.append(gap[np.abs(gap).argmax()])
    return np.array(gaps)


def _one_each(rows: NDArray[np.float64], whose: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Return one film's row of each patient, drawn."""
    order = generator(seed, 3).permutation(len(rows))
    return rows[order[np.unique(whose[order], return_index=True)[1]]]


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
    """Return Wilson's interval of a share of `size` films, with a further `error` (half a 95 % interval) added in
    quadrature."""
    low, high = (float(edge) for edge in wilson(share, size))
    return max(0.0, share - float(np.hypot(share - low, error))), min(1.0, share + float(np.hypot(high - share, error)))


def _distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(wasserstein_distance(a[np.isfinite(a)], b[np.isfinite(b)]))


def _implausible(norm: NDArray[np.float64], rows: NDArray[np.float64]) -> float:
    """Return the share of rows [m, measures] outside of the box of norm [n, measures] in any measure, or unreadable."""
    known = norm[np.isfinite(norm).all(axis=1)]
    if not len(known):
        return 1.0
    low, high = np.quantile(known, BOX, axis=0)
    return float((~((rows >= low) & (rows <= high)).all(axis=1)).mean())
