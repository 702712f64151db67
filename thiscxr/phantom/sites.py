"""Four hospitals: beam, detector, processing and marker, applied to the same line integrals.

Independent of anatomy. Beer-Lambert, scatter, quantum noise per detector area, blur, exposure anchored to the patient's
thickness, a contrast curve with local contrast equalisation, collimation, burned-in letters. All lengths in cm, so a
film looks the same at every resolution.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy import ndimage

from thiscxr.phantom.rays import Array, Rays

GLYPHS = {
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "E": "11111 10000 10000 11110 10000 10000 11111",
    "I": "01110 00100 00100 00100 00100 00100 01110",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "N": "10001 11001 10101 10011 10001 10001 10001",
    "P": "11110 10001 10001 11110 10000 10000 10000",
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "S": "01111 10000 10000 01110 00001 00001 11110",
    "U": "10001 10001 10001 10001 10001 10001 01110",
    " ": "00000 00000 00000 00000 00000 00000 00000",
}


@dataclass(frozen=True)
class Site:
    """The x-ray room of one hospital."""

    photons: float
    """Quanta per cm2 behind bare tissue of mean thickness; fewer is noisier."""
    scatter: float
    """Scattered over primary light at the detector, before the grid's share."""
    blur: float
    """Standard deviation of the detector's blur, cm."""
    low: float
    """Weight of the broad shadows: 1 leaves them, less evens them out."""
    detail: float
    """Gain of structures finer than some 2 cm."""
    edge: float
    """Unsharp masking at 2 mm."""
    dark: float
    """Grey of aerated lung, 0..1."""
    bright: float
    """Grey of the abdomen, 0..1."""
    shoulder: float
    """How concave the curve is above the lungs: 0 straight, 2 strongly."""
    floor: float
    """Grey of the black outside the body."""
    field: float
    """Width of the square film, cm."""
    border: float
    """Mean width of the collimated border, cm."""
    border_grey: float
    marker: str
    """"R" or "L": the letter laid on the film."""
    marker_size: float
    """Height of the letter, cm."""
    marker_place: tuple[float, float]
    """Where the middle of the marker lies, as fractions of the film from the left and the top."""
    ring: bool
    tilt_deg: float


_ROOMS: dict[str, tuple[Any, ...]] = {  # of the sites a, b, c and d
    "photons": (5e5, 4e4, 2e5, 9e4),
    "scatter": (0.25, 0.55, 0.2, 0.4),
    "blur": (0.02, 0.07, 0.02, 0.05),
    "low": (0.9, 1.0, 0.75, 1.0),
    "detail": (1.15, 0.95, 1.4, 1.05),
    "edge": (0.3, 0.0, 0.7, 0.0),
    "dark": (0.22, 0.4, 0.15, 0.3),
    "bright": (0.78, 0.84, 0.74, 0.88),
    "shoulder": (1.05, 0.9, 0.9, 1.5),
    "floor": (0.0, 0.1, 0.03, 0.0),
    "field": (38.6, 41.5, 37.2, 40.6),
    "border": (0.0, 1.3, 0.0, 1.8),
    "border_grey": (0.0, 0.02, 0.0, 1.0),
    "marker": ("L", "R", "L", "R"),
    "marker_size": (1.7, 1.5, 2.2, 1.2),
    "marker_place": ((0.93, 0.07), (0.08, 0.1), (0.91, 0.2), (0.13, 0.86)),
    "ring": (False, True, False, False),
    "tilt_deg": (0.0, 0.0, -12.0, 8.0),
}
PROFILES = {
    f"phantom-{letter}": Site(**{name: values[place] for name, values in _ROOMS.items()})
    for place, letter in enumerate("abcd")
}


def fractal_noise(res: int, field: float, pitches: tuple[float, ...], r: np.random.Generator) -> Array:
    """float32 [res, res]: smooth noise of unit variance per octave, on lattices of the given pitches in cm, the same at
    every resolution."""
    total = np.zeros((res, res))
    for pitch in pitches:
        weights = _spline_weights(res, field, pitch)
        lattice = r.normal(0, 1, (weights.shape[1], weights.shape[1]))
        total += weights @ lattice @ weights.T * 2.0
    return (total / np.sqrt(len(pitches))).astype(np.float32)


@lru_cache(maxsize=64)
def _spline_weights(res: int, field: float, pitch: float) -> Array:
    """Cubic B-spline basis of a lattice, float64 [res, count]."""
    count = int(np.ceil(field / pitch)) + 4
    x = (np.arange(res) + 0.5) / res * field / pitch + 1
    d = np.abs(x[:, None] - np.arange(count)[None])
    return np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.where(d < 2, (2 - d) ** 3 / 6, 0.0))


def _smooth(image: Array, sigma_px: float) -> Array:
    """Gaussian blur; broad ones on a coarser grid, where they cost little."""
    factor = 1
    while sigma_px / factor > 4 and image.shape[0] // factor >= 32:
        factor *= 2
    if factor == 1:
        return ndimage.gaussian_filter(image, sigma_px, mode="nearest", truncate=3.0)
    n = image.shape[0] // factor
    small = image.reshape(n, factor, n, factor).mean((1, 3))
    small = ndimage.gaussian_filter(small, sigma_px / factor, mode="nearest", truncate=3.0)
    return _enlarge(small, factor)


def _enlarge(small: Array, factor: int) -> Array:
    n = small.shape[0]
    at = np.clip((np.arange(n * factor) + 0.5) / factor - 0.5, 0, n - 1)
    i = np.minimum(at.astype(int), n - 2)
    f = (at - i).astype(np.float32)
    weights = np.zeros((n * factor, n), np.float32)
    weights[np.arange(n * factor), i], weights[np.arange(n * factor), i + 1] = 1 - f, f
    return weights @ small.astype(np.float32) @ weights.T


def expose(
    attenuation: Array,
    rays: Rays,
    site: Site,
    lung_level: float,
    body_level: float,
    portable: bool,
    r: np.random.Generator,
) -> Array:
    """Turn line integrals into grey 0..1 (air dark): float32 [res, res].

    lung_level, body_level: line integrals that the curve maps to `Site.dark` and `Site.bright`, before scatter.
    """
    pixel = rays.pixel
    primary = np.exp(-attenuation)
    anchors = np.exp(-np.array([lung_level, body_level], np.float32))
    share = site.scatter * (1.5 if portable else 1.0)
    scattered = _smooth(np.minimum(primary, 3 * anchors[0]), 4.0 / pixel) * share
    light = _smooth(primary, site.blur / pixel) if site.blur > 0.3 * pixel else primary
    light = light + scattered + 0.15 * share * anchors[0]
    reference = np.log(anchors + share * anchors[0] * np.array([0.95, 0.42]))
    quanta = site.photons * pixel**2 * (0.6 if portable else 1.0)
    relative = np.sqrt(anchors.mean() / np.maximum(light, 1e-9) / quanta)
    light = light * np.exp(np.minimum(relative, 0.6) * r.standard_normal(light.shape, dtype=np.float32))
    value = -np.log(np.maximum(light, 1e-9))
    value = (value + reference[0]) / (reference[0] - reference[1])  # 0 lung, 1 abdomen
    value = np.clip(value, -1.6, 1.9)
    broad = _smooth(np.maximum(value, -0.25), 1.6 / pixel)  # the black outside must not darken what lies beside it
    value = 0.5 + site.low * (broad - 0.5) + np.where(value < -0.25, value - broad, site.detail * (value - broad))
    if site.edge:
        value = value + site.edge * (value - _smooth(value, 0.22 / pixel))
    return _curve(value, site)


def _curve(value: Array, site: Site) -> Array:
    """Detector curve: concave from lung to abdomen and on to white, exponential from lung down to black."""
    k = site.shoulder
    rise = site.dark + (site.bright - site.dark) * (1 - np.exp(-k * np.maximum(value, 0))) / (1 - np.exp(-k))
    slope = (site.bright - site.dark) * k / (1 - np.exp(-k))
    fall = site.floor + (site.dark - site.floor) * np.exp(np.minimum(value, 0) * slope / (site.dark - site.floor))
    return np.where(value > 0, rise, fall)


def burn_in(grey: Array, rays: Rays, site: Site, view: str, r: np.random.Generator) -> Array:
    """Lay collimation and letters over a film."""
    res, field = grey.shape[0], rays.pixel * grey.shape[0]
    at = (np.arange(res) + 0.5) / res * field
    if site.border > 0:
        left, right, top, bottom = np.maximum(r.normal(site.border, 0.35 * site.border, 4), 0.2)
        soft = max(0.12, rays.pixel)
        inside_x = np.clip((at - left) / soft, 0, 1) * np.clip((field - right - at) / soft, 0, 1)
        inside_y = np.clip((at - top) / soft, 0, 1) * np.clip((field - bottom - at) / soft, 0, 1)
        inside = inside_y[:, None] * inside_x[None]
        grey = grey * inside + site.border_grey * (1 - inside)
    x, y = (c * field + r.normal(0, 0.4) for c in site.marker_place)
    letter = "L" if view == "lateral" else site.marker  # a lateral has its left side on the detector
    ink = _letters(letter, site.marker_size, (x, y), site.tilt_deg + r.normal(0, 3), at, site.ring)
    if view.startswith("AP"):
        word = "AP" if view == "AP" else "AP SUPINE"
        y2 = y + (1.9 if y < field / 2 else -1.9) * site.marker_size
        half = len(word) * 6 / 7 * 0.55 * site.marker_size / 2 + site.border
        ink = np.maximum(
            ink,
            _letters(
                word, 0.55 * site.marker_size, (float(np.clip(x, half + 1, field - half - 1)), y2), 0.0, at, False
            ),
        )
    return grey * (1 - ink) + 0.97 * ink


def _letters(word: str, height: float, middle: tuple[float, float], tilt_deg: float, at: Array, ring: bool) -> Array:
    """float [res, res] coverage 0..1 of the strokes of a word, softened to a pixel."""
    bitmap = np.concatenate([np.array([[int(bit) for bit in row] + [0] for row in GLYPHS[c].split()]) for c in word], 1)
    bitmap = np.pad(bitmap.astype(np.float32), 1)
    dot = height / 7
    pixel = at[1] - at[0]
    a = np.deg2rad(tilt_deg)
    x, y = at[None, :] - middle[0], at[:, None] - middle[1]
    u, v = (x * np.cos(a) + y * np.sin(a)) / dot, (-x * np.sin(a) + y * np.cos(a)) / dot
    rows, cols = bitmap.shape
    blur = pixel / dot / 2.5
    if blur > 0.3:
        bitmap = np.pad(bitmap, 3)
        bitmap = ndimage.gaussian_filter(bitmap, blur, mode="constant")
        rows, cols = bitmap.shape
    fine = np.kron(bitmap, np.ones((3, 3), np.float32))
    ink = np.zeros((len(at), len(at)), np.float32)
    reach = (np.abs(u) < cols / 2) & (np.abs(v) < rows / 2)
    where = np.nonzero(reach)
    if len(where[0]):
        spots = np.stack([(v[where] + rows / 2) * 3 - 0.5, (u[where] + cols / 2) * 3 - 0.5])
        ink[where] = ndimage.map_coordinates(fine, spots, order=1, mode="constant")
    if ring:
        distance = np.hypot(u, v)
        ink = np.maximum(ink, np.clip(1.0 - np.abs(distance - 6.2) / max(0.6, pixel / dot), 0, 1))
    return np.clip(ink, 0, 1)
