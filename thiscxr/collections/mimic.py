"""MIMIC-CXR as released, as JPEG or as DICOM: one tree of files, and tables for films, labels and splits, gzipped or
not.

The release's JPEGs are histogram-equalised, its DICOM files are not, so a film that is there in both formats is read
from DICOM.
"""

import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from sys import intern

from tqdm import tqdm

from thiscxr.collections.archives import ReleaseFile, find_table, release_files
from thiscxr.collections.chexpert import ODD_LABEL, SILENCE, label_rows, labeler_findings, released_findings
from thiscxr.collections.collection import Collection, missing_table, read_mapping, table_name
from thiscxr.collections.names import base_name
from thiscxr.collections.report_films import LABELER, ReportFindings
from thiscxr.collections.tables import Cells, read_table
from thiscxr.labels import FilmRecord
from thiscxr.words import is_missing, read_split, read_year

# Release 2.1.0 keeps the names of 2.0.0 for all but the new table.
FILM_TABLES = ("mimic-cxr-2.0.0-metadata.csv", "mimic-cxr-2.1.0-metadata.csv", "cxr-record-list.csv")
SPLIT_TABLES = ("mimic-cxr-2.0.0-split.csv", "mimic-cxr-2.1.0-split.csv")
LABEL_TABLES = {
    "mimic-cxr-2.0.0-chexpert.csv": "CheXpert labeler",
    "mimic-cxr-2.1.0-chexpert.csv": "CheXpert labeler",
    "mimic-cxr-2.0.0-negbio.csv": "NegBio",
    "mimic-cxr-2.1.0-negbio.csv": "NegBio",
}
READ_TABLE = "mimic-cxr-2.1.0-test-set-labeled.csv"
# of mimic-cxr-reports.zip, packed or not: files/p10/p10000032/s50414267.txt
_REPORT = re.compile(r"(?:^|/)s(\d+)\.txt$")
_OLDEST = 91.0  # MIMIC-IV's value for everybody above 89

# Where MIMIC-IV's table may be: in the folder, beside it, or in its place in PhysioNet's tree.
_IV = "[Mm][Ii][Mm][Ii][Cc]*[Ii][Vv]*"
_PLACES = (
    ("patients.csv*", "hosp/patients.csv*", "*/patients.csv*", "*/hosp/patients.csv*"),
    ("patients.csv*", "hosp/patients.csv*", f"{_IV}/patients.csv*", f"{_IV}/hosp/patients.csv*"),
    (f"{_IV}/*/hosp/patients.csv*",),
)

_MAPPING = read_mapping("mimic.json")
_ORIENTATION = "PatientOrientationCodeSequence_CodeMeaning"


@dataclass(frozen=True, slots=True)
class _Labels:
    """The labels of a study; also used for the eight studies that no labeler has a row for."""

    findings: Mapping[str, int] | None
    as_released: Mapping[str, int] | None = None
    labeler: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class _Patient:
    sex: str = "unknown"
    anchor_age: float | None = None
    anchor_year: int | None = None


def _labels(root: Path) -> dict[str, _Labels]:
    """Return study -> labels; those of the 687 test studies that radiologists read again replace the labeler's."""
    table = find_table(root, *LABEL_TABLES)
    labels = {} if table is None else dict(_study_labels(table, LABEL_TABLES[table_name(table)]))
    read = find_table(root, READ_TABLE)
    return labels if read is None else {**labels, **dict(_study_labels(read, "radiologists"))}


def _study_labels(table: ReleaseFile, labeler: str) -> Iterator[tuple[str, _Labels]]:
    with Cells(table) as cells:
        for _, row, states in label_rows(table, ["study_id"]):
            yield intern(cells.id(row, "study_id")), _shared_labels(states, labeler)


def _report_labels(root: Path) -> dict[str, _Labels]:
    """Return study -> labels of its report; studies without a readable report have no findings."""
    files = {match[1]: file for name, file in release_files(root, (".txt",)) if (match := _REPORT.search(name))}
    if not files:
        raise ValueError(
            f"{root} has no reports; expected mimic-cxr-reports.zip there, or its "
            "files such as p10/p10000032/s50414267.txt"
        )
    with ReportFindings(root) as reports:
        bar = tqdm(files.items(), unit="report", file=sys.stderr, desc="label", delay=2)
        return {intern(study): _Labels(reports.read_file(file), labeler=LABELER) for study, file in bar}


@lru_cache(maxsize=2**16)
def _shared_labels(states: tuple[int | None, ...], labeler: str) -> _Labels:
    findings = labeler_findings(states)
    return (
        _Labels(SILENCE, None, labeler, ODD_LABEL)
        if findings is None
        else _Labels(findings, released_findings(states), labeler)
    )


def _splits(root: Path) -> dict[str, str]:
    """Return patient -> split. By patient: the release has none in both, and an edited table must not break that."""
    table = find_table(root, *SPLIT_TABLES)
    splits: dict[str, str] = {}
    if table is None:
        logging.getLogger(__name__).warning(
            "%s has no %s: a fifth of the patients is held out, and not the official validation and test patients",
            root,
            SPLIT_TABLES[0],
        )
        return splits
    with Cells(table) as cells:
        for line, row in read_table(table, ["subject_id", "split"]):
            split = read_split(row["split"])
            if split is None:
                raise ValueError(f"{table} line {line}: split {row['split']!r} is not one of train, validate, test")
            subject = cells.id(row, "subject_id")
            if splits.get(subject) != "holdout":
                splits[intern(subject)] = split
    return splits


def _patients(root: Path) -> dict[str, _Patient]:
    """Return patient -> sex and age from MIMIC-IV's `patients` table in the folder or beside it; empty when it is not
    there."""
    root = root.resolve()
    paths = (
        path
        for folder, pattern in zip((root, root.parent, root.parent.parent), _PLACES, strict=True)
        for path in _matches(folder, pattern)
    )
    for path in paths:
        try:
            with Cells(path) as cells:
                return {
                    cells.id(row, "subject_id"): _Patient(
                        cells.sex(row, "gender"), cells.age(row, "anchor_age"), read_year(row["anchor_year"])
                    )
                    for _, row in read_table(path, ["subject_id", "gender", "anchor_age", "anchor_year"])
                }
        except ValueError as error:  # perhaps another table of patients: the films can do without it
            logging.getLogger(__name__).warning("no sex and age of MIMIC-CXR's patients: %s", error)
    return {}


def _matches(folder: Path, patterns: Sequence[str]) -> Iterator[Path]:
    for pattern in patterns:
        yield from (path for path in sorted(folder.glob(pattern)) if path.name in ("patients.csv", "patients.csv.gz"))


def _age_years(patient: _Patient, study_date: str) -> float | None:
    year = read_year(study_date)  # shifted into the future, as the anchor is: only the difference has a meaning
    if patient.anchor_age is None or patient.anchor_year is None or year is None:
        return None
    age = patient.anchor_age + year - patient.anchor_year
    return min(age, _OLDEST) if age >= 0 else None


def _view(cells: Cells, row: dict[str, str]) -> str:
    """Return the view that ViewPosition names; where it is blank, the view code or a procedure of a single view may
    name it."""
    if not is_missing(row.get("ViewPosition", "")):
        view = cells.view(row, "ViewPosition", _MAPPING["views"])
    else:
        view = _MAPPING["view_codes"].get(row.get("ViewCodeSequence_CodeMeaning", "").lower())
        view = view or _MAPPING["procedures"].get(row.get("PerformedProcedureStepDescription", ""), "unknown")
    return "AP_supine" if view == "AP" and row.get(_ORIENTATION) == "Recumbent" else view


def read_labels(root: Path, reports: bool = False) -> list[FilmRecord]:
    """Return every row of the metadata, or else of the record list, which names no view; studies with an odd label are
    refused.

    reports: the findings come from the reports, which are distributed separately, and not from the label tables.
    Raises ValueError when both tables or a column of any table are missing, or a row lacks one of its ids.
    """
    table = find_table(root, *FILM_TABLES)
    if table is None:
        raise missing_table(root, "MIMIC-CXR", FILM_TABLES[0], FILM_TABLES[-1])
    labels, splits, patients = _report_labels(root) if reports else _labels(root), _splits(root), _patients(root)
    if not labels:
        logging.getLogger(__name__).warning(
            "%s has no label table such as %s: no finding is annotated", root, next(iter(LABEL_TABLES))
        )
    unlabeled = _Labels(SILENCE if labels and not reports else None)
    records = []
    described = [] if table_name(table) == FILM_TABLES[-1] else ["ViewPosition"]
    with Cells(table) as cells:
        for line, row in read_table(table, ["dicom_id", "subject_id", "study_id", *described]):
            film, subject, study = (cells.needed_id(line, row, name) for name in ("dicom_id", "subject_id", "study_id"))
            film, subject, study = image_key(film), intern(subject), intern(study)
            known, patient = labels.get(study, unlabeled), patients.get(subject, _Patient())
            records.append(
                FilmRecord(
                    film=film,
                    file=film,
                    patient=subject,
                    study=study,
                    view=_view(cells, row),
                    sex=patient.sex,
                    age_years=_age_years(patient, row.get("StudyDate", "")),
                    findings=known.findings,
                    as_released=known.as_released,
                    split=splits.get(subject),
                    labeler=known.labeler,
                    refused=known.refused,
                )
            )
    return records


def image_key(path: str) -> str:
    """Return the DICOM id that an image is named after, whatever its suffix: ids are unique, so the folders above do
    not matter."""
    return base_name(path).partition(".")[0]


MIMIC = Collection(
    "mimic-cxr",
    read_labels,
    image_key,
    suffixes=(".dcm", ".dcm.gz", ".dicom", ".jpg", ".jpeg", ".png"),
    equalised=(".jpg", ".jpeg", ".png"),
    reports=True,
)
