"""Label noise: closed forms against simulation, and classifiers trained on flipped labels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import blob
from thiscxr.labels import FINDINGS
from thiscxr.measures.resampling import patient_weights, weighted_auc
from thiscxr.model.conditions import Condition, FilmConditions
from thiscxr.phantom.labelled import SHOWN, draw_labelled_films
from thiscxr.score.gains import difference
from thiscxr.score.label_noise import (
    flip,
    flipped_share,
    label_noise,
    noisy_auc,
    predictive_values,
)
from thiscxr.score.records import Record
from thiscxr.score.utility import LabelledFilms


@pytest.mark.parametrize(
    ("prevalence", "share", "signal"), [(0.5, 0.2, 1.0), (0.1, 0.1, 1.5), (0.03, 0.3, 2.0), (0.8, 0.4, 1.0)]
)
def test_auc_against_flipped_labels_is_the_closed_form(prevalence: float, share: float, signal: float) -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(400_000) < prevalence
    scores = signal * truth + rng.normal(size=len(truth))
    labels = truth ^ (rng.random(len(truth)) < share)
    ones = np.ones((1, len(truth)))
    clean, measured = (float(weighted_auc(side, scores, ones)[0]) for side in (truth, labels))
    ppv, npv = predictive_values(prevalence, share)
    assert ppv == pytest.approx(truth[labels].mean(), abs=0.005)
    assert npv == pytest.approx(1 - truth[~labels].mean(), abs=0.005)
    assert measured == pytest.approx(noisy_auc(clean, ppv, npv), abs=0.004)
    assert abs(measured - clean) > 0.03, "and it is not the AUC against the truth"


@settings(deadline=None, max_examples=50)
@given(st.floats(0.01, 0.99), st.floats(0, 0.5), st.floats(0.5, 1))
def test_closed_forms_are_inverses(prevalence: float, share: float, auc: float) -> None:
    ppv, npv = predictive_values(prevalence, share)
    assert flipped_share(float(ppv), prevalence) == pytest.approx(share, abs=1e-9)
    assert 0.5 - 1e-12 <= noisy_auc(auc, ppv, npv) <= auc + 1e-12


def test_ends_of_the_scale() -> None:
    assert predictive_values(0.1, 0.0) == (1.0, 1.0)
    assert predictive_values(0.1, 0.5) == (pytest.approx(0.1), pytest.approx(0.9)), "labels at random: the prevalence"
    assert noisy_auc(0.9, *predictive_values(0.25, 0.5)) == pytest.approx(0.5)
    assert flipped_share(0.24, 0.1) == pytest.approx(0.076 / 0.292)


def discs(count: int, seed: int, finding: str = "Effusion") -> LabelledFilms:
    shown = np.random.default_rng(seed).random(count) < 0.4
    known = [Condition("PA", "F", 50.0, "discs", {finding: int(e)}) for e in shown]
    return LabelledFilms(
        np.stack([blob(1000 * seed + i, 32, e) for i, e in enumerate(shown)]),
        FilmConditions.of(known),
        np.arange(count) + 1000 * seed,
    )


def test_flips_are_nested_and_leave_unknown_states_alone() -> None:
    films = discs(2000, 1).conditions
    column = FINDINGS.index("Effusion")
    some, more = (flip(films, share, 0, 50) for share in (0.2, 0.4))
    a, b = ((each.findings != films.findings) for each in (some, more))
    assert a[:, column].mean() == pytest.approx(0.2, abs=0.03)
    assert (b >= a).all()
    assert not np.delete(b, column, axis=1).any()
    np.testing.assert_array_equal(flip(films, 0.0, 0, 50).findings, films.findings)


@pytest.mark.slow
def test_classifiers_trained_on_flipped_labels_and_their_measured_auc() -> None:
    found = label_noise(discs(256, 1), discs(300, 2), shares=(0.0, 0.3, 0.5), steps=20, seeds=2, widths=(8, 12))
    clean, some, half = found.points
    assert clean.truth > 0.97
    assert clean.noisy == clean.truth == clean.expected == clean.fidelity
    assert clean.ppv == 1.0
    for point in (some, half):
        assert point.noisy == pytest.approx(point.expected, abs=0.06)
        assert point.fidelity == pytest.approx(point.fidelity_expected, abs=0.06)
    assert some.noisy < 0.8 < some.truth, "the reader knows more than the noisy labels show"
    assert some.ppv == pytest.approx(predictive_values(found.prevalence["Effusion"], 0.3)[0])
    assert half.truth < 0.9
    assert half.noisy == pytest.approx(0.5, abs=0.08)
    assert half.truth < some.truth < clean.truth + 0.02
    assert set(found.marks) == {0.24, 0.8}
    keys = [Record.of(each).key for each in found.measured()]
    assert keys[:3] == [f"label_noise_phantom32_20steps_flipped0_{name}_auc" for name in ("truth", "noisy", "fidelity")]
    assert "a PPV of 80% is" in str(found)


def test_the_mean_of_the_findings_is_of_the_same_ones_in_every_sample() -> None:
    # Hernia, of five patients, is missing in one sample of 150: the mean of that sample was the Effusion's alone.
    def both(count: int, seed: int, shown: np.ndarray) -> LabelledFilms:
        films = discs(count, seed)
        findings = films.conditions.findings.copy()
        findings[:, FINDINGS.index("Hernia")] = shown
        return replace(films, conditions=replace(films.conditions, findings=findings))

    train, test = both(100, 1, np.arange(100) % 2), both(200, 2, np.arange(200) < 5)
    lost = []

    def watched(one: np.ndarray, *rest: object) -> object:
        lost.append(int(np.isnan(one[:, 1:]).all(axis=0).sum()))
        return difference(one, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("thiscxr.score.label_noise.difference", watched)
        (point,) = label_noise(train, test, shares=(0.0,), steps=3, widths=(8, 12)).points
    without = int((patient_weights(np.arange(200), 0)[:, :5].sum(axis=1) == 0).sum())
    assert without > 0
    assert set(lost) == {without}
    assert np.isfinite([point.truth, *point.truth95]).all()


def test_mistakes_are_refused() -> None:
    train, test = discs(100, 1), discs(60, 2)
    none = replace(test, conditions=FilmConditions.of([Condition(findings={"Effusion": 0})] * 60))
    with pytest.raises(
        ValueError, match="no finding can be tested; Effusion: 0 held-out patients with and 60 without it"
    ):
        label_noise(train, none)


@pytest.mark.slow
def test_the_curve_on_phantoms() -> None:
    found = label_noise(*draw_labelled_films(32, (400, 300)), shares=(0.0, 0.2, 0.5), steps=120)
    clean, some, half = found.points
    assert set(found.prevalence) == set(SHOWN)
    assert clean.truth95[0] > 0.7
    for point in found.points:
        assert point.noisy == pytest.approx(point.expected, abs=0.04)
        assert point.fidelity == pytest.approx(point.fidelity_expected, abs=0.04)
    assert clean.truth > some.truth > half.truth
    assert half.truth95[1] < clean.truth
    assert half.truth == pytest.approx(0.5, abs=0.1), "nothing can be learnt from random labels"
