"""The charts of the pages, by matplotlib: SVG whose text stays text, the same bytes for the same numbers.

A chart is a picture of its own in the page, so the page's policy of styles holds. `alt` says what it shows; the page
has the numbers in a table beside it. Colours are those of Okabe and Ito (2008), which the colour-blind can distinguish;
series also differ in dash and mark. Labels come from files of others: they are cut, and never read as formulas.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec
from urllib.parse import quote

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

if TYPE_CHECKING:  # matplotlib takes a third of a second: it is imported only to draw
    from matplotlib.axes import Axes

P = ParamSpec("P")
Series = Sequence[tuple[str, Sequence[float]]]
Dash = str | tuple[int, tuple[int, ...]]

WIDTH = 420  # px, about as wide as a phone, so that text of 11 px stays about that large
WIDE = 860
_ROW = 19  # px, height of a row
_LETTERS = 28  # of a label, at most
# no text, or turns it around
UNSHOWN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#444444", "#e69f00")
_DASHES: tuple[Dash, ...] = (
    "-",
    (0, (6, 3)),
    (0, (2, 2)),
    (0, (8, 2, 2, 2)),
    (0, (4, 1)),
    (0, (1, 3)),
    (0, (10, 4)),
    (0, (3, 5)),
)
_MARKS = "os^Dv*PX"
_UNKNOWN = "#f1f3f5"
_STYLE = {
    "svg.hashsalt": "thiscxr",
    "svg.fonttype": "none",
    "font.sans-serif": ["system-ui", "DejaVu Sans"],  # shown in the reader's font, measured in the one that all have
    "font.size": 11,
    "text.parse_math": False,
    "axes.autolimit_mode": "round_numbers",
    "axes.xmargin": 0.02,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "grid.linewidth": 0.8,
    "xtick.major.size": 0,
    "xtick.major.pad": 6,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
}
_INKS = ("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor")
_LINES = ("axes.edgecolor", "grid.color")
_GROUNDS = ("figure.facecolor", "axes.facecolor")


def _chart(draw: Callable[Concatenate[Axes, P], None]) -> Callable[Concatenate[str, P], Markup]:
    """Turn a function that draws on axes into one that takes `alt` in their place and returns an `<img>`."""

    @wraps(draw)
    def drawn(alt: str, *args: P.args, **kwargs: P.kwargs) -> Markup:
        from matplotlib import style
        from matplotlib.figure import Figure

        ink, line, ground = ("#e6eaed", "#6d7883", "#0b0d10") if kwargs.get("dark") else ("#1b1f24", "#d5dae0", "white")
        colours = {**dict.fromkeys(_INKS, ink), **dict.fromkeys(_LINES, line), **dict.fromkeys(_GROUNDS, ground)}
        svg = io.StringIO()
        with style.context(["default", {**_STYLE, **colours}]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # which the reader's font may have
            figure = Figure((WIDTH / 72, 210 / 72), layout="constrained")  # a point of matplotlib is a px here
            draw(figure.subplots(), *args, **kwargs)
            figure.savefig(svg, format="svg", dpi=144, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
        width, height = (round(72 * side) for side in figure.get_size_inches())
        data = quote(svg.getvalue(), " /:;,=()'!?+")  # smaller than base64
        return Markup('<img width="{}" height="{}" alt="{}" src="data:image/svg+xml,{}">').format(
            width, height, alt, data
        )

    return drawn


def _size(axes: Axes, height: float, width: float = 0) -> None:
    """Set the size of the whole picture, px; without a width it keeps its own."""
    figure: Any = axes.figure
    figure.set_size_inches(width / 72 or figure.get_figwidth(), height / 72)


def _cut(label: str) -> str:
    label = UNSHOWN.sub("\ufffd", label).replace("\n", " ")
    return label if len(label) <= _LETTERS else f"{label[: _LETTERS // 2]}…{label[1 - _LETTERS // 2 :]}"


def _rows(axes: Axes, labels: Sequence[str], more: float = 20) -> None:
    """Give each label a row, the first one on top, and `more` px to what is above and below."""
    axes.set_yticks(range(len(labels)), [_cut(label) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    _size(axes, len(labels) * _ROW + more)


def _legend(axes: Axes) -> None:
    """Draw the legend above the axes, in as many columns as fit, on paper that grows by it."""
    handles, labels = axes.get_legend_handles_labels()
    letters = [len(label) + 7 for label in labels]  # 7: the handle and the gap
    columns = len(labels) or 1 if sum(letters) < 66 else max(1, 66 // max(letters))
    figure: Any = axes.figure
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, borderpad=0, columnspacing=1.2)
    _size(axes, 72 * figure.get_figheight() + 17 * math.ceil(len(labels) / columns) + 6)


def _named(name: str) -> str:
    return " " + _cut(name)  # matplotlib leaves a name out that begins with an underscore


def _percents(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(lambda share, _: f"{100 * share:.4g} %")


def _ends(axes: Axes) -> None:
    """Keep the first and last label of the x axis inside its ends."""
    labels = axes.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    labels[-1].set_horizontalalignment("right")


@_chart
def stacked_bars(axes: Axes, rows: Sequence[tuple[str, Mapping[str, int], str]], fills: Mapping[str, str]) -> None:
    """Draw a bar of 100 % a row. rows: label, part -> count, note at the end of the bar; fills: part -> colour, in
    their order."""
    start = np.zeros(len(rows))
    for name, fill in fills.items():
        shares = np.array([counts.get(name, 0) / (sum(counts.values()) or 1) for _, counts, _ in rows])
        if shares.any():
            axes.barh(range(len(rows)), shares, 0.75, start, color=fill, label=_named(name.replace("_", " ")))
            start += shares
    for place, (_, _, note) in enumerate(rows):
        axes.text(1.02, place, _cut(note), va="center")
    _rows(axes, [label for label, _, _ in rows])
    axes.set_xlim(0, 1)
    axes.xaxis.set_visible(False)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    _legend(axes)


@_chart
def dots(axes: Axes, rows: Sequence[str], series: Series) -> None:
    """Draw a row of marks a label, on one scale of percents. series: name, a share for each row or NaN."""
    for number, (name, shares) in enumerate(series):
        look: dict[str, Any] = {"color": _PALETTE[number % 8], "marker": _MARKS[number % 8], "clip_on": False}
        axes.plot(np.array(shares, float), range(len(rows)), linestyle="none", label=_named(name), **look)
    _rows(axes, rows, 40)
    _percents(axes.xaxis)
    axes.set_xlim(0)
    _legend(axes)


@_chart
def steps(axes: Axes, series: Series, edges: Sequence[float], ticks: Sequence[tuple[float, str]] = ()) -> None:
    """Draw histograms over one another as stepped lines. series: name, shares; edges: of the bins; ticks: place on the
    x axis, label."""
    for number, (name, shares) in enumerate(series):
        look: dict[str, Any] = {"color": _PALETTE[number % 8], "linestyle": _DASHES[number % 8]}
        axes.stairs(shares, edges, baseline=None, label=_named(name), linewidth=1.8, **look)
    _percents(axes.yaxis)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1.08 * max((share for _, shares in series for share in shares), default=0) or 1)
    axes.grid(axis="x", visible=False)
    if ticks:
        axes.set_xticks([place for place, _ in ticks], [label for _, label in ticks])
        if ticks[0][0] == edges[0]:
            _ends(axes)
    if len(series) > 1:
        _legend(axes)


@_chart
def pyramid(
    axes: Axes, labels: Sequence[str], left: tuple[str, Sequence[int]], right: tuple[str, Sequence[int]]
) -> None:
    """Draw two histograms back to back, the last label on top. left, right: name, counts."""
    most = 1.25 * max(*left[1], *right[1], 1)
    for sign, (name, counts), colour in ((-1, left, _PALETTE[1]), (1, right, _PALETTE[0])):
        if name:
            bars = axes.barh(range(len(labels)), [sign * n for n in counts], color=colour, label=_named(name))
            axes.bar_label(bars, [f"{n:,}" if n else "" for n in counts], padding=3, fontsize=9.5)
    _rows(axes, labels)
    axes.invert_yaxis()
    axes.set_xlim(-most if left[0] else 0, most)
    axes.xaxis.set_visible(False)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    _legend(axes)


@_chart
def bubbles(axes: Axes, series: Sequence[tuple[str, Sequence[Sequence[int]]]]) -> None:
    """Draw native sizes, both axes alike. series: name, [(width, height, films)]; areas are shares of the films of one
    source."""
    most = 1.08 * max((max(cell[:2]) for _, cells in series for cell in cells), default=1)
    axes.plot([0, most], [0, most], color="#8a939d", linestyle=(0, (4, 4)), linewidth=1, label=" square")
    for number, (name, cells) in enumerate(series):
        colour, total = _PALETTE[number % 8], sum(cell[2] for cell in cells)
        axes.plot([], [], "o", color=colour, label=_named(name))
        for width, height, films in cells:
            size = max(48 * math.sqrt(films / total), 3)
            axes.plot(width, height, "o", color=colour, alpha=0.5, markersize=size)
    axes.set(xlim=(0, most), ylim=(0, most), aspect="equal", anchor="N", xlabel="width, px", ylabel="height, px")
    _size(axes, WIDTH)
    _legend(axes)


@_chart
def heat_map(
    axes: Axes,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    width: int = WIDTH,
) -> None:
    """Draw values from white (0) to blue (1), None: grey, with their percents where there is room for them."""
    from matplotlib.colors import LinearSegmentedColormap

    blues = LinearSegmentedColormap.from_list("blues", ["#ffffff", "#084582"])
    axes.imshow(np.array(values, float), blues, vmin=0, vmax=1, aspect="auto", interpolation="none")
    axes.set_facecolor(_UNKNOWN)
    axes.set_xticks(range(len(columns)), [_cut(name) for name in columns])
    narrow = len(columns) * 18 > width - 200
    axes.xaxis.tick_top()
    axes.tick_params("x", rotation=90 if narrow else 50, labelsize=9 if narrow else 11)
    for label in axes.get_xticklabels():
        label.set(ha="left", va="center" if narrow else "bottom", rotation_mode="anchor")
    for (row, column), value in np.ndenumerate(np.array(values, float)):
        if not narrow and not np.isnan(value):
            ink: dict[str, Any] = {"color": "white" if value > 0.5 else "black", "ha": "center", "va": "center"}
            axes.text(column, row, f"{100 * value:.0f}", fontsize=9.5, clip_on=True, **ink)
    _rows(axes, rows)
    _size(axes, len(rows) * _ROW + 40 + 6 * min(max(map(len, columns)), _LETTERS), width)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(False)
    axes.spines[:].set_visible(False)


@dataclass(frozen=True, slots=True)
class Whisker:
    """A value with its interval, and what real films give (None: nothing to compare with)."""

    label: str
    value: float
    low: float
    high: float
    real: float | None


@_chart
def whiskers(
    axes: Axes,
    rows: Sequence[Whisker],
    span: tuple[float, float] | None = None,
    real: str = "real films (floor)",
    dark: bool = False,
) -> None:
    """Draw a dot and its interval a row, with a diamond for real films, on one scale. span: its ends, at which what
    lies beyond them is drawn; real: what the diamond is called; dark: without labels, small, for a page on dark ground.
    """
    places = range(len(rows))
    sides = np.array([(row.value, row.low, row.high, row.real) for row in rows], float)
    value, low, high, floor = (np.clip(sides, *span) if span else sides).T
    films, diamond = ("#b9d9ee", "#f0a02c") if dark else (_PALETTE[0], _PALETTE[1])
    axes.hlines(places, low, high, color=films, linewidth=2)
    axes.plot(value, places, "o", color=films, label=" synthetic films, with interval", clip_on=False)
    if not np.isnan(floor).all():
        look: dict[str, Any] = {
            "markerfacecolor": "none",
            "markeredgecolor": diamond,
            "markeredgewidth": 2,
            "clip_on": False,
        }
        axes.plot(floor, places, "D", label=_named(real), **look)
    axes.set_xlim(span or (min(0, axes.get_xlim()[0]), max(0, axes.get_xlim()[1])))
    _rows(axes, [row.label for row in rows], 20)
    if dark:
        figure: Any = axes.figure
        figure.set_layout_engine("none")  # as fast as it is small
        axes.set_position((0.04, 0.5, 0.92, 0.4))
        axes.set_xticks(axes.get_xlim())
        axes.yaxis.set_visible(False)
        axes.spines["left"].set_visible(False)
        _ends(axes)
        _size(axes, 36, 216)
    else:
        axes.locator_params("x", nbins=5)
        _legend(axes)


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a curve, with a band around it where there is one."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@_chart
def curves(
    axes: Axes,
    series: Sequence[Curve],
    x_label: str,
    span: tuple[float, float],
    marked: tuple[float, float] | None = None,
) -> None:
    """Draw curves over one x axis. span: ends of the y axis; marked: a range of x that is shaded, such as that of real
    films."""
    for number, curve in enumerate(series):
        colour, dash = _PALETTE[number % 8], _DASHES[number % 8]
        axes.plot(curve.x, curve.y, color=colour, linestyle=dash, linewidth=1.8, label=_named(curve.name))
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
    axes.margins(x=0)
    ends = axes.get_xlim()
    if marked:
        axes.axvspan(*marked, color="#e8f1e9", zorder=0)
    axes.set(xlim=ends, ylim=span, xlabel=x_label)
    _legend(axes)


@_chart
def cloud(axes: Axes, series: Sequence[tuple[str, NDArray[np.floating]]], most: int = 600) -> None:
    """Draw points [n, 2] of several sets over one another, at most so many of each."""
    points = np.concatenate([values[:most] for _, values in series])
    low, high = np.quantile(points, 0.005, axis=0), np.quantile(points, 0.995, axis=0)
    for number, (name, values) in enumerate(series):
        x, y = np.clip(values[:most], low, high).T
        look: dict[str, Any] = {
            "color": _PALETTE[number % 8],
            "marker": _MARKS[number % 8],
            "markersize": 3.5,
            "alpha": 0.8,
        }
        axes.plot(x, y, linestyle="none", markeredgewidth=0, rasterized=True, label=_named(name), **look)
    axes.set(xticks=[], yticks=[], xlabel="first component of the real films →", ylabel="second →")
    _size(axes, 360)
    _legend(axes)


@_chart
def ranks(axes: Axes, shares: Sequence[float], dark: bool) -> None:
    """Draw the share of films in each equal part of the ranks from 0 to 1, and where all parts would be alike."""
    bins = len(shares)
    bars = axes.bar((np.arange(bins) + 0.5) / bins, shares, 0.9 / bins, color="#5f86a1")
    axes.bar_label(bars, [f"{100 * share:.0f}" for share in shares], padding=2)
    axes.axhline(1 / bins, color="#f0a02c", linestyle=(0, (5, 4)))
    axes.set_xticks([0, 1], ["0, nearer than all unrelated patients", "1"])
    _ends(axes)
    axes.set_xlim(0, 1)
    axes.yaxis.set_visible(False)
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    _size(axes, 170)
