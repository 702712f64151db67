"""The study pages: what they ask, what they hide, what they refuse; and a study played in a real browser, up to
`thiscxr readers`."""

import base64
import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from thiscxr.cli import group
from thiscxr.gallery.readers import COLUMNS, read_answers, report
from thiscxr.gallery.samples import read_samples
from thiscxr.gallery.site import build_site
from thiscxr.gallery.study import choose_films
from thiscxr.labels import NEGATIVE, POSITIVE, FilmRecord, Terms
from thiscxr.pixels import area_means, encode_png, load_film, read_png_text
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.terms import require_showable

NIH = Terms(
    "NIH ChestX-ray14",
    "No restriction on use.",
    "Wang & al. 2017",
    "https://nihcc.app.box.com/v/ChestXray-NIHCC",
    "Thanks to NIH.",
)
MIMIC = Terms("MIMIC-CXR", "No sharing.", "", "https://physionet.org", "")


@pytest.fixture(scope="session")
def make_pool(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a pool of noise, two films a patient, one PA with Effusion, one AP without."""

    def make(patients: int = 100, res: int = 64, **sources: Terms) -> Path:
        path = tmp_path_factory.mktemp("real") / "pool"
        rng = np.random.default_rng(0)
        with PoolWriter(path, res, 8, sources or {"nih": NIH}, b"key") as writer:
            for i in range(2 * patients):
                findings = {"Effusion": NEGATIVE if i % 2 else POSITIVE}
                record = FilmRecord(str(i), str(i), str(i // 2), str(i), "AP" if i % 2 else "PA", "F", 50.0, findings)
                pixels = rng.integers(0, 256, (res, res)).astype(np.uint8)
                writer.add(next(iter(sources or ["nih"])), record, pixels, (res, res, 8))
        return path

    return make


@pytest.fixture(scope="session")
def nih_pool(make_pool: Callable[..., Path]) -> Path:
    return make_pool()


def truths(site: Path) -> list[dict[str, str]]:
    """What study/films.js holds."""
    veiled = re.search(r'"([A-Za-z0-9+/=]+)"', (site / "study" / "films.js").read_text())
    assert veiled
    return json.loads(base64.b64decode(veiled[1]))


def test_nothing_in_the_page_or_its_files_reveals_what_a_film_is(samples: Path, nih_pool: Path, tmp_path: Path) -> None:
    build_site(samples, tmp_path / "out", real=nih_pool)
    listed = truths(tmp_path / "out")
    files = sorted((tmp_path / "out" / "study").glob("*.png"))
    # in the order of names, which are hashes
    assert [film["src"] for film in listed] == [f"study/{path.name}" for path in files]
    assert sorted(film["truth"] for film in listed) == ["real"] * 12 + ["synthetic"] * 12
    assert all(re.fullmatch(r"[0-9a-f]{16}\.png", path.name) for path in files)
    assert len({path.stat().st_size for path in files}) == 1  # noise and smooth waves alike
    assert len({tuple(read_png_text(path).items()) for path in files}) == 1
    html = (tmp_path / "out" / "study.html").read_text()
    for film in listed:
        assert film["item"] not in html
        assert film["src"] not in html
        if film["truth"] == "synthetic":  # the same pixels as in the gallery
            ours, theirs = (
                load_film(tmp_path / "out" / name).pixels for name in (film["src"], f"films/{film['item']}")
            )
            assert np.array_equal(ours, theirs)
    assert "of a real patient" in html
    assert "Wang &amp; al. 2017" in html
    assert "Thanks to NIH." in html


def test_real_films_are_held_out_one_a_patient_and_of_the_requested_views(
    make_samples: Callable[..., Path], nih_pool: Path
) -> None:
    folder = read_samples(make_samples(*[{"view": "AP" if i % 6 == 0 else "PA"} for i in range(12)]))
    study = choose_films(folder, folder.films, nih_pool)
    pool = Pool.open(nih_pool)
    rows = {pixels.tobytes(): row for row, pixels in enumerate(pool.read(np.arange(len(pool))))}
    chosen = [rows[film.pixels.tobytes()] for film in study.films if film.kind == "real"]
    assert {pool.column("split")[row] for row in chosen} == {"holdout"}
    assert len({pool.column("patient")[row] for row in chosen}) == len(chosen) == 12
    assert sum(pool.column("view")[row] == "PA" for row in chosen) == sum(film.view == "PA" for film in folder.films)
    audited = {item for sheet in study.sheets for _, item in sheet.films if sheet.kind == "real"}
    assert audited
    assert not audited & {film.item for film in study.films}  # who has audited a film knows that it is real


def test_of_a_pool_of_several_resolutions_all_films_of_the_samples_size_or_more(
    make_samples: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = read_samples(make_samples(*[{"view": "PA"}] * 6))
    rng, noise = np.random.default_rng(0), {}
    with PoolWriter(tmp_path / "pool", 128, 8, {"nih": NIH}, b"key") as writer:
        for i in range(120):
            side = (32, 64, 128)[i % 3]
            pixels = rng.integers(0, 256, (side, side)).astype(np.uint8)
            noise[area_means(pixels[None], min(side, 64))[0].tobytes()] = side
            writer.add("nih", FilmRecord(str(i), str(i), str(i), str(i), "PA"), pixels, (side, side, 8))
    caplog.set_level("INFO")
    study = choose_films(folder, folder.films, tmp_path / "pool")
    shown = [noise[film.pixels.tobytes()] for film in study.films if film.kind == "real"]
    assert set(shown) == {64, 128}, "and none of 32 px"
    assert "takes 80 of 120 films, at 64 px" in caplog.text


def test_without_a_pool_phantoms_are_shown_and_no_patient(samples: Path, tmp_path: Path) -> None:
    build_site(samples, tmp_path / "out")
    listed = truths(tmp_path / "out")
    assert sorted(film["truth"] for film in listed) == ["phantom"] * 12 + ["synthetic"] * 12
    # as requested of the others
    assert {film["item"].split("-")[2] for film in listed if film["truth"] == "phantom"} == {"PA", "AP"}
    html = (tmp_path / "out" / "study.html").read_text()
    assert "Procedural or learned?" in html
    assert "No film here is of a patient." in html
    assert "of a real patient" not in html
    assert 'href="study.html">Procedural or learned?' in (tmp_path / "out" / "index.html").read_text()


def test_sheets_hold_the_films_requested_with_a_label(
    make_samples: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thiscxr.gallery.study.PER_KIND", 4)
    folder = read_samples(make_samples(*[{"findings": "Mass" if i % 2 else "Own_Word"} for i in range(28)]))
    sheets = choose_films(folder, folder.films).sheets
    assert [(sheet.label, sheet.kind, len(sheet.films)) for sheet in sheets] == [
        ("Mass", "synthetic", 12),
        ("Own_Word", "synthetic", 12),
    ]
    # first those that the study does not show
    assert sheets[0].films[0] == ("films/seed-00000005.png", "seed-00000005.png")


def test_films_that_no_phantom_has_the_size_of_leave_no_study(
    make_samples: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_samples({}, {"findings": ""}, {})
    (folder / "seed-00000001.png").write_bytes(encode_png(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)))
    build_site(folder, tmp_path / "out")
    assert not (tmp_path / "out" / "study.html").exists()
    assert "study.html" not in (tmp_path / "out" / "index.html").read_text()
    assert (tmp_path / "out" / "audit.html").exists()


@pytest.mark.parametrize(
    ("key", "terms"),
    [
        ("mimic-cxr", MIMIC),
        ("nih", MIMIC),  # a new key does not free a collection
        ("folder", Terms("Plain folder of films", "Unknown.", "", "", "")),
        ("rsna", Terms("RSNA", "Rules of a competition.", "", "", "")),
        ("phantom-a", Terms("Procedural chest phantom", "", "", "", "")),  # not real
    ],
)
def test_only_films_that_anybody_may_show_are_shown(key: str, terms: Terms) -> None:
    source = {"title": terms.title, "url": terms.url}
    with pytest.raises(ValueError, match=re.escape(terms.title)) as caught:
        require_showable({"nih": {"title": "NIH ChestX-ray14"}, key: source}, "a study")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no named source"):
        require_showable({}, "a study")
    require_showable({"nih": {"title": "NIH ChestX-ray14"}}, "a study")


def test_pools_are_refused_in_one_line(samples: Path, make_pool: Callable[..., Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(
        group,
        ["site", "--samples", str(samples), "--real", str(make_pool(4, **{"mimic-cxr": MIMIC})), "--out", str(out)],
    )
    assert isinstance(result.exception, ValueError)
    assert "films of MIMIC-CXR" in str(result.exception)
    with pytest.raises(ValueError, match="films of 32 px, the samples have 64 px"):
        build_site(samples, out, real=make_pool(100, 32))
    with pytest.raises(ValueError, match="no held-out patients"):
        build_site(samples, out, real=make_pool(1))
    with pytest.raises(ValueError, match="which are about samples"):
        build_site(None, out, model=tmp_path / "network.safetensors", real=tmp_path)
    assert not out.exists()


# --- In a browser. ---


@pytest.fixture
def local(samples: Path, nih_pool: Path, tmp_path: Path) -> Path:
    return build_site(samples, tmp_path / "out", real=nih_pool).parent


def play(page: Any, mode: str, films: int, seed: int = 7) -> list[str]:
    """Play a round with keys alone; the answer is always the first, confidences go round; returns the pictures in their
    order."""
    keys = page.page.keyboard
    page.look(f"location.hash = '#mode={mode}&films={films}&seed={seed}'")
    page.until(
        f"document.getElementById('seed').value === '{seed}' && document.getElementById('mode').value === '{mode}'"
    )
    assert page.page.input_value("#films") == str(films)
    page.page.focus("#begin")
    keys.press("Enter")
    seen = []
    for number in range(films):
        page.until(f"document.getElementById('place').textContent.includes(' {number + 1} of {films}')")
        page.until("!document.getElementById('next').disabled")
        assert page.look("document.activeElement.id") == "place"
        assert page.look("[...document.querySelectorAll('h1')].filter(heading => heading.offsetParent).length") == 1
        seen.append(page.look("[...document.querySelectorAll('#stage img')].map(i => i.getAttribute('src')).join()"))
        keys.press("ArrowLeft")
        keys.press(str(1 + number % 4))
        if number == 0:
            page.page.wait_for_timeout(300)
        keys.press("Enter")
    page.until("!document.getElementById('after').hidden")
    return seen


def exported(page: Any, path: Path) -> Path:
    with page.page.expect_download() as download:
        page.page.click("#export")
    download.value.save_as(path)
    return path


def test_browser_study_to_readers(visit: Any, local: Path, tmp_path: Path) -> None:
    page = visit((local / "study.html").as_uri())
    page.page.fill("#reader", 'ann, "the first"')
    page.page.select_option("#role", "radiologist")
    singles = play(page, "single", 6)
    page.page.click("#again")
    pairs = play(page, "pair", 4)
    assert all(request.startswith(local.as_uri()) or request.startswith("blob:") for request in page.requests)
    path = exported(page, tmp_path / "answers.csv")

    truth = {film["src"]: film for film in truths(local)}
    with open(path, newline="") as file:
        assert next(csv.reader(file)) == list(COLUMNS)
    answers = read_answers([path])
    single, pair = ([answer for answer in answers if answer.mode == mode] for mode in ("single", "pair"))
    assert [answer.item for answer in single] == [truth[src]["item"] for src in singles]
    assert [answer.truth for answer in single] == [truth[src]["truth"] for src in singles]
    assert {answer.answer for answer in single} == {"real"}
    sides = [[truth[src]["truth"] for src in both.split(",")] for both in pairs]
    assert {tuple(sorted(both)) for both in sides} == {("real", "synthetic")}
    assert [answer.truth for answer in pair] == ["left" if both[0] == "synthetic" else "right" for both in sides]
    assert [answer.confidence for answer in single] == [1, 2, 3, 4, 1, 2]
    assert 0.3 <= single[0].seconds < 3 + max(answer.seconds for answer in single[1:])
    assert {(answer.reader, answer.role) for answer in answers} == {('ann, "the first"', "radiologist")}

    result = CliRunner().invoke(group, ["readers", str(path), "--json"], catch_exceptions=False)
    found = json.loads(result.output)["real_or_not"]
    right = sum(answer.right for answer in answers)
    assert found["accuracy"]["value"] == right / 10
    assert found["by_truth"]["real"]["value"] == 1.0
    assert found["by_mode"]["single"]["n"] == 6
    assert found["auc"] is not None
    assert page.page.inner_text("#result").startswith(f"{sum(answer.right for answer in pair)} of 4 right")


def test_browser_order_is_the_seeds_and_a_reload_resumes(visit: Any, local: Path) -> None:
    address = (local / "study.html").as_uri()
    first = play(visit(address), "single", 4, seed=3)
    page = visit(address + "#seed=3&films=4&mode=single")
    page.page.click("#begin")
    page.until("!document.getElementById('next').disabled")
    assert page.look("document.querySelector('#stage img').getAttribute('src')") == first[0]
    html = page.look("document.body.outerHTML")  # the page as it stands before an answer
    assert not [film["item"] for film in truths(local) if film["item"] in html]
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("3")
    page.page.keyboard.press("Enter")
    page.until("document.getElementById('place').textContent.includes('2 of 4')")
    page.page.reload()
    assert page.page.inner_text("#resume") == "Continue: 1 of 4 answered"
    page.page.click("#resume")
    page.until("!document.getElementById('next').disabled")
    assert page.look("document.querySelector('#stage img').getAttribute('src')") == first[1]
    assert play(visit(address), "single", 4, seed=4) != first


def test_browser_study_without_storage(visit: Any, local: Path, tmp_path: Path) -> None:
    page = visit("about:blank")
    page.page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
    )
    page.page.goto((local / "study.html").as_uri())
    assert "keeps nothing" in page.page.inner_text("#kept")
    play(page, "single", 3)
    assert len(read_answers([exported(page, tmp_path / "answers.csv")])) == 3
    page.page.on("dialog", lambda dialog: dialog.accept())
    page.page.click("#forget")
    assert page.page.inner_text("#kept").startswith("No answers yet.")
    assert page.page.is_disabled("#export")


def test_browser_audit_to_readers(visit: Any, local: Path, tmp_path: Path) -> None:
    address = (local / "audit.html").as_uri()
    page = visit(address)
    page.page.fill("#reader", "bob")
    titles = page.look("[...document.querySelectorAll('#sheets th')].map(cell => cell.textContent)")
    assert titles == [
        "Synthetic films asked for effusion",
        "Synthetic films asked for pleural thickening",
        "Real films labelled effusion",
    ]
    for sheet, (unsure, denied) in enumerate([(1, 0), (0, 0), (2, 1)]):
        page.page.focus("#sheets button")  # the first that is still to be done
        page.page.keyboard.press("Enter")
        assert page.page.inner_text("#sheet-title") == titles[sheet]
        for film in range(1, 1 + unsure):
            page.page.click(f"#sheet-films li:nth-child({film}) img")
        for film in range(1 + unsure, 1 + unsure + denied):  # by the keyboard: two steps to the right
            page.page.focus(f"#sheet-films li:nth-child({film}) input:checked")
            page.page.keyboard.press("ArrowRight")
            page.page.keyboard.press("ArrowRight")
        outlines = page.look(
            "[...document.querySelectorAll('#sheet-films img')].map(one => getComputedStyle(one).outlineColor)"
        )
        assert outlines.count("rgb(240, 160, 44)") == unsure
        assert outlines.count("rgb(255, 107, 94)") == denied
        page.page.click("#sheet-form button[type=submit]")
    page.page.reload()
    assert page.page.locator("#sheets button").count() == 0
    labels = report(read_answers([exported(page, tmp_path / "audit.csv")]))["label_audit"]["labels"]
    shares = {
        label: [found[name]["value"] for name in ("agree", "not sure", "disagree")] for label, found in labels.items()
    }
    assert shares["Effusion (synthetic)"] == [0.6667, 0.3333, 0.0]  # of 3
    assert shares["Pleural_Thickening (synthetic)"] == [1.0, 0.0, 0.0]
    n = labels["Effusion (real)"]["agree"]["n"]
    assert shares["Effusion (real)"] == [round((n - 3) / n, 4), round(2 / n, 4), round(1 / n, 4)]
    page.page.click("#reader-new")
    assert page.page.locator("#sheets button").count() == 3
    assert page.page.input_value("#reader") != "bob"
