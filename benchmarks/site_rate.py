"""How fast a site of many films is built, and how fast its gallery answers: one JSON line. Claim: 10,000 films in under
60 s on two cores.

    python benchmarks/site_rate.py [-n 10000] [--res 64] [--no-browser]

The films are of its own making: a few drawn ones, each many times. In headless Chromium, on a cold cache from
localhost: seconds to the first film of the film page, to the gallery when its script has run, and for the slowest of
some filters until the films stand in the page; and how many elements the page holds.
"""

import argparse
import csv
import json
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from thiscxr.gallery.serve import make_server
from thiscxr.gallery.site import build_site
from thiscxr.labels import FINDINGS
from thiscxr.pixels import encode_png

DRAWN = 16  # different films


def make_samples(folder: Path, n: int, res: int) -> None:
    """Write a sample folder of n films: soft noise, about as hard to compress as films are."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    films = []
    for _ in range(DRAWN):
        waves = (
            np.fft.rfft2(rng.normal(size=(res, res)))
            / (1 + np.hypot(*np.meshgrid(np.fft.rfftfreq(res), np.fft.fftfreq(res))) * res) ** 1.5
        )
        field = np.fft.irfft2(waves, s=(res, res))
        films.append(encode_png(np.clip(128 + 50 * field / field.std(), 0, 255).astype(np.uint8)))
    sha256 = "ab" * 32
    (folder / "network.json").write_text(
        json.dumps({"name": "drawn", "sha256": sha256, "resolution": res, "sources": {}})
    )
    with open(folder / "samples.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(
            ["file", "seed", "view", "sex", "age_years", "findings", "network_sha256", "stranger_rank", "memorised"]
        )
        for seed in range(n):
            name = f"seed-{seed:08d}.png"
            (folder / name).write_bytes(films[seed % DRAWN])
            finding = FINDINGS[seed % len(FINDINGS)]
            table.writerow(
                [
                    name,
                    seed,
                    ("PA", "AP")[seed % 3 == 0],
                    "FM"[seed % 2],
                    20 + seed % 70,
                    finding,
                    sha256,
                    seed % 1000 / 1000,
                    "false",
                ]
            )


def look(site: Path) -> dict[str, Any]:
    """Return what a visitor waits for, in seconds, and the weight of the page."""
    from playwright.sync_api import sync_playwright

    server = make_server(site, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    found: dict[str, Any] = {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_context(viewport={"width": 1366, "height": 800}).new_page()
        page.goto(address, wait_until="commit")
        page.wait_for_selector("#hero img")
        image = "performance.getEntriesByType('resource').find((entry) => entry.name.includes('/films/seed-'))"
        while not page.evaluate(f"Boolean({image}?.responseEnd)"):
            page.wait_for_timeout(10)
        found["first_film_sec"] = round(page.evaluate(f"{image}.responseEnd") / 1000, 3)
        page.goto(address + "gallery.html")
        found["gallery_sec"] = round(
            page.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd") / 1000, 3
        )
        found["elements"] = page.evaluate("document.querySelectorAll('*').length")
        choose = """([name, value]) => {
            const field = document.querySelector(`select[name=${name}]`), started = performance.now();
            field.value = value;
            field.dispatchEvent(new Event("change", { bubbles: true }));
            document.body.offsetHeight; // laid out
            return performance.now() - started;
        }"""
        times = [
            page.evaluate(choose, choice)
            for choice in (["view", "AP"], ["sex", "F"], ["finding", "Effusion"], ["finding", ""], ["age", "40"])
        ]
        found["filter_sec"] = round(max(times) / 1000, 3)
        found["elements_filtered"] = page.evaluate("document.querySelectorAll('*').length")
        browser.close()
    server.shutdown()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--res", type=int, default=64)
    parser.add_argument("--no-browser", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        samples, site = Path(room) / "samples", Path(room) / "site"
        make_samples(samples, options.n, options.res)
        facts: dict[str, Any] = {"films": options.n, "res": options.res, "load": round(os.getloadavg()[0], 1)}
        for name in ("build", "rebuild"):
            started, used = time.perf_counter(), time.process_time()
            build_site(samples, site)
            facts[f"{name}_sec"] = round(time.perf_counter() - started, 1)
            facts[f"{name}_cpu_sec"] = round(time.process_time() - used, 1)
        facts["bytes"] = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
        facts |= {} if options.no_browser else look(site)
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
