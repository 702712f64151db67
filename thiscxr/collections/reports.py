"""Free-text reports of chest films to states of the findings, by phrases and the words around them.

The phrases are data (`report_phrases.json`), the rules are here: which sections count, where a sentence ends, and how far a negation, a
doubt or a question reaches. After NegEx (Chapman et al. 2001, doi:10.1006/jbin.2001.1029), ConText (Harkema et al. 2009,
doi:10.1016/j.jbi.2009.05.002), NegBio (Peng et al. 2018, arXiv:1712.05898) and CheXpert (Irvin et al. 2019, arXiv:1901.07031).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files

from thiscxr.labels import FINDINGS, NEGATIVE, NO_FINDING, NOT_MENTIONED, POSITIVE, SUPPORT_DEVICES, UNCERTAIN

_PHRASES = json.loads((files("thiscxr.collections") / "report_phrases.json").read_text())
_RANK = {POSITIVE: 3, UNCERTAIN: 2, NEGATIVE: 1}  # of several mentions of a finding the most telling one counts (CheXpert, section 3.1)
_ENGLISH, _OTHERS = (frozenset(_PHRASES["small_words"][name]) for name in ("english", "others"))
_WORD = re.compile(r"[^\W\d_]+")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_PLAIN_LETTERS = 0.7  # of the letters of a report in English, at the least, are a to z
_NEAR = 60  # characters between the two findings of "atelectasis or pneumonia"


@dataclass(frozen=True, slots=True)
class Span:
    """The words that decided: characters [start, end) of the report name the finding, and `phrase` with `rule` gave its state."""

    finding: str
    state: int
    start: int
    end: int
    phrase: str  # the cue, or the finding's own words where there was none
    rule: str  # mention, negation, uncertainty, alternative, normality or normal chest


@dataclass(frozen=True, slots=True)
class ReportLabels:
    """What a report says: a state for each of FINDINGS, and the spans that decided."""

    states: Mapping[str, int]
    spans: tuple[Span, ...]


def _compiled(patterns: Iterable[str], flags: int = re.IGNORECASE) -> re.Pattern[str]:
    """Return one pattern of all: the longest first, between word borders, any white space for a space."""
    ordered = sorted(patterns, key=len, reverse=True)
    return re.compile(r"(?<!\w)(?:" + "|".join(ordered).replace(" ", r"\s+") + r")(?!\w)", flags)


_FINDINGS = {name: _compiled(patterns) for name, patterns in _PHRASES["findings"].items()}
_NORMAL = {name: _compiled(patterns) for name, patterns in _PHRASES["normal"].items()}
_NORMAL_CHEST = _compiled(_PHRASES["normal_chest"])
_LOOK_ALIKES = _compiled(_PHRASES["look_alikes"])
_STOP = _compiled([*_PHRASES["stop"], r";|:|\.\s"])
_VERB = _compiled(_PHRASES["verbs"])
_NEW_CLAUSE = re.compile(rf"(?:,|\band)\s+(?:{'|'.join(_PHRASES['new_clause'])})\b", re.IGNORECASE)
# One pattern for all words before a finding, so that the longest one wins ("not excluded" is no "not"); the name tells the kind.
_BEFORE = re.compile(
    r"(?<!\w)(?:"
    + "|".join(
        f"(?P<{kind}>{'|'.join(sorted(patterns, key=len, reverse=True))})".replace(" ", r"\s+")
        for kind, patterns in (
            ("pseudo", _PHRASES["not_negation"]),
            ("hypothesis", _PHRASES["before"]["hypothesis"]),
            ("uncertain", _PHRASES["before"]["uncertain"]),
            ("absent", _PHRASES["before"]["absent"]),
        )
    )
    + r")(?!\w)",
    re.IGNORECASE,
)
_AFTER = {
    kind: re.compile("(?:" + "|".join(sorted(patterns, key=len, reverse=True)).replace(" ", r"\s+") + r")(?!\w)", re.IGNORECASE)
    for kind, patterns in _PHRASES["after"].items()
    if patterns
}
_HEADING = re.compile(
    r"(?:(?<=\n)|^|(?<=[.:]\s)|(?<=\s\s))[ \t]*(?:FINAL\s+REPORT\s+)?"
    rf"(?:(?P<read>{'|'.join(_PHRASES['sections']['read'])})|(?P<skip>{'|'.join(_PHRASES['sections']['skip'])}))"
    r"(?:\s*(?:and|/|&)\s*\w+)?\s*(?:\([^)\n]*\))?\s*:".replace(" ", r"\s+"),
    re.IGNORECASE,
)
_BARE_HEADING = re.compile(
    r"^[ \t]*(?:(?P<read>FINDINGS|IMPRESSION|CONCLUSION)|(?P<skip>INDICATION|HISTORY|COMPARISON|TECHNIQUE))[ \t]*$", re.MULTILINE
)
_SENTENCE = re.compile(r"(?<=[.!?])(?<!\b\d\.)(?<!\bDr\.)(?<!\bvs\.)\s+(?=[\w(])|\n\s*\n|\n\s*(?=\d+[.)]\s|[-*•]\s)|;")
_ALTERNATIVE_AFTER = re.compile(r"^[\w\s-]{0,25}?\b(?:(?:and/)?or|versus|vs\.?)\s")
_ALTERNATIVE_BEFORE = re.compile(r"(?<!\w)(?:(?:and/)?or|versus|vs\.?)\s+(?:[\w-]+\s+){0,4}$")
_COLON = re.compile(r"\s*:\s*(none|no|nil|negative|absent)\b", re.IGNORECASE)
_LIST_ENDS = re.compile(r"[^.;:]{0,60}?,?\s(?:or|nor)\s")
_NEARLY = re.compile(r"\b(?:near|nearly|almost|partial|partially|incompletely|largely|mostly|substantially)\b", re.IGNORECASE)
_NOT_WITHIN = re.compile(r"\b(?:not|no longer)\b", re.IGNORECASE)


def why_unread(text: str) -> str:
    """Return why a report cannot be read ("empty", "not text" or "not in English"), or "". A language is told by its small words."""
    if not text.strip():
        return "empty"
    if _CONTROL.search(text):
        return "not text"
    words = [word.lower() for word in _WORD.findall(text)]
    letters = "".join(words)
    if sum(letter.isascii() for letter in letters) < _PLAIN_LETTERS * len(letters):
        return "not in English"
    foreign, english = (sum(word in names for word in words) for names in (_OTHERS, _ENGLISH))
    return "not in English" if foreign > english else ""


def read_sections(text: str) -> list[tuple[int, int]]:
    """Return the parts of a report that describe the film, [start, end) in characters.

    Findings and impression where there are such headings; else what stands under no heading, also after the paragraph of one that tells
    of the patient or of older films (indication, history, comparison, technique, …), which is never read.
    """
    marks = sorted([*_HEADING.finditer(text), *_BARE_HEADING.finditer(text)], key=lambda mark: mark.start())
    parts: list[tuple[int, int]] = []
    named = any(mark["read"] for mark in marks)
    if not named:
        parts.append((0, marks[0].start() if marks else len(text)))
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    for mark, following in zip(marks, ends, strict=False):
        if mark["read"]:
            parts.append((mark.end(), following))
        elif not named and (blank := re.compile(r"\n[ \t]*\n").search(text, mark.end(), following)):
            parts.append((blank.end(), following))
    return [(start, end) for start, end in parts if start < end]


def sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the sentences of text[start:end] as [start, end)."""
    here = start
    for gap in _SENTENCE.finditer(text, start, end):
        if text[here : gap.start()].strip():
            yield here, gap.start()
        here = gap.end()
    if text[here:end].strip():
        yield here, end


def label_report(text: str) -> ReportLabels:
    """Return the states of all findings in a report in English: 1 present, 0 absent, -1 uncertain, -2 not mentioned.

    "No Finding" is 1 where the report looked for findings, or calls the chest normal, and leaves none but support devices; it is never 0.
    """
    spans: list[Span] = []
    for part in read_sections(text):
        for start, end in sentences(text, *part):
            spans += _read_sentence(text[start:end], start)
    states = dict.fromkeys(FINDINGS, NOT_MENTIONED)
    for span in spans:
        if _RANK[span.state] > _RANK.get(states[span.finding], 0):
            states[span.finding] = span.state
    if any(state in (POSITIVE, UNCERTAIN) for name, state in states.items() if name not in (NO_FINDING, SUPPORT_DEVICES)):
        states[NO_FINDING] = NOT_MENTIONED
    elif states[NO_FINDING] == NOT_MENTIONED and any(states[n] == NEGATIVE for n in FINDINGS if n != SUPPORT_DEVICES):
        states[NO_FINDING] = POSITIVE
    return ReportLabels(states, tuple(span for span in spans if states[span.finding] == span.state))


def _read_sentence(sentence: str, offset: int) -> Iterator[Span]:
    others = [match.span() for match in _LOOK_ALIKES.finditer(sentence)]
    mentions = sorted(
        (match.start(), match.end(), name)
        for name, pattern in _FINDINGS.items()
        for match in pattern.finditer(sentence)
        if not any(match.start() < end and start < match.end() for start, end in others)
    )
    normal = [(match, name) for name, pattern in _NORMAL.items() for match in pattern.finditer(sentence)]
    for match, name in normal:
        if not _NOT_WITHIN.search(match[0]):
            yield Span(name, NEGATIVE, offset + match.start(), offset + match.end(), match[0], "normality")
    for start, end, name in mentions:
        if any(match.start() <= start < match.end() and of == name for match, of in normal):
            continue
        if (decided := _decide(sentence, start, end, mentions)) is not None:
            state, phrase, rule = decided
            yield Span(name, state, offset + start, offset + end, phrase, rule)
    if (whole := _NORMAL_CHEST.search(sentence)) and not mentions:
        yield Span(NO_FINDING, POSITIVE, offset + whole.start(), offset + whole.end(), whole[0], "normal chest")


def _decide(sentence: str, start: int, end: int, mentions: list[tuple[int, int, str]]) -> tuple[int, str, str] | None:
    """Return (state, phrase, rule) of a finding named at [start, end) of a sentence; None where it is only asked about."""
    if within := _NOT_WITHIN.search(sentence, start, end):
        return NEGATIVE, within[0], "negation"
    cues = [
        cue
        for cue in _BEFORE.finditer(sentence, 0, start)
        if cue.lastgroup != "pseudo" and _reaches(sentence[cue.end() : start], sentence[end:])
    ]
    kinds = {cue.lastgroup: cue for cue in cues}
    if "hypothesis" in kinds:
        return None
    if found := _COLON.match(sentence, end):
        return NEGATIVE, found[1], "negation"
    after = _following(sentence, end)
    if "uncertain" in kinds and (cue := kinds.get("absent")) and cue.start() > kinds["uncertain"].start():
        return UNCERTAIN, kinds["uncertain"][0], "uncertainty"
    if cue := kinds.get("absent"):
        return NEGATIVE, cue[0], "negation"
    for kind, state, rule in (("uncertain", UNCERTAIN, "uncertainty"), ("absent", NEGATIVE, "negation")):
        if (found := _AFTER[kind].search(after)) and not _VERB.search(after[: found.start()]) and not _NEARLY.search(found[0]):
            return state, found[0].strip(), rule
    if cue := kinds.get("uncertain"):
        return UNCERTAIN, cue[0], "uncertainty"
    near = [m for m in mentions if m[:2] != (start, end)]
    if (found := _ALTERNATIVE_AFTER.search(sentence[end:])) and any(end + found.end() <= s < end + _NEAR for s, _, _ in near):
        return UNCERTAIN, found[0].strip(), "alternative"
    found = _ALTERNATIVE_BEFORE.search(sentence[:start])
    if found and _reaches(found[0]) and any(start - _NEAR < e <= found.start() for _, e, _ in near):
        return UNCERTAIN, found[0].strip(), "alternative"
    return POSITIVE, sentence[start:end], "mention"


def _reaches(between: str, following: str = "") -> bool:
    """Whether a word before a finding still speaks of it, over the words between them.

    "No pneumothorax, small effusion" is two statements; "no consolidation, large effusion, or pneumothorax" is one list.
    """
    if _STOP.search(between) or _VERB.search(between):
        return False
    return not _NEW_CLAUSE.search(between) or _LIST_ENDS.match(following) is not None


def _following(sentence: str, end: int) -> str:
    """Return what follows a finding and may still speak of it: up to the next clause."""
    after = sentence[end:]
    if stop := _STOP.search(after):
        after = after[: stop.start()]
    if clause := _NEW_CLAUSE.search(after):
        after = after[: clause.start()]
    return after
