"""The rate of `prepare` against the bare decode-and-resize of the same files by the same libraries, on all cores.

Run: python benchmarks/prepare_rate.py [FOLDER] [--kind png|png16|jpeg|dicom] [--res 256] [--rounds 3]. FOLDER keeps the
2,000 phantom films of 1,024 px for the next run; they are rendered at 256 px and enlarged with grain, since rendering
at 1,024 px takes 1 s a film. Prints one JSON line: medians over the rounds, in which both alternate. Start-up
(processes, imports, labels, the list of files) is reported separately; the rate is that of all films after the first
hundredth. What prepare does at the end (duplicates, tables, hashes) counts against it. About ten minutes on two cores,
most of it for making the films.
"""

import argparse
import io
import json
import os
import platform
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from tqdm import tqdm

from thiscxr.parallel import num_cores, open_workers
from thiscxr.phantom.releases import write_layout
from thiscxr.phantom.releases.dicom import dicom
from thiscxr.pool import prepare as preparing
from thiscxr.pool.writer import PoolWriter

RENDERED_PX, RELEASE_PX = 256, 1024
SUFFIXES = {"png": ".png", "png16": ".png", "jpeg": ".jpg", "dicom": ".dcm"}


def enlarge(task: tuple[Path, Path, str]) -> None:
    """Write a rendered film at release size, with grain that no PNG can compress away."""
    source, target, kind = task
    film = Image.open(source).convert("L").resize((RELEASE_PX, RELEASE_PX), Image.Resampling.LANCZOS)
    grain = np.random.default_rng(zlib.crc32(source.name.encode())).normal(0, 1.5, (RELEASE_PX, RELEASE_PX))
    values = np.clip(np.asarray(film) + grain, 0, 255)
    if kind == "png16":
        Image.fromarray((values * 257).astype(np.uint16)).save(target)
    elif kind == "dicom":
        target.write_bytes(
            dicom((values * 16).astype(np.uint16), 12, target.stem, target.stem, {"PatientID": target.stem})
        )
    else:
        Image.fromarray(np.rint(values).astype(np.uint8)).save(target, quality=95)


def make_films(folder: Path, kind: str, n: int) -> None:
    """Write `n` phantom films as a plain folder."""
    rendered = folder.with_name(f"rendered-{n}")
    if not rendered.exists():
        write_layout(rendered, "nih", n, RENDERED_PX)
    folder.mkdir()
    tasks = [(path, folder / f"{path.stem}{SUFFIXES[kind]}", kind) for path in sorted((rendered / "images").iterdir())]
    with open_workers(len(tasks)) as hands:
        list(tqdm(hands.map(enlarge, tasks), "enlarge", len(tasks), unit="film"))


def bare(task: tuple[list[str], int]) -> list[int]:
    """Decode and resize a chunk of files, and nothing else."""
    paths, res = task
    answers = []
    for path in paths:
        data = Path(path).read_bytes()
        if path.endswith(".dcm"):
            film = Image.fromarray(pydicom.dcmread(io.BytesIO(data)).pixel_array.astype(np.float32))
        else:
            film = Image.open(io.BytesIO(data))
            film.load()
            if film.mode.startswith("I"):
                film = Image.fromarray(np.asarray(film).astype(np.float32))
            elif film.mode != "L":
                film = film.convert("L")
        answers.append(np.asarray(film.resize((res, res), Image.Resampling.LANCZOS)).shape[0])
    return answers


def marginal(times: list[float], start: float, end: float) -> tuple[float, float]:
    """Return seconds of start-up, and images/s from the first hundredth to the end."""
    skip = max(1, len(times) // 100)
    return times[0] - start, (len(times) - skip) / (end - times[skip - 1])


def time_bare(paths: list[str], res: int, workers: int) -> tuple[float, float]:
    start = time.perf_counter()
    times: list[float] = []
    chunks = [(paths[i : i + 16], res) for i in range(0, len(paths), 16)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        for answers in executor.map(bare, chunks):
            times += [time.perf_counter()] * len(answers)
        end = time.perf_counter()
    return marginal(times, start, end)


def time_prepare(root: Path, res: int, workers: int) -> tuple[float, float]:
    times: list[float] = []

    def noting(method: Callable[..., str]) -> Callable[..., str]:
        def wrapped(*args: object, **options: object) -> str:
            times.append(time.perf_counter())
            return method(*args, **options)

        return wrapped

    add, reject = PoolWriter.add, PoolWriter.reject
    PoolWriter.add, PoolWriter.reject = noting(add), noting(reject)  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            preparing.prepare(
                Path(folder) / "pool", [("folder", root)], res, key_file=Path(folder) / "key", workers=workers
            )
            return marginal(times, start, time.perf_counter())
    finally:
        PoolWriter.add, PoolWriter.reject = add, reject  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--kind", choices=SUFFIXES, default="png")
    parser.add_argument("-n", type=int, default=2000)
    parser.add_argument("--res", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        films = (args.folder or Path(temporary)) / args.kind
        films.parent.mkdir(parents=True, exist_ok=True)
        if not films.exists():
            make_films(films, args.kind, args.n)
        paths = sorted(map(str, films.iterdir()))
        size = sum(map(os.path.getsize, paths))
        runs: dict[str, list[tuple[float, float]]] = {"bare": [], "prepare": []}
        for _ in range(args.rounds):
            runs["bare"].append(time_bare(paths, args.res, num_cores()))
            runs["prepare"].append(time_prepare(films, args.res, num_cores()))
    startup, rate = (
        {name: statistics.median(run[i] for run in several) for name, several in runs.items()} for i in (0, 1)
    )
    ratios = sorted(b[1] / p[1] for b, p in zip(runs["bare"], runs["prepare"], strict=True))
    result = {
        "benchmark": "prepare_rate",
        "kind": args.kind,
        "films": len(paths),
        "mib": round(size / 2**20),
        "res": args.res,
        "workers": num_cores(),
        "bare_films_per_sec": round(rate["bare"], 1),
        "prepare_films_per_sec": round(rate["prepare"], 1),
        "times_bare": round(statistics.median(ratios), 3),
        "times_bare_of_rounds": [round(ratio, 3) for ratio in ratios],
        "startup_sec": {name: round(seconds, 2) for name, seconds in startup.items()},
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
