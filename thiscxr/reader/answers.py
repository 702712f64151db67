"""What a reader answers, a column a question, and the truth, or what was asked, in the same columns.

Questions are the reader's findings, "view PA" and so on, "sex" (of F) and "age".
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from thiscxr.labels import FINDINGS, NEGATIVE, POSITIVE
from thiscxr.measures.resampling import weighted_auc, weighted_correlation
from thiscxr.model.conditions import AGE_CENTRE, AGE_SCALE, FilmConditions
from thiscxr.pixels import Pixels, pixels_to_images
from thiscxr.reader.network import Reader, TwoViewReader

LEAST_AUC = 0.75  # of the lower end of the interval on held-out real patients, for a question to be judged
LEAST_CORRELATION = 0.5  # the same for the age

Array = NDArray[np.float64]
Columns = Mapping[str, NDArray[np.floating]]  # question -> [n]


def weighted_error(truth: Array, answers: Array, weights: NDArray[np.floating]) -> Array:
    """Return [rounds]: mean absolute difference of truth [n] and answers [n] with weights [rounds, n]."""
    return (weights @ np.abs(truth - answers)) / weights.sum(axis=1)


def _area(truth: Array, answers: Array, weights: NDArray[np.floating]) -> Array:
    return weighted_auc(truth > 0.5, answers, weights)


MEASURES: dict[str, Callable[[Array, Array, NDArray[np.floating]], Array]] = {
    "auc": _area,
    "r": weighted_correlation,
    "mae": weighted_error,  # in years
}


def read_answers(reader: Reader, batches: Iterable[Pixels]) -> dict[str, NDArray[np.float32]]:
    """Return what a reader answers to batches of pixels [k, res, res]: a logit, or years for the age, [n] a question.

    The questions are the reader's findings, "view PA" and so on (against the other views), "sex" (F) and "age".
    """
    device, parts = next(reader.parameters()).device, []
    with torch.inference_mode():
        for pixels in batches:
            answers = reader(torch.from_numpy(pixels_to_images(pixels))[:, None].to(device))
            parts.append({name: values.cpu().numpy() for name, values in answers.items()})
    if not parts:
        raise ValueError("there are no films to read; expected at least one batch")
    return name_answers({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, reader)


def name_answers(
    answers: Mapping[str, NDArray[np.float32]], reader: Reader | TwoViewReader
) -> dict[str, NDArray[np.float32]]:
    """Return the heads' answers (findings [n, F], view [n, V], sex [n, 1], scaled age [n, 1]) as a column a
    question."""
    columns = {name: answers["findings"][:, i] for i, name in enumerate(reader.config.findings)}
    if len(reader.config.views) > 1:
        odds = against_rest(answers["view"])
        columns |= {f"view {name}": odds[:, i] for i, name in enumerate(reader.config.views)}
    return columns | {"sex": answers["sex"][:, 0], "age": answers["age"][:, 0] * AGE_SCALE + AGE_CENTRE}


def against_rest(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the log odds of each of two or more classes to all others together, float32 [n, k], of logits [n, k]."""
    exact = logits.astype(np.float64)
    rest = [np.logaddexp.reduce(np.delete(exact, i, 1), axis=1) for i in range(exact.shape[1])]
    return (exact - np.stack(rest, axis=1)).astype(np.float32)


def questions_of(films: FilmConditions, questions: Sequence[str]) -> dict[str, Array]:
    """Return the truth, or what was asked, of each question, float64 [n]: 1, 0 or years; nan: unknown, or not asked."""
    columns: dict[str, Array] = {}
    for question in questions:
        if question == "age":
            columns[question] = films.age_years.astype(np.float64)
        elif question == "sex":
            columns[question] = _is(films, "sex", "F")
        elif question.startswith("view "):
            columns[question] = _is(films, "view", question.removeprefix("view "))
        else:
            states = films.findings[:, FINDINGS.index(question)]
            columns[question] = np.where(np.isin(states, (POSITIVE, NEGATIVE)), states, np.nan)
    return columns


def _is(films: FilmConditions, factor: str, value: str) -> Array:
    codes, names = getattr(films, factor), list(films.names[factor])
    return np.where(codes < 0, np.nan, codes == (names.index(value) if value in names else -2))
