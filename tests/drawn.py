"""Reads the charts back from a page."""

import re
from html import unescape
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np

SVG = "{http://www.w3.org/2000/svg}"


class Drawn:
    """A chart of a page: what it says to who cannot see it, and its SVG."""

    def __init__(self, alt: str, svg: str) -> None:
        self.alt, self.svg, self.root = alt, svg, ElementTree.fromstring(svg)
        self.texts = [text.text or "" for text in self.root.iter(f"{SVG}text")]

    def filled(self, colour: str) -> list[np.ndarray]:
        """Return the corners [n, 2] of each path of this colour."""
        paths = [path for path in self.root.iter(f"{SVG}path") if f"fill: {colour}" in path.get("style", "")]
        return [np.array(re.findall(r"[-\d.]+", path.get("d", "")), float).reshape(-1, 2) for path in paths]

    def marks(self, colour: str) -> list[tuple[float, float]]:
        """Return where marks of this colour stand; y grows downwards."""
        uses = [use for use in self.root.iter(f"{SVG}use") if colour in use.get("style", "")]
        return [(float(use.get("x", "")), float(use.get("y", ""))) for use in uses]


def charts(html: str) -> list[Drawn]:
    """Return the charts in their order. Fails where one is no picture of its own, without words, or bad SVG."""
    found = re.findall(r'<img width="\d+" height="\d+" alt="([^"]+)" src="data:image/svg\+xml,([^"<>]+)">', html)
    assert len(found) == html.count("data:image/svg")
    return [Drawn(unescape(alt), unquote(svg)) for alt, svg in found]
