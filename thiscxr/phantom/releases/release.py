"""A phantom release before it is written: who is filmed, what is drawn, and what the label files will report.

A layout is one module of this package that makes one `Release`, its only interface. What is reported may differ from
what is drawn, as in the real collections; both are known for every film.
"""

import csv
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count, islice
from typing import TypeVar

import numpy as np

from thiscxr.labels import FilmRecord
from thiscxr.phantom import PHANTOM_FINDINGS, Patient, draw_patient, render
from thiscxr.pixels import Pixels

T = TypeVar("T")

MAX_PATIENTS = 10_000_000  # of one seed
_BODIES = 10**18  # between the bodies of two collections: no patient is in both, or a pool of the two would leak

# Which films a study has, and how often: frontal with or without a lateral, portables, a lateral alone, a second
# lateral.
STUDIES = {
    ("PA", "lateral"): 0.38,
    ("PA",): 0.15,
    ("AP",): 0.15,
    ("AP_supine",): 0.20,
    ("AP_supine", "AP"): 0.06,
    ("PA", "lateral", "lateral"): 0.04,
    ("lateral",): 0.02,
}


def dice(what: str, *numbers: int) -> np.random.Generator:
    """Return the random numbers for one purpose of one film, study or patient: a table may grow without changing the
    others."""
    return np.random.default_rng([zlib.crc32(what.encode()), *numbers])


def pick(random: np.random.Generator, shares: Mapping[T, float]) -> T:
    """Return one of the keys, each as often as its share of all."""
    weights = np.array(list(shares.values()))
    return list(shares)[int(random.choice(len(weights), p=weights / weights.sum()))]


@dataclass(frozen=True, slots=True)
class Shot:
    """One exposure to be taken. Patients, their studies and the films of a study count from 0."""

    patient: int
    study: int
    number: int
    seed: int  # of the patient's body
    view: str
    site: str

    def body(self) -> Patient:
        """Return the patient at that time: the body stays the same, each study has its own findings."""
        if self.study == 0:
            return draw_patient(self.seed)
        return draw_patient(self.seed, severities=draw_patient(self.seed + self.study * 10**17).severities)

    def take(self, res: int) -> Pixels:
        """Render the film: uint8 [res, res]. Each has its own noise and centring; the first keeps the patient's."""
        films_before = 10 * self.study + self.number
        noise_seed = None if films_before == 0 else self.seed + films_before * 10**15
        return render(self.body(), self.view, res, site=self.site, noise_seed=noise_seed).pixels

    def dice(self, what: str) -> np.random.Generator:
        """Return the random numbers for one purpose of this film."""
        return dice(what, self.seed, self.study, self.number)

    def study_dice(self, what: str) -> np.random.Generator:
        """Return the random numbers for one purpose of this study, the same for all its films."""
        return dice(what, self.seed, self.study)

    def patient_dice(self, what: str) -> np.random.Generator:
        """Return the random numbers for one purpose of this patient, the same for all films."""
        return dice(what, self.seed)


@dataclass(frozen=True, slots=True)
class ReleasedFilm:
    """One film of a release: what is drawn (`shot`), and what the label files report (`record`), which our parsers must
    find."""

    path: str  # of its file, inside the release as unpacked
    record: FilmRecord
    shot: Shot
    size: tuple[int, int]  # width and height of the whole film in px, of which the drawn square is the middle
    form: str = ""  # how its file is made; each layout has its own words
    cells: Mapping[str, str] = field(default_factory=dict)  # its row of the label tables


@dataclass(frozen=True, slots=True)
class Release:
    """How a collection releases its films."""

    shots: Callable[[int], Iterator[Shot]]  # of a seed; a longer list begins with the shorter one
    # resolution of the drawn square; None: the collection has no such film
    film: Callable[[Shot, int], ReleasedFilm | None]
    encode: Callable[[ReleasedFilm, Pixels], bytes]  # drawn square -> file
    # films, archived -> path and content of label files
    tables: Callable[[Sequence[ReleasedFilm], bool], Iterator[tuple[str, bytes]]]
    archive: Callable[[str, float], tuple[str, str] | None] | None = None
    """(path, its rank 0..1 in its folder) -> archive and name in it, None for what is downloaded as it is; or no
    archives at all."""
    placed: Callable[[list[ReleasedFilm]], list[ReleasedFilm]] = list  # gives the films of a whole release their places

    def plan(self, n: int, seed: int, res: int) -> list[ReleasedFilm]:
        """Return the first `n` films. Raises ValueError when the collection has no numbers for so many patients."""
        films = list(islice((film for shot in self.shots(seed) if (film := self.film(shot, res))), n))
        if len(films) < n:
            raise ValueError(f"-n {n} needs more patient numbers than the collection has; -n {len(films)} is the most")
        return self.placed(films)


def _first_seed(collection: int, seed: int) -> int:
    """Return the seed of the first body of a collection; its next patients count on from there."""
    return collection * _BODIES + seed * MAX_PATIENTS


def single_shots(collection: int, seed: int, views: Mapping[str, float], sites: Sequence[str]) -> Iterator[Shot]:
    """Yield the endless list of films of one seed, patient by patient, one to three of the same body at the same
    time."""
    first = _first_seed(collection, seed)

    def of_patient(patient: int) -> list[Shot]:
        random = np.random.default_rng([seed, patient])
        site = str(random.choice(list(sites)))
        drawn = random.choice(list(views), size=random.choice([1, 2, 3], p=[0.6, 0.25, 0.15]), p=list(views.values()))
        return [Shot(patient, 0, number, first + patient, str(view), site) for number, view in enumerate(drawn)]

    return chain.from_iterable(map(of_patient, count()))


def study_shots(
    collection: int,
    seed: int,
    sites: Sequence[str],
    studies: Mapping[tuple[str, ...], float] = STUDIES,
    repeat: float = 0.35,
) -> Iterator[Shot]:
    """Yield the endless list of films of one seed, patient by patient and study by study.

    repeat: chance that a patient comes a second time, and then a third time.
    """
    first = _first_seed(collection, seed)

    def of_patient(patient: int) -> list[Shot]:
        random = dice("studies", first + patient)
        site = str(random.choice(list(sites)))
        num = 1 + int(random.random() < repeat) * (1 + int(random.random() < repeat))
        kinds = [pick(random, studies) for _ in range(num)]
        return [
            Shot(patient, study, number, first + patient, view, site)
            for study, kind in enumerate(kinds)
            for number, view in enumerate(kind)
        ]

    return chain.from_iterable(map(of_patient, count()))


def drawn_states(body: Patient) -> dict[str, int]:
    """Return 1 or 0 for each finding that the phantom draws, and for No Finding."""
    return {"No Finding": int(not body.severities), **{name: int(name in body.severities) for name in PHANTOM_FINDINGS}}


def film_size(res: int, aspect: float) -> tuple[int, int]:
    """Return width and height of a film with the given width / height whose short side is `res`; the long side is
    even."""
    long = 2 * round(res * max(aspect, 1 / aspect) / 2)
    return (long, res) if aspect > 1 else (res, long)


def csv_bytes(header: str, rows: Iterable[Iterable[object]]) -> bytes:
    """Return a table as the collections write theirs: quotes only where a cell needs them, and never in the header."""
    text = io.StringIO(newline="")
    text.write(header + "\n")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
