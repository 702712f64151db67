"""The verdict: the same sentences of the same scores wherever they stand, and none that the interval does not bear."""

import json
from pathlib import Path
from typing import Any

import pytest

from thiscxr.gallery.evidence import evidence_facts
from thiscxr.report.card import card, read_scores
from thiscxr.report.scores import panel_verdict
from thiscxr.report.terminal import score_table
from thiscxr.report.words import copies, verdict
from thiscxr.sample.sampling import load
from thiscxr.score.panel import Panel

WARNING = "Do not share this set as it is."


def record(key: str, value: float, ci95: list[float] | None = None, floor: float | None = None, num_fake: int = 600) -> dict[str, Any]:
    return {"key": key, "value": value, "ci95": ci95, "floor": floor, "num_fake": num_fake}


@pytest.mark.parametrize(
    ("value", "floor", "num_fake", "warned"),
    [
        (0.5, 0.0, 100, True),
        (0.0201, 0.0, 10_000, True),
        (0.02, 0.006, 100, False),
        (0.05, 0.03, 100, False),  # not more than twice what strangers are
        (0.07, 0.03, 100, True),
        (0.025, 0.0, 40, True),  # one of forty: of this set it is true, whatever an interval says
        (0.03, None, 100, True),
        (0.0, 0.0, 100, False),
    ],
)
def test_the_warning_stands_in_all_four_places_or_in_none(
    scored: tuple[Path, Panel], tmp_path: Path, value: float, floor: float | None, num_fake: int, warned: bool
) -> None:
    network = load("nih-64")
    records = [{**each, "network_sha256": network.sha256} for each in scored[1].records]
    (rate,) = (each for each in records if each["key"] == "memorised_rate")
    rate |= {"value": value, "floor": floor, "ci95": [0.0, 0.6], "num_fake": num_fake}
    path = tmp_path / "scores.json"
    path.write_text(json.dumps(records))
    records = read_scores(path, network.sha256)
    places = {
        "terminal": score_table(Panel(records)),
        "report": "\n".join(panel_verdict(Panel(records))),
        "card": card(network, "nih-64", records, "x.png", "", "make it"),
        "page of evidence": "\n".join(evidence_facts([], [], records)["verdict"]),
    }
    assert {name: WARNING in text for name, text in places.items()} == dict.fromkeys(places, warned)
    (line,) = copies(records)
    assert {name: line in text for name, text in places.items()} == dict.fromkeys(places, True)
    assert f"{value:.1%} of the films ({round(value * num_fake)})" in line


def test_sentences_claim_no_more_than_the_scores() -> None:
    assert verdict([]) == []
    assert verdict([record("fd_x", 2.0)]) == [], "without a floor a distance says nothing"
    for value, interval, words in (
        (6.0, [5.0, 7.0], "3.0 times as far from real patients as other real patients do"),
        (2.0, None, "about as far"),
        (1.5, [0.1, 3.0], "about as far"),
        (1.5, [1.2, 1.8], "nearer"),
        (9.0, [1.0, 17.0], "about"),
    ):
        (line,) = verdict([record("fd_x", value, interval, 2.0)])
        assert words in line
    told = record("probe_x_y_real_or_synthetic_auc", 0.7, [0.65, 0.75], 0.52)
    assert verdict([told]) == ["A linear judge tells synthetic from real films with an AUC of 0.70, 0.65 to 0.75; 0.5 is guessing."]
    assert verdict([record("recall_x", 0.5, [0.4, 0.6], 0.9)]) == [
        "50% of the real films have a synthetic film in their neighbourhood, of other real films 90%."
    ]


def test_every_set_of_films_has_its_sentence() -> None:
    lines = copies([record("memorised_rate", 0.001, None, 0.0), record("memorised_rate", 0.4, None, 0.0)])
    assert [WARNING in line for line in lines] == [False, True]


def test_the_report_and_the_page_say_the_same(scored: tuple[Path, Panel]) -> None:
    # The report ignored the intervals: "1.4 times as far" of what the page called about as far.
    _, found = scored
    lines = verdict(found.records)
    assert panel_verdict(found)[: len(lines)] == lines == evidence_facts([], [], found.records)["verdict"]
