"""A direction in w: an axis along which one predicted score of the films changes, and all others as little as possible.

Many films are generated and classified. Ridge regression of every score on w gives its gradient, in units in which w
has the same spread in every direction. The axis is the target's gradient without its components along the gradients of
the other findings, view, sex, age and source. Held still entirely, it is the coefficient of the target in the
regression of w on all scores together, a partial regression (Frisch and Waugh 1933). Where scores are correlated on the
films, that may leave nothing of the target, so the others can be held less firmly: ridge regression again. Axes from
scores: Shen et al. 2020, arXiv:1907.10786, section 3.2, there in z or w directly, against one other score at a time.

Legend: w style latent, N films, D = w_dim, K scores.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import RidgeCV

from thiscxr.labels import FINDINGS, NO_FINDING
from thiscxr.measures.resampling import generator, interval, patient_weights

PENALTIES = 10.0 ** np.arange(-5, 2)  # of ridge regression, in units of the mean variance of w
HELD_OUT = 5  # one film in this many is held out of the regression
# the axis ends at this many standard deviations of the films along it: one film in eighty is farther out
REACH = 2.5
GRID = np.linspace(-REACH, REACH, 21)
FIRMNESS = (None, 30.0, 10.0, 3.0, 1.0, 0.3, 0.0)  # tried in this order; None: held still entirely, 0: not at all
COVERED = 0.75  # share of the score's range that an axis should cover
TAILS = (0.05, 0.95)  # quantiles of the score between which the steps lie

Array = NDArray[np.float64]
Scores = Mapping[str, Array]  # question -> [N]
Read = Callable[[Array], Scores]  # w [N, D] of films -> their scores


@dataclass(frozen=True)
class Axis:
    """A straight line in w. A film's place on it is (w − mean) · gauge, in standard deviations of the films."""

    question: str
    step: Array  # [D], one standard deviation along the axis
    gauge: Array  # [D]; gauge · step = 1
    mean: Array  # [D], of w
    r2: float
    """Share of the score's variance that w explains, on held-out films."""
    r2_ci95: tuple[float, float]
    kept: float
    """Share of the target's squared gradient that is along the axis; the rest is shared with the scores held still."""
    held_still: tuple[str, ...]
    firmness: float | None
    """How firmly the others are held: the weight of their squared movements against the length of the axis; None:
    entirely."""

    def places(self, w: Array) -> Array:
        """Return the places of films on the axis, [N], from their w [N, D]."""
        return (w - self.mean) @ self.gauge

    def moved(self, w: Array, place: float) -> Array:
        """Return w [N, D] of the same films moved to one place on the axis."""
        return w + (place - self.places(w))[:, None] * self.step


def held_still(question: str, questions: Sequence[str], trusted: Sequence[str]) -> list[str]:
    """Return the scores that must not move with a question: those that the classifier predicts well, and the source.

    Left out are those that mean the same or its opposite: "No Finding" falls when any finding rises, a view when
    another rises. A score that does not predict its own finding is not held still either: it may follow the target.
    """
    others = [name for name in questions if name != question and (name in trusted or name.startswith("source "))]
    if question in FINDINGS:
        return [name for name in others if name != NO_FINDING and (question != NO_FINDING or name not in FINDINGS)]
    return [name for name in others if name.split()[0] != question.split()[0]]


@dataclass(frozen=True)
class Gradients:
    """How scores change with w, in standard deviations of each score, where w has variance 1 in every direction."""

    question: str
    mean: Array  # [D], of w
    turn: Array  # [D, D], columns: the directions in which w varies independently …
    spread: Array  # [D] … and its standard deviation along each
    target: Array  # [D]
    others: Array  # [K, D]
    names: tuple[str, ...]  # [K]
    r2: float
    r2_ci95: tuple[float, float]

    def axis(self, firmness: float | None = None) -> Axis:
        """Return the axis that holds the others still with this firmness."""
        left: Array
        if firmness is None:
            left = self.target - _shadow(self.target, self.others)
        else:
            within = np.eye(len(self.target)) + firmness * self.others.T @ self.others
            left = np.linalg.solve(within, self.target).astype(np.float64)
        unit = left / max(float(np.linalg.norm(left)), 1e-300)  # if nothing is left: an axis that moves nothing
        kept = float((unit @ self.target) ** 2 / (self.target @ self.target))
        step, gauge = self.turn @ (self.spread * unit), self.turn @ (unit / self.spread)
        return Axis(self.question, step, gauge, self.mean, self.r2, self.r2_ci95, kept, self.names, firmness)


def fit_gradients(question: str, w: Array, scores: Scores, still: Sequence[str], seed: int = 0) -> Gradients:
    """Return the gradients of a question and of the scores to hold still, from w [N, D] and the scores of N films.

    Raises ValueError for fewer films than twice D, for a score that never changes, and where w does not predict it on
    the held-out fifth of the films.
    """
    n, d = w.shape
    if n < 2 * d:
        raise ValueError(f"{n} films are too few for an axis among {d} dimensions of w; use -n {2 * d} or more")
    if not np.ptp(scores[question]) > 0:
        raise ValueError(f"all {n} films have the same score of {question}; the network does not vary it")
    others = [name for name in still if np.ptp(scores[name]) > 0]
    rows = generator(seed, 21).permutation(n)
    held, fitted_on = rows[: n // HELD_OUT], rows[n // HELD_OUT :]
    x = w[fitted_on] - (mean := w[fitted_on].mean(axis=0))
    y = np.stack([scores[name][fitted_on] for name in (question, *others)], axis=1)  # [N, 1 + K]
    # by leave-one-out cross-validation, each score with the penalty that suits it
    ridge = RidgeCV(PENALTIES * len(x) * x.var(axis=0).mean(), alpha_per_target=True)
    fitted: Array = np.atleast_2d(ridge.fit(x, y).coef_)  # [1 + K, D]; [D] of scikit-learn where K is 0
    r2, r2_ci95 = _explained(scores[question][held], (w[held] - mean) @ fitted[0], seed)
    if not r2_ci95[0] > 0:
        what = (
            f"w explains {r2:.2f} [{r2_ci95[0]:.2f}, {r2_ci95[1]:.2f}] of the variance of {question} on held-out films"
        )
        raise ValueError(f"{what}, which may be none; use more films (-n), or a network that has learnt {question}")
    variances, turn = np.linalg.eigh(x.T @ x / len(x))
    spread = np.sqrt(np.maximum(variances, 1e-9 * variances.max()))
    even = fitted @ turn * spread / y.std(axis=0)[:, None]
    return Gradients(question, mean, turn, spread, even[0], even[1:], tuple(others), r2, r2_ci95)


def _shadow(vector: Array, rows: Array) -> Array:
    """Return the projection of a vector onto the span of rows [k, D], which may be linearly dependent."""
    if not len(rows):
        return np.zeros_like(vector)
    _, sizes, basis = np.linalg.svd(rows / np.linalg.norm(rows, axis=1, keepdims=True), full_matrices=False)
    basis = basis[sizes > 1e-6 * sizes.max()]
    return basis.T @ (basis @ vector)


def _explained(truth: Array, predicted: Array, seed: int) -> tuple[float, tuple[float, float]]:
    """Return the share of the variance of the truth [n] that is explained, and its interval over films."""
    weights = np.concatenate([np.ones((1, len(truth))), patient_weights(np.arange(len(truth)), seed)])
    middle = (weights @ truth / weights.sum(axis=1))[:, None]
    # the mean of the fitted films differs from the mean of these
    offset = (weights @ (truth - predicted) / weights.sum(axis=1))[:, None]
    errors, spread = ((weights * np.square(truth - part)).sum(axis=1) for part in (predicted + offset, middle))
    shares = 1 - errors / np.maximum(spread, 1e-300)
    return float(shares[0]), interval(shares[1:])


def choose_axis(
    gradients: Gradients, w: Array, read: Read, low: float, high: float, ladder: Sequence[float | None] = FIRMNESS
) -> Axis:
    """Return the axis that holds the others still most firmly and still moves some films, w [n, D], through COVERED of
    the range from low to high.

    ladder: the firmnesses to try, in this order; if none moves them enough, the last one is taken.

    Raises ValueError when the score does not rise even along the last one.
    """
    for firmness in ladder:
        axis = gradients.axis(firmness)
        first, last = (read(axis.moved(w, place))[axis.question].mean() for place in (-REACH, REACH))
        if last - first >= COVERED * (high - low):
            return axis
    if not last > first:
        raise ValueError(
            f"the score of {axis.question} does not rise along its own axis; use more films (-n) or another classifier"
        )
    return axis


def place_steps(axis: Axis, w: Array, read: Read, low: float, high: float, steps: int) -> Array:
    """Return `steps` places on the axis at which the mean score of some films, w [n, D], rises in equal steps from
    `low` to `high`.

    Where the mean score stops rising earlier, the steps end there: the axis is followed from its middle, to REACH at
    most.
    """
    curve = np.array([read(axis.moved(w, place))[axis.question].mean() for place in GRID])
    middle = len(GRID) // 2
    up, down = np.maximum.accumulate(curve[middle:]), np.minimum.accumulate(curve[middle::-1])
    rising = np.concatenate([down[:0:-1], up])
    risen = np.concatenate([rising[:middle] < rising[1 : middle + 1], [True], rising[middle + 1 :] > rising[middle:-1]])
    at, places = rising[risen], GRID[risen]
    levels = np.linspace(np.clip(low, at[0], at[-1]), np.clip(high, at[0], at[-1]), steps)
    return np.interp(levels, at, places)


@dataclass(frozen=True)
class Movement:
    """How far one score moves per step along the axis, in standard deviations of that score among unselected films."""

    question: str
    per_step: float
    """Mean over films; 0 also where increases and decreases cancel out."""
    ci95: tuple[float, float]
    against: float
    """Relative to the movement of the target."""
    against_ci95: tuple[float, float]
    either_way: float
    """Mean over films of the absolute movement."""
    ends: tuple[float, float]
    """Mean over films at the first and the last step: a probability, or years."""


def movements(
    question: str, walked: Mapping[str, Array], spreads: Mapping[str, float], seed: int = 0
) -> list[Movement]:
    """Return how far each score moved, the target first; walked: question -> [n films, steps], spreads: question ->
    standard deviation among films."""
    steps = next(iter(walked.values())).shape[1] - 1
    per_film = {
        name: (values[:, -1] - values[:, 0]) / steps / spreads[name]
        for name, values in walked.items()
        if spreads[name] > 0
    }
    weights = patient_weights(np.arange(len(per_film[question])), seed)
    resampled = {name: weights @ values / weights.sum(axis=1) for name, values in per_film.items()}
    target = per_film[question].mean()
    return [
        Movement(
            name,
            float(per_film[name].mean()),
            interval(resampled[name]),
            float(per_film[name].mean() / target),
            interval(resampled[name] / resampled[question]),
            float(np.abs(per_film[name]).mean()),
            (_natural(name, walked[name][:, 0]), _natural(name, walked[name][:, -1])),
        )
        for name in (question, *(name for name in per_film if name != question))
    ]


def _natural(question: str, scores: Array) -> float:
    return float((scores if question == "age" else expit(scores)).mean())
