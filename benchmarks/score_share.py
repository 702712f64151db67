"""How much of a score is spent in the networks, and how much memory does it take? One line of JSON.

    OMP_NUM_THREADS=1 python benchmarks/score_share.py nih-64 --network nih-64 -n 10000  # two minutes of a processor

Stages and networks are timed in processor seconds, which other processes on the machine do not lengthen much; nothing
comes from the cache.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from thiscxr.model.generator import Generator
from thiscxr.pool import Pool
from thiscxr.reader.extractors import load_extractor
from thiscxr.reader.network import Reader
from thiscxr.reader.networks import FeatureNetwork
from thiscxr.reader.segmenter import Segmenter
from thiscxr.score import panel
from thiscxr.score.fakes import open_fakes

STAGES = [
    "read_sides",
    "distances",
    "by_group",
    "confounders",
    "ms_ssim_scores",
    "audit",
    "condition_fidelity",
    "plausibility",
]
NETWORKS = {"sampling": (Generator, "forward"), "reader": (Reader, "features"), "segmenter": (Segmenter, "forward")}


def timed(function: Callable, seconds: dict[str, float], name: str) -> Callable:
    """Return the function with the processor time of each call added to seconds[name]."""

    def call(*arguments: Any, **options: Any) -> Any:
        started = time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            seconds[name] += time.process_time() - started

    return call


def main() -> None:
    """Score once, and report where the time went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--network", default="nih-64")
    parser.add_argument("--extractor", default="thiscxr64")
    parser.add_argument("-n", type=int, default=2048)
    arguments = parser.parse_args()
    pool, extractor = Pool.open(arguments.pool), load_extractor(arguments.extractor)
    stages: dict[str, float] = defaultdict(float)
    networks: dict[str, float] = defaultdict(float)
    for name in STAGES:
        setattr(panel, name, timed(getattr(panel, name), stages, name))
    for name, (kind, method) in (NETWORKS | {"extractor": (FeatureNetwork, "features")}).items():
        setattr(kind, method, timed(getattr(kind, method), networks, name))
    with tempfile.TemporaryDirectory() as cache:
        os.environ["THISCXR_CACHE"] = cache
        started, wall = time.process_time(), time.monotonic()
        with open_fakes(arguments.network, pool.resolution, arguments.n, 1.0, "cpu") as fakes:
            stages["sample"] = time.process_time() - started
            found = panel.score(pool, fakes, [extractor])
        seconds = time.process_time() - started
    line = {"samples": arguments.n, "real": len(pool), "extractor": extractor.name, "records": len(found.records)}
    line |= {"processor_seconds": round(seconds, 1), "wall_seconds": round(time.monotonic() - wall, 1)}
    line |= {"networks": {name: round(spent, 1) for name, spent in networks.items()}}
    line |= {"share_in_networks": round(sum(networks.values()) / seconds, 3)}
    line |= {"stages": {name: round(spent, 1) for name, spent in stages.items()}}
    print(json.dumps(line | {"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}))


if __name__ == "__main__":
    main()
