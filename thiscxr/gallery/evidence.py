"""Turns scores.json and samples.csv into the text, charts and tables of evidence.html. It measures nothing.

docs/scoring.md explains the scores. A number is never shown without its floor or a note that there is none.
"""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from markupsafe import Markup

from thiscxr.gallery.samples import Film
from thiscxr.gallery.words import number
from thiscxr.report.charts import Whisker, ranks, whiskers
from thiscxr.report.verdict import verdict
from thiscxr.report.words import by_section, from_0_to_1, sentence, title
from thiscxr.score.records import Record

NEAREST = 12  # films in the table of the nearest ones
BINS = 10


def evidence(record: Record, truncations: Iterable[float]) -> dict[str, str]:
    """Return one score as text: name, key, value, interval, floor, a sentence, and what it was measured on.

    truncations: those of the films shown; the text warns when the score was measured at another one.
    """
    basis = [f"{record.num_real} real and {record.num_fake} synthetic films"]
    if record.hidden:
        basis.append("the rows of the mark hidden in all films")
    if record.extractor:
        basis.append(f"extractor {record.extractor}")
    if record.truncation is not None:
        basis.append(f"truncation {record.truncation}")
        others = [number(value) for value in sorted(truncations) if value != record.truncation]
        if others:
            basis[-1] += f" (films shown here: {', '.join(others)})"
    return {
        "name": title(record),
        "key": record.key,
        "value": "–" if record.value is None else number(record.value),
        "interval": " to ".join(map(number, record.ci95)) if record.ci95 else "",
        "floor": "–" if record.floor is None else number(record.floor),
        "said": sentence(record),
        "basis": ", ".join(basis),
    }


def drawing(record: Record) -> Markup:
    """Return a score on its scale as a small picture; empty where it was not measured."""
    if record.value is None:
        return Markup()
    interval = f", interval {' to '.join(map(number, record.ci95))}" if record.ci95 else ""
    floor = "–" if record.floor is None else number(record.floor)
    row = Whisker("", record.value, *(record.ci95 or (record.value, record.value)), record.floor)
    alt = f"{title(record)}: {number(record.value)}{interval}, floor {floor}"
    return whiskers(alt, [row], (0.0, 1.0) if from_0_to_1([record]) else None, dark=True)


def score_groups(records: Sequence[Record], truncations: Iterable[float]) -> list[dict[str, Any]]:
    """Return the scores by section: slug, title, intro and rows, each of which is `evidence` with its `drawing`."""
    truncations = list(truncations)
    groups = []
    for slug, section, some in by_section(records):
        rows = [{**evidence(record, truncations), "drawing": drawing(record)} for record in some]
        groups.append({"slug": slug, "title": section.title, "intro": section.intro, "rows": rows})
    return groups


def nearest_films(films: Sequence[Film]) -> dict[str, Any] | None:
    """Return the films that are nearest to a real one, the nearest first, and a histogram of their ranks among
    unrelated patients; None where no film was compared.

    `drawing`: share of the films in each tenth of the ranks. Films that are no nearer than those of unrelated patients
    fill all tenths alike.
    """
    ranked = [film for film in films if film.stranger_rank is not None]
    if not ranked:
        return None
    counts = [0] * BINS
    for film in ranked:
        counts[min(BINS - 1, max(0, int((film.stranger_rank or 0) * BINS)))] += 1
    shares = [count / len(ranked) for count in counts]
    listed = ", ".join(f"{x:.0%}" for x in shares)
    alt = f"Share of the films in each tenth of the ranks among unrelated patients: {listed}"
    return {
        "num_films": len(ranked),
        "num_flagged": sum(film.memorised is True for film in ranked),
        "rows": sorted(ranked, key=lambda film: (film.stranger_rank, film.nearest or 0, film.seed))[:NEAREST],
        "drawing": ranks(alt, shares, dark=True),
    }


def requested_table(films: Sequence[Film]) -> dict[str, Any]:
    """Return what was requested, one row per finding below a row for all films: films, share of each view and of women,
    median age.

    A finding whose shares differ from those of all films is associated with view, sex or age: a classifier trained on
    these films may learn the association instead.
    """
    views = sorted({film.view for film in films if film.view})
    rows = []
    for finding in ("", *sorted({name for film in films for name in film.findings})):
        having = [film for film in films if not finding or finding in film.findings]
        viewed, sexed = [film for film in having if film.view], [film for film in having if film.sex in ("F", "M")]
        ages = [film.age_years for film in having if film.age_years is not None]
        rows.append(
            {
                "finding": finding,
                "films": len(having),
                "views": [
                    f"{sum(film.view == view for film in viewed) / len(viewed):.0%}" if viewed else "–"
                    for view in views
                ],
                "women": f"{sum(film.sex == 'F' for film in sexed) / len(sexed):.0%}" if sexed else "–",
                "age": f"{median(ages):.0f}" if ages else "–",
            }
        )
    return {"views": views, "rows": rows}


def evidence_facts(films: Sequence[Film], shown: Iterable[Film], records: Sequence[Record]) -> dict[str, Any]:
    """Return all that evidence.html shows of scores and films; films: those of the sample folder, shown: those in the
    gallery."""
    truncations = sorted({film.truncation for film in films if film.truncation is not None})
    names = ("pool_fingerprint", "split", "seeds", "code_version")
    measured = {name: sorted({str(value) for each in records if (value := getattr(each, name))}) for name in names}
    extractors = {each.extractor: each.extractor_sha256 or "" for each in records if each.extractor}
    return {
        "num_films": len(films),
        "truncations": [number(value) for value in truncations],
        "verdict": verdict(records),
        "groups": score_groups(records, truncations),
        "nearest": nearest_films(films),
        "shown": {film.file for film in shown},
        "requested": requested_table(films),
        "measured": measured,
        "extractors": extractors,
    }
