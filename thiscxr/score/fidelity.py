"""Condition fidelity: the requested conditions of films against what the classifier predicts for them.

The ceiling is the same classifier's figure on held-out real patients, the null its figure when the requested conditions
are permuted over the films. A question that the classifier cannot answer on real patients is not evaluated: a film that
does not show what was requested and a classifier that misses it could not be distinguished.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thiscxr.labels import FINDINGS
from thiscxr.measures.measured import Measured
from thiscxr.measures.resampling import (
    ROUNDS,
    generator,
    interval,
    number_patients,
    patient_weights,
)
from thiscxr.model.conditions import FilmConditions
from thiscxr.reader.answers import LEAST_AUC, LEAST_CORRELATION, MEASURES, Columns, questions_of

MIN_FILMS = 10  # with either answer, or of known age, in either set
SPECIFICITY = 0.9  # a finding counts as predicted above what this share of held-out real films without it reach

Array = NDArray[np.float64]
NONE = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Fidelity:
    """How well the predictions for one question agree with the requested condition, beside the same on real patients
    and by chance."""

    question: str
    """A finding, "view PA", "sex" or "age"."""
    measure: str
    """auc, or for the age r (correlation) and mae (years)."""
    value: float
    ci95: tuple[float, float]
    null95: tuple[float, float]
    """The middle 95 % when the requested conditions are permuted."""
    ceiling: float
    ceiling95: tuple[float, float]
    reason: str
    """Why the question is not evaluated (then `value` is nan), or empty."""
    num_real: int
    num_fake: int

    @property
    def evaluated(self) -> bool:
        """Whether the classifier answers this question well enough on real patients for its predictions on the films to
        mean something."""
        return not self.reason

    @property
    def followed(self) -> bool:
        """Whether the films agree with the requested condition beyond chance."""
        return self.value < self.null95[0] if self.measure == "mae" else self.value > self.null95[1]

    def measured(self, reader: str) -> Measured:
        """Return it as a number of the panel; its floor is the ceiling, the same number on real patients."""
        found = Measured(
            "fidelity", self.value, self.ci95, self.ceiling, self.num_real, self.num_fake, null95=self.null95
        )
        return replace(found, extractor=reader, question=self.question, statistic=self.measure)

    def __str__(self) -> str:
        if self.reason:
            return f"{self.question}: not evaluated: {self.reason}"
        ceiling = f"{self.ceiling:.3f} [{self.ceiling95[0]:.3f}, {self.ceiling95[1]:.3f}]"
        name = {"auc": "AUC", "r": "correlation", "mae": "error in years"}[self.measure]
        found = f"{self.value:.3f} [{self.ci95[0]:.3f}, {self.ci95[1]:.3f}]"
        null = f"{self.null95[0]:.3f} to {self.null95[1]:.3f}"
        return f"{self.question}: {name} {found}, real patients {ceiling}, permuted {null}"


def fidelity(
    real: FilmConditions,
    real_predicted: Columns,
    patients: ArrayLike,
    requested: FilmConditions,
    predicted: Columns,
    seeds: ArrayLike,
    seed: int = 0,
) -> list[Fidelity]:
    """Return how the classifier's predictions agree with the requested conditions, one result for each question known
    in both sets (two for the age).

    real [n], real_predicted, patients [n]: conditions of real films, the predictions for them (`read_answers`), and
    their patients; use films of patients that the classifier was not trained on. requested [m], predicted, seeds [m]:
    requested conditions, predictions and latents of the synthetic films. A question is evaluated with ten films of
    either answer in both sets, and a classifier good enough; otherwise `reason` gives the cause. Raises ValueError
    where lengths do not fit or predictions are not finite.
    """
    questions = [name for name in real_predicted if name in predicted]
    patients, seeds = number_patients(patients), number_patients(seeds)
    for what, films, answers, whose in (
        ("real", real, real_predicted, patients),
        ("synthetic", requested, predicted, seeds),
    ):
        for name in questions:
            if not len(films) == len(whose) == len(answers[name]):
                raise ValueError(
                    f"{len(films)} conditions, {len(whose)} ids and {len(answers[name])} "
                    f"answers to '{name}' of {what} films differ"
                )
            if not np.isfinite(answers[name]).all():
                raise ValueError(
                    f"the classifier's predictions of '{name}' on {what} films are not finite; "
                    "look for damaged films or weights"
                )
    truths, wanted = questions_of(real, questions), questions_of(requested, questions)
    results = []
    for question in questions:
        known, given = np.isfinite(truths[question]), np.isfinite(wanted[question])
        one = truths[question][known], real_predicted[question][known].astype(np.float64), patients[known]
        other = wanted[question][given], predicted[question][given].astype(np.float64), seeds[given]
        results += _follow(question, one, other, seed)
    return results


def readable(real: FilmConditions, real_predicted: Columns, patients: ArrayLike, seed: int = 0) -> list[str]:
    """Return the findings that the classifier predicts well enough on real patients, as in `fidelity`."""
    truths, whose, found = (
        questions_of(real, [name for name in real_predicted if name in FINDINGS]),
        number_patients(patients),
        [],
    )
    for name, truth in truths.items():
        known = np.isfinite(truth)
        if _rarest(name, truth[known]) >= MIN_FILMS:
            side = truth[known], real_predicted[name][known].astype(np.float64), whose[known]
            found += [name] if _measure("auc", side, seed)[1][0] > LEAST_AUC else []
    return found


def predicted_findings(
    found: Sequence[Fidelity], real: FilmConditions, real_predicted: Columns, predicted: Columns
) -> list[tuple[str, ...]]:
    """Return, for each synthetic film, the predicted findings among those that the classifier predicts well enough on
    real patients.

    Well enough: the lower end of the interval of its AUC on them is above 0.75. Predicted: the score is above the 90th
    percentile of the scores of held-out real films without the finding. It is a prediction, not the truth.
    """
    limits = {}
    truths = questions_of(real, [each.question for each in found if each.question in FINDINGS])
    for each in found:
        if each.question in truths and each.ceiling95[0] > LEAST_AUC:
            limits[each.question] = float(
                np.quantile(real_predicted[each.question][truths[each.question] == 0], SPECIFICITY)
            )
    films = len(next(iter(predicted.values())))
    return [tuple(name for name, limit in limits.items() if predicted[name][film] > limit) for film in range(films)]


Side = tuple[Array, Array, NDArray[np.int64]]  # truth or requested, predictions, patients or latents


def _follow(question: str, real: Side, fake: Side, seed: int) -> list[Fidelity]:
    measures = ("r", "mae") if question == "age" else ("auc",)
    sizes = len(real[0]), len(fake[0])
    if (rarest := _rarest(question, real[0])) < MIN_FILMS:
        reason = f"{rarest} real films have the rarer answer; {MIN_FILMS} of either answer are needed"
        return [Fidelity(question, measure, np.nan, NONE, NONE, np.nan, NONE, reason, *sizes) for measure in measures]
    ceilings = {measure: _measure(measure, real, seed) for measure in measures}
    reason = ""
    (ceiling, ceiling95), least = ceilings[measures[0]], LEAST_CORRELATION if question == "age" else LEAST_AUC
    if not ceiling95[0] > least:
        name = "AUC" if measures[0] == "auc" else "correlation"
        reason = f"{name} {ceiling:.3f} [{ceiling95[0]:.3f}, {ceiling95[1]:.3f}] on real patients"
    elif (rarest := _rarest(question, fake[0])) < MIN_FILMS:
        reason = f"{rarest} synthetic films have the rarer answer; {MIN_FILMS} of either answer are needed"
    if reason:
        return [
            Fidelity(question, measure, np.nan, NONE, NONE, *both, reason, *sizes) for measure, both in ceilings.items()
        ]
    results = []
    for measure, (ceiling, ceiling95) in ceilings.items():
        value, ci95 = _measure(measure, fake, seed)
        rng, once = generator(seed, 7), np.ones((1, sizes[1]))
        null = [MEASURES[measure](rng.permutation(fake[0]), fake[1], once)[0] for _ in range(ROUNDS)]
        results.append(
            Fidelity(question, measure, value, ci95, interval(np.array(null)), ceiling, ceiling95, "", *sizes)
        )
    return results


def _rarest(question: str, truth: Array) -> int:
    """Return how many films have the rarer answer; 0 for an age that never varies."""
    if question == "age":
        return len(truth) if len(truth) and np.ptp(truth) > 0 else 0
    return int(min((truth > 0.5).sum(), (truth <= 0.5).sum()))


def _measure(measure: str, side: Side, seed: int) -> tuple[float, tuple[float, float]]:
    truth, answers, whose = side
    value = float(MEASURES[measure](truth, answers, np.ones((1, len(truth))))[0])
    return value, interval(MEASURES[measure](truth, answers, patient_weights(whose, seed)))
