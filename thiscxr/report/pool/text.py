"""The facts of `describe` for a terminal: a few aligned tables of at most 100 columns, and the warnings in words.

Its layout may change; programs should read the JSON.
"""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from thiscxr.labels import FINDINGS, SEXES, STATES, VIEWS
from thiscxr.report.pool.facts import DECADES, strongest_pairs
from thiscxr.report.pool.warnings import annotated

WIDTH = 100
_NAME, _SHORT_NAME = 34, 22  # longest label of a row, up to four sources and beyond
_HEAD = 13  # longest name of a source
_MOST_REASONS = 6
_BARS = "▁▂▃▄▅▆▇█"
_GREYS = 10  # characters for an intensity histogram
_NONE = "·"

Rows = list[list[str]]


def describe_text(facts: Mapping[str, Any]) -> str:
    """Return the dict of `describe_pool` or `describe_sources` as aligned tables."""
    sources = facts["sources"]
    rows = [[_short(label, _NAME if len(sources) <= 4 else _SHORT_NAME), *cells] for label, *cells in overview(sources)]
    lines = [*_head(facts), "", *_tables(["", *_names(sources)], rows), *_findings(sources), *_pairs(sources)]
    lines += _reasons("refused", facts.get("rejected", {}))
    lines += _reasons("beside", sum((Counter(source.get("beside", {})) for source in sources.values()), Counter()))
    for warning in facts.get("warnings", ()):
        lines += textwrap.wrap(_plain(warning), WIDTH, initial_indent="! ", subsequent_indent="  ")
    return "\n".join(lines).lstrip("\n")


def _plain(text: str) -> str:
    """Escape control characters, which a terminal might obey: names and reasons come from others' files."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _short(text: str, most: int) -> str:
    text = _plain(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def _names(sources: Mapping[str, Any]) -> list[str]:
    return [_short(key, _HEAD) for key in sources] + (["all"] if len(sources) > 1 else [])


def _head(facts: Mapping[str, Any]) -> list[str]:
    if "pool" not in facts:
        return []
    pool, counts = facts["pool"], facts["pool"]["counts"]
    options = ", ".join(f"{name} {value}" for name, value in pool["options"].items())
    resolutions = sorted(((int(res), count) for res, count in counts["resolutions"].items()), reverse=True)
    mixed = (
        f" ({', '.join(f'{res} px: {count:,} films' for res, count in resolutions)})" if len(resolutions) > 1 else ""
    )
    lines = [
        f"pool of {counts['films']:,} films, {counts['patients']:,} patients, "
        f"{pool['resolution']} px{mixed}, {pool['bits']} bits; "
        f"fingerprint {pool['fingerprint'][:16]}",
        *([f"prepared with {options}"] if options else []),
    ]
    if duplicates := facts.get("duplicates"):
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in duplicates["kinds"].items())
        over = f"{duplicates['across_patients']:,} across patients, {duplicates['across_sources']:,} across sources"
        lines.append(f"duplicates: {duplicates['groups']:,} groups{f' ({kinds} films)' if kinds else ''}; {over}")
    return [_short(line, WIDTH) for line in lines]


def _tables(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows under their header, in as many blocks of columns as the width needs; each begins with the first
    column."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= WIDTH else 1
    blocks: list[list[int]] = [[]]
    for column in range(1, len(header)):
        if blocks[-1] and widths[0] + sum(widths[place] + gap for place in (*blocks[-1], column)) > WIDTH:
            blocks.append([])
        blocks[-1].append(column)
    lines: list[str] = []
    for block in blocks:
        lines += [""] if lines else []
        for row in (header, *rows):
            cells = "".join(" " * gap + row[column].rjust(widths[column]) for column in block)
            lines.append((row[0].ljust(widths[0]) + cells).rstrip())
    return lines


def sparkline(values: Sequence[float]) -> str:
    """Return one block character a value, the highest for the largest, a blank for none."""
    most = max(values, default=0)
    return "".join(_BARS[min(int(value / most * len(_BARS)), len(_BARS) - 1)] if value > 0 else " " for value in values)


def overview(sources: Mapping[str, Any], sparks: bool = True) -> Rows:
    """Return one row per fact: its name, one cell per source, and the total when there are several. sparks: with
    histograms in characters."""
    kept = [source["kept"] for source in sources.values()]
    rows = _released(sources) if all("released" in source for source in sources.values()) else []
    rows += [_sum_row(word, [part[word] for part in kept]) for word in ("films", "patients", "studies")]
    per_patient = [part["films_per_patient"] for part in kept]
    rows.append(
        _row(
            "films/patient, median",
            [_NONE if facts["median"] is None else f"{facts['median']:g}" for facts in per_patient],
        )
    )
    rows.append(_row("films/patient, most", [f"{facts['max']:,}" for facts in per_patient]))
    rows += _value_rows("view ", [part["views"] for part in kept], VIEWS)
    rows += _value_rows("sex ", [part["sexes"] for part in kept], SEXES)
    rows += _ages(kept, sparks)
    rows += _value_rows("split ", [part["splits"] for part in kept], ("train", "holdout"))
    rows += _value_rows("by ", [part["labelers"] for part in kept])
    return rows + _pixels(list(sources.values()), sparks)


def _released(sources: Mapping[str, Any]) -> Rows:
    dropped = [source["dropped"] for source in sources.values()]
    total: Counter[str] = sum(map(Counter, dropped), Counter())
    common = sorted(total, key=lambda reason: (-total[reason], reason))[:_MOST_REASONS]
    rows = [_sum_row("rows released", [source["released"]["films"] for source in sources.values()])]
    rows += _value_rows("dropped: ", [{name: counts.get(name, 0) for name in common} for counts in dropped], common)
    if len(total) > len(common):
        rows.append(
            _sum_row(
                "dropped: other reasons",
                [sum(counts.values()) - sum(counts.get(name, 0) for name in common) for counts in dropped],
            )
        )
    return rows


def _row(label: str, cells: Sequence[str], total: str = "") -> list[str]:
    return [label, *cells, *([total] if len(cells) > 1 else [])]


def _sum_row(label: str, counts: Sequence[int]) -> list[str]:
    return _row(label, [f"{count:,}" if count else _NONE for count in counts], f"{sum(counts):,}")


def _value_rows(label: str, counts: Sequence[Mapping[str, int]], order: Sequence[str] = ()) -> Rows:
    """Return a row for each value that some source has, in `order` and then by name."""
    there = {value for count in counts for value in count}
    values = [*(value for value in order if value in there), *sorted(there - set(order))]
    return [_sum_row(f"{label}{value}", [count.get(value, 0) for count in counts]) for value in values]


def _ages(kept: Sequence[Mapping[str, Any]], sparks: bool) -> Rows:
    decades = [
        [*(part["ages"][name] for name in DECADES[:9]), sum(part["ages"][name] for name in DECADES[9:])]
        for part in kept
    ]
    if not any(map(any, decades)):
        return [_sum_row("age unknown", [part["ages"]["unknown"] for part in kept])]
    together = sparkline([sum(counts) for counts in zip(*decades, strict=True)])
    rows = [_row("age 0, 10, … 90+", [sparkline(counts) for counts in decades], together)] if sparks else []
    rows.append(
        _row("age, median", [_NONE if part["median_age"] is None else f"{part['median_age']:g}" for part in kept])
    )
    unknown = [part["ages"]["unknown"] for part in kept]
    return [*rows, _sum_row("age unknown", unknown)] if any(unknown) else rows


def _pixels(sources: Sequence[Mapping[str, Any]], sparks: bool) -> Rows:
    if not any("native" in source for source in sources):
        return []
    native = [source.get("native", {}) for source in sources]
    levels = [source.get("intensity", {}) for source in sources]
    sides = [(facts.get("width", {}), facts.get("height", {})) for facts in native]
    rows = [
        _row("native size, median", [f"{w['median']}x{h['median']}" if w else _NONE for w, h in sides]),
        _row(
            "native sides, range",
            [f"{min(w['min'], h['min'])}-{max(w['max'], h['max'])}" if w else _NONE for w, h in sides],
        ),
        _row("native bits", ["/".join(facts.get("bits", {})) or _NONE for facts in native]),
    ]
    rows += [
        _sum_row(word, [facts.get(word, 0) for facts in native])
        for word in ("inverted", "equalised")
        if any(facts.get(word) for facts in native)
    ]
    turned = [
        sum(count for what, count in facts.get("orientation", {}).items() if what != "as stored") for facts in native
    ]
    rows += [_sum_row("turned or mirrored", turned)] if any(turned) else []
    if sparks:
        rows.append(_row("greys, black to white", [_greys(facts.get("histogram", [])) for facts in levels]))
    return [
        *rows,
        _row("greys, films sampled", [f"{facts['films']:,}" if facts.get("films") else _NONE for facts in levels]),
    ]


def _greys(histogram: Sequence[float]) -> str:
    edges = [round(place * len(histogram) / _GREYS) for place in range(_GREYS + 1)]
    return sparkline([sum(histogram[low:high]) for low, high in pairwise(edges)]) if any(histogram) else _NONE


def percent(part: int, of: int) -> str:
    """Return a share in words, with a decimal below 10 %."""
    if not of:
        return _NONE
    return f"{part / of:.1%}" if part / of < 0.0995 else f"{part / of:.0%}"


def _findings(sources: Mapping[str, Any]) -> list[str]:
    """Return the five states of one source, or the positive films of several."""
    if len(sources) == 1:
        header = [*(word.replace("_", " ") for word in STATES.values()), "%"]
        rows = _five_states(next(iter(sources.values()))["kept"])
        note = "% = positive among the films where the finding is annotated"
    else:
        header, rows = _names(sources), _matrix(sources)
        note = "positive films, and % of those annotated; · = not annotated"
    return ["", *_tables(["finding", *header], rows), note] if rows else []


def _five_states(part: Mapping[str, Any]) -> Rows:
    return [
        [
            name,
            *(f"{count:,}" if count else _NONE for count in states.values()),
            percent(states["positive"], annotated(states)),
        ]
        for name, states in part["findings"].items()
        if annotated(states)
    ]


def _matrix(sources: Mapping[str, Any]) -> Rows:
    rows = []
    for name in FINDINGS:
        states = [source["kept"]["findings"][name] for source in sources.values()]
        pairs = [(counts["positive"], annotated(counts)) for counts in states]
        if any(of for _, of in pairs):
            pairs.append((sum(positive for positive, _ in pairs), sum(of for _, of in pairs)))
            rows.append(
                [
                    _short(name, 20),
                    *(f"{positive:,} {percent(positive, of):>4}" if of else _NONE for positive, of in pairs),
                ]
            )
    return rows


def _pairs(sources: Mapping[str, Any]) -> list[str]:
    lines = [
        f"  {given} with {name}".ljust(58) + f"{share:>5.0%}  ({base:.0%})  {both:>9,} films"
        for given, name, share, base, both in strongest_pairs(sources)
    ]
    return (
        ["", "found together: share of the films with the first that have the second (of all films)", *lines]
        if lines
        else []
    )


def _reasons(word: str, counts: Mapping[str, int]) -> list[str]:
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    lines = [_short(f"{word} {count:>9,}  {reason}", WIDTH) for reason, count in common[:_MOST_REASONS]]
    rest = sum(count for _, count in common[_MOST_REASONS:])
    return ["", *lines, *([f"{word} {rest:>9,}  for other reasons"] if rest else [])] if lines else []
