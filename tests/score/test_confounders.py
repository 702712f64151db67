"""Confounders planted on the phantom: associated findings and sites must be reported, others must not."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats.contingency import association

from benchmarks.planted_confounders import pool_of
from thiscxr.labels import FINDINGS, NOT_MENTIONED, POSITIVE
from thiscxr.phantom import PHANTOM_FINDINGS, SITES, draw_patient, render
from thiscxr.score import confounders
from thiscxr.score.confounders import (
    shift_table,
    shortcut,
    significant,
    ties,
)
from thiscxr.score.probes import probe
from thiscxr.score.records import Record

# ------------------------------------------------------------------ associations


def test_a_planted_association_is_reported_and_no_other() -> None:
    for strength in (1.0, 0.4):
        first, *others = ties(pool_of(400, 1, strength), np.arange(400))
        assert first.question == "Effusion"
        assert significant(first)
        assert first.p <= 0.001
        assert first.ci95[0] > first.floor
        assert not any(map(significant, others))


@pytest.fixture
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alarms are as rare with any number of permutations of which one alone is less than one in a hundred."""
    monkeypatch.setattr(confounders, "ROUNDS", 199)


@pytest.mark.usefixtures("few_rounds")
@pytest.mark.slow
def test_pools_without_associations_raise_no_alarm() -> None:
    alarms = [any(map(significant, ties(pool_of(150, seed), np.arange(150), seed=seed))) for seed in range(20)]
    assert sum(alarms) <= 2, f"{sum(alarms)} of 20 pools: one in a hundred is what p < 0.01 means"


@pytest.mark.usefixtures("few_rounds")
def test_duplicates_of_a_film_are_no_evidence() -> None:
    alarms = 0
    for seed in range(12):
        films = pool_of(40, 200 + seed)
        rows = np.repeat(np.arange(40), 10)
        (tie, *_), once = ties(films.take(rows), rows, seed=seed), ties(films, np.arange(40), seed=seed)
        assert tie.value == pytest.approx(next(each.value for each in once if each.question == tie.question))
        alarms += significant(tie)
    assert alarms <= 2


def test_the_strength_is_cramers_v() -> None:
    films = pool_of(1500, 3, 0.5)
    (tie, *_) = ties(films, np.arange(1500))
    states = films.findings[:, FINDINGS.index("Effusion")]
    table = np.array([[np.sum((films.source == site) & (states == state)) for state in (0, 1)] for site in range(4)])
    assert tie.value == pytest.approx(association(table, correction=False), abs=0.003)


def test_unknown_states_make_no_association() -> None:
    """A collection that never mentions a finding is not one without it."""
    films = pool_of(300, 4)
    findings = films.findings.copy()
    findings[films.source == 0] = NOT_MENTIONED
    assert not any(map(significant, ties(replace(films, findings=findings), np.arange(300))))
    findings[:] = NOT_MENTIONED
    assert ties(replace(films, findings=findings), np.arange(300)) == []


def test_a_handful_of_patients_proves_nothing() -> None:
    for count in (2, 3, 9):
        films = pool_of(count, 11, tie=1.0)
        assert all(np.isfinite([*tie.ci95, tie.value, tie.floor]).all() for tie in ties(films, np.arange(count)))
    assert not any(map(significant, ties(pool_of(3, 11, tie=1.0), np.arange(3))))
    assert ties(pool_of(1, 11), np.arange(1)) == []


def test_one_site_has_no_association_and_views_have() -> None:
    films = pool_of(200, 5)
    one = replace(films, source=np.zeros(200, np.int64))
    assert ties(one, np.arange(200)) == []
    edema = films.findings[:, FINDINGS.index("Edema")]
    supine = replace(films, view=edema.astype(np.int64), names={**films.names, "view": ["PA", "AP_supine"]})
    measured = ties(supine, np.arange(200), "view", real=False)[0]
    assert (measured.question, significant(measured)) == ("Edema", True)
    assert measured.value > 0.95
    assert (Record.of(measured).key, measured.num_real, measured.num_fake) == ("tie_asked_finding_view_v", 0, 200)
    assert measured.floor < 0.2


# ------------------------------------------------------------------ the shift table


def test_the_shift_table_puts_the_planted_shift_first() -> None:
    real, fake = pool_of(600, 6), pool_of(600, 7)
    even = shift_table(real, np.arange(600), fake, np.arange(600))
    assert not any(shift.shifted for shift in even)
    assert len(even) == 4 * len(PHANTOM_FINDINGS)
    findings = fake.findings.copy()
    findings[fake.source == 2, FINDINGS.index("Mass")] = POSITIVE
    first, *others = shift_table(real, np.arange(600), replace(fake, findings=findings), np.arange(600))
    assert (first.finding, first.source, first.view) == ("Mass", SITES[2], "PA")
    assert first.shifted
    assert first.fake == 1
    assert first.difference == first.fake - first.real
    assert first.ci95[0] < first.difference <= first.ci95[1] <= 1
    assert not any(shift.shifted for shift in others)
    assert all(abs(a.difference) >= abs(b.difference) for a, b in pairwise(others))


@pytest.mark.slow
def test_intervals_of_shifts_hold_no_difference_as_often_as_they_say() -> None:
    outside = cells = 0
    for seed in range(20):
        table = shift_table(pool_of(200, 300 + seed), np.arange(200), pool_of(200, 400 + seed), np.arange(200))
        outside += sum(not shift.ci95[0] <= 0 <= shift.ci95[1] for shift in table)
        cells += len(table)
    assert 0.01 < outside / cells < 0.08


def test_ten_films_of_one_patient_are_no_cell() -> None:
    films = pool_of(60, 8)
    assert shift_table(films, np.zeros(60), films, np.arange(60)) == []
    assert shift_table(films, np.arange(60), films, np.zeros(60)) == []


# ------------------------------------------------------------------ shortcuts


@pytest.mark.usefixtures("few_rounds")
def test_a_score_that_follows_the_site_is_found_and_one_that_does_not_is_not() -> None:
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        film = rng.normal(size=50)
        scores = {site: film + 0.5 * rng.normal(size=50) for site in SITES}
        alarms += significant(shortcut("Effusion", scores, 1.0, seed))
        scores[SITES[2]] = scores[SITES[2]] + 0.6
        found = shortcut("Effusion", scores, 2.0, seed)
        assert significant(found)
        assert found.group.startswith(f"{SITES[2]} over ")
        assert 0.2 < found.value < 0.6, "in standard deviations of the score on real films"
    assert alarms <= 2


@pytest.mark.slow
def test_a_classifier_trained_on_confounded_films_takes_the_site_for_the_finding() -> None:
    """Films of the same patients at two sites: a classifier trained where effusions come from site a predicts one for a
    film from a."""

    def features(patient: int, site: str, ill: bool) -> np.ndarray:
        film = render(draw_patient(900_000 + patient, severities={"Effusion": 0.5} if ill else {}), "PA", 32, site=site)
        return film.pixels.reshape(8, 4, 8, 4).mean((1, 3)).ravel() / 64 - 2

    ill = np.arange(60) % 2 == 0
    at_a, at_b = (
        np.stack([features(i, site, bool(sick)) for i, sick in enumerate(ill)]) for site in (SITES[0], SITES[1])
    )
    trained, held = slice(0, 40), slice(40, 60)
    odd = (np.arange(60) // 2 % 2 == 0)[:, None]  # half of the ill and half of the well
    pools = {"tied": np.where(ill[:, None], at_a, at_b), "untied": np.where(odd, at_a, at_b)}
    pulls = {}
    for name, pool in pools.items():
        model = probe(pool[trained], ill[trained].astype(int))
        scores = [model.decision_function(films) for films in (at_a, at_b)]
        spread = float(np.concatenate(scores).std())
        pulls[name] = shortcut("Effusion", {SITES[0]: scores[0][held], SITES[1]: scores[1][held]}, spread)
    assert significant(pulls["tied"])
    assert pulls["tied"].group == f"{SITES[0]} over {SITES[1]}"
    assert pulls["tied"].value > 1.5
    assert pulls["untied"].value < 0.5 * pulls["tied"].value
