"""Re-identification: are synthetic films matched to patients by features that were not trained for it? Measurable only
where patients have several films.

The question is that of Packhäuser et al. 2022, arXiv:2103.08562, whose networks were trained for it and distinguish
more.
"""

import numpy as np
from numpy.typing import NDArray

from thiscxr.measures.measured import Measured
from thiscxr.measures.resampling import bootstrapped_means, generator, interval, number_patients, share_interval
from thiscxr.reader.extractors import in_batches
from thiscxr.score.memorisation import unit

LEAST_PATIENTS = 20  # with several films each, for a result
MATCH = 0.01  # share of real films whose nearest unrelated patient is as near as a match
_BLOCK = 1024


def reidentification(features: NDArray, patients: NDArray, fake: NDArray, name: str, seed: int = 0) -> list[Measured]:
    """Return how well the features [n, d] of films of `patients` [n] show that two are of one person, and how often
    they match a synthetic film [m, d] to a person, by the cosine of centred features.

    `reid_auc`: pairs of one patient against pairs of two. `reid_rank1`: share of the films of patients with several
    films whose nearest other film is of the same patient; the floor is chance. `reid_match_rate`: share of the
    synthetic films that are nearer to some real film than 99 % of the real films are to any unrelated patient; the
    floor is 1 %. With fewer than LEAST_PATIENTS patients with several films the first two are not measurable: their
    value is nan, `num_real` the number of these patients, and the third is left out, since a match means nothing for
    features that may not identify a person.
    """
    codes = number_patients(patients)
    films = np.bincount(codes)
    several = int((films > 1).sum())
    if several < LEAST_PATIENTS:
        return [
            Measured("reid", None, None, None, several, 0, extractor=name, statistic=what) for what in ("auc", "rank1")
        ]
    mean = features.mean(axis=0)
    x, y = unit(features - mean), unit(fake - mean)
    rng = generator(seed, 8)
    order = np.argsort(codes, kind="stable")
    twins = np.stack([order[:-1], order[1:]], axis=1)[codes[order[:-1]] == codes[order[1:]]]
    some = rng.integers(len(x), size=(20 * len(twins), 2))
    some = some[codes[some[:, 0]] != codes[some[:, 1]]]
    same, other = ((x[pairs[:, 0]] * x[pairs[:, 1]]).sum(axis=1) for pairs in (twins, some))
    # for each pair of one patient, the pairs of unrelated patients that are less similar
    below = np.searchsorted(np.sort(other), same) / len(other)
    unrelated, hits = _nearest(x, codes)
    repeated = films[codes] > 1
    chance = float(((films[codes] - 1) / (len(x) - 1))[repeated].mean())
    limit = np.quantile(unrelated, 1 - MATCH)
    matched = np.concatenate([(y[rows] @ x.T).max(axis=1) > limit for rows in in_batches(np.arange(len(y)), _BLOCK)])
    num_repeated = int(repeated.sum())
    several_95 = interval(bootstrapped_means(below, codes[twins[:, 0]], seed))
    hit_95, matched_95 = (
        share_interval(hits[repeated], codes[repeated], seed),
        share_interval(matched, np.arange(len(y))),
    )
    return [
        Measured("reid", float(below.mean()), several_95, 0.5, len(twins), 0, extractor=name, statistic="auc"),
        Measured(
            "reid", float(hits[repeated].mean()), hit_95, chance, num_repeated, 0, extractor=name, statistic="rank1"
        ),
        Measured(
            "reid", float(matched.mean()), matched_95, MATCH, len(x), len(y), extractor=name, statistic="match_rate"
        ),
    ]


def _nearest(x: NDArray, codes: NDArray[np.int64]) -> tuple[NDArray, NDArray[np.bool_]]:
    """Return the similarity of each film [n, d] to the nearest one of an unrelated patient, [n], and whether one of its
    own patient is nearer, [n]."""
    unrelated, hits = [], []
    for rows in in_batches(np.arange(len(x)), _BLOCK):
        likeness = x[rows] @ x.T
        own = codes[rows][:, None] == codes
        of_others = np.where(own, -1, likeness).max(axis=1)
        own[np.arange(len(rows)), rows] = False  # the film itself
        unrelated.append(of_others)
        hits.append(np.where(own, likeness, -1).max(axis=1) > of_others)
    return np.concatenate(unrelated), np.concatenate(hits)
