"""Scores of a set of synthetic films against a pool: each number with its protocol, interval and floor."""

import csv
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import thiscxr
from thiscxr.data.pixels import load_film, to_square
from thiscxr.data.pool import Pool
from thiscxr.files import atomic_path
from thiscxr.model.conditions import Condition
from thiscxr.sample.sampling import load, sample_films
from thiscxr.score.extractors import Extractor, in_batches
from thiscxr.score.frechet import frechet_score

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm")


@dataclass(frozen=True)
class FakeFilms:
    """Synthetic films to be judged, however they are kept."""

    count: int
    batches: Iterator[np.ndarray]  # uint8 [k, res, res]
    truncation: float | None
    seeds: str
    network_sha256: str | None


def open_fakes(fake: str, res: int, count: int, truncation: float, device: str) -> FakeFilms:
    """Return the films of a folder, or `count` samples (seeds from 0) of the network that FILE, NAME or RUN means.

    Raises ValueError when a folder holds no films, or films that cannot be read.
    """
    path = Path(fake)
    if path.is_dir() and not (path / "network-latest.safetensors").is_file():
        return _open_folder(path, res)
    network = load(fake, device)
    if network.info.architecture.res != res:
        made = network.info.architecture.res
        raise ValueError(f"{fake} makes films of {made} px, but the pool has {res} px; score against a pool of its size")
    seeds = list(range(count))
    films = sample_films(network, seeds, network.conditions(seeds, Condition()), truncation)
    return FakeFilms(count, films, truncation, f"0-{count - 1}", network.sha256)


def _open_folder(folder: Path, res: int) -> FakeFilms:
    table = folder / "samples.csv"
    rows: list[dict[str, str]] = []
    if table.is_file():
        with open(table, newline="") as file:
            rows = list(csv.DictReader(file))
        if not rows or "file" not in rows[0]:
            raise ValueError(f"{table} lists no films (expected a column 'file'); remove it to score every film in {folder}")
        files = [folder / row["file"] for row in rows]
        for path in files:
            if path.parent != folder or not path.is_file():
                raise ValueError(f"{table} lists {path.name!r}, which is not a file in {folder}; sample again")
    else:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES and path.name != "grid.png")
    if not files:
        raise ValueError(f"{folder} holds no films; expected {', '.join(PICTURES)} files")

    def read() -> Iterator[np.ndarray]:
        for start in range(0, len(files), 256):
            yield np.stack([_read_film(path, res) for path in files[start : start + 256]])

    hashes, truncations = ({row.get(key, "") for row in rows} for key in ("network_sha256", "truncation"))
    one_hash = hashes.pop() if len(hashes) == 1 else ""
    one_truncation = truncations.pop() if len(truncations) == 1 else ""
    return FakeFilms(len(files), read(), float(one_truncation) if one_truncation else None, _seed_ranges(rows), one_hash or None)


def _seed_ranges(rows: list[dict[str, str]]) -> str:
    """Return the seeds of samples.csv as ranges, such as "0-63,100"."""
    seeds = sorted(int(row["seed"]) for row in rows if row.get("seed", "").isdigit())
    starts = [seed for i, seed in enumerate(seeds) if i == 0 or seed != seeds[i - 1] + 1]
    ends = [seed for i, seed in enumerate(seeds) if i + 1 == len(seeds) or seed != seeds[i + 1] - 1]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def _read_film(path: Path, res: int) -> np.ndarray:
    try:
        pixels = to_square(load_film(path).pixels, res)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; remove it or make it again") from None
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


def films_a_side(real: Pool, split: str) -> int:
    """Return how many real films there are for each side of the floor: half of them, less what keeps a patient on one side."""
    patients = real.column("patient")[real.indices(split)]
    most = int(np.unique(patients, return_counts=True)[1].max()) if len(patients) else 0
    return (len(patients) - most) // 2


def score(
    real: Pool, fakes: FakeFilms, extractor: Extractor, split: str = "all", seed: int = 0, allow_small: bool = False
) -> list[dict[str, Any]]:
    """Return the records of scores.json (see docs/formats.md): the Fréchet distance, its interval and its floor.

    Raises ValueError when there are fewer films a side than feature dimensions and not `allow_small`.
    """
    started = time.monotonic()
    indices = real.indices(split)
    patients = real.column("patient")[indices]
    n = min(films_a_side(real, split), fakes.count)
    if n <= extractor.dim and not allow_small:
        raise ValueError(
            f"{len(indices)} real films (split {split}) and {fakes.count} synthetic films give {n} a side, not more than the "
            f"{extractor.dim} dimensions of {extractor.name}; add films, or use --allow-small, which the key then says"
        )
    with tqdm(total=len(indices) + fakes.count, unit="film", file=sys.stderr, desc=f"features by {extractor.name}") as bar:
        real_features = extractor.features(_counted((real.read(rows) for rows in in_batches(indices)), bar))
        fake_features = extractor.features(_counted(fakes.batches, bar))
    result = frechet_score(real_features, patients, fake_features, n=n, seed=seed)
    size = f"{n // 1000}k" if n >= 1000 else str(n)
    return [
        {
            "key": f"fd_{extractor.name}_{size}" + ("_small" if n <= extractor.dim else ""),
            "value": round(result.value, 6),
            "ci95": [round(edge, 6) for edge in result.ci95],
            "floor": round(result.floor, 6),
            "num_real": n,
            "num_fake": n,
            "extractor": extractor.name,
            "extractor_sha256": extractor.sha256,
            "truncation": fakes.truncation,
            "seeds": fakes.seeds,
            "split": split,
            "pool_fingerprint": real.fingerprint,
            "network_sha256": fakes.network_sha256,
            "code_version": thiscxr.__version__,
            "seconds": round(time.monotonic() - started, 2),
        }
    ]


def _counted(batches: Iterator[np.ndarray], bar: tqdm) -> Iterator[np.ndarray]:
    for batch in batches:
        yield batch
        bar.update(len(batch))


def write_scores(path: Path, records: list[dict[str, Any]]) -> None:
    """Write scores.json atomically."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(records, indent=2) + "\n")


def score_table(records: list[dict[str, Any]]) -> str:
    """Return the scores for a person: one aligned line each."""
    lines = [f"{'score':<24} {'value':>9}  {'95 % interval':>19}  {'floor':>8}  {'films a side':>12}"]
    for record in records:
        interval = "{:.3f} to {:.3f}".format(*record["ci95"])
        lines.append(f"{record['key']:<24} {record['value']:>9.3f}  {interval:>19}  {record['floor']:>8.3f}  {record['num_real']:>12}")
    return "\n".join([*lines, "floor: the same distance between real patients and other real patients; lower is better"])
