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
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from thiscxr.measures.floor import films_a_side
from thiscxr.measures.measured import Measured
from thiscxr.measures.resampling import (
    ROUNDS,
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
from thiscxr.reader.answers import weighted_error

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
    both, so that both are treated alike. Raises ValueError where a model would be trained on one class alone.
    """
    classes = int(truth.max()) + 1 if truth.dtype.kind in "iu" else 0
    answers, other_answers = (np.full((len(x), classes or 1), NEVER) for x in (features, others))
    for fold in range(FOLDS):
        trained = folds != fold
        if classes and len(np.unique(truth[trained])) < 2:
            raise ValueError("without a fifth of the patients the films are of one class; more patients are needed")
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
) -> tuple[list[Measured], dict[str, str]]:
    """Probe features [n, d] of real films and [m, d] of synthetic ones for source, view, sex and age: on synthetic
    films against the requested value, and as the floor on unseen real patients against the truth. Return the results,
    and why other factors could not be probed.

    AUCs of more than two classes are means of one against the rest; correlation (r) and error in years (mae) are of the
    age; all are means over the models. patients [n], seeds [m]: the patient of each real film, the latent of each
    synthetic one.
    """
    features, fake_features = np.asarray(features, np.float64), np.asarray(fake_features, np.float64)
    patients, seeds = number_patients(patients), number_patients(seeds)
    probed: list[Measured] = []
    left_out: dict[str, str] = {}

    def fitted(truth: NDArray, wanted: NDArray, known: NDArray, given: NDArray) -> tuple[Scored, Scored]:
        """Return the real films of known value and the synthetic ones of requested value, each with its scores."""
        folds, other_folds = draw_folds(patients[known], seed), draw_folds(seeds[given], seed)
        answers, others = cross_fit(features[known], truth[known], folds, fake_features[given], other_folds)
        return (
            Scored(truth[known], answers, patients[known], folds),
            Scored(wanted[given], others, seeds[given], other_folds),
        )

    for factor in FACTORS:
        truth, wanted, names = _classes(factor, real, patients, requested)
        if len(names) < 2:
            left_out[factor] = f"fewer than two values with {MIN_PATIENTS} real patients each"
        elif len(set(wanted[wanted >= 0].tolist())) < 2:
            left_out[factor] = "fewer than two of its values were requested of the synthetic films"
        else:
            try:
                sides = fitted(truth, wanted, truth >= 0, wanted >= 0)
            except ValueError as error:
                left_out[factor] = str(error)
                continue
            both = np.intersect1d(sides[0].truth, sides[1].truth)  # the classes of the floor too
            probed.append(_probed(factor, "auc", sides, [_against_rest(k) for k in both], seed))
    known, given = np.isfinite(real.age_years), np.isfinite(requested.age_years)
    if len(np.unique(patients[known])) < 2 * MIN_PATIENTS or len(np.unique(requested.age_years[given])) < 2:
        left_out["age"] = f"not known of {2 * MIN_PATIENTS} real patients, or fewer than two ages were requested"
        return probed, left_out
    sides = fitted(real.age_years, requested.age_years, known, given)
    median = np.median(sides[0].truth)
    measures: dict[tuple[str, str], Measure] = {
        ("age over median", "auc"): lambda truth, years, weights: weighted_auc(truth > median, years[:, 0], weights),
        ("age", "r"): lambda truth, years, weights: weighted_correlation(truth, years[:, 0], weights),
        ("age", "mae"): lambda truth, years, weights: weighted_error(truth, years[:, 0], weights),
    }
    return probed + [_probed(*what, sides, [measure], seed) for what, measure in measures.items()], left_out


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


def _probed(factor: str, statistic: str, sides: tuple[Scored, Scored], hows: Sequence[Measure], seed: int) -> Measured:
    """Return the mean of some measures of the synthetic films, and of the real ones as the floor, which has no
    interval."""
    means = []
    for side, rounds in zip(sides, (0, ROUNDS), strict=True):
        weights = patient_weights(side.whose, seed, rounds)
        means.append(mean_over([side.measure(how, weights) for how in hows]))
    (floor, *_), (value, *resampled) = means
    ci95, sizes = interval(np.array(resampled)), [len(side.truth) for side in sides]
    return Measured("probe", float(value), ci95, float(floor), *sizes, question=factor, statistic=statistic)


def probe_real_or_synthetic(
    features: NDArray[np.floating],
    patients: ArrayLike,
    fake_features: NDArray[np.floating],
    seeds: ArrayLike,
    seed: int = 0,
) -> Measured:
    """Can a linear model distinguish synthetic films from real ones? AUC, 0.5: no. The floor is that of real patients
    against other real patients.

    Half of the real patients are compared with as many synthetic films and with the other half; values and the interval
    (bootstrap over patients and seeds) are means over three halvings. Raises ValueError for fewer than 20 films per
    set, and for a half of one patient's films.
    """
    features, fake_features = np.asarray(features, np.float64), np.asarray(fake_features, np.float64)
    patients, seeds = number_patients(patients), number_patients(seeds)
    n = min(films_a_side(patients), len(fake_features))
    if n < 2 * MIN_PATIENTS:
        sizes = f"{len(features)} real and {len(fake_features)} synthetic films"
        raise ValueError(f"{sizes} give {n} per set; the probe needs at least {2 * MIN_PATIENTS}")
    rng = generator(seed, 4)
    rows = []  # value, low, high, floor
    for a, b in halves(patients, n, SPLITS, seed):
        some = rng.permutation(len(fake_features))[:n]
        found = []
        for others, whose, rounds in ((fake_features[some], seeds[some], ROUNDS), (features[b], patients[b], 0)):
            both, truth = np.concatenate([features[a], others]), np.repeat([0, 1], n)
            folds = np.concatenate([draw_folds(patients[a], seed), draw_folds(whose, seed)])
            answers, _ = cross_fit(both, truth, folds, both[:0], folds[:0])
            weights = np.hstack([patient_weights(patients[a], seed, rounds), patient_weights(whose, seed + 1, rounds)])
            scored = Scored(truth, answers, np.concatenate([patients[a], whose]), folds)
            found.append(scored.measure(_against_rest(1), weights))
        rows.append((found[0][0], *interval(found[0][1:]), found[1][0]))
    value, low, high, floor = np.mean(rows, axis=0).tolist()
    return Measured(REAL_OR_SYNTHETIC, value, (low, high), floor, n, n, statistic="auc")
