"""How long it takes to open a pool of a million rows and to train its first steps, and how much memory.

Run: python benchmarks/million_rows.py [--rows 1000000] [--res 64] [--keep FOLDER]. Prints one JSON line. The pool is
made first (about two minutes; its pixels are noise repeated, in sparse files), then opened by another process, whose
peak memory is reported with what importing the same modules takes.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from thiscxr.labels import FINDINGS, VIEWS
from thiscxr.pool import FORMAT_VERSION, SCHEMA
from thiscxr.pool.shards import MAX_SHARD_BYTES, shard_name

_GROUP_ROWS = 65_536


def make_pool(path: Path, rows: int, res: int) -> None:
    """Write a pool of `rows` rows that all show the same film: four films a patient, four sources, every label
    drawn."""
    path.mkdir(parents=True)
    film = np.random.default_rng(0).integers(0, 256, (res, res), np.uint8)
    sha256 = hashlib.sha256(film.tobytes()).hexdigest()
    shard_films = MAX_SHARD_BYTES // film.size
    with pq.ParquetWriter(path / "films.parquet", SCHEMA, compression="zstd") as writer:
        for start in range(0, rows, _GROUP_ROWS):
            index = np.arange(start, min(rows, start + _GROUP_ROWS))
            rng = np.random.default_rng(start)
            patient = index // 4
            text = {
                "film_id": [f"{i:032x}" for i in index],
                "patient": [f"{i * 2654435761 % 2**64:032x}" for i in patient.tolist()],
                "study": [f"{i:032x}" for i in index // 2],
                "source": np.array(["nih", "chexpert", "mimic-cxr", "padchest"])[patient % 4],
                "view": np.array(VIEWS)[rng.integers(0, 4, len(index))],
                "sex": np.array(["M", "F"])[patient % 2],
                "split": np.where(patient % 5 == 0, "holdout", "train"),
                "labeler": ["drawn"] * len(index),
                **dict.fromkeys(("greys", "orientation"), ["as stored"] * len(index)),
                "sha256": [sha256] * len(index),
            }
            numbers = {
                "age_years": rng.integers(18, 95, len(index)).astype(float),
                **{
                    name: rng.choice([1, 0, -1, -2, -3], len(index), p=[0.08, 0.5, 0.02, 0.3, 0.1]).astype(np.int8)
                    for name in FINDINGS
                },
                **dict.fromkeys(("native_width", "native_height"), np.full(len(index), 1024, np.int32)),
                "native_bits": np.full(len(index), 8, np.int32),
                "resolution": np.full(len(index), res, np.int32),
                **dict.fromkeys(("equalised", "inverted"), np.zeros(len(index), bool)),
                "shard": (index // shard_films).astype(np.int32),
                "row": (index % shard_films).astype(np.int32),
            }
            columns = {**text, **numbers}
            writer.write_table(
                pa.table(
                    {name: pa.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names}, schema=SCHEMA
                )
            )
    for shard in range(-(-rows // shard_films)):
        films = np.lib.format.open_memmap(
            path / shard_name(shard), "w+", np.uint8, (min(shard_films, rows - shard * shard_films), res, res)
        )
        films[:] = film
    files = sorted(item.name for item in path.iterdir())
    meta = {
        "format_version": FORMAT_VERSION,
        "resolution": res,
        "bits": 8,
        "counts": {"films": rows},
        "fingerprint": "0" * 64,
        "sources": {name: {"films": 0} for name in ("nih", "chexpert", "mimic-cxr", "padchest")},
        "options": {},
        "files": dict.fromkeys(files, ""),
    }
    (path / "pool.json").write_text(json.dumps(meta))


def peak_mib() -> float:
    """Return the most memory this process ever held."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def train(path: Path) -> dict[str, float]:
    """Open the pool, prepare its conditions, and train four steps."""
    from dataclasses import replace

    from thiscxr.config import Config
    from thiscxr.pool import Pool
    from thiscxr.train.loop import Films, Training

    imported = peak_mib()
    start = time.perf_counter()
    pool = Pool.open(path)
    opened = time.perf_counter()
    config = replace(Config(res=pool.resolution).resolve("cpu", 2), batch=16)
    films = Films(pool, config)
    ready = time.perf_counter()
    training = Training(config, films)
    training.step()
    first_step = time.perf_counter()
    return {
        "open_sec": round(opened - start, 2),
        "conditions_sec": round(ready - opened, 2),
        "first_step_sec": round(first_step - ready, 2),
        "total_sec": round(first_step - start, 2),
        "peak_mib": peak_mib(),
        "imports_mib": imported,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--res", type=int, default=64)
    parser.add_argument("--keep", type=Path, help="make the pool there once, and leave it")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.open:
        print(json.dumps(train(args.open)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = args.keep or Path(folder) / "pool"
        if not path.exists():
            make_pool(path, args.rows, args.res)
        result = subprocess.run(
            [sys.executable, __file__, "--open", str(path)], check=True, capture_output=True, text=True
        )
    print(json.dumps({"benchmark": "million_rows", "rows": args.rows, "res": args.res, **json.loads(result.stdout)}))


if __name__ == "__main__":
    main()
