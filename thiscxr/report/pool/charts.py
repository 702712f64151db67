"""Charts as inline SVG: plain shapes and text, no script, no style of their own, the same bytes for the same numbers.

Colours are those of Okabe and Ito (2008), which the colour-blind tell apart; sources also differ in dash and mark.
Every shape that stands for a number says it in its title, and the page has the numbers as a table under each chart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10, sqrt

from markupsafe import Markup

WIDTH = 420  # as wide as a card of the page on a phone, so that text of 11 px stays about that large
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#444444", "#e69f00")
DASHES = ("", "6 3", "2 2", "8 2 2 2", "4 1", "1 3", "10 4", "3 5")
MARKS = "●■▲◆▼★✚✖"

_LETTER = 6.6  # width of a letter of 11 px, about
ROW = 19
LABEL = 182.0  # room for the longest finding
GRID = "#d5dae0"
INK = "#1b1f24"
_DEEP = (8, 69, 130)  # end of the scale of heat maps

Parts = list[Markup]
Series = Sequence[tuple[str, Sequence[float]]]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a heat map. `value`: 0 to 1, None: nothing to show; `tip`: the same in words."""

    value: float | None
    text: str
    tip: str


def svg(slug: str, title: str, text: str, height: float, parts: Parts, width: float = WIDTH) -> Markup:
    """Return the drawing; slug: unique on the page, for a screen reader's title and description."""
    head = Markup(
        '<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-labelledby="{slug}-t '
        '{slug}-d"><title id="{slug}-t">{title}</title>'
        '<desc id="{slug}-d">{text}</desc>'
    ).format(width=width, height=height, slug=slug, title=title, text=text)
    return head + Markup("").join(parts) + Markup("</svg>")


def draw_text(
    x: float, y: float, words: str, anchor: str = "start", fill: str = INK, size: float = 11, angle: int = 0
) -> Markup:
    turn = Markup(' transform="rotate({} {:.1f} {:.1f})"').format(angle, x, y) if angle else ""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" fill="{}" font-size="{:g}"{}>{}</text>').format(
        x, y, anchor, fill, size, turn, words
    )


def draw_box(x: float, y: float, width: float, height: float, fill: str, tip: str = "") -> Markup:
    return Markup('<rect x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}" fill="{}">{}</rect>').format(
        x, y, max(width, 0), max(height, 0), fill, tooltip(tip)
    )


def tooltip(words: str) -> Markup:
    return Markup("<title>{}</title>").format(words) if words else Markup("")


def draw_line(x1: float, y1: float, x2: float, y2: float, stroke: str = GRID, dash: str = "") -> Markup:
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}" stroke-dasharray="{}"/>').format(
        x1, y1, x2, y2, stroke, dash
    )


def label_room(labels: Sequence[str], most: float) -> float:
    return min(max((len(label) for label in labels), default=0) * _LETTER + 8, most)


def cut_label(label: str, room: float) -> str:
    letters = round((room - 8) / _LETTER - 0.49)  # rounded down, but for the last bit
    return label if len(label) <= letters else label[: letters - 1] + "…"


def stacked_bars(
    slug: str, title: str, text: str, rows: Sequence[tuple[str, Mapping[str, int], str]], fills: Mapping[str, str]
) -> Markup:
    """Draw a bar of 100 % a row. rows: label, part -> count, note at the end of the bar; fills: part -> colour, in
    their order."""
    left, right = label_room([row[0] for row in rows], LABEL), label_room([row[2] for row in rows], 90)
    span = WIDTH - left - right
    parts: Parts = []
    for place, (label, counts, note) in enumerate(rows):
        y, x, total = place * ROW, left, sum(counts.values())
        parts.append(draw_text(left - 6, y + 13, cut_label(label, left), "end"))
        for name, fill in fills.items():
            if count := counts.get(name, 0):
                parts.append(
                    draw_box(
                        x, y + 3, span * count / total, ROW - 5, fill, f"{label}, {name}: {count:,} of {total:,} films"
                    )
                )
                x += span * count / total
        parts.append(draw_text(WIDTH - right + 6, y + 13, note))
    return svg(slug, title, text, len(rows) * ROW + 4, parts)


def dots(slug: str, title: str, text: str, rows: Sequence[tuple[str, Sequence[tuple[int, float, str]]]]) -> Markup:
    """Draw a row of marks a label, on one scale of percents. rows: label, [(number of the source, share, words)]."""
    left = label_room([label for label, _ in rows], LABEL)
    most = 4 * nice_step((max((share for _, marks in rows for _, share, _ in marks), default=0) or 1) / 4)
    span, height = WIDTH - left - 24, len(rows) * ROW
    parts: Parts = []
    for step in range(5):
        x = left + span * step / 4
        parts += [draw_line(x, 0, x, height), draw_text(x, height + 14, _percent(most * step / 4, most), "middle")]
    for place, (label, marks) in enumerate(rows):
        y = place * ROW + 13
        parts += [draw_text(left - 8, y, cut_label(label, left), "end"), draw_line(left, y - 4, WIDTH - 24, y - 4)]
        for number, share, words in marks:
            parts.append(draw_mark(number, left + span * share / most, y, words))
    return svg(slug, title, text, height + 20, parts)


def draw_mark(number: int, x: float, y: float, words: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle" fill="{}" font-size="12">{}{}</text>').format(
        x, y, PALETTE[number % len(PALETTE)], MARKS[number % len(MARKS)], tooltip(words)
    )


def _percent(share: float, most: float) -> str:
    return f"{share:.1%}" if most <= 0.1 and share else f"{share:.0%}"


def steps(slug: str, title: str, text: str, series: Series, ticks: Sequence[tuple[float, str]]) -> Markup:
    """Draw histograms over one another as stepped lines. series: name, shares; ticks: place from 0 to 1 on the x axis,
    label."""
    left, bottom, top = 40.0, 190.0, 8.0
    most = 4 * nice_step((max((value for _, values in series for value in values), default=0) or 1) / 4)
    span = WIDTH - left - 12
    parts: Parts = []
    for step in range(5):
        y = bottom - (bottom - top) * step / 4
        parts += [draw_line(left, y, WIDTH - 12, y), draw_text(left - 5, y + 4, _percent(most * step / 4, most), "end")]
    parts += [draw_text(left + span * place, bottom + 16, label, "middle") for place, label in ticks]
    for number, (name, values) in enumerate(series):
        points = [
            (left + span * at / len(values), bottom - (bottom - top) * v / most)
            for i, v in enumerate(values)
            for at in (i, i + 1)
        ]
        parts.append(
            Markup(
                '<polyline points="{}" fill="none" stroke="{}" stroke-width="1.8" stroke-dasharray="{}">{}</polyline>'
            ).format(
                " ".join(f"{x:.1f},{y:.1f}" for x, y in points),
                PALETTE[number % len(PALETTE)],
                DASHES[number % len(DASHES)],
                tooltip(name),
            )
        )
    return svg(slug, title, text, bottom + 24, parts)


def pyramid(
    slug: str,
    title: str,
    text: str,
    labels: Sequence[str],
    left: tuple[str, Sequence[int]],
    right: tuple[str, Sequence[int]],
) -> Markup:
    """Draw two histograms back to back, the last label on top. left, right: name, counts."""
    middle, gap = WIDTH / 2, 24.0
    most = max((*left[1], *right[1]), default=0) or 1
    span, height = middle - gap - 52, len(labels) * ROW
    parts: Parts = [draw_text(middle - gap - 6, 12, left[0], "end"), draw_text(middle + gap + 6, 12, right[0])]
    for place, label in enumerate(labels):
        y = 18 + height - (place + 1) * ROW
        parts.append(draw_text(middle, y + 13, label, "middle"))
        for side, (name, counts) in ((-1, left), (1, right)):
            count, x = counts[place], middle + side * gap
            length = span * count / most
            if count:
                parts.append(
                    draw_box(
                        x - length if side < 0 else x,
                        y + 2,
                        length,
                        ROW - 4,
                        PALETTE[0 if side > 0 else 1],
                        f"{name}, {label}: {count:,} films",
                    )
                )
                parts.append(
                    draw_text(x + side * (length + 4), y + 13, f"{count:,}", "end" if side < 0 else "start", size=9.5)
                )
    return svg(slug, title, text, height + 22, parts)


def bubbles(slug: str, title: str, text: str, series: Sequence[tuple[str, Sequence[Sequence[int]]]]) -> Markup:
    """Draw native sizes, both axes alike. series: name, [(width, height, films)]; areas are shares of the films of one
    source."""
    left, side, top = 48.0, 340.0, 8.0
    most = max((max(cell[:2]) for _, cells in series for cell in cells), default=0) * 1.08 or 1
    ticks = range(0, int(most) + 1, max(int(nice_step(most / 4)), 1))
    bottom = top + side
    parts: Parts = [
        draw_line(left, bottom, left + side, top, "#8a939d", "4 4"),
        draw_text(left + side - 4, bottom - 6, "dashed: square", "end", "#5b6570"),
    ]
    for tick in ticks:
        at = side * tick / most
        parts += [draw_line(left, bottom - at, left + side, bottom - at), draw_line(left + at, top, left + at, bottom)]
        parts += [
            draw_text(left - 5, bottom - at + 4, f"{tick}", "end"),
            draw_text(left + at, bottom + 15, f"{tick}", "middle"),
        ]
    for number, (name, cells) in enumerate(series):
        total = sum(cell[2] for cell in cells)
        for width, height, films in cells:
            parts.append(
                Markup(
                    '<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" fill="{}" fill-opacity="0.45" stroke="{}">{}</circle>'
                ).format(
                    left + side * width / most,
                    bottom - side * height / most,
                    max(24 * sqrt(films / total), 1.5),
                    *[PALETTE[number % len(PALETTE)]] * 2,
                    tooltip(f"{name}: about {width} x {height} px, {films:,} films"),
                )
            )
    return svg(slug, title, text, bottom + 22, parts)


def nice_step(step: float) -> float:
    """Return the round number (1, 2, 2.5 or 5 times a power of ten) that is not below `step`."""
    unit = 10.0 ** floor(log10(step))
    return next(round(unit * times, 6) for times in (1, 2, 2.5, 5, 10) if unit * times >= step * (1 - 1e-9))


def heat_map(
    slug: str,
    title: str,
    text: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[Cell]],
    width: float = WIDTH,
) -> Markup:
    """Draw cells from white (0) to blue (1), with their text where there is room for it."""
    left, rise = label_room(rows, LABEL), label_room(columns, LABEL)
    # the last turned label reaches out to the right
    side = min((width - left - 0.6 * rise) / max(len(columns) - 0.4, 1), 46)
    upright = side < 16
    if upright:
        side = (width - left) / len(columns)
    angle, top = (-90, rise + 4) if upright else (-55, 0.85 * rise + 6)
    height = max(ROW, min(side, 26))
    size = min(11, side - 0.5)
    parts: Parts = [
        draw_text(
            left + place * side + side * 0.6 + upright * size * 0.25,
            top - 5,
            cut_label(name, LABEL),
            size=size,
            angle=angle,
        )
        for place, name in enumerate(columns)
    ]
    for place, (label, line) in enumerate(zip(rows, cells, strict=True)):
        y = top + place * height
        parts.append(draw_text(left - 6, y + height / 2 + 4, cut_label(label, left), "end"))
        for column, cell in enumerate(line):
            x = left + column * side
            parts.append(draw_box(x + 0.5, y + 0.5, side - 1, height - 1, _shade(cell.value), cell.tip))
            if cell.text and side >= 18:
                ink = "#ffffff" if (cell.value or 0) > 0.5 else INK
                parts.append(draw_text(x + side / 2, y + height / 2 + 3.5, cell.text, "middle", ink, 9.5))
    return svg(slug, title, text, top + len(rows) * height + 4, parts, width)


def _shade(value: float | None) -> str:
    if value is None:
        return "#f1f3f5"
    red, green, blue = (round(255 - (255 - deep) * min(max(value, 0), 1)) for deep in _DEEP)
    return f"#{red:02x}{green:02x}{blue:02x}"
