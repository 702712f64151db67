"""From a report to a request: the condition that it describes, what it leaves open, and the words that are not
understood."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from thiscxr.collections.report_lexicon import PHRASES
from thiscxr.collections.report_text import read_sections, why_unread
from thiscxr.collections.reports import ReportLabels, Span, label_report
from thiscxr.labels import NEGATIVE, NO_FINDING, POSITIVE, UNCERTAIN
from thiscxr.model.conditions import Condition, Vocabulary
from thiscxr.sample.sampling import request
from thiscxr.words import read_age

# "AP window" and "PA catheter" are no projections; two views are one frontal film and another
_FRONTAL = re.compile(
    r"\b(?:AP|PA|[Aa]nteroposterior|[Pp]osteroanterior)\b(?!\s+(?:window|catheter|line|pressure))"
    r"|\b(?:ap|pa)(?= (?:view|chest|film))"
)
_SUPINE = re.compile(r"\bsupine\b", re.IGNORECASE)
_PORTABLE = re.compile(r"\bportable\b", re.IGNORECASE)
_LATERAL = re.compile(r"\blateral(?= (?:view|film|chest|radiograph|projection))", re.IGNORECASE)
_MAN = re.compile(r"\b(?:man|male|gentleman|boy)\b|(?<=\d)\s?M\b", re.IGNORECASE)
_WOMAN = re.compile(r"\b(?:woman|female|lady|girl)\b|(?<=\d)\s?F\b", re.IGNORECASE)
_AGE = re.compile(r"\b(?P<age>\d{1,3})(?:[\s-]*(?:years?|yrs?|y/?o)(?:[\s-]*old)?\b|(?=[MF]\b))", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")
_SILENT = frozenset(PHRASES["small_words"]["silent"])  # they only hold the others together


@dataclass(frozen=True)
class Request:
    """What a report requests. Of its text only the words in `not_understood` are kept, for whoever wrote it."""

    condition: Condition
    uncertain: tuple[str, ...]  # findings that it leaves open: not requested
    never_learnt: tuple[str, ...]  # findings that it denies and the network never learnt
    not_understood: tuple[str, ...]  # words, in their order

    def __str__(self) -> str:
        """The request for a terminal, one line a fact."""
        requested = self.condition
        age = "" if requested.age_years is None else f"{requested.age_years:g}"
        findings = {"present": ", ".join(requested.present), "absent": ", ".join(requested.absent)}
        facts = {"view": requested.view, "sex": requested.sex, "age": age, **findings}
        said = "; ".join(f"{name} {value}" for name, value in facts.items() if value)
        lines = [f"requested: {said}"]
        lines += [f"uncertain in the report, not requested: {', '.join(self.uncertain)}"] if self.uncertain else []
        lines += (
            [f"absent in the report, not learnt by the network: {', '.join(self.never_learnt)}"]
            if self.never_learnt
            else []
        )
        return "\n".join([*lines, f"not understood: {', '.join(self.not_understood) or 'nothing'}"])


def read_request(text: str, vocabulary: Vocabulary) -> Request:
    """Return what a report in English requests of a network with this vocabulary.

    Raises ValueError, naming what the network knows, when the text is no report, when it states a finding or view that
    was never learnt, and when it says nothing that could be requested.
    """
    if why := why_unread(text):
        raise ValueError(f"--report is {why}; expected the text of a report in English")
    labels = label_report(text)
    known = (
        f"it knows: {', '.join(vocabulary.findings) or 'no findings'}; views {', '.join(vocabulary.views) or 'none'}"
    )
    present, absent, never = _findings(labels, vocabulary)
    if strange := next((names for names in present if not names[1]), None):
        raise ValueError(
            f"the report says {' or '.join(strange[0])}, which this network never "
            f"learnt; leave it out of the report; {known}"
        )
    view, sex, age, said = _circumstances(text)
    findings = [name for _, names in present for name in names]
    condition = request(view=view, sex=sex, age_years=age, findings=findings, no_findings=absent)
    if condition == Condition():
        raise ValueError(f"the report says nothing that could be requested of this network; {known}")
    vocabulary.encode([condition])
    uncertain = tuple(name for name, state in labels.states.items() if state == UNCERTAIN)
    covered = [*said, *((span.start, span.end) for span in labels.mentions)]
    covered += [(span.phrase_start, span.phrase_start + len(span.phrase)) for span in labels.mentions]
    return Request(condition, uncertain, never, tuple(dict.fromkeys(_left(text, covered))))


def _findings(
    labels: ReportLabels, vocabulary: Vocabulary
) -> tuple[list[tuple[list[str], list[str]]], list[str], tuple[str, ...]]:
    """Return (for each positive mention: all findings that it names, those known), absent ones, absent ones never
    learnt.

    One word may name several findings ("mass" is a Mass and a Lung_Lesion): it is enough that the network knows one.
    """
    places: dict[tuple[int, int], list[Span]] = {}
    for span in labels.spans:
        if span.state == POSITIVE and labels.states[span.finding] == POSITIVE:
            places.setdefault((span.start, span.end), []).append(span)
    named = [list(dict.fromkeys(span.finding for span in spans)) for spans in places.values()]
    present = [
        (names, [name for name in names if name in vocabulary.findings]) for names in named if names != [NO_FINDING]
    ]
    if labels.states[NO_FINDING] == POSITIVE and [NO_FINDING] in named and NO_FINDING in vocabulary.findings:
        present.append(([NO_FINDING], [NO_FINDING]))
    denied = [name for name, state in labels.states.items() if state == NEGATIVE]
    absent = [name for name in denied if name in vocabulary.findings]
    return present, absent, tuple(name for name in denied if name not in absent)


def _circumstances(text: str) -> tuple[str | None, str | None, float | None, list[tuple[int, int]]]:
    """Return (view, sex, age in years, where they are said); a fact that is contradicted is left out."""
    frontal, lateral, supine = _FRONTAL.search(text), _LATERAL.search(text), _SUPINE.search(text)
    man, woman, age = _MAN.search(text), _WOMAN.search(text), _AGE.search(text)
    view = None if frontal is None else "PA" if frontal[0].lower().startswith("p") else "AP"
    if view is None and lateral is not None:
        view = "lateral"
    elif supine is not None and view != "PA":
        view = "AP_supine"
    sex = None if bool(man) == bool(woman) else "M" if man else "F"
    years = None if age is None else read_age(age["age"])
    shown = [frontal, supine if view == "AP_supine" else None, lateral if view == "lateral" else None]
    shown += [man or woman if sex else None, age if years is not None else None]
    portable = _PORTABLE.search(text) if view in ("AP", "AP_supine") else None
    return view, sex, years, [match.span() for match in [*shown, portable] if match is not None]


def _left(text: str, covered: list[tuple[int, int]]) -> Iterator[str]:
    for start, end in read_sections(text):
        for word in _WORD.finditer(text, start, end):
            inside = any(a <= word.start() < b for a, b in covered)
            if not inside and word[0].lower() not in _SILENT:
                yield word[0].lower()
