"""The gallery's files: what is written, what is refused, and what is never touched."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tests.scores import record, written
from thiscxr.gallery.evidence import evidence
from thiscxr.gallery.pages import site_sources
from thiscxr.gallery.site import build_site
from thiscxr.model.network_file import find_network
from thiscxr.score.records import Record

Snapshot = Callable[[Path], dict[str, bytes]]


class Page(HTMLParser):
    """The start tags of a page as (tag, attributes), and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(folder: Path, name: str) -> Page:
    return Page((folder / name).read_text(encoding="utf-8"))


def test_pages_are_whole_without_a_script(samples: Path, scores: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert build_site(samples, out, scores) == out / "index.html"

    film, gallery, about = (read(out, name) for name in ("index.html", "gallery.html", "about.html"))
    lazy = [image for image in gallery.all("img") if image.get("loading") == "lazy"]
    assert [image["src"] for image in lazy] == [f"films/seed-{seed:08d}.png" for seed in range(12)]
    assert {(image["width"], image["height"]) for image in lazy} == {("64", "64")}
    alt = (
        "Synthetic chest x-ray, seed 4, asked for: AP view, female, 44 years, "
        "effusion, pleural thickening. Not a patient."
    )
    assert lazy[4]["alt"] == alt
    for page in (film, gallery, about):
        assert page.all("html")[0]["lang"] == "en"
        assert {meta.get("property") for meta in page.all("meta")} >= {
            "og:title",
            "og:description",
            "og:type",
            "og:image",
            "og:image:alt",
        }
        assert len(page.all("h1")) == 1
        assert len(page.all("main")) == 1
        links = [link["href"] for link in page.all("a") if str(link.get("href")).endswith(".html")]
        assert links[:6] == ["index.html", "gallery.html", "study.html", "audit.html", "evidence.html", "about.html"]
        assert "Not a patient. Not for diagnosis." in page.text
    lines = [line for page in (film, gallery) for line in re.findall(r"[^\n]*effusion", page.text)]
    assert len(lines) > 3
    # never that a film has it
    assert [line for line in lines if not re.search("Asked for: |A classifier predicts: |Predicted: ", line)] == []
    assert "shown enlarged from 64\xa0px" in gallery.text
    assert "Asked for: PA view" in gallery.text
    assert "5 times as far" in read(out, "evidence.html").text
    assert "Nobody & al." in about.text
    assert "Thanks." in about.text
    assert "123,456" in about.text
    assert "64 × 64 px" in about.text


def test_predicted_is_shown_only_where_it_was_requested_too(samples: Path, tmp_path: Path) -> None:
    build_site(samples, tmp_path / "out")
    film, gallery = read(tmp_path / "out", "index.html"), read(tmp_path / "out", "gallery.html")
    # samples.csv: asked Effusion|Pleural_Thickening, seen Effusion|Mass
    assert "A classifier predicts: effusion" in film.text
    assert gallery.text.count("Predicted: effusion") == 3
    assert "mass" not in film.text + gallery.text


def test_how_near_the_nearest_training_film_is(make_samples: Callable[..., Path], tmp_path: Path) -> None:
    for number, (cells, said) in enumerate(
        [
            ({"stranger_rank": "0.62"}, "62\xa0% of real films have"),
            ({"stranger_rank": "0.004"}, "fewer than 1\xa0% of real films have"),
            ({"stranger_rank": "", "memorised": ""}, "Not compared with the training films."),
        ]
    ):
        folder = make_samples(cells, name=f"samples-{number}")
        build_site(folder, tmp_path / f"out-{number}")
        assert said in read(tmp_path / f"out-{number}", "index.html").text


def test_links_are_relative_and_nothing_is_inline(make_nih_samples: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_site(make_nih_samples(*[{}] * 3), out, model=find_network("nih-64"), url="https://example.net/cxr")
    pages = sorted(out.glob("*.html"))
    assert [path.name for path in pages] == [
        f"{name}.html" for name in ("about", "audit", "evidence", "gallery", "index", "make", "study")
    ]
    for path in pages:
        page = Page(path.read_text(encoding="utf-8"))
        for tag, attributes in page.tags:
            assert "style" not in attributes
            assert tag != "style"
            assert not [name for name in attributes if name.startswith("on")]
            address = attributes.get("src") or attributes.get("href")
            if address in ("https://example.org/a?b&c", "https://nihcc.app.box.com/v/ChestXray-NIHCC"):
                assert tag == "a"  # the citation of a source is the one thing that leads away, and it is no request
            elif attributes.get("rel") == "canonical":
                assert address == f"https://example.net/cxr/{path.name}"
            elif address and str(address).startswith("data:"):
                assert tag == "img"  # a chart
            elif address and not address.startswith("#"):
                assert (out / address).is_file(), address
        assert [link for link in page.all("a") if "javascript" in str(link.get("href"))] == []
        policy = next(
            str(meta["content"]) for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
        )
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert ("connect-src" in policy) == (path.name == "make.html")


def test_same_input_same_bytes(make_nih_samples: Callable[..., Path], tmp_path: Path, snapshot: Snapshot) -> None:
    samples = make_nih_samples(*[{}] * 5)
    build_site(samples, tmp_path / "one", model=find_network("nih-64"))
    build_site(samples, tmp_path / "two", model=find_network("nih-64"))
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


def test_every_value_is_escaped(make_samples: Callable[..., Path], tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\"'&"
    cells = {
        "findings": hostile,
        "no_findings": hostile,
        "view": hostile,
        "sex": hostile,
        "source": hostile,
        "seen": hostile,
    }
    folder = make_samples(cells, {"view": "lateral"}, network={"name": hostile, "code_version": hostile})
    scores = written(tmp_path / "scores.json", record(hostile, extractor=hostile, question=hostile, group=hostile))
    build_site(folder, tmp_path / "out", scores, title=hostile)
    own = {
        "index.html": ["films.js", "gallery.js"],
        "gallery.html": ["films.js", "png.js", "gallery.js"],
        "about.html": [],
    }
    for name, scripts in own.items():
        html = (tmp_path / "out" / name).read_text(encoding="utf-8")
        page = Page(html)
        found = [script.get("src") for script in page.all("script") if script.get("type") != "application/ld+json"]
        assert found == scripts
        assert "<script>alert" not in html
        assert "<b>" not in html
    assert "&lt;b&gt;bold" in (tmp_path / "out" / "about.html").read_text()
    assert hostile.lower() in str(read(tmp_path / "out", "index.html").all("img")[1]["alt"])
    linked = json.loads(re.findall(r'ld\+json">(.*?)</script>', (tmp_path / "out" / "index.html").read_text())[0])
    assert hostile.lower() in linked["description"]  # escaped for the page, whole for who reads it


def test_films_are_described_for_machines(samples: Path, tmp_path: Path) -> None:
    build_site(samples, tmp_path / "out")
    for name in ("index.html", "gallery.html"):
        linked = json.loads(re.findall(r'ld\+json">(.*?)</script>', (tmp_path / "out" / name).read_text())[0])
        films = linked.get("associatedMedia", [linked])
        assert {film["@type"] for film in films} == {"ImageObject"}
        assert {film["digitalSourceType"] for film in films} == {
            "https://schema.org/TrainedAlgorithmicMediaDigitalSource"
        }
        assert all((tmp_path / "out" / film["contentUrl"]).is_file() for film in films)
        assert all("Synthetic. Not a patient." in film["description"] for film in films)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["notice"] == "Synthetic. Not a patient. Not for diagnosis."
    assert manifest["films"][4]["asked"]["findings"] == ["Effusion", "Pleural_Thickening"]
    assert manifest["films"][4]["permalink"] == "#seed=4"
    assert manifest["films"][4]["width_px"] == 64
    web = json.loads((tmp_path / "out" / "site.webmanifest").read_text())
    for icon in web["icons"][:2]:
        assert Image.open(tmp_path / "out" / icon["src"]).size == tuple(map(int, icon["sizes"].split("x")))


def test_search_engines_are_kept_away_unless_asked(samples: Path, tmp_path: Path) -> None:
    for index, meta, robots in (
        (False, "noindex, nofollow, noimageindex", "Disallow: /"),
        (True, "noimageindex", "Allow: /"),
    ):
        build_site(samples, tmp_path / "out", index=index)
        said = f'<meta name="robots" content="{meta}">'
        assert {page.name for page in tmp_path.glob("out/*.html") if said in page.read_text()} == {
            "index.html", "gallery.html", "study.html", "audit.html", "evidence.html", "about.html",
        }  # fmt: skip
        assert robots in (tmp_path / "out" / "robots.txt").read_text().splitlines()


def test_many_films_come_in_pages(make_samples: Callable[..., Path], tmp_path: Path) -> None:
    build_site(make_samples(*[{}] * 250), tmp_path / "out")
    seeds: list[str] = []
    for number, name in enumerate(["gallery.html", "gallery-2.html", "gallery-3.html"], 1):
        page = read(tmp_path / "out", name)
        seeds += [str(item["id"]) for item in page.all("li") if "seed" in str(item.get("id"))]
        assert f"Page {number} of 3" in page.text
    assert seeds == [f"seed={seed}" for seed in range(250)]
    links = [
        link.get("href")
        for link in read(tmp_path / "out", "gallery-2.html").all("a")
        if "gallery" in str(link.get("href"))
    ]
    assert links == ["gallery.html", "gallery.html", "gallery.html", "gallery-3.html", "gallery-3.html"]
    script = (tmp_path / "out" / "films.js").read_text()
    films = json.loads(script[script.index("= {") + 2 : script.rindex(";")])["films"]
    assert [film["key"] for film in films] == list(map(str, range(250)))


def test_two_films_of_one_seed_have_their_own_permalinks(make_samples: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_samples({"seed": "7"}, {"seed": "7", "file": "seed-7 with mass.png", "findings": "Mass"})
    build_site(folder, tmp_path / "out")
    page = read(tmp_path / "out", "gallery.html")
    assert [item["id"] for item in page.all("li") if "seed" in str(item.get("id"))] == ["seed=7", "seed=7.2"]
    assert page.all("img")[-2]["src"] == "films/seed-7%20with%20mass.png"


def test_films_with_nothing_requested(make_samples: Callable[..., Path], tmp_path: Path) -> None:
    cells = "view sex age_years findings seen truncation network_sha256 stranger_rank memorised"
    bare = dict.fromkeys(cells.split(), "")
    build_site(make_samples(bare, bare, bare), tmp_path / "out")
    page = read(tmp_path / "out", "gallery.html")
    assert page.all("form") == []
    assert "Nothing was asked for" in page.text
    assert "None of these films has been compared with the training films yet" in page.text
    assert "No scores came with these films" in read(tmp_path / "out", "evidence.html").text


def test_memorised_films_are_left_out_and_counted(make_samples: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_samples({}, {"memorised": "true"}, {"memorised": "True"}, {})
    build_site(folder, tmp_path / "out")
    assert "2 films were left out of this gallery" in read(tmp_path / "out", "gallery.html").text
    assert sorted(path.name for path in (tmp_path / "out" / "films").iterdir()) == [
        "seed-00000000.png",
        "seed-00000003.png",
    ]
    only = make_samples({"memorised": "true"}, name="only")
    with pytest.raises(ValueError, match="all 1 films are flagged as memorised"):
        build_site(only, tmp_path / "none")


def test_weight_of_a_site_of_64_films(
    make_nih_samples: Callable[..., Path], tmp_path: Path, snapshot: Snapshot
) -> None:
    """Beside the films themselves, whose weight is theirs: drawn ones here are lighter than the bundled network's 4 kB.

    Those of the study come one at a time, to those who take part.
    """
    out = tmp_path / "out"
    build_site(make_nih_samples(*[{}] * 64), out, model=find_network("nih-64"))
    sizes = {
        name: len(data)
        for name, data in snapshot(out).items()
        if not name.startswith(("generator/", "films/", "study/"))
    }
    film = 4500  # bytes, and no more for 99 of 100 films of nih-64
    first = (
        sum(
            sizes[name]
            for name in ("index.html", "style.css", "favicon.svg", "films.js", "gallery.js", "site.webmanifest")
        )
        + film
    )
    total = sum(sizes.values()) + 64 * film
    print(f"first film {first} bytes, all but the generator {total} bytes")
    assert first < 60_000
    assert total < 800_000


def test_scores_in_words(score_records: list[Record]) -> None:
    words = evidence(score_records[0], [0.7])
    assert (words["value"], words["interval"], words["floor"]) == ("40", "38 to 42", "8")
    assert "these films are worse, 5 times as far" in words["said"]
    assert "Real films of other patients: 0.81." in evidence(record("precision", 0.6, None, 0.81), [])["said"]
    assert "says little by itself" in evidence(score_records[1], [])["said"]
    assert evidence(score_records[1], [0.7])["basis"] == (
        "600 real and 600 synthetic films, truncation 1.0 (films shown here: 0.7)"
    )
    assert evidence(record("x", None), [])["said"] == "It was not measured."


def test_sources_hold_no_foreign_address() -> None:
    allowed = ("https://schema.org", "http://www.w3.org/2000/svg")
    sources = [path for path in site_sources().rglob("*.*") if path.suffix != ".png"]
    assert {path.suffix for path in sources} >= {".css", ".html", ".js"}
    for path in sources:
        text = path.read_text(encoding="utf-8")
        for address in allowed:
            text = text.replace(address, "")
        assert "://" not in text.replace("file://", ""), path


def luminance(colour: str) -> float:
    """Return the relative luminance of #rrggbb (WCAG 2.2)."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_colours_can_be_read() -> None:
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", (site_sources() / "style.css").read_text()))
    for ink in ("text", "quiet", "link", "warning"):
        for ground in ("ground", "raised"):
            assert (luminance(colours[ink]) + 0.05) / (luminance(colours[ground]) + 0.05) >= 4.5


def test_long_lists_of_absent_findings_are_counted_and_no_finding_is_not_denied() -> None:
    from thiscxr.gallery.samples import Film
    from thiscxr.gallery.words import requested

    blank = dict.fromkeys(Film.__dataclass_fields__, "")
    film = Film(
        **{**blank, "view": "PA", "age_years": None, "findings": ("Mass",), "no_findings": ("No Finding", "Edema")}
    )
    assert requested(film) == "PA view, mass; without edema"
    film = Film(**{**blank, "view": "PA", "age_years": None, "findings": (), "no_findings": tuple("ABCDE")})
    assert requested(film) == "PA view; without 5 other findings"


def test_the_page_names_what_the_training_started_from(make_samples: Callable[..., Path], tmp_path: Path) -> None:
    for place, (start, named) in enumerate({"phantom-64, 300,000 films": True, "": False, "<b>": True}.items()):
        folder = make_samples({}, name=f"samples-{place}", network={"started_from": start})
        build_site(folder, tmp_path / f"out-{place}")
        for page, words in {
            "index.html": "training of the network started from",
            "about.html": "Training started",
        }.items():
            html = (tmp_path / f"out-{place}" / page).read_text()
            assert (words in html) is named
            assert "<b>" not in html
            assert start.replace("<b>", "&lt;b&gt;") in html


@pytest.mark.parametrize(("views", "front"), [(["lateral", "", "AP", "PA"], 2), (["lateral", ""], 0)])
def test_the_first_page_begins_with_a_frontal_film(
    views: list[str], front: int, make_samples: Callable[..., Path], tmp_path: Path
) -> None:
    build_site(make_samples(*({"view": view} for view in views)), tmp_path / "out")
    index = (tmp_path / "out" / "index.html").read_text()
    assert f'id="hero-link" href="#seed={front}"' in index
    assert f'id="hero-picture"><img src="films/seed-{front:08d}.png"' in index
