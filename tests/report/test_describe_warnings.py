"""Warnings of a set of films: each fires for what it names, and none for less."""

from pathlib import Path
from typing import Any

import pytest

from tests.report.conftest import changed, facts_of, film, flat, only, plain, write_pool
from thiscxr.report import pool as describe
from thiscxr.report.pool.warnings import find_warnings


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
            "3 groups of duplicate films lie in both splits, so the holdout contains",
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
            "the look gives the source away",
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
            "no film is held out, so there is nothing to score",
        ),
        (
            lambda: only("patient", str),
            "here: no patient has two films; if there are no patient ids, no split keeps patients apart",
        ),
        (
            lambda: only("findings", lambda n: {**film(n).findings, "Hernia": 1, "Fracture": 0}),
            "only here annotates Hernia, Fracture: requesting them gives the hospital away",
        ),
        (
            lambda: only("findings", lambda n: {**film(n).findings, "Hernia": 1}),
            "only here annotates Hernia: requesting it gives",
        ),
        (
            lambda: facts_of(here=[film(n, findings={}) for n in range(144)]),
            "no finding is annotated, so none can be requested",
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
