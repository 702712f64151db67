"""Phantom films as a user's own folder: all file formats mixed, beside a table `metadata.csv`.

The films are those of the phantom pool of the same seed: all sites, all views.
"""

from collections.abc import Iterator, Sequence

from thiscxr.labels import FINDINGS, FilmRecord
from thiscxr.phantom import SITES
from thiscxr.phantom.releases.dicom import EXPLICIT, IMPLICIT, JPEG_2000, dicom
from thiscxr.phantom.releases.encode import deepened, jpeg, png, tiff
from thiscxr.phantom.releases.release import Release, ReleasedFilm, Shot, csv_bytes, drawn_states, pick, single_shots
from thiscxr.pixels import Pixels

_VIEWS = {"PA": 0.45, "AP": 0.10, "AP_supine": 0.25, "lateral": 0.20}
FORMS = {
    "png": 0.4,
    "16-bit png": 0.14,
    "jpg": 0.14,
    "tif": 0.1,
    "explicit MONOCHROME1 dcm": 0.06,
    "explicit MONOCHROME2 dcm": 0.06,
    "implicit MONOCHROME2 dcm": 0.05,
    "compressed MONOCHROME2 dcm": 0.05,
}
_SYNTAXES = {"explicit": EXPLICIT, "implicit": IMPLICIT, "compressed": JPEG_2000}
_POSITIONS = {"PA": "PA", "AP": "AP", "AP_supine": "AP", "lateral": "LL"}
_BITS = 12


def _film(shot: Shot, res: int) -> ReleasedFilm:
    body, states = shot.body(), drawn_states(shot.body())
    form = pick(shot.dice("folder"), FORMS)
    patient = f"{shot.site}-{shot.patient:07d}"
    path = f"images/{patient}-{shot.number}.{form.split()[-1]}"
    record = FilmRecord(
        film=path,
        file=path,
        patient=patient,
        study=f"{patient}/1",
        view=shot.view,
        sex=body.sex,
        age_years=body.age_years,
        findings=states,
    )
    return ReleasedFilm(path, record, shot, (res, res), form)


def shots(seed: int) -> Iterator[Shot]:
    """Yield the films of one seed: all sites, all views."""
    return single_shots(0, seed, _VIEWS, SITES)


def _encode(film: ReleasedFilm, pixels: Pixels) -> bytes:
    if film.form == "png":
        return png(pixels)
    if film.form == "jpg":
        return jpeg(pixels, quality=95)
    if film.form == "tif":
        return tiff(pixels)
    deep = deepened(pixels, _BITS, film.shot.dice("folder noise"))
    if film.form == "16-bit png":
        return png(deep)
    syntax, photometric, _ = film.form.split()
    tags = {
        "PhotometricInterpretation": photometric,
        "PatientID": film.record.patient,
        "ViewPosition": _POSITIONS[film.shot.view],
        "WindowCenter": 2 ** (_BITS - 1),
        "WindowWidth": 2**_BITS,
    }
    return dicom(deep, _BITS, film.path, film.record.study, tags, _SYNTAXES[syntax])


def _tables(films: Sequence[ReleasedFilm], archived: bool) -> Iterator[tuple[str, bytes]]:
    def row(record: FilmRecord) -> tuple[object, ...]:
        return (
            record.file,
            record.patient,
            record.study.split("/")[1],
            record.view,
            record.sex,
            record.age_years,
            *record.states(),
        )

    header = ",".join(("file_name", "patient", "study", "view", "sex", "age_years", *FINDINGS))
    yield "metadata.csv", csv_bytes(header, (row(film.record) for film in films))


FOLDER = Release(shots, _film, _encode, _tables)
