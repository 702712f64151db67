"""Requirements on films: a small language, and rejection sampling that reports its yield, resumes after a kill, and
refuses nonsense."""

import csv
import json
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from thiscxr import cli
from thiscxr.latent import selection
from thiscxr.latent.selection import notes_path, select
from thiscxr.latent.where import Where, parse_where
from thiscxr.model.conditions import Condition
from thiscxr.reader.evaluation import Reading, evaluate
from thiscxr.reader.network import Reader, ReaderConfig
from thiscxr.reader.trust import Ceiling, TrustedReader, trusted_reader, write_card
from thiscxr.sample.sampling import Network, load
from thiscxr.sample.truncation import Truncation

FINDINGS = ("No Finding", "Cardiomegaly", "Effusion", "Pleural_Thickening")
VIEWS = ("AP", "PA", "lateral")
WELL, BADLY = Ceiling("auc", 0.9, (0.8, 0.95)), Ceiling("auc", 0.8, (0.7, 0.9))
CEILINGS = dict.fromkeys((*FINDINGS, *(f"view {view}" for view in VIEWS), "sex"), WELL)
READER = TrustedReader(
    "eye",
    "0" * 64,
    Reader(ReaderConfig((*FINDINGS, "Mass"), VIEWS, ("a",), 32, (4, 4, 4, 4))),
    {**CEILINGS, "Mass": BADLY, "age": Ceiling("r", 0.7, (0.6, 0.8))},
)
SCORES = {
    "Cardiomegaly": np.array([-3.0, 0.0, 3.0, 3.0]),
    "Effusion": np.array([3.0, 3.0, -3.0, 3.0]),
    "No Finding": np.zeros(4),
    "Pleural_Thickening": np.zeros(4),
    "view AP": np.array([5.0, -5.0, -5.0, 1.0]),
    "view PA": np.array([-5.0, 5.0, -5.0, -1.0]),
    "view lateral": np.array([-5.0, -5.0, 5.0, 0.0]),
    "sex": np.array([1.0, -1.0, 1.0, -1.0]),
    "age": np.array([20.0, 40.0, 60.0, 80.0]),
}


def passing(*texts: str) -> list[int]:
    where = parse_where(texts, READER)
    return np.flatnonzero(where.holds(where.predict(SCORES))).tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cardiomegaly>0.8", [2, 3]),
        ("Cardiomegaly >= 0.5", [1, 2, 3]),
        ("cardiomegaly>0.5", [2, 3]),
        ("CARDIOMEGALY<0.5 AND effusion>0.5", [0]),
        ("pleural thickening<=0.5 and no finding>=0.5", [0, 1, 2, 3]),
        ("view=PA", [1]),
        ("view != pa and sex=f", [0, 2]),
        ("sex==M and age>=40 and age<80", [1]),
        ("age>20 and age>60", [3]),
    ],
)
def test_what_passes(text: str, expected: list[int]) -> None:
    assert passing(text) == expected
    assert passing(*re.split(r"\s+and\s+", text, flags=re.IGNORECASE)) == expected, "several options mean all of them"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not a condition; expected NAME, a test and a value"),
        ("cardiomegaly", "'cardiomegaly' is not a condition"),
        ("cardiomegaly>0.8 and", "is not a condition"),
        ("cardiomegaly>0.8 or sex=F", "is not a condition"),
        ("cardiomegali>0.8", "has not learnt to predict 'cardiomegali' \\(did you mean 'Cardiomegaly'\\?\\)"),
        ("Hernia>0.8", "has not learnt to predict 'Hernia'"),
        ("cardiomegaly>80", "use <, <=, > or >= and a number from 0 to 1"),
        ("cardiomegaly=1", "use <, <=, > or >="),
        ("age>nan", "a number from 0 to 120"),
        ("view>0.5", "use = or != and one of AP, PA, lateral"),
        ("sex=X", "use = or != and one of F, M"),
        ("cardiomegaly>0.8 and cardiomegaly<0.8", "no film can be cardiomegaly>0.8 and cardiomegaly<0.8"),
        ("view=PA and view=AP", "no film can be view=PA and view=AP"),
        ("mass>0.5", r"eye predicts Mass with AUC 0.800 \[0.700, 0.900\] on patients not seen in training"),
    ],
)
def test_what_is_no_requirement_or_an_impossible_one_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_where([text], READER)


CLAUSES = st.one_of(
    st.tuples(
        st.sampled_from(("cardiomegaly", "effusion")), st.sampled_from(["<", "<=", ">", ">="]), st.floats(0.05, 0.95)
    ),
    st.tuples(st.just("age"), st.sampled_from(["<", "<=", ">", ">="]), st.integers(1, 119)),
    st.tuples(st.just("view"), st.sampled_from(("=", "!=")), st.sampled_from(VIEWS)),
    st.tuples(st.just("sex"), st.sampled_from(("=", "!=")), st.sampled_from(("F", "M"))),
).map(lambda clause: "{} {} {}".format(*clause))


@settings(deadline=None, max_examples=60)
@given(st.lists(CLAUSES, min_size=1, max_size=5))
def test_all_clauses_hold_where_each_holds(clauses: list[str]) -> None:
    """A film passes all clauses where it passes each; where they contradict each other, no film passes."""
    both = sorted(set.intersection(*(set(passing(clause)) for clause in clauses)))
    if both:
        assert passing(" and ".join(clauses)) == both
    else:
        with suppress(ValueError):  # contradictions are refused; with four films, none may pass by chance
            assert passing(" and ".join(clauses)) == []


@settings(deadline=None, max_examples=60)
@given(st.text("agePA =<>!0.9and", max_size=30))
def test_any_text_is_a_requirement_or_one_line(text: str) -> None:
    with suppress(ValueError):
        assert isinstance(parse_where([text], READER), Where)


@pytest.fixture(scope="module")
def network() -> Network:
    return load("nih-64")


@pytest.fixture(scope="module")
def reader() -> TrustedReader:
    return trusted_reader("thiscxr64")


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "PILOT", 64)
    monkeypatch.setattr(selection, "STEP", 64)


def choose(
    network: Network, reader: TrustedReader, out: Path, text: str = "view=PA and sex=F", **options: object
) -> selection.Selection:
    return select(network, reader, parse_where([text], reader), Condition(), Truncation(), out, **options)


def test_the_films_that_pass_and_what_the_pilot_says(
    network: Network, reader: TrustedReader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "thiscxr")
    found = choose(network, reader, tmp_path / "a", count=40)
    scores = reader.read(network.sample(found.seeds))
    assert found.seeds == sorted(found.seeds)
    assert len(found.seeds) == 40
    assert (scores["sex"] > 0).all()
    assert (scores["view PA"] > 0).all()
    assert found.columns["read_view"] == ["PA"] * 40
    left_out = sorted(set(range(found.seeds[-1])) - set(found.seeds))
    scores = reader.read(network.sample(left_out))
    assert not ((scores["sex"] > 0) & (scores["view PA"] > 0)).any()
    pilot = re.search(
        r"pilot: (\d+) of 64 films are view=PA and sex=F: .* 40 films take about (\d+) \[(\d+), (\d+)\] draws",
        caplog.text,
    )
    assert pilot
    assert int(pilot[2]) == round(40 * 64 / int(pilot[1]))
    assert int(pilot[3]) < found.seeds[-1] < int(pilot[4])


def test_all_that_pass_of_some_seeds(
    network: Network, reader: TrustedReader, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "thiscxr")
    found = choose(network, reader, tmp_path / "a", "sex=M", seeds=list(range(10, 40)))
    assert set(found.seeds) == {
        10 + int(i) for i in np.flatnonzero(reader.read(network.sample(range(10, 40)))["sex"] <= 0)
    }
    assert f"{len(found.seeds)} of 30 films are sex=M: {len(found.seeds) / 30:.1%} [" in caplog.text
    with pytest.raises(
        ValueError, match=r"\d+ of 30 films are sex=M, and -n requests 30; give more --seeds, or request fewer"
    ):
        choose(network, reader, tmp_path / "b", "sex=M", seeds=list(range(10, 40)), count=30)
    assert not notes_path(tmp_path / "b").exists()


def test_a_yield_too_small_stops_with_one_line(network: Network, reader: TrustedReader, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"none of 64 films is age>110, so at most 5.7% are; lower the threshold, or request it of the network",
    ):
        choose(network, reader, tmp_path / "a", "age>110", count=5)
    assert not list(tmp_path.iterdir())


def test_it_resumes_where_it_was_killed(
    network: Network, reader: TrustedReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = choose(network, reader, tmp_path / "whole", count=40)
    passing, drawn = selection._passing, []

    def killed(*args: object) -> list[tuple[int, list[str]]]:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(list(args[-1]))
        return passing(*args)

    monkeypatch.setattr(selection, "_passing", killed)
    with pytest.raises(KeyboardInterrupt):
        choose(network, reader, tmp_path / "out", count=40)
    with open(notes_path(tmp_path / "out"), "a") as file:
        file.write('[192, [[130, ["P')  # cut off in the middle
    drawn.clear()
    drawn.append([])
    monkeypatch.setattr(selection, "_passing", lambda *args: (drawn.append(list(args[-1])), passing(*args))[1])
    assert choose(network, reader, tmp_path / "out", count=40) == whole
    assert drawn[1][0] == 128, "the first two steps are not generated again"
    drawn.clear()
    choose(network, reader, tmp_path / "out", "view=PA", count=10)
    assert drawn[0][0] == 0, "another request begins anew"


def test_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [
        "sample",
        "-n",
        "9",
        "--where",
        "sex=F and age>50",
        "--where",
        "view=PA",
        "--out",
        str(out),
        "--device",
        "cpu",
    ]
    assert CliRunner().invoke(cli.group, command, catch_exceptions=False).exit_code == 0
    with open(out / "samples.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert {(row["read_view"], row["read_sex"], len(row["reader_sha256"])) for row in rows} == {("PA", "F", 64)}
    assert all(float(row["read_age"]) > 50 for row in rows)
    assert sorted(path.name for path in out.glob("seed-*.png")) == [row["file"] for row in rows]
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "no notes are left"


@pytest.mark.parametrize(
    "flags",
    [["--where", "age>50", "--plan", "plan.csv"], ["--where", "age>50", "--pairs"], ["--reader", "thiscxr64"]],
)
def test_combinations_that_make_no_sense(flags: list[str]) -> None:
    assert CliRunner().invoke(cli.group, ["sample", *flags]).exit_code == 2


def test_a_reader_without_intervals_needs_a_card_and_believes_only_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: TrustedReader
) -> None:
    path = tmp_path / "thiscxr64.safetensors"
    bundled = Path(cli.__file__).parents[1] / "weights" / "thiscxr64.safetensors"
    path.write_bytes(bundled.read_bytes())
    with pytest.raises(
        ValueError,
        match="has no evaluation with intervals on patients not seen in training; measure it: thiscxr classify eval",
    ):
        trusted_reader(str(path))
    card = json.loads(bundled.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(card))
    assert trusted_reader(str(path)).ceilings == reader.ceilings
    assert reader.trusted == ["view AP", "view PA", "sex", "age"]
    path.with_suffix(".json").write_text(json.dumps({**card, "reader_sha256": "0" * 64}))
    with pytest.raises(ValueError, match="has no evaluation with intervals"):
        trusted_reader(str(path))
    truth = np.arange(60.0) % 2
    films = Reading(
        {"sex": truth, "Mass": truth}, {"sex": truth, "Mass": -truth}, np.arange(60), np.full(60, "a", object)
    )
    assert write_card(str(path), evaluate([films]), "f" * 64) == path.with_suffix(".json")
    kept = trusted_reader(str(path))
    assert kept.trusted == ["sex"]
    assert kept.ceilings["Mass"] == Ceiling("auc", 0.0, (0.0, 0.0))
    with pytest.raises(
        ValueError,
        match="how well thiscxr64 predicts age was not measured on patients not seen in training; it may be used",
    ):
        kept.check("age")


def test_no_finding_of_the_bundled_classifier_may_be_required(reader: TrustedReader) -> None:
    """The best one has an interval from 0.71 to 0.90: each is refused, with its AUC."""
    findings = load("nih-64").info.vocabulary.findings
    assert len(findings) > 5
    for finding in findings:
        with pytest.raises(ValueError, match=rf"predicts {finding} with AUC 0\.\d{{3}} \[.*must begin above 0.75"):
            reader.check(finding)


@pytest.mark.parametrize("name", ["thiscxr64", "thiscxr128"])
def test_a_refusal_claims_held_out_patients_for_no_classifier(name: str) -> None:
    """The intervals of thiscxr128 are cross-fitted over all patients, those of thiscxr64 are of held-out ones."""
    with pytest.raises(ValueError, match=r"\[0\.\d{3}, 0\.\d{3}\] on patients not seen in training, and that interval"):
        trusted_reader(name).check("Infiltration")


@pytest.mark.parametrize(("network", "name"), [("nih-64", "thiscxr64"), ("nih-128", "thiscxr128")])
@pytest.mark.parametrize(
    "command", ["sample --where infiltration>0.8", "series --finding Infiltration", "direction --finding Infiltration"]
)
def test_the_classifier_is_that_of_the_networks_resolution(
    command: str, network: str, name: str, tmp_path: Path
) -> None:
    arguments = [*command.split(), "--model", network, "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli.group, arguments)
    assert f"{name} predicts Infiltration with AUC 0." in str(result.exception), result.output


def test_a_reader_of_other_collections_is_refused(reader: TrustedReader) -> None:
    reader.check_films_of(["nih", "phantom-a"])
    with pytest.raises(
        ValueError, match="thiscxr64 was trained on nih and the network on phantom-a, phantom-b; give a --reader"
    ):
        reader.check_films_of(["phantom-a", "phantom-b"])
