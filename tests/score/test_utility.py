"""Utility: arms of the right films, a useful synthetic set that gains, and useless ones that do not."""

from dataclasses import replace
from itertools import count as count_up

import numpy as np
import pytest

from tests.conftest import blob
from thiscxr.labels import FINDINGS
from thiscxr.model.conditions import Condition, FilmConditions
from thiscxr.phantom import SITES, draw_patient, render
from thiscxr.pool import Pool
from thiscxr.score.fakes import FakeFilms
from thiscxr.score.records import Record
from thiscxr.score.utility import (
    BOTH,
    DUPLICATES,
    REAL,
    REAL_AS_MANY,
    SYNTHETIC,
    LabelledFilms,
    Utility,
    matched,
    pool_utility,
    shrink,
    utility,
)
from thiscxr.train.conditions import learnable_vocabulary

SMALL = (8, 16, 24)


def discs(count: int, seed: int, share: float = 0.5) -> LabelledFilms:
    """Films of 32 px whose Effusion is plain to see; view, sex and age are drawn."""
    rng = np.random.default_rng(seed)
    effusion = rng.random(count) < share
    requested = [
        Condition(("AP", "PA")[rng.integers(2)], "MF"[rng.integers(2)], 50.0, "discs", {"Effusion": int(e)})
        for e in effusion
    ]
    pixels = np.stack([blob(1000 * seed + i, 32, e) for i, e in enumerate(effusion)])
    return LabelledFilms(pixels, FilmConditions.of(requested), np.arange(count) + 10_000 * seed)


def test_each_arm_has_its_films_and_as_many_as_its_control() -> None:
    train, test, fake = discs(100, 1), discs(60, 2), discs(150, 3)
    found = utility(train, test, fake, steps=3, seeds=2, widths=SMALL)
    assert found.films == {REAL: 100, BOTH: 200, DUPLICATES: 200, SYNTHETIC: 100}, (
        "of 150 synthetic films as many as real ones"
    )
    assert {(gain.arm, gain.control) for gain in found.gains} == {
        (BOTH, DUPLICATES),
        (BOTH, REAL),
        (DUPLICATES, REAL),
        (SYNTHETIC, REAL),
    }
    assert {gain.question for gain in found.gains} == {
        "Effusion",
        "view AP",
        "view PA",
        "sex",
        "mean of findings",
        "mean of rare findings",
    }
    assert (
        Record.of(found.measured()[0]).key
        == "utility_32px_3steps_2seeds_real_and_synthetic_over_real_and_duplicates_Effusion"
    )
    assert str(found).startswith("mean of findings: real + synthetic AUC ")
    again = utility(train, test, fake, steps=3, seeds=2, widths=SMALL)
    assert again.gains == found.gains
    fewer = utility(train, test, fake.take(np.arange(70)), steps=3, seeds=2, widths=SMALL)
    assert fewer.films == {REAL: 100, BOTH: 170, DUPLICATES: 170, SYNTHETIC: 70, REAL_AS_MANY: 70}
    assert fewer.of(SYNTHETIC, REAL_AS_MANY)
    assert not fewer.of(SYNTHETIC, REAL)


def test_duplicates_have_the_requested_labels() -> None:
    real, fake = discs(200, 1, share=0.06).conditions, discs(120, 2, share=0.5).conditions
    rows = matched(real, fake, learnable_vocabulary(real, np.arange(200)), seed=0)
    column = FINDINGS.index("Effusion")
    np.testing.assert_array_equal(real.findings[rows, column], fake.findings[:, column])
    same = [(real.names["sex"][a], real.names["view"][b]) for a, b in zip(real.sex[rows], real.view[rows], strict=True)]
    requested = [(fake.names["sex"][a], fake.names["view"][b]) for a, b in zip(fake.sex, fake.view, strict=True)]
    negative = fake.findings[:, column] == 0
    assert [s for s, n in zip(same, negative, strict=True) if n] == [
        a for a, n in zip(requested, negative, strict=True) if n
    ]
    assert len(np.unique(rows[negative])) > 40, "ties are drawn, not always the first"


def test_films_are_averaged_down() -> None:
    films = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8)
    assert shrink(films, 4)[0, 0, 0] == round((0 + 1 + 8 + 9) / 4)
    np.testing.assert_array_equal(shrink(films, 8), films)
    np.testing.assert_array_equal(shrink(films.astype(np.uint16) * 257, 8), films)


def as_fakes(films: LabelledFilms, requested: list[Condition]) -> FakeFilms:
    return FakeFilms(films.pixels, requested, ["f"] * len(films), 1.0, "", None, None, {})


def test_a_pool_and_its_synthetic_films(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = discs(64, 7)
    requested = [
        Condition(findings={"Effusion": int(state)})
        for state in fake.conditions.findings[:, FINDINGS.index("Effusion")]
    ]
    found = pool_utility(pool, as_fakes(fake, requested), steps=12, seeds=2)
    assert set(found.left_out) == {"view AP", "view PA", "sex"}
    assert found.left_out["sex"] == "requested of 0 synthetic films; at least 5 are needed"
    assert found.of(BOTH, DUPLICATES)[0].auc > 0.9
    assert found.films[REAL] == 64
    assert "sex: not tested: requested of 0" in str(found)
    with pytest.raises(ValueError, match="the requested conditions of these films are unknown"):
        pool_utility(pool, as_fakes(fake, [Condition()] * 64))
    monkeypatch.setattr(pool, "indices", lambda split: np.arange(240 if split == "train" else 0))
    with pytest.raises(ValueError, match="has no held-out patients to test classifiers on"):
        pool_utility(pool, as_fakes(fake, requested))
    monkeypatch.setattr(pool, "indices", lambda split: np.arange(240 if split == "holdout" else 0))
    with pytest.raises(ValueError, match="has no training films to train classifiers on"):
        pool_utility(pool, as_fakes(fake, requested))


def test_mistakes_are_refused_before_a_classifier_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thiscxr.score.utility.fit", lambda *_, **__: pytest.fail("a classifier was trained"))
    train, test, fake = discs(100, 1), discs(60, 2), discs(100, 3)
    few = test.take(np.flatnonzero(test.conditions.findings[:, FINDINGS.index("Effusion")] == 0))
    few = replace(few, conditions=FilmConditions.of([Condition(findings={"Effusion": 0})] * len(few)))
    for arms, message in (
        (
            (train.take(np.arange(20)), test, fake),
            "utility: real: 20 training films; at least one step of 64 is needed",
        ),
        ((train, test, fake.take(np.arange(20))), "utility: synthetic: 20 training films; at least one step of 64"),
        ((train, few, fake), r"no question can be tested; Effusion: 0 held-out patients with and \d+ without it"),
    ):
        with pytest.raises(ValueError, match=message):
            utility(*arms, steps=2, seeds=2, widths=SMALL)


def phantoms(count: int, seed: int, share: float, sides: tuple[str, ...] = ("left", "right")) -> LabelledFilms:
    """Phantom films of 32 px, with Effusion in a share of them, on one of these sides."""
    rng = np.random.default_rng(seed)
    films, requested = [], []
    for i in range(count):
        effusion = rng.random() < share
        severities = {"Effusion": float(rng.uniform(0.2, 0.6))} if effusion else {}
        patients = (draw_patient(100_000 * seed + i + 1000 * k, severities=severities) for k in count_up())
        patient = next(one for one in patients if not effusion or one.sides["Effusion"] in sides)
        films.append(render(patient, "PA", 32, site=SITES[0]).pixels)
        requested.append(Condition("PA", patient.sex, float(patient.age_years), "phantom", {"Effusion": int(effusion)}))
    return LabelledFilms(np.stack(films), FilmConditions.of(requested), np.arange(count) + 100_000 * seed)


@pytest.fixture(scope="module")
def planted() -> tuple[LabelledFilms, LabelledFilms, LabelledFilms]:
    """Real films of which 3 % show an Effusion, all on one side, held-out films, and fresh phantoms of which half do,
    on either side."""
    return phantoms(300, 1, 0.03, ("left",)), phantoms(300, 2, 0.3), phantoms(300, 3, 0.5)


def trained(train: LabelledFilms, test: LabelledFilms, fake: LabelledFilms) -> Utility:
    return utility(train, test, fake, steps=160, seeds=3, widths=(12, 24, 48))


@pytest.mark.slow
def test_fresh_films_of_a_rare_finding_gain_over_duplicates(
    planted: tuple[LabelledFilms, LabelledFilms, LabelledFilms],
) -> None:
    found = trained(*planted)
    assert found.rare == ("Effusion",)
    gain = next(each for each in found.of(BOTH, DUPLICATES) if each.question == "Effusion")
    assert gain.verdict == "gain", str(gain)
    assert gain.value > 0.03, str(gain)


@pytest.mark.slow
def test_duplicates_and_films_with_random_labels_gain_nothing(
    planted: tuple[LabelledFilms, LabelledFilms, LabelledFilms],
) -> None:
    train, test, fake = planted
    copies = train.take(
        matched(train.conditions, fake.conditions, learnable_vocabulary(train.conditions, train.patients), seed=9)
    )
    at_random = replace(fake, conditions=fake.conditions.take(np.random.default_rng(0).permutation(len(fake))))
    for useless in (copies, at_random):
        found = trained(train, test, useless)
        gain = next(each for each in found.of(BOTH, DUPLICATES) if each.question == "Effusion")
        assert gain.verdict != "gain", str(gain)
