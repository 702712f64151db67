"""NIH ChestX-ray14 as released: one label table, images flat or in numbered folders, two optional split lists.

Facts about the release (columns, defects, counts) are in the datasets reference, section 2. Age > 100 is a defect of the older table.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from thiscxr.data.archives import find_table
from thiscxr.data.labels import FINDINGS, FilmRecord, Terms
from thiscxr.data.sources.collection import Collection, first_table, match_terms, missing_table, read_mapping, read_table, share
from thiscxr.files import nearest_name

NIH_FINDINGS = FINDINGS[1:15]  # the closed list of 14 that was mined from every report
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv", "sample_labels.csv")

_MAPPING = read_mapping("nih.json")
_TOKENS = frozenset(token for words in _MAPPING["findings"].values() for token in words["tokens"])
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


@lru_cache(maxsize=4096)  # 836 different label strings serve 112,120 rows, which share their findings
def _findings(labels: str) -> Mapping[str, int]:
    tokens = {token.strip() for token in labels.split("|")} if labels else set()
    for token in sorted(tokens):
        if token not in _TOKENS:
            raise ValueError(f"unknown finding {token!r}{nearest_name(token, NIH_FINDINGS)}; expected the 14 of NIH or 'No Finding'")
    # Both kinds of lesion are annotated in every film, so their union is annotated too: 11,207 positives in the whole release.
    return share(match_terms(tokens, _MAPPING["findings"], silent=not labels))


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
    table = first_table(root, TABLES)
    if table is None:
        raise missing_table(root, "NIH", *TABLES[:2])
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
                view=_MAPPING["views"].get(row["View Position"], "unknown"),
                sex=_MAPPING["sexes"].get(sex, "unknown"),
                age_years=age,
                findings=findings,
                original_aspect=_aspect(row),
                labeler="NIH text mining",
            )
        )
    if num_strange_ages:
        logging.getLogger(__name__).warning("%s: %d ages above 100 or not a number are taken as unknown", table, num_strange_ages)
    return _with_official_split(root, records)


def _with_official_split(root: Path, records: list[FilmRecord]) -> list[FilmRecord]:
    table = find_table(root, "test_list.txt")
    if table is None:
        return records
    with table.open() as file:
        test_films = set(file.read().decode("utf-8", "replace").split())
    # By patient, not by film: the official lists are patient-disjoint, and an edited one must not break that.
    test_patients = {record.patient for record in records if record.film in test_films}
    return [replace(record, split="holdout" if record.patient in test_patients else "train") for record in records]


def image_key(path: str) -> str:
    """Return the table's name for an image: base names are unique in this collection, and copies as DICOM or JPEG serve too."""
    return PurePosixPath(path).stem + ".png"


NIH = Collection("nih", TERMS, read_labels, image_key, suffixes=(".png", ".dcm", ".dicom", ".jpg", ".jpeg", ".tif", ".tiff"), squashed=True)
