"""Label noise: the cost of flipped labels to a classifier and to figures measured with it, on phantoms whose truth is
known.

A curve of classifiers trained on flipped labels, tested against the truth and against flipped labels, beside the closed
form of the latter. It helps to interpret a measured AUC or condition fidelity: radiologists who review released labels
find positive predictive values of 24 to 80 %, which hide much of a classifier's true performance.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from thiscxr.labels import NEGATIVE, POSITIVE
from thiscxr.measures.measured import Measured
from thiscxr.measures.resampling import generator, mean_over
from thiscxr.model.conditions import FilmConditions
from thiscxr.reader.answers import questions_of, read_answers
from thiscxr.reader.extractors import in_batches
from thiscxr.reader.fitting import condition_targets, fit
from thiscxr.reader.network import Reader, ReaderConfig
from thiscxr.reader.training import reader_loss
from thiscxr.score.gains import areas, difference, too_few
from thiscxr.score.utility import BATCH, WIDTHS, LabelledFilms
from thiscxr.train.conditions import learnable_vocabulary
from thiscxr.train.draws import begin_weights

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
STEPS = 150
SEEDS = 2
PPVS = (0.24, 0.8)  # marked on the curve

Array = NDArray[np.float64]


def predictive_values(prevalence: ArrayLike, flipped: ArrayLike) -> tuple[Array, Array]:
    """Return the positive and the negative predictive value of labels of which a share is flipped, independent of the
    film given its truth (Bayes)."""
    p, r = np.asarray(prevalence, np.float64), np.asarray(flipped, np.float64)
    return (1 - r) * p / ((1 - r) * p + r * (1 - p)), (1 - r) * (1 - p) / ((1 - r) * (1 - p) + r * p)


def flipped_share(ppv: float, prevalence: float) -> float:
    """Return which share of flipped labels gives this positive predictive value: the inverse of `predictive_values`."""
    return prevalence * (1 - ppv) / (prevalence * (1 - ppv) + ppv * (1 - prevalence))


def noisy_auc(auc: ArrayLike, ppv: ArrayLike, npv: ArrayLike) -> Array:
    """Return the AUC expected against labels of these predictive values, from the AUC against the truth.

    Films called positive are a mixture of ppv positives and 1 - ppv negatives, films called negative of 1 - npv
    positives and npv negatives. In a pair of films with the same truth each wins half of the time, so the excess over
    chance shrinks by ppv + npv - 1:

    1/2 + (ppv + npv - 1) (auc - 1/2)

    It holds where flips are independent of the film given its truth (Menon et al. 2015, Learning from corrupted binary
    labels).
    """
    worth = np.asarray(ppv, np.float64) + np.asarray(npv, np.float64) - 1
    return np.asarray(0.5 + worth * (np.asarray(auc, np.float64) - 0.5))


@dataclass(frozen=True)
class NoisePoint:
    """One share of flipped labels; AUCs are means over findings and seeds, with intervals over seeds and patients."""

    flipped: float
    ppv: float
    """Mean over findings of the positive predictive value at their prevalence."""
    truth: float
    """AUC of classifiers trained on flipped labels against the truth."""
    truth95: tuple[float, float]
    noisy: float
    """AUC of the same classifiers against test labels that are flipped as well: the figure that is measured without the
    truth."""
    noisy95: tuple[float, float]
    expected: float
    """`noisy` by closed form from `truth`."""
    fidelity: float
    """AUC of classifiers trained on the truth against flipped labels: condition fidelity where this share of films does
    not show what was requested."""
    fidelity95: tuple[float, float]
    fidelity_expected: float


@dataclass(frozen=True)
class LabelNoise:
    """The curve, in the order of the shares."""

    points: list[NoisePoint]
    prevalence: dict[str, float]
    """Mean over the findings that were tested, on the test films."""
    marks: dict[float, float]
    """Positive predictive value -> the share of flipped labels that gives it at the mean prevalence."""
    protocol: str
    num_test: int

    def measured(self) -> list[Measured]:
        """Return the numbers of the panel; the floor is the same figure with no label flipped."""
        clean, found = self.points[0], []
        for point in self.points:
            for name in ("truth", "noisy", "fidelity"):
                value, ci95, floor = getattr(point, name), getattr(point, f"{name}95"), getattr(clean, name)
                each = Measured("label_noise", value, ci95, floor, self.num_test, 0, question=name, statistic="auc")
                found.append(replace(each, group=f"flipped{round(100 * point.flipped)}", protocol=self.protocol))
        return found

    def __str__(self) -> str:
        lines = [
            f"{p.flipped:.0%} flipped (PPV {p.ppv:.0%}): AUC against the truth {p.truth:.3f} "
            f"[{p.truth95[0]:.3f}, {p.truth95[1]:.3f}], "
            f"against flipped labels {p.noisy:.3f} (expected {p.expected:.3f}); "
            f"fidelity {p.fidelity:.3f} (expected {p.fidelity_expected:.3f})"
            for p in self.points
        ]
        return "\n".join(
            [*lines, *((f"a PPV of {ppv:.0%} is {share:.0%} of labels flipped") for ppv, share in self.marks.items())]
        )


def label_noise(
    train: LabelledFilms,
    test: LabelledFilms,
    *,
    shares: Sequence[float] = SHARES,
    steps: int = STEPS,
    seeds: int = SEEDS,
    widths: tuple[int, ...] = WIDTHS,
    seed: int = 0,
    device: str = "cpu",
) -> LabelNoise:
    """Return the curve for films whose labels are the truth: as in `utility`, test films are of other patients.

    shares: of labels flipped, ascending from 0 to at most 1/2. The labels flipped at a share are flipped at every
    larger one. Raises ValueError when no finding can be tested.
    """
    vocabulary = learnable_vocabulary(train.conditions, train.patients)
    truth = questions_of(test.conditions, vocabulary.findings)
    names = [name for name in vocabulary.findings if not too_few(truth[name], test.patients)]
    if not names:
        reasons = [(f"{name}: {too_few(truth[name], test.patients)}") for name in vocabulary.findings] or [
            "the training films have none"
        ]
        raise ValueError(f"label noise: no finding can be tested; {reasons[0]}")
    truth = {name: truth[name] for name in names}
    config = ReaderConfig(vocabulary.findings, vocabulary.views, vocabulary.sources, train.pixels.shape[-1], widths)
    found: list[tuple[dict[str, Array], dict[str, Array], dict[str, Array], dict[str, Array]]] = []
    clean: dict[str, NDArray[np.floating]] = {}
    with tqdm(total=len(shares) * seeds * steps * BATCH, unit="film", file=sys.stderr, delay=1) as bar:
        for share in shares:
            runs = []
            for k in range(seeds):
                bar.set_description(f"label noise: {share:.0%} flipped, seed {k}")
                begin_weights(seed + k)
                reader = Reader(config).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
                targets = condition_targets(flip(train.conditions, share, seed + k, 50), vocabulary)
                fit(reader, train.pixels, targets, reader_loss, steps, seed + k, what="label noise", bar=bar)
                runs.append(read_answers(reader, (test.pixels[part] for part in in_batches(np.arange(len(test))))))
            answers = {name: np.stack([each[name] for each in runs]) for name in names}
            clean = clean or answers
            labels = questions_of(flip(test.conditions, share, seed, 51), names)
            sides = (areas(truth, answers, test.patients, seed), areas(labels, answers, test.patients, seed))
            found.append((*sides, areas(labels, clean, test.patients, seed), labels))
    prevalence = {name: float(np.nanmean(values)) for name, values in truth.items()}
    patients = len(np.unique(test.patients))
    points = [
        _point(share, found[0][0], each, truth, prevalence, patients) for share, each in zip(shares, found, strict=True)
    ]
    mean = float(np.mean(list(prevalence.values())))
    marks = {ppv: flipped_share(ppv, mean) for ppv in PPVS}
    return LabelNoise(points, prevalence, marks, f"phantom{train.pixels.shape[-1]}_{steps}steps", len(test))


def flip(conditions: FilmConditions, share: float, seed: int, stream: int) -> FilmConditions:
    """Return the conditions with this share of the known states of every finding flipped, independent of the films."""
    hit = generator(seed, stream).random(conditions.findings.shape) < share
    known = np.isin(conditions.findings, (POSITIVE, NEGATIVE))
    return replace(
        conditions, findings=np.where(hit & known, 1 - conditions.findings, conditions.findings).astype(np.int8)
    )


def _point(
    share: float,
    best: dict[str, Array],
    found: tuple[dict[str, Array], dict[str, Array], dict[str, Array], dict[str, Array]],
    truth: dict[str, Array],
    prevalence: dict[str, float],
    patients: int,
) -> NoisePoint:
    """best: `areas` of classifiers trained on the truth, against it; found: against the truth, against the flipped
    labels, of the former against the flipped labels, and these labels."""
    of_truth, of_labels, of_clean, labels = found
    values = {name: _predictive(truth[name], labels[name]) for name in truth}

    def expected(each: dict[str, Array]) -> float:
        return float(np.mean([noisy_auc(each[name][:, 0].mean(), *values[name]) for name in truth]))

    means = [mean_over(list(each.values())) for each in (of_truth, of_labels, of_clean)]
    (a, a95, _), (b, b95, _), (c, c95, _) = (difference(mean, np.zeros_like(mean), patients) for mean in means)
    ppv = float(np.mean([predictive_values(each, share)[0] for each in prevalence.values()]))
    return NoisePoint(share, ppv, a, a95, b, b95, expected(of_truth), c, c95, expected(best))


def _predictive(truth: Array, labels: Array) -> tuple[float, float]:
    """Return the predictive values of these labels."""
    return float(np.mean(truth[labels == 1])), float(np.mean(1 - truth[labels == 0]))
