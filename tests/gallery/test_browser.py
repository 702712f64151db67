"""The gallery in a real browser, from file:// and from localhost; skipped where there is no chromium."""

from pathlib import Path
from typing import Any

import pytest

from thiscxr.gallery.site import build_site


@pytest.fixture
def local(samples: Path, scores: Path, tmp_path: Path) -> str:
    return build_site(samples, tmp_path / "out", scores).index.as_uri()


def test_browser_asks_nobody_else(visit: Any, address: str) -> None:
    page = visit(address)
    page.look("document.getElementById('grid').lastElementChild.scrollIntoView()")
    page.page.click("#grid li:nth-child(5) a")
    assert page.seed("lightbox") == "Seed 4"
    assert {request.split("/")[2] for request in page.requests} == {address.split("/")[2]}
    assert page.look("document.cookie + localStorage.length + sessionStorage.length") == "00"


def test_browser_next_film_by_click_and_key(visit: Any, local: str) -> None:
    page = visit(local)
    seen = [page.seed("hero")]
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
    assert page.page.get_attribute("#hero-link", "href") == f"#seed={number}"
    assert page.page.get_attribute("#hero-save", "href") == f"films/seed-{int(number):08d}.png"


def test_browser_keyboard_walk_in_the_lightbox(visit: Any, local: str) -> None:
    page = visit(local)
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
    keys.press("Escape")
    assert not page.look("document.getElementById('lightbox').open")
    page.until("document.activeElement.closest('li')?.id === 'seed=2'")
    page.until("location.hash === ''")  # the close event comes a moment later


def test_browser_permalinks(visit: Any, local: str) -> None:
    page = visit(local + "#seed=7")
    assert (page.seed("lightbox"), page.look("document.getElementById('lightbox').open")) == ("Seed 7", True)
    page.until("document.getElementById('lightbox-film').naturalWidth === 64")
    page.look("location.hash = '#seed=9'")
    page.until("document.querySelector('#lightbox-caption .seed').textContent === 'Seed 9'")
    page.page.click("#lightbox-close")
    page.until("document.activeElement.closest('li')?.id === 'seed=9'")
    page.look("location.hash = '#seed=999'")
    page.until("document.getElementById('status').textContent === 'There is no film with seed 999 in this gallery.'")
    assert not visit(local + "#seed=%").look("document.getElementById('lightbox').open")


def test_browser_filters(visit: Any, local: str) -> None:
    page = visit(local)
    shown = "Array.from(document.querySelectorAll('#grid li:not([hidden])'), (item) => item.id)"
    page.page.select_option("select[name=findings]", "Effusion")
    assert page.look(shown) == ["seed=0", "seed=4", "seed=8"]
    page.page.select_option("select[name=sex]", "F")
    assert page.look(shown) == ["seed=4", "seed=8"]
    assert page.page.inner_text("#status") == "2 of 12 films were asked for this."
    page.page.click("#another")
    assert page.seed("hero") in ("Seed 4", "Seed 8")
    page.page.click("#grid li:not([hidden]) a")
    page.page.keyboard.press("ArrowRight")
    assert page.seed("lightbox") == "Seed 8"
    assert page.page.is_disabled("#lightbox-next")
    page.look("location.hash = '#seed=1'")  # a film that the filter hides is shown all the same
    page.until("document.querySelector('#lightbox-caption .seed').textContent === 'Seed 1'")
    page.page.keyboard.press("Escape")
    page.page.select_option("select[name=view]", "PA")
    assert len(page.look(shown)) == 6
    page.page.click("#filters button")
    page.until(f"{shown}.length === 12")


def test_browser_without_javascript(visit: Any, local: str) -> None:
    page = visit(local, java_script_enabled=False)
    for item in page.page.query_selector_all("#grid li"):
        item.scroll_into_view_if_needed()
    assert page.page.locator("#grid img").count() == 12
    assert len({request for request in page.requests if "films/" in request}) == 12
    assert not page.page.is_visible("#filters")
    assert not page.page.is_visible("#another")
    assert not page.page.is_visible("#lightbox")
    page.page.click("#grid li:nth-child(2) a")
    page.page.wait_for_url("**/films/seed-00000001.png")


def test_browser_fits_the_screen(visit: Any, local: str) -> None:
    page = visit(local)
    for width in (320, 390, 820, 1366):
        page.page.set_viewport_size({"width": width, "height": 800})
        assert page.look("document.documentElement.scrollWidth <= innerWidth"), width
        page.page.click("#grid li a")
        left, top, right, bottom = page.look(
            "(({left, top, right, bottom}) => [left, top, right, bottom])(document.querySelector('dialog .film').getBoundingClientRect())"
        )
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= 800
        page.page.keyboard.press("Escape")
