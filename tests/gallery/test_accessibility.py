"""Every page under axe-core; skipped where it is not installed (axe-playwright-python, which carries it) or there is no
chromium."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thiscxr.gallery.site import build_site
from thiscxr.model.network_file import find_network

AXE = """axe.run({ resultTypes: ["violations"] }).then(
    (found) => found.violations.map((each) => [each.id, each.nodes.map((node) => node.html)]))"""


@pytest.fixture(scope="module")
def axe() -> str:
    package = pytest.importorskip(
        "axe_playwright_python.base", reason="the accessibility test needs `pip install axe-playwright-python`"
    )
    return str(package.AXE_SCRIPT)


def violations(page: Any, axe: str) -> Any:
    page.page.evaluate(axe)
    return page.page.evaluate(AXE)


@pytest.mark.slow
def test_browser_axe_finds_nothing_on_any_page(
    visit: Any, axe: str, make_nih_samples: Callable[..., Path], tmp_path: Path, serve: Callable[[Path], str]
) -> None:
    out = tmp_path / "out"
    build_site(make_nih_samples(*[{}] * 130), out, model=find_network("nih-64"))
    address = serve(out)
    pages = sorted(path.name for path in out.glob("*.html"))
    assert {"index.html", "gallery.html", "gallery-2.html", "about.html", "make.html"} <= set(pages)
    for name in pages:
        page = visit(address + name)
        page.page.wait_for_load_state("networkidle")
        assert violations(page, axe) == [], name
        page.page.set_viewport_size({"width": 390, "height": 844})
        assert violations(page, axe) == [], f"{name} on a phone"
    page = visit(address + "gallery.html#seed=4")
    assert page.look("document.getElementById('lightbox').open")
    assert violations(page, axe) == []
    page = visit(address + "make.html#seed=4")
    page.page.click("#generate")
    page.until("document.getElementById('film').dataset.seed === '4'")
    assert violations(page, axe) == []


def test_browser_axe_finds_what_is_wrong(visit: Any, axe: str, address: str) -> None:
    page = visit(address)
    page.look("document.querySelector('#hero img').removeAttribute('alt')")
    page.look("document.querySelector('.lead').style.setProperty('color', '#222')")
    assert {name for name, _ in violations(page, axe)} >= {"image-alt", "color-contrast"}
