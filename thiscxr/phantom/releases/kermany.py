"""Phantom films as Kermany et al. release their own: oblong JPEGs in folders NORMAL and PNEUMONIA, the patient in the
name, no table.

One hospital, `phantom-b`, AP films only; a phantom cannot be a child. Bodies with other findings than an opacity are
left out, as the release has none. Its split divides patients, which is a defect to reproduce.
"""

from collections.abc import Iterator, Sequence

from thiscxr.collections.kermany import KERMANY as COLLECTION
from thiscxr.labels import NEGATIVE, POSITIVE, FilmRecord
from thiscxr.phantom.releases.encode import jpeg, on_canvas
from thiscxr.phantom.releases.release import Release, ReleasedFilm, Shot, film_size, pick, single_shots
from thiscxr.pixels import Pixels

SITE = "phantom-b"
_OPACITIES = {"Atelectasis", "Consolidation", "Edema"}
_SPLITS = {"train": 0.9, "test": 0.1}  # of films
_ASPECTS = {1.25: 0.6, 1.15: 0.3, 1.0: 0.1}
_FORMS = {"L": 0.9, "RGB": 0.1}
_GERMS = {"bacteria": 0.6, "virus": 0.4}


def _film(shot: Shot, res: int) -> ReleasedFilm | None:
    body, random = shot.body(), shot.dice("kermany")
    ill = bool(body.severities)
    if ill and not _OPACITIES & set(body.severities):
        return None
    number = shot.patient + 1
    running = f"{10 * number + shot.number}"
    if ill:
        patient, name = f"person{number}", f"person{number}_{pick(random, _GERMS)}_{running}"
    else:
        again = "NORMAL2-" if shot.number else ""
        patient, name = f"IM-{number}", f"{again}IM-{number:04d}-{shot.number + 1:04d}"
    path = f"chest_xray/{pick(random, _SPLITS)}/{'PNEUMONIA' if ill else 'NORMAL'}/{name}.jpeg"
    film = COLLECTION.image_key(path)
    findings = {"No Finding": NEGATIVE if ill else POSITIVE, "Pneumonia": POSITIVE if ill else NEGATIVE}
    record = FilmRecord(film, film, patient, film, view="AP", findings=findings, labeler="physicians")
    return ReleasedFilm(path, record, shot, film_size(res, pick(random, _ASPECTS)), pick(random, _FORMS))


def _shots(seed: int) -> Iterator[Shot]:
    return single_shots(6, seed, {"AP": 1.0}, (SITE,))


def _encode(film: ReleasedFilm, pixels: Pixels) -> bytes:
    return jpeg(on_canvas(pixels, film.size), quality=92, mode=film.form)


def _tables(films: Sequence[ReleasedFilm], archived: bool) -> Iterator[tuple[str, bytes]]:
    yield from ()


def _archive(path: str, rank: float) -> tuple[str, str]:
    return "chest_xray.zip", path


KERMANY = Release(_shots, _film, _encode, _tables, _archive)
