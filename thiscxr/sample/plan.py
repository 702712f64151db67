"""A plan of a labelled set: a table of conditions, each with its number of films."""

import csv
from collections.abc import Sequence
from pathlib import Path

from thiscxr.files import nearest_name
from thiscxr.model.conditions import Condition, Vocabulary
from thiscxr.sample.sampling import request
from thiscxr.sample.writing import MAX_FILMS

# as in samples.csv; findings are joined by |
COLUMNS = ("view", "sex", "age_years", "source", "findings", "no_findings", "n")


def read_plan(path: Path, vocabulary: Vocabulary) -> list[Condition]:
    """Return one condition per film, row after row, each row `n` times.

    Raises ValueError with the line for a row that contradicts itself, requests what the network never learnt, or whose
    `n` is not a whole number.
    """
    conditions: list[Condition] = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file, restval="")
            columns = table.fieldnames or []
            for column in columns:
                if column not in COLUMNS:
                    raise ValueError(
                        f"{path}: unknown column "
                        f"'{column}'{nearest_name(column, COLUMNS)}; a plan has {', '.join(COLUMNS)}"
                    )
            if "n" not in columns:
                raise ValueError(
                    f"{path}: no column 'n', the number of films of a row; a plan has {', '.join(COLUMNS)}"
                )
            for row in table:
                where = f"{path} line {table.line_num}"
                if None in row:
                    raise ValueError(f"{where}: more cells than the header has; findings are joined by |")
                condition, count = _read_row({column: cell.strip() for column, cell in row.items()}, vocabulary, where)
                if len(conditions) + count > MAX_FILMS:
                    raise ValueError(f"{where}: the plan requests more than {MAX_FILMS:,} films")
                conditions += [condition] * count
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"--plan {path} cannot be read as a CSV table in UTF-8 ({error})") from None
    if not conditions:
        raise ValueError(f"--plan {path} requests no film; expected rows of {', '.join(COLUMNS)}")
    return conditions


def plan_seeds(given: Sequence[int] | None, count: int) -> list[int]:
    """Return one seed per film of a plan: 0 to count − 1, or the given ones. Raises ValueError when those are not
    `count`."""
    if given is not None and len(given) != count:
        raise ValueError(
            f"the plan requests {count} films, but --seeds names {len(given)}; give as many, or leave --seeds out"
        )
    return list(range(count)) if given is None else list(given)


def _read_row(row: dict[str, str], vocabulary: Vocabulary, where: str) -> tuple[Condition, int]:
    if not (row["n"].isascii() and row["n"].isdigit() and len(row["n"]) < 10):
        raise ValueError(f"{where}: n is '{row['n']}', but must be a whole number of films")
    try:
        age = float(row["age_years"]) if row.get("age_years") else None
    except ValueError:
        raise ValueError(f"{where}: age_years is '{row['age_years']}', but must be a number or empty") from None
    texts = {name: row.get(name) or None for name in ("view", "sex", "source")}
    try:
        condition = request(
            **texts, age_years=age, findings=_names(row, "findings"), no_findings=_names(row, "no_findings")
        )
        vocabulary.encode([condition])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return condition, int(row["n"])


def _names(row: dict[str, str], column: str) -> Sequence[str]:
    return [name for part in row.get(column, "").split("|") if (name := part.strip())]
