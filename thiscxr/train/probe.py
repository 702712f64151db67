"""What a training will take: three real steps at every side of its films, on its own pool, and the rest by arithmetic.

Nothing is written. Saving, drawing the grids and looking for a collapse are not counted; they take some hundredths of a
long training.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from thiscxr.config import Config
from thiscxr.labels import FINDINGS
from thiscxr.model.conditions import Vocabulary
from thiscxr.pool import Pool
from thiscxr.train.draws import Draws
from thiscxr.train.films import Films
from thiscxr.train.growth import resting_kimg
from thiscxr.train.start import start
from thiscxr.train.training import Training

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

NEVER = 1 << 40  # steps between R1 penalties


@dataclass(frozen=True)
class Cost:
    """What a step takes on films of one side."""

    side: int  # in pixels
    plain_sec: float
    r1_sec: float  # with the R1 penalty
    peak_bytes: int  # since the process began on a CPU, of this side on CUDA; 0: unknown

    def film_sec(self, config: Config) -> float:
        """Return the seconds a film, with R1 in every `r1_interval`-th step."""
        return (self.plain_sec + (self.r1_sec - self.plain_sec) / config.r1_interval) / int(config.batch)


class NoFilms(Films):
    """What stands in where there is no pool yet: noise, in the shape of the phantom's films and conditions."""

    def __init__(self, config: Config) -> None:
        self.res, self.resolutions = config.res, (config.res,)
        self.vocabulary = Vocabulary(FINDINGS if config.conditional else (), (), (), (), False)

    def batch(self, places: Tensor) -> tuple[Tensor, np.ndarray]:
        """Return noise float32 [k, 1, res, res] and numbers of no films, int64 [k]."""
        return torch.randn(len(places), 1, self.res, self.res), places.numpy()

    def told(self, rows: np.ndarray, draws: Draws) -> Tensor:
        """Return unknown conditions float32 [k, c_dim]."""
        return torch.zeros(len(rows), self.vocabulary.dim)

    def asked(self, images_seen: int, draws: Draws) -> Tensor:
        """Return unknown conditions float32 [k, c_dim]."""
        return torch.zeros(len(draws.rows), self.vocabulary.dim)

    def contrasts(self, rows: np.ndarray, draws: Draws) -> Tensor:
        """Return no contradictions, float32 [k, factors, c_dim]."""
        return torch.zeros(len(rows), len(self.vocabulary.factors), self.vocabulary.dim)


def probe(config: Config, pool: Pool | None, begins: bool = True) -> list[str]:
    """Return lines that say what a training of this resolved config takes in time and memory, from its first film on;
    where it `begins`, also what it takes from `init`, if there is a pool that says which conditions there are."""
    torch.set_num_threads(int(config.threads))
    training = Training(config, Films(pool, config) if pool else NoFilms(config))
    taken = start(training) if config.init and begins and pool else []
    sides = [side for side, _ in spread(config, config.kimg * 1000)]
    with tqdm(total=3 * len(sides), desc="probe", unit="step", file=sys.stderr, delay=2, leave=False) as bar:
        costs = [measure(training, side, bar) for side in sides]
    return [*taken, *tell_costs(config, costs), tell_weights(training)]


def spread(config: Config, films: float) -> list[tuple[int, float]]:
    """Return how many of the first `films` films are seen at which side: (side in pixels, films), the smallest
    first."""
    side, sides = config.grow_from or config.res, []
    until = (config.grow_kimg + resting_kimg(config)) * 1000
    while side < config.res and films > until:
        sides.append((side, until))
        films -= until
        side, until = side * 2, config.grow_kimg * 1000
    return [(side, some) for side, some in [*sides, (side, films)] if some > 0]


def measure(training: Training, side: int, bar: tqdm) -> Cost:
    """Take three steps at that side: one to warm up, one with R1, one without."""
    config, cuda = training.config, training.config.device == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for interval in (NEVER, 1, NEVER):
        # All of `side` at work, as most films find it, and both networks learning.
        training.config = replace(config, grow_from=side, grow_kimg=NEVER, rest_kimg=0.0, r1_interval=interval)
        training.images_seen = int(config.batch)
        training.strength = 0.5 * bool(config.augment_target)
        started = time.perf_counter()
        training.step()  # ends with a number on the CPU, so it is over when it returns
        seconds.append(time.perf_counter() - started)
        bar.update()
    training.config = config
    return Cost(side, seconds[2], seconds[1], torch.cuda.max_memory_allocated() if cuda else peak_rss())


def peak_rss() -> int:
    """Return the largest resident memory of this process so far in bytes, 0 where nobody knows."""
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def tell_costs(config: Config, costs: Sequence[Cost]) -> list[str]:
    """Return a line for each side, and what comes of them in `kimg` and in `minutes`."""
    planned = dict(spread(config, config.kimg * 1000))
    lines = [f"three steps at each side on {config.device}, {config.threads} threads:"]
    for cost in costs:
        films, seconds = planned[cost.side], cost.film_sec(config)
        memory = f"{cost.peak_bytes / 1e9:6.2f} GB" if cost.peak_bytes else ""
        lines.append(
            f"{cost.side:5} px {1 / seconds:8.1f} img/s {memory} {films / 1000:8g} kimg in {tell_time(films * seconds)}"
        )
    total = sum(planned[cost.side] * cost.film_sec(config) for cost in costs)
    lines.append(f"{config.kimg:g} kimg take about {tell_time(total)}")
    if config.minutes:
        films, side = reached(config, costs)
        lines.append(
            f"--minutes {config.minutes:g} is enough for about {films / 1000:.3g} kimg, which ends at {side} px"
        )
    return lines


def reached(config: Config, costs: Sequence[Cost]) -> tuple[float, int]:
    """Return the films that `minutes` are enough for, at most those of `kimg`, and the side of the last."""
    left, seen, side = config.minutes * 60, 0.0, costs[0].side
    per_film = {cost.side: cost.film_sec(config) for cost in costs}
    for side, films in spread(config, config.kimg * 1000):
        some = min(films, left / per_film[side])
        left, seen = left - some * per_film[side], seen + some
        if some < films:
            break
    return seen, side


def tell_weights(training: Training) -> str:
    """Return the line on parameters and on what is kept of each."""
    drawing, judging = (sum(p.numel() for p in network.parameters()) for network in (training.G, training.D))
    tensors = [*training.G.parameters(), *training.D.parameters(), *training.G_ema.parameters()]
    kept = [
        value
        for optimizer in (training.opt_G, training.opt_D)
        for state in optimizer.state.values()
        for value in state.values()
    ]
    size = sum(t.numel() * t.element_size() for t in [*tensors, *kept])
    return (
        f"{drawing / 1e6:.2f} million parameters draw, {judging / 1e6:.2f} judge; with "
        f"average and optimizers {size / 1e6:.0f} MB"
    )


def tell_time(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
