"""The charts of the report, beside those of `describe`: intervals, curves, clouds of points and pairs of films."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from thiscxr.report.pool.charts import (
    DASHES,
    GRID,
    INK,
    LABEL,
    PALETTE,
    ROW,
    WIDTH,
    Parts,
    cut_label,
    draw_box,
    draw_line,
    draw_text,
    label_room,
    nice_step,
    svg,
    tooltip,
)

_FLOOR = "#d55e00"
_VALUE = "#0072b2"


@dataclass(frozen=True, slots=True)
class Whisker:
    """A value with its interval, and what real films give (None: nothing to compare with)."""

    label: str
    value: float
    low: float
    high: float
    real: float | None
    words: str


@dataclass(frozen=True, slots=True)
class Twin:
    """A synthetic and a real film as PNG (None: not to be shown), why one is not shown, and lines of text to stand
    under them."""

    fake: bytes | None
    real: bytes | None
    why: str
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a curve, with a band around it where there is one."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def whiskers(
    slug: str, title: str, text: str, rows: Sequence[Whisker], span: tuple[float, float] | None = None
) -> Markup:
    """Draw a dot and its interval a row, with a diamond for real films, on one scale; span: its ends, or what is
    needed."""
    left = label_room([row.label for row in rows], LABEL)
    known = [value for row in rows for value in (row.low, row.high, row.value, row.real) if value is not None]
    first = -4 * nice_step(-min(known) / 4) if min(known) < 0 else 0.0
    last = 4 * nice_step(max(known) / 4) if max(known) > 0 else 0.0
    first, last = span or (first, last if last > first else first + 1.0)
    wide, height = WIDTH - left - 24, len(rows) * ROW

    def at(value: float) -> float:
        return left + wide * min(max((value - first) / (last - first), 0.0), 1.0)

    parts: Parts = []
    for tick in np.linspace(first, last, 5).tolist():
        parts += [draw_line(at(tick), 0, at(tick), height), draw_text(at(tick), height + 14, f"{tick:g}", "middle")]
    for place, row in enumerate(rows):
        y = place * ROW + 9
        parts.append(draw_text(left - 8, y + 4, cut_label(row.label, left), "end"))
        parts += [draw_line(left, y, WIDTH - 24, y), draw_line(at(row.low), y, at(row.high), y, _VALUE)]
        parts.append(_dot(at(row.value), y, 3.6, _VALUE, row.words))
        if row.real is not None:
            parts.append(
                Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle" fill="{}" font-size="12">◆{}</text>').format(
                    at(row.real), y + 4, _FLOOR, tooltip(f"{row.label}, real films: {row.real:.4g}")
                )
            )
    return svg(slug, title, text, height + 20, parts)


def curves(
    slug: str,
    title: str,
    text: str,
    series: Sequence[Curve],
    x_label: str,
    span: tuple[float, float] | None = None,
    marked: tuple[float, float] | None = None,
) -> Markup:
    """Draw curves over one x axis. span: ends of the y axis; marked: a range of x that is shaded, such as that of real
    films."""
    left, bottom, top = 44.0, 190.0, 8.0
    xs = [x for curve in series for x in curve.x]
    low, high = min(xs), max(xs)
    first, last = span or (0.0, 4 * nice_step((max(y for curve in series for y in curve.high or curve.y) or 1) / 4))
    wide = WIDTH - left - 14

    def across(x: float) -> float:
        return left + wide * (x - low) / ((high - low) or 1)

    def up(y: float) -> float:
        return bottom - (bottom - top) * min(max((y - first) / (last - first), 0.0), 1.0)

    parts: Parts = []
    if marked:
        a, b = (across(min(max(x, low), high)) for x in marked)
        parts.append(
            Markup('<rect x="{:.1f}" y="{}" width="{:.1f}" height="{}" fill="#e8f1e9"/>').format(
                a, top, b - a, bottom - top
            )
        )
    for tick in np.linspace(first, last, 5).tolist():
        parts += [
            draw_line(left, up(tick), WIDTH - 14, up(tick)),
            draw_text(left - 5, up(tick) + 4, f"{tick:.3g}", "end"),
        ]
    step = nice_step((high - low) / 4 or 1)
    for tick in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1):
        parts.append(draw_text(across(tick * step), bottom + 15, f"{tick * step:.3g}", "middle"))
    parts.append(draw_text(left + wide / 2, bottom + 31, x_label, "middle"))
    for number, curve in enumerate(series):
        colour, dash = PALETTE[number % len(PALETTE)], DASHES[number % len(DASHES)]
        if curve.low is not None and curve.high is not None:
            around = [*zip(curve.x, curve.low, strict=True), *reversed(list(zip(curve.x, curve.high, strict=True)))]
            edge = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in around)
            parts.append(Markup('<polygon points="{}" fill="{}" fill-opacity="0.15"/>').format(edge, colour))
        points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in zip(curve.x, curve.y, strict=True))
        parts.append(
            Markup(
                '<polyline points="{}" fill="none" stroke="{}" stroke-width="1.8" stroke-dasharray="{}">{}</polyline>'
            ).format(points, colour, dash, tooltip(curve.name))
        )
    return svg(slug, title, text, bottom + 38, parts)


def cloud(
    slug: str, title: str, text: str, series: Sequence[tuple[str, NDArray[np.floating]]], most: int = 600
) -> Markup:
    """Draw points [n, 2] of several sets over one another, at most so many of each."""
    side, left, top = 340.0, 40.0, 8.0
    points = np.concatenate([values[:most] for _, values in series])
    low, high = np.quantile(points, 0.005, axis=0), np.quantile(points, 0.995, axis=0)
    parts: Parts = [
        Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="none" stroke="{}"/>').format(
            left, top, side, side, GRID
        ),
        draw_text(left, top + side + 16, "first component of the real films →", fill=INK),
    ]
    for number, (_, values) in enumerate(series):
        for x, y in np.clip((values[:most] - low) / (high - low), 0, 1).tolist():
            parts.append(_dot(left + side * x, top + side * (1 - y), 1.8, PALETTE[number % len(PALETTE)], ""))
    return svg(slug, title, text, top + side + 22, parts)


def twins(slug: str, title: str, text: str, pairs: Sequence[Twin], columns: int = 4) -> Markup:
    """Draw pairs of films side by side, each side under its heading, with their text below."""
    side, gap, line, head = 104.0, 22.0, 13.0, 18.0
    deep = head + side + line * max(len(pair.lines) for pair in pairs) + 16
    parts: Parts = []
    for place, pair in enumerate(pairs):
        x, y = place % columns * (2 * side + gap), place // columns * deep
        for name, film, left in (("synthetic", pair.fake, x), ("real", pair.real, x + side + 2)):
            parts.append(draw_text(left + side / 2, y + 12, name, "middle", _VALUE if name == "synthetic" else _FLOOR))
            if film is None:
                parts += [
                    draw_box(left, y + head, side, side, GRID),
                    draw_text(left + side / 2, y + head + 48, "not shown:", "middle"),
                ]
                parts.append(draw_text(left + side / 2, y + head + 62, pair.why, "middle"))
            else:
                data = base64.b64encode(film).decode()
                parts.append(
                    Markup(
                        '<image x="{:.1f}" y="{:.1f}" width="{}" height="{}" href="data:image/png;base64,{}">{}</image>'
                    ).format(left, y + head, side, side, data, tooltip(f"{name} film: {pair.lines[0]}"))
                )
        parts += [draw_text(x, y + head + side + line * (i + 1), words) for i, words in enumerate(pair.lines)]
    wide = columns * (2 * side + gap) - gap + 2
    return svg(slug, title, text, -(-len(pairs) // columns) * deep, parts, wide)


def _dot(x: float, y: float, radius: float, fill: str, words: str) -> Markup:
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:g}" fill="{}" fill-opacity="0.8">{}</circle>').format(
        x, y, radius, fill, tooltip(words)
    )
