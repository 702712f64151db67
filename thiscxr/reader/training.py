"""Training of the classifier, and its file.

Findings that are not mentioned or not annotated (-2, -3) are masked. Uncertain ones (-1) are masked too, or count as
absent or as present. Films of held-out patients are never trained on.
"""

import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

import thiscxr
from thiscxr.collections import FRONTAL_VIEWS
from thiscxr.measures.chest import measure_masks, measure_opacity
from thiscxr.model.conditions import Vocabulary
from thiscxr.model.network_file import read_safetensors, write_safetensors
from thiscxr.pixels import Pixels, to_bits
from thiscxr.pixels import fit as fit_square
from thiscxr.pool import Pool
from thiscxr.reader.fitting import UNCERTAIN_AS, Schedule, condition_targets, fit
from thiscxr.reader.measuring import COLUMNS
from thiscxr.reader.network import SIDES, Reader, ReaderConfig, TwoViewReader, start_from_imagenet
from thiscxr.reader.segmenter import find_segmenter, segment
from thiscxr.train.conditions import learnable_vocabulary, read_conditions
from thiscxr.train.draws import begin_weights

READER_FORMAT = 1
MARK = 16  # digits of a film's hash
LARGE = 96  # px: from here on classifiers are wider and regularised
SEGMENTER = "lungs128"


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained, except for how long and on which films."""

    backbone: str = "small"  # or densenet121
    res: int | None = None  # resolution at which films are read; None: that of the backbone
    uncertain: str = "ignore"  # or zeros, ones: the target of an uncertain finding
    # largest weight of a present finding, of an absent one: 1; None: 5 for large films, else 1
    max_weight: float | None = None
    pretrained: Path | None = None  # torchvision's ImageNet weights of densenet121
    batch: int | None = None  # films per step; None: 64 (small), 32 (small, large films), 16 (densenet121, as CheXNet)
    bf16: bool = False  # see Schedule

    @property
    def large(self) -> bool:
        """Whether it is the small backbone for large films."""
        return self.backbone == "small" and self.resolution >= LARGE

    @property
    def resolution(self) -> int:
        """Resolution at which films are read."""
        return self.res or SIDES[self.backbone]

    @property
    def step(self) -> int:
        """Films per step."""
        return self.batch or (16 if self.backbone != "small" else 32 if self.large else 64)

    @property
    def most(self) -> float:
        """The largest weight of a present finding."""
        return self.max_weight or (5.0 if self.large else 1.0)

    @property
    def schedule(self) -> Schedule:
        """How it is fitted: regularised for large films, since the labels of rare findings are few and mined
        (docs/reader.md)."""
        if self.large:
            return Schedule(rate=1.5e-3, decay=0.1, strength=0.85, mixup=0.4, average=0.995, bf16=self.bf16)
        return Schedule(rate=2e-3 if self.backbone == "small" else 1e-3, bf16=self.bf16)  # the latter is CheXNet's

    def config(self, vocabulary: Vocabulary) -> ReaderConfig:
        """Return the architecture of a classifier of that vocabulary."""
        wide: dict[str, Any] = {"widths": (32, 64, 128, 256), "fine": False, "dropout": 0.2} if self.large else {}
        return ReaderConfig(
            vocabulary.findings, vocabulary.views, vocabulary.sources, self.resolution, backbone=self.backbone, **wide
        )

    def __post_init__(self) -> None:
        if self.uncertain not in UNCERTAIN_AS:
            raise ValueError(f"uncertain is '{self.uncertain}', expected one of {', '.join(UNCERTAIN_AS)}")
        if self.max_weight is not None and not self.max_weight >= 1:
            raise ValueError(f"the largest weight of a present finding is {self.max_weight}, expected 1 or more")


@dataclass(frozen=True)
class Fold:
    """A classifier and the films that it must not score: those of its training patients."""

    reader: Reader
    trained_on: frozenset[str]


def train_reader(
    pool: Pool,
    epochs: int,
    seed: int,
    device: str = "cpu",
    recipe: Recipe = Recipe(),
    rows: np.ndarray | None = None,
    name: str = "classifier",
) -> Reader:
    """Train on the pool's training split, or on `rows`, with AdamW and a one-cycle rate, and return the classifier in
    evaluation mode.

    Raises ValueError when there are fewer films than one batch, and FloatingPointError when the loss is not finite.
    """
    indices, batch = pool.indices("train") if rows is None else rows, recipe.step
    films = read_conditions(pool, indices)
    vocabulary = learnable_vocabulary(films, pool.codes("patient")[0][indices])
    begin_weights(seed)
    reader = Reader(replace(recipe.config(vocabulary), measures=tuple(COLUMNS) if recipe.large else ()))
    if recipe.pretrained is not None:
        start_from_imagenet(reader, recipe.pretrained)
    reader = reader.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    targets = condition_targets(films, vocabulary, recipe.uncertain)
    if reader.config.measures:
        targets["measures"] = measure_targets(pool, indices)
    weights = positive_weights(targets["findings"], recipe.most).to(device)
    steps, loss = epochs * (len(indices) // batch), partial(reader_loss, weights=weights, large=recipe.large)

    def read(rows: np.ndarray) -> Pixels:
        return pool.read(indices[rows])

    try:
        fit(reader, read, targets, loss, steps, seed, batch=batch, schedule=recipe.schedule, what=name)
    except ValueError as error:
        raise ValueError(f"{pool.path}: {error}") from None
    take_back(reader, weights)
    return reader


def measure_targets(pool: Pool, rows: np.ndarray) -> Tensor:
    """Return sizes, places and opacities of lungs and heart (`thiscxr measure`), standardised, float32 [n, M];
    nan where lungs and heart are not found, and on laterals.

    They are dense targets where labels are rare: what they say of the heart, 250 films with a large one do not teach.
    """
    segmenter, _ = find_segmenter(SEGMENTER)
    res, views, parts = segmenter.config.res, pool.column("view")[rows], []
    with tqdm(total=len(rows), unit="film", file=sys.stderr, desc="measures", delay=1) as bar:
        for start in range(0, len(rows), 64):
            films = pool.read(rows[start : start + 64])
            pixels = np.stack([to_bits(fit_square(film, res), 16) for film in films]).astype(np.uint16)
            masks = segment(segmenter, [pixels])
            values = measure_masks(masks) | measure_opacity(pixels, masks)
            parts.append(np.stack([values[key] for key in COLUMNS.values()], axis=1))
            bar.update(len(pixels))
    found = np.concatenate(parts)
    found[~np.isin(views, (*FRONTAL_VIEWS, "unknown"))] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column of nan has no mean
        scaled = (found - np.nanmean(found, axis=0)) / np.maximum(np.nanstd(found, axis=0), 1e-6)
    return torch.from_numpy(scaled.clip(-4, 4).astype(np.float32))


def positive_weights(findings: Tensor, most: float) -> Tensor:
    """Return the weight of each present finding, of an absent one: 1, float32 [F]: absent / present films, from 1 to
    `most`.

    findings: float32 [n, F], 1 present, 0 absent, NaN unknown. Source: Wang et al. 2017, arXiv:1705.02315, section 3.2
    (W-CEL), there without a limit: a finding in one film of five hundred would then dominate the loss of its batch.
    """
    present, absent = (findings == 1).sum(dim=0), (findings == 0).sum(dim=0)
    return (absent / present.clamp(min=1)).clamp(1.0, most)


def train_folds(pool: Pool, epochs: int, seed: int, device: str = "cpu", recipe: Recipe = Recipe()) -> tuple[Fold, ...]:
    """Return two classifiers, each trained on one half of all patients: each may score the films of the other half.

    A patient's half follows from the stored pixels of the films, so that it is the same for everybody.
    """
    hashes, patients = pool.column("sha256"), pool.codes("patient")[0]
    first = np.full(patients.max() + 1, "~", object)
    for digest, patient in zip(hashes, patients, strict=True):
        first[patient] = min(first[patient], digest)
    half = np.array([int(digest[:8], 16) % 2 for digest in first[patients]])
    rows = [np.flatnonzero(half == k) for k in (0, 1)]
    return tuple(
        Fold(
            train_reader(pool, epochs, seed, device, recipe, rows=mine, name=f"classifier of half {k + 1}"),
            _marks(hashes[mine]),
        )
        for k, mine in enumerate(rows)
    )


def unseen(pool: Pool, fold: Fold) -> np.ndarray:
    """Return the rows of the pool's films that a fold was not trained on, int64 [n]."""
    return np.flatnonzero([digest[:MARK] not in fold.trained_on for digest in pool.column("sha256")])


def _marks(hashes: Iterable[str]) -> frozenset[str]:
    """Return identifiers of films: the first MARK hexadecimal digits of the SHA-256 of their stored pixels."""
    return frozenset(digest[:MARK] for digest in hashes)


def take_back(reader: Reader | TwoViewReader, weights: Tensor) -> None:
    """Lower the logits of the findings, in place, by the log of their weights [F], so that probabilities are
    calibrated.

    The odds that minimise the weighted loss are the true odds times the weight: Elkan 2001, IJCAI, theorem 1.
    """
    reader.heads["findings"].get_parameter("bias").data -= weights.log()


def reader_loss(
    answers: dict[str, Tensor], targets: dict[str, Tensor], weights: Tensor | None = None, large: bool = False
) -> Tensor:
    """Return the sum of the masked losses: binary cross-entropy of findings and sex, cross-entropy of view and source,
    Huber of age and measures.

    weights: of present findings, float32 [F] (`positive_weights`). large: L1 of the age, which is reported as the mean
    error, and twice the weight; in short trainings that is at the cost of the findings.
    """
    loss = masked(
        partial(F.binary_cross_entropy_with_logits, pos_weight=weights), answers["findings"], targets["findings"]
    )
    loss = loss + 0.5 * masked(F.binary_cross_entropy_with_logits, answers["sex"], targets["sex"])
    age = partial(masked, answers=answers["age"], targets=targets["age"])
    loss = loss + (age(F.l1_loss) if large else 0.5 * age(F.smooth_l1_loss))
    if "measures" in answers:
        loss = loss + masked(F.smooth_l1_loss, answers["measures"], targets["measures"])
    for name in ("view", "source"):
        if answers[name].shape[1] > 1 and bool((targets[name] >= 0).any()):
            loss = loss + 0.5 * F.cross_entropy(answers[name], targets[name])
    return loss


def masked(loss: Any, answers: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of an element-wise loss over the known targets, 0 when none is known."""
    known = ~torch.isnan(targets)
    values = loss(answers, torch.nan_to_num(targets), reduction="none")  # the masked values are multiplied by zero next
    return (values * known).sum() / known.sum().clamp(min=1)


def save_reader(
    path: Path,
    reader: Reader | TwoViewReader,
    pool: Pool,
    evaluation: dict[str, Any],
    folds: Sequence[Fold] = (),
) -> None:
    """Write a classifier as safetensors with its architecture, its training data, its evaluation on patients not
    seen in training (`judged`), and its folds.

    pool: the classifier was trained on its training split.
    """
    train = pool.indices("train")
    saw = _marks(pool.column("sha256")[np.isin(pool.codes("patient")[0], pool.codes("patient")[0][train])])
    write_reader(
        path,
        reader,
        {"pool_fingerprint": pool.fingerprint, "sources": pool.meta["sources"], "trained_on": sorted(saw)},
        evaluation,
        folds,
        torch.float32,
    )


def write_reader(
    path: Path,
    reader: Reader | TwoViewReader,
    data: dict[str, Any],
    evaluation: dict[str, Any],
    folds: Sequence[Fold],
    dtype: torch.dtype,
) -> None:
    """As `save_reader`, with the facts about the training data as in another classifier's file."""
    metadata = {
        "format_version": READER_FORMAT,
        "kind": "reader",
        "architecture": asdict(reader.config),
        **{name: data[name] for name in ("pool_fingerprint", "sources", "trained_on")},
        "folds": [
            {"architecture": asdict(fold.reader.config), "trained_on": sorted(fold.trained_on)} for fold in folds
        ],
        "judged": evaluation,
        "code_version": thiscxr.__version__,
    }
    tensors = {
        name: (tensor.to("cpu", dtype) if tensor.is_floating_point() else tensor.cpu()).contiguous()
        for prefix, network in {"": reader, **{f"fold{k}.": fold.reader for k, fold in enumerate(folds)}}.items()
        for name, tensor in network.state_dict(prefix=prefix).items()
    }
    write_safetensors(path, tensors, metadata)


def load_reader(path: Path) -> tuple[Reader, dict[str, Any]]:
    """Return a classifier (float32, CPU, evaluation mode) and its metadata. Raises ValueError for any other file
    than that of a classifier of single films."""
    reader, metadata = load_any_reader(path)
    return _of_films(path, reader), metadata


def load_any_reader(path: Path) -> tuple[Reader | TwoViewReader, dict[str, Any]]:
    """As `load_reader`, also for a classifier of studies."""
    metadata, tensors = read_safetensors(path, "reader", READER_FORMAT)
    return _rebuilt(path, metadata, {name: t for name, t in tensors.items() if not name.startswith("fold")}), metadata


def _of_films(path: Path, reader: Reader | TwoViewReader) -> Reader:
    if isinstance(reader, TwoViewReader):
        raise ValueError(
            f"{path} reads the frontal and the lateral film of a study together, which `thiscxr classify eval` alone "
            "does; here a classifier of single films is needed: thiscxr classify train --views one"
        )
    return reader


def load_folds(path: Path) -> tuple[Fold, ...]:
    """Return the folds in a classifier's file; none if it was trained without. Raises ValueError as `load_reader`."""
    metadata, tensors = read_safetensors(path, "reader", READER_FORMAT)
    folds = []
    for k, facts in enumerate(metadata.get("folds", ())):
        prefix = f"fold{k}."
        reader = _rebuilt(
            path, facts, {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        )
        folds.append(Fold(_of_films(path, reader), frozenset(facts["trained_on"])))
    return tuple(folds)


def _rebuilt(path: Path, facts: dict[str, Any], tensors: dict[str, Tensor]) -> Reader | TwoViewReader:
    try:
        listed = facts["architecture"].items()
        architecture: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in listed
        }
        config = ReaderConfig(**architecture)
        reader = TwoViewReader(config) if config.reads == "study" else Reader(config)
        reader.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path}: the classifier's description and its tensors do not fit ({str(error).splitlines()[0]})"
        ) from None
    return reader.eval().requires_grad_(False).to(memory_format=torch.channels_last)
