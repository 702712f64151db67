"""Phantom images/s of one thread at 128 px.

Run: OMP_NUM_THREADS=1 python benchmarks/phantom_rate.py [--films 200] [--res 128]. Prints one JSON line.
"""

import argparse
import json
import os
import platform
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # before numpy loads: the claim is for one core

from thiscxr.phantom import draw_film  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--res", type=int, default=128)
    args = parser.parse_args()
    draw_film(0, args.res)
    wall, cpu = time.perf_counter(), time.process_time()
    for seed in range(args.films):
        draw_film(seed, args.res)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    result = {
        "benchmark": "phantom_rate",
        "res": args.res,
        "films": args.films,
        "films_per_sec": round(args.films / wall, 1),
        "films_per_cpu_sec": round(args.films / cpu, 1),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
