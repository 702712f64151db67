"""The verdict on a set of films: a summary of all scores in sentences, the same wherever it is shown.

A sentence claims no more than its interval supports.
"""

from collections.abc import Sequence

from thiscxr.report.words import QUESTIONS, reading, words_of
from thiscxr.score.records import Record

# share of the films that may be flagged, or twice that of unrelated patients, for a set to be shared
MOST_MEMORISED = 0.02
MOST_BY_CHANCE = 0.01  # p of an association, below which it is reported
MOST_NAMED = 6  # measures in the sentence on their distributions
LEAST_DB = 1.0  # the least difference in the power of a band that is reported
NOTHING_MORE = (
    "Nothing here shows that a film cannot be distinguished from a real one, or that it is fit for any clinical use. "
    "A good score is the score of one extractor."
)
_GRIDS = ("columns", "rows", "both")


def verdict(records: Sequence[Record]) -> list[str]:
    """Return a summary of the scores, one sentence each: the first of each kind, and every one of memorisation. Empty
    without scores."""
    if not records:
        return []
    first: dict[str, Record] = {}
    for each in records:
        if each.value is not None:
            first.setdefault(each.measure, each)
    lines = [_distance(first["fd"])] if "fd" in first and first["fd"].floor else []
    if recall := first.get("recall"):
        floor = f", of other real films {recall.floor:.0%}" if recall.floor is not None else ""
        lines.append(f"{recall.value:.0%} of the real films have a synthetic film in their neighbourhood{floor}.")
    lines += [*fine_structure(records), *memorised(records)]
    if probe := first.get("real_or_synthetic"):
        interval = f", {probe.ci95[0]:.2f} to {probe.ci95[1]:.2f}" if probe.ci95 else ""
        lines.append(
            "A linear classifier distinguishes synthetic from real films with an AUC of "
            f"{probe.value:.2f}{interval}; 0.5 is guessing."
        )
    return [*lines, *_requested(records), *_associated(records), *_by_source(records), *_anatomy(records), NOTHING_MORE]


def _distance(record: Record) -> str:
    value, floor = record.value or 0.0, record.floor or 1.0
    times, (low, high) = value / floor, record.ci95 or (value, value)
    how = f"{times:.1f} times as far from real patients as" if times > 1.05 else "nearer to real patients than"
    if 0.95 <= times <= 1.05 or low <= floor <= high:  # no difference is reported that the interval does not show
        how = "about as far from real patients as"
    return f"As a distribution, and by one extractor ({record.key}), the films are {how} other real patients."


def fine_structure(records: Sequence[Record]) -> list[str]:
    """Return sentences on grids, blur, sharpening and single bands whose whole interval lies beyond LEAST_DB."""
    known = {
        (each.measure, each.question): (each.value, each.ci95, each.floor or 0.0)
        for each in records
        if words_of(each).unit == "dB"
    }
    beyond = {
        what: value - floor
        for what, (value, ci95, floor) in known.items()
        if value is not None and ci95 is not None and max(ci95[0] - floor, floor - ci95[1]) > LEAST_DB
    }
    lines = []
    if grids := [
        f"{QUESTIONS[point]} ({beyond['grid', point]:.1f} dB above real films)"
        for point in _GRIDS
        if beyond.get(("grid", point), 0) > 0
    ]:
        lines.append(f"A grid lies over the films: {', '.join(grids)}.")
    sharpness = beyond.get(("sharpness", ""), 0.0)
    if sharpness < 0:
        lines.append(f"The films are blurred: their fine detail is {-sharpness:.1f} dB weaker than that of real films.")
    elif sharpness > 0:
        lines.append(
            f"The films are sharpened or noisy: their fine detail is {sharpness:.1f} "
            "dB stronger than that of real films."
        )
    # a grid leaks into band 8
    rest = [name for measure, name in beyond if measure == "band" and not (grids and name == "8")]
    if rest and not sharpness:
        bands = ", ".join(f"{name} ({beyond['band', name]:+.1f} dB)" for name in rest)
        lines.append(f"Of eight bands from coarse to fine detail these are not as in real films: {bands}.")
    nothing = f"At the films' own resolution no grid, blur or sharpening beyond {LEAST_DB:g} dB is shown."
    return lines or ([nothing] if known else [])


def memorised(records: Sequence[Record]) -> list[str]:
    """Return a sentence for each score of memorised films: how many are flagged, and, above the limit, a warning not to
    share the set.

    The limit applies to the share in this set, not to its interval: it is this set that would be shared.
    """
    lines = []
    for each in records:
        if each.measure != "memorised_rate" or each.value is None:
            continue
        floor = each.floor or 0.0
        share = f"{each.value:.1%} of the films ({round(each.value * each.num_fake)})"
        if each.value > max(MOST_MEMORISED, 2 * floor):
            found = (
                f"{share} are memorised, near-duplicates of real films: of unrelated real "
                f"patients {floor:.1%} would be flagged."
            )
            lines.append(f"{found} Do not share this set as it is.")
        else:
            lines.append(f"{share} are flagged as memorised; of unrelated real patients {floor:.1%} would be.")
    return lines or ["Memorisation was not measured. Do not take a film for private because it is synthetic."]


def _requested(records: Sequence[Record]) -> list[str]:
    requested = [each for each in records if each.measure == "fidelity" and each.statistic != "mae"]
    measured = [each for each in requested if each.value is not None]
    lines = []
    if measured:
        followed = [each.question for each in measured if each.null95 and (each.value or 0.0) > each.null95[1]]
        lines.append(f"Predictions follow what was requested, beyond chance, for: {', '.join(followed) or 'nothing'}.")
    if unmeasured := [each.question for each in requested if each.value is None]:
        why = "the classifier is not good enough on real patients, or too few films were requested"
        lines.append(f"Whether the films show it could not be measured for: {', '.join(unmeasured)} ({why}).")
    return lines


def _associated(records: Sequence[Record]) -> list[str]:
    pairs = [
        f"{each.question} with the {each.protocol}"
        for each in records
        if each.measure == "tie" and each.group == "asked" and each.p is not None and each.p < MOST_BY_CHANCE
    ]
    line = (
        f"In what was requested, findings are associated: {', '.join(pairs)}. A classifier "
        "trained on these films may learn the association."
    )
    return [line] if pairs else []


def _by_source(records: Sequence[Record]) -> list[str]:
    moved = [
        f"{each.question.replace('_', ' ')} ({each.group})"
        for each in records
        if each.measure == "shortcut" and each.p is not None and each.p < MOST_BY_CHANCE
    ]
    line = f"The prediction of a requested finding moves with the requested source: {', '.join(moved)}."
    return [line] if moved else []


def _anatomy(records: Sequence[Record]) -> list[str]:
    some = [each for each in records if each.measure == "anatomy"]
    checks = [each for each in some if each.statistic == "auc"]
    known = [each for each in checks if each.value is not None]
    if any(each.ci95 is None or each.ci95[0] <= 0.5 for each in known):
        cannot = "The measures of anatomy cannot be trusted on these real films"
        return [f"{cannot}, so they show nothing of the synthetic ones."]
    doubt = "The measures of anatomy could not be checked on these real films: no large and other hearts are labelled."
    return [*shifted(some), *([doubt] if len(known) < len(checks) else [])]


def shifted(records: Sequence[Record]) -> list[str]:
    """Return a sentence on the measures of lungs and heart whose distribution is not that of real films, with the
    direction, the largest difference first."""
    tested = [each for each in records if each.statistic == "ks" and each.value is not None and each.p is not None]
    beyond = [each for each in tested if (each.p or 0.0) < MOST_BY_CHANCE]
    views: dict[tuple[str, str], list[str]] = {}
    for each in sorted(beyond, key=lambda each: -abs(each.value or 0.0)):
        how = {"above": "larger", "below": "smaller"}.get(reading(each), "spread differently")
        gap = "" if how.startswith("spread") else f"by {abs(each.value or 0.0):.0%}"
        views.setdefault((each.question, how), []).append(f"{each.group.removeprefix('view ')} {gap}".strip())
    named = [
        f"{QUESTIONS.get(what, what)} ({', '.join(filter(None, [how, *gaps]))})" for (what, how), gaps in views.items()
    ]
    more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    line = f"Lungs and heart are not distributed as on real films: {', '.join(named[:MOST_NAMED])}{more}."
    nothing = "No difference between the distributions of lungs, heart and opacity of both sets is shown."
    return [line] if named else [nothing] if tested else []
