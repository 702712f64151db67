"""Resampling by patient: what the weighted measures are, and that patients are whole."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, pearsonr, t

from thiscxr.measures.resampling import (
    JACKKNIFE_95,
    bootstrapped_means,
    effective_size,
    halves,
    interval,
    jackknife_error,
    number_patients,
    patient_weights,
    share_interval,
    student_95,
    weighted_auc,
    weighted_correlation,
    wilson,
)


def test_weights_count_as_so_many_films() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.random(60) < 0.4, rng.integers(0, 12, 60).astype(float)  # with ties
    values = scores + rng.normal(size=60)
    weights = rng.integers(0, 4, (5, 60)).astype(np.float32)
    for row, area, r in zip(
        weights.astype(int),
        weighted_auc(truth, scores, weights),
        weighted_correlation(scores, values, weights),
        strict=True,
    ):
        rows = np.repeat(np.arange(60), row)
        present, absent = scores[rows][truth[rows]], scores[rows][~truth[rows]]
        assert area == pytest.approx(mannwhitneyu(present, absent).statistic / (len(present) * len(absent)))
        assert r == pytest.approx(pearsonr(scores[rows], values[rows])[0])


def test_what_is_no_number_is_left_out_of_an_interval() -> None:
    assert np.isnan(weighted_auc(np.ones(4, bool), np.arange(4.0), np.ones((1, 4)))[0])
    assert np.isnan(weighted_correlation(np.ones(4), np.arange(4.0), np.ones((1, 4)))[0])
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert np.isnan(interval(np.array([np.nan]))).all()


def test_a_patient_is_drawn_whole_and_his_name_does_not_matter() -> None:
    patients = np.array(["b", "b", "a", "c", "b"])
    weights = patient_weights(patients, seed=1, rounds=50)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 0] == weights[:, 4]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    np.testing.assert_array_equal(number_patients(patients), [0, 0, 1, 2, 0])
    np.testing.assert_array_equal(weights, patient_weights(np.array(["x", "x", "z", "y", "x"]), seed=1, rounds=50))


def test_many_films_of_few_patients_make_an_interval_wider_not_narrower() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(60) < 0.5
    scores = truth + rng.normal(size=60)
    films = [weighted_auc(t, s, patient_weights(p, 0)) for t, s, p in (
        (truth, scores, np.arange(60)),
        (np.repeat(truth, 9), np.repeat(scores, 9), np.repeat(np.arange(60), 9)),
    )]  # fmt: skip
    (low, high), (low9, high9) = map(interval, films)
    assert high9 - low9 == pytest.approx(high - low, rel=0.25), "copies of films are no new patients"


@pytest.mark.slow
def test_intervals_by_patient_hold_the_truth_and_intervals_by_film_do_not() -> None:
    rng = np.random.default_rng(1)
    # Φ(1 / √(2 · 1.25)): means one apart, variances 1 + 0.25
    truth_of_areas, held = 0.7365, {"patients": 0, "films": 0}
    for trial in range(120):
        whose = np.repeat(np.arange(60), 6)
        truth = (rng.random(60) < 0.4)[whose]
        scores = truth + rng.normal(size=60)[whose] + 0.5 * rng.normal(size=360)
        for name, units in (("patients", whose), ("films", np.arange(360))):
            low, high = interval(weighted_auc(truth, scores, patient_weights(units, trial, 300)))
            held[name] += low <= truth_of_areas <= high
    assert held["patients"] >= 105
    assert held["films"] < 85, "the mistake that patient-wise resampling is there to avoid"


def test_halves_share_no_patient_and_too_few_are_refused() -> None:
    patients = np.repeat(np.arange(30), [1, 2, 3] * 10)
    for a, b in halves(patients, 27, 5, seed=0):
        assert (len(a), len(b)) == (27, 27)
        assert not set(patients[a]) & set(patients[b])
    with pytest.raises(ValueError, match=r"60 real films do not give 31 per set"):
        list(halves(patients, 31, 1, seed=0))
    with pytest.raises(ValueError, match=r"0 real films do not give 1 per set"):
        list(halves(np.array([]), 1, 1, seed=0))


def test_the_jackknife_error_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=4000)
    error = jackknife_error(lambda rows: float(rows.mean()), (values, np.arange(4000)))
    assert error == pytest.approx(1 / np.sqrt(4000), rel=0.5)
    both = jackknife_error(lambda rows: np.array([rows.mean(), 3 * rows.mean()]), (values, np.arange(4000)))
    np.testing.assert_allclose(both, [error, 3 * error])


def test_the_interval_of_a_jackknife_has_its_nominal_coverage() -> None:
    """For a mean it is Student's t of ten values; with the normal's 1.96 it held the truth in 91.8 of 100 trials."""
    assert pytest.approx(t.ppf(0.975, 9)) == JACKKNIFE_95
    assert student_95(1) == pytest.approx(12.7062, abs=1e-4)
    trials = np.random.default_rng(0).normal(size=(20, 4000))  # one measure a trial
    errors = jackknife_error(lambda rows: rows.mean(axis=0), (trials, np.arange(20)))
    assert np.mean(np.abs(trials.mean(axis=0)) <= JACKKNIFE_95 * errors) == pytest.approx(0.95, abs=0.01)


def test_shares_of_none_and_all_have_intervals() -> None:
    low, high = wilson([0.0, 1.0, 0.5], [20, 20, 20])
    np.testing.assert_allclose(low, [0, 0.8389, 0.2993], atol=1e-4)  # Wilson's formula by hand
    np.testing.assert_allclose(high, [0.1611, 1, 0.7007], atol=1e-4)
    assert effective_size(["a", "b", "c"]) == 3
    assert effective_size(["a"] * 10 + ["b"]) == pytest.approx(121 / 101)


@pytest.mark.parametrize(("rate", "patients"), [(0.03, 200), (0.15, 300)])
def test_shares_of_films_of_patients_hold_the_truth_and_wilson_by_film_does_not(rate: float, patients: int) -> None:
    """With few hits, as for near films, and with many: a film agrees with its patient with a probability of 0.8."""
    rng = np.random.default_rng(2)
    held = {"patients": 0, "films": 0}
    for trial in range(120):
        whose = np.repeat(np.arange(patients), rng.geometric(0.25, patients))
        own = rng.random(patients) < rate
        hits = np.where(rng.random(len(whose)) < 0.8, own[whose], rng.random(len(whose)) < rate)
        for name, units in (("patients", whose), ("films", np.arange(len(whose)))):
            low, high = share_interval(hits, units, trial)
            held[name] += low <= rate <= high
    assert held["patients"] >= 110, held
    assert held["films"] < 90, "the mistake that is there to be avoided"


def test_an_interval_of_a_share_is_never_empty_and_wilsons_for_independent_films() -> None:
    whose = np.repeat(np.arange(25), 4)
    for hits in (np.zeros(100), np.ones(100)):
        low, high = share_interval(hits, whose)
        assert high - low == pytest.approx(float(np.diff(np.array(wilson(hits[0], 25)), axis=0)[0])), (
            "25 patients of four films each"
        )
    hits = np.arange(100) % 4 == 0  # of every patient the first film: less than chance would vary
    assert share_interval(hits, whose) == share_interval(hits, np.arange(100)), (
        "never narrower than of independent films"
    )
    hits = np.arange(100) < 30
    assert share_interval(hits, np.arange(100)) == tuple(float(edge) for edge in wilson(0.3, 100))
    means = bootstrapped_means(hits, whose, rounds=4000)
    assert means.mean() == pytest.approx(0.3, abs=0.01)
    assert means.std() == pytest.approx(np.sqrt(np.var(hits.reshape(25, 4).mean(axis=1)) / 25), rel=0.05)
