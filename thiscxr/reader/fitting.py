"""Fitting a network to films and answers that are in memory: a fixed number of steps, so that one fit costs and learns as another does.

It knows nothing of pools and splits: what must not be learnt from must not be given. AdamW and a one-cycle rate (Smith and Topin 2019,
arXiv:1708.07120), with the transforms that are safe for chest films.
"""

import sys
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from thiscxr.labels import FINDINGS, NEGATIVE, POSITIVE
from thiscxr.model.conditions import AGE_CENTRE, AGE_SCALE, FilmConditions, Vocabulary
from thiscxr.pixels import Pixels, pixels_to_images
from thiscxr.train.augment import AugmentRanges, augment
from thiscxr.train.draws import Draws

RANGES = AugmentRanges(turn_degrees=4.0, shift=0.04, patch=0.25)
STRENGTH = 0.7
RATE = 2e-3

Loss = Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]


def fit(
    network: nn.Module,
    films: Pixels,
    targets: Mapping[str, Tensor],
    loss: Loss,
    steps: int,
    seed: int,
    *,
    batch: int = 64,
    what: str = "fit",
    bar: "tqdm | None" = None,
) -> None:
    """Train the network in place for `steps` batches, and leave it in evaluation mode without gradients.

    films: uint8 or uint16 [n, res, res], n at least a batch; targets: a row a film. Every film is drawn once before any is drawn again.
    `seed` gives the order and the augmentation, not the network's weights. bar: counts films where several fits share it.
    Raises ValueError for fewer films than one batch and FloatingPointError when the loss is not finite.
    """
    if len(films) < batch:
        raise ValueError(f"{what}: {len(films)} training films; at least {batch} are needed")
    device = next(network.parameters()).device
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps)
    network.train().requires_grad_(True)
    own = tqdm(total=steps * batch, unit="film", file=sys.stderr, desc=what, delay=1) if bar is None else None
    for step, rows in zip(range(steps), _batches(len(films), batch, seed), strict=False):
        images = torch.from_numpy(pixels_to_images(films[rows]))[:, None]  # [batch, 1, res, res]
        answers = network(augment(images, STRENGTH, Draws(seed, step * batch, batch), RANGES).to(device))
        value = loss(answers, {name: values[rows].to(device) for name, values in targets.items()})
        if not torch.isfinite(value):
            raise FloatingPointError(f"{what}: the loss is not finite after {step * batch} films; look for damaged films")
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        (bar or own).update(batch)  # type: ignore[union-attr]
    if own is not None:
        own.close()
    network.eval().requires_grad_(False)


def _batches(count: int, batch: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield rows without end: each order of all films is used up before the next; what is left of one begins the next batch."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 0]))
    left = np.empty(0, np.int64)
    while True:
        while len(left) < batch:
            left = np.concatenate([left, rng.permutation(count)])
        yield left[:batch]
        left = left[batch:]


def condition_targets(films: FilmConditions, vocabulary: Vocabulary) -> dict[str, Tensor]:
    """Return what films are to teach, known or asked: float32 with nan where unknown, findings [n, F] and sex [n, 1] in {0, 1}, scaled age
    [n, 1]; view and source int64 [n] with -100 (which cross-entropy ignores) where unknown."""
    states = films.findings[:, [FINDINGS.index(name) for name in vocabulary.findings]].astype(np.float32)
    states[~np.isin(states, (POSITIVE, NEGATIVE))] = np.nan

    def classes(factor: str, wanted: tuple[str, ...]) -> NDArray[np.int64]:
        table = [wanted.index(name) if name in wanted else -100 for name in films.names[factor]]
        return np.array([*table, -100], np.int64)[getattr(films, factor)]  # the code -1 is the last entry

    sex = classes("sex", ("M", "F")).astype(np.float32)[:, None]
    age = ((films.age_years - AGE_CENTRE) / AGE_SCALE).astype(np.float32)[:, None]
    return {
        "findings": torch.from_numpy(states),
        "sex": torch.from_numpy(np.where(sex < 0, np.float32(np.nan), sex)),
        "age": torch.from_numpy(age),
        "view": torch.from_numpy(classes("view", vocabulary.views)),
        "source": torch.from_numpy(classes("source", vocabulary.sources)),
    }
