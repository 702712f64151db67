"""Probes: what a linear model predicts from features, on synthetic films and, as the baseline, on real patients that it
was not trained on.

A probe is a regularised logistic regression (ridge regression for the age) on standardised features, cross-fitted by
patient: five models, each scoring the fifth of the patients that it was not trained on, and a fifth of the synthetic
films. The scores of two models are not on one scale, so figures are means over the five (LeDell et al. 2015,
doi:10.1214/15-EJS1035); pooled, the AUC without any signal is below one half. Use the films of held-out patients;
otherwise the extractor was trained on the patients even if the probe was not. Idea: Alain and Bengio 2016,
arXiv:1610.01644.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from thiscxr.measures.measured import Measured
from thiscxr.measures.resampling import (
    generator,
    halves,
    interval,
    mean_over,
    number_patients,
    patient_weights,
    weighted_auc,
    weighted_correlation,
)
from thiscxr.model.conditions import FilmConditions

FOLDS = 5
SPLITS = 3
MIN_PATIENTS = 10  # of a class, for a probe to learn it
# of the mean loss, on half the squared weights; grows with the dimensions as the squared features do
PENALTY_PER_DIMENSION = 1e-4
NEVER = -50.0  # the log probability of a class missing from a model's training films
FACTORS = ("source", "view", "sex")
REAL_OR_SYNTHETIC = "real_or_synthetic"

Array = NDArray[np.float64]
Measure = Callable[[NDArray, Array, NDArray], Array]  # truth [n], answers [n, …], weights [rounds, n] -> [rounds]


@dataclass(frozen=True)
class Probed:
    """A probe for one factor: on synthetic films against the requested value, on unseen real patients against the
    truth."""

    factor: str
    measure: str
    """auc (for more than two classes the mean of one against the rest), r (correlation) or mae (years), means over the
    models."""
    value: float
    ci95: tuple[float, float]
    baseline: float
    baseline95: tuple[float, float]
    num_real: int
    num_fake: int

    def measured(self, extractor: str) -> Measured:
        """Return it as a number of the panel; its floor is the baseline."""
        measure, question = (self.factor, "") if self.factor == REAL_OR_SYNTHETIC else ("probe", self.factor)
        found = Measured(measure, self.value, self.ci95, self.baseline, self.num_real, self.num_fake, question=question)
        return replace(found, extractor=extractor, statistic=self.measure)


@dataclass(frozen=True)
class Probes:
    """All probes of a set of synthetic films, and why some factors could not be probed."""

    probed: list[Probed]
    left_out: dict[str, str]


def probe(x: Array, truth: NDArray) -> Pipeline:
    """Return a model fitted to standardised features [n, d]: softmax regression for integers, ridge regression for
    numbers.

    The L2 penalty on the mean loss grows with the dimensions; for two classes scikit-learn fits the difference of the
    weights alone, which is the same at half of it.
    """
    penalty = PENALTY_PER_DIMENSION * x.size
    if truth.dtype.kind not in "iu":
        return make_pipeline(StandardScaler(), Ridge(penalty)).fit(x, truth)
    strength = (2 if len(np.unique(truth)) == 2 else 1) / penalty
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, tol=1e-5, max_iter=1000)).fit(x, truth)


def cross_fit(
    features: Array, truth: NDArray, folds: NDArray, others: Array, other_folds: NDArray
) -> tuple[Array, Array]:
    """Return scores [n, k] for features [n, d], each by the model that was not trained on its fold, and scores [m, k]
    for `others` [m, d].

    truth: integers from 0 (a log probability for each class) or float64 (one value). Each model scores its own fold of
    both, so that both are treated alike.
    """
    classes = int(truth.max()) + 1 if truth.dtype.kind in "iu" else 0
    answers, other_answers = (np.full((len(x), classes or 1), NEVER) for x in (features, others))
    for fold in range(FOLDS):
        trained = folds != fold
        model = probe(features[trained], truth[trained])
        for rows, given, out in ((folds == fold, features, answers), (other_folds == fold, others, other_answers)):
            if rows.any():
                found = model.predict_log_proba(given[rows]) if classes else model.predict(given[rows])[:, None]
                out[np.ix_(rows, model.classes_ if classes else [0])] = found
    return answers, other_answers


def draw_folds(patients: ArrayLike, seed: int) -> NDArray[np.int64]:
    """Return int64 [n] in 0 … FOLDS - 1: folds of equally many patients, all films of a patient in one."""
    codes = number_patients(patients)
    return (generator(seed, 3).permutation(int(codes.max()) + 1) % FOLDS)[codes]


def probe_conditions(
    features: NDArray[np.floating],
    real: FilmConditions,
    patients: ArrayLike,
    fake_features: NDArray[np.floating],
    requested: FilmConditions,
    seeds: ArrayLike,
    seed: int = 0,
) -> Probes:
    """Probe features [n, d] of real films and [m, d] of synthetic ones for source, view, sex and age.

    patients [n], seeds [m]: the patient of each real film, the latent of each synthetic one. Raises ValueError for
    features that are not finite or do not fit.
    """
    features, fake_features = (
        check_features(features, len(real), "real"),
        check_features(fake_features, len(requested), "synthetic"),
    )
    patients, seeds = number_patients(patients), number_patients(seeds)
    probed: list[Probed] = []
    left_out: dict[str, str] = {}
    for factor in FACTORS:
        truth, wanted, names = _classes(factor, real, patients, requested)
        if len(names) < 2:
            left_out[factor] = f"fewer than two values with {MIN_PATIENTS} real patients each"
        elif len(set(wanted[wanted >= 0].tolist())) < 2:
            left_out[factor] = "fewer than two of its values were requested of the synthetic films"
        else:
            known, given = truth >= 0, wanted >= 0
            folds, other_folds = draw_folds(patients[known], seed), draw_folds(seeds[given], seed)
            answers = cross_fit(features[known], truth[known], folds, fake_features[given], other_folds)
            sides = (
                Scored(truth[known], answers[0], patients[known], folds),
                Scored(wanted[given], answers[1], seeds[given], other_folds),
            )
            both = np.intersect1d(truth[known], wanted[given])  # the classes of the floor too
            probed.append(_probed(factor, "auc", sides, [_against_rest(k) for k in both], seed))
    return Probes(
        probed + _probe_age(features, real, patients, fake_features, requested, seeds, seed, left_out), left_out
    )


def _classes(
    factor: str, real: FilmConditions, patients: NDArray, requested: FilmConditions
) -> tuple[NDArray, NDArray, list[str]]:
    """Return codes [n] of real and [m] of requested values into the names that enough real patients have; -1
    elsewhere."""
    codes, wanted = getattr(real, factor), getattr(requested, factor)
    names = [
        name for code, name in enumerate(real.names[factor]) if len(np.unique(patients[codes == code])) >= MIN_PATIENTS
    ]  # fmt: skip

    def into(names_from: list[str], codes: NDArray) -> NDArray[np.int64]:
        table = np.array([names.index(name) if name in names else -1 for name in [*names_from, ""]], np.int64)
        return table[codes]  # an unknown value's -1 reads the last, which is no name

    return into(list(real.names[factor]), codes), into(list(requested.names[factor]), wanted), names


def _against_rest(k: int) -> Measure:
    """Return the measure of one class against the rest."""
    return lambda truth, answers, weights: weighted_auc(
        truth == k, answers[:, k] - logsumexp(np.delete(answers, k, 1), axis=1), weights
    )


def _probe_age(
    features: Array,
    real: FilmConditions,
    patients: NDArray,
    fake_features: Array,
    requested: FilmConditions,
    seeds: NDArray,
    seed: int,
    left_out: dict[str, str],
) -> list[Probed]:
    known, given = np.isfinite(real.age_years), np.isfinite(requested.age_years)
    if len(np.unique(patients[known])) < 2 * MIN_PATIENTS or len(np.unique(requested.age_years[given])) < 2:
        left_out["age"] = f"not known of {2 * MIN_PATIENTS} real patients, or fewer than two ages were requested"
        return []
    years, wanted = real.age_years[known], requested.age_years[given]
    median = np.median(years)
    folds, other_folds = draw_folds(patients[known], seed), draw_folds(seeds[given], seed)
    read, fake_read = cross_fit(features[known], years, folds, fake_features[given], other_folds)
    sides = (
        Scored(years, read[:, 0], patients[known], folds),
        Scored(wanted, fake_read[:, 0], seeds[given], other_folds),
    )
    measures: dict[tuple[str, str], Measure] = {
        ("age over median", "auc"): lambda truth, answers, weights: weighted_auc(truth > median, answers, weights),
        ("age", "r"): weighted_correlation,
        ("age", "mae"): lambda truth, answers, weights: weights @ np.abs(truth - answers) / weights.sum(axis=1),
    }
    return [_probed(*what, sides, [measure], seed) for what, measure in measures.items()]


@dataclass(frozen=True)
class Scored:
    """Films with their truth, scores, patients or latents, and the model that scored each. Arrays [n, …]."""

    truth: NDArray
    answers: Array
    whose: NDArray
    folds: NDArray[np.int64]

    def measure(self, how: Measure, weights: NDArray[np.floating]) -> Array:
        """Return float64 [1 + rounds]: the mean over the models of a measure on the films that each has scored, then
        the same for every round of weights [rounds, n]. A model whose films give no value, such as films of one class,
        is left out."""
        weights = np.concatenate([np.ones((1, len(self.folds)), weights.dtype), weights])
        here = [self.folds == fold for fold in np.unique(self.folds)]
        with np.errstate(invalid="ignore", divide="ignore"):
            return mean_over([how(self.truth[some], self.answers[some], weights[:, some]) for some in here])


def _probed(factor: str, measure: str, sides: tuple[Scored, Scored], hows: Sequence[Measure], seed: int) -> Probed:
    """Return the mean of some measures of the real and of the synthetic films."""
    results = []
    for side in sides:
        weights = patient_weights(side.whose, seed)
        values = mean_over([side.measure(how, weights) for how in hows])
        results.append((float(values[0]), interval(values[1:])))
    (baseline, baseline95), (value, ci95) = results
    return Probed(factor, measure, value, ci95, baseline, baseline95, len(sides[0].truth), len(sides[1].truth))


def probe_real_or_synthetic(
    features: NDArray[np.floating],
    patients: ArrayLike,
    fake_features: NDArray[np.floating],
    seeds: ArrayLike,
    seed: int = 0,
) -> Probed:
    """Can a linear model distinguish synthetic films from real ones? AUC, 0.5: no. The baseline is real patients
    against other real patients.

    Half of the real patients are compared with as many synthetic films and with the other half; values and intervals
    (bootstrap over patients and seeds) are means over three halvings. Raises ValueError for fewer than 20 films per
    set, and for features that do not fit.
    """
    features, fake_features = (
        check_features(features, None, "real"),
        check_features(fake_features, features.shape[1], "synthetic", 1),
    )
    patients, seeds = number_patients(patients), number_patients(seeds)
    n = min((len(patients) - int(np.bincount(patients).max(initial=0))) // 2, len(fake_features))
    if n < 2 * MIN_PATIENTS:
        sizes = f"{len(features)} real and {len(fake_features)} synthetic films"
        raise ValueError(f"{sizes} give {n} a side; the probe needs at least {2 * MIN_PATIENTS} a side")
    rng = generator(seed, 4)
    rows: dict[str, list[tuple[float, tuple[float, float]]]] = {"fake": [], "real": []}
    for a, b in halves(patients, n, SPLITS, seed):
        some = rng.permutation(len(fake_features))[:n]
        against = {"fake": (fake_features[some], seeds[some]), "real": (features[b], patients[b])}
        for name, (others, whose) in against.items():
            both, truth = np.concatenate([features[a], others]), np.repeat([0, 1], n)
            folds = np.concatenate([draw_folds(patients[a], seed), draw_folds(whose, seed)])
            answers, _ = cross_fit(both, truth, folds, both[:0], folds[:0])
            weights = np.hstack([patient_weights(patients[a], seed), patient_weights(whose, seed + 1)])
            scored = Scored(truth, answers, np.concatenate([patients[a], whose]), folds)
            values = scored.measure(_against_rest(1), weights)
            rows[name].append((float(values[0]), interval(values[1:])))

    def mean(name: str) -> tuple[float, tuple[float, float]]:
        values, edges = zip(*rows[name], strict=True)
        low, high = np.mean(edges, axis=0)
        return float(np.mean(values)), (float(low), float(high))

    (value, ci95), (baseline, baseline95) = mean("fake"), mean("real")
    return Probed(REAL_OR_SYNTHETIC, "auc", value, ci95, baseline, baseline95, n, n)


def check_features(features: NDArray[np.floating], size: int | None, what: str, axis: int = 0) -> Array:
    """Return features as float64 [n, d]. Raises ValueError when they are not finite, or have another size along `axis`
    than `size`."""
    checked = np.asarray(features, np.float64)
    if checked.ndim != 2 or (size is not None and checked.shape[axis] != size):
        raise ValueError(
            f"{what} features have shape {checked.shape}; expected [n, d] with {size} {('films', 'dimensions')[axis]}"
        )
    if not np.isfinite(checked).all():
        bad = int((~np.isfinite(checked)).any(axis=1).sum())
        raise ValueError(f"{what} features of {bad} films are not finite; look for damaged films or weights")
    return checked
