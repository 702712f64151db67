"""Conditions of a film as numbers: findings, view, sex, age and source, each with its own "unknown".

A condition vector holds ±1 for a known finding and 0 for everything unknown, so that an unknown value adds nothing to the first layer of
either network: it neither conditions nor penalises, whether it is uncertain, not mentioned or not annotated.

The joint table of the training films is what a network draws from when nothing is asked. It travels in the network file, so it must not
describe a patient: every row stands for at least MIN_PATIENTS of them. Rarer combinations are generalised (the age, then the sex, then
the findings become unknown) until they do.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from thiscxr.data.labels import FINDINGS, NEGATIVE, POSITIVE
from thiscxr.files import nearest_name

AGE_CENTRE, AGE_SCALE = 50.0, 25.0  # years; adults land in about [-1.3, 1.6]
MIN_PATIENTS = 5
AGE_BIN_YEARS = 10
# What is kept of a combination, from all of it to the view and source alone.
_LEVELS = (
    ("view", "source", "findings", "sex", "age_bin"),
    ("view", "source", "findings", "sex"),
    ("view", "source", "findings"),
    ("view", "source", "sex", "age_bin"),
    ("view", "source"),
    (),
)


@dataclass(frozen=True)
class Condition:
    """What is asked of one film; None or an absent finding is "unknown", not "no"."""

    view: str | None = None
    sex: str | None = None
    age_years: float | None = None
    source: str | None = None
    findings: Mapping[str, int] = field(default_factory=dict)  # finding -> POSITIVE or NEGATIVE

    @property
    def present(self) -> list[str]:
        """The findings asked for."""
        return [name for name in FINDINGS if self.findings.get(name) == POSITIVE]

    @property
    def absent(self) -> list[str]:
        """The findings asked to be absent."""
        return [name for name in FINDINGS if self.findings.get(name) == NEGATIVE]


@dataclass(frozen=True)
class Vocabulary:
    """The conditions that a network has learnt, in the order of its condition vector."""

    findings: tuple[str, ...]
    views: tuple[str, ...]
    sources: tuple[str, ...]
    sexes: tuple[str, ...] = ("F", "M")  # empty when no film's sex was known
    ages: bool = True  # whether any film's age was known

    @property
    def dim(self) -> int:
        """Length of the condition vector: a value a finding, one-hot view and source, one value of sex, known-age flag and age."""
        return len(self.findings) + len(self.views) + len(self.sources) + bool(self.sexes) + 2 * self.ages

    @property
    def factors(self) -> list[slice]:
        """The parts of the vector that are known or unknown together."""
        edges = [*range(len(self.findings) + 1)]
        for size in (len(self.views), len(self.sources), int(bool(self.sexes)), 2 * self.ages):
            edges.append(edges[-1] + size)
        return [slice(a, b) for a, b in pairwise(edges) if b > a]

    def encode(self, conditions: Iterable[Condition]) -> np.ndarray:
        """Return float32 [N, dim]. Raises ValueError for a value that the network has never seen, naming the nearest that it has."""
        rows = []
        for condition in conditions:
            for name in condition.findings:
                _known("finding", name, self.findings)
            states = [{POSITIVE: 1.0, NEGATIVE: -1.0}.get(condition.findings.get(name, -3), 0.0) for name in self.findings]
            view = _one_hot("view", condition.view, self.views)
            source = _one_hot("source", condition.source, self.sources)
            sex = [0.0 if condition.sex is None else {"F": 1.0, "M": -1.0}[_known("sex", condition.sex, self.sexes)]]
            if condition.age_years is not None and not self.ages:
                raise ValueError(f"age {condition.age_years:g} was asked for, but this network has learnt no ages")
            age = [0.0, 0.0] if condition.age_years is None else [1.0, (condition.age_years - AGE_CENTRE) / AGE_SCALE]
            rows.append(states + view + source + sex[: bool(self.sexes)] + age[: 2 * self.ages])
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.dim)

    def to_json(self) -> dict[str, Any]:
        """Return the vocabulary as plain values."""
        return {name: list(values) if isinstance(values, tuple) else values for name, values in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Vocabulary":
        """Return the vocabulary that `to_json` wrote."""
        plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**plain)


def _known(factor: str, value: str, names: tuple[str, ...]) -> str:
    if value not in names:
        known = ", ".join(names) or "none"
        raise ValueError(f"{factor} '{value}' was not learnt by this network{nearest_name(value, names)}; it knows: {known}")
    return value


def _one_hot(factor: str, value: str | None, names: tuple[str, ...]) -> list[float]:
    if value is not None:
        _known(factor, value, names)
    return [float(value == name) for name in names]


def joint_table(conditions: Sequence[Condition], patients: Sequence[str]) -> list[dict[str, Any]]:
    """Return rows {view, sex, age_bin, source, present, absent, films}: JSON values, None where unknown.

    The films of at most MIN_PATIENTS - 1 patients are left out.
    """
    rows = []
    left = list(range(len(conditions)))
    for level in _LEVELS:
        groups: dict[tuple, list[int]] = defaultdict(list)
        for i in left:
            groups[tuple(_part(conditions[i], name) for name in level)].append(i)
        left = []
        for key, members in sorted(groups.items(), key=lambda item: repr(item[0])):
            if len({patients[i] for i in members}) < MIN_PATIENTS:
                left.extend(members)
                continue
            parts = dict(zip(level, key, strict=True))
            present, absent = parts.pop("findings", ((), ()))
            empty = {"view": None, "sex": None, "age_bin": None, "source": None}
            rows.append({**empty, **parts, "present": list(present), "absent": list(absent), "films": len(members)})
    return rows


def _part(condition: Condition, name: str) -> Any:
    if name == "age_bin":
        return None if condition.age_years is None else int(condition.age_years // AGE_BIN_YEARS * AGE_BIN_YEARS)
    if name == "findings":
        return tuple(condition.present), tuple(condition.absent)
    return getattr(condition, name)


def draw_condition(table: Sequence[dict[str, Any]], uniform: Iterator[float]) -> Condition:
    """Return one condition from a joint table and two numbers in [0, 1): the row by its films, the age in whole years within its bin."""
    edges = np.cumsum([row["films"] for row in table])
    position, within = next(uniform), next(uniform)
    if not table:
        return Condition()  # fewer than MIN_PATIENTS patients in all
    row = table[int(np.searchsorted(edges, position * edges[-1], side="right"))]
    age = None if row["age_bin"] is None else float(int(row["age_bin"] + within * AGE_BIN_YEARS))
    findings = dict.fromkeys(row["present"], POSITIVE) | dict.fromkeys(row["absent"], NEGATIVE)
    return Condition(row["view"], row["sex"], age, row["source"], findings)
