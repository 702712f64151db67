"""The peak memory of `prepare` by number of films: of the process that plans and writes, which is the one that grows.

Run: python benchmarks/prepare_memory.py [--films 20000 100000]. Prints one JSON line. Makes releases of small noise
films in one uncompressed tar, with label tables as NIH's; the growth per film between the smallest and the largest is
what a million films are extrapolated from. About three minutes on two cores.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

_HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,View Position\n"
_LABELS = ("No Finding", "Effusion|Edema", "Mass", "Atelectasis|Effusion", "Cardiomegaly")


def write_release(root: Path, films: int) -> None:
    root.mkdir()
    rng = np.random.default_rng(0)
    with tarfile.open(root / "images.tar", "w") as tar, open(root / "Data_Entry_2017_v2020.csv", "w") as table:
        table.write(_HEADER)
        for number in range(films):
            name = f"{number // 4:08d}_{number % 4:03d}.png"
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (32, 32), np.uint8)).save(buffer, "PNG", compress_level=0)
            member = tarfile.TarInfo(name)
            member.size = buffer.tell()
            buffer.seek(0)
            tar.addfile(member, buffer)
            view, sex = ("PA", "AP")[number % 2], "MF"[number // 4 % 2]
            table.write(
                f"{name},{_LABELS[number % len(_LABELS)]},{number % 4},{number // 4},{20 + number % 70},{sex},{view}\n"
            )


def measure(root: Path) -> float:
    """Prepare the release in this process and return its peak in MiB."""
    from thiscxr.pool.prepare import prepare

    prepare(root / "pool", [("nih", root)], 32, key_file=root / "key")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--films", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(measure(args.measure))
        return
    peaks = {}
    for films in sorted(args.films):
        with tempfile.TemporaryDirectory() as folder:
            write_release(Path(folder) / "release", films)
            command = [sys.executable, __file__, "--measure", str(Path(folder) / "release")]
            peaks[films] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    low, high = min(peaks), max(peaks)
    slope = (peaks[high] - peaks[low]) / max(high - low, 1)
    print(
        json.dumps(
            {
                "benchmark": "prepare_memory",
                "peak_mib": {films: round(peak) for films, peak in peaks.items()},
                "kib_per_film": round(1024 * slope, 2),
                "mib_at_a_million": round(peaks[high] + slope * (1_000_000 - high)),
            }
        )
    )


if __name__ == "__main__":
    main()
