"""The watch: it detects that a training has collapsed, and keeps the state to go back to.

It compares films of fixed latents in a cheap space, 8 × 8 area means, on a schedule that is a function of the films
seen. What it saw and the state to go back to are part of the saved state, so that a resumed run does exactly the same.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thiscxr.config import Config
from thiscxr.model.generator import Generator
from thiscxr.train.films import Films
from thiscxr.train.growth import stage
from thiscxr.train.training import Training

FILMS = 128  # real ones, and as many of the averaged generator
FEW = 32  # of the generator in training, which collapses before its average does
CELLS = 8  # area means along each edge of a film
NEIGHBOUR = 5
GAP_KIMG = 0.5  # half-life of the smoothed gap

# Healthy trainings stay far from these: docs/distributed.md says how far.
MIN_SPREAD = 0.3  # mean distance between two fakes, over that between two reals
MIN_COVERAGE = 0.25  # of the best so far …
FIRST_COVERAGE = 0.4  # … once that has reached this
MAX_GAP = 20.0  # mean D(real) − mean D(fake), either way: logits that run off come with both signs
ROOM = 2.0  # a state is good to go back to when it is this many times better than the limits


class CollapseError(FloatingPointError):
    """The training collapsed and going back did not help."""


class Watch:
    """The films that are compared, and the numbers that change."""

    def __init__(self, config: Config, films: Films) -> None:
        self.config = config
        rng = np.random.Generator(np.random.Philox(key=config.seed + (1 << 127)))  # no epoch's key
        rows = np.sort(rng.permutation(len(films.indices))[:FILMS])
        images = films.reduced(rows)
        self.every = round(config.watch_kimg * 1000) if len(rows) > NEIGHBOUR else 0
        self.reals = cells(images)
        self.z = torch.from_numpy(rng.standard_normal((len(rows), config.z_dim), dtype=np.float32))
        self.c = films.vectors(rows)
        self.gap = self.best = 0.0
        self.good: dict[str, Any] = {}

    def note(self, losses: dict[str, float]) -> None:
        """Smooth the gap of a step's losses."""
        keep = 0.5 ** (int(self.config.batch) / (GAP_KIMG * 1000))
        self.gap = keep * self.gap + (1 - keep) * (losses["D/real"] - losses["D/fake"])

    def due(self, images_seen: int) -> bool:
        """Return whether the step that led to `images_seen` ended an interval of the watch."""
        return self.every > 0 and images_seen // self.every > (images_seen - int(self.config.batch)) // self.every

    def next(self, images_seen: int) -> int:
        """Return the number of films at which the next interval ends."""
        return (images_seen // self.every + 1) * self.every

    def look(self, training: Training, scheduled: bool) -> tuple[dict[str, float], str]:
        """Return the numbers and what is wrong with them ("" for nothing); only scheduled checks are remembered. The
        leader checks for all."""
        if not self.every or not training.team.leads:
            return {}, ""
        fakes, few = self._generate(training, training.G_ema, FILMS), self._generate(training, training.G, FEW)
        spreads = [spread(some, self.reals) for some in (fakes, few)]
        seen = {"watch/spread": min(spreads), "watch/coverage": coverage(self.reals, fakes), "watch/gap": self.gap}
        wrong = self._wrong(seen, 1.0)
        if scheduled and not wrong:
            self.best = max(self.best, seen["watch/coverage"])
            if not self._wrong(seen, ROOM):
                self.keep(training)
        return seen, wrong

    def keep(self, training: Training) -> None:
        """Remember the state of the training as the one to go back to."""
        self.good = cpu_copy({**training.state(), "watch": {"gap": self.gap, "best": self.best}})

    def state(self, training: Training) -> dict[str, Any]:
        """Return the state of training and watch; with it, where that is another one, the state to go back to."""
        good = self.good if self.good["images_seen"] != training.images_seen else None
        return {**training.state(), "watch": {"gap": self.gap, "best": self.best, "good": good}}

    def restore(self, training: Training, state: dict[str, Any]) -> None:
        """Take over what `state` or `again` returned, the part of the training too; or the state of a training that
        begins."""
        training.restore(state)
        numbers = state.get("watch", {"gap": 0.0, "best": 0.0})
        self.gap, self.best = numbers["gap"], numbers["best"]
        self.good = numbers.get("good") or {}
        if not self.good:
            self.keep(training)

    def again(self, noise_stream: int) -> dict[str, Any]:
        """Return the state to go back to, ready for another try: the number of returns draws other random numbers and
        halves the steps."""
        return {**cpu_copy(self.good), "noise_stream": noise_stream}

    def _wrong(self, seen: dict[str, float], room: float) -> str:
        """Return the first limit that is crossed, or that is nearer than `room` times, in words."""
        distance, covered = seen["watch/spread"], seen["watch/coverage"]
        if not distance >= MIN_SPREAD * room:  # NaN is wrong too
            return f"two synthetic films differ by {distance:.2f} of what two real ones do, below {MIN_SPREAD * room:g}"
        least = self.best * MIN_COVERAGE * room if self.best >= FIRST_COVERAGE else 0.0
        if covered < least:
            return (
                f"{covered:.0%} of the real films have a synthetic one near, below "
                f"{least:.0%} (best so far {self.best:.0%})"
            )
        if not abs(self.gap) <= MAX_GAP / room:
            return f"D(real) − D(fake) is {self.gap:.3g}, beyond ±{MAX_GAP / room:g}"
        return ""

    def _generate(self, training: Training, generator: Generator, count: int) -> Tensor:
        """Return the cells of `count` films at the present stage, conditioned on what is known of the real ones;
        without noise, so that variety comes from z alone."""
        now, device = stage(self.config, training.images_seen), self.config.device
        noises = [
            torch.zeros(1, 1, res, res, device=device)
            for res in generator.config.grown_noise_resolutions(math.ceil(now.grown))
        ]
        films = []
        with torch.inference_mode():
            for z, c in zip(self.z[:count].split(FEW), self.c[:count].split(FEW), strict=True):
                ws = generator.mapping(z.to(device), c.to(device))[:, None].expand(-1, generator.config.num_ws, -1)
                films.append(cells(generator.synthesis(ws, noises, now.grown)).cpu())
        return torch.cat(films)


def cells(images: Tensor) -> Tensor:
    """Return area means, float32 [N, CELLS²], of images [N, 1, H, W]."""
    return F.interpolate(images, size=(CELLS, CELLS), mode="area").flatten(1)


def spread(fakes: Tensor, reals: Tensor) -> float:
    """Return the mean distance between two of fakes [M, d], over that between two of reals [N, d]: 0 when all fakes are
    one film."""
    return (torch.pdist(fakes).mean() / torch.pdist(reals).mean()).item()


def coverage(reals: Tensor, fakes: Tensor) -> float:
    """Return the share of reals [N, d] that have one of fakes [M, d] no farther than their NEIGHBOUR-th nearest real.

    Source: Naeem et al. 2020, arXiv:2002.09797, Eq. 4, with k = 5 in the space of `cells`.
    """
    among = torch.cdist(reals, reals)
    radii = among.kthvalue(min(NEIGHBOUR + 1, len(reals)), dim=1).values  # the nearest real is the film itself
    return (torch.cdist(reals, fakes).amin(dim=1) <= radii).float().mean().item()


def cpu_copy(value: Any) -> Any:
    """Return a copy on the CPU of nested dicts, lists and tensors that shares nothing with `value`."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: cpu_copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(cpu_copy(item) for item in value)
    return value
