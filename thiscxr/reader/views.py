"""The frontal and the lateral film of one study together: studies of a pool, training on them, evaluation.

Source: Rubin et al. 2018, arXiv:1804.07839 (DualNet). Films are of one study where source, patient and study are the
same. Of several films of one view the first in the pool is read. Either film may be missing.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thiscxr.labels import FINDINGS, NEGATIVE, NO_FINDING
from thiscxr.model.conditions import FilmConditions
from thiscxr.pixels import pixels_to_images
from thiscxr.pool import Pool
from thiscxr.reader.answers import questions_of, read_answers
from thiscxr.reader.evaluation import BATCH, Evaluation, Reading, evaluate, evaluate_sources
from thiscxr.reader.fitting import condition_targets, fit
from thiscxr.reader.network import PAIR, TwoViewReader, start_from_imagenet
from thiscxr.reader.training import Recipe, positive_weights, reader_loss, take_back
from thiscxr.train.conditions import learnable_vocabulary, read_conditions
from thiscxr.train.draws import begin_weights

PLACES = {"PA": 0, "AP": 0, "AP_supine": 0, "lateral": 1}  # view of a film -> its place in PAIR
# Rank of the states -3 to 1 where films of a study disagree, the highest is the study's: present, uncertain, absent,
# not mentioned, not annotated. The permutation is its own inverse.
RANK = np.array([0, 1, 3, 2, 4], np.int8)
log = logging.getLogger("thiscxr")


@dataclass(frozen=True)
class Studies:
    """Studies of a pool, one row each."""

    pool: Pool
    films: NDArray[np.int64]
    """[n, 2]: the rows of the pool in the order of PAIR; -1: the study has no such film."""
    leading: NDArray[np.int64]
    """[n]: the row of the frontal film, or else of the lateral one, whose sex, age and source are the study's."""
    conditions: FilmConditions
    """Of the leading film, with the findings of the study."""

    def __len__(self) -> int:
        return len(self.films)

    @property
    def both(self) -> NDArray[np.bool_]:
        """Which studies have both films, bool [n]."""
        return np.min(self.films, axis=1) >= 0

    @property
    def patients(self) -> NDArray[np.integer]:
        """Patient number of each study, [n]."""
        return self.pool.codes("patient")[0][self.leading]

    def take(self, rows: NDArray[np.integer]) -> "Studies":
        """Return some of the studies."""
        conditions = self.conditions.take(rows)
        return replace(self, films=self.films[rows], leading=self.leading[rows], conditions=conditions)

    def alone(self, view: str) -> "Studies":
        """Return the same studies with only the film of `view`, one of PAIR."""
        return replace(self, films=np.where(np.array(PAIR) == view, self.films, -1))

    def read(self, rows: NDArray[np.integer]) -> Tensor:
        """Return the films of some of the studies, float32 [k, 2, res, res] in [-1, 1], nan where one is missing."""
        films, res = self.films[rows], self.pool.resolution
        images = np.full((*films.shape, res, res), np.nan, np.float32)
        images[films >= 0] = pixels_to_images(self.pool.read(films[films >= 0]))
        return torch.from_numpy(images)


def find_studies(pool: Pool, rows: NDArray[np.int64]) -> Studies:
    """Return the studies of rows of a pool, in the order of the pool, and log how many films are not read.

    Findings are the study's (`RANK`), over all its frontal and lateral films; No Finding is absent if any film says so.
    Raises ValueError if no film is known to be frontal or lateral.
    """
    if not len(rows):
        raise ValueError(f"{pool.path} has no such films; choose another --split, or a pool that has some")
    place = np.array([PLACES.get(view, -1) for view in pool.column("view")[rows]], np.int64)
    known = rows[place >= 0]
    if not len(known):
        raise ValueError(
            f"{pool.path}: none of these {len(rows)} films is known to be frontal (PA, AP, AP_supine) or lateral; two "
            "views need films whose view is known"
        )
    keys = np.stack([pool.codes(name)[0][known] for name in ("source", "patient", "study")], axis=1)
    _, first, study = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    study = np.argsort(np.argsort(first))[study.reshape(-1)]  # numbered by their first film
    films = np.full((len(first), len(PAIR)), -1, np.int64)
    cells, taken = np.unique(len(PAIR) * study + place[place >= 0], return_index=True)  # the first film of each
    films.reshape(-1)[cells] = known[taken]
    order = np.argsort(study, kind="stable")
    states = pool.findings[known[order]]
    starts = np.flatnonzero(np.diff(study[order], prepend=-1))
    union = RANK[np.maximum.reduceat(RANK[states + 3], starts)] - 3
    none = FINDINGS.index(NO_FINDING)
    denied = np.maximum.reduceat(states[:, none] == NEGATIVE, starts)
    union[denied, none] = NEGATIVE
    leading = np.where(films[:, 0] >= 0, films[:, 0], films[:, 1])
    found = Studies(pool, films, leading, replace(read_conditions(pool, leading), findings=union))
    frontal, lateral = (films >= 0).sum(axis=0)
    log.info(
        "%s: %d studies, %d with a frontal film, %d with a lateral one, %d with both; not read: %d further films of a "
        "view and %d of another or unknown view",
        pool.path, len(films), frontal, lateral, found.both.sum(), len(known) - len(cells), len(rows) - len(known),
    )  # fmt: skip
    return found


def train_studies(studies: Studies, recipe: Recipe, epochs: int, seed: int, device: str = "cpu") -> TwoViewReader:
    """Train on studies and return the classifier in evaluation mode. A step has `recipe.step` studies, without mixup,
    since a mixed study would have a lateral only where both have one.

    Raises ValueError if fewer studies than one step have both films.
    """
    path, batch = studies.pool.path, recipe.step
    for view, films in zip(PAIR, studies.films.T, strict=True):
        if not (films >= 0).any():
            advice = "take a pool that was prepared with --views PA,AP,AP_supine,lateral"
            raise ValueError(f"{path} has no {view} film to train on, and two views were requested; {advice}")
    if (pairs := int(studies.both.sum())) < batch:
        advice = (
            "it takes a collection that names its studies (CheXpert, MIMIC-CXR, PadChest, Open-I, a folder's table)"
        )
        what = f"{pairs} of its {len(studies)} training studies have a frontal and a lateral film"
        raise ValueError(f"{path}: {what}, and at least a step of {batch} is needed; {advice}")
    vocabulary = replace(learnable_vocabulary(studies.conditions, studies.patients), views=("study",))
    begin_weights(seed)
    reader = TwoViewReader(replace(recipe.config(vocabulary), reads="study"))
    if recipe.pretrained is not None:
        for each in reader.views:
            start_from_imagenet(each, recipe.pretrained)
    reader = reader.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    targets = condition_targets(studies.conditions, vocabulary, recipe.uncertain)
    weights = positive_weights(targets["findings"], recipe.most).to(device)

    def loss(parts: list[tuple[Tensor, dict[str, Tensor]]], known: dict[str, Tensor]) -> Tensor:
        """The sum over frontal films, lateral films and studies with both, each weighted by its share of the batch."""
        each = [
            rows.float().mean()
            * reader_loss(answers, {name: values[rows] for name, values in known.items()}, weights, recipe.large)
            for rows, answers in parts
        ]
        return torch.stack(each).sum()

    steps, schedule = epochs * (len(studies) // batch), replace(recipe.schedule, mixup=0.0)
    fit(reader, studies.read, targets, loss, steps, seed, batch=batch, schedule=schedule, what="two views")
    for network in (reader, *reader.views):
        take_back(network, weights)
    return reader


def read_studies(reader: TwoViewReader, studies: Studies) -> Reading:
    """Return a classifier's predictions for studies, each from the films that it has, and the truth."""
    batches = np.array_split(np.arange(len(studies)), -(-len(studies) // BATCH))
    answers = read_answers(reader, (studies.read(rows) for rows in batches))
    sources = studies.pool.column("source")[studies.leading]
    return Reading(questions_of(studies.conditions, list(answers)), answers, studies.patients, sources)


def evaluate_studies(reader: TwoViewReader, studies: Studies, split: str, seed: int = 0) -> dict[str, Evaluation]:
    """Return the evaluation on studies, each from the films that it has; per source if there are several; and that on
    the studies with both films, from both, from the frontal alone and from the lateral alone."""
    found = evaluate_sources(read_studies(reader, studies), split, seed)
    if studies.both.any():
        pairs = studies.take(np.flatnonzero(studies.both))
        found[f"{split}, both views"] = evaluate([read_studies(reader, pairs)], seed)
        for view in PAIR:
            found[f"{split}, {view} alone"] = evaluate([read_studies(reader, pairs.alone(view))], seed)
    return found
