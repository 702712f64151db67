"""The film page and the gallery in a real browser, from file:// and from localhost; skipped where there is no
chromium."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from thiscxr.gallery.site import build_site
from thiscxr.model.network_file import find_network

SHOWN = "Array.from(document.querySelectorAll('#grid li'), (item) => item.id)"


@pytest.fixture
def local(samples: Path, scores: Path, tmp_path: Path) -> str:
    return build_site(samples, tmp_path / "out", scores).as_uri()


@pytest.fixture
def gallery(local: str) -> str:
    return local.replace("index", "gallery")


@pytest.fixture
def many(make_samples: Callable[..., Path], tmp_path: Path) -> str:
    index = build_site(make_samples(*[{}] * 250, name="many"), tmp_path / "many-out")
    return index.with_name("gallery.html").as_uri()


def test_browser_asks_nobody_else(
    visit: Any, make_nih_samples: Callable[..., Path], tmp_path: Path, serve: Any
) -> None:
    out = tmp_path / "out"
    build_site(make_nih_samples(*[{}] * 12), out, model=find_network("nih-64"))
    address = serve(out)
    for name in ("index.html", "gallery.html", "about.html", "make.html"):
        page = visit(address + name)
        if name == "gallery.html":
            page.look("document.getElementById('grid').lastElementChild.scrollIntoView()")
            page.page.click("#grid li:nth-child(5) a")
            assert page.seed("lightbox") == "Seed 4"
        assert {request.split("/")[2] for request in page.requests} == {address.split("/")[2]}
        assert page.look("document.cookie + localStorage.length + sessionStorage.length") == "00"
    visit((out / "about.html").as_uri())  # no word of complaint there either; the others are opened as files below


def test_browser_next_film_by_click_and_key(visit: Any, local: str) -> None:
    page = visit(local)
    seen = [page.seed("hero")]
    assert seen == ["Seed 0"]
    for press in ("click", "key") * 5 + ("button",):
        if press == "click":
            page.page.click("#hero-picture")
        elif press == "key":
            page.page.keyboard.press("ArrowRight")
        else:
            page.page.click("#another")
        seen.append(page.seed("hero"))
    assert len(set(seen)) == 12  # none twice before all were seen
    page.page.keyboard.press("ArrowLeft")
    assert page.seed("hero") == seen[-2]
    number = seen[-2].removeprefix("Seed ")
    assert page.look("document.querySelector('#hero img').alt").startswith(f"Synthetic chest x-ray, seed {number},")
    assert page.page.get_attribute("#hero-link", "href") == f"#seed={number}" == page.look("location.hash")
    assert page.page.get_attribute("#hero-save", "href") == f"films/seed-{int(number):08d}.png"
    assert page.look("history.length") == 2, "the way back out of the page is one step"


def test_browser_shows_what_is_predicted_and_how_near_a_film_is(visit: Any, local: str) -> None:
    page = visit(local + "#seed=4")
    assert page.page.inner_text("#hero-caption .seen") == "A classifier predicts: effusion"
    assert page.page.inner_text("#hero-caption .near").startswith("Nearest training film: 62\xa0% of real films")
    page.look("location.hash = '#seed=1'")
    page.until("document.querySelector('#hero-caption .seed').textContent === 'Seed 1'")
    assert not page.page.is_visible("#hero-caption .seen")
    page.look("location.hash = '#seed=0'")
    page.until("document.querySelector('#hero-caption .near').textContent.includes('fewer than 1')")


def test_browser_next_film_by_swipe(visit: Any, local: str) -> None:
    page = visit(local, has_touch=True)

    def swipe(x: int, y: int) -> str:
        page.look(
            f"""(() => {{
                const target = document.getElementById("hero-picture");
                const touch = (x, y) => new Touch({{ identifier: 1, target, clientX: x, clientY: y }});
                target.dispatchEvent(new TouchEvent("touchstart", {{ touches: [touch(300, 300)], bubbles: true }}));
                const changedTouches = [touch(300 + {x}, 300 + {y})];
                target.dispatchEvent(new TouchEvent("touchend", {{ changedTouches, bubbles: true }}));
            }})()"""
        )
        return str(page.seed("hero"))

    assert swipe(20, 0) == swipe(-60, -80) == "Seed 0"  # a tap that trembles, a scroll
    other = swipe(-90, 10)
    assert other != "Seed 0"
    assert swipe(90, 10) == "Seed 0"
    assert swipe(-90, 0) == other


def test_browser_next_film_by_timer(visit: Any, local: str) -> None:
    page = visit(local)
    page.page.clock.install()
    page.page.reload()
    first = page.seed("hero")
    page.page.clock.fast_forward(60_000)
    assert page.seed("hero") == first, "nothing moves before it is asked to"
    page.page.click("#play")
    assert page.page.get_attribute("#play", "aria-pressed") == "true"
    seen = {first}
    for _ in range(3):
        page.page.clock.fast_forward(6_000)
        seen.add(page.seed("hero"))
    assert len(seen) == 4
    page.page.click("#play")
    last = page.seed("hero")
    page.page.clock.fast_forward(60_000)
    assert page.seed("hero") == last


def test_browser_reload_shows_another_film(visit: Any, local: str) -> None:
    page = visit(local)
    page.page.reload()
    page.until("document.querySelector('#hero-caption .seed').textContent !== 'Seed 0'")
    film = page.seed("hero")
    page.page.reload()  # now the address names the film
    assert page.seed("hero") == film


def test_browser_permalinks_of_the_film_page(visit: Any, local: str) -> None:
    page = visit(local + "#seed=7")
    assert page.seed("hero") == "Seed 7"
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("ArrowLeft")
    assert page.seed("hero") == "Seed 7"
    page.look("location.hash = '#seed=999'")
    page.until("document.getElementById('status').textContent === 'There is no film with seed 999 on this site.'")
    assert visit(local + "#seed=%").seed("hero") == "Seed 0"


def test_browser_enlarges_without_blur(visit: Any, samples: Path, tmp_path: Path, serve: Callable[[Path], str]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    Image.fromarray(noise).save(samples / "seed-00000000.png")
    build_site(samples, tmp_path / "out")
    page = visit(serve(tmp_path / "out"))
    page.until("document.querySelector('canvas.enlarged').width > 300")
    side = page.look("document.querySelector('canvas.enlarged').width")
    band = slice(side // 2, side // 2 + 32)
    pixels = (
        f"document.querySelector('canvas.enlarged').getContext('2d').getImageData(0, {band.start}, {side}, 32).data"
    )
    shown = np.array(page.look(f"Array.from({pixels}).filter((_, place) => place % 4 === 0)")).reshape(32, side)
    # Pillow ends its kernel at the edge
    film, away, inside = Image.fromarray(noise.astype(np.float32)), {}, slice(side // 16, -side // 16)
    for kernel in ("BICUBIC", "BILINEAR"):
        wanted = np.clip(film.resize((side, side), Image.Resampling[kernel]), 0, 255)
        away[kernel] = np.abs(wanted[band] - shown)[:, inside].max()
    assert away["BICUBIC"] <= 1
    assert away["BILINEAR"] > 20


def test_browser_keyboard_walk_through_the_gallery(visit: Any, gallery: str) -> None:
    page = visit(gallery)
    stops = []
    for _ in range(14):
        page.page.keyboard.press("Tab")
        stops.append(page.look("((one) => one.name || one.innerText || one.closest('li').id)(document.activeElement)"))
        outline = page.look(
            "((style) => style.outlineStyle + style.outlineWidth)(getComputedStyle(document.activeElement))"
        )
        assert outline == "solid3px", stops
    pages = ["One film", "Gallery", "Procedural or learned?", "Label audit", "Evidence", "About"]
    assert stops == ["To the films", *pages, "finding", "view", "sex", "age", "Show all", "seed=0", "seed=1"]
    page.page.keyboard.press("Enter")
    assert page.seed("lightbox") == "Seed 1"
    page.page.keyboard.press("Escape")
    page.until("document.activeElement.closest('li')?.id === 'seed=1'")


def test_browser_focus_before_the_page_is_drawn_is_kept_without_a_complaint(visit: Any, gallery: str) -> None:
    page = visit("about:blank")
    early = "addEventListener('DOMContentLoaded', () => document.querySelector('nav a').focus())"
    page.page.add_init_script(early)
    page.page.goto(gallery)
    page.page.screenshot()  # drawn
    assert page.look("document.activeElement.innerText") == "One film"


def test_browser_the_lightbox_of_the_last_film_has_the_focus_on_the_picture(visit: Any, gallery: str) -> None:
    page = visit(gallery)
    page.page.focus("#grid li:last-child a")
    page.page.keyboard.press("Enter")
    assert page.page.is_disabled("#lightbox-next")
    assert page.look("document.activeElement.id") == "lightbox-picture"


def test_browser_keyboard_walk_in_the_lightbox(visit: Any, gallery: str) -> None:
    page = visit(gallery)
    page.page.focus("#grid li:nth-child(3) a")
    keys = page.page.keyboard
    keys.press("Enter")
    assert page.look("document.getElementById('lightbox').open")
    assert page.look("document.activeElement.id") == "lightbox-next"
    assert (page.seed("lightbox"), page.look("location.hash")) == ("Seed 2", "#seed=2")
    keys.press("ArrowRight")
    keys.press("Enter")  # on the button "next"
    assert page.seed("lightbox") == "Seed 4"
    keys.press("ArrowLeft")
    assert page.seed("lightbox") == "Seed 3"
    keys.press("End")
    keys.press("ArrowRight")
    assert page.seed("lightbox") == "Seed 11"
    assert page.page.is_disabled("#lightbox-next")
    assert page.look("document.activeElement.id") == "lightbox-picture"  # the keyboard is not lost with the button
    keys.press("Home")
    assert (page.seed("lightbox"), page.look("location.hash")) == ("Seed 0", "#seed=0")
    for _ in range(12):  # Tab stays inside
        keys.press("Tab")
        assert page.look("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    keys.press("ArrowRight")
    keys.press("Escape")
    assert not page.look("document.getElementById('lightbox').open")
    page.until("document.activeElement.closest('li')?.id === 'seed=1'")
    page.until("location.hash === ''")  # the close event comes a moment later


def test_browser_permalinks_of_the_gallery(visit: Any, gallery: str) -> None:
    page = visit(gallery + "#seed=7")
    assert (page.seed("lightbox"), page.look("document.getElementById('lightbox').open")) == ("Seed 7", True)
    page.until("document.getElementById('lightbox-film').naturalWidth === 64")
    page.look("location.hash = '#seed=9'")
    page.until("document.querySelector('#lightbox-caption .seed').textContent === 'Seed 9'")
    page.page.click("#lightbox-close")
    page.until("document.activeElement.closest('li')?.id === 'seed=9'")
    page.look("location.hash = '#seed=999'")
    page.until("document.getElementById('status').textContent === 'There is no film with seed 999 in this gallery.'")
    assert not visit(gallery + "#seed=%").look("document.getElementById('lightbox').open")


def test_browser_filters(visit: Any, gallery: str) -> None:
    page = visit(gallery)
    page.page.select_option("select[name=finding]", "Effusion")
    assert page.look(SHOWN) == ["seed=0", "seed=4", "seed=8"]
    page.page.select_option("select[name=sex]", "F")
    assert page.look(SHOWN) == ["seed=4", "seed=8"]
    assert page.page.inner_text("#status") == "2 of 12 films were asked for this."
    assert page.look("location.hash") == "#finding=Effusion&sex=F"
    page.page.click("#grid li a")
    page.page.keyboard.press("ArrowRight")
    assert page.seed("lightbox") == "Seed 8"
    assert page.page.is_disabled("#lightbox-next")
    page.page.keyboard.press("Escape")
    page.until("location.hash === '#finding=Effusion&sex=F'")
    page.look("location.hash = '#seed=1'")  # a film that the filter hides is shown all the same
    page.until("document.querySelector('#lightbox-caption .seed').textContent === 'Seed 1'")
    page.page.keyboard.press("Escape")
    page.page.select_option("select[name=view]", "PA")
    assert len(page.look(SHOWN)) == 6
    page.page.select_option("select[name=age]", "50")
    assert page.look(SHOWN) == ["seed=11"]
    page.page.select_option("select[name=finding]", "Effusion")
    assert page.look(SHOWN) == []
    page.page.click("#filters button")
    page.until(f"{SHOWN}.length === 12")
    shared = visit(gallery + "#view=AP&sex=M")
    assert shared.look(SHOWN) == ["seed=0", "seed=6"]
    assert shared.page.input_value("select[name=sex]") == "M"


def test_browser_walks_and_filters_across_pages(visit: Any, many: str) -> None:
    page = visit(many)
    assert len(page.look(SHOWN)) == 120
    page.page.select_option("select[name=view]", "AP")
    assert page.page.inner_text("#pager span") == "Page 1 of 2"
    page.page.click("#pager a[rel=next]")
    page.until("document.querySelector('#pager span').textContent === 'Page 2 of 2'")
    assert page.look(SHOWN) == ["seed=240", "seed=242", "seed=244", "seed=246", "seed=248"]
    page.page.go_back()
    page.until("document.querySelector('#pager span').textContent === 'Page 1 of 2'")
    page.page.click("#grid li a")
    page.page.keyboard.press("End")
    assert page.seed("lightbox") == "Seed 248"
    page.page.keyboard.press("Escape")
    page.until("document.activeElement.closest('li')?.id === 'seed=248'")  # on its page
    assert page.look("location.hash") == "#view=AP&page=2"
    page.page.click("#filters button")
    page.until(f"{SHOWN}.length === 120")
    page.page.click("#pager a:last-child")
    page.page.wait_for_url("**/gallery-3.html")
    assert page.look(SHOWN)[0] == "seed=240"


@pytest.mark.slow
def test_browser_draws_the_cards_that_the_exporter_writes(visit: Any, many: str) -> None:
    # The page writes the srcset and sizes last, and names all files anew: what matters is the same, word for word.
    cards = """Array.from(document.querySelectorAll("#grid li"), (item) => {
        const picture = ["src", "srcset", "alt", "width", "height", "loading"];
        const said = picture.map((name) => item.querySelector("img").getAttribute(name));
        return [item.id, item.innerText, item.querySelector("a").href, ...said];
    })"""
    drawn, written = visit(many + "#page=2"), visit(many.replace("gallery.html", "gallery-2.html"))
    assert len(written.look(cards)) == 120
    assert drawn.look(cards) == written.look(cards)


def test_browser_saves_a_contact_sheet_of_what_is_shown(visit: Any, address: str) -> None:
    page = visit(address + "gallery.html#view=PA")
    with page.page.expect_download() as download:
        page.page.click("#sheet-here")
    sheet = Image.open(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert sheet.mode == "L"
    assert sheet.size == (6 * 132, 150 + 22)
    assert "not a patient" in sheet.text["Disclaimer"]
    assert np.asarray(sheet)[10:120, 10:120].std() > 20


def test_browser_without_javascript(visit: Any, many: str, local: str) -> None:
    page = visit(many, java_script_enabled=False)
    assert page.page.locator("#grid img").count() == 120
    page.page.locator("#grid li").last.scroll_into_view_if_needed()
    page.page.wait_for_load_state("networkidle")
    assert any("seed-00000119" in request for request in page.requests), "lazy films load as they come into view"
    for control in ("#filters", "#lightbox", "#sheet-here"):
        assert not page.page.is_visible(control)
    page.page.click("#pager a[rel=next]")
    page.page.wait_for_url("**/gallery-2.html")
    page.page.click("#grid li:nth-child(2) a")
    page.page.wait_for_url("**/films/seed-00000121.png")
    film = visit(local, java_script_enabled=False)
    assert not film.page.is_visible("#another")
    film.page.click("noscript a")
    film.page.wait_for_url("**/gallery.html")


@pytest.mark.parametrize("name", ["index.html", "gallery.html", "about.html"])
def test_browser_fits_the_screen(visit: Any, local: str, name: str) -> None:
    page = visit(local.replace("index.html", name))
    for width, height in ((320, 700), (390, 844), (820, 1180), (1366, 768), (3840, 2160)):
        page.page.set_viewport_size({"width": width, "height": height})
        assert page.look("document.documentElement.scrollWidth <= innerWidth"), width
        if name == "about.html":
            continue
        if name == "gallery.html":
            page.page.click("#grid li a")
        film = "dialog .film" if name == "gallery.html" else ".film"
        left, top, right, bottom = page.look(
            f"""(({{left, top, right, bottom}}) => [left, top, right, bottom])(
                document.querySelector("{film}").getBoundingClientRect())"""
        )
        assert 0 <= left < right <= width, width
        assert 0 <= top < bottom <= height, width
        page.page.keyboard.press("Escape")


def test_browser_is_light_and_still_when_asked(visit: Any, address: str) -> None:
    page = visit(address, reduced_motion="reduce")
    durations = (
        "Array.from(document.querySelectorAll('*'), (one) => parseFloat(getComputedStyle(one).transitionDuration))"
    )
    assert set(page.look(durations)) == {0}
    page.page.wait_for_load_state("networkidle")
    entries = "performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))"
    sizes = page.look(f"{entries}.map((entry) => entry.transferSize)")
    assert sum(sizes) < 200_000
    assert not {"generator", "manifest.json", "share.png", "contact-sheet.png"} & {
        request.split("/")[3] for request in page.requests
    }


def test_browser_hostile_names_are_only_names(visit: Any, make_samples: Callable[..., Path], tmp_path: Path) -> None:
    hostile = "<script>document.title = 1</script><img src=x onerror=alert(1)>\"'&"
    cells = {"findings": hostile, "seen": hostile, "view": hostile, "sex": hostile, "source": hostile}
    index = build_site(
        make_samples(cells, {}, {**cells, "file": "a'b&c #1%.png"}), tmp_path / "out", title=hostile
    ).as_uri()
    film = visit(index + "#seed=2")
    assert hostile.lower() in film.page.inner_text("#hero-caption .seen")
    page = visit(index.replace("index.html", "gallery.html"))
    page.page.select_option("select[name=finding]", hostile)
    assert page.look(SHOWN) == ["seed=0", "seed=2"]
    page.page.click("#grid li:nth-child(2) a")
    page.until("document.getElementById('lightbox-film').naturalWidth === 64")
    assert page.look("document.title").endswith(hostile)
