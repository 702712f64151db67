"""Which patients are held out: a function of collection and patient id, and of the ties between patients.

Patients whose films are duplicates of one another, or whom a collection ties together (shared studies or reports, one
film in two collections), are in one split; if any of them is held out, all are: ties only ever move films out of the
training split.
"""

from thiscxr.collections.ids import patient_split
from thiscxr.labels import FilmRecord

_Patient = tuple[str, str]  # collection, the collection's own id


class Splits:
    """The splits of all patients of a pool; add every film and every tie before the first call of `of`."""

    def __init__(self) -> None:
        self._parents: dict[_Patient, _Patient] = {}  # union-find over the few that are tied
        self._held: set[_Patient] = set()

    def add(self, source: str, film: FilmRecord) -> None:
        """Take a film's official split, or else its patient's own."""
        patient = (source, film.patient)
        if film.split_as is not None and film.split_as != patient:
            self.tie(patient, film.split_as)
        if (film.split or patient_split(*(film.split_as or patient))) == "holdout":
            self._held.add(patient)

    def tie(self, one: _Patient, other: _Patient) -> None:
        """Put two patients in one split."""
        # ids are often long numbers: the shorter one is the smaller one
        first, second = sorted((self.root(one), self.root(other)), key=lambda tied: (tied[0], len(tied[1]), tied[1]))
        if first != second:
            self._parents[second] = first

    def close(self) -> None:
        """Apply the ties; call it once, after all of them."""
        self._held |= {self.root(patient) for patient in self._held}

    def of(self, source: str, film: FilmRecord) -> str:
        """Return "train" or "holdout"."""
        patient = (source, film.patient)
        return "holdout" if patient in self._held or self.root(patient) in self._held else "train"

    def root(self, patient: _Patient) -> _Patient:
        """Return the first of all the patients that are tied to this one."""
        while (parent := self._parents.get(patient)) is not None:
            patient = parent
        return patient
