"""Features that identify patients are distinguished from features that do not, and without several films a patient
nothing is claimed."""

import numpy as np
import pytest

from thiscxr.score.records import Record
from thiscxr.score.reidentification import LEAST_PATIENTS, reidentification


@pytest.fixture
def people() -> tuple[np.ndarray, np.ndarray]:
    """Features of three films each of 150 patients, similar within a patient, and the patients."""
    rng = np.random.default_rng(0)
    own = rng.standard_normal((150, 1, 16))
    return (own + 0.5 * rng.standard_normal((150, 3, 16))).reshape(-1, 16), np.repeat(np.arange(150), 3)


def test_patients_are_distinguished_from_unrelated_ones(people: tuple[np.ndarray, np.ndarray]) -> None:
    features, patients = people
    rng = np.random.default_rng(1)
    unrelated = np.sqrt(1.25) * rng.standard_normal((300, 16))
    area, rank1, match = reidentification(features, patients, unrelated, "x")
    assert tuple(Record.of(each).key for each in (area, rank1, match)) == (
        "reid_auc_x",
        "reid_rank1_x",
        "reid_match_rate_x",
    )
    assert area.ci95[0] > 0.95
    assert match.ci95[0] <= 0.03
    assert rank1.floor == pytest.approx(2 / 449)
    assert rank1.ci95[0] > 0.5
    assert reidentification(features, patients, features[:50] + 0.01, "x")[2].value > 0.9
    noise, guessed, _ = reidentification(rng.standard_normal((450, 16)), patients, unrelated, "x")
    assert noise.ci95[0] < 0.5 < noise.ci95[1]
    assert guessed.ci95[0] <= guessed.floor <= guessed.ci95[1]


def test_rank_1_is_brute_force(people: tuple[np.ndarray, np.ndarray]) -> None:
    features, patients = people[0][:100], np.append(people[1][:99], 999)  # one patient with a single film
    unit = features - features.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -2)
    right = patients[likeness.argmax(axis=1)] == patients
    rank1 = reidentification(features, patients, features, "x")[1]
    assert rank1.value == pytest.approx(right[:99].mean())
    assert rank1.num_real == 99


def test_too_few_patients_with_several_films_give_no_number(people: tuple[np.ndarray, np.ndarray]) -> None:
    features, patients = people
    few = np.where(patients < LEAST_PATIENTS - 1, patients, 1000 + np.arange(len(patients)))
    found = reidentification(features, few, features, "x")
    assert [(Record.of(each).key, each.num_real) for each in found] == [
        ("reid_auc_x", LEAST_PATIENTS - 1),
        ("reid_rank1_x", LEAST_PATIENTS - 1),
    ]
    assert all(each.value is None and each.ci95 is None and each.floor is None for each in found)
    enough = slice(3 * LEAST_PATIENTS)
    assert reidentification(features[enough], patients[enough], features, "x")[0].value is not None
