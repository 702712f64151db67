"""Estimate of time and memory: three real steps at every resolution, on the training's own pool; the rest is
arithmetic.

Nothing is written. Saving, the grids and the watch for a collapse are not counted; they take some hundredths of a long
training.
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
    """The cost of a step on films of one resolution."""

    res: int  # in pixels
    plain_sec: float
    r1_sec: float  # with the R1 penalty
    peak_bytes: int  # since the process began on a CPU, of this resolution on CUDA; 0: unknown

    def film_sec(self, config: Config) -> float:
        """Return the seconds a film, with R1 in every `r1_interval`-th step."""
        return (self.plain_sec + (self.r1_sec - self.plain_sec) / config.r1_interval) / int(config.batch)


class NoFilms(Films):
    """Stands in where there is no pool yet: noise, in the shape of the phantom's films and conditions."""

    def __init__(self, config: Config) -> None:
        self.res, self.resolutions = config.res, (config.res,)
        self.vocabulary = Vocabulary(FINDINGS if config.conditional else (), (), (), (), False)

    def batch(self, places: Tensor) -> tuple[Tensor, np.ndarray]:
        """Return noise float32 [k, 1, res, res] and numbers of no films, int64 [k]."""
        return torch.randn(len(places), 1, self.res, self.res), places.numpy()

    def with_dropout(self, rows: np.ndarray, draws: Draws) -> Tensor:
        """Return unknown conditions float32 [k, c_dim]."""
        return torch.zeros(len(rows), self.vocabulary.dim)

    def requested(self, images_seen: int, draws: Draws) -> Tensor:
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
    resolutions = [res for res, _ in spread(config, config.kimg * 1000)]
    with tqdm(total=3 * len(resolutions), desc="probe", unit="step", file=sys.stderr, delay=2, leave=False) as bar:
        costs = [measure(training, res, bar) for res in resolutions]
    return [*taken, *describe_costs(config, costs), describe_weights(training)]


def spread(config: Config, films: float) -> list[tuple[int, float]]:
    """Return how many of the first `films` films are seen at each resolution: (pixels, films), the smallest first."""
    res, resolutions = config.grow_from or config.res, []
    until = (config.grow_kimg + resting_kimg(config)) * 1000
    while res < config.res and films > until:
        resolutions.append((res, until))
        films -= until
        res, until = res * 2, config.grow_kimg * 1000
    return [(res, some) for res, some in [*resolutions, (res, films)] if some > 0]


def measure(training: Training, res: int, bar: tqdm) -> Cost:
    """Take three steps at that resolution: one to warm up, one with R1, one without."""
    config, cuda = training.config, training.config.device == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for interval in (NEVER, 1, NEVER):
        # All blocks up to `res` fully grown, as for most films, and both networks learning.
        training.config = replace(config, grow_from=res, grow_kimg=NEVER, rest_kimg=0.0, r1_interval=interval)
        training.images_seen = int(config.batch)
        training.strength = 0.5 * bool(config.augment_target)
        started = time.perf_counter()
        training.step()  # ends with a number on the CPU, so it is over when it returns
        seconds.append(time.perf_counter() - started)
        bar.update()
    training.config = config
    return Cost(res, seconds[2], seconds[1], torch.cuda.max_memory_allocated() if cuda else peak_rss())


def peak_rss() -> int:
    """Return the largest resident memory of this process so far in bytes, 0 where it is unknown."""
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def describe_costs(config: Config, costs: Sequence[Cost]) -> list[str]:
    """Return a line for each resolution, and the totals for `kimg` and `minutes`."""
    planned = dict(spread(config, config.kimg * 1000))
    lines = [f"three steps at each resolution on {config.device}, {config.threads} threads:"]
    for cost in costs:
        films, seconds = planned[cost.res], cost.film_sec(config)
        memory = f"{cost.peak_bytes / 1e9:6.2f} GB" if cost.peak_bytes else ""
        lines.append(
            f"{cost.res:5} px {1 / seconds:8.1f} img/s {memory} {films / 1000:8g} kimg in "
            f"{format_time(films * seconds)}"
        )
    total = sum(planned[cost.res] * cost.film_sec(config) for cost in costs)
    lines.append(f"{config.kimg:g} kimg take about {format_time(total)}")
    if config.minutes:
        films, res = reached(config, costs)
        lines.append(
            f"--minutes {config.minutes:g} is enough for about {films / 1000:.3g} kimg, which ends at {res} px"
        )
    return lines


def reached(config: Config, costs: Sequence[Cost]) -> tuple[float, int]:
    """Return the films that `minutes` are enough for, at most those of `kimg`, and the resolution of the last."""
    left, seen, res = config.minutes * 60, 0.0, costs[0].res
    per_film = {cost.res: cost.film_sec(config) for cost in costs}
    for res, films in spread(config, config.kimg * 1000):
        some = min(films, left / per_film[res])
        left, seen = left - some * per_film[res], seen + some
        if some < films:
            break
    return seen, res


def describe_weights(training: Training) -> str:
    """Return the line on the number of parameters and the memory of networks, average and optimizers."""
    of_g, of_d = (sum(p.numel() for p in network.parameters()) for network in (training.G, training.D))
    tensors = [*training.G.parameters(), *training.D.parameters(), *training.G_ema.parameters()]
    kept = [
        value
        for optimizer in (training.opt_G, training.opt_D)
        for state in optimizer.state.values()
        for value in state.values()
    ]
    size = sum(t.numel() * t.element_size() for t in [*tensors, *kept])
    return (
        f"generator {of_g / 1e6:.2f}, discriminator {of_d / 1e6:.2f} million parameters; with "
        f"average and optimizers {size / 1e6:.0f} MB"
    )


def format_time(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
