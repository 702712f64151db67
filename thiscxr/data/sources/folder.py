"""A plain folder of films: images wherever they lie, and an optional table `metadata.csv` or `metadata.jsonl`.

Nothing is guessed from file or folder names. Without a table every film is its own patient, with no finding annotated, and of unknown
view unless its DICOM header names one.
"""

import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path

from thiscxr.data.labels import FINDINGS, NOT_MENTIONED, SEXES, STATES, VIEWS, FilmRecord, Terms
from thiscxr.data.pixels import read_dicom_view
from thiscxr.data.sources.collection import FRONTAL_VIEWS, Collection, read_table, walk_images
from thiscxr.files import nearest_name

_FIELDS = ("file_name", "patient", "study", "view", "sex", "age_years")
_MAX_AGE = 120

TERMS = Terms(
    title="Plain folder of films",
    terms="Unknown: whoever made the pool must know the terms of these films.",
    citation="",
    url="",
    acknowledgement="",
)


def _jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with open(path, encoding="utf-8-sig") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path} line {line} is not JSON ({error})") from error
            if not isinstance(row, dict) or "file_name" not in row:
                raise ValueError(f'{path} line {line} has no \'file_name\'; expected an object such as {{"file_name": "a.png"}}')
            yield line, {name: "" if value is None else str(value).strip() for name, value in row.items()}


def _metadata(root: Path) -> Path | None:
    found = [path for path in (root / "metadata.csv", root / "metadata.jsonl") if path.is_file()]
    if len(found) == 2:
        raise ValueError(f"{root} has both metadata.csv and metadata.jsonl; keep the one that is meant")
    return found[0] if found else None


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    if value == "":
        return "unknown"
    if value not in allowed:
        raise ValueError(f"{name} {value!r}{nearest_name(value, allowed)} is not one of {', '.join(allowed)}")
    return value


def _age_years(text: str) -> float | None:
    if text == "":
        return None
    try:
        age = float(text)
    except ValueError:
        age = math.nan
    if not 0 <= age <= _MAX_AGE:
        raise ValueError(f"age_years {text!r} is not a number from 0 to {_MAX_AGE} (empty: unknown)")
    return age


def _state(name: str, text: str) -> int:
    if text == "":
        return NOT_MENTIONED
    try:
        state = float(text)
    except ValueError:
        state = math.nan
    if state not in STATES:
        raise ValueError(f"{name} {text!r} is not one of 1, 0, -1, -2, -3 (empty: not mentioned)")
    return int(state)


def _view(path: Path) -> str:
    return read_dicom_view(path) if path.suffix.lower() in (".dcm", ".dicom") else "unknown"


def _record(root: Path, row: dict[str, str]) -> FilmRecord:
    file = Path(row["file_name"]).as_posix()
    film = f"{root.resolve().name}/{file}"  # two folders may both hold an a.png
    patient = row.get("patient") or film
    return FilmRecord(
        film=film,
        file=file,
        patient=patient,
        study=f"{patient}/{row['study']}" if row.get("study") else film,  # study numbers often start again for each patient
        view=_one_of("view", row.get("view", ""), VIEWS),
        sex=_one_of("sex", row.get("sex", ""), SEXES),
        age_years=_age_years(row.get("age_years", "")),
        findings={name: _state(name, row[name]) for name in FINDINGS if name in row},
    )


def read_labels(root: Path) -> list[FilmRecord]:
    """Return the films that the table lists (others are not taken), or without a table every image under `root`, sorted.

    Raises ValueError when the table has no `file_name`, or a value that is not in the vocabulary (naming line and value).
    """
    log = logging.getLogger(__name__)
    table = _metadata(root)
    if table is None:
        return [_record(root, {"file_name": file, "view": _view(path)}) for file, path in find_files(root).items()]
    records = []
    unknown: dict[str, None] = {}  # in the order of the table, each once
    try:
        for line, row in _jsonl_rows(table) if table.suffix == ".jsonl" else read_table(table, ["file_name"]):
            unknown.update(dict.fromkeys(name for name in row if name and name not in _FIELDS and name not in FINDINGS))
            try:
                records.append(_record(root, row))
            except ValueError as error:
                raise ValueError(f"{table} line {line}: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is not UTF-8 text ({error})") from error
    if unknown:
        known = (*_FIELDS, *FINDINGS)
        log.warning("%s: unknown columns are ignored: %s", table, ", ".join(name + nearest_name(name, known) for name in unknown))
    return records


def find_files(root: Path) -> dict[str, Path]:
    """Return the images under `root` by their path inside it, sorted."""
    files = {path.relative_to(root).as_posix(): path for path in walk_images(root)}
    return {name: files[name] for name in sorted(files)}


FOLDER = Collection("folder", TERMS, read_labels, find_files, default_views=(*FRONTAL_VIEWS, "unknown"))
