"""The page of evidence: what it says of scores, films and the network, and what it must never say."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.drawn import charts
from tests.scores import SHA, record, written
from thiscxr.gallery.card import card_html
from thiscxr.gallery.evidence import drawing, evidence, nearest_films, requested_table, score_groups
from thiscxr.gallery.samples import Film
from thiscxr.gallery.site import build_site
from thiscxr.model.network_file import find_network
from thiscxr.score.panel import Panel
from thiscxr.score.records import Record

HOSTILE = "<script>alert(1)</script>\"'&"
PLANTED = {  # figures of scores that are in every panel: value, interval, floor
    ("fd", ""): (6.0, (5.0, 7.0), 2.0),
    ("kid", ""): (-0.01, (-0.04, 0.02), 0.005),
    ("recall", ""): (0.5, (0.4, 0.6), 0.9),
    ("memorised_rate", ""): (0.02, (0.01, 0.03), 0.006),
    ("real_or_synthetic", ""): (0.7, (0.65, 0.75), 0.52),
    ("probe", "age"): (0.5, None, 0.7),
    ("vendi", ""): (3.0, None, None),
    ("precision", ""): (None, None, None),
}


@pytest.fixture(scope="module")
def records(scored: tuple[Path, Panel]) -> list[Record]:
    """What the panel emits of a small pool, every part of it, with some figures that are known."""
    emitted = [replace(each, network_sha256=SHA) for each in scored[1].records]
    for (measure, question), (value, ci95, floor) in PLANTED.items():
        known = [
            i for i, each in enumerate(emitted) if (each.measure, each.question, each.group) == (measure, question, "")
        ]
        emitted[known[0]] = replace(emitted[known[0]], value=value, ci95=ci95, floor=floor)
    return emitted


def planted(records: list[Record], measure: str, question: str = "") -> Record:
    return next(each for each in records if (each.measure, each.question) == (measure, question))


def test_scores_are_sorted_by_section(records: list[Record]) -> None:
    groups = {
        group["slug"]: [row["key"] for row in group["rows"]]
        for group in score_groups([*records, record("odd_score", 3.0)], [1.0])
    }
    assert sum(map(len, groups.values())) == len(records) + 1
    kinds = {slug: {key.split("_")[0] for key in keys} for slug, keys in groups.items()}
    assert kinds == {
        "distances": {"fd", "fdinf", "kid"},
        "spectrum": {"grid", "sharpness", "band"},
        "spread": {"precision", "recall", "density", "coverage", "vendi", "msssim"},
        "copies": {"reid", "near", "memorised", "nearest"},
        "asked": {"fidelity"},
        "confounders": {"probe", "tie"},
        "anatomy": {"anatomy"},
        "utility": {"utility"},
        "reader": {"poses", "label"},
        "other": {"odd"},
    }


@pytest.mark.parametrize(
    ("measure", "question", "words"),
    [
        ("fd", "", "Real films of other patients: 2; these films are worse, 3 times as far."),
        ("kid", "", "the interval contains it, which shows no difference and rules none out"),
        ("recall", "", "higher is better. Real films of other patients: 0.9; these films are worse."),
        ("probe", "age", "(correlation); the nearer to the floor, the better."),
        ("vendi", "", "No floor was measured, so the number says little by itself."),
        ("precision", "", "It was not measured."),
    ],
)
def test_what_is_said_of_a_score(records: list[Record], measure: str, question: str, words: str) -> None:
    assert words in evidence(planted(records, measure, question), [1.0])["said"]


def test_names_of_scores_name_the_condition(records: list[Record]) -> None:
    # The extractor's name was taken to end at its first underscore: "Probe: nb view". The distances of findings had no
    # name of their own.
    said = [evidence(each, []) for each in records]
    names = {each["key"]: each["name"] for each in said}
    assert not [name for name in names.values() if re.search(r"\bmy\b|\bnb\b|_", name)]
    assert all("extractor my_nb" in each["basis"] for each in said if "my_nb" in each["key"])
    assert (
        names.items()
        >= {
            "fd_my_nb_25_view_PA": "Fréchet distance, view PA only",
            "fd_my_nb_25_Effusion": "Fréchet distance, Effusion only",
            "fdinf_my_nb": "Fréchet distance, infinitely many films (FD∞)",
            "reid_rank1_my_nb": "Re-identification, its ceiling by the nearest film",
            "probe_my_nb_view_auc": "Probe: view",
            "probe_my_nb_age_over_median_auc": "Probe: age over the median",
            "probe_my_nb_age_mae": "Probe: age, error",
            "fidelity_my_nb_Effusion_auc": "Predicted as requested: Effusion",
            "fidelity_my_nb_view_AP_auc": "Predicted as requested: view AP",
            "fidelity_my_nb_age_mae": "Predicted as requested: age, error",
            "tie_asked_finding_view_v": "Association of a finding with the view, as requested",
            "anatomy_lungs64_leans_left": "Leans left",
        }.items()
    )


def test_where_a_score_is_drawn(records: list[Record]) -> None:
    (fd,) = charts(drawing(planted(records, "fd")))
    assert fd.alt.endswith(": 6, interval 5 to 7, floor 2")
    (value,), (floor,) = fd.marks("fill: #b9d9ee"), fd.marks("stroke: #f0a02c")
    assert (float(fd.texts[0]), floor[0] < value[0]) == (0, True)
    (share,) = charts(drawing(planted(records, "recall")))
    assert (share.alt[-37:], share.texts) == (": 0.5, interval 0.4 to 0.6, floor 0.9", ["0", "1"]), "always 0 to 1"
    (below,) = charts(drawing(planted(records, "kid")))
    assert below.alt.endswith(": −0.01, interval −0.04 to 0.02, floor 0.005")
    assert float(below.texts[0].replace("−", "-")) <= -0.04
    assert drawing(planted(records, "precision")) == ""
    (odd,) = charts(drawing(record("odd", 0.0)))
    assert odd.alt.endswith(": 0, floor –")


def test_the_nearest_films_come_first_and_the_ranks_are_counted() -> None:
    films = [
        Film(f"{i}.png", i, str(i), nearest=0.1 + i / 100, stranger_rank=i / 20, memorised=i == 0) for i in range(20)
    ]
    found = nearest_films([*films[::-1], Film("new.png", 99, "99")])
    assert found is not None
    assert [film.seed for film in found["rows"]] == list(range(12))
    assert (found["num_films"], found["num_flagged"]) == (20, 1)
    assert found["drawing"].count(" 10%") == 10  # as of unrelated patients
    assert nearest_films([Film("new.png", 99, "99")]) is None
    copies = nearest_films([Film(f"{i}.png", i, str(i), stranger_rank=0.0) for i in range(5)])
    assert copies is not None
    (bars,) = charts(copies["drawing"])
    assert bars.alt.endswith(": 100%" + ", 0%" * 9)
    assert {"100", "0", "0, nearer than all unrelated patients"} <= set(bars.texts)


def test_an_association_shows_in_what_was_requested() -> None:
    films = [
        Film(f"{i}.png", i, str(i), "AP" if i < 5 else "PA", "F", 50.0, findings=("Edema",) if i < 5 else ())
        for i in range(20)
    ]
    table = requested_table(films)
    assert table["views"] == ["AP", "PA"]
    assert table["rows"][0] == {"finding": "", "films": 20, "views": ["25%", "75%"], "women": "100%", "age": "50"}
    assert table["rows"][1] == {"finding": "Edema", "films": 5, "views": ["100%", "0%"], "women": "100%", "age": "50"}


def test_the_page(make_samples: Callable[..., Path], records: list[Record], tmp_path: Path) -> None:
    ranked = [
        {"nearest": f"{0.1 + i / 100}", "stranger_rank": f"{i / 12}", "memorised": "false" if i else "true"}
        for i in range(12)
    ]
    samples = make_samples(*ranked)
    scores = written(tmp_path / "scores.json", *records)
    (tmp_path / "card.md").write_text(f"# My network\n\n- **Data**: {HOSTILE}\n")
    build_site(samples, tmp_path / "out", scores, card=tmp_path / "card.md")
    html = (tmp_path / "out" / "evidence.html").read_text()
    assert len(charts(html)) == sum(each.value is not None for each in records) + 1
    assert "default-src 'none'" in html
    own = re.sub(r'src="data:image/svg[^"]*"', "", html)  # a picture's own style is no style of the page
    assert not re.search(r"<style|style=|<script|\son\w+=", own)  # nothing inline, and no script at all
    assert "<h3>My network</h3>" in html
    assert "&lt;script&gt;alert" in html
    assert "None is for diagnosis" in html or "none is for diagnosis" in html
    assert "cannot be distinguished from a real one" in html  # as what nothing here shows
    assert "films/seed-00000001.png" in html
    assert "films/seed-00000000.png" not in html  # flagged: named, with its distance, but not shown
    assert re.search(
        r"Seed 0 <span class=\"note\">not shown</span></th>\s*<td data-label=\"Distance\">0.100</td>", html
    )
    assert 'href="evidence.html"' in (tmp_path / "out" / "index.html").read_text()


def test_what_is_not_there_is_said(make_samples: Callable[..., Path], tmp_path: Path) -> None:
    samples = make_samples(*[{"stranger_rank": "", "memorised": ""}] * 2)
    build_site(samples, tmp_path / "out")
    html = (tmp_path / "out" / "evidence.html").read_text()
    assert "No scores came with these films" in html
    assert "These films have not been compared with the training films" in html
    assert "No model card came with it." in html
    assert not charts(html)
    with pytest.raises(ValueError, match=r"model card .*none\.md cannot be read"):
        build_site(samples, tmp_path / "out", card=tmp_path / "none.md")


def test_hostile_words_stay_words(make_samples: Callable[..., Path], tmp_path: Path) -> None:
    cells = {"findings": HOSTILE, "view": HOSTILE, "sex": HOSTILE}
    fidelity = record("fidelity", None, question=HOSTILE, statistic="auc")
    scores = written(tmp_path / "scores.json", record(HOSTILE, 1.0, extractor=HOSTILE, split=HOSTILE), fidelity)
    build_site(make_samples(cells, {}, network={"name": HOSTILE}), tmp_path / "out", scores, title=HOSTILE)
    for page in ("evidence.html", "study.html", "audit.html"):
        html = (tmp_path / "out" / page).read_text()
        assert "<script>alert" not in html
        assert "<b>" not in html
        assert 'href="javascript' not in html


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("---\nlicense: other\n---\n# One\n## Two", "<h3>One</h3><h4>Two</h4>"),
        (
            "[a](https://x.org) <https://y.org>",
            '<p><a href="https://x.org" rel="noreferrer">a</a> '
            '<a href="https://y.org" rel="noreferrer">https://y.org</a></p>',
        ),
        ("[a](javascript:alert) [*b*](films.csv) ![grid](card.png)", "<p>[a](javascript:alert) <em>b</em> grid</p>"),
        (
            "|a|\n|-|\n|<1>|",
            '<table class="plain"><thead><tr><th>a</th></tr></thead><tbody><tr><td>&lt;1&gt;</td></tr></tbody></table>',
        ),
        ("<b onclick=x>bold</b>", "<p>&lt;b onclick=x&gt;bold&lt;/b&gt;</p>"),
        (f"`{HOSTILE}` [{HOSTILE}](https://x.org)", None),
    ],
)
def test_cards(text: str, html: str | None) -> None:
    found = card_html(text)
    assert "<script" not in found
    assert html is None or found.replace("\n", "") == html


def test_a_card_beside_the_network_is_found(make_nih_samples: Callable[..., Path], tmp_path: Path) -> None:
    build_site(make_nih_samples({}), tmp_path / "out", model=find_network("nih-64"))
    assert "<h3>nih-64</h3>" in (tmp_path / "out" / "evidence.html").read_text()


@pytest.mark.parametrize(
    "width", [320, pytest.param(1280, marks=pytest.mark.slow), pytest.param(3840, marks=pytest.mark.slow)]
)
def test_browser_pages_fit_every_screen(
    visit: Any, make_samples: Callable[..., Path], records: list[Record], tmp_path: Path, width: int
) -> None:
    scores = written(tmp_path / "scores.json", *records)
    row = {"seed": "123456", "findings": "Pneumothorax", "view": "AP_supine", "stranger_rank": "0.861"}
    build_site(make_samples({}, {}, {}, row), tmp_path / "out", scores)
    page = visit((tmp_path / "out" / "evidence.html").as_uri(), reduced_motion="reduce")
    page.page.set_viewport_size({"width": width, "height": 800})
    for name in ("evidence", "audit", "study"):
        page.page.goto((tmp_path / "out" / f"{name}.html").as_uri())
        assert page.look("document.documentElement.scrollWidth") <= width, name
        assert page.look("[...document.querySelectorAll('.forest img')].every(each => each.naturalHeight > 20)")
        if name == "study":
            page.page.click("#begin")
            page.until("!document.getElementById('next').disabled")
            assert page.look("document.documentElement.scrollWidth") <= width
            assert page.look("document.getElementById('stage').getBoundingClientRect().width") >= 0.6 * min(width, 400)
