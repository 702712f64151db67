"""Every sentence about one score: the name and meaning of its measure, and how it compares with real films.

Terminal, report, card and evidence page take their text from here and from `report/verdict.py`, so that they say the
same of the same records. A sentence claims no more than its interval supports.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from thiscxr.score.records import Record


@dataclass(frozen=True)
class Section:
    """A group of measures: its title, the question that it answers, and what its floor is."""

    title: str
    intro: str
    floor: str


@dataclass(frozen=True)
class Words:
    """How a measure is described, wherever it is shown."""

    section: str
    title: str  # {question}, {group} and {protocol} are the record's
    meaning: str
    better: str  # "lower", "higher", "near" (the nearer to the floor, the better), or "" where neither
    unit: str = ""
    floor: str = ""  # where it is another than the section's
    figure: str = ""  # heading of the figure that it shares with others; by default its title


_OTHERS = "real films of other patients"
SECTIONS = {
    "distances": Section("Distances", "How far these films, as a distribution, are from real ones.", _OTHERS),
    "spectrum": Section(
        "Fine structure",
        "Power spectra at the films' own resolution: a grid, a blur, a sharpening. 0 dB is as real films are.",
        _OTHERS,
    ),
    "spread": Section(
        "Likeness and variety", "Does each film look like a real film, and is every kind of real film there?", _OTHERS
    ),
    "copies": Section(
        "Memorisation",
        "Every film was compared with every real film of the pool, held-out patients too.",
        "unrelated real patients, each against all others",
    ),
    "asked": Section(
        "Requested and predicted",
        "Does a film show what was requested? Measured by a classifier, only where it predicts well on real films.",
        "the same classifier on held-out real patients, against their labels",
    ),
    "confounders": Section(
        "Confounders",
        "What else distinguishes the films, and could be learnt instead of a finding.",
        "real patients that the classifier has not seen",
    ),
    "anatomy": Section(
        "Anatomy", "Lungs and heart, by a segmenter that was trained on procedural phantoms alone.", _OTHERS
    ),
    "utility": Section("Use for training", "Classifiers trained with and without the films, on held-out patients.", ""),
    "reader": Section(
        "What fools a classifier",
        "Poses and label noise; what they mean: docs/scoring.md.",
        "the same with nothing moved or flipped",
    ),
    "other": Section("Other scores", "This version does not know these.", _OTHERS),
}
_AUC, _SHARE = "AUC", "share"
_MANIFOLD = "Precision, recall, density, coverage"
WORDS = {  # measure, or measure and statistic, in the order in which they are shown
    "fd": Words("distances", "Fréchet distance",
        "how far the synthetic films are from real ones, comparable at one number of films", "lower"),
    "fdinf": Words("distances", "Fréchet distance, infinitely many films (FD∞)",
        "the same, independent of the number of films", "lower"),
    "kid": Words("distances", "Kernel distance (KID)",
        "independent of the number of films; below 0 by chance where the sets are alike", "lower"),
    "grid": Words("spectrum", "Grid, {question}",
        "power of what alternates from pixel to pixel over similar frequencies, against real films", "near", "dB",
        figure="Grid and sharpness"),
    "sharpness": Words("spectrum", "Sharpness",
        "power of fine over coarse detail, against real films; below 0: blurred, above: sharp or noisy", "near", "dB",
        figure="Grid and sharpness"),
    "band": Words("spectrum", "Band {question} of 8",
        "power of this band of detail, 1 the coarsest, against real films", "near", "dB", figure="Bands of detail"),
    "precision": Words("spread", "Precision",
        "share of the synthetic films that look like some real film", "higher", _SHARE, figure=_MANIFOLD),
    "recall": Words("spread", "Recall",
        "share of the real films that some synthetic film looks like", "higher", _SHARE, figure=_MANIFOLD),
    "density": Words("spread", "Density",
        "how thickly real films surround the synthetic ones", "higher", _SHARE, figure=_MANIFOLD),
    "coverage": Words("spread", "Coverage",
        "share of the real films with a synthetic film close by", "higher", _SHARE, figure=_MANIFOLD),
    "vendi": Words("spread", "Vendi score", "the effective number of different films", "higher"),
    "msssim": Words("spread", "MS-SSIM of pairs", "how alike two films are on average", "lower", _SHARE),
    "memorised_rate": Words("copies", "Memorised",
        "share of the films that are near-duplicates of a real film", "lower", _SHARE),
    "near_rate": Words("copies", "Near a patient",
        "share of the films nearer to a patient than 99 % of unrelated patients are", "lower", _SHARE),
    "nearest_ratio": Words("copies", "Nearest to second patient",
        "near 1: no nearer to one patient than to a second", "higher"),
    "reid auc": Words("copies", "Re-identification, its ceiling",
        "how well features distinguish films of one patient from films of two", "", _AUC, "guessing"),
    "reid rank1": Words("copies", "Re-identification, its ceiling by the nearest film",
        "share of real films whose nearest is of the same patient", "", _SHARE, "guessing"),
    "reid match_rate": Words("copies", "Re-identified",
        "share of the films that features match to a patient", "lower", _SHARE),
    "fidelity auc": Words("asked", "Predicted as requested: {question}",
        "how well predictions follow what was requested", "higher", _AUC),
    "fidelity r": Words("asked", "Predicted as requested: {question}",
        "how well predictions follow what was requested", "higher", "correlation"),
    "fidelity mae": Words("asked", "Predicted as requested: {question}, error",
        "how far predictions are from what was requested", "lower", "years"),
    "real_or_synthetic": Words("confounders", "Real or synthetic",
        "how well a linear classifier distinguishes them (0.5: not at all)", "lower", _AUC),
    "probe auc": Words("confounders", "Probe: {question}",
        "how well a linear classifier predicts it from the features", "near", _AUC),
    "probe r": Words("confounders", "Probe: {question}",
        "how well a linear model predicts it from the features", "near", "correlation"),
    "probe mae": Words("confounders", "Probe: {question}, error", "how far off a linear model is", "near", "years"),
    "tie": Words("confounders", "Association of a finding with the {protocol}, {group}",
        "the strongest association: {question}", "", "Cramér's V", "findings without an association stay below"),
    "shortcut": Words("confounders", "{question} by source",
        "how far its prediction moves with the requested source alone ({group}), over its spread",
        "lower", "", "films that do not follow the source stay below", "Findings that follow the source"),
    "anatomy auc": Words("anatomy", "Trust in these measures",
        "the cardiothoracic ratio against the label Cardiomegaly", "", _AUC),
    "anatomy w1": Words("anatomy", "{question}", "distance of its distribution from that of real films", "lower"),
    "anatomy ks": Words("anatomy", "{question}, distribution",
        "largest gap between the shares of films below a value (Kolmogorov–Smirnov); above 0: more than on real films",
        "near"),
    "anatomy implausible": Words("anatomy", "Implausible",
        "share of the films whose lungs or heart are anatomically implausible", "lower", _SHARE),
    "anatomy leans_left": Words("anatomy", "Leans left",
        "share of the films whose heart leans to the viewer's left", "near", _SHARE),
    "utility": Words("utility", "{question}: {group}", "AUC gained", "higher"),
    "poses": Words("reader", "{question}, {group} films, {protocol}", "share of the decisions that flip", "", _SHARE),
    "label_noise": Words("reader", "{question}, {group}", "AUC on phantoms, mean over findings", "", _AUC),
}  # fmt: skip
QUESTIONS = {
    "ctr": "cardiothoracic ratio",
    "viewer left lung": "area of the lung on the viewer's left",
    "viewer right lung": "area of the lung on the viewer's right",
    "lung symmetry": "symmetry of the lungs",
    "heart lean": "lean of the heart to the viewer's right",
    "age over median": "age over the median",
    "columns": "alternating columns",
    "rows": "alternating rows",
    "both": "a chess board",
} | {
    f"viewer {side} {zone}opacity": f"opacity of the {zone}{'zone of the ' if zone else ''}lung on the viewer's {side}"
    for side in ("left", "right")
    for zone in ("", "upper ", "middle ", "lower ")
}
_GROUPS = {("tie", "real"): "real films", ("tie", "asked"): "as requested"}


def words_of(record: Record) -> Words:
    """Return the words for a record's measure; an unknown measure is called by its name."""
    return (
        WORDS.get(f"{record.measure} {record.statistic}")
        or WORDS.get(record.measure)
        or Words("other", "{measure}", "", "")
    )


def title(record: Record) -> str:
    """Return the name of a score, with the group of films that it is about."""
    words = words_of(record)
    group = _GROUPS.get((record.measure, record.group), record.group).replace("_", " ")
    question = QUESTIONS.get(record.question, record.question).replace("_", " ")
    text = words.title.format(
        measure=record.measure, question=question, group=group, protocol=record.protocol.replace("_", " ")
    )
    text += f", {group} only" if group and "{group}" not in words.title + words.meaning else ""
    return text[:1].upper() + text[1:]


def explained(record: Record) -> str:
    """Return what a score measures and which way is better, as a sentence; "" for an unknown measure."""
    words = words_of(record)
    text = words.meaning.format(question=record.question.replace("_", " "), group=record.group.replace("_", " "))
    unit = f" ({words.unit})" if words.unit not in ("", _SHARE) else ""
    better = {
        "lower": "; lower is better",
        "higher": "; higher is better",
        "near": "; the nearer to the floor, the better",
    }
    return f"{text[0].upper()}{text[1:]}{unit}{better.get(words.better, '')}." if text else ""


def from_0_to_1(records: Sequence[Record]) -> bool:
    """Return whether these scores are all on the scale from 0 to 1: shares, AUCs, correlations."""
    known = [x for each in records for x in (each.value, each.floor, *(each.ci95 or ())) if x is not None]
    return (
        all(words_of(each).unit in (_SHARE, _AUC, "correlation", "Cramér's V") for each in records)
        and 0 <= min(known) <= max(known) <= 1
    )


def by_section(records: Sequence[Record]) -> Iterator[tuple[str, Section, list[Record]]]:
    """Yield the name of each section that has records, the section, and its records in the order of WORDS."""
    order = {words: i for i, words in enumerate(WORDS.values())}
    for name, section in SECTIONS.items():
        if some := [each for each in records if words_of(each).section == name]:
            yield name, section, sorted(some, key=lambda each: order.get(words_of(each), len(order)))


def reading(record: Record) -> str:
    """Return how a score compares with its floor by its interval: "better", "worse", "above", "below" or "not
    distinguished"; "" where that is unknown."""
    if record.value is None:
        return "not measured"
    better = words_of(record).better
    if record.ci95 is None or record.floor is None or not better:
        return ""
    low, high = record.ci95
    if low <= record.floor <= high:
        return "not distinguished"
    if better == "near":
        return "below" if high < record.floor else "above"
    return "better" if (high < record.floor) == (better == "lower") else "worse"


def sentence(record: Record) -> str:
    """Return what a score measures and how it compares with its floor."""
    words, said = words_of(record), [explained(record)]
    floor = words.floor or SECTIONS[words.section].floor
    if record.value is None:
        said.append(_why_not(record))
    elif record.floor is None or not floor:
        said.append("No floor was measured, so the number says little by itself." if words.section != "utility" else "")
    else:
        how = {
            "not distinguished": "; the interval contains it, which shows no difference and rules none out",
            "worse": "; these films are worse",
            "better": "; these films are better",
            "above": "; these films are above",
            "below": "; these films are below",
        }.get(reading(record), "")
        if words.section == "distances" and record.floor > 0 and how.endswith(("worse", "better")):
            how += f", {number(record.value / record.floor)} times as far"
        said.append(f"{floor[0].upper()}{floor[1:]}: {number(record.floor)}{how}.")
    return " ".join(filter(None, said))


def _why_not(record: Record) -> str:
    if record.measure == "reid":
        return f"It could not be measured: {record.num_real} patients have several films."
    if record.measure == "fidelity" and record.floor is not None:
        return (
            "It was not measured: on held-out real patients the classifier reaches "
            f"{number(record.floor)}, or it was requested of too few films."
        )
    return "It was not measured."


def number(value: float | None) -> str:
    """Return a number as text, with four significant digits."""
    return "–" if value is None else f"{value:.4g}".replace("-", "−")
