"""Facts as text and as a page: whole, safe to show, and asking for nothing."""

import base64
import hashlib
import json
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.drawn import charts
from tests.report.conftest import HOSTILE, facts_of, film, flat, write_pool
from thiscxr.labels import FINDINGS, SEXES, VIEWS, FilmRecord, Terms
from thiscxr.report import pool as describe
from thiscxr.report.pool import facts as describe_facts
from thiscxr.report.pool.page import page, write_page
from thiscxr.report.pool.text import WIDTH, describe_text, sparkline
from thiscxr.report.pool.warnings import find_warnings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


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
        if tag not in ("meta", "img", "br"):
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
        "svg",
        "link",
        "iframe",
        "object",
        "form",
        "base",
        "image",
        "use",
        "foreignobject",
    }
    names = {name for _, name, _ in reader.attributes}
    assert not {name for name in names if name.startswith("on")} | {"style", "xlink:href"} & names
    assert len(charts(text)) == reader.tags["img"]
    assert {value[0] for value in reader.values("href")} == {"#"}
    ids = reader.values("id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in reader.values("href")} <= set(ids)
    assert {name for value in reader.values("aria-labelledby") for name in value.split()} <= set(ids)
    style = text.split("<style>")[1].split("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert policy in reader.values("content")
    assert "url(" not in style
    assert "@import" not in style
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
        '<th scope="row">Effusion</th><td>72</td><td>72</td>',
        "36 / 72, 50%",
        "36 / 36, 100%",
        "here, about 3,000 x 2,500 px</th><td>144</td>",
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
    assert "no finding is annotated, so none can be requested" in facts["warnings"]
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


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (`apt-get install chromium`)")
def test_a_browser_finds_nothing_to_complain_of(two: Path, tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs `pip install playwright`")
    write_page(tmp_path / "page.html", describe.describe_pool(two))
    seen: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for width in (320, 1400):
            sheet = browser.new_page(viewport={"width": width, "height": 900})
            sheet.on("console", lambda message: seen.append(message.text))
            sheet.on("request", lambda request: request.url.startswith("data:") or seen.append(request.url))
            sheet.goto(f"file://{tmp_path}/page.html")
            assert sheet.evaluate("document.documentElement.scrollWidth") <= width
            # the policy lets the style in
            assert sheet.evaluate("getComputedStyle(document.querySelector('.figures')).display") == "grid"
            assert sheet.evaluate(
                "[...document.querySelectorAll('.drawing img')].every(one => one.complete && one.naturalHeight > 20)"
            )
        browser.close()
    assert seen == [f"file://{tmp_path}/page.html"] * 2
