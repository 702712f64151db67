"""Phantom films as MIMIC-CXR releases its own: DICOM files, or their equalised JPEGs, in one tree, with gzipped tables
beside it.

One hospital, `phantom-c`; both releases hold the same films. Beside the DICOM files is what users put there:
the tables of the JPEG release, and MIMIC-IV's table of patients, which alone has sex and age. Datasets
reference, section 4.
"""

import gzip
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from thiscxr.labels import NOT_MENTIONED, POSITIVE, UNCERTAIN, FilmRecord
from thiscxr.phantom.releases.dicom import dicom
from thiscxr.phantom.releases.encode import deepened, equalised, jpeg, on_canvas
from thiscxr.phantom.releases.labeler import COLUMNS, VALUES, label, reported
from thiscxr.phantom.releases.release import Release, ReleasedFilm, Shot, csv_bytes, film_size, pick, study_shots
from thiscxr.pixels import Pixels

SITE = "phantom-c"
METADATA = (
    "dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition", "Rows", "Columns",
    "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning", "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
)  # fmt: skip
SPLIT = ("dicom_id", "study_id", "subject_id", "split")
LABELS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged_Cardiomediastinum", "Fracture", "Lung_Lesion",
    "Lung_Opacity", "No Finding", "Effusion", "Pleural_Other", "Pneumonia", "Pneumothorax", "Support_Devices",
)  # fmt: skip
PATIENTS = ("subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod")
BITS = 12
FORMS = {"MONOCHROME2 windowed": 0.4, "MONOCHROME1 windowed": 0.3, "MONOCHROME2": 0.2, "MONOCHROME1": 0.1}

_STEP = 3_819_661  # coprime to the moduli below: numbers are spread over p10 to p19
_SPLITS = {"train": 0.85, "validate": 0.05, "test": 0.1}
_ASPECTS = {2544 / 3056: 0.6, 3056 / 2544: 0.25, 2022 / 2022: 0.15}
# ViewPosition as reported for a drawn view; one in 25 is blank, and some are odd ones.
_POSITIONS = {"PA": ("PA",), "AP": ("AP",), "AP_supine": ("AP",), "lateral": ("LATERAL", "LL")}
_ODD_POSITIONS = {
    "PA": ("PA LLD", "PA RLD", "LAO", "RAO", "LPO"),
    "AP": ("AP AXIAL", "AP LLD", "AP RLD"),
    "AP_supine": ("AP LLD", "AP RLD"),
    "lateral": ("XTABLE LATERAL", "SWIMMERS"),
}
_BLANK_SHARE, _ODD_SHARE = 0.04, 0.02
_CODE_MEANINGS = {
    "PA": "postero-anterior",
    "AP": "antero-posterior",
    "LATERAL": "lateral",
    "LL": "left lateral",
    "": "",
}
_UNLABELLED_SHARE = 0.02  # of studies: they have no row in the label tables
_UNKNOWN_SHARE = 0.03  # of patients: MIMIC-IV has no row for them


def _subject(shot: Shot) -> str:
    return str(10_000_032 + shot.patient * _STEP % 9_990_000)


def _study(shot: Shot) -> str:
    return str(50_414_267 + (shot.patient * 10 + shot.study) * _STEP % 9_500_000)


def _dicom_id(shot: Shot) -> str:
    digest = hashlib.sha256(f"{_study(shot)}/{shot.number}".encode()).hexdigest()
    return "-".join(digest[i : i + 8] for i in range(0, 40, 8))


def _position(shot: Shot) -> tuple[str, str]:
    """Return ViewPosition as reported, and the view that it means."""
    random = shot.dice("mimic position")
    what = random.random()
    if what < _BLANK_SHARE:
        return "", "unknown"
    if what < _BLANK_SHARE + _ODD_SHARE:
        position = str(random.choice(_ODD_POSITIONS[shot.view]))
        return position, "other"
    return str(random.choice(_POSITIONS[shot.view])), shot.view


def _film(shot: Shot, res: int, suffix: str) -> ReleasedFilm:
    random = shot.dice("mimic")
    position, view = _position(shot)
    orientation = "Erect" if shot.view != "AP_supine" else "Recumbent"
    if random.random() < 0.1:
        orientation, view = "", "AP" if view == "AP_supine" else view
    size = film_size(res, pick(random, _ASPECTS))
    hour, minute, second = random.integers((1, 0, 0), (24, 60, 60))
    cells = {
        **_study_cells(shot),
        "dicom_id": _dicom_id(shot),
        "PerformedProcedureStepDescription": _procedure(shot, position),
        "ViewPosition": position,
        "Rows": str(size[1]),
        "Columns": str(size[0]),
        # 213014.53100000002
        "StudyTime": repr(int(f"{hour}{minute:02d}{second:02d}") + round(float(random.random()), 3)),
        "ProcedureCodeSequence_CodeMeaning": _procedure(shot, position),
        "ViewCodeSequence_CodeMeaning": _CODE_MEANINGS.get(position, ""),
        "PatientOrientationCodeSequence_CodeMeaning": orientation,
    }
    subject, study, raw = cells["subject_id"], cells["study_id"], _labels(shot)
    sex, age_years = _demographics(shot) if suffix == ".dcm" else ("", 0)
    record = FilmRecord(
        film=cells["dicom_id"],
        file=cells["dicom_id"],
        patient=subject,
        study=study,
        view=view,
        sex=sex or "unknown",
        age_years=age_years or None,
        findings=reported(raw) if raw else dict.fromkeys(COLUMNS, NOT_MENTIONED),
        split="train" if cells["split"] == "train" else "holdout",
    )
    path = f"files/p{subject[:2]}/p{subject}/s{study}/{cells['dicom_id']}{suffix}"
    return ReleasedFilm(path, record, shot, size, pick(random, FORMS), cells)


def _study_cells(shot: Shot) -> dict[str, str]:
    random = shot.patient_dice("mimic date")
    year, month, day = random.integers((2110, 1, 1), (2201, 5, 29))
    return {
        "subject_id": _subject(shot),
        "study_id": _study(shot),
        # shifted into the future, all studies of a patient alike
        "StudyDate": f"{year}{month + 4 * shot.study:02d}{day:02d}",
        "split": pick(shot.patient_dice("mimic split"), _SPLITS),
    }


def _procedure(shot: Shot, position: str) -> str:
    # which settles no blank view
    return "CHEST (PORTABLE AP)" if shot.view.startswith("AP") and position else "CHEST (PA AND LAT)"


def _demographics(shot: Shot) -> tuple[str, int]:
    """Return sex and age as in MIMIC-IV: 91 for everybody above 89; "" and 0 where unknown."""
    if shot.patient_dice("mimic-iv").random() < _UNKNOWN_SHARE:
        return "", 0
    body = shot.body()
    return body.sex, 91 if body.age_years > 89 else body.age_years


def _labels(shot: Shot) -> dict[str, int] | None:
    random = shot.study_dice("mimic labels")
    return None if random.random() < _UNLABELLED_SHARE else label(shot.body(), random)


def _negbio(shot: Shot, states: Mapping[str, int]) -> dict[str, int]:
    """Return what the other labeler reports: mostly the same, sometimes less sure."""
    random = shot.study_dice("mimic negbio")
    doubts = {name: random.random() < 0.05 for name in states}
    return {
        name: UNCERTAIN if state == POSITIVE and doubts[name] and name != "No Finding" else state
        for name, state in states.items()
    }


def _shots(seed: int) -> Iterator[Shot]:
    return study_shots(2, seed, (SITE,))


def _stored(film: ReleasedFilm, pixels: Pixels) -> Pixels:
    """Return the detector's values, uint16 of 12 bits, bone bright."""
    return on_canvas(deepened(pixels, BITS, film.shot.dice("mimic noise")), film.size)


def _encode_jpg(film: ReleasedFilm, pixels: Pixels) -> bytes:
    deep = _stored(film, pixels).astype(float)
    deep -= deep.min()
    return jpeg(equalised((deep / max(deep.max(), 1) * 255).astype("uint8")), quality=95)


def _encode_dicom(film: ReleasedFilm, pixels: Pixels) -> bytes:
    photometric, *windowed = film.form.split()
    tags: dict[str, object] = {
        "PhotometricInterpretation": photometric,
        "PatientID": film.record.patient,
        "StudyID": film.record.study,
        "StudyDate": film.cells["StudyDate"],
        "StudyTime": f"{float(film.cells['StudyTime']):010.3f}",
        "ViewPosition": film.cells["ViewPosition"],
    }
    if windowed:  # several are alternatives, of which the first counts
        tags |= {
            "WindowCenter": [2048, 1600],
            "WindowWidth": [4096, 2000],
            "WindowCenterWidthExplanation": ["NORMAL", "HARDER"],
        }
    return dicom(_stored(film, pixels), BITS, film.record.film, film.record.study, tags)


def _tables(films: Sequence[ReleasedFilm], archived: bool) -> Iterator[tuple[str, bytes]]:
    films = sorted(films, key=lambda film: film.path)
    for name, columns in (("metadata", METADATA), ("split", SPLIT)):
        yield (
            f"mimic-cxr-2.0.0-{name}.csv.gz",
            _table(columns, ([film.cells[column] for column in columns] for film in films)),
        )
    studies = {film.record.study: film for film in films}
    header = ("subject_id", "study_id", *(COLUMNS[name] for name in LABELS))
    for labeler in ("chexpert", "negbio"):
        rows = []
        for study, film in studies.items():
            if states := _labels(film.shot):
                states = _negbio(film.shot, states) if labeler == "negbio" else states
                rows.append((film.record.patient, study, *(VALUES[states[name]] for name in LABELS)))
        yield f"mimic-cxr-2.0.0-{labeler}.csv.gz", _table(header, rows)


def _tables_dicom(films: Sequence[ReleasedFilm], archived: bool) -> Iterator[tuple[str, bytes]]:
    yield from _tables(films, archived)  # those of the JPEG release, which its users put beside the DICOM files
    films = sorted(films, key=lambda film: film.path)
    yield (
        "cxr-record-list.csv.gz",
        _table(
            ("subject_id", "study_id", "dicom_id", "path"),
            ((film.record.patient, film.record.study, film.record.film, film.path) for film in films),
        ),
    )
    reports = {
        film.record.study: (film.record.patient, film.record.study, f"{film.path.rpartition('/')[0]}.txt")
        for film in films
    }
    yield "cxr-study-list.csv.gz", _table(("subject_id", "study_id", "path"), reports.values())
    patients = {}
    for film in films:
        sex, age_years = _demographics(film.shot)
        if sex:
            year = film.cells["StudyDate"][:4]
            patients[film.record.patient] = (film.record.patient, sex, age_years, year, "2014 - 2016", "")
    yield "patients.csv.gz", _table(PATIENTS, patients.values())


def _table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> bytes:
    return gzip.compress(csv_bytes(",".join(columns), rows), mtime=0)  # no timestamp: always the same bytes


MIMIC_JPG = Release(_shots, partial(_film, suffix=".jpg"), _encode_jpg, _tables)
MIMIC_DICOM = Release(_shots, partial(_film, suffix=".dcm"), _encode_dicom, _tables_dicom)
