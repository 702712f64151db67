"""PadChest as released: one table, images in numbered folders, in numbered zips, or flat.

Reports of no change since the last film, and poor films, leave other findings not mentioned.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from sys import intern

from thiscxr.collections.archives import find_table
from thiscxr.collections.collection import Collection, match_terms, missing_table, read_mapping, share
from thiscxr.collections.names import stem
from thiscxr.collections.splits import Splits
from thiscxr.collections.tables import Cells, read_table
from thiscxr.labels import NOT_MENTIONED, FilmRecord
from thiscxr.words import MAX_AGE, is_missing, read_year

TABLES = ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", "PADCHEST_chest_x_ray_images_labels_160K.csv")

LABELS_MISSING = "labels missing"
LABELS_EMPTY = "labels empty"
LABELS_EXCLUDE = "labels say exclude"
LABELS_ODD = "labels are not a list of words"

_MAPPING = read_mapping("padchest.json")
_EXCLUDE, _SILENT = frozenset(_MAPPING["exclude"]), frozenset(_MAPPING["silent"])
WORDS = frozenset(
    chain(_EXCLUDE, _SILENT, _MAPPING["others"], *chain(*(words.values() for words in _MAPPING["findings"].values())))
)
_SILENCE = dict.fromkeys(_MAPPING["findings"], NOT_MENTIONED)
# A Python list of strings, by a regular expression: a cell from an unknown author must not be evaluated.
_LIST = re.compile(r"""\[\s*(?:(?:'[^'\\]*'|"[^"\\]*")\s*(?:,\s*|(?=\])))*\]""")
_ITEM = re.compile(r"""'([^'\\]*)'|"([^"\\]*)\"""")


@lru_cache(maxsize=2**16)  # 28,809 different lists serve 160,861 rows
def label_tokens(text: str) -> frozenset[str] | None:
    """Return the stripped words of a printed Python list, without the empty one; None when it is no list of strings."""
    if not _LIST.fullmatch(text):
        return None
    return frozenset(token for one, other in _ITEM.findall(text) if (token := (one or other).strip()))


@lru_cache(maxsize=2**16)
def _findings(tokens: frozenset[str]) -> Mapping[str, int]:
    return share(
        match_terms(tokens, _MAPPING["findings"], silent=not tokens.isdisjoint(_SILENT) or not tokens <= WORDS)
    )


def _read(text: str) -> tuple[frozenset[str], str]:
    """Return the words of a row's labels, and why the row is refused, or an empty string."""
    if is_missing(text):
        return frozenset(), LABELS_MISSING
    tokens = label_tokens(text)
    if tokens is None:
        return frozenset(), LABELS_ODD
    if not tokens:
        return tokens, LABELS_EMPTY
    return tokens, "" if tokens.isdisjoint(_EXCLUDE) else LABELS_EXCLUDE


def _age_years(study_date: str, birth: str) -> float | None:
    year, born = read_year(study_date), read_year(birth)
    return None if year is None or born is None or not 0 <= year - born <= MAX_AGE else float(year - born)


def read_labels(root: Path) -> list[FilmRecord]:
    """Return every row of the table; those without usable labels are refused, and patients who share a study or report
    are split as one.

    Raises ValueError when the table or one of its columns is missing, or a row lacks one of its ids.
    """
    table = find_table(root, *TABLES)
    if table is None:
        raise missing_table(root, "PadChest", TABLES[0])
    columns = ["ImageID", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth"]
    columns += ["PatientSex_DICOM", "Projection", "ReportID"]
    records = []
    first_patients: dict[tuple[str, str], str] = {}
    links = []
    with Cells(table) as cells:
        for line, row in read_table(table, [*columns, "MethodLabel", "Labels"]):
            film, patient, study = (cells.needed_id(line, row, name) for name in ("ImageID", "PatientID", "StudyID"))
            film, patient, study = image_key(film), intern(patient), intern(study)
            for link in (("study", study), ("report", cells.id(row, "ReportID"))):
                if link[1] and first_patients.setdefault(link, patient) != patient:
                    links.append((first_patients[link], patient))
            tokens, refused = _read(row["Labels"])
            for token in tokens - WORDS:
                cells.known("Labels", token, None)
            records.append(
                FilmRecord(
                    film=film,
                    file=film,
                    patient=patient,
                    study=study,
                    view=cells.view(row, "Projection", _MAPPING["views"]),
                    sex=cells.sex(row, "PatientSex_DICOM"),
                    age_years=_age_years(row["StudyDate_DICOM"], row["PatientBirth"]),
                    findings=_SILENCE if refused else _findings(tokens),
                    labeler=_MAPPING["labelers"].get(row["MethodLabel"], ""),
                    refused=refused,
                )
            )
    ties = tie_patients(links)
    return [
        replace(film, split_as=("padchest", ties[film.patient])) if film.patient in ties else film for film in records
    ]


def tie_patients(links: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return patient -> smallest id of all the patients tied to it by `links`, for the patients of any link."""
    ties = Splits()
    for one, other in links:
        ties.tie(("padchest", one), ("padchest", other))
    return {patient: ties.root(("padchest", patient))[1] for link in links for patient in link}


def image_key(path: str) -> str:
    """Return the table's name for an image: base names are unique in this collection, and resized copies match."""
    return stem(path) + ".png"


PADCHEST = Collection("padchest", read_labels, image_key)
