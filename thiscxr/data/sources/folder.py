"""A plain folder of films: images wherever they lie, and an optional table `metadata.csv` or `metadata.jsonl`.

View, sex and age come from the table or a DICOM header, never from names. Where neither names the patient, many small folders are taken
for patients, or else every film for its own.
"""

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from statistics import median

from thiscxr.data.archives import ReleaseFile
from thiscxr.data.labels import FINDINGS, NOT_MENTIONED, SEXES, STATES, VIEWS, FilmRecord, Terms
from thiscxr.data.pixels import DicomHeader
from thiscxr.data.sources.collection import FRONTAL_VIEWS, Collection
from thiscxr.data.sources.tables import read_table
from thiscxr.data.sources.unlisted import films_in, headers
from thiscxr.files import nearest_name

_FIELDS = ("file_name", "patient", "study", "view", "sex", "age_years")
_MAX_AGE = 120
_NO_HEADER = DicomHeader()
_MANY_FOLDERS = 10
_FEW_FILMS = 20

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


def _record(name: str, row: dict[str, str], header: DicomHeader, folder_patient: str = "") -> FilmRecord:
    """Return a film: what the table says goes before what the header says, and that before the folder's name."""
    file = PurePosixPath(row["file_name"].replace("\\", "/")).as_posix()
    film = f"{name}/{file}"  # two folders may both hold an a.png
    patient = row.get("patient") or header.patient or folder_patient or film
    # study numbers often start again for each patient
    study = f"{patient}/{row['study']}" if row.get("study") else header.study or film
    age = _age_years(row.get("age_years", ""))
    return FilmRecord(
        film=film,
        file=file,
        patient=patient,
        study=study,
        view=_one_of("view", row.get("view", ""), VIEWS) if row.get("view") else header.view,
        sex=_one_of("sex", row.get("sex", ""), SEXES) if row.get("sex") else header.sex,
        age_years=header.age_years if age is None else age,
        findings={finding: _state(finding, row[finding]) for finding in FINDINGS if finding in row},
        refused=header.no_film,
    )


def _warn_of_placeholder(root: Path, headers: Iterable[DicomHeader]) -> None:
    told = [header.patient for header in headers if header != _NO_HEADER]
    patients = Counter(patient for patient in told if patient)
    if patients and (most := max(patients.values())) > max(_FEW_FILMS, len(told) / 2):
        logging.getLogger(__name__).warning(
            "%s: %d of %d DICOM files have one and the same Patient ID and count as one patient; if it is a placeholder, "
            "give a metadata.csv with the columns file_name and patient", root, most, len(told),
        )  # fmt: skip


def _folder_patients(names: Sequence[str]) -> dict[str, str]:
    """Return the folder that stands for a patient, for each film that lies in one.

    The outermost folders that are many and hold few films each are taken for patients; a few large ones are classes or splits.
    """
    for depth in range(1, max((name.count("/") for name in names), default=0) + 1):
        folders = {name: "/".join(name.split("/")[:depth]) for name in names if name.count("/") >= depth}
        sizes = Counter(folders.values())
        if len(sizes) >= _MANY_FOLDERS and median(sizes.values()) <= _FEW_FILMS:
            logging.getLogger(__name__).info("%d folders at depth %d are taken for patients", len(sizes), depth)
            return folders
    return {}


def read_labels(root: Path, name: str = "") -> list[FilmRecord]:
    """Return the films that the table lists (others are not taken), or without a table every film under `root`, sorted.

    name: what ids begin with; by default the folder's own name. DICOM objects that are no films come with the reason in `refused`.
    Raises ValueError when the table has no `file_name`, or a value that is not in the vocabulary (naming line and value).
    """
    name = name or root.resolve().name
    table = _metadata(root)
    if table is None:
        found = films_in(root)
        films = sorted(file for file, header in found.items() if not header.no_film)
        _warn_of_placeholder(root, (found[file] for file in films))
        patients = _folder_patients(films)
        return [_record(name, {"file_name": file}, found[file], patients.get(file, "")) for file in sorted(found)]
    rows = []
    unknown: dict[str, None] = {}  # in the order of the table, each once
    try:
        for line, row in _jsonl_rows(table) if table.suffix == ".jsonl" else read_table(table, ["file_name"]):
            unknown.update(dict.fromkeys(name for name in row if name and name not in _FIELDS and name not in FINDINGS))
            rows.append((line, row))
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is not UTF-8 text ({error})") from error
    if unknown:
        known = (*_FIELDS, *FINDINGS)
        named = ", ".join(name + nearest_name(name, known) for name in unknown)
        logging.getLogger(__name__).warning("%s: unknown columns are ignored: %s", table, named)
    untold = [row["file_name"] for _, row in rows if not all(row.get(name) for name in _FIELDS)]
    told = headers({file: ReleaseFile(str(root / file)) for file in untold})
    _warn_of_placeholder(root, filter(None, told.values()))
    records = []
    for line, row in rows:
        try:
            records.append(_record(name, row, told.get(row["file_name"]) or _NO_HEADER))
        except ValueError as error:
            raise ValueError(f"{table} line {line}: {error}") from error
    return records


def image_key(path: str) -> str:
    """Return the path itself: what a table names, and unique."""
    return path


FOLDER = Collection("folder", TERMS, read_labels, image_key, default_views=(*FRONTAL_VIEWS, "unknown"), by_path=True)
