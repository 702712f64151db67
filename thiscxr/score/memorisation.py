"""Memorisation: is a synthetic film a near-duplicate of a real one? Each is compared with every real film of the pool,
held-out patients too.

Two films are compared by the ranks of their grey levels, band-passed, so that small moves do not matter: one is
projected onto the space spanned by the other and its small shifts, stretches and rotations (tangent distance, Simard,
LeCun and Denker 1993). The threshold of "near" comes from the real films, each compared with the films of all other
patients: a synthetic film must not be nearer to any patient than unrelated patients are.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from thiscxr.files import atomic_path
from thiscxr.measures.measured import Measured
from thiscxr.measures.resampling import Z_95, share_interval
from thiscxr.pixels import Pixels, to_bits
from thiscxr.pool import Pool, duplicate_groups
from thiscxr.pool.duplicates import MIRROR, evened, film_waves, laid_over
from thiscxr.reader.extractors import in_batches
from thiscxr.terms import restricted_sources

NEAR = 0.01  # share of unrelated patients that count as near
UNRELATED = 4000  # most real films compared with unrelated patients
_BLOCK = 4096  # real films at a time
_GROUP = 256  # synthetic films at a time
_CHUNK = 16384  # synthetic films for each pass over the pool
_PATIENTS = 4  # nearest patients to whose films a film is registered


Read = Callable[[NDArray[np.int64]], Pixels]


@dataclass(frozen=True)
class Nearest:
    """The nearest real film of each film, and its distance relative to the nearest film of any other patient. Arrays
    [n]."""

    distance: NDArray[np.float32]  # sine of the angle between the films, 0 to 1
    row: NDArray[np.int64]  # of the nearest film, in the pool
    ratio: NDArray[np.float32]  # to the distance of the nearest film of a second patient


@dataclass(frozen=True)
class Audit:
    """Synthetic films compared with all real ones."""

    found: Nearest
    unrelated: Nearest  # real films, each compared with all other patients
    stranger_rank: NDArray[np.float64]  # [n] share of unrelated patients that are as near
    memorised: NDArray[np.bool_]  # [n] nearer than unrelated patients are, and to one patient only

    def measures(self, patients: ArrayLike | None = None) -> list[Measured]:
        """Return the rate of near films (unrelated patients: 1 %), the rate of memorised films, and the median ratio;
        floors are those of unrelated patients.

        patients [n]: the patient of each film, where the films are of patients, as planted near-duplicates are; None:
        independent samples.
        """
        n, m = len(self.memorised), len(self.unrelated.distance)
        near = self.stranger_rank <= NEAR
        # set on one half of the unrelated films, and tested on the other
        limits = _Limits.of(self.unrelated, slice(0, None, 2))
        others = limits.memorised(self.unrelated)[1::2]
        whose = np.arange(n) if patients is None else patients
        return [
            Measured("near_rate", float(near.mean()), share_interval(near, whose), NEAR, m, n, protocol="p1"),
            Measured(
                "memorised_rate",
                float(self.memorised.mean()),
                share_interval(self.memorised, whose),
                float(others.mean()),
                m,
                n,
            ),
            Measured(
                "nearest_ratio",
                *_median(self.found.ratio),
                float(np.median(self.unrelated.ratio)),
                m,
                n,
                statistic="median",
            ),
        ]


def audit(pool: Pool, pixels: Pixels, seed: int = 0) -> Audit:
    """Compare synthetic films [n, res, res] of the pool's resolution with the pool and flag the memorised ones.

    All films of the pool are compared, also those below its resolution: the comparison uses area means of 32 px. Memory
    does not grow with the pool. Raises ValueError for films of another resolution and for a pool of fewer than 100
    patients.
    """
    if pixels.shape[1:] != (pool.resolution,) * 2:
        raise ValueError(
            f"synthetic films have {pixels.shape[-1]} px, but {pool.path} has "
            f"{pool.resolution} px; score films of its size"
        )
    pool = pool.at_resolution(1)
    people = tied_patients(pool)
    if len(np.unique(people)) < 100:
        raise ValueError(
            f"{pool.path} has {len(np.unique(people))} patients; "
            "at least 100 are needed for the distances of unrelated patients"
        )
    rng = np.random.Generator(np.random.Philox(key=[seed, 7]))
    sample = np.sort(rng.permutation(len(pool))[:UNRELATED])
    unrelated = nearest(pool, lambda rows: pool.read(sample[rows]), len(sample), people, people[sample])
    found = nearest(pool, lambda rows: pixels[rows], len(pixels), people, None)
    rank = np.searchsorted(np.sort(unrelated.distance), found.distance, side="right") / len(sample)
    return Audit(found, unrelated, rank, _Limits.of(unrelated).memorised(found))


def tied_patients(pool: Pool) -> NDArray[np.int64]:
    """Return a number a film [n], equal for films of one patient and of patients who share an exposure
    (duplicates.csv)."""
    codes = pool.codes("patient")[0].astype(np.int64)
    group_of = duplicate_groups(pool.path)
    if not group_of:
        return codes
    groups = [group_of.get(film, "") for film in pool.column("film_id").tolist()]
    names = {name: int(codes.max()) + 1 + i for i, name in enumerate(sorted(set(groups) - {""}))}
    ties = [(int(code), names[name]) for code, name in zip(codes, groups, strict=True) if name]
    size = int(codes.max()) + 1 + len(names)
    a, b = np.array(ties).T
    return connected_components(coo_array((np.ones(len(a)), (a, b)), (size, size)), directed=False)[1][codes].astype(
        np.int64
    )


def nearest(
    pool: Pool,
    read: Read,
    count: int,
    people: NDArray[np.int64],
    own: NDArray[np.int64] | None,
) -> Nearest:
    """Return the nearest films in the pool of `count` films that `read` gives by number; own [count]: films of that
    patient do not count.

    A film and its mirror image are searched for. The pool is read once for some thousands of films; then each film is
    registered to the films of the few nearest patients, which also finds near-duplicates moved by more than a pixel or
    two.
    """
    distance, row = np.empty((count, 2), np.float32), np.empty(count, np.int64)
    for chunk in in_batches(np.arange(count), _CHUNK):
        spaces = np.concatenate([_spaces(read(chunk[part])) for part in in_batches(np.arange(len(chunk)), _GROUP)])
        best = _Best.none(len(chunk))
        for rows in in_batches(np.arange(len(pool)), _BLOCK):
            rows = rows[np.argsort(people[rows], kind="stable")]
            films = unit(film_waves(pool.read(rows), moves=False)[:, 0])
            for part in in_batches(np.arange(len(chunk)), _GROUP):
                ours = None if own is None else own[chunk[part]]
                best.update(part, _likeness(spaces[part], films), rows, people[rows], ours)
        for part in in_batches(np.arange(len(chunk)), _GROUP):
            likeness = best.laid_over(part, read(chunk[part]), pool)
            order = np.argsort(-likeness, axis=1, kind="stable")
            distance[chunk[part]] = np.sqrt(np.clip(1 - np.take_along_axis(likeness, order[:, :2], 1) ** 2, 0, None))
            row[chunk[part]] = best.row[part, order[:, 0]]
    return Nearest(distance[:, 0], row, (distance[:, 0] / np.maximum(distance[:, 1], 1e-6)).astype(np.float32))


@dataclass(frozen=True)
class _Best:
    """The nearest patients of films so far, one film of each, the nearest first. Arrays [n, _PATIENTS]."""

    likeness: NDArray[np.float32]
    row: NDArray[np.int64]
    who: NDArray[np.int64]
    mirrored: NDArray[np.bool_]

    @classmethod
    def none(cls, n: int) -> "_Best":
        shape = n, _PATIENTS
        return cls(np.full(shape, -1, np.float32), np.zeros(shape, np.int64), np.full(shape, -1), np.zeros(shape, bool))

    def update(
        self,
        films: NDArray[np.int64],
        likeness: NDArray[np.float32],
        rows: NDArray[np.int64],
        who: NDArray[np.int64],
        own: NDArray[np.int64] | None,
    ) -> None:
        """Merge the similarity [k, 2, m] of films [k], and of their mirror images, to m films of the pool, sorted by
        patient."""
        mirrored = likeness[:, 1] > likeness[:, 0]  # [k, m]
        likeness = likeness.max(axis=1)  # [k, m]
        if own is not None:
            likeness[own[:, None] == who] = -1
        # One film a patient, else ten films of one chest would fill the list. The p patients of this block begin at
        # `starts` [p] among its m films and end at `ends` [p].
        starts = np.flatnonzero(np.r_[True, who[1:] != who[:-1]])
        of_patient = np.maximum.reduceat(likeness, starts, axis=1)  # [k, p]
        top = np.argsort(-of_patient, axis=1, kind="stable")[:, :_PATIENTS]  # [k, _PATIENTS] of p
        ends = np.r_[starts[1:], len(who)]
        value = np.take_along_axis(of_patient, top, 1)
        # the nearest film of each of these patients, [k, _PATIENTS] of m
        place = np.array(
            [
                [s + likeness[k, s:e].argmax() for s, e in zip(starts[t], ends[t], strict=True)]
                for k, t in enumerate(top)
            ]
        )
        merged = [  # likeness, row, who, mirrored: those of before and of this block, each [k, 2 _PATIENTS]
            np.concatenate([old[films], new], axis=1)
            for old, new in (
                (self.likeness, value),
                (self.row, rows[place]),
                (self.who, who[place]),
                (self.mirrored, np.take_along_axis(mirrored, place, 1)),
            )
        ]
        order = np.argsort(-merged[0], axis=1, kind="stable")
        merged = [np.take_along_axis(values, order, 1) for values in merged]
        again = (merged[2][:, :, None] == merged[2][:, None, :]) & np.tri(merged[2].shape[1], k=-1, dtype=bool)
        # a patient of an earlier block counts once
        order = np.argsort(again.any(axis=2), axis=1, kind="stable")[:, :_PATIENTS]
        mine: tuple[NDArray, ...] = (self.likeness, self.row, self.who, self.mirrored)
        for kept, values in zip(mine, merged, strict=True):
            kept[films] = np.take_along_axis(values, order, 1)

    def laid_over(self, films: NDArray[np.int64], pixels: Pixels, pool: Pool) -> NDArray[np.float32]:
        """Return the similarity [k, _PATIENTS] of films, pixels [k, res, res], after registration to those of their
        nearest patients."""
        rows, which = np.unique(self.row[films], return_inverse=True)  # some real films are near to many
        which = which.reshape(len(films), _PATIENTS)  # flat before numpy 2
        real = pool.read(rows)
        units, evened_real, evened_fake = unit(film_waves(real, moves=False)[:, 0]), evened(real), evened(pixels)
        found = np.empty((len(films), _PATIENTS), np.float32)
        for place in range(_PATIENTS):
            moving = np.where(self.mirrored[films, place][:, None, None], evened_fake[:, :, ::-1], evened_fake)
            spaces = _space(laid_over(evened_real[which[:, place]], moving))
            found[:, place] = np.linalg.norm(np.matmul(spaces, units[which[:, place], :, None])[:, :, 0], axis=1)
        return np.maximum(self.likeness[films], found)


def unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-6)


def _spaces(pixels: Pixels | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32 [k, 2, moves, size]: `_space` of each film and of its mirror image, in which every other wave
    changes its sign."""
    spaces = _space(pixels)
    return np.stack([spaces, spaces * MIRROR], axis=1)


def _space(pixels: Pixels | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32 [k, moves, size]: an orthonormal basis of each film with its small moves."""
    vectors, triangle = np.linalg.qr(film_waves(pixels).swapaxes(-1, -2))
    # no detail: any direction would fit, so none is used
    flat = np.abs(np.diagonal(triangle, axis1=-2, axis2=-1)) < 1e-4
    return np.ascontiguousarray(np.where(flat[..., None, :], 0, vectors).swapaxes(-1, -2), np.float32)


def _likeness(spaces: NDArray[np.float32], films: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return [k, 2, n]: the length of each film [n, size] in the spaces [k, 2, moves, size]."""
    k, mirrors, moves, size = spaces.shape
    lengths = (spaces.reshape(-1, size) @ films.T).reshape(k, mirrors, moves, len(films))
    return np.sqrt(np.square(lengths, out=lengths).sum(axis=2))


@dataclass(frozen=True)
class _Limits:
    """Thresholds that unrelated patients hardly ever pass."""

    distance: float
    ratio: float  # of a near film
    singled_out: float  # of any film

    @classmethod
    def of(cls, unrelated: Nearest, rows: slice = slice(None)) -> "_Limits":
        ratios = unrelated.ratio[rows]
        return cls(
            float(np.quantile(unrelated.distance[rows], NEAR)),
            *(float(np.quantile(ratios, q)) for q in (5 * NEAR, NEAR / 5)),
        )

    def memorised(self, found: Nearest) -> NDArray[np.bool_]:
        """Return which films are memorised, [n]: near to one patient and not to a second, since a smooth film is near
        to everybody, or so much nearer to one patient that distance does not matter, which also finds copies of half a
        film."""
        return ((found.distance < self.distance) & (found.ratio < self.ratio)) | (found.ratio < self.singled_out)


def _median(values: NDArray[np.float32]) -> tuple[float, tuple[float, float]]:
    """Return the median and its interval from order statistics (Conover 1999, section 3.2)."""
    ordered, n = np.sort(values), len(values)
    half = Z_95 * np.sqrt(n) / 2
    low, high = max(0, int(n / 2 - half)), min(n - 1, int(np.ceil(n / 2 + half)))
    return float(np.median(values)), (float(ordered[low]), float(ordered[high]))


@dataclass(frozen=True)
class Pair:
    """A synthetic film and its nearest real film. Pixels uint8 [res, res]; None: the terms of `source` do not allow
    showing it."""

    name: str  # of the synthetic film
    distance: float
    stranger_rank: float
    ratio: float
    memorised: bool
    source: str  # of the real film
    fake: Pixels | None
    real: Pixels | None


def worst_pairs(pool: Pool, pixels: Pixels, names: Sequence[str], audit: Audit, most: int = 16) -> list[Pair]:
    """Return the pairs with the smallest ratio of nearest to second patient, the worst first. They show patients: not
    for publication.

    A real film of a collection whose terms restrict sharing is left out, and so is a synthetic film that is flagged as
    its near-duplicate.
    """
    found, sources, pairs = audit.found, pool.column("source"), []
    for i in np.argsort(found.ratio, kind="stable")[:most].tolist():
        row, copied = int(found.row[i]), bool(audit.memorised[i])
        source = str(sources[row])
        shown = not restricted_sources({source: pool.meta["sources"].get(source, {})})
        real = to_bits(pool.read(np.array([row]))[0], 8) if shown else None
        fake = to_bits(pixels[i], 8) if shown or not copied else None
        distance, rank, ratio = (float(values[i]) for values in (found.distance, audit.stranger_rank, found.ratio))
        pairs.append(Pair(names[i], distance, rank, ratio, copied, source, fake, real))
    return pairs


def annotate(folder: Path, names: Sequence[str], columns: Mapping[str, Sequence[str]]) -> None:
    """Add columns to the samples.csv of a folder, or write one where there is none; names: the files in the order of
    the values.

    Raises ValueError when the table does not list one of the films, or cannot be written: a missing verdict would be
    taken for a clean one.
    """
    table = folder / "samples.csv"
    rows: list[dict[str, str]] = [{"file": name} for name in names]
    if table.is_file():
        with open(table, newline="", encoding="utf-8") as file:
            rows = [{name: value or "" for name, value in row.items() if name} for row in csv.DictReader(file)]
    listed = {row.get("file", ""): row for row in rows}
    for place, name in enumerate(names):
        if name not in listed:
            raise ValueError(f"{table} does not list {name!r}; remove the table to make another, or sample again")
        listed[name].update({column: values[place] for column, values in columns.items()})
    try:
        with atomic_path(table) as part, open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), restval="")
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise ValueError(
            f"{table} cannot be written ({error.strerror}), so the memorised films are not flagged in it; free it"
        ) from error


def audit_columns(audit: Audit) -> dict[str, list[str]]:
    """Return the columns of samples.csv: distance of the nearest real film, its rank among unrelated patients, and the
    verdict."""
    return {
        "nearest": [f"{value:.4f}" for value in audit.found.distance],
        "stranger_rank": [f"{value:.4f}" for value in audit.stranger_rank],
        "memorised": ["true" if value else "false" for value in audit.memorised],
    }
