"""How long does a Fréchet distance take, against pytorch-fid's? One JSON line; times are medians of rounds that take
turns.

python benchmarks/frechet_speed.py            # 2,048 dimensions: about three minutes on two cores
python benchmarks/frechet_speed.py --dim 768
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable

import numpy as np
from pytorch_fid.fid_score import calculate_frechet_distance

from thiscxr.measures.frechet import frechet_distance


def timed(distance: Callable[..., float], arguments: tuple) -> tuple[float, float]:
    started = time.perf_counter()
    value = float(distance(*arguments))
    return value, time.perf_counter() - started


def main() -> None:
    """Draw two sets of moments, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    rng = np.random.default_rng(0)
    sets = [rng.standard_normal((2 * arguments.dim, arguments.dim)) * scale for scale in (1.0, 1.2)]
    moments = tuple(part for x in sets for part in (x.mean(axis=0), np.cov(x, rowvar=False)))
    times: dict[str, list[float]] = {"ours": [], "pytorch_fid": []}
    values = {}
    for _ in range(arguments.rounds):
        for name, distance in (("ours", frechet_distance), ("pytorch_fid", calculate_frechet_distance)):
            values[name], seconds = timed(distance, moments)
            times[name].append(seconds)
    ours, theirs = (float(np.median(times[name])) for name in ("ours", "pytorch_fid"))
    difference = abs(values["ours"] - values["pytorch_fid"]) / values["pytorch_fid"]
    facts = {
        "dim": arguments.dim,
        "ours_sec": round(ours, 3),
        "pytorch_fid_sec": round(theirs, 3),
        "ratio": round(theirs / ours, 2),
    }
    print(json.dumps({**facts, "relative_difference": float(f"{difference:.1e}")}))


if __name__ == "__main__":
    main()
