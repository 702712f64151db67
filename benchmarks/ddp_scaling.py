"""Images/s of one process and of several that share the batch, one thread each, over gloo on one machine.

    python benchmarks/ddp_scaling.py [POOL] [--processes 2] [--steps 60] [--res 64] [--set key=value]

Without a pool, 256 phantom films are made first. The resolutions that the films grow through are timed separately:
small films are quick to train on, so that the messages weigh most there. Prints one JSON line. About two minutes on two
cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from thiscxr.config import Config, load_config
from thiscxr.phantom.releases import write_layout
from thiscxr.pool import Pool
from thiscxr.train.films import Films
from thiscxr.train.growth import stage
from thiscxr.train.team import open_team
from thiscxr.train.training import Training

WARM = 8  # steps before the clock starts


def rates(pool: Pool, config: Config, steps: int) -> dict[str, float]:
    """Return the images/s at each resolution, of all processes together."""
    torch.set_num_threads(1)
    found = {}
    with open_team("cpu") as team:
        films = Films(pool, config)
        res, images_seen = 0, 0
        while res < config.res:
            training = Training(config, films, team)
            training.images_seen = images_seen
            res = stage(config, images_seen).res
            for number in range(WARM + steps):
                if number == WARM:
                    team.most(0)  # all start together
                    start = time.perf_counter()
                training.step()
            found[str(res)] = round(steps * int(config.batch) / (time.perf_counter() - start), 1)
            images_seen += int((config.grow_kimg + (config.fade_kimg if res == config.grow_from else 0)) * 1000)
        return found if team.leads else {}


def launched(processes: int, arguments: list[str]) -> dict[str, float]:
    """Return what `rates` finds in that many processes."""
    program = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        str(processes),
        __file__,
        "--worker",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run([*program, *arguments], stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(result.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", type=Path, nargs="?")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--res", type=int, default=64)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.pool or Path(folder) / "phantom"
        if args.pool is None:
            write_layout(path, "pool", 256, args.res, 0)
        pool = Pool.open(path)
        config = load_config(None, tuple(args.settings), res=pool.resolution).resolve("cpu", 1)
        config = replace(config, pool_fingerprint=pool.fingerprint)
        if args.worker:
            found = rates(pool, config, args.steps)
            if found:
                print(json.dumps(found))
            return
        arguments = [
            str(path),
            "--steps",
            str(args.steps),
            *(flag for setting in args.settings for flag in ("--set", setting)),
        ]
        one, many = (launched(processes, arguments) for processes in (1, args.processes))
    result = {
        "benchmark": "ddp_scaling",
        "res": config.res,
        "batch": config.batch,
        "processes": args.processes,
        "cores": os.cpu_count(),
        "img_per_sec_one": one,
        "img_per_sec_many": many,
        "ratio": {res: round(many[res] / one[res], 2) for res in one},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
