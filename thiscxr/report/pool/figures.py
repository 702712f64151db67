"""The figures of a pool: what a collection's films show, whom they are of, and which metadata predicts a finding.

Each is a chart, one line that describes it, and the same numbers as a table.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from thiscxr.labels import FINDINGS, SEXES, STATES, VIEWS
from thiscxr.report.charts import WIDE, WIDTH, bubbles, dots, heat_map, pyramid, stacked_bars, steps
from thiscxr.report.page import Figure, Section
from thiscxr.report.pool.facts import DECADES, FILM_RANGES, LEVELS, pooled_pairs, total_variation
from thiscxr.report.pool.text import percent
from thiscxr.report.pool.warnings import annotated, source_counts

_MIN_FILMS = 20  # of either group, before the two are compared

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


def sections(sources: Sources) -> list[Section]:
    """Return the sections that have figures; sources: those of the facts that have films."""
    every = (_findings(sources), _together(sources), _people(sources), _pixels(sources), _given_away(sources))
    return [section for section in every if section.figures]


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
    for key, source in sources.items():
        rows = [(name, states) for name, states in source["kept"]["findings"].items() if annotated(states)]
        if not rows:
            continue
        drawing = stacked_bars(
            f"Findings in {key}: a bar a finding, divided into the five states; the number is that of positive films.",
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
        note = f"{source['kept']['films']:,} films; at the end of a bar the positive ones"
        figures.append(Figure(key, note, drawing, table))
    return Section("findings", "Findings", text, figures)


def _prevalence(sources: Sources) -> Figure:
    names = _looked_for(sources)
    states = {key: [source["kept"]["findings"][name] for name in names] for key, source in sources.items()}
    shares = [
        (key, [each["positive"] / (annotated(each) or math.nan) for each in some]) for key, some in states.items()
    ]
    table = [["finding", *sources]]
    for name, row in zip(names, zip(*states.values(), strict=True), strict=True):
        cells = (f"{each['positive']:,} ({percent(each['positive'], annotated(each))})" for each in row)
        table.append([name, *(cell if annotated(each) else "·" for cell, each in zip(cells, row, strict=True))])
    text = "How common findings are, a mark a source: the share of positive films among the annotated ones."
    drawing = dots(text, [_words(name) for name in names], shares)
    return Figure("How common, by source", "Share of positive films among the annotated ones", drawing, table)


def _together(sources: Sources) -> Section:
    text = "Each row: of the films with that finding, the share that also has the one of the column."
    pooled = pooled_pairs(sources)
    if not any(pooled.values()):
        return Section("together", "Found together", text, [])
    figures = [_pairs("All sources" if len(sources) > 1 else next(iter(sources)), pooled, wide=True)]
    if len(sources) > 1:
        figures += [_pairs(key, source["co_occurrence"]) for key, source in sources.items() if source["co_occurrence"]]
    return Section("together", "Found together", text, figures)


def _pairs(title: str, pairs: Mapping[str, Mapping[str, Sequence[int]]], wide: bool = False) -> Figure:
    names = [name for name in FINDINGS if name in pairs or any(name in row for row in pairs.values())]
    rows = [name for name in names if name in pairs]
    counts = [[pairs[given].get(name) for name in names] for given in rows]
    drawing = heat_map(
        f"Findings together in {title}: rows and columns are findings; the darker a cell, the more films with the "
        "finding of the row have that of the column.",
        [_words(name) for name in rows],
        [_words(name) for name in names],
        [[None if cell is None else cell[0] / cell[1] for cell in row] for row in counts],
        WIDE if wide else WIDTH,
    )
    table = [["of films with", *names]]
    for given, row in zip(rows, counts, strict=True):
        cells = ("" if cell is None else f"{cell[0]:,} / {cell[1]:,}, {cell[0] / cell[1]:.0%}" for cell in row)
        table.append([given, *cells])
    text = f"{'Percent' if wide else 'White 0 %, blue 100 %'}; grey: not annotated together"
    return Figure(title, text, drawing, table, wide)


def _people(sources: Sources) -> Section:
    figures = [_views(sources)]
    figures += [_ages(key, source["kept"]) for key, source in sources.items() if _ages_known(source["kept"])]
    figures.append(_films_per_patient(sources))
    return Section("people", "Views and patients", "", figures if sources else [])


def _views(sources: Sources) -> Figure:
    rows = []
    for key, source in sources.items():
        views = {name: count for name, count in source["kept"]["views"].items() if name in VIEWS}
        others = sum(source["kept"]["views"].values()) - sum(views.values())
        rows.append((key, {**views, **({"others": others} if others else {})}, f"{source['kept']['films']:,}"))
    there = {name for _, counts, _ in rows for name in counts}
    drawing = stacked_bars("Views by source: a bar a source, divided into its views.", rows, _VIEW_FILLS)
    names = [name for name in _VIEW_FILLS if name in there]
    table = [["source", *names], *([key, *(f"{counts.get(name, 0):,}" for name in names)] for key, counts, _ in rows)]
    return Figure("Views", "At the end of a bar the number of films", drawing, table)


def _ages_known(kept: Mapping[str, Any]) -> bool:
    return any(count for name, count in kept["ages"].items() if name != "unknown")


def _ages(key: str, kept: Mapping[str, Any]) -> Figure:
    by_sex = {sex: [counts[decade] for decade in DECADES] for sex, counts in kept["ages_by_sex"].items()}
    none = [0] * len(DECADES)
    known = [sex for sex in ("F", "M") if sex in by_sex]
    left, right = ("women", by_sex.get("F", none)), ("men", by_sex.get("M", none))
    if not known:
        left, right = ("", none), ("sex unknown", by_sex.get("unknown", none))
    undrawn = kept["films"] - sum(left[1]) - sum(right[1])
    drawing = pyramid(
        f"Ages in {key}: films by decade of age, women to the left and men to the right.", DECADES, left, right
    )
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
    ticks = [(place + 0.5, name) for place, name in enumerate(FILM_RANGES)]
    text = "Films a patient: the share of patients that have so many films."
    drawing = steps(text, series, range(len(FILM_RANGES) + 1), ticks)
    most = ", ".join(f"{key} {source['kept']['films_per_patient']['max']:,}" for key, source in sources.items())
    table = [
        ["films", *sources],
        *([name, *(f"{ranges[name]:,}" for ranges in counts.values())] for name in FILM_RANGES),
    ]
    return Figure("Films a patient", f"Share of patients; most films of one patient: {most}", drawing, table)


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
    text = "Native sizes: width against height of the files that were read; the larger a disc, the more films."
    drawing = bubbles(text, series)
    table = [["source", "files", "width: least, median, most", "height: least, median, most", "square", "bits"]]
    for key, facts in native.items():
        if facts["films"]:
            sides = [
                ", ".join(f"{facts[side][name]:,}" for name in ("min", "median", "max")) for side in ("width", "height")
            ]
            bits = ", ".join(f"{bits} ({count:,})" for bits, count in facts["bits"].items())
            table.append([key, f"{facts['films']:,}", *sides, f"{facts['square']:,}", bits])
    for key, cells in series:
        table += [[f"{key}, about {w:,} x {h:,} px", f"{count:,}", "", "", "", ""] for w, h, count in cells]
    num_files = sum(facts["films"] for facts in native.values())
    note = f"Width to the right, height upwards, in pixels, of {num_files:,} files"
    return Figure("Native sizes", note, drawing, table)


def _intensities(sources: Sources) -> Figure:
    levels = {
        key: source.get("intensity", {"films": 0, "histogram": [0.0] * LEVELS, "of": 0})
        for key, source in sources.items()
    }
    series = [(key, facts["histogram"]) for key, facts in levels.items()]
    ticks = [(0, "black"), (LEVELS / 2, "half"), (LEVELS, "white")]
    text = "Intensities: the mean histogram of the films, from black to white, a line a source."
    drawing = steps(text, series, range(LEVELS + 1), ticks)
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
    return Figure("Intensities", note, drawing, table)


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
    differences = {
        label: [_difference(counts.get(name, {}), label == "source") for name in rows] for label, counts in columns
    }
    differences = {
        label: column for label, column in differences.items() if any(value is not None for value, _ in column)
    }
    cells = list(zip(*differences.values(), strict=True))
    if not cells:
        return Section("given-away", "What gives a finding away", text, [])
    values = [[value for value, _ in row] for row in cells]
    drawing = heat_map(f"What gives a finding away: {text}", [_words(name) for name in rows], list(differences), values)
    table = [
        ["finding", *differences],
        *([name, *(words for _, words in row)] for name, row in zip(rows, cells, strict=True)),
    ]
    figure = Figure("View and source", "Total variation distance, percent", drawing, table)
    return Section("given-away", "What gives a finding away", text, [figure])


def _difference(counts: Mapping[str, Mapping[str, int]], by_source: bool) -> tuple[float | None, str]:
    """Return how far positive and negative films differ, and the same in words."""
    positive, negative = counts.get("positive", {}), counts.get("negative", {})
    if min(sum(positive.values()), sum(negative.values())) < _MIN_FILMS or (by_source and len(positive) < 2):
        return None, "too few films"
    distance = total_variation(positive, negative)
    return distance, f"{distance:.0%}; positive films {_shares(positive)}, negative ones {_shares(negative)}"


def _shares(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    return ", ".join(f"{value} {count / total:.0%}" for value, count in counts.items() if count)
