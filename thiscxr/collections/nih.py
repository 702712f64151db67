"""NIH ChestX-ray14 as released: one label table, images flat or in numbered folders, two optional split lists.

Ages above 100 are a defect of the older table.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from thiscxr.collections.archives import find_table
from thiscxr.collections.collection import Collection, match_terms, missing_table, read_mapping, share
from thiscxr.collections.names import stem
from thiscxr.collections.tables import Cells, open_text, read_table
from thiscxr.labels import FINDINGS, FilmRecord, spelled
from thiscxr.words import is_missing

NIH_FINDINGS = FINDINGS[1:15]  # the closed list of 14 that was mined from every report
TEST_LISTS = ("test_list.txt", "test_list_NIH.txt")  # the second name is Kaggle's, beside its copy for 224 px
TRAIN_LISTS = ("train_val_list.txt", "train_val_list_NIH.txt")
TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv", "sample_labels.csv")

_MAPPING = read_mapping("nih.json")
_TOKENS = frozenset(token for words in _MAPPING["findings"].values() for token in words["tokens"])
_MAX_AGE = 100  # older tables hold ages up to 414
_WIDTH, _HEIGHT = "OriginalImage[Width", "Height]"  # the unquoted comma of the header makes two columns of one


@lru_cache(maxsize=4096)  # 836 different label strings serve 112,120 rows, which share their findings
def _tokens(labels: str) -> frozenset[str]:
    words = () if is_missing(labels) else labels.split("|")
    return frozenset(spelled(word.strip(), _TOKENS) for word in words if word.strip())


@lru_cache(maxsize=4096)
def _findings(labels: str) -> Mapping[str, int]:
    # Both kinds of lesion are annotated in every film, so their union is annotated too: 11,207 positives in the whole
    # release. The meaning of a word that is not NIH's is unknown, so no other finding is absent.
    tokens = _tokens(labels)
    return share(match_terms(tokens & _TOKENS, _MAPPING["findings"], silent=not tokens or not tokens <= _TOKENS))


def _aspect(row: dict[str, str]) -> float | None:
    width, height = row.get(_WIDTH, ""), row.get(_HEIGHT, "")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        return None
    return int(width) / int(height)


def _patient(text: str) -> str:
    return str(int(text)) if text.isdecimal() else text  # "00000013" and "13" are one patient


def read_labels(root: Path) -> list[FilmRecord]:
    """Return every row of the label table; findings outside the 14, their union Lung_Lesion and No Finding stay not
    annotated.

    Raises ValueError when the table or one of its columns is missing, or a row lacks one of its ids.
    """
    table = find_table(root, *TABLES)
    if table is None:
        raise missing_table(root, "NIH", *TABLES[:2])
    rows = read_table(
        table,
        [
            "Image Index",
            "Finding Labels",
            "Patient ID",
            "Patient Age",
            ("Patient Sex", "Patient Gender"),
            "View Position",
        ],
    )
    records = []
    with Cells(table) as cells:
        for line, row in rows:
            film = image_key(cells.needed_id(line, row, "Image Index"))
            for token in _tokens(row["Finding Labels"]) - _TOKENS:
                cells.known("Finding Labels", token, None)
            records.append(
                FilmRecord(
                    film=film,
                    file=film,
                    patient=_patient(cells.needed_id(line, row, "Patient ID")),
                    study=film,  # the release has no study ids and no dates
                    view=cells.view(row, "View Position"),
                    sex=cells.sex(row, "Patient Sex" if "Patient Sex" in row else "Patient Gender"),
                    age_years=cells.age(row, "Patient Age", _MAX_AGE),
                    findings=_findings(row["Finding Labels"]),
                    original_aspect=_aspect(row),
                    labeler="NIH text mining",
                )
            )
    return _with_official_split(root, records)


def _with_official_split(root: Path, records: list[FilmRecord]) -> list[FilmRecord]:
    """Hold out the patients of the test list, or, where only the other list is there, those that it does not name."""
    test, train = _listed(root, TEST_LISTS), _listed(root, TRAIN_LISTS)
    if test is None and train is None:
        logging.getLogger(__name__).warning(
            "%s has no %s: a fifth of the patients is held out, and not the official test patients",
            root,
            " or ".join(TEST_LISTS),
        )
        return records
    test_films = test if test is not None else {record.film for record in records} - (train or set())
    # By patient, not by film: the official lists are patient-disjoint, and an edited one must not break that.
    test_patients = {record.patient for record in records if record.film in test_films}
    if not test_patients:
        logging.getLogger(__name__).warning("%s: the official split lists hold out none of the table's films", root)
    return [replace(record, split="holdout" if record.patient in test_patients else "train") for record in records]


def _listed(root: Path, names: tuple[str, ...]) -> set[str] | None:
    table = find_table(root, *names)
    if table is None:
        return None
    with open_text(table) as file:
        return {image_key(name) for name in file.read().split()}


def image_key(path: str) -> str:
    """Return the table's name for an image: base names are unique in this collection, and copies as DICOM or JPEG
    match too."""
    return stem(path) + ".png"


NIH = Collection(
    "nih",
    read_labels,
    image_key,
    suffixes=(".png", ".dcm", ".dicom", ".jpg", ".jpeg", ".tif", ".tiff"),
    squashed=True,
)
