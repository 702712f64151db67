"""What `describe` counts, warns of and shows: known answers, and pages that stay whole and harmless whatever the names
say."""

import base64
import csv
import hashlib
import io
import json
import shutil
import tarfile
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thiscxr.labels import FINDINGS, SEXES, STATES, VIEWS, FilmRecord, Terms
from thiscxr.pixels import save_png
from thiscxr.pool import Pool, prepare
from thiscxr.pool.writer import PoolWriter
from thiscxr.report import pool as describe
from thiscxr.report.pool import charts as describe_charts
from thiscxr.report.pool import facts as describe_facts
from thiscxr.report.pool.page import page, write_page
from thiscxr.report.pool.text import WIDTH, describe_text, sparkline
from thiscxr.report.pool.warnings import find_warnings

REAL = Path(__file__).parents[3] / "shared" / "data" / "nih-64"
TERMS = Terms("A title", "Some terms.", "A citation.", "https://example.org", "Thanks.")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "<script>alert(1)</script>&\"'\x1b[31m"


def pixels(seed: int) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).normal(100, 40, (32, 32)), 0, 255).astype(np.uint8)


def film(number: int, **changes: Any) -> FilmRecord:
    """Four films of two patients each ten years; half have Effusion, evenly over views and sexes; Mass comes with every
    other of them."""
    effusion = number // 4 % 2
    findings = {"Effusion": effusion, "Mass": effusion & (number // 8 % 2), "Edema": -2}
    record = {
        "patient": str(number // 2),
        "study": str(number),
        "view": ("PA", "AP")[number % 2],
        "sex": "MF"[number // 2 % 2],
        "age_years": float(10 * (number // 4 % 9)),
        "findings": findings,
        "labeler": "reader",
    }
    return FilmRecord(str(number), str(number), **{**record, **changes})


def write_pool(
    path: Path, *sources: tuple[str, list[FilmRecord]], terms: Terms = TERMS, options: dict[str, Any] | None = None
) -> Path:
    with PoolWriter(
        path,
        32,
        8,
        {key: terms for key, _ in sources},
        b"k" * 16,
        options or {"views": "default", "aspect": "released"},
    ) as writer:
        for place, (key, films) in enumerate(sources):
            for number, record in enumerate(films):
                writer.add(key, record, pixels(1000 * place + number), (3000, 2500, 12), inverted=number == 0)
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    films = [film(number) for number in range(144)]
    return write_pool(tmp_path_factory.mktemp("two") / "pool", ("here", films), ("there", films))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A folder of eight films with a table; film 3 is broken, film 4 is missing, film 5 is lateral."""
    root = tmp_path / "films"
    rows = ["file_name,patient,view,sex,age_years,Effusion"]
    for number in range(8):
        view = "lateral" if number == 5 else "PA"
        rows.append(f"{number}.png,{number // 2},{view},F,{30 + number},{number % 2}")
        if number != 4:
            save_png(root / f"{number}.png", np.tile(pixels(number), (2, 1)))
    (root / "3.png").write_bytes((root / "3.png").read_bytes()[:-20])
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root


def facts_of(**sources: list[FilmRecord]) -> dict[str, Any]:
    """Facts as of label files alone, without warnings, which is what the tests of warnings start from."""
    described = {}
    for key, films in sources.items():
        kept = describe._kept_facts(describe_facts.film_table(key, films))
        described[key] = {**kept, "dropped": {}, "release": {"squashed": False, "equalised": []}, "terms": {}}
    return {"sources": described}


# --- counting ---


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
        "1 groups of duplicate films lie in both splits, so the holdout knows films of the training"
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


# --- releases ---


def test_a_release_is_looked_at_and_bad_films_are_counted(release: Path) -> None:
    facts = describe.describe_sources([("folder", release)])
    source = facts["sources"]["folder"]
    assert (source["released"]["films"], source["kept"]["films"], source["dropped"]) == (
        8,
        6,
        {"file missing": 1, "view lateral": 1},
    )
    assert (source["intensity"]["films"], source["intensity"]["of"]) == (5, 6)
    assert list(source["intensity"]["refused"].values()) == [1]
    assert source["native"]["cells"] == [[32, 64, 5]]
    assert any(
        line.startswith("folder: 1 of 6 films looked at cannot be read, most often: ") for line in facts["warnings"]
    )
    (release / "3.png").write_bytes((release / "2.png").read_bytes())
    assert not any("cannot be read" in line for line in describe.describe_sources([("folder", release)])["warnings"])


def test_labels_only_touches_no_film(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: Any) -> None:
        raise AssertionError("a film was read")

    monkeypatch.setattr(describe, "load_film", touched)
    for path in release.glob("*.png"):
        path.unlink()
    source = describe.describe_sources([("folder", release)], labels_only=True)["sources"]["folder"]
    assert (source["kept"]["films"], source["dropped"]) == (7, {"view lateral": 1})
    assert "intensity" not in source
    assert "native" not in source


def test_a_sample_is_decoded_not_everything(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describe, "RELEASE_SAMPLE", 2)
    source = describe.describe_sources([("folder", release)])["sources"]["folder"]
    assert (source["intensity"]["films"], source["intensity"]["of"]) == (2, 6)


def test_films_in_a_compressed_tar_are_found_and_sampled(release: Path, tmp_path: Path) -> None:
    shutil.copy(release / "2.png", release / "4.png")
    loose = describe.describe_sources([("folder", release)])
    assert loose["sources"]["folder"]["dropped"] == {"view lateral": 1}
    with tarfile.open(release / "films.tar.gz", "w:gz") as tar:
        for number in (0, 1, 2):
            data = (release / f"{number}.png").read_bytes()
            entry = tarfile.TarInfo(f"{number}.png")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
            (release / f"{number}.png").unlink()
    assert describe.describe_sources([("folder", release)]) == loose
    summary = prepare.prepare(tmp_path / "pool", [("folder", release)], 32, key_file=tmp_path / "key", max_rejected=0.5)
    assert (summary.num_kept, summary.dropped) == (6, {"view lateral": 1})


def test_derive_fills_what_is_kept_and_not_what_was_released(tmp_path: Path) -> None:
    save_png(tmp_path / "films" / "a.png", pixels(0))
    (tmp_path / "films" / "metadata.csv").write_text("file_name,Mass\na.png,1\n")
    for derive, expected in ((False, 0), (True, 1)):
        source = describe.describe_sources([("folder", tmp_path / "films")], derive=derive)["sources"]["folder"]
        assert source["kept"]["findings"]["Lung_Opacity"]["positive"] == expected
        assert source["released"]["findings"]["Lung_Opacity"]["positive"] == 0


@pytest.mark.skipif(not REAL.is_dir(), reason=f"real films are not here: {REAL}")
def test_real_films() -> None:
    facts = describe.describe_sources([("nih", REAL)])
    source = facts["sources"]["nih"]
    assert (source["kept"]["films"], source["kept"]["patients"], source["native"]["cells"]) == (
        1988,
        1229,
        [[64, 64, 200]],
    )
    assert source["intensity"]["films"] == 200
    assert source["intensity"]["unevenness"] > 0.15  # not equalised
    assert any(
        line.startswith("nih: the view predicts Edema (AP: 82% of 91 positive, 35% of 1,897 negative)")
        for line in facts["warnings"]
    )


# --- warnings ---


def plain() -> dict[str, Any]:
    return facts_of(here=[film(number) for number in range(144)], there=[film(number) for number in range(144)])


def changed(**change: Any) -> dict[str, Any]:
    """The plain facts with some of one source's changed."""
    facts = plain()
    facts["sources"]["here"] |= change
    return facts


def only(key: str, value: Any, numbers: Any = range(144)) -> dict[str, Any]:
    """The plain facts with one field of the films of one source changed."""
    return facts_of(
        here=[film(n, **({key: value(n)} if n in numbers else {})) for n in range(144)],
        there=[film(n) for n in range(144)],
    )


def flat(unevenness: float) -> dict[str, Any]:
    return {"films": 9, "of": 9, "refused": {}, "histogram": [1 / 64] * 64, "mean": 0.5, "unevenness": unevenness}


def test_ordinary_facts_give_no_warning() -> None:
    assert find_warnings(plain()) == []
    assert find_warnings(changed(intensity=flat(0.2), native={"films": 9, "equalised": 0})) == []


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            lambda: facts_of(here=[film(0)] * 3 + [film(1)], gone=[]),
            "gone: no film is left, so there is nothing to pool",
        ),
        (
            lambda: plain() | {"duplicates": {"across_splits": 3}},
            "3 groups of duplicate films lie in both splits, so the holdout knows",
        ),
        (
            lambda: changed(intensity={**flat(0.2), "refused": {"truncated file": 2, "empty file": 1}}),
            "here: 3 of 12 films looked at cannot be read, most often: truncated file",
        ),
        (
            lambda: changed(release={"squashed": True, "equalised": []}),
            "here: oblong films were squashed to squares by the release",
        ),
        (
            lambda: changed(native={"films": 9, "equalised": 8}),
            "here: 8 of 9 films were histogram-equalised by the release, and the others' are not: "
            "the look names the source",
        ),
        (
            lambda: changed(intensity=flat(0.02)),
            "here: the films look histogram-equalised (all greys are about as frequent: unev",
        ),
        (
            lambda: changed(release={"squashed": False, "equalised": [".jpg"]}),
            "here: .jpg films of this release are histogram-equalised, and the others' are not",
        ),
        (
            lambda: facts_of(here=[film(n, split="train") for n in range(144)]),
            "no film is held out, so there is nothing to judge",
        ),
        (
            lambda: only("patient", str),
            "here: no patient has two films; if there are no patient ids, no split keeps patients apart",
        ),
        (
            lambda: only("findings", lambda n: {**film(n).findings, "Hernia": 1, "Fracture": 0}),
            "only here annotates Hernia, Fracture: asking for them names the hospital",
        ),
        (
            lambda: only("findings", lambda n: {**film(n).findings, "Hernia": 1}),
            "only here annotates Hernia: asking for it names",
        ),
        (
            lambda: facts_of(here=[film(n, findings={}) for n in range(144)]),
            "no finding is annotated, so none can be asked for",
        ),
        (
            lambda: only("findings", lambda n: {**film(n).findings, "Effusion": int(n < 120)}),
            "the source predicts Effusion (here: 62% of 192 positive, 25% of 96 negative)",
        ),
        (
            lambda: only("view", lambda n: "AP" if film(n).findings["Effusion"] or n % 3 == 0 else "PA"),
            "here: the view predicts Effusion (AP: 100% of 72 positive, 33% of 72 negative)",
        ),
        (
            lambda: only("findings", lambda n: {**film(n).findings, "Edema": -1}),
            "here: more uncertain than positive films of Edema (144 against 0)",
        ),
        (lambda: only("age_years", lambda n: None, range(72)), "here: unknown age in 50% of the films"),
        (lambda: only("sex", lambda n: "unknown"), "here: unknown sex in 100% of the films"),
    ],
)  # fmt: skip
def test_each_warning_fires(facts: Any, message: str) -> None:
    assert [line for line in find_warnings(facts()) if line.startswith(message)], find_warnings(facts())


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        (
            lambda: only("view", lambda n: "AP" if film(n).findings["Effusion"] and n % 16 == 4 else film(n).view),
            "view predicts",
        ),
        (
            lambda: facts_of(here=[film(n, view="AP" if film(n).findings["Effusion"] else "PA") for n in range(80)]),
            "view predicts",
        ),  # 40 each
        (lambda: only("findings", lambda n: {**film(n).findings, "Effusion": int(n < 80)}), "source predicts"),
        (lambda: only("age_years", lambda n: None, range(20)), "unknown age"),
        (lambda: facts_of(here=[film(n, patient=str(n)) for n in range(40)]), "no patient has two films"),
        (
            lambda: changed(release={"squashed": False, "equalised": [".jpg"]}, native={"films": 9, "equalised": 0}),
            "equalised",
        ),
        (
            lambda: {"sources": {"here": changed(release={"squashed": True, "equalised": []})["sources"]["here"]}},
            "squashed",
        ),
        (
            lambda: {
                "sources": {"here": only("findings", lambda n: {**film(n).findings, "Hernia": 1})["sources"]["here"]}
            },
            "only here",
        ),
        (lambda: changed(intensity={**flat(0.2), "films": 99, "refused": {"truncated file": 1}}), "cannot be read"),
        (lambda: plain() | {"duplicates": {"across_splits": 0}}, "duplicate"),
    ],
)
def test_no_warning_fires_for_less(facts: Any, word: str) -> None:
    assert not [line for line in find_warnings(facts()) if word in line]


def test_a_pool_whose_aspect_was_restored_is_not_warned_of(tmp_path: Path) -> None:
    films = [film(number) for number in range(16)]
    for aspect, expected in (("released", True), ("restore", False)):
        pool = write_pool(tmp_path / aspect, ("nih", films), ("there", films), options={"aspect": aspect})
        assert any("squashed" in line for line in describe.describe_pool(pool)["warnings"]) == expected


# --- text ---


@pytest.mark.parametrize("num_sources", [1, 2, 6, 9])
def test_text_fits_the_terminal_and_says_everything(num_sources: int) -> None:
    many = [film(number) for number in range(144)]
    facts = facts_of(**{f"collection-{place}-of-many-of-them": many for place in range(num_sources)})
    for source in facts["sources"].values():
        source["kept"]["films"] = 1_234_567
        source["kept"]["labelers"] = {"a labeler with a name that goes on and on": 12}
        source["native"] = {**describe_facts.size_facts([3000], [2500], [12]), "inverted": 3, "equalised": 0}
        source["intensity"] = flat(0.3)
        source["released"] = source["kept"]
        source["dropped"] = {f"a reason that is rather long, number {number}": number + 1 for number in range(9)}
    facts["warnings"] = ["a warning " * 30]
    text = describe_text(facts)
    assert max(map(len, text.splitlines())) <= WIDTH
    for word in (
        "1,234,567",
        "Effusion",
        "dropped: other reasons",
        "age, median",
        "native size",
        "3000x2500",
        "inverted",
        "by a labeler",
        "█",
    ):
        assert word in text, word
    assert ("not annotated" in text, "uncertain" in text) == (True, num_sources == 1)
    assert "Hernia" not in text  # nobody annotates it
    assert len(text.splitlines()) < 60 + 60 * (num_sources > 1) + 60 * (num_sources > 6)


def test_text_of_real_counts(two: Path) -> None:
    text = describe_text(describe.describe_pool(two))
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in text.splitlines() if line}
    assert text.startswith("pool of 288 films, 144 patients, 32 px, 8 bits; fingerprint ")
    assert lines["films"] == "144 144 288"
    assert lines["Effusion"] == "72 50% 72 50% 144 50%"
    assert lines["Mass"] == "36 25% 36 25% 72 25%"
    assert "Mass with Effusion" not in text  # by definition of this pool


def test_sparklines() -> None:
    assert sparkline([0, 1, 4, 8]) == " ▂▅█"
    assert sparkline([]) == ""
    assert sparkline([0.001, 1000]) == "▁█"


def test_terminals_are_sent_no_control_characters() -> None:
    facts = facts_of(**{HOSTILE: [film(number) for number in range(8)]})
    facts["rejected"] = {HOSTILE: 3}
    facts["warnings"] = [HOSTILE]
    text = describe_text(facts)
    assert "\x1b" not in text
    assert "?[31m" in text


# --- page ---


class Reader(HTMLParser):
    """Notes tags with their attributes, ids and the policy, and that everything is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def read_page(text: str) -> Reader:
    """Parse a page, and check what must hold for any."""
    reader = Reader(text)
    assert reader.open == []
    assert not reader.tags.keys() & {
        "script",
        "img",
        "link",
        "iframe",
        "object",
        "form",
        "base",
        "image",
        "use",
        "foreignobject",
    }
    assert not {name for _, name, _ in reader.attributes if name.startswith("on")} | {"src", "style", "xlink:href"} & {
        name for _, name, _ in reader.attributes
    }
    assert {value[0] for value in reader.values("href")} == {"#"}
    ids = reader.values("id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in reader.values("href")} <= set(ids)
    assert {name for value in reader.values("aria-labelledby") for name in value.split()} <= set(ids)
    style = text.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert (f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'") in reader.values(
        "content"
    )
    assert "url(" not in style
    assert "@import" not in style
    for drawing in text.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + drawing.split("</svg>")[0] + "</svg>")
    for name in ("x", "y", "width", "height", "x1", "x2", "y1", "y2", "cx", "cy", "r"):
        assert all(np.isfinite(float(value)) for value in reader.values(name) if value)
    assert reader.tags["figure"] == reader.tags["figcaption"] == text.count("<summary>Numbers</summary>")
    return reader


def test_the_page_shows_everything_and_asks_for_nothing(two: Path, tmp_path: Path) -> None:
    facts = describe.describe_pool(two)
    text = page(facts)
    reader = read_page(text)
    for name in ("findings", "together", "people", "pixels", "given-away", "terms", "sources"):
        assert name in reader.values("id"), name
    for word in (
        "288",
        "Effusion, positive: 72 of 144 films",
        "36 / 72",
        "Mass with Effusion: 36 of 36 films (100%)",
        "3000 x 2500",
        "A citation.",
    ):
        assert word in text, word
    assert text == page(json.loads(json.dumps(facts))) == page(describe.describe_pool(two))
    assert str(two.parent) not in text
    write_page(tmp_path / "new" / "page.html", facts)
    assert (tmp_path / "new" / "page.html").read_bytes() == text.encode()


def test_names_of_others_stay_text(tmp_path: Path) -> None:
    films = [film(number, labeler=HOSTILE) for number in range(144)]
    terms = Terms(HOSTILE, HOSTILE, HOSTILE, "javascript:alert(1)", HOSTILE)
    pool = write_pool(
        tmp_path / "pool",
        (HOSTILE, films),
        (HOSTILE + "2", films),
        terms=terms,
        options={HOSTILE: HOSTILE, "aspect": "released"},
    )
    (pool / "rejected.csv").write_text(f'film_id,reason\na,"<b>{"x" * 9}</b>"\n')
    facts = describe.describe_pool(pool)
    facts["warnings"].append(HOSTILE)
    text = page(facts)
    read_page(text)
    assert "<script" not in text
    assert "<b>" not in text
    assert "&lt;b&gt;xxxxxxxxx" in text
    assert text.count("&lt;script&gt;") > 20


@pytest.mark.parametrize(
    "films",
    [
        [],
        [FilmRecord("a", "a", "p", "s")],
        [FilmRecord("a", "a", "p", "s", view="PA", sex="F", age_years=0.0, findings={"Hernia": 1})],
        [
            FilmRecord(str(n), "a", str(n), "s", age_years=110.0, findings=dict.fromkeys(FINDINGS, -1))
            for n in range(60)
        ],
        [
            FilmRecord(str(n), "a", "p", "s", view="PA", sex="M", findings=dict.fromkeys(FINDINGS, n % 2))
            for n in range(60)
        ],
        [
            FilmRecord(
                str(n), "a", "p", "s", view=VIEWS[n % 6], sex=SEXES[n % 3], findings=dict.fromkeys(FINDINGS, n % 5 - 3)
            )
            for n in range(300)
        ],
    ],
)
def test_strange_sets_of_films_are_shown(films: list[FilmRecord]) -> None:
    for facts in (facts_of(x=films), facts_of(x=films, y=[], z=films)):
        facts["warnings"] = find_warnings(facts)
        for source in facts["sources"].values():
            source["native"] = {
                **describe_facts.size_facts([9] * len(films), [7] * len(films), [1] * len(films)),
                "inverted": 0,
                "equalised": 0,
            }
            source["intensity"] = describe_facts.intensity_facts([[1] + [0] * 63] * len(films), len(films))
            source["terms"] = {"title": "", "terms": "", "citation": "", "url": "", "acknowledgement": ""}
        read_page(page(facts))
        assert max(map(len, describe_text(facts).splitlines())) <= WIDTH


def test_a_pool_of_one_film(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "pool", ("folder", [FilmRecord("a", "a", "p", "s")]))
    facts = describe.describe_pool(pool)
    assert "folder: unknown view in 100%, sex in 100%, age in 100% of the films" in facts["warnings"]
    assert "no finding is annotated, so none can be asked for" in facts["warnings"]
    text = page(facts)
    read_page(text)
    assert 'id="findings"' not in text
    assert 'id="sources"' in text
    assert "pool of 1 films" in describe_text(facts)


def test_label_files_alone_make_a_page_without_pixels(release: Path) -> None:
    text, with_pixels = (
        page(describe.describe_sources([("folder", release)], labels_only=only)) for only in (True, False)
    )
    read_page(text)
    assert 'id="pixels"' not in text
    assert 'id="pixels"' in with_pixels
    assert "view lateral" in text


def test_charts_draw_what_they_are_told() -> None:
    bars = describe_charts.stacked_bars(
        "a", "t", "d", [("row", {"one": 3, "two": 1}, "3")], {"one": "#111111", "two": "#222222"}
    )
    widths = {
        rect.split('fill="')[1][:7]: float(rect.split('width="')[1].split('"')[0]) for rect in bars.split("<rect")[1:]
    }
    assert widths["#111111"] == pytest.approx(3 * widths["#222222"], abs=0.05)
    start, end = (
        float(part.split('x="')[1].split('"')[0]) for part in (bars.split("<rect")[1], bars.split("<text")[2])
    )
    assert start + sum(widths.values()) == pytest.approx(end - 6, abs=0.1)  # the bar is 100 %, up to its note
    for label in ("n", "nih", "phantom-a", "Enlarged Cardiomediastinum"):
        assert f">{label}</text>" in describe_charts.stacked_bars(
            "a", "t", "d", [(label, {"one": 1}, "")], {"one": "#111111"}
        )
    assert "…</text>" in describe_charts.stacked_bars("a", "t", "d", [("x" * 40, {"one": 1}, "")], {"one": "#111111"})
    cells = [
        [
            describe_charts.Cell(0.0, "0", "none"),
            describe_charts.Cell(1.0, "100", "all"),
            describe_charts.Cell(None, "", ""),
        ]
    ]
    heat = describe_charts.heat_map("a", "t", "d", ["r"], ["x", "y", "z"], cells)
    assert [rect.split('fill="')[1][:7] for rect in heat.split("<rect")[1:]] == ["#ffffff", "#084582", "#f1f3f5"]


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (`apt-get install chromium`)")
def test_a_browser_finds_nothing_to_complain_of(two: Path, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs `pip install playwright`")
    write_page(tmp_path / "page.html", describe.describe_pool(two))
    seen: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for width in (390, 1400):
            sheet = browser.new_page(viewport={"width": width, "height": 900})
            sheet.on("console", lambda message: seen.append(message.text))
            sheet.on("request", lambda request: seen.append(request.url))
            sheet.goto(f"file://{tmp_path}/page.html")
            assert sheet.evaluate("document.documentElement.scrollWidth") <= width
            # the policy lets the style in
            assert sheet.evaluate("getComputedStyle(document.querySelector('.figures')).display") == "grid"
            assert sheet.evaluate(
                "[...document.querySelectorAll('.drawing svg')].every(one => one.getBoundingClientRect().height > 20)"
            )
        browser.close()
    assert seen == [f"file://{tmp_path}/page.html"] * 2
