"""The report: self-contained, every value escaped, the same bytes for the same panel, and no claim beyond the
numbers."""

import re
from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup

from tests.conftest import blob
from tests.drawn import charts
from tests.scores import record
from thiscxr.gallery.evidence import evidence_facts
from thiscxr.pixels import save_png
from thiscxr.pool import Pool
from thiscxr.report.page import Figure, Section, render
from thiscxr.report.scores import report
from thiscxr.report.terminal import score_table
from thiscxr.report.verdict import verdict
from thiscxr.report.words import WORDS, Words
from thiscxr.score import panel
from thiscxr.score.anatomy import COMPARED, Frontals, compare
from thiscxr.score.fakes import open_fakes
from thiscxr.score.memorisation import Pair
from thiscxr.score.records import Record


@pytest.fixture(scope="module")
def page(pool: Pool, scored: tuple[Path, panel.Panel]) -> tuple[str, panel.Panel, str]:
    path, found = scored
    with open_fakes(str(path), 32, 64, 1.0, "cpu") as fakes:
        return report(pool, fakes, found), found, report(pool, fakes, found)


def test_it_is_self_contained(page: tuple[str, panel.Panel, str]) -> None:
    text, found, again = page
    assert text == again
    assert len(charts(text)) >= 10
    assert "<script" not in text
    assert not [
        address
        for address in re.findall(r'(?:src|href)="([^"]*)"', text)
        if not address.startswith(("data:image/png;base64,", "data:image/svg+xml,", "#"))
    ]
    assert "default-src 'none'" in text
    for each in found.records:
        if (
            each.value is not None
            and each.statistic not in ("mae", "auc")
            and each.measure not in ("utility", "poses", "fidelity")
        ):
            assert each.key in text, each.key


def test_names_of_files_are_escaped(page: tuple[str, panel.Panel, str]) -> None:
    # The page names the films of the worst pairs: whichever they are, none may open a tag.
    text, found, _ = page
    assert found.audit is not None
    worst = np.argsort(found.audit.found.ratio, kind="stable")[:16]
    assert ("&lt;script&gt;.png" in text) is (0 in worst)


def test_every_pair_says_which_film_is_which_and_how_near(page: tuple[str, panel.Panel, str]) -> None:
    text, found, _ = page
    assert found.audit is not None
    for i in np.argsort(found.audit.found.ratio, kind="stable")[:16]:
        assert f"distance {found.audit.found.distance[i]:.3f}" in text
        assert f"{found.audit.stranger_rank[i]:.1%} of unrelated patients are as near" in text
    sheet = text[text.index('<ul class="twins">') :]
    assert (sheet.count(">synthetic</strong>"), sheet.count(">real</strong>")) == (16, 16)
    assert (sheet.count('alt="synthetic film: '), sheet.count('alt="real film: ')) == (16, 16)


def test_a_film_that_may_not_be_shown_is_not_among_the_pairs() -> None:
    pair = Pair("seed 7", 0.1, 0.25, 0.5, True, "mimic-cxr", blob(0, 32, True), None)
    figure = Figure("Pairs", "", [pair], [["a"], ["b"]], wide=True)
    facts = {"title": "", "subtitle": "", "verdict": [], "notes": [], "sources": {}}
    drawn = render("scores.html", every=[Section("copies", "", "", [figure])], **facts)
    assert drawn.count("data:image/png") == 1
    assert "not shown: terms of mimic-cxr" in drawn
    assert "seed 7<br>distance 0.100, flagged<br>25.0% of unrelated patients are as near" in drawn


def test_a_new_measure_is_shown_from_its_words_alone(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_png(tmp_path / "film.png", blob(1, 32, effusion=False))
    monkeypatch.setitem(WORDS, "sway", Words("spread", "Sway", "how far films sway", "lower"))
    known = Record("sway", 0.25, (0.2, 0.3), 0.1, 100, 100)
    found = panel.Panel([known, Record("unheard", 1.5, None, None, 100, 100)])
    with open_fakes(str(tmp_path), 32, 64, 1.0, "cpu") as fakes:
        text = report(pool, fakes, found)
    assert [chart.alt.partition(":")[0] for chart in charts(text)] == ["Sway", "Unheard"]
    assert "How far films sway; lower is better." in text


def test_the_verdict_claims_no_more_than_the_numbers(page: tuple[str, panel.Panel, str]) -> None:
    _, found, _ = page
    lines = verdict(found.records)
    assert lines[-1].startswith("Nothing here shows that a film cannot be distinguished from a real one")
    assert not [line for line in lines if "indistinguishable" in line or "has effusion" in line.lower()]


def test_distributions_of_lungs_and_heart_are_drawn_and_every_page_says_the_same(pool: Pool, tmp_path: Path) -> None:
    save_png(tmp_path / "film.png", blob(1, 32, effusion=False))
    rng, views = np.random.default_rng(0), np.repeat(["PA", "AP"], 100)
    sides = {
        name: Frontals({each: rng.normal(0.3 + more, 0.05, 200) for each in COMPARED}, views, np.arange(200))
        for name, more in (("real", 0.0), ("synthetic", 0.1))
    }
    found = panel.Panel([Record.of(each, network_sha256="ab" * 32) for each in compare(*sides.values())[0]])
    found.frontals = sides
    with open_fakes(str(tmp_path), 32, 64, 1.0, "cpu") as fakes:
        text = report(pool, fakes, found)
    drawn = [chart.alt for chart in charts(text)]
    assert sum("Shares of 100 real films and of 100 synthetic films." in alt for alt in drawn) == 10
    assert any(alt.startswith("Opacity of the lung on the viewer's left, view PA:") for alt in drawn)
    (line,) = [line for line in verdict(found.records) if "not distributed as on real films" in line]
    assert "(larger, " in line
    assert str(Markup.escape(line)) in text
    assert line in score_table(found)
    assert line in evidence_facts([], [], found.records)["verdict"]
    rows = evidence_facts([], [], found.records)["groups"][0]["rows"]
    (row,) = [each for each in rows if each["key"] == "anatomy_lungs64_view_AP_viewer_right_opacity_ks"]
    assert row["name"] == "Opacity of the lung on the viewer's right, distribution, view AP only"
    assert row["said"].endswith("; these films are above.")
    assert len(charts(row["drawing"])) == 1


def test_what_scores_mean_is_said_of_each_of_them_by_its_name(pool: Pool, tmp_path: Path) -> None:
    save_png(tmp_path / "film.png", blob(1, 32, effusion=False))
    found = panel.Panel(
        [
            *(record("anatomy", 0.2, floor=0.1, statistic="w1", question=name) for name in ("ctr", "heart lean")),
            record("anatomy", 0.2, floor=0.1, statistic="implausible"),
            *(record("grid", 0.2, floor=0.1, question=name) for name in ("rows", "columns")),
            record("sharpness", 0.2, floor=0.1),
            record("tie", 0.2, floor=0.1, question="Edema", protocol="source", group="real"),
            record("tie", 0.2, floor=0.1, question="Mass", protocol="view", group="asked"),
        ]
    )
    with open_fakes(str(tmp_path), 32, 64, 1.0, "cpu") as fakes:
        text = report(pool, fakes, found)
    assert "{question}" not in text  # the page said "{question}: Distance of" and "Grid, {question}: Power of"
    assert "Grid: Power of what alternates" in text
    assert "Implausible: Share of the films" in text
    assert "with the source, real films: The strongest association: Edema" in text  # it named the last one alone
    assert "with the view, as requested: The strongest association: Mass" in text
