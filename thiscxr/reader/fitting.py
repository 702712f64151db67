"""Fitting a network to films and targets, for a fixed number of steps, so that fits can be compared.

It knows nothing of pools and splits: it trains on every film that it is given. AdamW and a one-cycle rate (Smith
and Topin 2019, arXiv:1708.07120), with the transforms that are safe for chest films.
"""

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from thiscxr.labels import FINDINGS, NEGATIVE, POSITIVE, UNCERTAIN
from thiscxr.model.conditions import AGE_CENTRE, AGE_SCALE, FilmConditions, Vocabulary
from thiscxr.pixels import Pixels, pixels_to_images
from thiscxr.train.augment import AugmentRanges, augment
from thiscxr.train.draws import Draws

RANGES = AugmentRanges(turn_degrees=4.0, shift=0.04, patch=0.25)
# U-Ignore, U-Zeros, U-Ones: Irvin et al. 2019, arXiv:1901.07031, section 3.1
UNCERTAIN_AS = {"ignore": np.nan, "zeros": 0.0, "ones": 1.0}
MIXUP = 1  # a stream of random numbers of its own, beside the augmentation's

Loss = Callable[[Any, dict[str, Tensor]], Tensor]  # of the network's outputs and the known targets


@dataclass(frozen=True)
class Schedule:
    """How a network is fitted. The defaults are for audits: hundreds of steps."""

    rate: float = 2e-3  # largest learning rate
    decay: float = 0.05  # AdamW's weight decay
    strength: float = 0.7  # share of the films to which each transform of the augmentation is applied
    # alpha of the Beta from which the share of another film is drawn, Zhang et al. 2018, arXiv:1710.09412; 0: none
    mixup: float = 0.0
    average: float = 0.0  # decay per step of the average of the weights, which is returned; 0: the last weights are
    # activations in bfloat16, weights and losses in float32: several times as fast with AMX units
    bf16: bool = False


def fit(
    network: nn.Module,
    films: Pixels | Callable[[NDArray[np.int64]], Pixels | Tensor],
    targets: Mapping[str, Tensor],
    loss: Loss,
    steps: int,
    seed: int,
    *,
    batch: int = 64,
    schedule: Schedule = Schedule(),
    what: str = "fit",
    bar: "tqdm | None" = None,
) -> None:
    """Train the network in place for `steps` batches, and leave it in evaluation mode without gradients.

    films: uint8 or uint16 [n, res, res], or a function from rows to these, or to the films of studies as images float32
    [k, views, res, res], nan where one is missing; targets: one row per film or study, n at least a batch. Every one is
    drawn once before any is drawn again. `seed` gives the order and the augmentation, not the network's weights. bar:
    counts films where several fits share it.

    Raises ValueError for fewer films than one batch and FloatingPointError when the loss is not finite.
    """
    count = len(next(iter(targets.values())))
    if count < batch:
        raise ValueError(f"{what}: {count} training films; at least one step of {batch} is needed")
    read = films if callable(films) else films.__getitem__
    device = next(network.parameters()).device
    optimizer = torch.optim.AdamW(network.parameters(), lr=schedule.rate, weight_decay=schedule.decay)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=schedule.rate, total_steps=steps)
    network.train().requires_grad_(True)
    average = copy.deepcopy(network) if schedule.average else None
    own = tqdm(total=steps * batch, unit="film", file=sys.stderr, desc=what, delay=1) if bar is None else None
    for step, rows in zip(range(steps), _batches(count, batch, seed), strict=False):
        given = read(rows)
        images = given if isinstance(given, Tensor) else torch.from_numpy(pixels_to_images(given))[:, None]
        there = ~images[:, :, 0, 0].isnan()  # of [batch, views, res, res]
        draws = Draws(seed, step * batch, int(there.sum()))
        images[there] = augment(images[there][:, None], schedule.strength, draws, RANGES)[:, 0]
        known = {name: values[rows].to(device) for name, values in targets.items()}
        share, other = _mixup(schedule.mixup, batch, seed, step)
        images = share * images + (1 - share) * images[other] if share < 1 else images
        with torch.autocast(device.type, torch.bfloat16, enabled=schedule.bf16):
            answers = network(images.to(device))
        value = loss(answers, known)
        if share < 1:
            value = share * value + (1 - share) * loss(answers, {name: values[other] for name, values in known.items()})
        if not torch.isfinite(value):
            raise FloatingPointError(
                f"{what}: the loss is not finite after {step * batch} films; look for damaged films"
            )
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        rates.step()
        if average is not None:
            # short at first, so that the initial random weights do not remain in it
            _follow(average, network, min(schedule.average, (1 + step) / (10 + step)))
        (bar or own).update(batch)  # type: ignore[union-attr]
    if own is not None:
        own.close()
    if average is not None:
        network.load_state_dict(average.state_dict())
    network.eval().requires_grad_(False)


def _mixup(alpha: float, batch: int, seed: int, step: int) -> tuple[float, Tensor]:
    """Return the share of a batch's own films in it, from 0.5 to 1, and which film each is mixed with, int64
    [batch]."""
    if not alpha:
        return 1.0, torch.arange(batch)
    rng = np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, 0, MIXUP]))
    share = float(rng.beta(alpha, alpha))
    return max(share, 1 - share), torch.from_numpy(rng.permutation(batch))


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Move the average's weights and statistics towards the network's, all but a share `keep`."""
    for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - keep)
        else:
            mean.copy_(value)


def _batches(count: int, batch: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield rows without end: each permutation of all films is used up before the next; its remainder begins the next
    batch."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 0]))
    left = np.empty(0, np.int64)
    while True:
        while len(left) < batch:
            left = np.concatenate([left, rng.permutation(count)])
        yield left[:batch]
        left = left[batch:]


def condition_targets(films: FilmConditions, vocabulary: Vocabulary, uncertain: str = "ignore") -> dict[str, Tensor]:
    """Return training targets from known or requested conditions: float32, nan where unknown, findings [n, F] and sex
    [n, 1] in {0, 1}, scaled age [n, 1]; view and source int64 [n], -100 where unknown (which cross-entropy ignores).

    uncertain: a key of UNCERTAIN_AS, for uncertain findings.
    """
    states = films.findings[:, [FINDINGS.index(name) for name in vocabulary.findings]].astype(np.float32)
    doubtful = states == UNCERTAIN
    states[~np.isin(states, (POSITIVE, NEGATIVE))] = np.nan
    states[doubtful] = UNCERTAIN_AS[uncertain]

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
