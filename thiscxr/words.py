"""From what people write in tables and headers to the vocabulary of `labels`, in one place for every collection.

Each `read_*` takes any text and returns None for what it does not understand, so that whoever reads a table can count
it; it never raises.
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from thiscxr.labels import NEGATIVE, NOT_ANNOTATED, NOT_MENTIONED, POSITIVE, STATES, UNCERTAIN

MAX_AGE = 120  # years; the oldest release of NIH's headers says 148 and more of some
DAYS_PER_YEAR = 365.25


def _by_word(words: Mapping[str, str]) -> dict[str, str]:
    return {word: meaning for meaning, some in words.items() for word in some.split()}


_MISSING = _by_word(
    {"": ("nan na n/a n.a. #n/a <na> nat none null nil - -- --- . ? ?? missing unknown unk undefined unspecified")}
) | {f"not {word}": "" for word in ("available", "known", "specified", "recorded")}
_SEXES = _by_word(
    {
        "M": "m male man men boy masculine masculino masculin maschio männlich mann homme hombre 男 男性",
        "F": (
            "f female woman women girl feminine femenino feminino féminin femminile weiblich w frau femme mujer 女 女性"
        ),
        "unknown": "u o x d other others diverse indeterminate ambiguous",
    }
)
# 51, 51.5, 51,5, 060Y, 18 months, >89, 90+; units as in DICOM (PS3.5 section 6.2, AS) or in words
_AGE = re.compile(r"(?:[>≥]=?)? *([0-9]{1,5}(?:[.,][0-9]+)?)[ +-]*([a-z/]*)[ .-]*(?:old|of age)?")
_UNITS = _by_word(
    {
        "y": "y yr yrs yo y/o year years",
        "m": "m mo mos mth mths month months",
        "w": "w wk wks week weeks",
        "d": "d day days",
    }
)
_PER_YEAR = {"": 1.0, "y": 1.0, "m": 12.0, "w": DAYS_PER_YEAR / 7, "d": DAYS_PER_YEAR}

_PA = re.compile(r"\bp(?:ostero|osterior)? ?a(?:nterior)?\b")
_AP = re.compile(r"\ba(?:ntero|nterior)? ?p(?:osterior)?\b")
_VIEWS = _by_word(
    {
        "PA": "pa",
        "AP": "ap",
        "supine": "supine supino sup horizontal recumbent lying",
        "lateral": "l ll rl lat lateral profile perfil",
        "frontal": "frontal unknown",
        # decubitus (lying on the side, and no lateral), obliques, and films of something else
        "other": (
            "lld rld decubitus decub lao rao lpo rpo llo rlo oblique obl axial lordotic "
            "apical swimmer swimmers costal rib ribs other"
        ),
        # how, and not from where
        "": "view views projection position chest thorax cxr xray x ray film image "
        "radiograph erect upright standing portable mobile"
        " bedside sitting seated semi semierect semiupright left right lt rt r large cross table xtable",
    }
)
_SPLITS = _by_word(
    {"train": "train training", "holdout": ("val valid validate validation dev test testing eval evaluation holdout")}
)
_NUMBER = re.compile(r"([+-]?[0-9])(?:[.,]0*)?")
_STATES = {
    **dict.fromkeys(("positive", "pos", "yes", "y", "true", "t", "present"), POSITIVE),
    **dict.fromkeys(("negative", "neg", "no", "n", "false", "f", "absent"), NEGATIVE),
    **dict.fromkeys(("uncertain", "maybe", "possible", "equivocal"), UNCERTAIN),
    **dict.fromkeys(("not mentioned", "not_mentioned"), NOT_MENTIONED),
    **dict.fromkeys(("not annotated", "not_annotated"), NOT_ANNOTATED),
}
_YEAR = re.compile(r"[0-9]{4}")


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@lru_cache(maxsize=4096)
def is_missing(text: str) -> bool:
    """Return whether a cell says that nothing is known: empty, NaN, N/A, none, ?, - and the like."""
    return not (plain := _plain(text)) or plain in _MISSING


@lru_cache(maxsize=4096)
def read_age(text: str, most: float = MAX_AGE) -> float | None:
    """Return an age from 0 to `most` in years: a bare number is years, 018M are eighteen months."""
    match = _AGE.fullmatch(_plain(text))
    if match is None or (match[2] and match[2] not in _UNITS):
        return None
    age = float(match[1].replace(",", ".")) / _PER_YEAR[_UNITS.get(match[2], "")]
    return age if age <= most else None


def read_year(text: str) -> int | None:
    """Return the year that a date as DICOM writes it (20140915) or a year (1930, 1930.0) begins with, or None."""
    return int(text[:4]) if _YEAR.match(text) else None


@lru_cache(maxsize=4096)
def read_sex(text: str) -> str | None:
    """Return M, F or unknown; what is missing is unknown. 0 and 1 are either, so they are not understood."""
    return "unknown" if is_missing(text) else _SEXES.get(_plain(text))


@lru_cache(maxsize=4096)
def read_view(text: str) -> str | None:
    """Return the view that one or more words name, such as `AP supine`, `L` or `PA view`.

    Frontal alone is unknown, as what is missing is; PA and lateral together is not understood.
    """
    if is_missing(text):
        return "unknown"
    words = " ".join(re.sub(r"[\W_]+", " ", _plain(text)).split())
    said = {_VIEWS.get(word) for word in _AP.sub("ap", _PA.sub("pa", words)).split()} - {""}
    if None in said:
        return None
    if "other" in said:
        return "other"
    if "supine" in said and said <= {"supine", "AP", "frontal"}:
        return "AP_supine"
    if said == {"frontal"}:
        return "unknown"
    said.discard("frontal")
    return said.pop() if len(said) == 1 else None


def read_split(text: str) -> str | None:
    """Return train or holdout: what was published for validation and for testing is held out."""
    return _SPLITS.get(_plain(text))


@lru_cache(maxsize=4096)
def read_state(text: str) -> int | None:
    """Return the state of a finding: 1, 0, -1, -2, -3, also as 1.0, or in a word; what is missing is not mentioned."""
    if is_missing(text):
        return NOT_MENTIONED
    plain = _plain(text)
    if match := _NUMBER.fullmatch(plain):
        return state if (state := int(match[1])) in STATES else None
    return _STATES.get(plain)
