"""Condition fidelity: the requested conditions of films against what the classifier predicts for them.

The ceiling is the same classifier's figure on held-out real patients, the null its figure when the requested conditions
are permuted over the films. A question that the classifier cannot answer on real patients is not evaluated: a film that
does not show what was requested and a classifier that misses it could not be distinguished.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, kw_only=True)
class Fidelity(Measured):
    """How well the predictions for one question (a finding, "view PA", "sex", "age") agree with the requested
    condition: AUC, or for the age correlation (r) and error in years (mae). The floor is the ceiling, the same number
    on real patients."""

    ceiling95: tuple[float, float]
    reason: str
    """Why the question is not evaluated (then `value` is nan), or empty."""

    def __str__(self) -> str:
        return f"{self.question}: not evaluated: {self.reason}"


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
    either answer in both sets, and a classifier good enough; otherwise `reason` gives the cause.
    """
    questions = [name for name in real_predicted if name in predicted]
    patients, seeds = number_patients(patients), number_patients(seeds)
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
    ceilings, reason = dict.fromkeys(measures, (float("nan"), NONE)), ""
    if (rarest := _rarest(question, real[0])) < MIN_FILMS:
        reason = f"{rarest} real films have the rarer answer; {MIN_FILMS} of either answer are needed"
    else:
        ceilings = {measure: _measure(measure, real, seed) for measure in measures}
        (ceiling, ceiling95), least = ceilings[measures[0]], LEAST_CORRELATION if question == "age" else LEAST_AUC
        if not ceiling95[0] > least:
            name = "AUC" if measures[0] == "auc" else "correlation"
            reason = f"{name} {ceiling:.3f} [{ceiling95[0]:.3f}, {ceiling95[1]:.3f}] on real patients"
        elif (rarest := _rarest(question, fake[0])) < MIN_FILMS:
            reason = f"{rarest} synthetic films have the rarer answer; {MIN_FILMS} of either answer are needed"
    results = []
    for measure, (ceiling, ceiling95) in ceilings.items():
        value, ci95, null95 = float("nan"), NONE, NONE
        if not reason:
            value, ci95 = _measure(measure, fake, seed)
            rng, once = generator(seed, 7), np.ones((1, len(fake[0])))
            null = [MEASURES[measure](rng.permutation(fake[0]), fake[1], once)[0] for _ in range(ROUNDS)]
            null95 = interval(np.array(null))
        results.append(
            Fidelity(
                "fidelity",
                value,
                ci95,
                ceiling,
                len(real[0]),
                len(fake[0]),
                question=question,
                statistic=measure,
                null95=null95,
                ceiling95=ceiling95,
                reason=reason,
            )
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
