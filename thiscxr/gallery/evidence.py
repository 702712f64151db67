"""Turns scores.json and samples.csv into what evidence.html says and draws: words, places on a scale, tables. It measures nothing.

What a score means is docs/scoring.md; a number is never shown without its floor or a word that there is none.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from thiscxr.gallery.samples import Film
from thiscxr.gallery.words import number
from thiscxr.report.words import verdict

Record = Mapping[str, Any]

# Pattern of a score key without its extractor -> group, name, what it says, which way is better ("floor": the nearer to the floor); the
# first match counts, and an unknown key is shown as it is.
SCORE_WORDS = (
    (r"fdinf(?:_small)?", "distances", "Fréchet distance, endless films", "the same, extrapolated to endless films", "lower"),
    (r"fd_\d+k?(?:_small)?_view_(.+)", "distances", "Fréchet distance, {} view", "the same, of the films asked for this view", "lower"),
    (r"fd_\d+k?(?:_small)?_([A-Z].+)", "distances", "Fréchet distance, {}", "the same, of the films asked for this finding", "lower"),
    (r"fd_.*", "distances", "Fréchet distance", "how far the synthetic films, as a crowd, lie from real ones", "lower"),
    (r"kid_.*", "distances", "Kernel distance", "unbiased, so it may fall below 0 where the crowds are alike", "lower"),
    (r"precision_.*", "spread", "Precision", "share of the synthetic films that look like some real film", "higher"),
    (r"recall_.*", "spread", "Recall", "share of the real films that some synthetic film looks like", "higher"),
    (r"density_.*", "spread", "Density", "how thickly real films surround the synthetic ones", "higher"),
    (r"coverage_.*", "spread", "Coverage", "share of the real films with a synthetic film close by", "higher"),
    (r"vendi_.*", "spread", "Vendi score", "the effective number of different films", "higher"),
    (r"msssim_.*", "spread", "MS-SSIM of pairs", "how alike two films are in the mean", "lower"),
    (r"memorised_rate", "copies", "Flagged as copies", "share of the films that are copies of a real film, or nearly so", "lower"),
    (r"near_rate_.*", "copies", "Near somebody", "share of the films nearer to a patient than 99 % of strangers", "lower"),
    (r"nearest_ratio_.*", "copies", "Nearest to second patient", "near 1: no nearer to one patient than to a second", "higher"),
    (r"reid_auc", "copies", "Re-identification: its judge", "how well it tells one patient from two (AUC, 0.5: guessing)", ""),
    (r"reid_rank1", "copies", "Re-identification: its judge, nearest film", "share of real films whose nearest is of the patient", ""),
    (r"reid_match_rate", "copies", "Re-identified", "share of the films that are taken for some patient's", "lower"),
    (r"fidelity_(.+)_auc", "asked", "Seen as asked: {}", "how well what is seen follows what was asked (AUC, 0.5: chance)", "higher"),
    (r"fidelity_(.+)_r", "asked", "Seen as asked: {}", "correlation of what is seen with what was asked", "higher"),
    (r"fidelity_(.+)_mae", "asked", "Seen as asked: {}, error", "what is seen from what was asked, years in the mean", "lower"),
    (r"probe_real_or_synthetic_auc", "confounders", "Real or synthetic", "as a linear judge tells (AUC, 0.5: guessing)", "lower"),
    (r"probe_(.+)_mae", "confounders", "Probe: {}, error", "what a linear judge reads from the features, years in the mean", "floor"),
    (r"probe_(.+)_(?:auc|r)", "confounders", "Probe: {}", "what a linear judge reads from the features", "floor"),
    (r"tie_real_finding_(.+)_v", "confounders", "A finding tied to the {}, real films", "the strongest tie, Cramér's V", "lower"),
    (r"tie_asked_finding_(.+)_v", "confounders", "A finding tied to the {}, as asked", "the strongest tie, Cramér's V", "lower"),
    (r"anatomy_.*_auc", "anatomy", "Trust in the measures", "cardiothoracic ratio against the label Cardiomegaly (AUC)", "higher"),
    (r"anatomy_[^_]+_implausible", "anatomy", "Implausible", "share of the films whose lungs or heart no chest has", "lower"),
    (r"anatomy_[^_]+_ctr_w1", "anatomy", "Cardiothoracic ratio", "distance of its spread from that of real films", "lower"),
    (r"anatomy_[^_]+_(.+)_w1", "anatomy", "{}", "distance of its spread from that of real films", "lower"),
    (r"anatomy_[^_]+_(.+)", "anatomy", "{}", "share of the films", "floor"),
    (r"(utility|poses|label_noise)_(.+)", "requested", "{}: {}", "", ""),
)  # fmt: skip
GROUPS = {
    "distances": ("Distances", "How far these films, as a crowd, lie from real ones."),
    "spread": ("Likeness and variety", "Does each film look like some real film, and is every kind of real film there?"),
    "copies": ("Copies", "Every film was compared with every real film of the pool; strangers say how near is near."),
    "asked": ("Asked and seen", "Does a film show what was asked? Judged by a reader network, and only where it reads real films well."),
    "confounders": ("Confounders", "What else tells the films apart, and could be learnt in place of a finding."),
    "anatomy": ("Anatomy", "Lungs and heart, by a segmenter that was trained on procedural phantoms alone."),
    "requested": ("Measured on request", "Utility, poses and label noise; what they mean: docs/scoring.md."),
    "other": ("Other scores", "This version of the page has no words for these."),
}
NEAREST = 12  # films in the table of the nearest ones
BINS = 10


def _score_words(record: Record) -> tuple[str, str, str, str]:
    """Return group, name, meaning and better direction of a score."""
    key, judge = record["key"], record.get("extractor")
    bare = f"{key}_".replace(f"_{judge}_", "_", 1)[:-1]  # the name of an extractor may hold anything, and is said beside
    for pattern, group, name, meaning, better in SCORE_WORDS:
        if match := re.fullmatch(pattern, bare):
            text = name.format(*(part.replace("_", " ") for part in match.groups()))
            return group, text[0].upper() + text[1:], meaning, better
    return "other", key, "", ""


def evidence(record: Record, truncations: Iterable[float]) -> dict[str, str]:
    """Turn one score into words: name, key, value, interval, floor, what it says, and what it was measured on.

    truncations: those of the films shown; the words say so when the score was measured at another one.
    """
    key, value, floor = record["key"], record.get("value"), record.get("floor")
    group, name, meaning, better = _score_words(record)
    said = [f"{meaning[0].upper()}{meaning[1:]}{f'; {better} is better' if better in ('lower', 'higher') else ''}."] if meaning else []
    if better == "floor":
        said.append("The nearer to the floor, the better.")
    if value is None:
        said.append("It was not measured.")
    elif floor is None:
        said.append("No floor was measured, so the number says little by itself.")
    elif group == "distances" and floor > 0:
        times, ci95 = value / floor, record.get("ci95")
        how = f"these are {number(times)} times as far" if times > 1 else "these are no farther than that"
        if ci95 and ci95[0] <= floor <= ci95[1]:
            how = "their interval includes that, which shows no difference and rules none out"
        said.append(f"Real films of other patients are {number(floor)} apart; {how}.")
    else:
        said.append(f"Real films of other patients reach {number(floor)}.")
    basis = []
    if record.get("num_real") is not None and record.get("num_fake") is not None:
        basis.append(f"{record['num_real']} real and {record['num_fake']} synthetic films")
    if record.get("hidden"):
        basis.append("the foot of each, with the mark, hidden on both sides")
    if record.get("extractor"):
        basis.append(f"seen through {record['extractor']}")
    if record.get("truncation") is not None:
        basis.append(f"truncation {record['truncation']}")
        others = [number(value) for value in sorted(truncations) if value != record["truncation"]]
        if others:
            basis[-1] += f" (films shown here: {', '.join(others)})"
    return {
        "name": name,
        "key": key,
        "value": "–" if value is None else number(value),
        "interval": " to ".join(map(number, record["ci95"])) if record.get("ci95") else "",
        "floor": "–" if floor is None else number(floor),
        "said": " ".join(said),
        "basis": ", ".join(basis),
    }


def _scale(record: Record) -> tuple[float, float]:
    """Return the ends of the scale that a score is drawn on: 0 to 1 where it is of that kind, else round ends around its numbers."""
    numbers = [*(record.get("ci95") or []), *(x for x in (record["value"], record.get("floor")) if x is not None)]
    low, high = min(0.0, *numbers), max(numbers)
    unit = re.fullmatch(r"(precision|recall|coverage|density|msssim)_.*|.*_(auc|r|v)", record["key"])
    if unit and low >= 0 and high <= 1:
        return 0.0, 1.0
    ends = []
    for end in (low, high):
        step = 10.0 ** math.floor(math.log10(abs(end))) if end else 1.0
        ends.append(math.copysign(next(m * step for m in (1, 2, 5, 10) if m * step >= abs(end)), end) if end else 0.0)
    return ends[0], ends[1] if ends[1] > ends[0] else ends[0] + 1.0


def drawing(record: Record) -> dict[str, Any] | None:
    """Return where a score stands on its scale, as shares of the width, and the scale's ends; None where it was not measured."""
    if record.get("value") is None:
        return None
    first, last = _scale(record)
    ci95, floor = record.get("ci95"), record.get("floor")

    def at(value: float) -> float:
        return round((value - first) / (last - first), 4)

    return {
        "ends": (number(first), number(last)),
        "value": at(record["value"]),
        "interval": [at(edge) for edge in ci95] if ci95 else None,
        "floor": None if floor is None else at(floor),
    }


def score_groups(records: Sequence[Record], truncations: Iterable[float]) -> list[dict[str, Any]]:
    """Return the scores by what they ask: slug, title, intro and rows, each of which is `evidence` with its `drawing`."""
    truncations = list(truncations)
    groups = []
    for slug, (title, intro) in GROUPS.items():
        found = [record for record in records if _score_words(record)[0] == slug]
        rows = [{**evidence(record, truncations), "drawing": drawing(record)} for record in found]
        if rows:
            groups.append({"slug": slug, "title": title, "intro": intro, "rows": rows})
    return groups


def nearest_films(films: Sequence[Film]) -> dict[str, Any] | None:
    """Return the films that are nearest to a real one, the nearest first, and how the ranks among strangers spread; None unscreened.

    `bars`: share of the films in each tenth of the ranks. Films that are no nearer than strangers fill all tenths alike.
    """
    ranked = [film for film in films if film.stranger_rank is not None]
    if not ranked:
        return None
    counts = [0] * BINS
    for film in ranked:
        counts[min(BINS - 1, max(0, int((film.stranger_rank or 0) * BINS)))] += 1
    return {
        "num_films": len(ranked),
        "num_flagged": sum(film.memorised is True for film in ranked),
        "rows": sorted(ranked, key=lambda film: (film.stranger_rank, film.nearest or 0, film.seed))[:NEAREST],
        "bars": [count / len(ranked) for count in counts],
        "tallest": max(counts) / len(ranked),
    }


def asked_table(films: Sequence[Film]) -> dict[str, Any]:
    """Return what was asked, a finding a row under a row of all films: films, share of each view and of women, median age.

    A finding whose shares differ from those of all films is tied to view, sex or age: who learns it from these films may learn the tie.
    """
    views = sorted({film.view for film in films if film.view})
    rows = []
    for finding in ("", *sorted({name for film in films for name in film.findings})):
        having = [film for film in films if not finding or finding in film.findings]
        seen, sexed = [film for film in having if film.view], [film for film in having if film.sex in ("F", "M")]
        ages = [film.age_years for film in having if film.age_years is not None]
        rows.append(
            {
                "finding": finding,
                "films": len(having),
                "views": [f"{sum(film.view == view for film in seen) / len(seen):.0%}" if seen else "–" for view in views],
                "women": f"{sum(film.sex == 'F' for film in sexed) / len(sexed):.0%}" if sexed else "–",
                "age": f"{median(ages):.0f}" if ages else "–",
            }
        )
    return {"views": views, "rows": rows}


def evidence_facts(films: Sequence[Film], shown: Iterable[Film], records: Sequence[Record]) -> dict[str, Any]:
    """Return all that evidence.html says of scores and films; films: those of the sample folder, shown: those in the gallery."""
    truncations = sorted({film.truncation for film in films if film.truncation is not None})
    asked = ("pool_fingerprint", "split", "seeds", "code_version")
    measured = {name: sorted({str(record[name]) for record in records if record.get(name)}) for name in asked}
    judges = {r["extractor"]: r.get("extractor_sha256") or "" for r in records if r.get("extractor")}
    return {
        "num_films": len(films),
        "truncations": [number(value) for value in truncations],
        "verdict": verdict(records),
        "groups": score_groups(records, truncations),
        "nearest": nearest_films(films),
        "shown": {film.file for film in shown},
        "asked": asked_table(films),
        "measured": measured,
        "judges": judges,
    }
