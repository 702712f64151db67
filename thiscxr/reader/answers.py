"""Predictions of a classifier, one column per question, and the true or requested values in the same columns.

Questions are the classifier's findings, "view PA" and so on, "sex" (of F) and "age".
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thiscxr.labels import FINDINGS, NEGATIVE, POSITIVE
from thiscxr.measures.resampling import weighted_auc, weighted_correlation
from thiscxr.model.conditions import AGE_CENTRE, AGE_SCALE, FilmConditions
from thiscxr.pixels import Pixels, pixels_to_images
from thiscxr.reader.network import Reader, TwoViewReader

LEAST_AUC = 0.75  # a question is evaluated if its interval on held-out real patients lies above this
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


def read_answers(reader: Reader | TwoViewReader, batches: Iterable[Pixels | Tensor]) -> dict[str, NDArray[np.float32]]:
    """Return a classifier's predictions for batches of pixels [k, res, res], or of images as it takes them: [n] per
    question, logits, or years for the age.

    The questions are the classifier's findings, "view PA" and so on (against the other views), "sex" (F) and "age".
    """
    device, parts = next(reader.parameters()).device, []
    predict = reader.answers if isinstance(reader, TwoViewReader) else reader
    with torch.inference_mode():
        for films in batches:
            images = films if isinstance(films, Tensor) else torch.from_numpy(pixels_to_images(films))[:, None]
            parts.append({name: values.cpu().numpy() for name, values in predict(images.to(device)).items()})
    if not parts:
        raise ValueError("there are no films to read; expected at least one batch")
    return name_answers({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, reader)


def name_answers(
    answers: Mapping[str, NDArray[np.float32]], reader: Reader | TwoViewReader
) -> dict[str, NDArray[np.float32]]:
    """Return the outputs of the heads (findings [n, F], view [n, V], sex [n, 1], scaled age [n, 1]) as one column per
    question."""
    columns = {name: answers["findings"][:, i] for i, name in enumerate(reader.config.findings)}
    if len(reader.config.views) > 1:
        odds = against_rest(answers["view"])
        columns |= {f"view {name}": odds[:, i] for i, name in enumerate(reader.config.views)}
    return columns | {"sex": answers["sex"][:, 0], "age": answers["age"][:, 0] * AGE_SCALE + AGE_CENTRE}


def against_rest(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the log odds of each of two or more classes against all others, float32 [n, k], of logits [n, k]."""
    exact = logits.astype(np.float64)
    rest = [np.logaddexp.reduce(np.delete(exact, i, 1), axis=1) for i in range(exact.shape[1])]
    return (exact - np.stack(rest, axis=1)).astype(np.float32)


def questions_of(films: FilmConditions, questions: Sequence[str]) -> dict[str, Array]:
    """Return the true or requested value of each question, float64 [n]: 1, 0 or years; nan: unknown, or not
    requested."""
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
