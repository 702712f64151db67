"""How far the labels of `thiscxr label` agree with others of the same reports, and reports labelled a second on one
core.

python benchmarks/report_agreement.py RELEASE               Open-I's NLMCXR_reports.tgz, and the labels that coders gave
its reports python benchmarks/report_agreement.py REPORTS.jsonl         lines of {"id", "text", "labels": {finding:
"definitely present", …}} python benchmarks/report_agreement.py … --disagreements 50  instead: a random fifty of them,
one a line, to be read

The package torchxrayvision carries NLMCXR_reports.tgz in its folder data, and radlabels reports with the labels of
RadGraph-XL.
"""

import argparse
import json
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from thiscxr.collections.openi import parse_report, report_findings
from thiscxr.collections.reports import ReportLabels, label_report
from thiscxr.labels import FINDINGS, NEGATIVE, NO_FINDING, NOT_MENTIONED, POSITIVE, UNCERTAIN

THEIR_NAMES = {
    "Atelectasis": ("atelectasis",), "Cardiomegaly": ("cardiomegaly",), "Consolidation": ("consolidation",),
    "Edema": ("pulmonary_edema",), "Effusion": ("pleural_effusion",), "Pneumonia": ("pneumonia",),
    "Pneumothorax": ("pneumothorax",),
}  # fmt: skip
THEIR_STATES = {"definitely present": POSITIVE, "uncertain": UNCERTAIN, "definitely absent": NEGATIVE}
DRAWS = 2000

Report = tuple[str, str, dict[str, int]]  # id, text, states of another labeller


def open_i(release: Path) -> list[Report]:
    """Return the reports of Open-I with the states that its coded headings mean."""
    found = []
    with tarfile.open(release / "NLMCXR_reports.tgz") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith(".xml") else None
            if file is not None:
                report = parse_report(data := file.read())
                parts = ElementTree.fromstring(data).iter("AbstractText")
                text = "\n".join(f"{part.get('Label')}: {part.text or ''}" for part in parts)
                found.append((report.number, text, dict(report_findings(report))))
    return sorted(found)


def lines(file: Path) -> list[Report]:
    """Return the reports of a file of JSON lines; what they do not name was not mentioned."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [
        (
            row["id"],
            row["text"],
            {
                ours: THEIR_STATES.get(row["labels"].get(name, ""), NOT_MENTIONED)
                for ours, (name,) in THEIR_NAMES.items()
            },
        )
        for row in rows
    ]


def f1(ours: np.ndarray, theirs: np.ndarray, wanted: Sequence[int]) -> float:
    """Return the F1 of the states `wanted`; ours, theirs: int [reports, findings]."""
    a, b = np.isin(ours, wanted), np.isin(theirs, wanted)
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


def interval(score: Callable[[np.ndarray], float], count: int) -> list[float]:
    """Return the 95 % interval of a score of some reports, drawing reports with replacement."""
    random = np.random.default_rng(0)
    scores = [score(random.integers(0, count, count)) for _ in range(DRAWS)]
    return [round(float(value), 3) for value in np.quantile(scores, (0.025, 0.975))]


def agreement(names: Sequence[str], ours: np.ndarray, theirs: np.ndarray) -> dict[str, dict]:
    """Return F1 by state, pooled over `names` with its interval, and by finding with how often they say so.

    "present, neither uncertain" leaves out what one of the two calls uncertain.
    """
    hedged = np.isin(ours, (UNCERTAIN,)) | np.isin(theirs, (UNCERTAIN,))
    silenced = [np.where(hedged, NOT_MENTIONED, states) for states in (ours, theirs)]
    table: dict[str, dict] = {}
    for state, wanted, (a, b) in (
        ("present", (POSITIVE,), (ours, theirs)),
        ("present, neither uncertain", (POSITIVE,), silenced),
        ("present or uncertain", (POSITIVE, UNCERTAIN), (ours, theirs)),
        ("absent", (NEGATIVE,), (ours, theirs)),
        ("uncertain", (UNCERTAIN,), (ours, theirs)),
    ):
        ci95 = interval(lambda rows, a=a, b=b, wanted=wanted: f1(a[rows], b[rows], wanted), len(ours))  # type: ignore[misc]
        by_finding = {
            name: [round(f1(a[:, [i]], b[:, [i]], wanted), 3), int(np.isin(b[:, i], wanted).sum())]
            for i, name in enumerate(names)
        }
        table[state] = {"f1": round(f1(a, b, wanted), 3), "ci95": ci95, **by_finding}
    return table


def main() -> None:
    """Print one JSON line, or the disagreements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path)
    parser.add_argument("--disagreements", type=int, default=0)
    args = parser.parse_args()
    reports = lines(args.reports) if args.reports.is_file() else open_i(args.reports)
    # another thing at Open-I
    names = list(THEIR_NAMES) if args.reports.is_file() else [name for name in FINDINGS if name != NO_FINDING]
    label_report(reports[0][1])
    started = time.process_time()
    found = [label_report(text) for _, text, _ in reports]
    rate = len(found) / (time.process_time() - started)
    ours = np.array([[labels.states[name] for name in names] for labels in found])
    theirs = np.array([[states[name] for name in names] for _, _, states in reports])
    # what is there is coded, and nothing else: a finding that is not coded was denied or not mentioned
    if args.reports.is_dir():
        ours[(ours == NEGATIVE) | (theirs == NOT_MENTIONED)] = NOT_MENTIONED
        theirs[theirs == NEGATIVE] = NOT_MENTIONED
    if args.disagreements:
        show(reports, found, names, ours, theirs, args.disagreements)
    else:
        print(json.dumps({"reports": len(found), "reports_per_sec": round(rate), **agreement(names, ours, theirs)}))


def show(
    reports: Sequence[Report],
    found: Sequence[ReportLabels],
    names: Sequence[str],
    ours: np.ndarray,
    theirs: np.ndarray,
    count: int,
) -> None:
    """Print a random `count` of the disagreements, with the words that decided."""
    places = np.argwhere(ours != theirs)
    for row, column in np.random.default_rng(0).permutation(places)[:count]:
        name, (number, text, _) = names[column], reports[row]
        spans = [
            " ".join(text[max(0, s.start - 100) : s.end + 80].split()) for s in found[row].mentions if s.finding == name
        ]
        said = " || ".join(spans) or " ".join(text.split())
        print(f"{number} {name} ours {ours[row, column]} theirs {theirs[row, column]}: {said}")


if __name__ == "__main__":
    main()
