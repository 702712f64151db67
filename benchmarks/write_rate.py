"""How fast films are written, against the network alone: a JSON line a format. Goal: 90 % as fast; docs/sampling.md
says which reach it.

    python benchmarks/write_rate.py [--model nih-64] [--res 128] [--format png dicom] [-n 1024] [--rounds 3]

--res: a network of another side with weights drawn at random, otherwise built as the model is.

The network alone draws the same films, a batch a thread as the sampler does, from latents that lie ready; the writer
makes the latents, draws, encodes and writes them. Both take turns in one process, and the ratio is that of the best
rounds, since the machine may have other work. The processor time of each (median of the rounds) says what the writing
costs where every core is busy: `cpu_ratio`.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import torch

from thiscxr.config import RESOLUTIONS
from thiscxr.model.conditions import Condition
from thiscxr.model.generator import Generator
from thiscxr.model.parallel import in_threads
from thiscxr.sample.dicom import DicomOptions, dicom_format
from thiscxr.sample.formats import BATCH, FORMATS
from thiscxr.sample.latents import normals
from thiscxr.sample.sampling import Network, load
from thiscxr.sample.writing import write_samples


def network_alone(network: Network, n: int) -> Callable[[], None]:
    """Return what draws `n` films in steps of BATCH, all of its inputs ready."""
    config = network.generator.config
    seeds = list(range(BATCH))
    z = torch.from_numpy(normals(seeds, 0, config.z_dim))
    c = torch.from_numpy(network.info.vocabulary.encode(network.conditions(seeds, Condition())))
    noises = [
        torch.from_numpy(normals(seeds, 2 + i, res * res)).view(-1, 1, res, res)
        for i, res in enumerate(config.noise_resolutions)
    ]

    def step(_: int) -> torch.Tensor:
        with torch.inference_mode():
            return network.generator(z, c, noises)

    def draw() -> None:
        for _ in in_threads(step, range(n // BATCH), torch.device("cpu")):
            pass

    return draw


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    """Return how long a call takes, and how much processor time."""
    started, used = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - started, time.process_time() - used


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nih-64")
    parser.add_argument("--res", type=int, choices=RESOLUTIONS)
    parser.add_argument("--format", nargs="+", default=[*FORMATS, "dicom"], choices=[*FORMATS, "dicom"])
    parser.add_argument("-n", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.n < BATCH:
        parser.error(f"-n {options.n}: at least {BATCH} films, one step of the network, are needed")
    network = load(options.model)
    if options.res:
        architecture = replace(network.info.architecture, res=options.res)
        network = Network(
            Generator(architecture).eval(), replace(network.info, architecture=architecture), network.sha256
        )
    n = options.n // BATCH * BATCH
    seeds = list(range(n))
    conditions = network.conditions(seeds, Condition())
    alone = network_alone(network, n)
    alone()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ("network", *options.format)}
    for _ in range(options.rounds):
        times["network"].append(seconds(alone))
        for name in options.format:
            form = dicom_format(DicomOptions()) if name == "dicom" else FORMATS[name]
            with tempfile.TemporaryDirectory() as folder:
                write = partial(write_samples, network, seeds, conditions, 1.0, Path(folder) / "out", form)
                times[name].append(seconds(write))
    rates = {name: n / min(wall for wall, _ in found) for name, found in times.items()}
    costs = {name: median(cpu for _, cpu in found) / n * 1e3 for name, found in times.items()}
    facts = {"res": network.info.architecture.res, "films": n, "threads": torch.get_num_threads()}
    for name in options.format:
        line = {
            "format": name,
            **facts,
            "network_films_per_sec": round(rates["network"], 1),
            "written_films_per_sec": round(rates[name], 1),
        }
        line |= {
            "ratio": round(rates[name] / rates["network"], 3),
            "cpu_ratio": round(costs["network"] / costs[name], 3),
        }
        line |= {
            "network_cpu_ms_per_film": round(costs["network"], 3),
            "written_cpu_ms_per_film": round(costs[name], 3),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
