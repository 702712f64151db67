"""The panel as one self-contained HTML page: a summary in plain words, plots with floors, and the numbers under each.

It shows films of the pool beside the synthetic films that are nearest to them, so it is for those who may see the pool.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from thiscxr.files import write_file
from thiscxr.pool import Pool
from thiscxr.report.charts import Curve, Whisker, cloud, curves, steps, whiskers
from thiscxr.report.page import Figure, Section, render
from thiscxr.report.verdict import verdict
from thiscxr.report.words import QUESTIONS, by_section, explained, from_0_to_1, number, reading, title, words_of
from thiscxr.score.anatomy import trust_words
from thiscxr.score.fakes import FakeFilms
from thiscxr.score.memorisation import NEAR, worst_pairs
from thiscxr.score.panel import Panel
from thiscxr.score.poses import UNITS, Poses
from thiscxr.score.records import Record

_SHIFTS = 12  # rows of the shift table on the page
_DRAWN = ("ctr", "viewer left lung", "viewer right lung", "viewer left opacity", "viewer right opacity")
# Measures whose figure is not a row of whiskers for each heading.
_OWN_DRAWING = (
    "memorised_rate", "near_rate", "nearest_ratio", "reid", "fidelity", "real_or_synthetic", "probe", "tie",
    "anatomy", "utility", "poses", "label_noise",
)  # fmt: skip
_ONE_ROW = "Each interval is for its own row: of twenty rows without an effect one is expected to show one."


def write_report(path: Path, pool: Pool, fakes: FakeFilms, panel: Panel) -> None:
    """Write the page, whole or not at all."""
    write_file(path, report(pool, fakes, panel))


def report(pool: Pool, fakes: FakeFilms, panel: Panel) -> str:
    """Return the page; the same panel gives the same bytes."""
    drawings: dict[str, Callable[[Panel], list[Figure]]] = {
        "spread": _clouds,
        "copies": partial(_copies, pool, fakes),
        "asked": _conditions,
        "confounders": _confounders,
        "anatomy": _anatomy,
    }
    sections = []
    for name, each, records in by_section([record for record in panel.records if record.value is not None]):
        own = drawings[name](panel) if name in drawings else []
        sections.append(Section(name, each.title, each.intro, own + _whisker_figures(records)))
    network = f"network {fakes.network_sha256[:12]}" if fakes.network_sha256 else "an unknown network"
    return render(
        "scores.html",
        title="Scores of synthetic chest films",
        subtitle=(
            f"{len(fakes)} synthetic films of {network} against a pool of {len(pool)} real "
            f"films, fingerprint {pool.fingerprint[:16]}"
        )
        + ("; the rows of the burned-in mark are hidden in all films" if fakes.hidden else ""),
        verdict=verdict(panel.records),
        every=[section for section in (*sections, *_slow(panel)) if section.figures],
        notes=panel.notes + [str(each) for each in panel.fidelity if each.reason],
        sources=pool.meta["sources"],
    )


def _of(panel: Panel, *measures: str) -> list[Record]:
    return [each for each in panel.records if each.measure in measures and each.value is not None]


def _table(records: Sequence[Record]) -> list[list[str]]:
    rows = [["score", "value", "95 % interval", "floor", "comparison", "real films", "synthetic films", "key"]]
    for each in records:
        interval = " to ".join(map(number, each.ci95)) if each.ci95 else "–"
        counts = (str(each.num_real), str(each.num_fake))
        rows.append([title(each), number(each.value), interval, number(each.floor), reading(each), *counts, each.key])
    return rows


def _whisker(record: Record, label: str) -> Whisker:
    value = record.value or 0.0
    return Whisker(label, value, *(record.ci95 or (value, value)), record.floor)


def _figure(heading: str, records: Sequence[Record], more: str = "") -> Figure:
    """Return the scores with intervals and floors, in the words of their measures."""
    meanings: dict[str, list[Record]] = {}
    for each in records:
        meanings.setdefault(explained(each), []).append(each)
    text = " ".join(meanings if len(meanings) == 1 else map(_named, meanings.keys(), meanings.values()))
    rows = [_whisker(each, each.key) for each in records]
    span = (0.0, 1.0) if from_0_to_1(records) else None
    text = f"{text} {more}".strip()
    return Figure(heading, text, whiskers(f"{heading}: {text}", rows, span), _table(records))


def _named(meaning: str, records: Sequence[Record]) -> str:
    """Return what scores mean, after their name or, of several, the words that their names begin with."""
    name = title(records[0]) if len(records) == 1 else words_of(records[0]).title.partition("{")[0].rstrip(" ,:")
    return f"{name}: {meaning}" if name else meaning


def _whisker_figures(records: Sequence[Record]) -> list[Figure]:
    """Return a figure for each heading of these scores' measures, but for those with drawings of their own."""
    headings: dict[str, list[Record]] = {}
    for each in records:
        if each.measure not in _OWN_DRAWING:
            heading = words_of(each).figure or words_of(each).title
            headings.setdefault(title(each) if "{" in heading else heading, []).append(each)
    return [_figure(heading, some) for heading, some in headings.items()]


def _clouds(panel: Panel) -> list[Figure]:
    if not panel.clouds:
        return []
    text = "First two principal components of the features of the real films."
    drawing = cloud(f"Films as points: {text}", list(panel.clouds.items()))
    return [Figure("Where the films lie", text, drawing, [])]


def _copies(pool: Pool, fakes: FakeFilms, panel: Panel) -> list[Figure]:
    if panel.audit is None:
        return []
    found, unrelated = panel.audit.found, panel.audit.unrelated
    edges = np.linspace(0, max(float(unrelated.distance.max()), float(found.distance.max())), 41).tolist()
    series = [(name, (np.histogram(values, edges)[0] / len(values)).tolist()) for name, values in (
        ("synthetic films", found.distance), ("unrelated patients", unrelated.distance))]  # fmt: skip
    text = (
        f"Distance to the nearest real film of a patient; {NEAR:.0%} of unrelated "
        "patients are left of the threshold for near."
    )
    figures = [
        Figure(
            "How near is the nearest real film?",
            text,
            steps(f"Distances: {text}", series, edges),
            _table(_of(panel, "near_rate", "memorised_rate", "nearest_ratio", "reid")),
        )
    ]
    pairs = worst_pairs(pool, fakes.pixels, fakes.names, panel.audit)
    rows = [["synthetic film", "distance", "unrelated patients as near", "ratio to the second patient", "flagged"]]
    rows += [
        [p.name, f"{p.distance:.3f}", f"{p.stranger_rank:.1%}", f"{p.ratio:.3f}", "yes" if p.memorised else "no"]
        for p in pairs
    ]
    text = (
        f"The real films are of {', '.join(sorted({pair.source for pair in pairs}))}: "
        "films of patients, not for publication."
    )
    heading = f"The {len(pairs)} worst pairs: a synthetic film, and the real film nearest to it"
    figures.append(Figure(heading, text, pairs, rows, wide=True))
    return figures


def _conditions(panel: Panel) -> list[Figure]:
    measured = _of(panel, "fidelity")
    if not measured:
        return []
    rows = [_whisker(each, f"{each.question} ({each.statistic})") for each in measured if each.statistic != "mae"]
    table = [["question", "measure", "value", "interval", "real patients", "requested at random"]]
    for each in measured:
        numbers = (
            "–" if some is None else " to ".join(f"{number:.3f}" for number in np.atleast_1d(some))
            for some in (each.value, each.ci95, each.floor, each.null95)
        )
        table.append([each.question, each.statistic, *numbers])
    text = (
        "How well the classifier's predictions follow what was requested; the diamond is the same "
        f"classifier on held-out patients. {_ONE_ROW}"
    )
    drawing = whiskers(f"Condition fidelity: {text}", rows, (0.0, 1.0), "held-out real patients")
    return [Figure("Condition fidelity", text, drawing, table)]


def _confounders(panel: Panel) -> list[Figure]:
    probes = [each for each in _of(panel, "real_or_synthetic", "probe") if each.statistic != "mae"]
    figures = [_figure("Probes", probes)] if probes else []
    if records := _of(panel, "tie"):
        figures.append(
            _figure(
                "Associations of findings with source or view", records, "The diamond: findings without one stay below."
            )
        )
    if panel.shifts:
        table = [["finding", "source", "view", "real", "requested", "difference", "95 % interval", "shifted"]]
        for shift in panel.shifts:
            shares = (
                f"{shift.real:.1%}",
                f"{shift.fake:.1%}",
                f"{shift.difference:+.1%}",
                f"{shift.ci95[0]:+.1%} to {shift.ci95[1]:+.1%}",
            )
            table.append([shift.finding, shift.source, shift.view, *shares, "yes" if shift.shifted else "no"])
        rows = [
            Whisker(f"{s.finding}, {s.source}, {s.view}", s.difference, *s.ci95, None) for s in panel.shifts[:_SHIFTS]
        ]
        text = "P(finding | source, view): requested of the films minus the share among real films; the largest shifts."
        span = max(0.1, float(np.ceil(10 * max(abs(edge) for s in panel.shifts[:_SHIFTS] for edge in s.ci95)) / 10))
        drawing = whiskers(f"Shifts: {text}", rows, (-span, span))
        figures.append(Figure("Shifts by finding, source and view", text, drawing, table))
    return figures


def _anatomy(panel: Panel) -> list[Figure]:
    known = _of(panel, "anatomy")
    trust = f"{trust_words(panel.trust)}." if panel.trust else ""
    figures = []
    if records := [each for each in known if each.statistic not in ("auc", "ks")]:
        figures.append(_figure("Plausibility", records, trust))
    compared = [each for each in known if each.statistic == "ks"]
    if compared:
        figures.append(_figure("Synthetic against real distributions", compared))
    figures += [_distribution(panel, each.question, each.group) for each in compared if each.question in _DRAWN]
    return figures


def _distribution(panel: Panel, question: str, group: str) -> Figure:
    """Return the histograms of a measure on the real and the synthetic films of a view."""
    values = {
        name: side.measures[question.replace(" ", "_")][(side.views == group.removeprefix("view ")) | (group == "")]
        for name, side in panel.frontals.items()
    }
    known = {name: some[np.isfinite(some)] for name, some in values.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(known.values())), 24).tolist()
    series = [
        (f"{name} films", (np.histogram(some, edges)[0] / max(len(some), 1)).tolist()) for name, some in known.items()
    ]
    heading = QUESTIONS[question] + (f", {group}" if group else "")
    heading = heading[:1].upper() + heading[1:]
    text = f"Shares of {' and of '.join(f'{len(some)} {name} films' for name, some in known.items())}."
    return Figure(heading, text, steps(f"{heading}: {text}", series, edges), [])


def _slow(panel: Panel) -> list[Section]:
    """Return the sections of what is measured on request only."""
    sections = []
    if panel.utility is not None:
        gains = [gain for gain in panel.utility.gains if "duplicates" in gain.control]
        rows = [Whisker(gain.question, gain.value, *gain.ci95, None) for gain in gains]
        text = (
            "AUC on held-out patients of classifiers trained also with synthetic films, minus "
            f"that with as many duplicates. {_ONE_ROW}"
        )
        table = [["question", "arm", "control", "difference", "95 % interval", "verdict"]]
        for gain in panel.utility.gains:
            interval = f"{gain.ci95[0]:+.3f} to {gain.ci95[1]:+.3f}"
            table.append([gain.question, gain.arm, gain.control, f"{gain.value:+.3f}", interval, gain.verdict])
        span = max(0.05, float(np.ceil(20 * max(max(abs(row.low), abs(row.high)) for row in rows)) / 20))
        drawing = whiskers(f"Utility: {text}", rows, (-span, span))
        figure = Figure("Gain over duplicates", text, drawing, table)
        sections.append(Section("utility", "Utility", "", [figure]))
    if panel.poses is not None:
        sections.append(_poses(panel.poses))
    if panel.label_noise is not None:
        points = panel.label_noise.points
        x = [point.flipped for point in points]
        series = [
            Curve("against the truth", x, [p.truth for p in points], *zip(*(p.truth95 for p in points), strict=True)),
            Curve(
                "against flipped labels", x, [p.noisy for p in points], *zip(*(p.noisy95 for p in points), strict=True)
            ),
            Curve("condition fidelity", x, [p.fidelity for p in points]),
        ]
        text = "AUC on phantoms as a share of labels is flipped."
        drawing = curves(f"Label noise: {text}", series, "share of labels flipped", (0.4, 1.0))
        table = [["flipped", "PPV", "against the truth", "against flipped labels", "expected", "fidelity"]]
        table += [
            [
                *(f"{share:.0%}" for share in (p.flipped, p.ppv)),
                *(f"{area:.3f}" for area in (p.truth, p.noisy, p.expected, p.fidelity)),
            ]
            for p in points
        ]
        sections.append(Section("noise", "Label noise", "", [Figure("What flipped labels do", text, drawing, table)]))
    return sections


def _poses(found: Poses) -> Section:
    # one scale for all, to compare them
    top = max(float(curve.flipped95.max()) for curve in found.curves) or 1.0
    spans = {span.motion: (span.low, span.high) for span in found.spans if span.group == "real"}
    figures: list[Figure] = []
    for motion in dict.fromkeys(curve.motion for curve in found.curves):
        for question in found.thresholds:
            some = [curve for curve in found.curves if (curve.motion, curve.question) == (motion, question)]
            series = [
                Curve(f"{each.group} films", each.amounts.tolist(), each.flipped.tolist(), *each.flipped95.tolist())
                for each in some
            ]
            films = ", ".join(f"{each.num_films} {each.group}" for each in some)
            title, text = f"{question}, {motion.replace('_', ' ')}", f"Share of decisions that flip, of {films} films."
            label = f"{motion.split('_')[0]}, {UNITS[motion]}"
            drawing = curves(f"{title}: {text}", series, label, (0.0, top), spans.get(motion))
            table = [["films", *(f"{amount:.3g}" for amount in some[0].amounts)]]
            table += [[each.group, *(f"{share:.1%}" for share in each.flipped)] for each in some]
            figures.append(Figure(title, text, drawing, table))
    text = (
        "Where is the classifier fooled as films are moved a little at a time? Nothing but the "
        "pose changes, so a decision that flips is wrong "
        "before or after. Green: the range that real films span. Bands hold for one "
        "curve at a time, not for all of them together."
    )
    return Section("poses", "Poses", text, figures)
