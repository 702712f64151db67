"""How surely duplicates are distinguished from other films: false pairs, and the share of planted copies found.

Run: python benchmarks/duplicate_rates.py NIH-FOLDER... [--phantoms 3000] [--seed 0] [--copies 600]. Prints one JSON
line; four to nine minutes on two shared cores. A folder is an NIH release, or a part of one, of square films; without
any only the phantom is measured. Copies are made at the resolution of the films, before they are reduced to that of the
pool.
"""

import argparse
import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from thiscxr.collections import COLLECTIONS, find_files
from thiscxr.parallel import open_workers
from thiscxr.phantom import draw_film, render
from thiscxr.pixels import load_film, to_bits, to_square
from thiscxr.pool import duplicates

Films = np.ndarray
PHANTOM_RES = 128
MARK = Image.new("L", (512, 512))
ImageDraw.Draw(MARK).text((20, 20), "AP 12:30", fill=255, font=ImageFont.load_default(size=30))


def rounded(film: Films) -> Films:
    return np.clip(np.rint(film), 0, 255).astype(np.uint8)


def resized(film: Films, res: int, box: tuple[float, float, float, float] | None = None) -> Films:
    return np.array(Image.fromarray(film).resize((res, res), Image.Resampling.LANCZOS, box))


def jpeg(film: Films, quality: int) -> Films:
    file = io.BytesIO()
    Image.fromarray(film).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def equalised(film: Films) -> Films:
    shares = np.cumsum(np.bincount(film.ravel(), minlength=256))
    return rounded((shares[film] - shares[film.min()]) / (shares[-1] - shares[film.min()]) * 255)


def stretched(film: Films) -> Films:
    """As `prepare` stores a 12-bit DICOM file without a window."""
    low, high = np.percentile(film, (0.5, 99.5))
    return rounded(np.rint(np.clip((film - low) / max(high - low, 1), 0, 1) * 4095) / 4095 * 255)


def cropped(film: Films, left: float, top: float, right: float, bottom: float) -> Films:
    """Crop these shares at the four borders, and resize to the old resolution."""
    res = len(film)
    return resized(film, res, (left * res, top * res, res - right * res, res - bottom * res))


def shifted(film: Films, pixels: int) -> Films:
    return np.pad(film, ((pixels, 0), (pixels, 0)), mode="edge")[:-pixels, :-pixels]


def marked(film: Films) -> Films:
    mark = np.array(MARK.resize(film.shape, Image.Resampling.BOX)) / 255
    return rounded(film * (1 - mark) + 255 * mark)


COPIES: dict[str, Callable[[Films], Films]] = {
    "jpeg 75": lambda film: jpeg(film, 75),
    "jpeg 50": lambda film: jpeg(film, 50),
    "gamma 1.2": lambda film: rounded((film / 255) ** 1.2 * 255),
    "gamma 0.8": lambda film: rounded((film / 255) ** 0.8 * 255),
    "contrast +20 %": lambda film: rounded((film - 128.0) * 1.2 + 128),
    "contrast -20 %": lambda film: rounded((film - 128.0) * 0.8 + 128),
    "equalised": equalised,
    "12 bits, stretched": stretched,
    "half size and back": lambda film: resized(resized(film, len(film) // 2), len(film)),
    "cropped 1 %": lambda film: cropped(film, 0.01, 0.01, 0.01, 0.01),
    "cropped 2 %": lambda film: cropped(film, 0.02, 0.02, 0.02, 0.02),
    "cropped 3 %": lambda film: cropped(film, 0.03, 0.03, 0.03, 0.03),
    "cropped 5 %": lambda film: cropped(film, 0.05, 0.05, 0.05, 0.05),
    "cropped 4 % at one side": lambda film: cropped(film, 0.04, 0, 0, 0),
    "shifted 2 px": lambda film: shifted(film, 2),
    "blurred 1 px": lambda film: rounded(gaussian_filter(film.astype(np.float32), 1)),
    "marked": marked,
    "cropped 2 %, jpeg 75, equalised": lambda film: equalised(jpeg(cropped(film, 0.02, 0.02, 0.02, 0.02), 75)),
    "cropped 3 %, jpeg 50, equalised, marked": lambda film: marked(
        equalised(jpeg(cropped(film, 0.03, 0.03, 0.03, 0.03), 50))
    ),
    "shifted 2 px, blurred 1 px, equalised": lambda film: equalised(
        rounded(gaussian_filter(shifted(film, 2).astype(np.float32), 1))
    ),
}


def read_films(root: Path) -> tuple[Films, np.ndarray, list[str]]:
    """Return uint8 [n,res,res], patients and names of the films of an NIH folder."""
    collection = COLLECTIONS["nih"]
    records = {record.file: record for record in collection.read_labels(root)}
    files = find_files(collection, root, records)
    names = sorted(files)
    films = []
    for name in names:
        pixels = load_film(files[name].read()).pixels
        films.append(to_bits(to_square(pixels, 1 << (min(pixels.shape).bit_length() - 1)), 8))
    return np.stack(films), np.array([records[name].patient for name in names]), names


def reduced(films: Films, res: int) -> Films:
    return films if films.shape[1] == res else np.stack([to_square(film, res) for film in films])


def describe(films: Films) -> np.ndarray:
    return np.stack([duplicates.descriptor(film) for film in films])


def digests(films: Films) -> list[bytes]:
    return [hashlib.sha256(film.tobytes()).digest() for film in films]


def correlations(a: Films, b: Films) -> np.ndarray:
    return np.concatenate([duplicates.correlations(a[k : k + 64], b[k : k + 64]) for k in range(0, len(a), 64)])


def top(values: np.ndarray) -> list[float]:
    return [round(float(value), 3) for value in np.sort(values)[::-1][:3]]


def measure_others(films: Films, patients: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Films that are no copies: the pairs found among them, and how close they are to the thresholds."""
    described = describe(films)
    start = time.perf_counter()
    found = duplicates.find_duplicates(described, digests(films), lambda rows: films[rows])
    seconds = time.perf_counter() - start
    a, b = np.triu_indices(len(films), 1)
    likeness = duplicates.similarity(described, described)[a, b]
    same = patients[a] == patients[b]
    result: dict[str, Any] = {
        "films": len(films),
        "seconds": round(seconds, 1),
        "found": [[names[pair.a], names[pair.b], pair.kind, round(pair.correlation, 3)] for pair in found[:20]],
        "found_in_different_patients": sum(patients[pair.a] != patients[pair.b] for pair in found),
        "found_in_one_patient": sum(patients[pair.a] == patients[pair.b] for pair in found),
    }
    equal = np.zeros(len(a), bool)
    equal[likeness > 0.9999] = [
        np.array_equal(films[i], films[j]) for i, j in zip(a[likeness > 0.9999], b[likeness > 0.9999], strict=True)
    ]
    for name, those in (("different_patients", ~same), ("one_patient", same & ~equal)):
        those = np.flatnonzero(those)
        if not len(those):
            continue
        nearest = those[np.argsort(-likeness[those])[:6000]]
        detail = correlations(films[a[nearest]], films[b[nearest]])
        close = np.arctanh(detail[likeness[nearest] > duplicates.MIN_SIMILARITY - 0.02])  # nearly normal (Fisher 1915)
        result[name] = {
            "pairs": len(those),
            "similarity_top": top(likeness[those]),
            "candidates_per_million": round(float((likeness[those] >= duplicates.MIN_SIMILARITY).mean() * 1e6), 2),
            "compared": len(nearest),
            "correlation_top": top(detail),
            "threshold_sigmas": round(float((np.arctanh(duplicates.MIN_CORRELATION) - close.mean()) / close.std()), 1),
        }
    return result


def measure_copies(films: Films, sizes: Sequence[int]) -> dict[str, Any]:
    """For each kind of copy and size of pool: the share found and the first percentiles; films must be no duplicates of
    each other."""
    small = {res: reduced(films, res) for res in sizes}
    described = {res: describe(small[res]) for res in sizes}
    result: dict[str, Any] = {str(res): {} for res in sizes}
    for name, copy in COPIES.items():
        copies = np.stack([copy(film) for film in films])
        for res in sizes:
            both = np.concatenate([small[res], reduced(copies, res)])
            vectors = np.concatenate([described[res], describe(both[len(films) :])])
            found = duplicates.find_duplicates(vectors, digests(both), both.__getitem__)
            right = {pair.a for pair in found if pair.b == pair.a + len(films)}
            likeness = [
                duplicates.similarity(vectors[k : k + 1], vectors[k + len(films) :][:1])[0, 0]
                for k in range(len(films))
            ]
            detail = correlations(both[: len(films)], both[len(films) :])
            result[str(res)][name] = {
                "found": round(len(right) / len(films), 4),
                "others_found": len(found) - len(right),
                "similarity_1st_percentile": round(float(np.quantile(likeness, 0.01)), 3),
                "correlation_1st_percentile": round(float(np.quantile(detail, 0.01)), 3),
            }
    return result


def draw(seed: int) -> Films:
    return draw_film(seed, PHANTOM_RES).pixels


def retake(seed: int) -> Films:
    """Three films of one phantom patient that differ in noise, centring and rotation, as in `thiscxr
    phantom`."""
    film = draw_film(seed, PHANTOM_RES)
    others = [
        render(film.patient, film.view, PHANTOM_RES, site=film.site, noise_seed=seed + k * 10**15).pixels
        for k in (1, 2)
    ]
    return np.stack([film.pixels, *others])


def drawn(function: Callable[[int], Films], seed: int, num: int) -> Films:
    with open_workers(num) as hands:
        return np.stack(list(hands.map(function, range(seed, seed + num))))


def measure_phantoms(seed: int, num: int, num_copies: int) -> dict[str, Any]:
    films, retakes = drawn(draw, seed, num), drawn(retake, seed, max(2, num // 10))
    result: dict[str, Any] = {"copies": measure_copies(films[:num_copies], (PHANTOM_RES,))}
    for res in (PHANTOM_RES, 64):
        result[str(res)] = measure_others(reduced(films, res), np.arange(num), [str(seed) for seed in range(num)])
        taken = [reduced(retakes[:, k], res) for k in range(3)]
        detail = np.concatenate([correlations(taken[i], taken[j]) for i, j in combinations(range(3), 2)])
        likeness = np.concatenate(
            [
                np.diagonal(duplicates.similarity(describe(taken[i]), describe(taken[j])))
                for i, j in combinations(range(3), 2)
            ]
        )
        called = (detail >= duplicates.MIN_CORRELATION) & (likeness >= duplicates.MIN_SIMILARITY)
        result[f"{res} retakes"] = {
            "pairs": len(detail),
            "found": round(float(called.mean()), 3),
            "correlation_median": round(float(np.median(detail)), 3),
        }
    return result


def speeds(num: int = 16_384) -> dict[str, float]:
    """Pairs of descriptors searched per second, and milliseconds for the descriptor of a film of 256 px and for one
    comparison."""
    rng = np.random.default_rng(0)
    vectors = rng.integers(-127, 128, (num, duplicates.DESCRIPTOR_SIZE), np.int8)
    films = rng.integers(0, 256, (128, 256, 256), np.uint8)

    def seconds(work: Callable[[], object]) -> float:
        taken = []
        for _ in range(3):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
        return min(taken)

    search = seconds(lambda: duplicates.find_duplicates(vectors, range(num), lambda rows: films[rows]))
    return {
        "pairs_per_sec": round(num * (num - 1) / 2 / search),
        "descriptor_ms": round(seconds(lambda: describe(films)) / len(films) * 1e3, 2),
        "comparison_ms": round(seconds(lambda: duplicates.correlations(films, films[::-1])) / len(films) * 1e3, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="NIH-FOLDER")
    parser.add_argument("--phantoms", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0, help="first phantom patient")
    parser.add_argument("--copies", type=int, default=600, help="films of each folder of which copies are planted")
    args = parser.parse_args()
    start = time.perf_counter()
    thresholds = {"min_similarity": duplicates.MIN_SIMILARITY, "min_correlation": duplicates.MIN_CORRELATION}
    result: dict[str, Any] = {"benchmark": "duplicate_rates", **thresholds, **speeds()}
    for root in args.folders:
        films, patients, names = read_films(root)
        native = films.shape[1]
        sizes = [res for res in (native, 64, 32) if res <= native]
        own = {str(res): measure_others(reduced(films, res), patients, names) for res in dict.fromkeys(sizes)}
        _, first = np.unique(digests(films), return_index=True)
        chosen = np.random.default_rng(0).permutation(np.sort(first))[: args.copies]
        result[root.name] = {**own, "copies": measure_copies(films[chosen], list(dict.fromkeys(sizes)))}
    if args.phantoms:
        result["phantom"] = measure_phantoms(args.seed, args.phantoms, min(300, args.phantoms))
    print(json.dumps({**result, "seconds": round(time.perf_counter() - start)}))


if __name__ == "__main__":
    main()
