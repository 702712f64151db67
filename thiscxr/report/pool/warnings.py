"""What an expert would object to in the facts of `describe`, in plain words with the numbers.

Each check reads the facts alone, so a release and the pool made of it get the same warnings.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from thiscxr.labels import FINDINGS
from thiscxr.report.pool.facts import total_variation

FLAT_BELOW = 0.08  # unevenness: equalised films have 0.01 to 0.07, others 0.1 to 0.4
PREDICTS_FROM = 0.25  # total variation: with it a coin toss becomes 62 %
_MIN_FILMS = 50  # of either group, before shares are compared
_UNKNOWN_FROM = 0.2
_REFUSED_FROM = 0.05

Sources = Mapping[str, Mapping[str, Any]]


def find_warnings(facts: Mapping[str, Any]) -> list[str]:
    """Return one line per warning, the most serious first; facts: of `describe_pool` or `describe_sources`."""
    sources = {key: source for key, source in facts["sources"].items() if source["kept"]["films"]}
    empty = [f"{key}: no film is left, so there is nothing to pool" for key in facts["sources"] if key not in sources]
    checks = (_duplicates(facts.get("duplicates", {})), *(check(sources) for check in _CHECKS))
    return [*empty, *(line for lines in checks for line in lines)]


def annotated(states: Mapping[str, int]) -> int:
    """Return the number of films in which a finding is annotated."""
    return sum(count for word, count in states.items() if word != "not_annotated")


def source_counts(sources: Sources, finding: str) -> dict[str, dict[str, int]]:
    """Return {"positive" or "negative": {source: films}} over the sources that annotate the finding."""
    states = {key: source["kept"]["findings"][finding] for key, source in sources.items()}
    return {
        word: {key: counts[word] for key, counts in states.items() if annotated(counts)}
        for word in ("positive", "negative")
    }


def _listed(items: Sequence[str], most: int = 3) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def _duplicates(facts: Mapping[str, Any]) -> Iterator[str]:
    if facts.get("across_splits"):
        yield (
            f"{facts['across_splits']:,} groups of duplicate films lie in both splits, so "
            "the holdout contains training films"
        )


def _refused(sources: Sources) -> Iterator[str]:
    for key, source in sources.items():
        refused = source.get("intensity", {}).get("refused", {})
        looked_at = sum(refused.values()) + source.get("intensity", {}).get("films", 0)
        if sum(refused.values()) >= _REFUSED_FROM * max(looked_at, 1):
            common = max(refused, key=lambda reason: refused[reason])
            yield (
                f"{key}: {sum(refused.values()):,} of {looked_at:,} films looked at "
                f"cannot be read, most often: {common}"
            )


def _equalised(sources: Sources) -> Iterator[str]:
    apart = ", and the others' are not: the look gives the source away" if len(sources) > 1 else ""
    for key, source in sources.items():
        unevenness = source.get("intensity", {}).get("unevenness")
        native = source.get("native", {})
        if native.get("equalised"):
            yield (
                f"{key}: {native['equalised']:,} of {native['films']:,} films were "
                f"histogram-equalised by the release{apart}"
            )
        elif unevenness is not None and unevenness < FLAT_BELOW:
            yield (
                f"{key}: the films look histogram-equalised (all greys are about as frequent: "
                f"unevenness {unevenness:.2f}){apart}"
            )
        elif "native" not in source and source["release"]["equalised"]:
            yield (
                f"{key}: {_listed(source['release']['equalised'])} films of this release are histogram-equalised{apart}"
            )


def _squashed(sources: Sources) -> Iterator[str]:
    squashed = [key for key, source in sources.items() if source["release"]["squashed"]]
    true = [key for key in sources if key not in squashed]
    if squashed and true:
        yield (
            f"{_listed(squashed)}: oblong films were squashed to squares by the release, "
            "and are pooled with films of true aspect "
            f"({_listed(true)}); prepare --aspect restore undoes it"
        )


def _annotation(sources: Sources) -> Iterator[str]:
    by = {
        name: [key for key, source in sources.items() if annotated(source["kept"]["findings"][name])]
        for name in FINDINGS
    }
    if sources and not any(by.values()):
        yield "no finding is annotated, so none can be requested"
    if len(sources) < 2:
        return
    for key in sources:
        alone = [name for name, keys in by.items() if keys == [key]]
        if alone:
            yield (
                f"only {key} annotates {_listed(alone, 5)}: requesting "
                f"{'it' if len(alone) == 1 else 'them'} gives the hospital away"
            )


def _association(finding: str, counts: Mapping[str, Mapping[str, int]]) -> tuple[float, str] | None:
    """Return the total variation between positive and negative films, and a description; None below
    PREDICTS_FROM."""
    positive, negative = counts["positive"], counts["negative"]
    num_positive, num_negative = sum(positive.values()), sum(negative.values())
    distance = total_variation(positive, negative)
    if min(num_positive, num_negative) < _MIN_FILMS or distance < PREDICTS_FROM:
        return None
    shares = {
        name: (positive.get(name, 0) / num_positive, negative.get(name, 0) / num_negative)
        for name in sorted({*positive, *negative})
    }
    name, (one, other) = max(shares.items(), key=lambda item: item[1][0] - item[1][1])
    return distance, (
        f"{finding} ({name}: {one:.0%} of {num_positive:,} positive, {other:.0%} of {num_negative:,} negative)"
    )


def _strongest(found: Iterable[tuple[float, str] | None]) -> str:
    return _listed([text for _, text in sorted(filter(None, found), key=lambda pair: -pair[0])])


def _view_predicts(sources: Sources) -> Iterator[str]:
    for key, source in sources.items():
        listed = _strongest(_association(finding, counts) for finding, counts in source["views_by_finding"].items())
        if listed:
            yield f"{key}: the view predicts {listed}"


def _source_predicts(sources: Sources) -> Iterator[str]:
    listed = _strongest(_association(finding, source_counts(sources, finding)) for finding in FINDINGS)
    if listed:
        yield f"the source predicts {listed}"


def _uncertain(sources: Sources) -> Iterator[str]:
    for key, source in sources.items():
        states = source["kept"]["findings"].items()
        unsure = [
            f"{name} ({count['uncertain']:,} against {count['positive']:,})"
            for name, count in states
            if count["uncertain"] > count["positive"]
        ]
        if unsure:
            yield f"{key}: more uncertain than positive films of {_listed(unsure)}"


def _unknown(sources: Sources) -> Iterator[str]:
    for key, source in sources.items():
        kept = source["kept"]
        shares = {
            word: kept[field].get("unknown", 0) / kept["films"]
            for word, field in (("view", "views"), ("sex", "sexes"), ("age", "ages"))
        }
        many = [f"{word} in {share:.0%}" for word, share in shares.items() if share >= _UNKNOWN_FROM]
        if many:
            yield f"{key}: unknown {', '.join(many)} of the films"


def _patients(sources: Sources) -> Iterator[str]:
    alone = [
        key for key, source in sources.items() if source["kept"]["patients"] == source["kept"]["films"] >= _MIN_FILMS
    ]
    if alone:
        yield (
            f"{_listed(alone, 6)}: no patient has two films; if there are no patient ids, no split keeps patients apart"
        )


def _splits(sources: Sources) -> Iterator[str]:
    if sources and not any(source["kept"]["splits"].get("holdout") for source in sources.values()):
        yield "no film is held out, so there is nothing to score a network on"


_CHECKS = (
    _refused, _squashed, _equalised, _splits, _patients, _annotation, _source_predicts, _view_predicts, _uncertain,
    _unknown,
)  # fmt: skip
