"""The gallery's files: what is written, what is refused, and what is never touched."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from thiscxr.gallery.evidence import evidence
from thiscxr.gallery.folder import MARKER, check_ours
from thiscxr.gallery.pages import site_sources
from thiscxr.gallery.site import build_site


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


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_page_is_whole_without_a_script(samples: Path, scores: Path, tmp_path: Path) -> None:
    summary = build_site(samples, tmp_path / "out", scores)
    html = summary.index.read_text(encoding="utf-8")
    page = Page(html)
    assert (summary.num_films, summary.num_memorised, summary.num_unscreened, summary.num_scores) == (12, 0, 0, 2)
    assert summary.page_bytes == len(html.encode())
    assert summary.total_bytes == sum(map(len, snapshot(tmp_path / "out").values()))

    lazy = [image for image in page.all("img") if image.get("loading") == "lazy"]
    assert [image["src"] for image in lazy] == [f"films/seed-{seed:08d}.png" for seed in range(12)]
    assert {(image["width"], image["height"]) for image in lazy} == {("64", "64")}
    assert (
        lazy[4]["alt"]
        == "Synthetic chest x-ray, seed 4, asked for: AP view, female, 44 years, effusion, pleural thickening. Not a patient."
    )
    assert page.all("html")[0]["lang"] == "en"
    assert {meta.get("property") for meta in page.all("meta")} >= {"og:title", "og:description", "og:type"}
    assert "shown enlarged from 64\xa0px" in page.text
    assert "5 times as far" in page.text
    assert "Asked for: PA view" in page.text
    assert "has effusion" not in page.text
    assert "Nobody & al." in page.text
    assert "Thanks." in page.text
    assert "123,456" in page.text


def test_links_are_relative_and_nothing_is_inline(samples: Path, tmp_path: Path) -> None:
    page = Page(build_site(samples, tmp_path / "out").index.read_text(encoding="utf-8"))
    for tag, attributes in page.tags:
        assert "style" not in attributes
        assert tag != "style"
        assert not [name for name in attributes if name.startswith("on")]
        address = attributes.get("src") or attributes.get("href")
        if address == "https://example.org/a?b&c":  # the citation of a source is the one thing that leads away, and it is no request
            assert tag == "a"
        elif address and not address.startswith("#"):
            assert (tmp_path / "out" / address).is_file(), address
    assert [link for link in page.all("a") if "javascript" in str(link.get("href"))] == []
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'")
    assert "unsafe" not in str(policy)


def test_same_input_same_bytes(samples: Path, scores: Path, tmp_path: Path) -> None:
    build_site(samples, tmp_path / "one", scores)
    build_site(samples, tmp_path / "two", scores)
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


def test_every_value_is_escaped(make_samples: Callable[..., Path], tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\"'&"
    cells = {"findings": hostile, "no_findings": hostile, "view": hostile, "sex": hostile, "source": hostile}
    folder = make_samples(cells, {}, network={"name": hostile, "code_version": hostile})
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps([{"key": hostile, "value": 1, "extractor": hostile, "network_sha256": "ab" * 32}]))
    html = build_site(folder, tmp_path / "out", scores, title=hostile).index.read_text(encoding="utf-8")
    page = Page(html)
    assert [script.get("src") or script.get("type") for script in page.all("script")] == ["gallery.js", "application/ld+json"]
    assert "<script>alert" not in html
    assert "<b>" not in html
    assert hostile.lower() in str(page.all("img")[1]["alt"])


def test_manifest_tells_what_was_asked(samples: Path, tmp_path: Path) -> None:
    build_site(samples, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["notice"] == "Synthetic. Not a patient. Not for diagnosis."
    assert manifest["films"][4]["asked"]["findings"] == ["Effusion", "Pleural_Thickening"]
    assert manifest["films"][4]["permalink"] == "#seed=4"
    assert manifest["films"][4]["width_px"] == 64


def test_two_films_of_one_seed_have_their_own_permalinks(make_samples: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_samples({"seed": "7"}, {"seed": "7", "file": "seed-7 with mass.png", "findings": "Mass"})
    page = Page(build_site(folder, tmp_path / "out").index.read_text())
    assert [item["id"] for item in page.all("li") if "seed" in str(item.get("id"))] == ["seed=7", "seed=7.2"]
    assert page.all("img")[-2]["src"] == "films/seed-7%20with%20mass.png"


def test_films_with_nothing_asked(make_samples: Callable[..., Path], tmp_path: Path) -> None:
    bare = {"view": "", "sex": "", "age_years": "", "findings": "", "truncation": "", "network_sha256": "", "memorised": ""}
    summary = build_site(make_samples(bare, bare, bare), tmp_path / "out")
    page = Page(summary.index.read_text())
    assert page.all("form") == []
    assert "Nothing was asked" in page.text
    assert "None of these films has been compared with the training films yet" in page.text
    assert "No scores came with these films" in page.text
    assert summary.num_unscreened == 3


def test_memorised_films_are_left_out_and_counted(make_samples: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_samples({}, {"memorised": "true"}, {"memorised": "True"}, {})
    summary = build_site(folder, tmp_path / "out")
    assert (summary.num_films, summary.num_memorised) == (2, 2)
    assert "2 films were left out of this gallery" in Page(summary.index.read_text()).text
    assert sorted(path.name for path in (tmp_path / "out" / "films").iterdir()) == ["seed-00000000.png", "seed-00000003.png"]
    only = make_samples({"memorised": "true"}, name="only")
    with pytest.raises(ValueError, match="all 1 films are flagged as memorised"):
        build_site(only, tmp_path / "none")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"file": "../../etc/passwd"}, "not a plain file name"),
        ({"file": "/etc/passwd.png"}, "not a plain file name"),
        ({"file": "..\\evil.png"}, "not a plain file name"),
        ({"file": "C:evil.png"}, "not a plain file name"),
        ({"file": ".hidden.png"}, "not a plain file name"),
        ({"file": "a\nb.png"}, "not a plain file name"),
        ({"file": "seed-1.dcm"}, "not a PNG"),
        ({"file": ""}, "not a PNG"),
        ({"file": "SEED-00000000.png"}, "listed twice"),
        ({"seed": "-1"}, "seed '-1' is not a whole number"),
        ({"age_years": "old"}, "age_years 'old' is not a number"),
        ({"truncation": "nan"}, "truncation 'nan' is not a number"),
        ({"memorised": "maybe"}, "neither true, false nor empty"),
        ({"network_sha256": "cd" * 32}, "made by network cdcdcdcdcdcd…, but network.json names abababababab…"),
    ],
)
def test_bad_rows_are_refused_in_one_line(make_samples: Callable[..., Path], tmp_path: Path, cells: dict[str, str], message: str) -> None:
    folder = make_samples({}, cells)
    with pytest.raises(ValueError, match=message) as refusal:
        build_site(folder, tmp_path / "out")
    assert "\n" not in str(refusal.value)
    assert "samples.csv line" in str(refusal.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["samples"]


def test_incomplete_sample_folders_are_refused(samples: Path, tmp_path: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(ValueError, match=message):
            build_site(samples, tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["samples"]

    film = samples / "seed-00000003.png"
    whole = film.read_bytes()
    film.unlink()
    refused(r"seed-00000003.png is missing, but samples.csv names it \(seed 3\)")
    film.symlink_to(samples / "seed-00000002.png")
    refused("seed-00000003.png is a link")
    film.unlink()
    film.write_bytes(whole[:-5])
    refused("seed-00000003.png is not a whole PNG")
    film.write_bytes(whole)
    (samples / "network.json").rename(samples / "elsewhere.json")
    refused("network.json is missing; expected the network.json that `thiscxr sample` writes")
    (samples / "network.json").write_text("{")
    refused("network.json is not JSON")
    (samples / "network.json").write_text("{}")
    refused("no sha256 of a network inside")
    (samples / "samples.csv").write_text("files,seed\n")
    (samples / "elsewhere.json").replace(samples / "network.json")
    refused(r"no column 'file' \(did you mean 'files'\?\)")
    (samples / "samples.csv").write_text("file,seed\n")
    refused("lists no film")
    (samples / "samples.csv").write_bytes(b"file,seed\n\xff,1\n")
    refused("not a CSV table in UTF-8")
    (samples / "samples.csv").unlink()
    refused("samples.csv is missing; expected a folder written by `thiscxr sample`")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"network_sha256": "cd" * 32}, "was measured on network cdcdcdcdcdcd…, but the samples come from abababababab…"),
        ({"network_sha256": None}, "was measured on no named network"),
        ({"value": "good"}, "value 'good' is not a number"),
        ({"value": float("nan")}, "value nan is not a number"),
        ({"ci95": [1]}, r"ci95 \[1\] is not \[low, high\]"),
        ({"key": ""}, "record 1 has no key"),
    ],
)
def test_bad_scores_are_refused(
    samples: Path, tmp_path: Path, record: dict[str, Any], message: str, score_records: list[dict[str, Any]]
) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps([{**score_records[0], **record}]))
    with pytest.raises(ValueError, match=message):
        build_site(samples, tmp_path / "out", path)
    assert not (tmp_path / "out").exists()


def test_scores_in_words(score_records: list[dict[str, Any]]) -> None:
    words = evidence(score_records[0], [0.7])
    assert (words["value"], words["interval"], words["floor"]) == ("40", "38 to 42", "8")
    assert "no farther than that" in evidence({**score_records[0], "value": 7.5}, [])["said"]
    assert "reach 0.81" in evidence({"key": "precision_x_2k", "value": 0.6, "floor": 0.81}, [])["said"]
    assert "says little by itself" in evidence(score_records[1], [])["said"]
    assert evidence(score_records[1], [0.7])["basis"] == "truncation 1.0 (films shown here: 0.7)"
    assert evidence({"key": "x", "value": None}, [])["said"] == "It was not measured."


def test_only_our_own_unchanged_folder_is_replaced(samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_site(samples, out, title="first")
    build_site(samples, out, title="second")
    assert "<title>second</title>" in (out / "index.html").read_text()

    def refused(message: str) -> None:
        before = snapshot(out)
        with pytest.raises(ValueError, match=message):
            build_site(samples, out, title="third")
        assert snapshot(out) == before

    (out / "films" / "notes.txt").write_text("mine")
    refused("notes.txt was not written by `thiscxr site`")
    (out / "films" / "notes.txt").unlink()
    (out / "drafts").mkdir()
    refused("drafts was not written by")
    (out / "drafts").rmdir()
    (out / "style.css").write_text("body { color: red }")
    refused("style.css was changed since")
    (out / MARKER).write_text("[]")
    refused("holds no list of files")
    (out / MARKER).unlink()
    refused("was not written by `thiscxr site`")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "samples"]


def test_a_failed_build_leaves_the_old_gallery(samples: Path, tmp_path: Path) -> None:
    build_site(samples, tmp_path / "out")
    before = snapshot(tmp_path / "out")
    (samples / "seed-00000011.png").write_bytes(b"no film")
    with pytest.raises(ValueError, match="not a whole PNG"):
        build_site(samples, tmp_path / "out")
    assert snapshot(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "samples"]


def test_the_sample_folder_is_never_the_output(samples: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no {MARKER} inside"):
        build_site(samples, samples)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="was not written by"):
        check_ours(tmp_path / "file")


def test_sources_hold_no_foreign_address() -> None:
    allowed = ("https://schema.org", "http://www.w3.org/2000/svg")
    for path in site_sources().rglob("*.*"):
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
    from thiscxr.gallery.words import asked

    blank = dict.fromkeys(Film.__dataclass_fields__, "")
    film = Film(**{**blank, "view": "PA", "age_years": None, "findings": ("Mass",), "no_findings": ("No Finding", "Edema")})
    assert asked(film) == "PA view, mass; without edema"
    film = Film(**{**blank, "view": "PA", "age_years": None, "findings": (), "no_findings": tuple("ABCDE")})
    assert asked(film) == "PA view; without 5 other findings"
