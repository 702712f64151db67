"""Distances between the distributions of real and synthetic films: features of both sets, and means over the networks
that may score the real films."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from thiscxr.labels import FINDINGS
from thiscxr.measures.diversity import vendi_scores
from thiscxr.measures.floor import films_a_side
from thiscxr.measures.frechet import frechet_scores, group_distance
from thiscxr.measures.kernel import kernel_scores
from thiscxr.measures.manifold import manifold_scores
from thiscxr.measures.measured import Measured
from thiscxr.model.conditions import FilmConditions
from thiscxr.pixels import Pixels
from thiscxr.pool import Pool
from thiscxr.reader.extractors import Extractor, extract, films_key, in_batches, pool_key
from thiscxr.score.fairness import Fair
from thiscxr.score.fakes import FakeFilms

LEAST_GROUP = 150  # films per set for a distance of one view or finding: with fewer it is mostly bias


@dataclass(frozen=True)
class Side:
    """Features of the real films that one network may score, and of the synthetic films by the same network."""

    rows: NDArray[np.int64]
    patients: NDArray[np.int32]
    real: NDArray[np.float32]
    fake: NDArray[np.float32]


def read_sides(real: Pool, fakes: FakeFilms, fair: Sequence[Fair], crop: int = 0) -> list[list[Side]]:
    """Return the features of both sets by each extractor's networks, each of those real films that it may score.

    Every film is read once, whatever the number of networks; features that were computed before come from the cache.
    crop: of each film one square of so many pixels is read instead (`crops`).
    """
    networks = [network for found in fair for network, _ in found]
    cut, what = (partial(crops, side=crop), f" crops of {crop} px") if crop else (np.asarray, "")
    films = (cut(fakes.pixels[some]) for some in in_batches(np.arange(len(fakes))))
    fake = iter(extract(films, networks, count=len(fakes), key=films_key(fakes.pixels) + what))
    together: dict[bytes, list[Extractor]] = {}
    for found in fair:
        for network, some in found:
            together.setdefault(some.tobytes(), []).append(network)
    features: dict[str, NDArray[np.float32]] = {}
    for packed, many in together.items():
        some = np.frombuffer(packed, np.int64)
        films = (cut(real.read(part)) for part in in_batches(some))
        read = extract(films, many, count=len(some), key=pool_key(real, some) + what)
        features |= {network.sha256: each for network, each in zip(many, read, strict=True)}
    patients = real.codes("patient")[0]
    return [
        [Side(some, patients[some], features[network.sha256], next(fake)) for network, some in found] for found in fair
    ]


def crops(pixels: Pixels, side: int) -> Pixels:
    """Return one square of each film [k, res, res] at its own resolution, [k, side, side]. Its place is drawn from the
    film's own bytes, so that it does not depend on the order of the films."""
    cut = []
    for film in pixels:
        seed = int.from_bytes(hashlib.blake2b(np.ascontiguousarray(film).data, digest_size=8).digest(), "little")
        y, x = np.random.Generator(np.random.Philox(key=seed)).integers(0, len(film) - side, 2, endpoint=True)
        cut.append(film[y : y + side, x : x + side])
    return np.stack(cut)


def distances(side: Side, name: str, n: int, seed: int) -> list[Measured]:
    """Return the distances and the manifold's figures for one network's features."""
    some = side.real, side.patients, side.fake, name
    kinds = (frechet_scores, kernel_scores, manifold_scores, vendi_scores)
    return [each for kind in kinds for each in kind(*some, n=n, seed=seed)]


def crop_distances(side: Side, name: str, n: int, seed: int) -> list[Measured]:
    """Return the Fréchet and kernel distances of crops by one network's features."""
    some = side.real, side.patients, side.fake, name
    found = [each for kind in (frechet_scores, kernel_scores) for each in kind(*some, n=n, seed=seed)]
    return [replace(each, group="native crops") for each in found]


def mean_of(found: Sequence[Sequence[Measured]]) -> list[Measured]:
    """Return the means over networks that score different patients. The interval is not narrowed: the synthetic films
    are the same."""
    means = []
    for many in zip(*found, strict=True):
        values = np.array([[each.value, *(each.ci95 or (np.nan, np.nan)), each.floor] for each in many], float).mean(
            axis=0
        )
        value, low, high, floor = values.tolist()
        means.append(
            replace(many[0], value=value, ci95=(low, high), floor=floor, num_real=sum(each.num_real for each in many))
        )
    return means


def by_group(
    sides: Sequence[Side], real: Pool, fakes: FakeFilms, name: str, seed: int
) -> tuple[list[Measured], list[str]]:
    """Return the Fréchet distance of the synthetic films of each requested view or finding from the real films of it,
    and the groups that are too small.

    All networks are given the same number of films, since the bias depends on it; the kernel distance beside it has no
    bias, so that groups of different sizes can be compared.
    """
    found: list[Measured] = []
    few: list[str] = []
    notes: list[str] = []
    for group, here, there in groups(real, FilmConditions.of(fakes.requested)):
        rows = [np.flatnonzero(here[side.rows]) for side in sides]
        real_films = min(films_a_side(side.patients[some]) for side, some in zip(sides, rows, strict=True))
        n = min(real_films, int(there.sum()))
        if n < LEAST_GROUP:
            if fakes.conditional and (here.any() or there.any()):
                few.append(f"{group} ({real_films} real, {there.sum()} synthetic)")
            continue
        try:
            parts = [
                [group_distance(*two, name, n=n, seed=seed), *kernel_scores(*two, name, n=n, seed=seed)]
                for side, some in zip(sides, rows, strict=True)
                for two in [(side.real[some], side.patients[some], side.fake[there])]
            ]
        except ValueError as error:
            notes.append(f"Fréchet distance by {name}, {group}: {error}")
            continue
        found += [replace(each, group=group) for each in mean_of(parts)]
    if few:
        notes.append(f"Fréchet distances by {name} need {LEAST_GROUP} films per set; too few of {', '.join(few)}")
    if not fakes.conditional:
        notes.append(
            "Fréchet distances of views and findings: the requested conditions of these films are unknown (samples.csv)"
        )
    return found, notes


def groups(real: Pool, requested: FilmConditions) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield a name, the real films [n] and the synthetic films [m] of each view and finding."""
    views = real.column("view")
    for view in sorted(set(views) - {"unknown"}):
        names = list(requested.names["view"])
        yield f"view {view}", views == view, requested.view == (names.index(view) if view in names else -2)
    for column, finding in enumerate(FINDINGS):
        yield finding, real.findings[:, column] == 1, requested.findings[:, column] == 1
