"""Condition vectors and the joint table."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thiscxr.labels import FINDINGS, NEGATIVE, NO_FINDING, POSITIVE
from thiscxr.model.conditions import _LEVELS, MIN_PATIENTS, Condition, Vocabulary, draw_conditions, joint_table

VOCABULARY = Vocabulary(("Effusion", "Cardiomegaly"), ("AP", "PA"), ("a", "b"))


def test_known_values_have_their_places_and_unknown_ones_are_zero() -> None:
    conditions = [
        Condition(),
        Condition("PA", "F", 75.0, "a", {"Effusion": POSITIVE}),
        Condition("AP", "M", 50.0, "b", {"Effusion": NEGATIVE, "Cardiomegaly": POSITIVE}),
    ]
    expected = [[0, 0, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 1, 0, 1, 1, 1], [-1, 1, 1, 0, 0, 1, -1, 1, 0]]
    np.testing.assert_array_equal(VOCABULARY.encode(conditions), np.array(expected, np.float32))


def test_a_factor_unknown_in_all_films_cannot_be_requested() -> None:
    bare = Vocabulary((), (), (), (), False)
    assert bare.dim == 0
    assert bare.factors == []
    assert bare.encode([Condition(), Condition()]).shape == (2, 0)
    for condition in (Condition(sex="F"), Condition(age_years=50.0), Condition(view="PA")):
        with pytest.raises(ValueError, match="learnt"):
            bare.encode([condition])
    assert Vocabulary.from_json(bare.to_json()) == bare
    assert Vocabulary.from_json(VOCABULARY.to_json()) == VOCABULARY


def test_states_that_are_not_yes_or_no_are_unknown_alike() -> None:
    vectors = VOCABULARY.encode([Condition(findings={"Effusion": state}) for state in (-1, -2, -3)])
    assert not vectors.any()


def test_factors_cover_the_vector_once() -> None:
    covered = np.zeros(VOCABULARY.dim, int)
    for part in VOCABULARY.factors:
        covered[part] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (
            Condition(findings={"Efusion": POSITIVE}),
            "finding 'Efusion' was not learnt by this network (did you mean 'Effusion'?)",
        ),
        (Condition(view="lateral"), "view 'lateral' was not learnt by this network; it knows: AP, PA"),
        (Condition(source="nih"), "source 'nih' was not learnt by this network; it knows: a, b"),
        (Condition(sex="X"), "sex 'X' was not learnt by this network; it knows: F, M"),
    ],
)
def test_what_was_never_learnt_is_refused_by_name(condition: Condition, message: str) -> None:
    with pytest.raises(ValueError) as error:
        VOCABULARY.encode([condition])
    assert message in str(error.value)


WIDE = Vocabulary(("Effusion", "Cardiomegaly"), ("AP", "PA"), ("a",))


def one_by_one(conditions: list[Condition], patients: list[int]) -> list[dict]:
    """The joint table as it is defined, film by film."""
    rows, left = [], list(range(len(conditions)))
    films_with = Counter(name for condition in conditions for name in condition.present)
    for level in _LEVELS:
        groups = defaultdict(list)
        for i in left:
            c = conditions[i]
            age = None if c.age_years is None else int(c.age_years // 10 * 10)
            rarest = sorted(c.present, key=lambda name: (films_with[name], -FINDINGS.index(name)))[:1]
            none = [name for name in c.absent if name == NO_FINDING]
            parts = {"view": c.view, "source": c.source, "sex": c.sex, "age_bin": age}
            parts |= {"findings": (tuple(c.present), tuple(c.absent)), "finding": (tuple(rarest), tuple(none))}
            groups[tuple(parts[name] for name in level)].append(i)
        left = []
        for key, members in sorted(groups.items(), key=lambda item: repr(item[0])):
            if len({patients[i] for i in members}) < MIN_PATIENTS:
                left += members
                continue
            known = dict(zip(level, key, strict=True))
            present, absent = known.pop("findings", None) or known.pop("finding", ((), ()))
            row = {"view": None, "sex": None, "age_bin": None, "source": None, **known}
            rows.append({**row, "present": list(present), "absent": list(absent), "films": len(members)})
    return rows


people = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.builds(
            Condition,
            view=st.sampled_from([None, "PA", "AP"]),
            sex=st.sampled_from([None, "F", "M"]),
            age_years=st.one_of(st.none(), st.floats(0, 100)),
            source=st.just("a"),
            findings=st.dictionaries(
                st.sampled_from(["Effusion", "Cardiomegaly"]), st.sampled_from([POSITIVE, NEGATIVE])
            ),
        ),
    ),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(people)
def test_every_row_of_the_joint_table_stands_for_enough_patients(
    film_conditions, films: list[tuple[int, Condition]]
) -> None:
    patients, conditions = np.array([p for p, _ in films], np.int64), [c for _, c in films]
    table = joint_table(film_conditions(conditions), patients, WIDE)
    assert table == one_by_one(conditions, patients.tolist())
    left_out = len(films) - sum(
        row["films"] for row in joint_table(film_conditions(conditions), np.arange(len(films)), WIDE)
    )
    assert 0 <= left_out < MIN_PATIENTS, "only what too few patients share in every respect may be left out"
    for row in table:
        assert row["films"] >= MIN_PATIENTS
        matching = set()
        for patient, condition in films:
            same = all(row[name] is None or row[name] == getattr(condition, name) for name in ("view", "sex", "source"))
            in_bin = row["age_bin"] is None or (
                condition.age_years is not None and condition.age_years // 10 * 10 == row["age_bin"]
            )
            if (
                same
                and in_bin
                and {*row["present"]} <= {*condition.present}
                and {*row["absent"]} <= {*condition.absent}
            ):
                matching.add(patient)
        assert len(matching) >= MIN_PATIENTS


@settings(max_examples=100, deadline=None)
@given(people)
def test_columns_encode_as_single_conditions_do(film_conditions, films: list[tuple[int, Condition]]) -> None:
    conditions = [c for _, c in films]
    np.testing.assert_array_equal(film_conditions(conditions).encode(WIDE), WIDE.encode(conditions))
    assert film_conditions(conditions).encode(Vocabulary((), (), (), (), False)).shape == (len(films), 0)


def test_without_a_vocabulary_the_table_requests_nothing(film_conditions) -> None:
    films = [Condition("PA", "F", 44.0, "a", {"Effusion": POSITIVE})] * 3 + [Condition("AP", "M", 61.0, "b")] * 4
    (row,) = joint_table(film_conditions(films), np.arange(7), Vocabulary((), (), (), (), False))
    assert row == {"view": None, "sex": None, "age_bin": None, "source": None, "present": [], "absent": [], "films": 7}


def test_draws_follow_the_table(film_conditions) -> None:
    films = [Condition("PA", "F", 44.0, "a", {"Effusion": POSITIVE})] * 30 + [
        Condition("AP", "M", 61.0, "a", {"Effusion": NEGATIVE})
    ] * 10
    table = joint_table(film_conditions(films), np.arange(40), WIDE)
    rng = np.random.default_rng(0)
    drawn = draw_conditions(table, rng.random((2000, 2)))
    views = Counter(condition.view for condition in drawn)
    assert views["PA"] / 2000 == pytest.approx(0.75, abs=0.04)
    assert {condition.age_years for condition in drawn if condition.view == "PA"} == set(range(40, 50))
    assert all(condition.present == (["Effusion"] if condition.view == "PA" else []) for condition in drawn)


def test_of_findings_that_few_have_together_the_rarest_is_kept(film_conditions) -> None:
    """Left unknown, they would leave a table in which nearly every film with a word on findings has none."""
    names = (NO_FINDING, "Effusion", "Infiltration", "Mass")
    films = []
    for present, count in (
        ((NO_FINDING,), 20),
        (("Effusion",), 8),
        (("Infiltration",), 8),
        (("Effusion", "Mass"), 3),
        (("Infiltration", "Mass"), 3),
    ):
        films += [Condition("PA", findings={name: POSITIVE if name in present else NEGATIVE for name in names})] * count
    table = joint_table(film_conditions(films), np.arange(len(films)), Vocabulary(names, ("PA",), ()))
    assert {tuple(row["present"]): row["films"] for row in table} == {
        (NO_FINDING,): 20,
        ("Effusion",): 8,
        ("Infiltration",): 8,
        ("Mass",): 6,
    }
    (kept,) = (row for row in table if row["present"] == ["Mass"])
    assert kept["absent"] == [NO_FINDING]  # whether Effusion or Infiltration is there is unknown


def test_a_table_of_too_few_patients_requests_nothing(film_conditions) -> None:
    table = joint_table(film_conditions([Condition("PA")] * 8), np.zeros(8, np.int64), WIDE)
    assert table == []
    assert draw_conditions(table, np.array([[0.5, 0.5]])) == [Condition()]


def test_requested_conditions_override_drawn_ones() -> None:
    healthy = Condition("PA", "F", 40.0, "nih", {"No Finding": 1, "Effusion": 0, "Mass": 0})
    ill = Condition(findings={"Effusion": 1}).over(healthy)
    assert ill == Condition("PA", "F", 40.0, "nih", {"No Finding": 0, "Effusion": 1, "Mass": 0})
    assert Condition(findings={"Effusion": 0}).over(ill) == healthy
    both = Condition(findings={"Mass": 1}).over(ill)
    assert Condition(findings={"Effusion": 0}).over(both).findings["No Finding"] == 0, "the mass is left"
    assert Condition(findings={"No Finding": 1}).over(both).present == ["No Finding"], (
        "requests override what was drawn"
    )
    wired = Condition(findings={"No Finding": 1, "Support_Devices": 1})
    assert Condition(sex="M").over(wired) == Condition(sex="M", findings=wired.findings), (
        "devices may be in a film without findings"
    )
    assert Condition(findings={"Effusion": 1}).over(Condition()) == Condition(findings={"Effusion": 1}), (
        "what is unknown stays so"
    )
    assert Condition(age_years=0.0).over(healthy).age_years == 0, "nought is an age"
    assert Condition().over(healthy) == healthy
