"""Differences in AUC between ways of training, over several seeds and the same test patients.

An interval must cover the change with another seed and with other test patients: the variance of the mean over seeds by
bootstrapping patients and the variance between seeds are added, with the degrees of freedom of Welch and Satterthwaite
(Satterthwaite 1946). Three seeds alone, resampled, would give a third less variance than there is. The change with
another set of training patients is not included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t

from thiscxr.measures.measured import Measured
from thiscxr.measures.resampling import ROUNDS, mean_over, number_patients, patient_weights, weighted_auc

LEAST_PATIENTS = 5  # among the test films with the answer yes, and as many with no
POWER = 0.8

Array = NDArray[np.float64]
Answers = Mapping[str, NDArray[np.floating]]  # question -> scores [seeds, n]


@dataclass(frozen=True)
class Gain:
    """By how much classifiers trained one way exceed classifiers trained another way, on the same patients, paired by
    seed."""

    question: str
    """A finding, "view PA", "sex", or the mean over several questions, such as "mean of findings"."""
    arm: str
    control: str
    value: float
    """AUC of the arm minus AUC of the control, mean over seeds."""
    ci95: tuple[float, float]
    smallest: float
    """The smallest true gain that this test would detect in 80 of 100 repeats: 2.8 standard errors when degrees of
    freedom are many, more when they are few."""
    auc: float
    control_auc: float
    seeds: int
    num_positive: int
    """Test films; for a mean over questions the fewest of any."""
    num_test: int

    @property
    def verdict(self) -> str:
        """gain, loss, or no gain."""
        return "gain" if self.ci95[0] > 0 else "loss" if self.ci95[1] < 0 else "no gain"

    def measured(self, protocol: str, num_fake: int) -> Measured:
        """Return it as a number of the panel; protocol: classifier and steps, such as "64px_300steps"."""
        found = Measured("utility", self.value, self.ci95, None, self.num_test, num_fake, question=self.question)
        return replace(found, group=f"{self.arm} over {self.control}", protocol=f"{protocol}_{self.seeds}seeds")

    def __str__(self) -> str:
        power = (
            "no gain can be detected here"
            if np.isnan(self.smallest)
            else (f"a gain of {self.smallest:.3f} would have been detected")
        )
        verdict = self.verdict if self.verdict == "gain" else f"{self.verdict} ({power})"
        return (
            f"{self.question}: {self.arm} AUC {self.auc:.3f}, {self.control} "
            f"{self.control_auc:.3f}, difference {self.value:+.3f} "
            f"[{self.ci95[0]:+.3f}, {self.ci95[1]:+.3f}]: {verdict}"
        )


def too_few(truth: Array, patients: ArrayLike) -> str:
    """Return why a question cannot be tested on films of this truth [n] (1, 0, nan: unknown) and patients [n], or an
    empty string when it can.

    Patients count, not films: they are resampled, and with fewer every other sample would have none.
    """
    positives, negatives = (len(np.unique(np.asarray(patients)[truth == side])) for side in (1, 0))
    if min(positives, negatives) >= LEAST_PATIENTS:
        return ""
    return (
        f"{positives} held-out patients with and {negatives} without it; at least {LEAST_PATIENTS} of either are needed"
    )


def areas(
    truth: Mapping[str, Array], answers: Answers, patients: ArrayLike, seed: int = 0, rounds: int = ROUNDS
) -> dict[str, Array]:
    """Return AUCs [seeds, 1 + rounds] a question: of the films as they are, then of every bootstrap sample of patients.

    truth: question -> [n], 1, 0, nan; answers: question -> [seeds, n]. Every question and arm uses the same samples.
    Raises ValueError for a question that cannot be tested (`too_few`).
    """
    patients = number_patients(patients)
    weights = np.concatenate([np.ones((1, len(patients)), np.float32), patient_weights(patients, seed, rounds)])
    found = {}
    for question, scores in answers.items():
        if reason := too_few(truth[question], patients):
            raise ValueError(f"{question}: {reason}")
        known = np.isfinite(truth[question])
        positive, some = truth[question][known] > 0.5, weights[:, known]
        found[question] = np.stack([weighted_auc(positive, one, some) for one in scores[:, known]])
    return found


def gains(
    truth: Mapping[str, Array],
    found: Mapping[str, Mapping[str, Array]],
    patients: ArrayLike,
    pairs: Sequence[tuple[str, str]],
    means: Mapping[str, Sequence[str]],
) -> list[Gain]:
    """Return the gain of each (arm, control) for every question and every mean over questions.

    truth: question -> [n]; found: arm -> `areas` of its answers, with the same seeds in all arms; means: name ->
    questions, left out when there are none. Raises ValueError for fewer than two seeds.
    """
    count = len(np.unique(np.asarray(patients)))
    groups = {
        **{question: [question] for question in truth},
        **{name: questions for name, questions in means.items() if questions},
    }
    results = []
    for arm, control in pairs:
        for name, questions in groups.items():
            one, other = (mean_over([found[which][question] for question in questions]) for which in (arm, control))
            value, ci95, smallest = difference(one, other, count)
            positives = min(int((truth[question] == 1).sum()) for question in questions)
            tested = max(int(np.isfinite(truth[question]).sum()) for question in questions)
            aucs = float(one[:, 0].mean()), float(other[:, 0].mean())
            results.append(Gain(name, arm, control, value, ci95, smallest, *aucs, len(one), positives, tested))
    return results


def difference(one: Array, other: Array, patients: int) -> tuple[float, tuple[float, float], float]:
    """Return the mean difference over seeds of `areas` [seeds, 1 + rounds], its 95 % interval, and the smallest gain
    that could be detected: nan where neither seeds nor patients change anything, and all but the mean nan where hardly
    any sample of patients has an answer.

    Samples of patients without a value are left out. Raises ValueError for fewer than two seeds.
    """
    seeds = len(one)
    if seeds < 2:
        raise ValueError(f"{seeds} seed of training; at least 2 are needed to know what a seed changes")
    apart = one - other
    value = float(apart[:, 0].mean())
    rounds = apart[:, 1:].mean(axis=0)
    if np.isfinite(rounds).sum() < 2:
        return value, (float("nan"), float("nan")), float("nan")
    of_patients = float(np.nanvar(rounds, ddof=1))
    of_seeds = float(apart[:, 0].var(ddof=1)) / seeds
    total = of_patients + of_seeds
    if total == 0:
        # no resampling changed anything: the arms are equal, or both are perfect
        return value, (value, value), float("nan")
    freedom = total**2 / (of_patients**2 / (patients - 1) + of_seeds**2 / (seeds - 1))
    error, reach = float(np.sqrt(total)), float(t.ppf(0.975, freedom))
    return value, (value - reach * error, value + reach * error), (reach + float(t.ppf(POWER, freedom))) * error
