"""Requirements on what a classifier predicts for a film: "cardiomegaly>0.8 and view=PA and age<60".

    where = clause ("and" clause)*        clause = NAME TEST VALUE
    a finding: < <= > >= and a probability from 0 to 1        age: the same and years        view, sex: = != and a value

Names are those that the classifier learnt, in any case, with spaces or underscores. Clauses that contradict each other
are refused.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from thiscxr.files import nearest_name
from thiscxr.labels import FINDINGS
from thiscxr.reader.trust import TrustedReader

_CLAUSE = re.compile(r"\s*([a-z][a-z_ ]*?)\s*(<=|>=|==|!=|<|>|=)\s*([\w.+-]+)\s*", re.IGNORECASE)
_AND = re.compile(r"\sand\s", re.IGNORECASE)
_TEXT = "such as cardiomegaly>0.8, view=PA, sex=F or age<60, joined by and"
LIMITS = {"age": (0.0, 120.0)}  # range of a number; a finding has 0 to 1


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, without these ends where they are open."""

    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    @property
    def empty(self) -> bool:
        """Whether it contains no number."""
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))

    def holds(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return bool [n]: which of the values it contains."""
        above = values > self.low if self.low_open else values >= self.low
        return above & (values < self.high if self.high_open else values <= self.high)

    def cut(self, test: str, value: float) -> "Range":
        """Return its intersection with `test` `value`."""
        is_open = test in ("<", ">")
        if test.startswith(">"):
            low, low_open = max((self.low, self.low_open), (value, is_open))
            return Range(low, self.high, low_open, self.high_open)
        high, closed = min((self.high, not self.high_open), (value, not is_open))
        return Range(self.low, high, self.low_open, not closed)


@dataclass(frozen=True)
class Where:
    """Ranges for the probabilities of findings and for the age, and the accepted views and sexes."""

    ranges: Mapping[str, Range] = field(default_factory=dict)
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # view, sex -> values
    text: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names that it tests: findings, view, sex, age."""
        return (*self.ranges, *self.choices)

    def holds(self, predicted: Mapping[str, NDArray]) -> NDArray[np.bool_]:
        """Return bool [n]: which films pass, by what `predict` returned."""
        passed = [range_.holds(predicted[name]) for name, range_ in self.ranges.items()]
        passed += [np.isin(predicted[name], values) for name, values in self.choices.items()]
        return np.logical_and.reduce(passed)

    def predict(self, scores: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray]:
        """Return the predictions for these names from a classifier's scores: probabilities, years, and names of views
        and sexes."""
        predicted: dict[str, NDArray] = {
            name: scores[name] if name == "age" else expit(scores[name]) for name in self.ranges
        }
        if "sex" in self.choices:
            predicted["sex"] = np.where(scores["sex"] > 0, "F", "M")
        if "view" in self.choices:
            views = [name for name in scores if name.startswith("view ")]
            best = np.stack([scores[name] for name in views]).argmax(axis=0)
            predicted["view"] = np.array([name.removeprefix("view ") for name in views])[best]
        return predicted

    def __str__(self) -> str:
        return self.text


def parse_where(texts: Sequence[str], reader: TrustedReader) -> Where:
    """Return the requirements of all texts together.

    Raises ValueError for a malformed clause, for a name or value that the classifier has not learnt, for clauses that
    no film can meet, and for what the classifier does not predict well enough.
    """
    ranges: dict[str, Range] = {}
    choices: dict[str, tuple[str, ...]] = {}
    clauses = [clause.strip() for text in texts for clause in _AND.split(f" {text} ")]
    for clause in clauses:
        match = _CLAUSE.fullmatch(clause)
        if not match:
            raise ValueError(f"--where: '{clause}' is not a condition; expected NAME, a test and a value, {_TEXT}")
        name, test, value = _name(match[1], reader), match[2].replace("==", "="), match[3]
        if name in ("view", "sex"):
            values = reader.network.config.views if name == "view" else ("F", "M")
            choices[name] = _chosen(choices.get(name, values), clause, test, value, values)
            for question in [f"view {value}" for value in choices[name]] if name == "view" else ["sex"]:
                reader.check(question)
        else:
            low, high = LIMITS.get(name, (0.0, 1.0))
            ranges[name] = ranges.get(name, Range(low, high)).cut(*_number(clause, test, value, low, high))
            reader.check(name)
    where = Where(ranges, choices, " and ".join(clauses))
    if any(range_.empty for range_ in ranges.values()) or not all(choices.values()):
        raise ValueError(f"--where: no film can be {where}; drop one of the conditions")
    return where


def _name(word: str, reader: TrustedReader) -> str:
    known = {name.lower(): name for name in (*FINDINGS, "view", "sex", "age")}
    key = re.sub(r"[ _]+", "_", word.strip()).lower()
    name = known.get(key) or known.get(key.replace("_", " "))
    if name is None or (name in FINDINGS and name not in reader.network.config.findings):
        learnt = (*reader.network.config.findings, "view", "sex", "age")
        what = f"--where: {reader.name} has not learnt to predict '{word}'{nearest_name(word, learnt)}"
        raise ValueError(f"{what}; it predicts {', '.join(learnt)}")
    return name


def _chosen(left: tuple[str, ...], clause: str, test: str, value: str, values: tuple[str, ...]) -> tuple[str, ...]:
    same = {name.lower(): name for name in values}.get(value.lower())
    if test not in ("=", "!=") or same is None:
        raise ValueError(
            f"--where: '{clause}' is not possible{nearest_name(value, values)}; use = "
            f"or != and one of {', '.join(values)}"
        )
    return tuple(name for name in left if (name == same) == (test == "="))


def _number(clause: str, test: str, value: str, low: float, high: float) -> tuple[str, float]:
    try:
        number = float(value)
    except ValueError:
        number = np.nan
    if test in ("=", "!=") or not low <= number <= high:
        raise ValueError(
            f"--where: '{clause}' is not possible; use <, <=, > or >= and a number from {low:g} to {high:g}"
        )
    return test, number
