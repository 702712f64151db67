"""The phrases of reports (`report_phrases.json`), and where they stand in a sentence: the longest one at each word.

In a phrase `a|b` is either word, `a?` may be missing, `a*` begins a word and `<set>` is any of a set. Hyphens and line
breaks are spaces.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any

PHRASES: dict[str, Any] = json.loads((files("thiscxr.collections") / "report_phrases.json").read_text(encoding="utf-8"))

_TOKEN = re.compile(
    r"(?:[rh]/o|s/p|w/o|c/w|f/u)\b|and/or\b|[^\W_]+(?:'[a-z]+)?|(?<=\s)-{1,2}(?=\s)|[?/,;:()&.\u2013\u2014]"
)
_PUNCTUATION = {
    ",": "comma", "and": "and", "&": "and", "plus": "and", "or": "or", "nor": "or", "and/or": "or", "/": "or",
    ":": "colon", "-": "colon", "--": "colon", "\u2013": "colon", "\u2014": "colon", "(": "stop",
    ".": "dot",
}  # fmt: skip
_LINKS = ("comma", "and", "or")
_LONG_WORD = 7  # letters of a word of the vocabulary; in shorter ones a slip makes another word
_TWO_SLIPS = 11  # letters of one that is known with two slips
_SAME_LENGTH = str.maketrans("\u2018\u2019\u2010\u2011", "''--")


@dataclass(slots=True)
class _Node:
    """What may come next in the phrases that have begun; `kinds` and `names` where one of them ends."""

    words: dict[str, list["_Node"]] = field(default_factory=dict)
    stems: list[tuple[str, "_Node"]] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)

    def after(self, word: str) -> list["_Node"]:
        nodes = self.words.get(word, [])
        return nodes if not self.stems else nodes + [node for stem, node in self.stems if word.startswith(stem)]


@dataclass(frozen=True, slots=True)
class Item:
    """A phrase in a text: what it may be, the findings or organs that it names, and where it stands, [start, end) in
    characters."""

    kinds: frozenset[str]
    names: frozenset[str]
    start: int
    end: int


def cue_of(item: Item, side: str) -> str:
    """Return what a phrase before (or after) a finding does to it: asked, uncertain, absent, removed, or "" for
    nothing."""
    return next((kind for kind in ("asked", "uncertain", "absent", "removed") if f"{side} {kind}" in item.kinds), "")


def link_of(found: Sequence[Item], at: int) -> str:
    """Return comma, and, or, "" of an item; of several in a row ("," and "or") the word."""
    return next((link for link in reversed(_LINKS) if link in found[at].kinds), "")


def _plant(root: _Node, phrase: str, kind: str, name: str) -> None:
    ends = [root]
    for slot in phrase.split():
        missing = slot.endswith("?") and slot != "?"
        slot = slot.removesuffix("?") if missing else slot
        words = "|".join(
            PHRASES["sets"].get(word.strip("<>"), word) if word.startswith("<") else word for word in slot.split("|")
        )
        child = _Node()
        for node in ends:
            for word in words.split("|"):
                if word.endswith("*") and word != "*":
                    node.stems.append((word[:-1], child))
                else:
                    node.words.setdefault(word, []).append(child)
        ends = [*ends, child] if missing else [child]
    for node in ends:
        node.kinds.add(kind)
        node.names.add(name)


def _grow() -> _Node:
    root = _Node()
    for group in ("findings", "organs", "before", "after"):
        for name, phrases in PHRASES[group].items():
            kind = {"findings": "finding", "organs": "organ"}.get(group, f"{group} {name}")
            for phrase in phrases:
                _plant(root, phrase, kind, name if kind in ("finding", "organ") else "")
    for kind, phrases in PHRASES.items():
        if isinstance(phrases, list) and kind != "misspelt":
            for phrase in phrases:
                _plant(root, phrase, kind, "")
    for phrase in PHRASES["one"]:
        _plant(root, phrase, "degree", "")  # "no effusion on the right and a small one on the left" begins a clause
    for phrase in PHRASES["versus"]:
        _plant(root, phrase, "or", "")
    for phrase in PHRASES["normal_chest"]:
        if phrase.startswith(("no|", "negative for")):
            _plant(root, phrase, "before absent", "")  # "no acute process or effusion"
    return root


_ROOT = _grow()


@lru_cache(maxsize=2**14)
def _first(word: str) -> tuple[_Node, ...]:
    return tuple(_ROOT.after(word))


@lru_cache(maxsize=2**14)
def _spelled(word: str) -> str:
    """Return the word of the vocabulary that a long word with a slip (a letter too many, missing, wrong, or two
    swapped), a very long one with two, means."""
    if len(word) < _LONG_WORD - 1 or _first(word) or not word.isascii():
        return word
    return next(
        (right for right in PHRASES["misspelt"] if right[0] == word[0] and _slipped(word, right, _slips(right))), word
    )


def _slips(right: str) -> int:
    return 0 if len(right) < _LONG_WORD else 1 if len(right) < _TWO_SLIPS else 2


def _slipped(word: str, right: str, slips: int) -> bool:
    """Whether a word is another one but for so many slips at the most."""
    if abs(len(word) - len(right)) > slips:
        return False
    at = next((i for i, (a, b) in enumerate(zip(word, right, strict=False)) if a != b), min(len(word), len(right)))
    word, right = word[at:], right[at:]
    if not slips or not word or not right:
        return len(word) <= slips and len(right) <= slips
    swapped = word[:2] == right[1::-1] and _slipped(word[2:], right[2:], slips - 1)
    return swapped or any(
        _slipped(a, b, slips - 1) for a, b in ((word[1:], right[1:]), (word, right[1:]), (word[1:], right))
    )


def plain(text: str) -> str:
    """Return the text in lower case with plain quotes and hyphens, character by character, so that positions stay."""
    lower = text.lower()
    if len(lower) != len(text):
        lower = "".join(low if len(low := letter.lower()) == 1 else letter for letter in text)
    return lower.translate(_SAME_LENGTH)


def items(text: str, start: int, end: int) -> list[Item]:
    """Return the phrases in text[start:end], which is `plain`, in their order; words that are in none are left out."""
    places = [match.span() for match in _TOKEN.finditer(text, start, end)]
    words = [*(_spelled(text[a:b]) for a, b in places), "."]  # every sentence ends, whether it says so or not
    return list(_items(words, [*places, (end, end)]))


_NOTHING: tuple[int, frozenset[str], frozenset[str]] = (0, frozenset(), frozenset())


def _items(words: Sequence[str], places: Sequence[tuple[int, int]]) -> Iterator[Item]:
    i = 0
    while i < len(words):
        length, kinds, names = _longest(words, i) if _first(words[i]) else _NOTHING  # most words begin no phrase
        mark = _PUNCTUATION.get(words[i]) if length <= 1 else None
        if mark:
            kinds, length = kinds | {mark}, 1
        if kinds:
            yield Item(kinds, names, places[i][0], places[i + length - 1][1])
        i += max(length, 1)


def _longest(words: Sequence[str], i: int) -> tuple[int, frozenset[str], frozenset[str]]:
    """Return (words, kinds, names) of the longest phrase that begins at word i; no words where none does."""
    nodes: Sequence[_Node] = _first(words[i])
    best, at = None, i
    while nodes:
        ends = [node for node in nodes if node.kinds]
        if ends:
            best = (at - i + 1, ends)
        at += 1
        if at == len(words):
            break
        word = words[at]
        nodes = [following for node in nodes for following in node.after(word)]
    if best is None:
        return _NOTHING
    return (
        best[0],
        frozenset().union(*(node.kinds for node in best[1])),
        frozenset().union(*(node.names for node in best[1])) - {""},
    )
