"""Phantom films as CheXpert v1.0 releases its own: oblong JPEGs, frontal and lateral, train.csv and valid.csv; or the
zips of its download.

One hospital, `phantom-b`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import takewhile

from thiscxr.labels import FilmRecord
from thiscxr.phantom.releases.encode import jpeg, on_canvas
from thiscxr.phantom.releases.labeler import COLUMNS, VALUES, label, read_by_radiologists, reported
from thiscxr.phantom.releases.release import Release, ReleasedFilm, Shot, csv_bytes, film_size, pick, study_shots
from thiscxr.pixels import Pixels

SITE = "phantom-b"
HEADER = ",".join(("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *COLUMNS.values()))
NUM_TRAIN_PATIENTS = 64_540
_STEP = 21_599  # coprime to it: patients are spread over all batches, and number 1 comes first
_VALID_SHARE = 0.1  # of patients
_ASPECTS = {390 / 320: 0.6, 320 / 389: 0.35, 1.0: 0.05}
_FORMS = {"black L": 0.8, "white L": 0.15, "black RGB": 0.05}  # border and channels
_SMALL, _FULL = "CheXpert-v1.0-small", "CheXpert-v1.0"
_BATCH_ENDS = (21_514, 43_018, 64_541)  # first patient of the next batch
_BATCHES = ("batch 1 (validate & csv)", "batch 2 (train 1)", "batch 3 (train 2)", "batch 4 (train 3)")


def _number(shot: Shot) -> tuple[str, int]:
    """Return the split of a patient and their number in it."""
    if shot.patient_dice("chexpert split").random() < _VALID_SHARE:
        return "valid", NUM_TRAIN_PATIENTS + 1 + shot.patient
    return "train", 1 + shot.patient * _STEP % NUM_TRAIN_PATIENTS


def _film(shot: Shot, res: int) -> ReleasedFilm:
    body, random = shot.body(), shot.dice("chexpert")
    who = shot.patient_dice("chexpert unknown").random(2)
    split, number = _number(shot)
    lateral = shot.view == "lateral"
    # Sixteen laterals of the release are labelled frontal, with the side on the detector in place of AP or PA.
    misnamed = lateral and random.random() < 0.05
    direction = "Lateral" if lateral and not misnamed else "Frontal"
    raw = read_by_radiologists(body) if split == "valid" else label(body, shot.study_dice("chexpert labels"))
    study = f"patient{number:05d}/study{shot.study + 1}"
    name = f"{study}/view{shot.number + 1}_{direction.lower()}"
    path = f"{_SMALL}/{split}/{name}.jpg"
    sex_known, age_known = who > (0.01, 0.02)
    cells = {
        "Path": path,
        "Sex": {"M": "Male", "F": "Female"}[body.sex] if sex_known else "Unknown",
        "Age": str(body.age_years) if age_known else "0",
        "Frontal/Lateral": direction,
        "AP/PA": "LL" if misnamed else "" if lateral else shot.view[:2],  # no supine flag exists
        **{COLUMNS[name]: VALUES[state] for name, state in raw.items()},
    }
    record = FilmRecord(
        film=name,
        file=name,
        patient=f"patient{number:05d}",
        study=study,
        view="lateral" if lateral else shot.view[:2],
        sex=body.sex if sex_known else "unknown",
        age_years=body.age_years if age_known else None,
        findings=reported(raw),
        split="holdout" if split == "valid" else None,
    )
    return ReleasedFilm(path, record, shot, film_size(res, pick(random, _ASPECTS)), pick(random, _FORMS), cells)


def _shots(seed: int) -> Iterator[Shot]:
    return takewhile(lambda shot: shot.patient < NUM_TRAIN_PATIENTS, study_shots(1, seed, (SITE,)))


def _encode(film: ReleasedFilm, pixels: Pixels) -> bytes:
    border, mode = film.form.split()
    white = border == "white" and pixels.any()  # a blank film is blank all over
    return jpeg(on_canvas(pixels, film.size, 255 if white else 0), quality=90, mode=mode)


def _tables(films: Sequence[ReleasedFilm], archived: bool) -> Iterator[tuple[str, bytes]]:
    for split in ("train", "valid"):
        mine = sorted(
            (film for film in films if film.path.startswith(f"{_SMALL}/{split}/")), key=lambda film: film.path
        )
        if archived:  # the download is the full release
            mine = [
                replace(film, cells={**film.cells, "Path": film.cells["Path"].replace(_SMALL, _FULL)}) for film in mine
            ]
        yield f"{_SMALL}/{split}.csv", csv_bytes(HEADER, (film.cells.values() for film in mine))


def _archive(path: str, rank: float) -> tuple[str, str]:
    inside = path.removeprefix(f"{_SMALL}/")
    batch = _BATCHES[0]
    if match := re.match(r"train/patient(\d+)/", inside):
        batch = _BATCHES[1 + sum(int(match[1]) >= end for end in _BATCH_ENDS)]
        inside = inside.removeprefix("train/")  # the batches of the training set have no such level
    return f"{_FULL} {batch}.zip", f"{_FULL} {batch}/{inside}"


CHEXPERT = Release(_shots, _film, _encode, _tables, _archive)
