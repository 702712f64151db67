"""A report as text: can it be read at all, which of its sections describe the film, and where its sentences end."""

import re
from collections.abc import Iterator

from thiscxr.collections.report_lexicon import PHRASES

_SMALL = PHRASES["small_words"]
_ENGLISH, _OTHERS = frozenset(_SMALL["english"]), frozenset(_SMALL["others"])
_FIRST, _SKIP, _READ, _LAST = (frozenset(PHRASES["sections"][name]) for name in ("first", "skip", "read", "last"))
_WORD = re.compile(r"[^\W\d_]+")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufffd]")
_PLAIN_LETTERS = 0.7  # of the letters of a report in English, at the least, are a to z
# A heading: a few words and a colon, at the start of a line or after a sentence, or anywhere in capitals; or one word
# alone in a line.
_HEADING = re.compile(
    r"(?:(?:(?:^|\n)[ \t]{0,40}[*#]{0,3} ?|(?<=[.:;)\]*]\s)|(?<=\s\s))"
    r"(?P<line>[A-Za-z][A-Za-z ,/&()'-]{2,60}?|[A-Z][A-Z0-9_ ,/&()'-]{2,70}?)|"
    r"(?<![A-Za-z])(?P<capitals>[A-Z][A-Z /&]{3,40}))[ \t]{0,8}:(?!\d)|"
    r"(?:^|\n)[ \t*#]{0,40}(?P<alone>[A-Z][A-Za-z /&]{4,40})[ \t*\r]{0,40}(?=\n)"
)
_BLANK = re.compile(r"\n[ \t]*\n")
_ALONE = _FIRST | {"indication", "history", "comparison", "technique", "examination"}
_SENTENCE = re.compile(
    r"(?<=\S[.!?])(?<!\b\d\.)(?<!\b[Dd]r\.)(?<!\b[Vv][Ss]\.)(?<!\be\.g\.)(?<!\bi\.e\.)(?<!approx\.)[\"')\]]*\s+(?=[\w(\"'/-])"
    r"|(?<=[a-z)])\.(?=[A-Z][a-z])|\n\s*\n|\n\s*(?=(?:\d+|[a-z])[.)]\s|[-*\u2022\u2013]\s)|\s(?=\d[.)]\s+[A-Z])|;|\u2022|(?<!:)//|\n"
)
_LIST_LINE = 50  # a line as short as this, before one that begins in capitals, was not broken for want of room
_GOES_ON = re.compile(
    r"(?:[,\-/(:]|\b(?:of|the|a|an|no|not|and|or|with|without|in|to|for|is|are|was|at|on|by|as|from|left|right|new"
    r"|may|be)(?<!: no))\s*$",
    re.IGNORECASE,
)
_NEW_LINE = re.compile(r"\n\s*[A-Z][\w']*\s")
_CARRIES_ON = re.compile(
    r"\n\s*(?:or|and|nor|with|without|in|of|on|at|to|is|are|was|which|that|for|from|by|but|as)\b", re.IGNORECASE
)


def why_unread(text: str) -> str:
    """Return why a report cannot be read ("empty", "not text" or "not in English"), or "". Its small words give the
    language."""
    if not text.strip():
        return "empty"
    if _CONTROL.search(text):
        return "not text"
    words = [word.lower() for word in _WORD.findall(text)]
    letters = "".join(words)
    if not letters:
        return "not text"
    if sum(letter.isascii() for letter in letters) < _PLAIN_LETTERS * len(letters):
        return "not in English"
    foreign, english = (sum(word in names for word in words) for names in (_OTHERS, _ENGLISH))
    return "not in English" if foreign > english else ""


def _kind(heading: str) -> str:
    """Return "read", "skip" or "" (no heading, but the words before some other colon)."""
    words = {word.lower() for word in _WORD.findall(heading)}
    if words & _FIRST:
        return "read"
    if words & _SKIP:
        return "skip"
    return "read" if words & _READ else "skip" if words & _LAST else ""


def read_sections(text: str) -> list[tuple[int, int]]:
    """Return the parts of a report that describe the film, [start, end) in characters.

    All but what stands under a heading about the patient or about other films (indication, history, comparison,
    technique, …), as far as the end of its paragraph; without any paragraph, and where no heading follows that is read,
    as far as the end of its sentence.
    """
    marks = [
        (mark.start(), mark.end(), kind)
        for mark in _HEADING.finditer(text)
        if (kind := _kind(mark["line"] or mark["capitals"] or mark["alone"]))
        and (mark["alone"] is None or mark["alone"].strip().lower() in _ALONE)
    ]
    parts = [(0, marks[0][0] if marks else len(text))]
    told = any(kind == "read" for _, _, kind in marks)
    for number, (start, end, kind) in enumerate(marks):
        following = marks[number + 1][0] if number + 1 < len(marks) else len(text)
        if kind == "read":
            parts.append((start, following))
            continue
        # a heading and its text may be apart by a blank line
        first = len(text[end:following]) - len(text[end:following].lstrip())
        if blank := _BLANK.search(text, end + first, following):
            parts.append((blank.end(), following))
        elif not told and following == len(text):
            parts += list(sentences(text, end, following))[1:]
    return [(start, end) for start, end in parts if text[start:end].strip()]


def sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the sentences of text[start:end] as [start, end)."""
    here = start
    for gap in _SENTENCE.finditer(text, start, end):
        if gap[0] == "\n" and not _is_list_line(text, here, gap.start()):
            continue
        if text[here : gap.start()].strip():
            yield here, gap.start()
        here = gap.end()
    if text[here:end].strip():
        yield here, end


def _is_list_line(text: str, start: int, newline: int) -> bool:
    """Whether a sentence ends with a line that has no full stop: a short one, before another that begins in
    capitals."""
    line = text[max(start, text.rfind("\n", 0, newline) + 1) : newline]
    begins = (_NEW_LINE.match(text, newline) is not None or "." not in text) and not _CARRIES_ON.match(text, newline)
    return len(line.strip()) < _LIST_LINE and begins and not _GOES_ON.search(line)
