"""What readers answered on the site's study pages, from the CSV files that their browsers exported.

A file is a list of answers, one per row; docs/formats.md lists the columns. The same answer in two files counts once.
Intervals: Wilson 1927 where answers are independent, a bootstrap of readers and films where they are not. Agreement:
Krippendorff's alpha for nominal answers (Krippendorff 2004, chapter 11), which allows for missing answers.
"""

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thiscxr.measures.resampling import generator, interval, weighted_auc, wilson

COLUMNS = (
    "session",
    "reader",
    "role",
    "mode",
    "item",
    "findings",
    "label",
    "truth",
    "answer",
    "confidence",
    "seconds",
    "at",
)
KINDS = ("real", "synthetic", "phantom")
MODES = {"single": KINDS, "pair": ("left", "right"), "audit": ("agree", "not sure", "disagree")}
CONFIDENCES = (1, 2, 3, 4)  # from a guess to certain
NOT_ASKED = 0  # confidence in an audit, whose answers say how sure they are
_DRAWS = 1000


@dataclass(frozen=True)
class Answer:
    """One answer of one reader."""

    session: str  # of one visit, made by the page
    reader: str
    role: str
    mode: str  # single: real or not; pair: which of two is synthetic; audit: does the film show the label
    item: str  # film, or "left|right"
    findings: tuple[str, ...]  # requested of the film, or labelled in it
    label: str  # audit: the label in question
    truth: str  # audit: which kind of film it is, empty where unknown
    answer: str
    confidence: int
    seconds: float

    @property
    def right(self) -> bool:
        """Whether the answer is the truth."""
        return self.answer == self.truth


@dataclass(frozen=True)
class Share:
    """A share of `n` answers with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int


def read_answers(paths: Iterable[Path]) -> list[Answer]:
    """Return the answers of the files, each once. Raises ValueError naming file and line for whatever the page cannot
    have written."""
    answers: dict[tuple[str, ...], Answer] = {}
    for path in paths:
        try:
            with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets add a mark
                table = csv.DictReader(file, strict=True)
                missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
                if missing:
                    raise ValueError(
                        f"{path} has no column '{missing[0]}'; expected a file exported by "
                        f"the study page: {', '.join(COLUMNS)}"
                    )
                for row in table:
                    answer = _answer(row, f"{path}, line {table.line_num}")
                    key = (answer.session, answer.reader, answer.mode, answer.item, answer.label)
                    if answers.setdefault(key, answer) != answer:
                        raise ValueError(
                            f"{path}, line {table.line_num}: {answer.item} was answered "
                            "otherwise before in the same session"
                        )
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} cannot be read as CSV ({error}); export it again from the study page") from None
    if not answers:
        raise ValueError("no answers in these files; answer on the study page and export them there")
    return list(answers.values())


def _answer(row: dict[str, Any], where: str) -> Answer:
    if None in row or None in row.values():
        raise ValueError(f"{where}: expected {len(COLUMNS)} values")
    if row["mode"] not in MODES:
        raise ValueError(f"{where}: mode is {row['mode']!r}, but must be {', '.join(MODES)}")
    known = MODES[row["mode"]]
    audit = row["mode"] == "audit"
    for name, allowed in (("answer", known), ("truth", ("", *KINDS) if audit else known)):
        if row[name] not in allowed:
            raise ValueError(f"{where}: {name} is {row[name]!r}, but must be one of {', '.join(filter(None, allowed))}")
    if not row["item"] or not row["session"] or (audit and not row["label"]):
        raise ValueError(f"{where}: session, item and, in an audit, label must not be empty")
    try:
        confidence = NOT_ASKED if audit and not row["confidence"] else int(row["confidence"])
        seconds = float(row["seconds"])
    except ValueError:
        raise ValueError(
            f"{where}: confidence {row['confidence']!r} and seconds {row['seconds']!r} must be numbers"
        ) from None
    if confidence not in (CONFIDENCES if not audit else (NOT_ASKED, *CONFIDENCES)) or not 0 <= seconds < math.inf:
        raise ValueError(f"{where}: confidence must be {CONFIDENCES[0]} to {CONFIDENCES[-1]} and seconds 0 or more")
    findings = tuple(filter(None, row["findings"].split("|")))
    texts = {name: row[name] for name in ("session", "reader", "role", "mode", "item", "label", "truth", "answer")}
    return Answer(**texts, findings=findings, confidence=confidence, seconds=seconds)


def share_of(hits: int, n: int) -> Share:
    """Return hits / n with its Wilson score interval. Raises ValueError for n = 0."""
    if n == 0:
        raise ValueError("no answers to take a share of")
    low, high = wilson(hits / n, n)
    return Share(hits / n, max(0.0, float(low)), min(1.0, float(high)), n)


def accuracy(answers: Sequence[Answer]) -> Share:
    """Return the share of right answers; where several readers answered, the interval is over other readers and other
    films."""
    right = np.array([answer.right for answer in answers], float)
    readers, items = ({answer.reader for answer in answers}, {answer.item for answer in answers})
    if len(readers) < 2 or len(items) < 2:
        return share_of(int(right.sum()), len(right))
    low, high = _two_way_bootstrap(answers, lambda weights: weights @ right / weights.sum(axis=1))
    return Share(float(right.mean()), low, high, len(right))


def _two_way_bootstrap(
    answers: Sequence[Answer], measure: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> tuple[float, float]:
    """Return the 95 % interval of a measure of weights [rounds, n] -> [rounds]: readers and films drawn anew, each
    answer weighted by both (Owen 2007)."""
    rng = generator(0, 0)
    codes = [
        np.unique([getattr(answer, name) for answer in answers], return_inverse=True)[1] for name in ("reader", "item")
    ]
    drawn: list[NDArray[np.float64]] = []
    while len(drawn) < _DRAWS:
        weights = np.ones(len(answers))
        for code in codes:
            n = int(code.max()) + 1
            weights = weights * np.bincount(rng.integers(n, size=n), minlength=n)[code]
        if weights.any():
            drawn.append(weights)
    return interval(measure(np.stack(drawn)))


def confidence_auc(answers: Sequence[Answer]) -> Share | None:
    """Return the AUC of "synthetic", graded by confidence, over real films, or over phantoms in a study without real
    ones.

    0.5 is guessing, 1 distinguishing all. None without films of both kinds.
    """
    graded = [answer for answer in answers if answer.mode == "single"]
    other = "real" if any(answer.truth == "real" for answer in graded) else "phantom"
    fake = np.array([answer.truth != other for answer in graded])
    if fake.all() or not fake.any():
        return None
    score = np.array([answer.confidence * (1 if answer.answer != other else -1) for answer in graded], float)
    low, high = _two_way_bootstrap(graded, lambda weights: weighted_auc(fake, score, weights))
    return Share(float(weighted_auc(fake, score, np.ones((1, len(score))))[0]), low, high, len(score))


def agreement(answers: Sequence[Answer]) -> float | None:
    """Return Krippendorff's alpha: 1 is full agreement, 0 that of chance; None where no film was answered by two
    readers."""
    units: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for answer in {(a.reader, a.mode, a.item, a.label): a for a in answers}.values():
        units[answer.mode, answer.item, answer.label].append(answer.answer)
    paired = [values for values in units.values() if len(values) > 1]
    names = sorted({value for values in paired for value in values})
    if not paired:
        return None
    coincidences = np.zeros((len(names), len(names)))
    for values in paired:
        counts = np.array([values.count(name) for name in names], float)
        coincidences += (np.outer(counts, counts) - np.diag(counts)) / (len(values) - 1)
    totals = coincidences.sum(axis=0)
    n = totals.sum()
    expected = n**2 - (totals**2).sum()
    return float(1 - (n - 1) * (n - np.trace(coincidences)) / expected) if expected else 1.0


def visual_ppv(answers: Sequence[Answer]) -> dict[str, tuple[Share, Share, Share]]:
    """Return for each label (films where the readers agree with it, are not sure, disagree), by the majority of a
    film's readers.

    Requested labels of synthetic films and labels of real ones are separate: "Mass (synthetic)", "Mass (real)"; plain
    where the kind is unknown. A film without a majority counts as "not sure". The first share is the visual positive
    predictive value of the label.
    """
    votes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        if answer.mode == "audit":
            label = f"{answer.label} ({answer.truth})" if answer.truth else answer.label
            votes[label][answer.item].append(answer.answer)
    shares = {}
    for label, films in sorted(votes.items()):
        verdicts = [
            next((v for v in ("agree", "disagree") if 2 * given.count(v) > len(given)), "not sure")
            for given in films.values()
        ]
        shares[label] = tuple(share_of(verdicts.count(verdict), len(verdicts)) for verdict in MODES["audit"])
    return shares  # type: ignore[return-value]


def report(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return all statistics of the answers, as plain values (see docs/formats.md)."""
    studied = [answer for answer in answers if answer.mode != "audit"]
    audited = [answer for answer in answers if answer.mode == "audit"]

    def by(names: Callable[[Answer], Iterable[str]]) -> dict[str, Any]:
        groups: dict[str, list[Answer]] = defaultdict(list)
        for answer in studied:
            for name in names(answer):
                groups[name].append(answer)
        return {name: _plain(accuracy(group)) for name, group in sorted(groups.items())}

    facts: dict[str, Any] = {"answers": len(answers), "readers": len({answer.reader for answer in answers})}
    if studied:
        auc = confidence_auc(studied)
        facts["real_or_not"] = {
            "accuracy": _plain(accuracy(studied)),
            "auc": auc and _plain(auc),
            "agreement_alpha": agreement(studied),
            "median_seconds": float(np.median([answer.seconds for answer in studied])),
            "by_mode": by(lambda a: [a.mode]),
            "by_reader": by(lambda a: [a.reader or "unnamed"]),
            "by_role": by(lambda a: [a.role or "not said"]),
            "by_truth": by(lambda a: [a.truth] if a.mode == "single" else []),
            "by_finding": by(lambda a: a.findings),
            "by_confidence": by(lambda a: [str(a.confidence)]),
        }
    if audited:
        names = MODES["audit"]
        facts["label_audit"] = {
            "agreement_alpha": agreement(audited),
            "labels": {
                label: {name: _plain(share) for name, share in zip(names, shares, strict=True)}
                for label, shares in visual_ppv(audited).items()
            },
        }
    return facts


def _plain(share: Share) -> dict[str, Any]:
    return {"value": round(share.value, 4), "ci95": [round(share.low, 4), round(share.high, 4)], "n": share.n}


def report_text(facts: dict[str, Any]) -> str:
    """Return the report as text."""
    lines = [f"{facts['answers']} answers of {facts['readers']} reader{'s' * (facts['readers'] != 1)}"]
    if study := facts.get("real_or_not"):
        lines += ["", f"{'real or not':<28} {'right':>7}  {'95 % interval':>16}  {'answers':>7}"]
        groups = (
            ("all", {"": study["accuracy"]}),
            *((name[3:], study[name]) for name in study if name.startswith("by_")),
        )
        lines += [_line(f"{group} {name}".strip(), share) for group, shares in groups for name, share in shares.items()]
        if study["auc"]:
            lines.append(_line("AUC by confidence", study["auc"]))
        lines.append(_alpha(study["agreement_alpha"]) + f"; median time an answer {study['median_seconds']:.1f} s")
    if audit := facts.get("label_audit"):
        lines += [
            "",
            f"{'label audit: visual PPV':<28} {'agree':>7}  {'95 % interval':>16}  {'films':>7}  not sure  disagree",
        ]
        for label, shares in audit["labels"].items():
            rest = "  ".join(f"{shares[name]['value']:>8.1%}" for name in ("not sure", "disagree"))
            lines.append(f"{_line(label, shares['agree'])}  {rest}")
        lines.append(_alpha(audit["agreement_alpha"]))
    return "\n".join(lines)


def _line(name: str, share: dict[str, Any]) -> str:
    low, high = share["ci95"]
    return f"{name[:28]:<28} {share['value']:>7.1%}  {f'{low:.1%} to {high:.1%}':>16}  {share['n']:>7}"


def _alpha(value: float | None) -> str:
    return (
        ("agreement: no film was answered by two readers")
        if value is None
        else (f"agreement of the readers (Krippendorff's alpha): {value:.2f}")
    )
