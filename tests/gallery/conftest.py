"""A sample folder of small drawn films, its scores, running local servers, and a real browser where there is
chromium."""

import csv
import io
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.scores import SHA, record, written
from thiscxr.files import sha256_file
from thiscxr.gallery.serve import make_server
from thiscxr.gallery.site import build_site
from thiscxr.model.network_file import find_network
from thiscxr.score.records import Record

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
)
COLUMNS = [
    "file",
    "seed",
    "view",
    "sex",
    "age_years",
    "source",
    "findings",
    "no_findings",
    "truncation",
    "network_sha256",
]
SCORED = ["seen", "nearest", "stranger_rank", "memorised"]  # what a score adds
SOURCES = {
    "phantom": {
        "title": "Phantoms",
        "terms": "None.",
        "citation": "Nobody & al.",
        "url": "https://example.org/a?b&c",
        "acknowledgement": "Thanks.",
    },
    "bad": {"title": "<b>bold</b>", "terms": "", "citation": "", "url": "javascript:alert(1)", "acknowledgement": ""},
}


def png(seed: int, width: int = 64, height: int = 64) -> bytes:
    y, x = np.mgrid[0:height, 0:width]
    pixels = (120 + 80 * np.sin(x / (4 + seed % 7)) * np.cos(y / (5 + seed % 5))).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def default_row(number: int) -> dict[str, str]:
    return {
        "file": f"seed-{number:08d}.png",
        "seed": str(number),
        "view": "PA" if number % 2 else "AP",
        "sex": "F" if number % 3 else "M",
        "age_years": str(40 + number),
        "findings": "" if number % 4 else "Effusion|Pleural_Thickening",
        "truncation": "0.7",
        "seen": "" if number % 4 else "Effusion|Mass",
        "stranger_rank": "0.62" if number else "0.004",
        "memorised": "false",
    }


@pytest.fixture
def make_samples(tmp_path: Path) -> Callable[..., Path]:
    """Write a sample folder of one film for each row; a row holds only the cells that differ from the default ones."""

    def make(*rows: Mapping[str, str], name: str = "samples", network: Mapping[str, Any] | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        facts = {
            "name": "test-64",
            "sha256": SHA,
            "architecture": {"res": 64},
            "images_seen": 123456,
            "code_version": "0.1",
            "sources": SOURCES,
        }
        facts |= network or {}
        cells = [{**default_row(number), "network_sha256": facts["sha256"], **row} for number, row in enumerate(rows)]
        with open(folder / "samples.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS + SCORED)
            writer.writeheader()
            writer.writerows(cells)
        (folder / "network.json").write_text(json.dumps(facts))
        for number, row in enumerate(cells):
            if row["file"] and Path(row["file"]).name == row["file"]:
                (folder / row["file"]).write_bytes(png(number))
        return folder

    return make


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Path], dict[str, bytes]]:
    """Return the files of a folder, name -> bytes."""
    return lambda folder: {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def make_nih_samples(make_samples: Callable[..., Path]) -> Callable[..., Path]:
    """The same of films that say they are of nih-64."""
    return partial(make_samples, network={"sha256": sha256_file(find_network("nih-64"))})


@pytest.fixture
def samples(make_samples: Callable[..., Path]) -> Path:
    return make_samples(*[{}] * 12)


@pytest.fixture
def score_records() -> list[Record]:
    return [
        record("fd", 40.0, (38.0, 42.0), 8.0, num_real=2000, num_fake=2000, extractor="thiscxr64"),
        record("odd_score", 0.25, truncation=1.0),
    ]


@pytest.fixture
def scores(tmp_path: Path, score_records: list[Record]) -> Path:
    return written(tmp_path / "scores.json", *score_records)


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Path], str]]:
    """Put folders on localhost; each call returns the address of one."""
    with ExitStack() as stack:

        def start(folder: Path) -> str:
            server = make_server(folder, 0)
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}/"

        yield start


@pytest.fixture
def address(samples: Path, tmp_path: Path, serve: Callable[[Path], str]) -> str:
    build_site(samples, tmp_path / "out")
    return serve(tmp_path / "out")


class Visit:
    """One page in a fresh browser context, with its errors and its requests."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1200, "height": 800}, **options)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.set_default_timeout(20_000)
        self.page.goto(address)

    def look(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def until(self, expression: str) -> None:
        """Wait for an expression to be true; Playwright's own way needs eval, which the page's policy forbids."""
        for _ in range(200):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"never came true: {expression}")

    def seed(self, where: str) -> str:
        return self.page.inner_text(f"#{where}-caption .seed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need `pip install playwright`")
    if CHROMIUM is None:
        pytest.skip("browser tests need chromium (`apt-get install chromium`)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    visits: list[Visit] = []

    def go(address: str, **options: Any) -> Visit:
        visits.append(Visit(browser, address, **options))
        return visits[-1]

    yield go
    for one in visits:
        one.context.close()
        assert one.complaints == []
