"""Features of 10,000 films of 64 px by thiscxr64: what share of the time is spent in the network, and whether memory
grows with the films.

    python benchmarks/extract_rate.py

Noise stands in for films, in a pool of its own. Each count in a process of its own, so that its peak is its own. The
time is all of it but starting Python and opening pool and network: the key, reading and checking films, ranges, the
network, writing and checking the cache. Anonymous memory is what the process holds; the peak also counts pages of the
pool's files, which the system takes back when it wants. One JSON line. About a minute.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from thiscxr.labels import FilmRecord, Terms
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.reader.extractors import extract, in_batches, load_extractor, pool_key
from thiscxr.train.probe import peak_rss

RES, COUNTS = 64, (2_000, 10_000)


def write_pool(path: Path, count: int) -> None:
    terms = Terms(title="Noise", terms="none", citation="none", url="none", acknowledgement="none")
    rng = np.random.default_rng(0)
    with PoolWriter(path, RES, 8, {"noise": terms}, b"key") as writer:
        for i in tqdm(range(count), "pool", unit="film"):
            record = FilmRecord(str(i), str(i), str(i), str(i), "PA", "F", 50.0, {})
            writer.add("noise", record, rng.integers(0, 256, (RES, RES)).astype(np.uint8), (RES, RES, 8))


def anonymous_bytes() -> int:
    """Return the memory of this process that no file stands behind; 0 where the system does not report it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def measure(path: Path, count: int, cache: Path) -> dict[str, float]:
    pool, extractor = Pool.open(path), load_extractor("thiscxr64")
    rows, network_sec, anonymous = pool.indices("all")[:count], 0.0, 0
    features = extractor.reader.features

    def timed(images: torch.Tensor) -> torch.Tensor:
        nonlocal network_sec
        begun = time.perf_counter()
        result = features(images)
        network_sec += time.perf_counter() - begun
        return result

    extractor.reader.features = timed  # type: ignore[method-assign]

    def read() -> Iterator[np.ndarray]:
        nonlocal anonymous
        for some in in_batches(rows):
            yield pool.read(some)
            anonymous = max(anonymous, anonymous_bytes())

    begun = time.perf_counter()
    (result,) = extract(read(), [extractor], count=count, key=pool_key(pool, rows), folder=cache)
    seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    extract(read(), [extractor], count=count, key=pool_key(pool, rows), folder=cache)
    assert result.shape == (count, extractor.dim)
    again = time.perf_counter() - begun
    return {"sec": seconds, "network_sec": network_sec, "again_sec": again, "anonymous": anonymous, "peak": peak_rss()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs=2, metavar=("FOLDER", "COUNT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        torch.set_num_threads(arguments.threads)
        folder, count = Path(arguments.only[0]), int(arguments.only[1])
        print(json.dumps(measure(folder / "pool", count, folder / f"cache-{count}")))
        return
    records = []
    with tempfile.TemporaryDirectory() as scratch:
        write_pool(Path(scratch) / "pool", max(COUNTS))
        for count in COUNTS:
            command = [
                sys.executable,
                os.path.abspath(__file__),
                "--threads",
                str(arguments.threads),
                "--only",
                scratch,
                str(count),
            ]
            records.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    few, many = records
    record = {
        "films": max(COUNTS),
        "res": RES,
        "threads": arguments.threads,
        "img_per_sec": round(max(COUNTS) / many["sec"], 1),
        "network_share": round(many["network_sec"] / many["sec"], 4),
        "from_cache_sec": round(many["again_sec"], 3),
        "anonymous_growth_mb": round((many["anonymous"] - few["anonymous"]) / 1e6, 1),
        "peak_growth_mb": round((many["peak"] - few["peak"]) / 1e6, 1),
        "pool_growth_mb": round((max(COUNTS) - min(COUNTS)) * RES**2 / 1e6, 1),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
