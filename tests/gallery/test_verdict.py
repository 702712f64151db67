"""The verdict: the same sentences of the same scores everywhere, and none that the interval does not support."""

import html
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.scores import record, written
from thiscxr.gallery.site import build_site
from thiscxr.pool import Pool
from thiscxr.report.card import card
from thiscxr.report.scores import report
from thiscxr.report.terminal import score_table
from thiscxr.report.verdict import memorised, verdict
from thiscxr.report.words import reading
from thiscxr.sample.sampling import load
from thiscxr.score.fakes import open_fakes
from thiscxr.score.panel import Panel
from thiscxr.score.records import Record, read_scores

WARNING = "Do not share this set as it is."
Say = Callable[[list[Record]], dict[str, str]]


@pytest.fixture
def say(pool: Pool, scored: tuple[Path, Panel], make_nih_samples: Callable[..., Path], tmp_path: Path) -> Say:
    """What terminal, report, card and evidence page say of one scores.json."""
    network, samples = load("nih-64"), make_nih_samples({})

    def four_places(records: list[Record]) -> dict[str, str]:
        path = written(tmp_path / "scores.json", *(replace(each, network_sha256=network.sha256) for each in records))
        read = read_scores(path, network.sha256)
        found = replace(scored[1], records=read)
        with open_fakes(str(scored[0]), 32, 64, 1.0, "cpu") as fakes:
            page = report(pool, fakes, found)
        build_site(samples, tmp_path / "site", path)
        return {
            "terminal": score_table(found),
            "report": html.unescape(page),
            "card": card(network, "nih-64", read, "x.png", "", "make it"),
            "page of evidence": html.unescape((tmp_path / "site" / "evidence.html").read_text()),
        }

    return four_places


def with_memorised(records: list[Record], value: float, floor: float | None, num_fake: int) -> list[Record]:
    fields = {"value": value, "floor": floor, "ci95": (0.0, 0.6), "num_fake": num_fake}
    return [replace(each, **fields) if each.measure == "memorised_rate" else each for each in records]


@pytest.mark.parametrize("value", [None, 0.12])
def test_all_four_say_the_same_of_one_file(scored: tuple[Path, Panel], say: Say, value: float | None) -> None:
    records = scored[1].records if value is None else with_memorised(scored[1].records, value, 0.01, 150)
    places, lines = say(records), verdict(records)
    assert len(lines) >= 6, "of a whole panel"
    assert {name: sum(line in text for line in lines) for name, text in places.items()} == dict.fromkeys(
        places, len(lines)
    )
    assert {name: WARNING in text for name, text in places.items()} == dict.fromkeys(places, value is not None)


def test_all_four_say_the_same_of_each_score(scored: tuple[Path, Panel], say: Say) -> None:
    # The card called probes above the real ones "better", where the page said "the nearer to the floor, the better".
    wanted = [
        record("fd", 3.0, (2.5, 3.5), 1.0, extractor="x"),
        record("real_or_synthetic", 0.9, (0.85, 0.95), 0.5, extractor="x", statistic="auc"),
        record("probe", 0.9, (0.85, 0.95), 0.5, extractor="x", question="view", statistic="auc"),
        record("coverage", 0.8, (0.7, 0.9), 0.75, extractor="x", protocol="k5"),
    ]
    said = {
        "worse": "these films are worse",
        "above": "these films are above",
        "not distinguished": "the interval contains it",
    }
    assert [reading(each) for each in wanted] == ["worse", "worse", "above", "not distinguished"]
    for name, text in say(wanted).items():
        for each in wanted:
            words = said[reading(each)] if name == "page of evidence" else reading(each)
            rows = [row for row in re.split("<tr>|\n(?!<)", text) if each.key in row]
            assert any(words in row for row in rows), (name, each.key)


@pytest.mark.parametrize(
    ("value", "floor", "num_fake", "warned"),
    [
        (0.5, 0.0, 100, True),
        (0.0201, 0.0, 10_000, True),
        (0.02, 0.006, 100, False),
        (0.05, 0.03, 100, False),  # not more than twice what unrelated patients are
        (0.07, 0.03, 100, True),
        (0.025, 0.0, 40, True),  # one of forty: of this set it is true, whatever an interval says
        (0.03, None, 100, True),
        (0.0, 0.0, 100, False),
    ],
)
def test_more_memorised_than_the_limit_is_not_to_be_shared(
    value: float, floor: float | None, num_fake: int, warned: bool
) -> None:
    records = [record("fd"), record("memorised_rate", value, (0.0, 0.6), floor, num_fake=num_fake)]
    (line,) = memorised(records)
    assert (WARNING in line, line in verdict(records)) == (warned, True)
    assert f"{value:.1%} of the films ({round(value * num_fake)})" in line


def test_every_set_of_films_has_its_sentence() -> None:
    lines = memorised([record("memorised_rate", 0.001, None, 0.0), record("memorised_rate", 0.4, None, 0.0)])
    assert [WARNING in line for line in lines] == [False, True]


def test_sentences_claim_no_more_than_the_scores() -> None:
    def first(*records: Record) -> str:
        return verdict(records)[0]

    assert verdict([]) == []
    assert "was not measured" in first(record("fd", 2.0)), "without a floor a distance says nothing"
    for value, interval, words in (
        (6.0, (5.0, 7.0), "3.0 times as far from real patients as other real patients"),
        (2.0, None, "about as far"),
        (1.5, (0.1, 3.0), "about as far"),
        (1.5, (1.2, 1.8), "nearer"),
        (9.0, (1.0, 17.0), "about"),
    ):
        assert words in first(record("fd", value, interval, 2.0))
    measured = record("real_or_synthetic", 0.7, (0.65, 0.75), 0.52, statistic="auc")
    line = (
        "A linear classifier distinguishes synthetic from real films with an AUC "
        "of 0.70, 0.65 to 0.75; 0.5 is guessing."
    )
    assert verdict([measured])[1] == line
    recall = record("recall", 0.5, (0.4, 0.6), 0.9)
    assert first(recall) == (
        "50% of the real films have a synthetic film in their neighbourhood, of other real films 90%."
    )


def test_what_was_requested_and_what_is_associated() -> None:
    chance = (0.45, 0.55)
    records = [
        record("fidelity", 0.9, (0.8, 1.0), 0.95, question="view PA", statistic="auc", null95=chance),
        record("fidelity", 0.54, (0.4, 0.6), 0.95, question="sex", statistic="auc", null95=chance),
        record("fidelity", 3.0, (2.0, 4.0), 2.0, question="age", statistic="mae", null95=(15.0, 17.0)),
        record("fidelity", None, None, 0.6, question="Mass", statistic="auc"),
        record(
            "tie", 0.5, (0.4, 0.6), 0.1, group="asked", question="Effusion", protocol="source", statistic="v", p=0.001
        ),
        record("tie", 0.1, (0.0, 0.2), 0.1, group="asked", question="Edema", protocol="view", statistic="v", p=0.2),
        record("tie", 0.5, (0.4, 0.6), 0.1, group="real", question="Mass", protocol="view", statistic="v", p=0.001),
        record("anatomy", 0.6, (0.45, 0.7), question="ctr cardiomegaly", statistic="auc"),
    ]
    lines = verdict(records)
    assert "Predictions follow what was requested, beyond chance, for: view PA." in lines
    assert (
        "Whether the films show it could not be measured for: Mass (the classifier is not good enough on real patients"
    ) in "\n".join(lines)
    assert "In what was requested, findings are associated: Effusion with the source. A classifier" in "\n".join(lines)
    assert (
        "The measures of anatomy cannot be trusted on these real films, so they show nothing of the synthetic ones."
    ) in lines
