"""Training and sampling rates of the default recipe against the preset `plain`, step by step in turn, so that noise
hits both.

    python benchmarks/train_rate.py nih-64 --threads 2
    python benchmarks/train_rate.py nih-64 --device cuda --variant plain --variant best --variant "best triton=true"

A variant is the name of a preset ("best": the defaults of the resolution) and any number of key=value; all are compared
with the first. Prints one JSON line: images/s at every resolution of the growth (one step of R1 in `r1_interval`
counted), over the first `--kimg` thousand films of the schedule, and of the generator in batches of 64 and 1 (median of
rounds); and the shares of a training's time that the random numbers and the watch for a collapse take at each
resolution. Half a minute at 64 px.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thiscxr.config import Config, load_config
from thiscxr.model.resample import use_triton
from thiscxr.pool import Pool
from thiscxr.train.draws import Draws
from thiscxr.train.films import Films
from thiscxr.train.growth import stage
from thiscxr.train.training import Training
from thiscxr.train.watch import Watch


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def generated_films(G: Callable[..., torch.Tensor], *inputs: object) -> torch.Tensor:
    return G(*inputs).cpu()  # which waits until they are generated


def draws_timed() -> list[float]:
    """Return a list of one number, to which the seconds of all random numbers from now on are added."""
    total = [0.0]

    def timed(plain: Callable) -> Callable:
        def call(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = plain(*args, **options)
            total[0] += time.perf_counter() - start
            return result

        return call

    for name in ("__init__", "normal", "uniform", "whole", "grain"):
        setattr(Draws, name, timed(getattr(Draws, name)))
    return total


def resolutions(config: Config) -> list[int]:
    """Return the resolutions that the schedule goes through."""
    return [res for res in (16, 32, 64, 128, 256, 512, 1024) if (config.grow_from or config.res) <= res <= config.res]


def at(training: Training, res: int, lazy: bool) -> None:
    """Move the clock to a step in the middle of a resolution, with or without R1."""
    config = training.config
    use_triton(config.triton)
    batch = int(config.batch)
    first = next(i for i in range(0, 10**9, batch) if stage(config, i).res == res and stage(config, i).blend == 1)
    number = first // batch
    number += -number % config.r1_interval + (0 if lazy else 1)
    training.images_seen = number * batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--variant", action="append", help='default: "plain" and "best"')
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--kimg", type=float, default=160.0, help="length of the schedule that the total is for")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pool, device = Pool.open(arguments.pool), arguments.device
    trainings = {}
    for name in arguments.variant or ["plain", "best"]:
        preset, *settings = name.split()
        file = None if preset == "best" else Path(preset)
        config = load_config(file, tuple(settings), res=pool.resolution, device=device, threads=arguments.threads)
        config = config.resolve(device, arguments.threads)
        trainings[name] = Training(config, Films(pool, config))
        trainings[name].strength = 0.3
    watches = {name: Watch(training.config, training.films) for name, training in trainings.items()}
    first = next(iter(trainings))
    times: dict[tuple[str, int, bool], list[float]] = {}
    looks: dict[tuple[str, int], list[float]] = {}
    random_shares: dict[tuple[str, int], list[float]] = {}
    of_draws = draws_timed()
    for _ in range(arguments.rounds + 1):  # the first warms up
        for name, training in trainings.items():
            for res in resolutions(training.config):
                for lazy in (False, True):
                    at(training, res, lazy)
                    of_draws[0] = 0.0
                    times.setdefault((name, res, lazy), []).append(seconds(training.step))
                    random_shares.setdefault((name, res), []).append(of_draws[0] / times[name, res, lazy][-1])
                look = partial(watches[name].look, training, scheduled=True)
                looks.setdefault((name, res), []).append(seconds(look))
    rates: dict[str, dict[str, float]] = {}
    shares: dict[str, dict[str, dict[str, float]]] = {"draws_share": {}, "watch_share": {}}
    for name, training in trainings.items():
        config, batch = training.config, int(training.config.batch)
        step = {}
        for res in resolutions(config):
            usual, regularised = (float(np.median(times[name, res, lazy][1:])) for lazy in (False, True))
            step[res] = usual + (regularised - usual) / config.r1_interval
        schedule = [stage(config, i).res for i in range(0, int(arguments.kimg * 1000), batch)]
        rates[name] = {f"{res} px": batch / step[res] for res in step}
        between = {res: config.watch_kimg * 1000 * step[res] / batch for res in step}
        shares["draws_share"][name] = {
            f"{res} px": round(float(np.median(random_shares[name, res][2:])), 4) for res in step
        }
        shares["watch_share"][name] = {
            f"{res} px": round(float(np.median(looks[name, res][1:])) / between[res], 4) for res in step
        }
        rates[name]["schedule"] = len(schedule) * batch / sum(step[res] for res in schedule)
    for n in (64, 1):
        sampled: dict[str, list[float]] = {}
        for _ in range(arguments.rounds + 1):
            for name, training in trainings.items():
                G = training.G_ema
                z, c = torch.randn(n, G.config.z_dim, device=device), torch.zeros(n, G.config.c_dim, device=device)
                noises = [torch.randn(n, 1, res, res, device=device) for res in G.config.noise_resolutions]
                with torch.inference_mode():
                    sampled.setdefault(name, []).append(seconds(partial(generated_films, G, z, c, noises)))
        for name in trainings:
            rates[name][f"sampling, batch {n}"] = n / float(np.median(sampled[name][1:]))
    ratios = {
        name: {key: round(rates[name][key] / rates[first][key], 2) for key in rates[first] if key in rates[name]}
        for name in trainings
        if name != first
    }
    rounded = {name: {key: round(rate, 1) for key, rate in values.items()} for name, values in rates.items()}
    print(
        json.dumps(
            {
                "res": pool.resolution,
                "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
                "threads": arguments.threads,
                "kimg": arguments.kimg,
                "images_per_sec": rounded,
                f"over {first}": ratios,
                **shares,
            }
        )
    )


if __name__ == "__main__":
    main()
