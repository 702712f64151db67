"""Phantom films as NIH ChestX-ray14 releases its own: 8-bit squares of oblong films, one table, two split lists, tars
of images.

One hospital, `phantom-a`, frontal films only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from thiscxr.collections.nih import NIH_FINDINGS
from thiscxr.labels import FilmRecord
from thiscxr.phantom import Patient
from thiscxr.phantom.releases.encode import on_canvas, png, squashed
from thiscxr.phantom.releases.release import Release, ReleasedFilm, Shot, csv_bytes, film_size, pick, single_shots
from thiscxr.pixels import Pixels

SITE = "phantom-a"
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
_VIEWS = {"PA": 0.6, "AP": 0.4}
_TEST_SHARE = 0.2  # of patients
_RGBA_SHARE = 0.02  # four times the real one, so that small releases have some
_LATER_SHARE = 0.1  # of patients, whose first films were left out of the release


@dataclass(frozen=True, slots=True)
class _Original:
    """The film before it was squashed to a square: size in px, and pixel spacing in mm as the table writes it."""

    width: int
    height: int
    spacing: str


_ORIGINALS = {
    _Original(2500, 2048, "0.168"): 0.32,
    _Original(2992, 2991, "0.14300000000000002"): 0.26,
    _Original(3056, 2544, "0.139"): 0.20,
    _Original(2048, 2500, "0.171"): 0.16,
    _Original(2021, 2021, "0.19431099999999998"): 0.06,
}


def _states(body: Patient) -> dict[str, int]:
    present = [name for name in NIH_FINDINGS if name in body.severities]
    states = {name: int(name in present) for name in NIH_FINDINGS}
    lesion = bool({"Nodule", "Mass"} & set(present))
    # fractures and devices are "No Finding" to NIH
    return {"No Finding": int(not present), **states, "Lung_Lesion": int(lesion)}


def _film(shot: Shot, res: int) -> ReleasedFilm:
    body, random = shot.body(), shot.dice("nih")
    original = pick(random, _ORIGINALS)
    patient = shot.patient + 1
    later = shot.patient_dice("nih later").random() < _LATER_SHARE
    name = f"{patient:08d}_{shot.number + later:03d}.png"
    states = _states(body)
    cells = {
        "Image Index": name,
        "Finding Labels": "|".join(finding for finding in NIH_FINDINGS if states[finding]) or "No Finding",
        "Follow-up #": str(shot.number),  # renumbered in 2020: the suffix of the name is not
        "Patient ID": str(patient),
        "Patient Age": str(body.age_years),
        "Patient Gender": body.sex,
        "View Position": shot.view,
        "OriginalImage[Width": str(original.width),
        "Height]": str(original.height),
        "OriginalImagePixelSpacing[x": original.spacing,
        "y]": original.spacing,
    }
    record = FilmRecord(
        film=name,
        file=name,
        patient=str(patient),
        study=name,
        view=shot.view,
        sex=body.sex,
        age_years=body.age_years,
        findings=states,
        split="holdout" if shot.patient_dice("nih split").random() < _TEST_SHARE else "train",
        original_aspect=original.width / original.height,
    )
    form = "RGBA" if random.random() < _RGBA_SHARE else "L"
    return ReleasedFilm(f"images/{name}", record, shot, film_size(res, original.width / original.height), form, cells)


def _shots(seed: int) -> Iterator[Shot]:
    return single_shots(5, seed, _VIEWS, (SITE,))


def _encode(film: ReleasedFilm, pixels: Pixels) -> bytes:
    return png(squashed(on_canvas(pixels, film.size), len(pixels)), film.form)


def _tables(films: Sequence[ReleasedFilm], archived: bool) -> Iterator[tuple[str, bytes]]:
    yield "Data_Entry_2017_v2020.csv", csv_bytes(HEADER, (film.cells.values() for film in films))
    for name, split in (("train_val_list.txt", "train"), ("test_list.txt", "holdout")):
        yield name, "\n".join(film.record.film for film in films if film.record.split == split).encode()


def _archive(path: str, rank: float) -> tuple[str, str] | None:
    # Twelve tars: the first has 4,999 films, the others 10,000 each.
    return (f"images_{1 + min(11, int(rank * 11.21 + 0.5)):03d}.tar.gz", path) if path.startswith("images/") else None


NIH = Release(_shots, _film, _encode, _tables, _archive)
