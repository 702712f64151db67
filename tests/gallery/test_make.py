"""The generator in a real browser: the films of `thiscxr sample`, from localhost and from file://; skipped where there
is no chromium."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
from PIL import Image

from tests.generator_page import GREY_LEVELS, difference, in_json, pixels, press, python_film, save_fresh
from thiscxr.gallery.site import build_site
from thiscxr.model.conditions import Vocabulary
from thiscxr.model.generator import GeneratorConfig
from thiscxr.model.network_file import find_network, save_network
from thiscxr.pixels import read_png_text
from thiscxr.sample.latents import MAX_SEED, normals, uniforms
from thiscxr.sample.provenance import Film, film_text, origin_of
from thiscxr.sample.sampling import Network, load, request
from thiscxr.sample.truncation import Truncation

HOSTILE = "<script>alert(1)</script>\"'&"


@pytest.fixture(scope="module")
def nih() -> Network:
    return load("nih-64")


@pytest.fixture(scope="module")
def nih_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("nih")
    build_site(None, out, model=find_network("nih-64"))
    return out


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A freshly initialised network file of what nih-64 has not: float32, 128 px, bands, lateral films, several
    collections, no ages."""
    vocabulary = Vocabulary(("Mass", "Edema"), ("lateral", "PA"), ("here", "there"), ("F", "M"), ages=False)
    config = GeneratorConfig(
        res=128, c_dim=vocabulary.dim, z_dim=32, w_dim=48, mapping_layers=2, channel_max=48, patch=2, haar=True
    )
    row = {"view": "PA", "sex": None, "age_bin": None, "source": "there", "present": ["Mass"], "absent": [], "films": 3}
    rows = [
        row,
        {**row, "view": None, "source": None, "present": [], "absent": ["Mass", "Edema"], "sex": "M", "films": 4},
    ]
    return save_fresh(tmp_path_factory.mktemp("fresh") / "fresh.safetensors", config, vocabulary, rows)


@pytest.fixture(scope="module")
def fresh_site(fresh: Path) -> Path:
    build_site(None, fresh.parent / "out", model=fresh)
    return fresh.parent / "out"


NIH_REQUESTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"seed": 0}, {}),
    ({"seed": 7, "truncation": 0.5}, {"truncation": 0.5}),
    ({"seed": MAX_SEED, "truncation": 1.37}, {"truncation": 1.37}),
    ({"seed": 2**40 + 3, "view": "AP"}, {"view": "AP"}),
    (
        {
            "seed": 123,
            "sex": "F",
            "age": 70,
            "source": "nih",
            "finding": ["Effusion", "Mass"],
            "no-finding": ["No Finding"],
            "truncation": 0,
        },
        {
            "sex": "F",
            "age_years": 70,
            "source": "nih",
            "findings": ["Effusion", "Mass"],
            "no_findings": ["No Finding"],
            "truncation": 0.0,
        },
    ),
    (
        {"seed": 123, "view": "PA", "age": 3, "finding": "Cardiomegaly", "truncation": 0.8},
        {"view": "PA", "age_years": 3, "findings": ["Cardiomegaly"], "truncation": 0.8},
    ),
]


@pytest.mark.parametrize("host", [True, False], ids=["localhost", "file"])
def test_browser_generates_the_films_of_the_bundled_network(
    visit: Any, nih: Network, nih_site: Path, serve: Callable[[Path], str], host: bool
) -> None:
    page = visit(serve(nih_site) + "make.html" if host else (nih_site / "make.html").as_uri())
    for fields, requested in NIH_REQUESTS if host else NIH_REQUESTS[-1:]:
        press(page, **fields)
        assert difference(pixels(page), python_film(nih, fields["seed"], **requested)) <= GREY_LEVELS, fields
    assert difference(pixels(page), python_film(nih, 124)) > 20  # another film is distinguished
    assert difference(pixels(page), python_film(nih, 123, **{**NIH_REQUESTS[-1][1], "truncation": 0.9})) > GREY_LEVELS


def test_browser_generates_the_films_of_a_fresh_network(visit: Any, fresh: Path, fresh_site: Path) -> None:
    network = load(fresh_site / "generator" / "network.safetensors")
    assert 10 < python_film(network, 0).std() < 80
    page = visit((fresh_site / "make.html").as_uri())
    for fields, requested in (
        ({"seed": 3}, {}),
        ({"seed": 4}, {}),
        (
            {"seed": 5, "view": "PA", "source": "here", "finding": "Edema"},
            {"view": "PA", "source": "here", "findings": ["Edema"]},
        ),
    ):
        press(page, **fields, truncation=0.9)
        assert difference(pixels(page), python_film(network, fields["seed"], 0.9, **requested)) <= GREY_LEVELS, fields
    assert page.page.locator("#age").count() == 0  # it was trained without


@pytest.mark.parametrize(("patch", "haar"), [(4, True), pytest.param(2, False, marks=pytest.mark.slow)])
def test_browser_generates_patches_of_four_and_the_free_pixels_of_the_first_networks(
    visit: Any, tmp_path: Path, patch: int, haar: bool
) -> None:
    vocabulary = Vocabulary(("Mass",), ("lateral", "PA"), ("here",))
    config = GeneratorConfig(64, vocabulary.dim, 16, 16, 2, channel_base=512, channel_max=16, patch=patch, haar=haar)
    path = save_fresh(tmp_path / "other.safetensors", config, vocabulary, [])
    build_site(None, tmp_path / "out", model=path)
    network = load(tmp_path / "out" / "generator" / "network.safetensors")
    page = visit((tmp_path / "out" / "make.html").as_uri())
    for seed in (1, 2):
        press(page, seed=seed, view="PA")
        assert difference(pixels(page), python_film(network, seed, view="PA")) <= GREY_LEVELS
    assert difference(pixels(page), python_film(network, 1, view="PA")) > 20
    if haar:
        network.generator.synthesis.grain.gain.zero_()
        assert difference(pixels(page), python_film(network, seed, view="PA")) > 5, "the grain is in it"


def test_browser_generates_the_same_numbers_and_conditions(
    visit: Any, nih: Network, nih_site: Path, serve: Callable[[Path], str]
) -> None:
    page = visit(serve(nih_site) + "make.html")
    press(page, seed=1)  # loads generator.js
    look = page.look
    assert look("thiscxrGenerator().philox([0, 0, 0, 0], [0, 0])") == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = [0xFFFFFFFF] * 4
    assert look(f"thiscxrGenerator().philox({ones}, {ones[:2]})") == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    for seed, stream in ((0, 0), (7, 2), (2**32 + 5, 1), (MAX_SEED, 10)):
        assert (
            look(f"Array.from(thiscxrGenerator().uniforms({seed}, {stream}, 101))")
            == uniforms([seed], stream, 101)[0].tolist()
        )
        drawn = np.array(look(f"Array.from(thiscxrGenerator().normals({seed}, {stream}, 1001))"))
        np.testing.assert_allclose(drawn, normals([seed], stream, 1001)[0], rtol=2e-7, atol=1e-9)
    seeds = [*range(150), MAX_SEED]
    drawn = look(
        f"""(async () => {{
            const answer = await fetch("generator/network.safetensors");
            const network = thiscxrGenerator().readNetwork(await answer.arrayBuffer());
            return {seeds}.map((seed) => thiscxrGenerator().drawCondition(network.joint_table, seed));
        }})()"""
    )
    assert drawn == [in_json(condition) for condition in nih.conditions(seeds, request())]
    assert len({json.dumps(one) for one in drawn}) > 20
    assert look("thiscxrGenerator().drawCondition([], 3)") == in_json(request())


def test_browser_loads_nothing_before_the_click_and_little_after_it(
    visit: Any, nih_site: Path, serve: Callable[[Path], str]
) -> None:
    page = visit(serve(nih_site) + "make.html#seed=3")
    page.page.wait_for_timeout(200)
    own = {"make.html#seed=3", "make.html", "make.js", "png.js", "site.webmanifest", "style.css", "favicon.svg"}
    assert {request.rpartition("/")[2] for request in page.requests} <= own
    sizes = {path.name: path.stat().st_size for path in nih_site.rglob("*.*")}
    clicked = sizes["generator.js"] + sizes["network.safetensors"]
    assert f"The first film loads the network: {clicked / 1e6:.1f} MB" in page.page.inner_text("#size")
    assert page.page.get_attribute("#film", "data-seed") is None
    page.page.click("#generate")
    page.until("document.getElementById('film').dataset.seed === '3'")
    assert {request.split("/")[2] for request in page.requests if not request.startswith("blob:")} == {
        page.page.url.split("/")[2]
    }
    loaded = {
        request.rpartition("/")[2].partition("#")[0] for request in page.requests if not request.startswith("blob:")
    }
    assert sum(sizes[name] for name in loaded) < 3e6
    assert {"network.safetensors", "generator.js"} <= loaded
    assert page.look("document.cookie + localStorage.length + sessionStorage.length") == "00"


def test_browser_saves_a_png_with_its_marks(visit: Any, nih: Network, nih_site: Path, tmp_path: Path) -> None:
    page = visit((nih_site / "make.html").as_uri())
    assert page.page.is_disabled("#save")
    for seed, requested in ((7, {}), (8, {"view": "PA", "age": 40, "finding": ["Mass", "Edema"]})):
        press(page, seed=seed, truncation=0.75, **requested)
        with page.page.expect_download() as download:
            page.page.click("#save")
        assert download.value.suggested_filename == f"synthetic-seed-{seed:08d}.png"
        path = tmp_path / "film.png"
        download.value.save_as(path)
        words = {"view": "PA", "age_years": 40, "findings": ["Mass", "Edema"]} if requested else {}
        [condition] = nih.conditions([seed], request(**words))
        assert read_png_text(path) == film_text(Film(seed, condition, Truncation(0.75), origin_of(nih)))
        with Image.open(path) as image:
            assert image.mode == "L"
            assert np.array_equal(np.asarray(image), pixels(page))


def test_browser_permalinks_and_what_they_refuse(visit: Any, nih_site: Path) -> None:
    page = visit((nih_site / "make.html").as_uri())
    fields = "seed=12&view=PA&sex=F&age=70&finding=Mass&finding=Edema&no-finding=Hernia&truncation=0.63&to=4&t=0.25"
    page.look(f"location.hash = '#{fields}'")
    page.until("document.getElementById('seed').value === '12'")
    assert page.page.get_attribute("#film", "data-seed") is None  # a link alone loads nothing
    page.page.click("#generate")
    page.until("document.getElementById('film').dataset.seed === '12'")
    requested = page.look(
        """((fields) => Object.fromEntries([...fields.keys()].map((key) => [key, fields.getAll(key)])))(
            new URLSearchParams(location.hash.slice(1)))"""
    )
    assert requested == {
        "seed": ["12"], "view": ["PA"], "sex": ["F"], "age": ["70"], "finding": ["Edema", "Mass"],
        "no-finding": ["Hernia"], "truncation": ["0.63"], "to": ["4"], "t": ["0.25"],
    }  # fmt: skip
    assert page.page.get_attribute("#film-link", "href") == page.look("location.hash")
    assert "Seed 12, 25\xa0% of the way to seed 4" in page.page.inner_text("#film-caption")
    label = page.page.get_attribute("#film", "aria-label")
    assert label == (
        "Synthetic chest x-ray, seed 12, 25\xa0% of the way to seed 4, asked for: "
        "PA view, female, 70 years, edema, mass; "
        "without hernia. Not a patient."
    )
    for bad, said in (
        ("view=PAA", "view PAA"),
        ("finding=" + HOSTILE, "finding " + HOSTILE),
        ("age=700", "age 700"),
        ("truncation=9", "truncation 9"),
        ("pair=1", "pair"),
        ("nonsense=1", "nonsense"),
    ):
        page.look(f"location.hash = {json.dumps('#' + urlencode([tuple(bad.split('=', 1))]))}")
        page.until(f"document.getElementById('status').textContent.includes({json.dumps(said)})")
    assert page.look("document.scripts.length") == 5  # the facts, png.js, make.js, and the two of the click


def test_browser_refuses_what_is_no_seed(visit: Any, nih_site: Path) -> None:
    page = visit((nih_site / "make.html").as_uri())
    for seed in ("", "-1", "1.5", "seven", str(MAX_SEED + 1)):
        page.page.fill("#seed", seed)
        page.page.keyboard.press("Enter")
        page.until(
            "document.getElementById('status').textContent.includes('is not a seed: use a whole number from 0 to')"
        )
        assert page.page.get_attribute("#film", "data-seed") is None
        page.page.fill("#seed", "5")
    page.page.keyboard.press("Enter")
    page.until("document.getElementById('film').dataset.seed === '5'")


def test_browser_morphs_in_w_and_finds_more_like_this(visit: Any, nih: Network, nih_site: Path) -> None:
    page = visit((nih_site / "make.html").as_uri())
    press(page, seed=5, to=6, t=0.3, truncation=0.9)
    with torch.inference_mode():
        vectors = []
        for seed in (5, 6):
            z = torch.from_numpy(normals([seed], 0, nih.info.architecture.z_dim))
            vectors.append(
                nih.generator.mapping(
                    z, torch.from_numpy(nih.info.vocabulary.encode(nih.conditions([seed], request())))
                )
            )
        mixed = vectors[0].lerp(vectors[1], 0.3)

        class Mixed(torch.nn.Module):
            def forward(self, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
                return mixed

    original, nih.generator.mapping = nih.generator.mapping, Mixed()
    try:
        expected = python_film(nih, 5, 0.9)
    finally:
        nih.generator.mapping = original
    assert difference(pixels(page), expected) <= GREY_LEVELS
    assert difference(pixels(page), python_film(nih, 5, 0.9)) > GREY_LEVELS

    press(page, seed=7)
    before = pixels(page)
    page.page.click("#more")
    page.until("document.querySelectorAll('#like-films canvas').length === 6")
    page.until("!document.getElementById('more').disabled")
    page.page.click("#generate")  # what the seed drew is now requested: the same film
    page.until("document.getElementById('film').dataset.seed === '7'")
    assert np.array_equal(pixels(page), before)
    page.page.click("#like-films li:nth-child(2) button")
    page.until("location.hash.includes('to=9')")
    page.until("document.getElementById('film').dataset.seed === '7'")
    assert 0 < np.abs(pixels(page).astype(int) - before).mean() < 60


def test_browser_sliders_draw_at_once_and_the_last_request_wins(visit: Any, nih: Network, nih_site: Path) -> None:
    page = visit((nih_site / "make.html").as_uri())
    press(page, seed=5)
    for value in (0.2, 0.4, 0.9, 0.3):
        page.look(f"document.getElementById('truncation').value = {value}")
        event = "document.getElementById('truncation').dispatchEvent(new Event('input', { bubbles: true }))"
        # Asked in the same breath: a film is drawn in less time than it takes to ask again.
        assert page.look(f"({event}, document.getElementById('film').dataset.seed === undefined)")
    page.until("document.getElementById('film').dataset.seed === '5' && location.hash.includes('truncation=0.3')")
    assert difference(pixels(page), python_film(nih, 5, 0.3)) <= GREY_LEVELS
    page.page.click("#nothing")
    page.until("document.getElementById('film').dataset.seed === '5' && !location.hash.includes('truncation')")


def test_browser_keyboard_labels_and_width(visit: Any, nih_site: Path, fresh_site: Path) -> None:
    for site in (nih_site, fresh_site):
        page = visit((site / "make.html").as_uri(), reduced_motion="reduce")
        nameless = (
            "Array.from(document.querySelectorAll('input, select')).filter((field) => "
            "!field.labels.length && !field.ariaLabel).length"
        )
        assert page.look(nameless) == 0
        press(page, seed=1, **({"pair": 1} if site == fresh_site else {}))
        page.look("for (const part of document.querySelectorAll('details')) part.open = true")
        page.page.click("#more")
        page.until("document.querySelectorAll('#like-films canvas').length === 6")
        for width in (320, 390, 820, 1366):
            page.page.set_viewport_size({"width": width, "height": 800})
            assert page.look("document.documentElement.scrollWidth <= innerWidth"), width
    page.look("document.activeElement.blur()")
    reached = set()
    for _ in range(30):
        page.page.keyboard.press("Tab")
        reached.add(page.look("document.activeElement.id"))
    assert {"seed", "generate", "another", "more", "save", "view", "truncation", "pair", "nothing"} <= reached


def test_browser_reports_a_damaged_network_and_tries_again(
    visit: Any, serve: Callable[[Path], str], tmp_path: Path
) -> None:
    build_site(None, tmp_path / "out", model=find_network("nih-64"))
    weights = tmp_path / "out" / "generator" / "network.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    page = visit(serve(tmp_path / "out") + "make.html")
    page.page.click("#generate")
    page.until("document.getElementById('status').textContent.includes('is not the one that this page was made with')")
    assert page.page.get_attribute("#film", "data-seed") is None
    page.page.wait_for_timeout(200)
    assert page.complaints
    assert all("ntegrity" in complaint for complaint in page.complaints)
    page.complaints.clear()
    weights.write_bytes(whole)
    page.page.click("#generate")
    page.until("document.getElementById('film').dataset.seed === '0'")


def test_browser_shows_hostile_names_as_text(visit: Any, fresh: Path, tmp_path: Path) -> None:
    network = load(fresh)
    names = replace(network.info.vocabulary, findings=(HOSTILE, "Edema"), sources=(HOSTILE, "</script>"))
    info = replace(
        network.info,
        name=HOSTILE,
        vocabulary=names,
        code_version="</script><b>",
        joint_table=[],
        sources={HOSTILE: {"terms": HOSTILE}},
    )
    save_network(tmp_path / "hostile.safetensors", network.generator, info)
    build_site(None, tmp_path / "out", model=tmp_path / "hostile.safetensors", title=HOSTILE)
    assert "<script>alert" not in (tmp_path / "out" / "make.html").read_text()
    page = visit((tmp_path / "out" / "make.html").as_uri())
    press(page, seed=2, finding=HOSTILE, source="</script>")
    assert page.page.inner_text("#film-caption .asked") == f"Asked for: {HOSTILE.lower()}, in the manner of </script>"


def test_browser_without_javascript_says_so(visit: Any, nih_site: Path) -> None:
    page = visit((nih_site / "make.html").as_uri(), java_script_enabled=False)
    assert "which this browser does not run" in page.page.inner_text("noscript")
    assert not page.page.is_visible("#generate")
    assert not page.page.is_visible("#ask")
