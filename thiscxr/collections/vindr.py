"""VinDr-CXR as PhysioNet or Kaggle (VinBigData) releases it: votes of three radiologists a film, consensus for the test
films.

It names no patients, so every film counts as a patient, and a patient may be in both splits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern

from thiscxr.collections.archives import ReleaseFile, find_table
from thiscxr.collections.collection import Collection, missing_table, read_mapping, share, table_name
from thiscxr.collections.names import stem
from thiscxr.collections.tables import Cells, read_table
from thiscxr.labels import NEGATIVE, NOT_MENTIONED, POSITIVE, UNCERTAIN, FilmRecord, spelled
from thiscxr.words import read_state

VOTES_TABLE = "image_labels_train.csv"  # PhysioNet: a row per film and radiologist, a column per class
BOX_TABLES = ("train.csv", "vinbigdata-train.csv")  # Kaggle: a row per box; the second name is torchxrayvision's
CONSENSUS_TABLE = "image_labels_test.csv"
_NEEDED = 2  # radiologists who must agree; one alone leaves a finding uncertain

_MAPPING = read_mapping("vindr.json")
ODD_LABEL = "label that is not 0 or 1"
ODD_CLASS = "class that is not VinDr's"


@dataclass(slots=True)
class _Marks:
    """The marks of each radiologist in a film."""

    marks: set[tuple[str, str]] = field(default_factory=set)  # class, radiologist
    odd: str = ""  # why the film has no findings, or ""

    def findings(self, classes: frozenset[str], needed: int) -> Mapping[str, int]:
        """Return the states of the findings that the `classes` of the table cover."""
        states = {}
        for name, words in _MAPPING["findings"].items():
            if not classes.isdisjoint(words):
                votes = len({reader for word, reader in self.marks if word in words})
                states[name] = (
                    NOT_MENTIONED if self.odd else POSITIVE if votes >= needed else UNCERTAIN if votes else NEGATIVE
                )
        return share(states)


def _wide(table: ReleaseFile, required: list[str]) -> tuple[dict[str, _Marks], frozenset[str]]:
    words = [word for words in _MAPPING["findings"].values() for word in words]
    films: dict[str, _Marks] = {}
    with Cells(table) as cells:
        for line, row in read_table(table, ["image_id", *required, *words]):
            film = films.setdefault(stem(cells.needed_id(line, row, "image_id")), _Marks())
            reader = intern(row.get("rad_id", ""))
            for word in words:
                marked = read_state(row[word])
                if marked not in (POSITIVE, NEGATIVE):
                    film.odd = ODD_LABEL
                if marked == POSITIVE:
                    film.marks.add((word, reader))
    return films, frozenset(words)


def _boxes(table: ReleaseFile) -> tuple[dict[str, _Marks], frozenset[str]]:
    classes = frozenset(_MAPPING["kaggle_classes"])
    films: dict[str, _Marks] = {}
    with Cells(table) as cells:
        for line, row in read_table(table, ["image_id", "class_name", "rad_id"]):
            film = films.setdefault(stem(cells.needed_id(line, row, "image_id")), _Marks())
            word = spelled(row["class_name"], classes)
            if word in classes:
                film.marks.add((word, intern(row["rad_id"])))
            else:
                film.odd = ODD_CLASS
                cells.known("class_name", word, None)
    return films, classes


def read_labels(root: Path) -> list[FilmRecord]:
    """Return the films of the training table, PhysioNet's before Kaggle's, and of the consensus table, which are held
    out.

    Raises ValueError when there is none of them, a column is missing, or a class has a name that is not VinDr's.
    """
    train, test = find_table(root, VOTES_TABLE, *BOX_TABLES), find_table(root, CONSENSUS_TABLE)
    if train is None and test is None:
        raise missing_table(root, "VinDr-CXR", VOTES_TABLE, BOX_TABLES[0])
    records = []
    if train is not None:
        films, classes = _wide(train, ["rad_id"]) if table_name(train) == VOTES_TABLE else _boxes(train)
        records += [_record(name, film, classes, _NEEDED, None) for name, film in films.items()]
    if test is not None:
        films, classes = _wide(test, [])
        records += [_record(name, film, classes, 1, "holdout") for name, film in films.items()]
    return records


def _record(name: str, film: _Marks, classes: frozenset[str], needed: int, split: str | None) -> FilmRecord:
    return FilmRecord(
        film=name,
        file=name,
        patient=name,
        study=name,
        view="PA",  # the release is PA films only
        findings=film.findings(classes, needed),
        split=split,
        labeler="radiologists",
        refused=film.odd,
    )


VINDR = Collection("vindr", read_labels, stem, suffixes=(".dicom", ".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff"))
