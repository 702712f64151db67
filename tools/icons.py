"""Render site/favicon.svg as the PNG icons of web manifests: `python tools/icons.py` (needs playwright and
chromium)."""

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

SITE = Path(__file__).parents[1] / "site"

if __name__ == "__main__":
    svg = (SITE / "favicon.svg").read_text()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for side in (192, 512):
            page = browser.new_page(viewport={"width": side, "height": side})
            # The background fills the square and the ribs stay in its middle, so that any mask may be applied.
            page.set_content(
                f'<body style="margin:0;background:#0b0d10"><div style="padding:{side * 0.1}px">{svg}</div></body>'
            )
            page.screenshot(path=SITE / f"icon-{side}.png")
        browser.close()
