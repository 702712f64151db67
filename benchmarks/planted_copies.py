"""Are planted copies found, and films of unrelated patients not flagged? A line of JSON an attack.

    python benchmarks/planted_copies.py nih-64 --network nih-64     # about five minutes on two cores

Half of the patients are the pool; copies are made of its films, and films of the other half, unrelated patients, give
the false alarms. Intervals are by patient, whose films cluster. Each network that is named is audited too, against the
whole pool.
"""

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image
from scipy import ndimage

from thiscxr.pool import Pool
from thiscxr.sample.sampling import load
from thiscxr.score.memorisation import Audit, audit


class Half:
    """Some films of a pool, as if they were all of it: what an audit reads of a pool."""

    def __init__(self, pool: Pool, rows: np.ndarray) -> None:
        self.pool, self.rows, self.path, self.resolution = pool, rows, pool.path, pool.resolution

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: np.ndarray) -> np.ndarray:
        return self.pool.read(self.rows[indices])

    def at_resolution(self, res: int) -> "Half":
        return self  # its films have one

    def codes(self, name: str) -> tuple:
        codes, names = self.pool.codes(name)
        return codes[self.rows], names

    def column(self, name: str) -> np.ndarray:
        return self.pool.column(name)[self.rows]


def grey(films: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(films), 0, 255).astype(np.uint8)


def jpeg(film: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(film).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def attacks(films: np.ndarray, unrelated: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    x, rng = films.astype(np.float64), np.random.default_rng(0)
    pixel = films.shape[1] / 64
    blurred = ndimage.gaussian_filter(x, (0, pixel, pixel))
    yield "exact", films
    for across, down in ((2, 0), (0, -2), (2, 2)):
        yield (
            f"shifted {across}, {down} px of 64",
            grey(ndimage.shift(x, (0, down * pixel, across * pixel), mode="nearest")),
        )
    for percent in (10, -10):
        yield f"contrast {percent:+} %", grey((x - 128) * (1 + percent / 100) + 128)
    yield "brightness +25", grey(x + 25)
    yield "gamma 0.8", grey(255 * (x / 255) ** 0.8)
    yield "gamma 1.3", grey(255 * (x / 255) ** 1.3)
    yield "blurred 1 px of 64", grey(blurred)
    yield "blurred 2 px of 64", grey(ndimage.gaussian_filter(x, (0, 2 * pixel, 2 * pixel)))
    for quality in (75, 30):
        yield f"JPEG {quality}", np.stack([jpeg(film, quality) for film in films])
    for degrees in (2, 5):
        yield f"turned {degrees}°", grey(ndimage.rotate(x, degrees, axes=(2, 1), reshape=False, mode="nearest"))
    side = films.shape[1]
    for percent in (3, 6):
        cut = round(side * percent / 100)
        inner = x[:, cut : side - cut, cut : side - cut]
        yield (
            f"cropped {percent} % at every side",
            grey(ndimage.zoom(inner, (1, side / inner.shape[1], side / inner.shape[2]), order=1)),
        )
    yield "noise, sigma 10", grey(x + rng.normal(0, 10, x.shape))
    yield "mirrored", films[:, :, ::-1]
    yield (
        "shifted, blurred, contrast",
        grey((ndimage.shift(blurred, (0, pixel, -pixel), mode="nearest") - 128) * 1.1 + 128),
    )
    painted = x.copy()
    painted[:, side // 2 :, : side // 3] += 40  # a white lower field
    yield "a field painted white", grey(painted)
    others = unrelated[rng.permutation(len(unrelated))[: len(x)]]
    for share in (0.8, 0.65):
        yield f"{share:.0%} copy, the rest another patient", grey(share * x + (1 - share) * others)


def report(name: str, found: Audit, patients: np.ndarray | None = None) -> None:
    near, copies, ratio = found.measures(patients)
    line: dict[str, Any] = {"attack": name, "films": len(found.memorised)}
    for what, each in (("flagged", copies), ("near", near), ("median_ratio", ratio)):
        line |= {what: round(each.value or 0.0, 4), f"{what}_ci95": [round(edge, 4) for edge in each.ci95 or ()]}
    print(json.dumps(line), flush=True)


def main() -> None:
    """Plant, audit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("-n", type=int, default=400, help="copies of each kind")
    parser.add_argument("--network", action="append", default=[])
    arguments = parser.parse_args()
    pool = Pool.open(arguments.pool)
    codes = pool.codes("patient")[0]
    rng = np.random.default_rng(0)
    chosen = rng.permutation(codes.max() + 1)[codes] % 2 == 0
    some = Half(pool, np.flatnonzero(chosen))
    half = cast(Pool, some)
    unrelated = pool.read(np.flatnonzero(~chosen))
    report("none: unrelated patients", audit(half, unrelated), codes[~chosen])
    planted = np.sort(rng.permutation(len(some))[: arguments.n])
    for name, copies in attacks(some.read(planted), unrelated):
        report(name, audit(half, copies), codes[some.rows[planted]])
    for network in arguments.network:
        report(f"none: 2,048 films of {network}", audit(pool, load(network).sample(range(2048))))


if __name__ == "__main__":
    main()
