"""Conditions of a film as numbers: findings, view, sex, age and source, each with its own "unknown".

A condition vector holds ±1 for a known finding and 0 for everything unknown, so that an unknown value adds nothing to
the first layer of either network: it neither conditions nor penalises, whether it is uncertain, not mentioned or not
annotated.

Where nothing is requested, conditions are drawn from the joint table of the training films. The table is part of the
network file, so it must not describe a patient: every row stands for at least MIN_PATIENTS of them. Rarer combinations
are generalised (the age, then the sex, then the findings become unknown) until they do.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thiscxr.files import nearest_name
from thiscxr.labels import FINDINGS, NEGATIVE, NO_FINDING, NOT_ANNOTATED, POSITIVE, SUPPORT_DEVICES

AGE_CENTRE, AGE_SCALE = 50.0, 25.0  # years; adults land in about [-1.3, 1.6]
MIN_PATIENTS = 5
AGE_BIN_YEARS = 10
# What is kept of a combination, from all of it to the view and source alone. Of several findings that few patients have
# together, the rarest is kept ("finding"): without it, the films that are left would be those without findings.
_LEVELS = (
    ("view", "source", "findings", "sex", "age_bin"),
    ("view", "source", "findings", "sex"),
    ("view", "source", "findings"),
    ("view", "source", "finding", "sex", "age_bin"),
    ("view", "source", "finding", "sex"),
    ("view", "source", "finding"),
    ("view", "source", "sex", "age_bin"),
    ("view", "source"),
    (),
)


@dataclass(frozen=True)
class Condition:
    """What is requested of one film; None or an absent finding is "unknown", not "no"."""

    view: str | None = None
    sex: str | None = None
    age_years: float | None = None
    source: str | None = None
    findings: Mapping[str, int] = field(default_factory=dict)  # finding -> POSITIVE or NEGATIVE

    @property
    def present(self) -> list[str]:
        """The findings requested as present."""
        return [name for name in FINDINGS if self.findings.get(name) == POSITIVE]

    @property
    def absent(self) -> list[str]:
        """The findings requested as absent."""
        return [name for name in FINDINGS if self.findings.get(name) == NEGATIVE]

    def over(self, drawn: "Condition") -> "Condition":
        """Return this, with all that it leaves unknown as in `drawn`, and "No Finding" in agreement with the
        findings."""
        states = dict(drawn.findings)
        if self.findings.get(NO_FINDING) == POSITIVE:
            states = {
                name: state
                for name, state in states.items()
                if state != POSITIVE or name in (NO_FINDING, SUPPORT_DEVICES)
            }
        states |= self.findings
        if NO_FINDING in states and NO_FINDING not in self.findings:
            ill = any(state == POSITIVE and name not in (NO_FINDING, SUPPORT_DEVICES) for name, state in states.items())
            states[NO_FINDING] = NEGATIVE if ill else POSITIVE
        known = {
            name: value for name in ("view", "sex", "age_years", "source") if (value := getattr(self, name)) is not None
        }
        return replace(drawn, **known, findings=states)


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
        """Length of the condition vector: a value a finding, one-hot view and source, one value of sex, known-age flag
        and age."""
        return len(self.findings) + len(self.views) + len(self.sources) + bool(self.sexes) + 2 * self.ages

    @property
    def names(self) -> list[str]:
        """What each number of the vector is."""
        views, sources = (f"view {view}" for view in self.views), (f"source {source}" for source in self.sources)
        return [*self.findings, *views, *sources, *["sex F"] * bool(self.sexes), *["age known", "age"] * self.ages]

    @property
    def factors(self) -> list[slice]:
        """The slices of the vector that are known or unknown together."""
        edges = [*range(len(self.findings) + 1)]
        for size in (len(self.views), len(self.sources), int(bool(self.sexes)), 2 * self.ages):
            edges.append(edges[-1] + size)
        return [slice(a, b) for a, b in pairwise(edges) if b > a]

    def encode(self, conditions: Iterable[Condition]) -> np.ndarray:
        """Return float32 [N, dim]. Raises ValueError for a value that the network was not trained on, naming the
        nearest known one."""
        requested = list(conditions)
        for condition in requested:
            of_one = {"view": self.views, "source": self.sources, "sex": self.sexes}
            values = [(factor, getattr(condition, factor), names) for factor, names in of_one.items()]
            for factor, value, names in [*values, *(("finding", name, self.findings) for name in condition.findings)]:
                if value is not None and value not in names:
                    raise ValueError(
                        f"{factor} '{value}' was not learnt by this network{nearest_name(value, names)}; "
                        f"it knows: {', '.join(names) or 'none'}"
                    )
            if condition.age_years is not None and not self.ages:
                raise ValueError(f"age {condition.age_years:g} was requested, but this network has learnt no ages")
        return FilmConditions.of(requested).encode(self)

    def to_json(self) -> dict[str, Any]:
        """Return the vocabulary as plain values."""
        return {name: list(values) if isinstance(values, tuple) else values for name, values in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Vocabulary":
        """Return the vocabulary that `to_json` wrote."""
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**plain)


@dataclass(frozen=True)
class FilmConditions:
    """The known conditions of many films in columns, so that a million films are a matter of a second.

    view, sex, source: a code a film, into the names of the same place in `names`; -1: unknown. age_years: float64, nan:
    unknown. findings: int8 [n,21] in the order of FINDINGS; POSITIVE and NEGATIVE are known, everything else is unknown
    alike.
    """

    view: NDArray[np.integer]
    sex: NDArray[np.integer]
    source: NDArray[np.integer]
    age_years: NDArray[np.float64]
    findings: NDArray[np.int8]
    names: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        return len(self.age_years)

    @classmethod
    def of(cls, conditions: Sequence[Condition]) -> "FilmConditions":
        """Return single conditions as columns; the names are in alphabetical order, a finding that is not requested
        is NOT_ANNOTATED."""
        codes, names = {}, {}
        for factor in ("view", "sex", "source"):
            values = [getattr(condition, factor) for condition in conditions]
            names[factor] = sorted({value for value in values if value is not None})
            codes[factor] = np.array(
                [-1 if value is None else names[factor].index(value) for value in values], np.int64
            )
        ages = np.array(
            [np.nan if condition.age_years is None else condition.age_years for condition in conditions], np.float64
        )
        findings = [[condition.findings.get(name, NOT_ANNOTATED) for name in FINDINGS] for condition in conditions]
        return cls(
            **codes, age_years=ages, findings=np.array(findings, np.int8).reshape(-1, len(FINDINGS)), names=names
        )

    def take(self, rows: NDArray[np.integer]) -> "FilmConditions":
        """Return the conditions of some of the films."""
        columns = {name: getattr(self, name)[rows] for name in ("view", "sex", "source", "age_years", "findings")}
        return replace(self, **columns)

    def encode(self, vocabulary: Vocabulary) -> NDArray[np.float32]:
        """Return the condition vectors, float32 [n, vocabulary.dim]; findings that are not in the vocabulary are left
        out."""
        states = self.findings[:, [FINDINGS.index(name) for name in vocabulary.findings]]
        columns = [(states == POSITIVE).astype(np.float32) - (states == NEGATIVE)]
        columns += [self._is("view", vocabulary.views), self._is("source", vocabulary.sources)]
        if vocabulary.sexes:
            columns.append(self._is("sex", ("F", "M")) @ np.array([[1], [-1]]))
        if vocabulary.ages:
            known = np.isfinite(self.age_years)
            columns.append(np.stack([known, np.where(known, (self.age_years - AGE_CENTRE) / AGE_SCALE, 0)], axis=1))
        return np.concatenate(columns, axis=1, dtype=np.float32)

    def _is(self, factor: str, values: Sequence[str]) -> NDArray[np.bool_]:
        """Return bool [n, values]: which of `values` each film's factor is."""
        names = list(self.names[factor])
        wanted = np.array([names.index(value) if value in names else -2 for value in values], np.int64)
        return getattr(self, factor)[:, None] == wanted

    def table_codes(self, vocabulary: Vocabulary) -> dict[str, NDArray[np.int64]]:
        """Return the factors by which the joint table groups films, each as one whole number from 0 a film: what is not
        in the vocabulary is unknown."""
        known = {"view": vocabulary.views, "source": vocabulary.sources, "sex": vocabulary.sexes}
        codes = {
            name: np.where(self._is(name, values).any(axis=1), getattr(self, name) + 1, 0)
            for name, values in known.items()
        }
        decades = np.where(np.isfinite(self.age_years) & vocabulary.ages, self.age_years // AGE_BIN_YEARS + 1, 0)
        findings = np.zeros(len(self), np.int64)
        for name in vocabulary.findings:
            bit, states = FINDINGS.index(name), self.findings[:, FINDINGS.index(name)]
            findings |= (states == POSITIVE).astype(np.int64) << (bit + len(FINDINGS)) | (states == NEGATIVE).astype(
                np.int64
            ) << bit
        return {**codes, "age_bin": decades.astype(np.int64), "findings": findings, "finding": self._rarest(findings)}

    def _rarest(self, findings: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return of each film's findings, as in `table_codes`, the one that the fewest films have, and
        that No Finding is absent."""
        has = [(findings >> (bit + len(FINDINGS)) & 1).astype(bool) for bit in range(len(FINDINGS))]
        one = np.zeros(len(self), np.int64)
        for bit in sorted(range(len(FINDINGS)), key=lambda bit: -int(has[bit].sum())):  # a rarer one overwrites
            one[has[bit]] = 1 << (bit + len(FINDINGS))
        return one | findings & (1 << FINDINGS.index(NO_FINDING))

    def spell(self, factor: str, code: int) -> Any:
        """Return what a number of `table_codes` stands for; None: unknown."""
        if factor.startswith("finding"):
            words = (code >> len(FINDINGS), code & (1 << len(FINDINGS)) - 1)
            return tuple(tuple(name for bit, name in enumerate(FINDINGS) if word >> bit & 1) for word in words)
        if code == 0:
            return None
        return (code - 1) * AGE_BIN_YEARS if factor == "age_bin" else self.names[factor][code - 1]


def joint_table(films: FilmConditions, patients: NDArray[np.integer], vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Return rows {view, sex, age_bin, source, present, absent, films}: JSON values, None where unknown.

    patients: a number a film, the same for all films of one. The films of at most MIN_PATIENTS - 1 patients are left
    out.
    """
    rows = []
    codes = films.table_codes(vocabulary)
    words = {}
    for name in ("findings", "finding"):
        words[name], codes[name] = np.unique(codes[name], return_inverse=True)  # many bits, few of them used
    left = np.arange(len(films))
    for level in _LEVELS:
        if not len(left):
            break
        code = np.zeros(len(left), np.int64)
        for name in level:
            code = code * (int(codes[name].max()) + 1) + codes[name][left]
        _, first, group, counts = np.unique(code, return_index=True, return_inverse=True, return_counts=True)
        span = int(patients.max()) + 1
        pairs = np.unique(group * span + patients[left])
        enough = np.bincount(pairs // span, minlength=len(counts)) >= MIN_PATIENTS
        groups = {}
        for g in np.flatnonzero(enough).tolist():
            own = {name: int(codes[name][left[first[g]]]) for name in level}
            groups[g] = tuple(
                films.spell(name, int(words[name][number]) if name in words else number) for name, number in own.items()
            )
        for g, values in sorted(groups.items(), key=lambda item: repr(item[1])):
            known = dict(zip(level, values, strict=True))
            present, absent = known.pop("findings", None) or known.pop("finding", ((), ()))
            empty = {"view": None, "sex": None, "age_bin": None, "source": None}
            rows.append({**empty, **known, "present": list(present), "absent": list(absent), "films": int(counts[g])})
        left = left[~enough[group]]
    return rows


def draw_conditions(table: Sequence[dict[str, Any]], uniforms: NDArray[np.float64]) -> list[Condition]:
    """Return conditions from a joint table and uniforms [n, 2] in [0, 1): the row by its films, the age in whole years
    within its bin."""
    if not table:
        return [Condition()] * len(uniforms)  # fewer than MIN_PATIENTS patients in all
    edges = np.cumsum([row["films"] for row in table])
    places = np.searchsorted(edges, uniforms[:, 0] * edges[-1], side="right")
    drawn = []
    for row, within in zip((table[place] for place in places.tolist()), uniforms[:, 1].tolist(), strict=True):
        age = None if row["age_bin"] is None else float(int(row["age_bin"] + within * AGE_BIN_YEARS))
        findings = dict.fromkeys(row["present"], POSITIVE) | dict.fromkeys(row["absent"], NEGATIVE)
        drawn.append(Condition(row["view"], row["sex"], age, row["source"], findings))
    return drawn
