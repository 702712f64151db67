"""Evaluation of a classifier on labelled films: AUC, calibration and age error, with intervals by patient.

A film counts only for the questions whose answer is known. Cross-fitted figures (several networks, each on patients not
seen in its training) are means over the networks, since the scores of two networks are not on one scale: LeDell et al.
2015, doi:10.1214/15-EJS1035.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from thiscxr.labels import FINDINGS, NEGATIVE, POSITIVE
from thiscxr.measures.resampling import generator, interval, mean_over, number_patients, patient_weights
from thiscxr.model.conditions import MIN_PATIENTS
from thiscxr.pixels import Pixels
from thiscxr.pool import Pool
from thiscxr.reader.answers import MEASURES, Columns, questions_of, read_answers
from thiscxr.reader.network import Reader
from thiscxr.train.conditions import read_conditions

BINS = 10  # of a reliability table, with equally many films
BATCH = 256  # films read at a time
CHUNKS = 10  # of bootstrap rounds, so that a hundred thousand films need little memory
CALIBRATION_DRAWS = 200

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """Predictions of one network and the truth, one column per question (see `read_answers`), nan where the truth is
    unknown."""

    truths: Columns
    answers: Columns
    patients: NDArray[np.integer]
    sources: NDArray[np.object_]

    def of_source(self, source: str) -> "Reading":
        """Return the films of one source."""
        here = self.sources == source
        truths, answers = (
            {name: column[here] for name, column in columns.items()} for columns in (self.truths, self.answers)
        )
        return Reading(truths, answers, self.patients[here], self.sources[here])


@dataclass(frozen=True)
class Bin:
    """Films of similar predicted probability."""

    films: int
    told: float
    """Mean predicted probability."""
    seen: float
    """Share of the films with the finding."""


@dataclass(frozen=True)
class Calibration:
    """How far predicted probabilities are from observed frequencies."""

    error: float
    """Expected calibration error: the mean over films of |probability - frequency| of their bin (Guo et al. 2017,
    arXiv:1706.04599, Eq. 3)."""
    by_chance: float
    """95th percentile of the error of a perfectly calibrated classifier on as many films."""
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Answered:
    """How well one question is predicted."""

    question: str
    measure: str
    """auc; for the age mae (mean absolute error, years) and r (correlation)."""
    value: float
    ci95: tuple[float, float]
    num_positive: int
    """Films; of known age for the age."""
    num_negative: int
    num_patients: int
    calibration: Calibration | None
    """Of findings."""


@dataclass(frozen=True)
class Evaluation:
    """How well a classifier predicts."""

    num_films: int
    num_patients: int
    questions: tuple[Answered, ...]
    mean_finding_auc: float | None
    """None if no finding has known positives and known negatives."""
    mean_finding_ci95: tuple[float, float] | None

    def brief(self) -> dict[str, Any]:
        """Return the summary kept in a classifier's file: {"films", "auc" and "auc_ci95": {finding, view, sex: …},
        "mean_finding_auc", "age_error_years", "age_r", "age_r_ci95"}; None: not known."""
        areas = {each.question: each for each in self.questions if each.measure == "auc"}
        age = {each.measure: each for each in self.questions if each.question == "age"}
        return {
            "films": self.num_films,
            "auc": {name: round(each.value, 4) for name, each in areas.items()},
            "auc_ci95": {name: [round(edge, 4) for edge in each.ci95] for name, each in areas.items()},
            "mean_finding_auc": None if self.mean_finding_auc is None else round(self.mean_finding_auc, 4),
            "age_error_years": round(age["mae"].value, 2) if "mae" in age else None,
            "age_r": round(age["r"].value, 4) if "r" in age else None,
            "age_r_ci95": [round(edge, 4) for edge in age["r"].ci95] if "r" in age else None,
        }


def read_films(reader: Reader, pool: Pool, rows: NDArray[np.int64]) -> Reading:
    """Return a classifier's predictions for rows of a pool, and the truth. Raises ValueError if there are no rows."""
    if not len(rows):
        raise ValueError(f"{pool.path} has no such films; choose another --split, or a pool that has some")

    def batches() -> Iterator[Pixels]:
        for start in range(0, len(rows), BATCH):
            yield pool.read(rows[start : start + BATCH])

    answers = read_answers(reader, batches())
    truths = questions_of(read_conditions(pool, rows), list(answers))
    return Reading(truths, answers, pool.codes("patient")[0][rows], pool.column("source")[rows])


def evaluate(readings: Sequence[Reading], seed: int = 0) -> Evaluation:
    """Return how well one network predicts, or several, each evaluated on patients of its own.

    A question with the same answer for all films is left out. Intervals resample the patients of each network.
    """
    rounds = Bootstrap(readings, seed)
    measured = [
        (name, measure) for name in rounds.questions for measure in (("mae", "r") if name == "age" else ("auc",))
    ]
    known = {each: values for each in measured if np.isfinite((values := rounds.measure(*each))[0])}
    mean = mean_over([values for (name, _), values in known.items() if name in FINDINGS])
    return Evaluation(
        sum(len(reading.patients) for reading in readings),
        sum(len(np.unique(reading.patients)) for reading in readings),
        tuple(_answered(*each, values, readings, seed) for each, values in known.items()),
        float(mean[0]) if np.isfinite(mean[0]) else None,
        interval(mean[1:]) if np.isfinite(mean[0]) else None,
    )


def evaluate_sources(reading: Reading, title: str, seed: int = 0) -> dict[str, Evaluation]:
    """Return the evaluation of all films under the title, and that of each source if there are several."""
    sources = list(dict.fromkeys(reading.sources))
    parts = {title: reading}
    if len(sources) > 1:
        parts |= {f"{title}, {source}": reading.of_source(source) for source in sources}
    return {name: evaluate([part], seed) for name, part in parts.items()}


class Bootstrap:
    """The same resamplings of patients for all questions, so that differences and means of figures have intervals."""

    def __init__(self, readings: Sequence[Reading], seed: int = 0) -> None:
        self.readings = readings
        self.questions = [name for name in readings[0].answers if all(name in reading.answers for reading in readings)]
        # The first row of the weights is all ones: it gives the estimate itself.
        resampled = (patient_weights(reading.patients, seed + k) for k, reading in enumerate(readings))
        self._weights = [np.concatenate([np.ones((1, w.shape[1]), np.float32), w]) for w in resampled]

    def measure(self, question: str, measure: str = "auc") -> Array:
        """Return float64 [1 + rounds]: the AUC of a question, or for the age the error in years (mae) or the
        correlation (r), then the same for every round."""
        of = MEASURES[measure]
        parts = []
        for reading, weights in zip(self.readings, self._weights, strict=True):
            known = np.isfinite(reading.truths[question])
            truth, answers = (
                columns[question][known].astype(np.float64) for columns in (reading.truths, reading.answers)
            )
            if known.any():
                parts.append(
                    np.concatenate([of(truth, answers, some[:, known]) for some in np.array_split(weights, CHUNKS)])
                )
        return mean_over(parts)


def _answered(question: str, measure: str, values: Array, readings: Sequence[Reading], seed: int) -> Answered:
    truth = np.concatenate([reading.truths[question] for reading in readings])
    answers = np.concatenate([reading.answers[question] for reading in readings])
    patients = np.concatenate([number_patients(reading.patients) + (k << 32) for k, reading in enumerate(readings)])
    known, present = np.isfinite(truth), truth > 0.5
    age = question == "age"
    return Answered(
        question,
        measure,
        float(values[0]),
        interval(values[1:]),
        int((known & (present | age)).sum()),
        int((known & ~(present | age)).sum()),
        len(np.unique(patients[known])),
        calibrate(present[known], expit(answers[known].astype(np.float64)), seed) if question in FINDINGS else None,
    )


def calibrate(present: NDArray[np.bool_], probabilities: Array, seed: int = 0) -> Calibration:
    """Return the calibration of probabilities [n] of a finding against its presence [n], in bins of equally many films.

    Bins of equal width would put a rare finding's films into one. With few films the error is above zero even for true
    probabilities; its level by chance comes from outcomes drawn from the probabilities (Bröcker and Smith 2007,
    doi:10.1175/WAF993.1).
    """
    order = np.argsort(probabilities, kind="stable")
    predicted, observed = probabilities[order], present[order].astype(np.float64)
    starts = np.unique(np.linspace(0, len(predicted), BINS + 1).astype(np.int64)[:-1])
    sizes = np.diff([*starts, len(predicted)])

    def error(outcomes: Array) -> Array:
        return np.abs(np.add.reduceat(predicted - outcomes, starts, axis=-1)).sum(axis=-1) / len(predicted)

    drawn = generator(seed, 11).random((CALIBRATION_DRAWS, len(predicted))) < predicted
    means = (np.add.reduceat(column, starts) / sizes for column in (predicted, observed))
    bins = tuple(Bin(*row) for row in zip(sizes.tolist(), *(column.tolist() for column in means), strict=True))
    return Calibration(float(error(observed)), float(np.quantile(error(drawn.astype(np.float64)), 0.95)), bins)


def evaluation_table(title: str, found: Evaluation, reliability: bool = False, of: str = "films") -> str:
    """Return an evaluation as aligned lines, with reliability tables of the findings if requested. of: films or
    studies."""
    lines = [
        f"{title}: {found.num_films} {of} of {found.num_patients} patients",
        f"{'':<28}{'AUC':>7}  {'95 %':<16}{'with':>7}{'without':>9}{'calibration error (by chance)':>32}",
    ]
    for each in found.questions:
        name = {"mae": "age, mean error in years", "r": "age, correlation"}.get(each.measure, each.question)
        number = "{:.1f}".format if each.measure == "mae" else "{:.3f}".format
        span = f"[{', '.join(map(number, each.ci95))}]"
        line = f"{name:<28}{number(each.value):>7}  {span:<16}{each.num_positive:>7}"
        if each.question != "age":
            line += f"{each.num_negative:>9}"
        if each.calibration:
            line += f"{f'{each.calibration.error:.3f} ({each.calibration.by_chance:.3f})':>32}"
        lines.append(line)
    if found.mean_finding_auc is not None and found.mean_finding_ci95 is not None:
        span = f"[{found.mean_finding_ci95[0]:.3f}, {found.mean_finding_ci95[1]:.3f}]"
        lines.append(f"{'mean of the findings':<28}{found.mean_finding_auc:>7.3f}  {span}")
    for each in found.questions if reliability else ():
        if each.calibration:
            lines += [f"{each.question}: films, predicted probability, share with it"]
            lines += [f"  {bin.films:>6}{bin.told:>8.3f}{bin.seen:>8.3f}" for bin in each.calibration.bins]
    return "\n".join(line.rstrip() for line in lines)


@dataclass(frozen=True)
class Transfer:
    """Mean finding AUC of a classifier trained on one source and tested on held-out patients of another."""

    trained_on: str
    tested_on: str
    value: float
    ci95: tuple[float, float]
    auc: dict[str, float]
    num_films: int


def generalisation(pool: Pool, readers: Mapping[str, Reader], seed: int = 0) -> list[Transfer]:
    """Return the source × source matrix, row by row; readers: one classifier trained on each source.

    Every cell is the mean over the same findings, since means over different ones cannot be compared: those that every
    classifier predicts, present in MIN_PATIENTS held-out patients of every source and absent in as many. Raises
    ValueError if there is none.
    """
    held = pool.indices("holdout")
    rows = {source: held[pool.column("source")[held] == source] for source in readers}
    if empty := [source for source, films in rows.items() if not len(films)]:
        raise ValueError(
            f"{pool.path} holds out no film of {empty[0]}; a matrix needs held-out patients of every source"
        )
    readings = {
        (trained, tested): read_films(readers[trained], pool, films)
        for trained in readers
        for tested, films in rows.items()
    }
    shared = [name for name in FINDINGS if all(_known_both_ways(reading, name) for reading in readings.values())]
    if not shared:
        raise ValueError(
            "no finding is predicted by every source's classifier, and present in "
            f"{MIN_PATIENTS} held-out patients of every source and absent in as many"
        )
    found = []
    for (trained, tested), reading in readings.items():
        rounds = Bootstrap([reading], seed)
        cell = {name: rounds.measure(name) for name in shared}
        mean, areas = mean_over(list(cell.values())), {name: float(values[0]) for name, values in cell.items()}
        found.append(Transfer(trained, tested, float(mean[0]), interval(mean[1:]), areas, len(rows[tested])))
    return found


def _known_both_ways(reading: Reading, finding: str) -> bool:
    if finding not in reading.truths:
        return False
    return all(
        len(np.unique(reading.patients[reading.truths[finding] == state])) >= MIN_PATIENTS
        for state in (POSITIVE, NEGATIVE)
    )


def generalisation_table(found: Sequence[Transfer]) -> str:
    """Return the matrix as aligned lines: rows are training sources, columns test sources."""
    tested = list(dict.fromkeys(each.tested_on for each in found))
    width = max(22, *(len(name) + 2 for name in tested))
    lines = [
        f"mean AUC of {', '.join(found[0].auc)}",
        f"{'trained on / tested on':<24}" + "".join(f"{name:>{width}}" for name in tested),
    ]
    for trained in tested:
        row = [each for each in found if each.trained_on == trained]
        cells = (f"{each.value:.3f} [{each.ci95[0]:.3f}, {each.ci95[1]:.3f}]" for each in row)
        lines.append(f"{trained:<24}" + "".join(f"{cell:>{width}}" for cell in cells))
    return "\n".join(lines)
