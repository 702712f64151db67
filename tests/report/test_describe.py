"""Facts of a pool: every count is that of a plain loop."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.conftest import facts_of, film
from thiscxr.labels import FINDINGS, SEXES, STATES, VIEWS, FilmRecord
from thiscxr.pool import Pool
from thiscxr.report import pool as describe
from thiscxr.report.pool import facts as describe_facts
from thiscxr.report.pool.text import describe_text


def test_a_pool_is_counted(two: Path) -> None:
    facts = describe.describe_pool(two)
    here = facts["sources"]["here"]
    kept = here["kept"]
    assert (kept["films"], kept["patients"], kept["studies"]) == (144, 72, 144)
    assert kept["views"] == {"PA": 72, "AP": 72}
    assert kept["sexes"] == {"M": 72, "F": 72}
    assert kept["findings"]["Effusion"] == {
        "positive": 72,
        "negative": 72,
        "uncertain": 0,
        "not_mentioned": 0,
        "not_annotated": 0,
    }
    assert kept["findings"]["Edema"]["not_mentioned"] == kept["findings"]["Hernia"]["not_annotated"] == 144
    assert list(kept["findings"]) == list(FINDINGS)
    assert kept["ages"] == {**dict.fromkeys(describe_facts.DECADES[:9], 16), "90-99": 0, "100+": 0, "unknown": 0}
    assert kept["ages_by_sex"]["F"]["0-9"] == 8
    assert (kept["median_age"], kept["films_per_patient"]["median"], kept["films_per_patient"]["max"]) == (40, 2, 2)
    assert kept["films_per_patient"]["patients"]["2"] == 72
    assert kept["labelers"] == {"reader": 144}
    assert Counter(Pool.open(two).column("split").tolist()) == Counter(
        {
            name: kept["splits"][name] + facts["sources"]["there"]["kept"]["splits"][name]
            for name in ("train", "holdout")
        }
    )
    assert here["co_occurrence"]["Effusion"] == {"Mass": [36, 72], "Edema": [0, 72]}
    assert here["co_occurrence"]["Mass"] == {"Effusion": [36, 36], "Edema": [0, 36]}
    assert here["views_by_finding"]["Effusion"] == {"positive": {"PA": 36, "AP": 36}, "negative": {"PA": 36, "AP": 36}}
    native = here["native"]
    assert native["width"] == {"min": 3000, "median": 3000, "max": 3000}
    assert (native["cells"], native["bits"], native["square"], native["inverted"]) == (
        [[3000, 2500, 144]],
        {"12": 144},
        0,
        1,
    )
    assert (here["intensity"]["films"], here["intensity"]["of"], here["intensity"]["refused"]) == (144, 144, {})
    assert sum(here["intensity"]["histogram"]) == pytest.approx(1, abs=1e-4)
    assert json.loads(json.dumps(facts)) == facts
    assert "duplicates" not in facts
    assert facts["warnings"] == []


def test_duplicates_are_counted_when_somebody_looked_for_them(two: Path, tmp_path: Path) -> None:
    pool = shutil.copytree(two, tmp_path / "pool")
    (pool / "duplicates.csv").write_text("film_id,group,kind,correlation\n")
    assert describe.describe_pool(pool)["duplicates"] == {
        "groups": 0, "films": 0, "kinds": {}, "across_splits": 0, "across_patients": 0, "across_sources": 0,
    }  # fmt: skip
    opened = Pool.open(pool)
    ids, split = opened.column("film_id"), opened.column("split")
    holdout = int(np.flatnonzero(split == "holdout")[0])
    train = int(np.flatnonzero((split == "train") & (np.arange(288) >= 144))[0])
    same = next(place for place in range(0, 288, 2) if place not in (holdout, train))
    rows = [(holdout, 0, "near"), (train, 0, "near"), (same, 1, "exact"), (same + 1, 1, "exact")]
    with open(pool / "duplicates.csv", "a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            (ids[place], group, kind, "1.0000") for place, group, kind in rows
        )
    facts = describe.describe_pool(pool)
    across_sources = int(holdout < 144)
    assert facts["duplicates"] == {
        "groups": 2, "films": 4, "kinds": {"exact": 2, "near": 2},
        "across_splits": 1, "across_patients": 1, "across_sources": across_sources,
    }  # fmt: skip
    assert facts["warnings"] == [
        "1 groups of duplicate films lie in both splits, so the holdout contains training films"
    ]
    assert "duplicates: 2 groups (2 exact, 2 near films); 1 across patients" in describe_text(facts)
    (pool / "duplicates.csv").write_text("film,group\n")
    with pytest.raises(ValueError, match=r"duplicates.csv has no column 'film_id'; prepare the pool again"):
        describe.describe_pool(pool)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("films.parquet", None, "films.parquet is damaged"),
        ("rejected.csv", b"film_id,why\n", "rejected.csv has no column 'reason'"),
        ("rejected.csv", b"film_id,reason\n\xff\xfe,x\n", "rejected.csv is not a comma-separated table in UTF-8"),
    ],
)
def test_a_damaged_pool_gets_one_line(two: Path, tmp_path: Path, name: str, data: bytes | None, message: str) -> None:
    pool = shutil.copytree(two, tmp_path / "pool")
    whole = (pool / name).read_bytes()
    (pool / name).write_bytes(
        whole[: len(whole) // 4] + bytes(len(whole) // 4) + whole[len(whole) // 2 :] if data is None else data
    )
    with pytest.raises(ValueError, match=message) as caught:
        describe.describe_pool(pool)
    assert "\n" not in str(caught.value)


def test_pool_json_without_what_is_needed_gets_one_line(two: Path, tmp_path: Path) -> None:
    pool = shutil.copytree(two, tmp_path / "pool")
    meta = json.loads((pool / "pool.json").read_text())
    del meta["options"]
    (pool / "pool.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"pool.json lacks what a pool needs \('options'\); prepare it again"):
        describe.describe_pool(pool)


STATE = st.sampled_from(sorted(STATES))
RECORD = st.builds(
    FilmRecord,
    film=st.text(max_size=3),
    file=st.just(""),
    patient=st.sampled_from("abcd"),
    study=st.sampled_from("uvwxyz"),
    view=st.sampled_from(VIEWS),
    sex=st.sampled_from(SEXES),
    age_years=st.none() | st.floats(0, 120),
    findings=st.none() | st.dictionaries(st.sampled_from(FINDINGS), STATE),
    split=st.sampled_from([None, "train", "holdout"]),
    labeler=st.sampled_from(["", "a", "b"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORD, max_size=30))
def test_counts_are_those_of_a_plain_loop(films: list[FilmRecord]) -> None:
    table = describe_facts.film_table("x", films)
    facts = describe_facts.part_facts(table)
    states = [film.states() for film in films]
    assert describe_facts.state_matrix(table).tolist() == [list(row) for row in states]
    assert facts["films"] == len(films)
    assert facts["patients"] == len({film.patient for film in films})
    assert facts["studies"] == len({film.study for film in films})
    assert facts["views"] == Counter(film.view for film in films)
    assert facts["sexes"] == Counter(film.sex for film in films)
    assert facts["labelers"] == Counter(film.labeler for film in films if film.labeler)
    assert sum(facts["ages"].values()) == sum(facts["splits"].values()) == len(films)
    assert facts["ages"]["unknown"] == sum(film.age_years is None for film in films)
    assert facts["ages"]["100+"] == sum((film.age_years or 0) >= 100 for film in films)
    assert Counter(facts["ages"]) == sum((Counter(counts) for counts in facts["ages_by_sex"].values()), Counter())
    assert sum(facts["films_per_patient"]["patients"].values()) == facts["patients"]
    for column, name in enumerate(FINDINGS):
        assert facts["findings"][name] == {
            word: sum(row[column] == state for row in states) for state, word in STATES.items()
        }
    pairs = describe_facts.co_occurrence(table)
    for row, given_name in enumerate(FINDINGS):
        positive = [state for state in states if state[row] == 1]
        expected = {
            name: [sum(state[column] == 1 for state in positive), sum(state[column] != -3 for state in positive)]
            for column, name in enumerate(FINDINGS)
            if column != row and any(state[column] != -3 for state in positive)
        }
        assert pairs.get(given_name, {}) == expected
    for name, sides in describe_facts.views_by_finding(table).items():
        for word, state in (("positive", 1), ("negative", 0)):
            assert sides[word] == Counter(film.view for film in films if film.states()[FINDINGS.index(name)] == state)


def test_a_hundred_thousand_films_take_no_time() -> None:
    films = [
        film(number, findings={name: (number + place) % 5 - 3 for place, name in enumerate(FINDINGS)})
        for number in range(100_000)
    ]
    table = describe_facts.film_table("x", films)
    kept = describe_facts.part_facts(table)
    assert kept["patients"] == 50_000
    assert {sum(states.values()) for states in kept["findings"].values()} == {100_000}
    assert sum(states["positive"] for states in kept["findings"].values()) == 420_000


def test_samples_are_spread_evenly_and_the_same_for_everybody() -> None:
    assert describe_facts.evenly(0, 5).tolist() == []
    assert describe_facts.evenly(3, 5).tolist() == [0, 1, 2]
    assert describe_facts.evenly(1, 5).tolist() == [0]
    assert describe_facts.evenly(101, 5).tolist() == [0, 25, 50, 75, 100]
    assert len(describe_facts.evenly(1_000_000, 2000)) == 2000


def test_levels_are_those_of_the_full_scale_at_any_depth() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert describe_facts.film_levels(ramp).tolist() == [4] * 64
    assert describe_facts.film_levels(ramp.astype(np.uint16) * 257).tolist() == [4] * 64
    assert describe_facts.intensity_facts([[4] * 64], 1)["unevenness"] == pytest.approx(0, abs=1e-9)
    # black margins do not count
    assert describe_facts.intensity_facts([[900] + [1] * 63], 1)["unevenness"] == pytest.approx(0, abs=1e-9)
    assert describe_facts.intensity_facts([[0, 10] + [0] * 62], 1)["unevenness"] == pytest.approx(1 - 1 / 63, abs=1e-4)
    one = describe_facts.intensity_facts([[0] * 63 + [7], [70] + [0] * 63], 9, {"b": 1, "a": 3})
    assert (one["histogram"][0], one["histogram"][63], one["mean"], one["films"], one["of"]) == (0.5, 0.5, 0.5, 2, 9)
    assert list(one["refused"].items()) == [("a", 3), ("b", 1)]
    assert describe_facts.intensity_facts([], 0)["mean"] is None


def test_distance_of_two_distributions() -> None:
    distance = describe_facts.total_variation
    assert distance({"PA": 2, "AP": 6}, {"PA": 10, "AP": 30}) == 0
    assert distance({"PA": 3}, {"AP": 1}) == 1
    assert distance({"PA": 3, "AP": 1}, {"PA": 1, "AP": 1}) == pytest.approx(0.25)
    assert distance({}, {"AP": 1}) == 0


def test_sizes_are_counted_in_squares() -> None:
    facts = describe_facts.size_facts([1024, 1024, 1026, 3000], [1024, 1024, 1030, 2500], [8, 8, 8, 12])
    assert facts["cells"] == [[1025, 1026, 3], [3000, 2500, 1]]
    assert (facts["square"], facts["bits"], facts["height"]) == (
        2,
        {"8": 3, "12": 1},
        {"min": 1024, "median": 1027, "max": 2500},
    )
    assert describe_facts.size_facts([], [], [])["cells"] == []


def test_strongest_pairs_leave_definitions_and_chance_out() -> None:
    findings = [
        {"Mass": i % 2, "Lung_Lesion": i % 2 or i % 8 == 0, "Edema": i % 4 < 2, "Effusion": i % 4 == 0 or i % 8 == 1}
        for i in range(400)
    ]
    facts = facts_of(x=[film(number, findings=states) for number, states in enumerate(findings)])
    pairs = describe_facts.strongest_pairs(facts["sources"])
    # Effusion never comes without Edema, nor Mass without Lung_Lesion
    assert [pair[:2] for pair in pairs] == [("Edema", "Lung_Lesion"), ("Effusion", "Lung_Lesion")]
    findings = [
        {**states, "Effusion": int(states["Effusion"] if i % 16 else 0) or i == 3} for i, states in enumerate(findings)
    ]
    facts = facts_of(x=[film(number, findings=states) for number, states in enumerate(findings)])
    (first, *_) = describe_facts.strongest_pairs(facts["sources"])
    assert set(first[:2]) == {"Edema", "Effusion"}
