"""RSNA Pneumonia Detection Challenge (2018) as Kaggle releases stage 2: NIH films, with radiologists' boxes around
opacities.

Its patientId is an id of a film; only RSNA's map to the file names of NIH identifies the patient, and with it a patient
is in the same split as the NIH films.
"""

import json
import logging
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from thiscxr.collections.archives import ReleaseFile, find_table
from thiscxr.collections.collection import FRONTAL_VIEWS, Collection, missing_table, read_mapping
from thiscxr.collections.names import base_name, stem
from thiscxr.collections.tables import Cells, read_table
from thiscxr.labels import NEGATIVE, NOT_MENTIONED, POSITIVE, FilmRecord
from thiscxr.words import read_state

LABEL_TABLE = "stage_2_train_labels.csv"
CLASS_TABLE = "stage_2_detailed_class_info.csv"
MAP = "pneumonia-challenge-dataset-mappings_2018.json"
HEADER_TABLE = "kaggle_stage_2_train_images_dicom_headers.csv"  # view, sex and age, as torchxrayvision collected them

_MAPPING = read_mapping("rsna.json")
ODD_LABEL = "Target that is not 0 or 1"


@lru_cache(maxsize=64)
def _findings(target: int | None, normal: int | None) -> Mapping[str, int]:
    # A box marks an opacity that is suspicious for pneumonia; pneumonia itself is not annotated.
    states = {} if normal is None else {"No Finding": normal}
    return {**states, "Lung_Opacity": NOT_MENTIONED if target is None else target}


def _patients(root: Path) -> dict[str, str]:
    """Return film -> NIH patient, as in NIH's table; empty without the map."""
    file = find_table(root, MAP)
    if file is None:
        logging.getLogger(__name__).warning(
            "%s has no %s, which identifies the patients: each film counts as a patient of its own, "
            "and films of one patient may be in both splits",
            root,
            MAP,
        )
        return {}
    try:
        rows = json.loads(file.read())
        if not isinstance(rows, list):
            raise TypeError
        return {row["subset_img_id"]: str(int(base_name(row["img_id"]).partition("_")[0])) for row in rows}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{file} is not RSNA's map, a list of objects with subset_img_id and img_id ({type(error).__name__})"
        ) from error


def _by_film(root: Path, name: str, film: str, *columns: str) -> dict[str, dict[str, str]] | None:
    table = find_table(root, name)
    return None if table is None else {stem(row[film]): row for _, row in read_table(table, [film, *columns])}


def _targets(table: ReleaseFile) -> dict[str, int | None]:
    """Return film -> Target; there is a row a box, and None for a film with an odd one."""
    targets: dict[str, int | None] = {}
    with Cells(table) as cells:
        for line, row in read_table(table, ["patientId", "Target"]):
            film, target = stem(cells.needed_id(line, row, "patientId")), read_state(row["Target"])
            target = target if target in (POSITIVE, NEGATIVE) else None
            before = targets.setdefault(film, target)
            targets[film] = None if target is None or before is None else max(target, before)
    return targets


def read_labels(root: Path) -> list[FilmRecord]:
    """Return the training films; without the class table No Finding is not annotated, without the map every film is its
    own patient.

    Raises ValueError when the label table or a column is missing, or the map is not as released.
    """
    table = find_table(root, LABEL_TABLE)
    if table is None:
        raise missing_table(root, "RSNA", LABEL_TABLE)
    classes = _by_film(root, CLASS_TABLE, "patientId", "class")
    headers = _by_film(root, HEADER_TABLE, "PatientID", "ViewPosition", "PatientSex", "PatientAge") or {}
    patients = _patients(root)
    with Cells(HEADER_TABLE) as cells:
        return [
            _record(cells, film, target, _normal(classes, film), patients.get(film), headers.get(film, {}))
            for film, target in _targets(table).items()
        ]


def _normal(classes: dict[str, dict[str, str]] | None, film: str) -> int | None:
    return None if classes is None else _MAPPING["classes"].get(classes.get(film, {}).get("class"), NOT_MENTIONED)


def _record(
    cells: Cells, film: str, target: int | None, normal: int | None, patient: str | None, header: dict[str, str]
) -> FilmRecord:
    return FilmRecord(
        film=film,
        file=film,
        patient=film if patient is None else patient,
        study=film,
        view=cells.view(header, "ViewPosition"),
        sex=cells.sex(header, "PatientSex"),
        age_years=cells.age(header, "PatientAge"),
        findings=_findings(target, normal),
        split_as=None if patient is None else ("nih", patient),
        labeler="radiologists",
        refused=ODD_LABEL if target is None else "",
    )


RSNA = Collection("rsna", read_labels, stem, default_views=(*FRONTAL_VIEWS, "unknown"), squashed=True)
