"""How fast films are written, against the network alone: one JSON line. Claim: at least 90 % as fast, in each format.

    python benchmarks/write_rate.py [--model nih-64] [--format png] [-n 1024] [--rounds 3]

The network alone draws the same films from latents that lie ready; the writer makes the latents, draws, encodes and writes them. Both
take turns in one process, and the ratio is that of the best rounds, since the machine may have other work. The processor time of each
says what the writing costs where every core is busy.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from thiscxr.model.conditions import Condition
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
    noises = [torch.from_numpy(normals(seeds, 2 + i, res * res)).view(-1, 1, res, res) for i, res in enumerate(config.noise_resolutions)]

    def draw() -> None:
        with torch.inference_mode():
            for _ in range(n // BATCH):
                network.generator(z, c, noises)

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
    parser.add_argument("--format", default="png", choices=[*FORMATS, "dicom"])
    parser.add_argument("-n", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    network = load(options.model)
    form = dicom_format(DicomOptions()) if options.format == "dicom" else FORMATS[options.format]
    n = options.n // BATCH * BATCH
    seeds = list(range(n))
    conditions = network.conditions(seeds, Condition())
    alone = network_alone(network, n)
    alone()
    network_times, written_times = [], []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(options.rounds):
            network_times.append(seconds(alone))
            written_times.append(seconds(lambda i=i: write_samples(network, seeds, conditions, 1.0, Path(folder) / str(i), form)))
    drawn, written = (n / min(wall for wall, _ in times) for times in (network_times, written_times))
    costs = {
        f"{name}_cpu_ms_per_film": round(min(cpu for _, cpu in times) / n * 1e3, 3)
        for name, times in (("network", network_times), ("written", written_times))
    }
    facts = {"format": options.format, "films": n, "threads": torch.get_num_threads(), "network_films_per_sec": round(drawn, 1)}
    print(json.dumps({**facts, "written_films_per_sec": round(written, 1), "ratio": round(written / drawn, 3), **costs}))


if __name__ == "__main__":
    main()
