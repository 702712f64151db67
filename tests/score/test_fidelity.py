"""Condition fidelity: films that follow the request, films that do not, and classifiers that cannot answer."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from thiscxr.labels import FINDINGS, NEGATIVE, POSITIVE, UNCERTAIN
from thiscxr.model.conditions import Condition, FilmConditions
from thiscxr.pool import Pool
from thiscxr.reader.answers import questions_of, read_answers
from thiscxr.reader.network import Reader, ReaderConfig
from thiscxr.score.fidelity import Fidelity, fidelity, predicted_findings
from thiscxr.score.records import Record

QUESTIONS = ("Effusion", "Mass", "view AP", "view PA", "sex", "age")
Seen = dict[str, np.ndarray]


def conditions(count: int, seed: int) -> FilmConditions:
    rng = np.random.default_rng(seed)
    return FilmConditions.of(
        [
            Condition(
                ("AP", "PA")[rng.integers(2)],
                "MF"[rng.integers(2)],
                float(rng.integers(20, 90)),
                "discs",
                {"Effusion": int(rng.random() < 0.4), "Mass": int(rng.random() < 0.4)},
            )
            for _ in range(count)
        ]
    )


def look(films: FilmConditions, seed: int, signal: float = 2.0) -> Seen:
    """Predictions of a classifier that is good at everything but masses."""
    rng = np.random.default_rng(1000 + seed)
    truth = questions_of(films, QUESTIONS)
    predicted = {
        name: signal * truth[name] * (name != "Mass") + rng.normal(size=len(films))
        for name in QUESTIONS
        if name != "age"
    }
    return predicted | {"age": truth["age"] * (signal > 0) + 55 * (signal <= 0) + 8 * rng.normal(size=len(films))}


def evaluate(requested: FilmConditions, predicted: Seen) -> dict[tuple[str, str], Fidelity]:
    real = conditions(300, 0)
    found = fidelity(real, look(real, 0), np.repeat(np.arange(150), 2), requested, predicted, np.arange(len(requested)))
    return {(each.question, each.statistic): each for each in found}


def followed(each: Fidelity) -> bool:
    """Whether the films agree with the requested condition beyond chance."""
    return each.value < each.null95[0] if each.statistic == "mae" else each.value > each.null95[1]


def test_films_that_follow_come_near_the_ceiling() -> None:
    requested = conditions(300, 1)
    found = evaluate(requested, look(requested, 1))
    assert set(found) == {*((name, "auc") for name in QUESTIONS[:-1]), ("age", "r"), ("age", "mae")}
    for key, each in found.items():
        if key[0] == "Mass":
            continue
        assert not each.reason, each
        assert followed(each), each
        assert each.ci95[0] <= each.value <= each.ci95[1]
        assert each.ceiling95[0] <= each.floor <= each.ceiling95[1]
        assert each.ci95[0] - 0.02 <= each.floor <= each.ci95[1] + 0.9 * (key[1] == "mae") + 0.02, each
    assert found["Effusion", "auc"].value == pytest.approx(0.921, abs=0.04), "Φ(2 / √2)"
    assert found["age", "mae"].value == pytest.approx(8 * np.sqrt(2 / np.pi), rel=0.15)
    assert found["age", "mae"].null95[0] > 15


def test_a_finding_that_the_classifier_cannot_predict_is_not_evaluated() -> None:
    requested = conditions(200, 1)
    mass = evaluate(requested, look(requested, 1))["Mass", "auc"]
    assert mass.reason
    assert np.isnan(mass.value)
    assert mass.reason == f"AUC {mass.floor:.3f} [{mass.ceiling95[0]:.3f}, {mass.ceiling95[1]:.3f}] on real patients"
    assert not followed(mass)


def test_predicted_findings_are_those_that_the_classifier_can_predict() -> None:
    real, requested = conditions(600, 0), conditions(2000, 1)
    sides = look(real, 0), look(requested, 1)
    found = fidelity(real, sides[0], np.arange(600), requested, sides[1], np.arange(2000))
    predicted = predicted_findings(found, real, *sides)
    # views and sex are no findings, masses are beyond this classifier
    assert {name for names in predicted for name in names} == {"Effusion"}
    shows = np.array([bool(names) for names in predicted])
    has = questions_of(requested, ["Effusion"])["Effusion"] == 1
    assert shows[~has].mean() == pytest.approx(0.1, abs=0.04)  # as on real films without it
    assert shows[has].mean() == pytest.approx(0.764, abs=0.06), "1 - Φ(1.2816 - 2)"


def test_films_that_ignore_the_request_lie_within_the_null() -> None:
    requested = conditions(300, 2)
    evaluated = [each for each in evaluate(requested, look(requested, 2, signal=0.0)).values() if not each.reason]
    assert evaluated
    assert not any(map(followed, evaluated))


def test_shuffled_conditions_are_the_null() -> None:
    requested = conditions(300, 3)
    predicted = look(requested, 3)
    beyond = sum(
        followed(each)
        for seed in range(3)
        for each in evaluate(requested.take(np.random.default_rng(seed).permutation(300)), predicted).values()
        if not each.reason
    )
    assert beyond <= 3, "18 shuffled questions at one tail of 2.5 %"


def test_swapping_labels_lowers_fidelity_step_by_step_to_the_null_and_below() -> None:
    requested = conditions(300, 4)
    predicted, column = look(requested, 4), FINDINGS.index("Effusion")
    values = []
    for share in (0.0, 0.25, 0.5, 1.0):
        swap = np.random.default_rng(0).random(300) < share
        findings = requested.findings.copy()
        findings[swap, column] = 1 - findings[swap, column]
        each = evaluate(replace(requested, findings=findings), predicted)["Effusion", "auc"]
        values.append(each.value)
        assert followed(each) == (share < 0.4)
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(1 - values[0])


def test_only_requested_conditions_count() -> None:
    requested = conditions(200, 5)
    findings = requested.findings.copy()
    findings[:100, FINDINGS.index("Effusion")] = UNCERTAIN
    findings[:, FINDINGS.index("Mass")] = UNCERTAIN
    ages = np.where(np.arange(200) < 150, np.nan, requested.age_years)
    found = evaluate(replace(requested, findings=findings, age_years=ages), look(requested, 5))
    assert found["Effusion", "auc"].num_fake == 100
    assert found["age", "r"].num_fake == 50
    few = replace(requested, sex=np.where(np.arange(200) < 3, requested.sex, 0))
    sex = evaluate(few, look(requested, 5))["sex", "auc"]
    assert sex.reason.endswith("synthetic films have the rarer answer; 10 of either answer are needed")
    same_age = evaluate(replace(requested, age_years=np.full(200, 50.0)), look(requested, 5))["age", "r"]
    assert same_age.reason.startswith("0 synthetic films")


def test_numbers_and_lines() -> None:
    requested = conditions(200, 1)
    found = evaluate(requested, look(requested, 1))
    measured = found["view PA", "auc"]
    record = Record.of(replace(measured, extractor="thiscxr64"))
    assert (record.key, record.floor, record.num_real, record.num_fake) == (
        "fidelity_thiscxr64_view_PA_auc", round(measured.floor, 6), 300, 200,
    )  # fmt: skip
    assert str(found["Mass", "auc"]).startswith("Mass: not evaluated: AUC 0.")


def test_no_films_are_refused() -> None:
    with pytest.raises(ValueError, match="there are no films to read"):
        read_answers(Reader(ReaderConfig((), (), (), 32, (8, 8))).eval(), [])


def test_a_classifier_answers_by_name(pool: Pool) -> None:
    torch.manual_seed(0)
    reader = Reader(ReaderConfig(("Effusion",), ("AP", "PA", "lateral"), ("discs",), 32, (8, 8))).eval()
    indices = pool.indices("holdout")
    answers = read_answers(reader, [pool.read(indices[:5]), pool.read(indices[5:])])
    assert set(answers) == {"Effusion", "view AP", "view PA", "view lateral", "sex", "age"}
    assert all(len(values) == len(indices) for values in answers.values())
    odds = np.stack([answers[f"view {name}"] for name in ("AP", "PA", "lateral")])
    np.testing.assert_allclose((1 / (1 + np.exp(-odds))).sum(axis=0), 1, atol=1e-5)
    one = read_answers(reader, [pool.read(indices[:1])])
    np.testing.assert_allclose(one["age"], answers["age"][:1], rtol=1e-4)


def test_truth_by_question(film_conditions: Callable[[list[Condition]], FilmConditions]) -> None:
    films = film_conditions(
        [
            Condition("PA", "F", 30.0, None, {"Mass": POSITIVE}),
            Condition("AP", "M", None, None, {"Mass": NEGATIVE}),
            Condition(),
        ]
    )
    truth = questions_of(films, [*QUESTIONS, "view lateral"])
    expected = {
        "Effusion": [np.nan] * 3, "Mass": [1, 0, np.nan], "view AP": [0, 1, np.nan], "view PA": [1, 0, np.nan],
        "sex": [1, 0, np.nan], "age": [30, np.nan, np.nan], "view lateral": [0, 0, np.nan],
    }  # fmt: skip
    for name, values in expected.items():
        np.testing.assert_array_equal(truth[name], values, err_msg=name)
