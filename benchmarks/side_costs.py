"""Twenty steps of the default recipe at full resolution, and their cost: for resolutions that were never trained to the
end here.

    python benchmarks/side_costs.py 128 256 512

Noise stands in for films. Each resolution in a process of its own, so that its peak is its own. One JSON line a
resolution: images/s over steps 5 to 20 (one of them with R1 and R2, as in training), peak resident memory, and the
estimates of `--dry-run` for both. About four minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import torch
from tqdm import tqdm

from thiscxr.config import Config
from thiscxr.train.probe import NoFilms, measure, peak_rss
from thiscxr.train.training import Training

STEPS, WARM = 20, 4


def config_of(res: int, threads: int) -> Config:
    return replace(Config(res=res, device="cpu"), watch_kimg=0.0).resolve("cpu", threads)


def twenty_steps(res: int, threads: int) -> dict[str, float]:
    config = replace(config_of(res, threads), grow_from=0)
    training = Training(config, NoFilms(config))
    training.strength = 0.5
    for number in tqdm(range(STEPS), unit="step", desc=f"{res} px"):
        if number == WARM:
            start = time.perf_counter()
        losses = training.step()
        assert all(value == value for value in losses.values())
    films = (STEPS - WARM) * int(config.batch)
    return {"img_per_sec": films / (time.perf_counter() - start), "peak_gb": peak_rss() / 1e9}


def estimate(res: int, threads: int) -> dict[str, float]:
    config = config_of(res, threads)
    with tqdm(total=3, unit="step", desc=f"{res} px, probe") as bar:
        cost = measure(Training(config, NoFilms(config)), res, bar)
    return {"estimated_img_per_sec": 1 / cost.film_sec(config), "estimated_peak_gb": cost.peak_bytes / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("resolutions", type=int, nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=["steps", "estimate"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        torch.set_num_threads(arguments.threads)
        measured = (twenty_steps if arguments.only == "steps" else estimate)(
            arguments.resolutions[0], arguments.threads
        )
        print(json.dumps(measured))
        return
    for res in arguments.resolutions:
        config = config_of(res, arguments.threads)
        record = {"res": res, "batch": config.batch, "channel_base": config.channel_base, "threads": arguments.threads}
        for part in ("steps", "estimate"):
            command = [
                sys.executable,
                os.path.abspath(__file__),
                str(res),
                "--threads",
                str(arguments.threads),
                "--only",
                part,
            ]
            output = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
            ).stdout
            record |= {key: round(value, 2) for key, value in json.loads(output).items()}
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
