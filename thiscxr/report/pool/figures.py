"""The figures of a pool: what a collection's films show, who they are of, and what gives a finding away.

Each is a chart, one line that says what it shows, and the same numbers as a table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from thiscxr.labels import FINDINGS, SEXES, STATES, VIEWS
from thiscxr.report.pool.charts import (
    DASHES,
    MARKS,
    PALETTE,
    Cell,
    bubbles,
    dots,
    heat_map,
    pyramid,
    stacked_bars,
    steps,
)
from thiscxr.report.pool.facts import DECADES, FILM_RANGES, LEVELS, pooled_pairs, total_variation
from thiscxr.report.pool.text import percent
from thiscxr.report.pool.warnings import annotated, source_counts

_MIN_FILMS = 20  # of either side, before the two are compared

_WIDE = 860
_STATE_FILLS = {
    "positive": "#08519c",
    "negative": "#9ecae1",
    "uncertain": "#e69f00",
    "not_mentioned": "#d5dae0",
    "not_annotated": "#f1f3f5",
}
_VIEW_FILLS = dict(
    zip((*VIEWS, "others"), ("#0072b2", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#d5dae0", "#444444"), strict=True)
)

Sources = Mapping[str, Mapping[str, Any]]
Table = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart, what it says, and its numbers. `keys`: (colour, dash, mark, name) of a legend; the first row of `table`
    is its header."""

    title: str
    text: str
    drawing: Markup
    table: Table
    keys: Sequence[tuple[str, str, str, str]] = ()
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """Figures under one heading; `name`: its anchor."""

    name: str
    title: str
    text: str
    figures: Sequence[Figure]


def sections(sources: Sources) -> list[Section]:
    """Return the sections that have figures; sources: those of the facts that have films."""
    every = (_findings(sources), _together(sources), _people(sources), _pixels(sources), _given_away(sources))
    return [section for section in every if section.figures]


def _keys(sources: Sources) -> list[tuple[str, str, str, str]]:
    if len(sources) < 2:
        return []
    return [
        (PALETTE[n % len(PALETTE)], DASHES[n % len(DASHES)], MARKS[n % len(MARKS)], key)
        for n, key in enumerate(sources)
    ]


def _fill_keys(fills: Mapping[str, str], there: set[str]) -> list[tuple[str, str, str, str]]:
    return [(fill, "", "", _words(name)) for name, fill in fills.items() if name in there]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _looked_for(sources: Sources) -> list[str]:
    """Return the findings that some source annotates."""
    return [
        name for name in FINDINGS if any(annotated(source["kept"]["findings"][name]) for source in sources.values())
    ]


def _findings(sources: Sources) -> Section:
    text = (
        "Shares are of the films where a collection looked for the finding; what it never looks for is not annotated."
    )
    figures = [_prevalence(sources)] if len(sources) > 1 and _looked_for(sources) else []
    for number, (key, source) in enumerate(sources.items()):
        rows = [(name, states) for name, states in source["kept"]["findings"].items() if annotated(states)]
        if not rows:
            continue
        drawing = stacked_bars(
            f"findings-{number}",
            f"Findings in {key}",
            "A bar a finding, divided into the five states; the number is that of positive films.",
            [
                (_words(name), states, f"{states['positive']:,} {percent(states['positive'], annotated(states))}")
                for name, states in rows
            ],
            _STATE_FILLS,
        )
        table = [["finding", *map(_words, STATES.values()), "%"]]
        table += [
            [name, *(f"{count:,}" for count in states.values()), percent(states["positive"], annotated(states))]
            for name, states in rows
        ]
        there = {word for _, states in rows for word, count in states.items() if count}
        note = f"{source['kept']['films']:,} films; at the end of a bar the positive ones"
        figures.append(Figure(key, note, drawing, table, _fill_keys(_STATE_FILLS, there)))
    return Section("findings", "Findings", text, figures)


def _prevalence(sources: Sources) -> Figure:
    rows = []
    table = [["finding", *sources]]
    for name in _looked_for(sources):
        counts = {key: source["kept"]["findings"][name] for key, source in sources.items()}
        shares = {key: states["positive"] / annotated(states) for key, states in counts.items() if annotated(states)}
        marks = [
            (n, shares[key], f"{name} in {key}: {shares[key]:.1%}") for n, key in enumerate(sources) if key in shares
        ]
        rows.append((_words(name), marks))
        table.append(
            [
                name,
                *(
                    (f"{counts[key]['positive']:,} ({percent(counts[key]['positive'], annotated(counts[key]))})")
                    if key in shares
                    else "·"
                    for key in sources
                ),
            ]
        )
    text = "A mark a source: the share of positive films among the annotated ones."
    drawing = dots("prevalence", "How common findings are", text, rows)
    return Figure(
        "How common, by source", "Share of positive films among the annotated ones", drawing, table, _keys(sources)
    )


def _together(sources: Sources) -> Section:
    text = "Each row: of the films with that finding, the share that also has the one of the column."
    pooled = pooled_pairs(sources)
    if not any(pooled.values()):
        return Section("together", "Found together", text, [])
    figures = [_pairs("all", "All sources" if len(sources) > 1 else next(iter(sources)), pooled, wide=True)]
    if len(sources) > 1:
        figures += [
            _pairs(str(n), key, source["co_occurrence"])
            for n, (key, source) in enumerate(sources.items())
            if source["co_occurrence"]
        ]
    return Section("together", "Found together", text, figures)


def _pairs(slug: str, title: str, pairs: Mapping[str, Mapping[str, Sequence[int]]], wide: bool = False) -> Figure:
    names = [name for name in FINDINGS if name in pairs or any(name in row for row in pairs.values())]
    rows = [name for name in names if name in pairs]
    cells = [[_pair(given, name, pairs[given].get(name)) for name in names] for given in rows]
    drawing = heat_map(
        f"pairs-{slug}",
        f"Findings together in {title}",
        "Rows and columns are findings; the darker a cell, the more films with the finding of the row have that of the "
        "column.",
        [_words(name) for name in rows],
        [_words(name) for name in names],
        cells,
        _WIDE if wide else 420,
    )
    table = [["of films with", *names]]
    table += [
        [
            given,
            *("" if (counts := pairs[given].get(name)) is None else f"{counts[0]:,} / {counts[1]:,}" for name in names),
        ]
        for given in rows
    ]
    return Figure(
        title, "Percent; grey: not annotated together" if wide else "White 0 %, blue 100 %", drawing, table, wide=wide
    )


def _pair(given: str, name: str, counts: Sequence[int] | None) -> Cell:
    if counts is None:
        return Cell(None, "", "" if given == name else f"{given} and {name}: never annotated together")
    share = counts[0] / counts[1]
    return Cell(share, f"{100 * share:.0f}", f"{given} with {name}: {counts[0]:,} of {counts[1]:,} films ({share:.0%})")


def _people(sources: Sources) -> Section:
    figures = [_views(sources)]
    figures += [
        _ages(number, key, source["kept"])
        for number, (key, source) in enumerate(sources.items())
        if _ages_known(source["kept"])
    ]
    figures.append(_films_per_patient(sources))
    return Section("people", "Views and patients", "", figures if sources else [])


def _views(sources: Sources) -> Figure:
    rows = []
    for key, source in sources.items():
        views = {name: count for name, count in source["kept"]["views"].items() if name in VIEWS}
        others = sum(source["kept"]["views"].values()) - sum(views.values())
        rows.append((key, {**views, **({"others": others} if others else {})}, f"{source['kept']['films']:,}"))
    there = {name for _, counts, _ in rows for name in counts}
    drawing = stacked_bars("views", "Views by source", "A bar a source, divided into its views.", rows, _VIEW_FILLS)
    names = [name for name in _VIEW_FILLS if name in there]
    table = [["source", *names], *([key, *(f"{counts.get(name, 0):,}" for name in names)] for key, counts, _ in rows)]
    return Figure("Views", "At the end of a bar the number of films", drawing, table, _fill_keys(_VIEW_FILLS, there))


def _ages_known(kept: Mapping[str, Any]) -> bool:
    return any(count for name, count in kept["ages"].items() if name != "unknown")


def _ages(number: int, key: str, kept: Mapping[str, Any]) -> Figure:
    by_sex = {sex: [counts[decade] for decade in DECADES] for sex, counts in kept["ages_by_sex"].items()}
    none = [0] * len(DECADES)
    known = [sex for sex in ("F", "M") if sex in by_sex]
    left, right = ("women", by_sex.get("F", none)), ("men", by_sex.get("M", none))
    if not known:
        left, right = ("", none), ("sex unknown", by_sex.get("unknown", none))
    undrawn = kept["films"] - sum(left[1]) - sum(right[1])
    text = "Films by decade of age, women to the left and men to the right."
    drawing = pyramid(f"ages-{number}", f"Ages in {key}", text, DECADES, left, right)
    sexes = [sex for sex in SEXES if sex in by_sex]
    table = [
        ["age", *sexes],
        *([name, *(f"{kept['ages_by_sex'][sex][name]:,}" for sex in sexes)] for name in (*DECADES, "unknown")),
    ]
    note = f"Median {kept['median_age']:g} years"
    note += f"; {undrawn:,} films of unknown age or sex are not drawn" if undrawn else ""
    return Figure(f"Ages, {key}", note, drawing, table)


def _films_per_patient(sources: Sources) -> Figure:
    counts = {key: source["kept"]["films_per_patient"]["patients"] for key, source in sources.items()}
    series = [
        (key, [ranges[name] / source["kept"]["patients"] for name in FILM_RANGES])
        for (key, ranges), source in zip(counts.items(), sources.values(), strict=True)
    ]
    ticks = [((place + 0.5) / len(FILM_RANGES), name) for place, name in enumerate(FILM_RANGES)]
    drawing = steps("per-patient", "Films a patient", "The share of patients that have so many films.", series, ticks)
    most = ", ".join(f"{key} {source['kept']['films_per_patient']['max']:,}" for key, source in sources.items())
    table = [
        ["films", *sources],
        *([name, *(f"{ranges[name]:,}" for ranges in counts.values())] for name in FILM_RANGES),
    ]
    return Figure(
        "Films a patient", f"Share of patients; most films of one patient: {most}", drawing, table, _keys(sources)
    )


def _pixels(sources: Sources) -> Section:
    figures = []
    if any(source.get("native", {}).get("films") for source in sources.values()):
        figures.append(_sizes(sources))
    if any(source.get("intensity", {}).get("films") for source in sources.values()):
        figures.append(_intensities(sources))
    return Section("pixels", "Pixels", "", figures)


def _sizes(sources: Sources) -> Figure:
    native = {key: source.get("native", {"films": 0, "cells": []}) for key, source in sources.items()}
    series = [(key, facts["cells"]) for key, facts in native.items()]
    text = "Width against height of the files that were read; the larger a disc, the more films."
    drawing = bubbles("sizes", "Native sizes", text, series)
    table = [["source", "files", "width: least, median, most", "height: least, median, most", "square", "bits"]]
    for key, facts in native.items():
        if facts["films"]:
            sides = [
                ", ".join(f"{facts[side][name]:,}" for name in ("min", "median", "max")) for side in ("width", "height")
            ]
            bits = ", ".join(f"{bits} ({count:,})" for bits, count in facts["bits"].items())
            table.append([key, f"{facts['films']:,}", *sides, f"{facts['square']:,}", bits])
    num_files = sum(facts["films"] for facts in native.values())
    note = f"Width to the right, height upwards, in pixels, of {num_files:,} files"
    return Figure("Native sizes", note, drawing, table, _keys(sources))


def _intensities(sources: Sources) -> Figure:
    levels = {
        key: source.get("intensity", {"films": 0, "histogram": [0.0] * LEVELS, "of": 0})
        for key, source in sources.items()
    }
    series = [(key, facts["histogram"]) for key, facts in levels.items()]
    ticks = [(0.0, "black"), (0.5, "half"), (0.97, "white")]
    text = "The mean histogram of the films, from black to white, a line a source."
    drawing = steps("intensity", "Intensities", text, series, ticks)
    sampled = ", ".join(f"{key} {facts['films']:,} of {facts['of']:,}" for key, facts in levels.items())
    step = LEVELS // 16
    table = [["grey, of 16", *sources]]
    table += [
        [
            str(place + 1),
            *(f"{sum(facts['histogram'][place * step : (place + 1) * step]):.1%}" for facts in levels.values()),
        ]
        for place in range(16)
    ]
    note = f"Share of pixels at {LEVELS} levels, in an even sample of the films: {sampled}"
    return Figure("Intensities", note, drawing, table, _keys(sources))


def _given_away(sources: Sources) -> Section:
    text = (
        "How far the films with a finding differ from those without it in view and source, in percent: "
        "0, nothing is given away; 100, the view or source alone says whether the finding is there. "
        "Only positive and negative films count; grey: too few of them."
    )
    columns: list[tuple[str, Mapping[str, Any]]] = [
        (f"view, {key}", source["views_by_finding"]) for key, source in sources.items()
    ]
    if len(sources) > 1:
        columns.append(("source", {name: source_counts(sources, name) for name in FINDINGS}))
    rows = _looked_for(sources)
    told = {label: [_told(name, label, counts.get(name, {})) for name in rows] for label, counts in columns}
    told = {label: column for label, column in told.items() if any(cell.value is not None for cell in column)}
    cells = list(zip(*told.values(), strict=True))
    if not cells:
        return Section("given-away", "What gives a finding away", text, [])
    drawing = heat_map(
        "given-away", "What gives a finding away", text, [_words(name) for name in rows], list(told), cells
    )
    table = [["finding", *told]]
    table += [[name, *(cell.tip.partition(": ")[2] for cell in row)] for name, row in zip(rows, cells, strict=True)]
    figure = Figure("View and source", "Total variation distance, percent", drawing, table)
    return Section("given-away", "What gives a finding away", text, [figure])


def _told(name: str, by: str, counts: Mapping[str, Mapping[str, int]]) -> Cell:
    positive, negative = counts.get("positive", {}), counts.get("negative", {})
    if min(sum(positive.values()), sum(negative.values())) < _MIN_FILMS or (by == "source" and len(positive) < 2):
        return Cell(None, "", f"{name}, {by}: too few films")
    distance = total_variation(positive, negative)
    shares = [_shares(side) for side in (positive, negative)]
    tip = f"{name}, {by}: {distance:.0%}; positive films {shares[0]}, negative ones {shares[1]}"
    return Cell(distance, f"{100 * distance:.0f}", tip)


def _shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{value} {count / total:.0%}" for value, count in counts.items() if count)
