"""A table of reports in, a table of their findings out: what `thiscxr label` does.

Report text stays where it is: the labels hold none, and of the spans only positions and the phrases that decided.
"""

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from thiscxr.collections.report_text import why_unread
from thiscxr.collections.reports import ReportLabels, label_report
from thiscxr.collections.tables import read_table
from thiscxr.files import atomic_path
from thiscxr.labels import FINDINGS, NOT_MENTIONED

_SHOWN = 5


@dataclass(frozen=True)
class LabelSummary:
    """What became of a table of reports."""

    reports: int
    labelled: int
    unread: dict[str, list[str]]  # why: ids of the reports that were not read
    present: dict[str, int]  # finding: reports in which it is present


def label_table(table: Path, out: Path) -> LabelSummary:
    """Label the reports of a table with the columns id and report; write `out` (id and a state for each finding) and
    beside it the spans.

    A report that cannot be read is labelled not mentioned throughout, and counted. `out` with the suffix .spans.jsonl
    has a line a report: {"id", "spans": [{"finding", "state", "start", "end", "phrase", "phrase_start", "rule"}]},
    positions in characters of its cell. Raises ValueError where the columns are missing, ids are empty or there twice
    (all of them counted), and where `table` is no table.
    """
    if not table.is_file():
        raise ValueError(
            f"{table} {'is no file' if table.exists() else 'does not exist'}; expected "
            "a table with the columns id and report"
        )
    unread: dict[str, list[str]] = {}
    present: Counter[str] = Counter()
    seen: set[str] = set()
    ill: list[str] = []  # ids that are empty or there twice
    silent = ReportLabels(dict.fromkeys(FINDINGS, NOT_MENTIONED), ())
    with atomic_path(out) as labels_part, atomic_path(spans_path(out)) as spans_part:
        with (
            open(labels_part, "w", newline="", encoding="utf-8") as labels,
            open(spans_part, "w", encoding="utf-8") as spans,
        ):
            writer = csv.writer(labels)
            writer.writerow(("id", *FINDINGS))
            for line, name, text in tqdm(_reports(table), unit="report", file=sys.stderr, desc="label", delay=2):
                if not name or name in seen:
                    ill.append(f"line {line}: {name} is there twice" if name else f"line {line}: the id is empty")
                    continue
                seen.add(name)
                if why := why_unread(text):
                    unread.setdefault(why, []).append(name)
                found = silent if why else label_report(text)
                present.update(finding for finding, state in found.states.items() if state > 0)
                writer.writerow((name, *found.states.values()))
                spans.write(json.dumps({"id": name, "spans": [asdict(span) for span in found.spans]}) + "\n")
        if ill:
            more = f" and {len(ill) - _SHOWN} more" if len(ill) > _SHOWN else ""
            rows = f"{len(ill)} row{'s' * (len(ill) > 1)}"
            raise ValueError(
                f"{table}: {rows} without an id of its own ({'; '.join(ill[:_SHOWN])}{more}); give each report one"
            )
        if not seen:
            raise ValueError(
                f"{table} has no reports, only a header; expected a row for each, with the columns id and report"
            )
    return LabelSummary(len(seen), len(seen) - sum(map(len, unread.values())), unread, dict(present))


def spans_path(out: Path) -> Path:
    """Return where the spans of the labels in `out` are."""
    return out.with_name(f"{out.name.removesuffix('.csv')}.spans.jsonl")


def _reports(table: Path) -> Iterator[tuple[int, str, str]]:
    """Yield (line, id, report) with the report as it stands in its cell: positions in it count its white space."""
    # a report has some thousand characters; the default of 131,072 is a matter of memory long gone
    csv.field_size_limit(2**24)
    for line, row in read_table(table, ["id", "report"], stripped=False):
        yield line, row["id"].strip(), row["report"]


def summary_text(summary: LabelSummary) -> str:
    """Return the summary as lines."""
    lines = [f"{summary.labelled} of {summary.reports} reports labelled"]
    for why, names in summary.unread.items():
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        lines.append(f"  {why}: {len(names)} ({', '.join(names[:_SHOWN])}{more}); not mentioned throughout")
    lines += [f"  {finding:<28}{summary.present[finding]:>7}" for finding in FINDINGS if finding in summary.present]
    return "\n".join(lines)
