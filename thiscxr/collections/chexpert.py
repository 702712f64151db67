"""CheXpert as released: small or full, Stanford's four batches, or the CheXlocalize repack; one table each for train,
valid and test.

Ages of 90 are top-coded: 90 or more.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from sys import intern

from thiscxr.collections.archives import ReleaseFile, find_table
from thiscxr.collections.collection import Collection, missing_table, read_mapping, table_name
from thiscxr.collections.tables import Cells, read_table
from thiscxr.labels import FINDINGS, NEGATIVE, NOT_ANNOTATED, NOT_MENTIONED, POSITIVE, FilmRecord
from thiscxr.words import read_state

TRAIN_TABLES = {  # the release's own labels before later ones for the same films
    "train.csv": "CheXpert labeler",
    "train_cheXbert.csv": "CheXbert",
    "train_visualCheXbert.csv": "VisualCheXbert",
    "chexpert_train.csv": "CheXpert labeler",  # train.csv as torchxrayvision ships it
}
# labeled by radiologists; the other name is CheXlocalize's
READ_TABLES = (("valid.csv", "val_labels.csv"), ("test_labels.csv",))

_MAPPING = read_mapping("chexpert.json")
COLUMNS: dict[str, list[str]] = _MAPPING["findings"]
_FINDINGS = tuple(name for name in FINDINGS if name in COLUMNS)
# Under No Finding = 1 these are absent; devices are not findings in this sense, and the labeler mentions them there.
_ABSENT_WHEN_NORMAL = tuple(name for name in _FINDINGS if name not in ("No Finding", "Support_Devices"))
SILENCE = dict.fromkeys(_FINDINGS, NOT_MENTIONED)
ODD_LABEL = "label that is not 1, 0, -1 or empty"
_FILM = re.compile(r"(?:^|/)((patient\d+)/(study\d+)/view\d+_(frontal|lateral))\.\w+$")

_HELD_OUT = re.compile(r"(?:^|/)(?:valid|val|test)/patient\d+/")  # where all films are in one table


@lru_cache(maxsize=2**16)
def released_findings(states: tuple[int | None, ...]) -> Mapping[str, int] | None:
    """Return the findings of a row unchanged; None when one of its cells is odd."""
    return (
        None
        if None in states
        else {name: state for name, state in zip(_FINDINGS, states, strict=True) if state is not None}
    )


@lru_cache(maxsize=2**16)  # 23,707 different rows of labels serve 223,414 films, which share their findings
def labeler_findings(states: tuple[int | None, ...]) -> Mapping[str, int] | None:
    """Return the findings of a row of 14 states in the order of FINDINGS; None when one of them is None.

    Under No Finding, 12 blank findings are taken as absent. No Finding itself is positive or not mentioned, never
    negative: the other findings hold what contradicts it.
    """
    if None in states:
        return None
    findings = {name: NOT_MENTIONED if state is None else state for name, state in zip(_FINDINGS, states, strict=True)}
    if findings["No Finding"] == POSITIVE:
        return findings | {name: NEGATIVE for name in _ABSENT_WHEN_NORMAL if findings[name] == NOT_MENTIONED}
    return findings | {"No Finding": NOT_MENTIONED}


def label_rows(
    table: ReleaseFile, required: list[str | tuple[str, ...]]
) -> Iterator[tuple[int, dict[str, str], tuple[int | None, ...]]]:
    """Yield (line number, row, states of the 14 findings in its cells) of a table in the format of the CheXpert
    labeler.

    The states are in the order of FINDINGS; None: a cell that is not 1, 0, -1 or empty.
    """
    columns: list[str] = []
    for line, row in read_table(table, [*required, *(tuple(COLUMNS[name]) for name in _FINDINGS)]):
        columns = columns or [next(column for column in COLUMNS[name] if column in row) for name in _FINDINGS]
        yield line, row, tuple(_state(row[column]) for column in columns)


def _state(text: str) -> int | None:
    state = read_state(text)
    return None if state == NOT_ANNOTATED else state  # the labeler looks for all of them


def read_labels(root: Path) -> list[FilmRecord]:
    """Return every row of the tables for train, valid and test that are there; a row with an odd label is refused.

    Raises ValueError when none of them is there, a column is missing, or a path does not name patient, study and view.
    """
    tables = list(_tables(root))
    if not tables:
        raise missing_table(root, "CheXpert", "train.csv", "valid.csv")
    return [record for table in tables for record in _records(*table)]


def _tables(root: Path) -> Iterator[tuple[ReleaseFile, str, str | None]]:
    """Yield (table, labeler, split); the table decides what is held out, since its paths may name train, valid, val,
    test or nothing."""
    if train := find_table(root, *TRAIN_TABLES):
        yield train, TRAIN_TABLES[table_name(train)], None
    for names in READ_TABLES:
        if read := find_table(root, *names):
            yield read, "radiologists", "holdout"


def _records(table: ReleaseFile, labeler: str, split: str | None) -> Iterator[FilmRecord]:
    described: list[str | tuple[str, ...]] = ["Sex", "Age", "Frontal/Lateral", "AP/PA"]
    with Cells(table) as cells:
        for line, row, states in label_rows(table, ["Path", *(described if split is None else [])]):
            match = _search(row["Path"])
            if match is None:
                raise ValueError(
                    f"{table} line {line}: Path {row['Path']!r} does not end like patient00001/study1/view1_frontal.jpg"
                )
            film, patient, study, projection = match.groups()
            view, lateral = cells.view(row, "AP/PA"), "lateral" in (projection, cells.view(row, "Frontal/Lateral"))
            findings = labeler_findings(states)
            yield FilmRecord(
                film=film,
                file=film,
                patient=intern(patient),
                study=intern(f"{patient}/{study}"),  # study numbers start again for each patient
                view="lateral" if lateral else view,
                sex=cells.sex(row, "Sex"),
                age_years=cells.age(row, "Age") or None,  # 0 stands for unknown: three adults have it
                findings=SILENCE if findings is None else findings,
                as_released=released_findings(states),
                split=split or ("holdout" if _HELD_OUT.search(match.string) else None),
                labeler=labeler,
                refused=ODD_LABEL if findings is None else "",
            )


def _search(path: str) -> re.Match[str] | None:
    return _FILM.search(path.replace("\\", "/"))


def image_key(path: str) -> str:
    """Return patient, study and view of an image: patient numbers are never used twice, so the folders above do not
    matter."""
    match = _search(path)
    return match[1] if match else path


CHEXPERT = Collection("chexpert", read_labels, image_key)
