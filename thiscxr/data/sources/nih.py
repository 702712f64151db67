"""NIH ChestX-ray14 as released: one label table, images flat or in numbered folders, two optional split lists.

Facts about the release (columns, defects, counts) are in the datasets reference, section 2. Age > 100 is a defect of the older table.
"""

import logging
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from thiscxr.data.labels import FINDINGS, NEGATIVE, NOT_MENTIONED, POSITIVE, FilmRecord, Terms
from thiscxr.data.sources.collection import Collection, read_table, walk_images
from thiscxr.files import nearest_name

NIH_FINDINGS = FINDINGS[1:15]  # the closed list of 14 that was mined from every report
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv", "sample_labels.csv")

_MAX_AGE = 100  # older tables hold ages up to 414
_AGE = re.compile(r"(\d+)([YMWD]?)")  # 58, or 058Y as in DICOM (PS3.5 section 6.2, AS)
_YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
_WIDTH, _HEIGHT = "OriginalImage[Width", "Height]"  # the unquoted comma of the header makes two columns of one

TERMS = Terms(
    title="NIH ChestX-ray14",
    terms="No restriction on use; link the NIH download site, cite the paper and acknowledge the NIH Clinical Center.",
    citation=(
        "Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM. ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks on "
        "Weakly-Supervised Classification and Localization of Common Thorax Diseases. CVPR 2017."
    ),
    url="https://nihcc.app.box.com/v/ChestXray-NIHCC",
    acknowledgement="The NIH Clinical Center is the data provider.",
)


def _table(root: Path) -> Path:
    for name in TABLES:
        for path in (root / name, root / f"{name}.gz"):
            if path.is_file():
                return path
    raise ValueError(f"{root} has no NIH label table; expected {TABLES[0]} or {TABLES[1]} in that folder")


@lru_cache(maxsize=4096)  # 836 different label strings serve 112,120 rows, which share their findings
def _findings(labels: str) -> dict[str, int]:
    if not labels:
        return dict.fromkeys(("No Finding", *NIH_FINDINGS, "Lung_Lesion"), NOT_MENTIONED)
    tokens = {token.strip() for token in labels.split("|")}
    for token in sorted(tokens):
        if token not in NIH_FINDINGS and token != "No Finding":
            raise ValueError(f"unknown finding {token!r}{nearest_name(token, NIH_FINDINGS)}; expected the 14 of NIH or 'No Finding'")
    states = {name: POSITIVE if name in tokens else NEGATIVE for name in ("No Finding", *NIH_FINDINGS)}
    # Both kinds of lesion are annotated in every film, so their union is annotated too: 11,207 positives in the whole release.
    states["Lung_Lesion"] = POSITIVE if tokens & {"Nodule", "Mass"} else NEGATIVE
    return states


def _age_years(text: str) -> float | None:
    match = _AGE.fullmatch(text)
    if match is None:
        return None
    age = int(match[1]) * _YEARS[match[2]]
    return age if age <= _MAX_AGE else None


def _aspect(row: dict[str, str]) -> float | None:
    width, height = row.get(_WIDTH, ""), row.get(_HEIGHT, "")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        return None
    return int(width) / int(height)


def _patient(text: str) -> str:
    return str(int(text)) if text.isdecimal() else text  # "00000013" and "13" are one patient


def read_labels(root: Path) -> list[FilmRecord]:
    """Return every row of the label table; findings outside the 14, their union Lung_Lesion and No Finding stay not annotated.

    Raises ValueError when the table, one of its columns or a finding's name is not as released.
    """
    table = _table(root)
    rows = read_table(
        table, ["Image Index", "Finding Labels", "Patient ID", "Patient Age", ("Patient Sex", "Patient Gender"), "View Position"]
    )
    records = []
    num_strange_ages = 0
    for line, row in rows:
        try:
            findings = _findings(row["Finding Labels"])
        except ValueError as error:
            raise ValueError(f"{table} line {line}: {error}") from error
        age, film, patient = _age_years(row["Patient Age"]), row["Image Index"], _patient(row["Patient ID"])
        num_strange_ages += age is None and row["Patient Age"] != ""
        sex = row.get("Patient Sex", row.get("Patient Gender", ""))
        records.append(
            FilmRecord(
                film=film,
                file=film,
                patient=patient,
                study=film,  # the release has no study ids and no dates
                view=row["View Position"] if row["View Position"] in ("PA", "AP") else "unknown",
                sex=sex if sex in ("M", "F") else "unknown",
                age_years=age,
                findings=findings,
                original_aspect=_aspect(row),
            )
        )
    if num_strange_ages:
        logging.getLogger(__name__).warning("%s: %d ages above 100 or not a number are taken as unknown", table, num_strange_ages)
    return _with_official_split(root, records)


def _with_official_split(root: Path, records: list[FilmRecord]) -> list[FilmRecord]:
    path = root / "test_list.txt"
    if not path.is_file():
        return records
    test_films = set(path.read_text(encoding="utf-8").split())
    # By patient, not by film: the official lists are patient-disjoint, and an edited one must not break that.
    test_patients = {record.patient for record in records if record.film in test_films}
    return [replace(record, split="holdout" if record.patient in test_patients else "train") for record in records]


def find_files(root: Path) -> dict[str, Path]:
    """Return the images under `root` by base name, which is unique in this collection; the first in sorted order wins.

    Copies as DICOM or JPEG serve where the table's PNG is not there.
    """
    files: dict[str, Path] = {}
    copies: dict[str, Path] = {}
    for path in walk_images(root):
        (files if path.suffix == ".png" else copies).setdefault(f"{path.stem}.png", path)
    return {**copies, **files}


NIH = Collection("nih", TERMS, read_labels, find_files)
