"""Exact and near duplicates among the films of a pool: one film released twice, re-encoded, re-windowed, reduced,
cropped or marked.

Two exposures of one patient are not duplicates, however similar. A similarity that ignores small moves: tangent
distance, Simard, LeCun and Denker 1993.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

from thiscxr.pixels import Pixels

Array = NDArray[np.float32]
Read = Callable[[NDArray[np.int64]], Pixels]
Spread = Callable[[Callable[[Any], Any], Iterator[Any]], Iterable[Any]]

# From benchmarks/duplicate_rates.py on 1,988 NIH films of 64 px, 1,271 of 256 px and 3,000 phantom films. Two to four
# in a million pairs of different patients are as similar; for copies cropped by 3 % at every side, the first percentile
# is 0.986.
MIN_SIMILARITY = 0.98
# The highest is 0.73 among the most similar of 2.8 million pairs of different patients, 0.914 of 6,034 pairs of films
# of one patient and 0.928 of phantom patients; for copies made at 256 px and saved as JPEG of quality 50, the first
# percentile is 0.964.
MIN_CORRELATION = 0.945

_COARSE, _FINE = 32, 64  # resolutions at which films are described and compared
_MAX_MOVE = 0.15  # of half the width
_TILE, _BATCH = 1024, 128  # films along a tile of the search, pairs at a time in the comparison
_CACHED = 4096  # small films in memory
# A film is compared with every later one that is similar, or, where there are many, with the most similar alone: films
# of unrelated real patients are similar three times in a million, phantom films one time in fifty, which would give
# thousands of comparisons.
_MANY, _NEAREST = 8, 1


def _taper(res: int, margin: float) -> Array:
    """Return [res]: 1 in the middle, falling to 0 over `margin` of each half."""
    outside = np.abs(_grid(res)) - (1 - margin)
    return np.where(outside > 0, 0.5 + 0.5 * np.cos(np.pi * outside / margin), 1).astype(np.float32)


def _grid(res: int) -> Array:
    """Return the centres of a row's pixels, from -1 to 1."""
    return np.linspace(-1 + 1 / res, 1 - 1 / res, res, dtype=np.float32)


# Cosines of 2 to 10 half waves across a film: coarser ones are the same for all chests, finer ones do not survive a
# crop. The taper leaves out the margins, which a crop changes most.
_LOWEST, _HIGHEST = 2, 10
_WAVES = np.cos(np.pi / 2 * np.arange(_HIGHEST + 1)[:, None] * (_grid(_COARSE) + 1)).astype(np.float32) * _taper(
    _COARSE, 0.3
)
_FREQUENCY = np.hypot(*np.mgrid[: _HIGHEST + 1, : _HIGHEST + 1])
_BAND = (_FREQUENCY >= _LOWEST) & (_FREQUENCY <= _HIGHEST)
_WEIGHTS = np.sqrt(_FREQUENCY[_BAND]).astype(np.float32)
# the sign of each wave in the mirror image
MIRROR = np.where(np.mgrid[: _HIGHEST + 1, : _HIGHEST + 1][1][_BAND] % 2, -1, 1).astype(np.float32)
_MOVES = 4  # the film itself, and how it changes when slid across, slid down and stretched

DESCRIPTOR_SIZE = _MOVES * int(_BAND.sum())


@dataclass(frozen=True, slots=True)
class Pair:
    """Two films, by row, that show one exposure."""

    a: int  # the earlier row
    b: int
    kind: str  # "exact": equal pixels; "near"
    correlation: float  # of fine detail once laid over each other; 1 for equal pixels


def descriptor(pixels: Pixels) -> NDArray[np.int8]:
    """Return int8 [DESCRIPTOR_SIZE] of one film of a pool, uint8 or uint16 [res,res]; zeros for one without detail.

    Four orthogonal vectors: the film's grey ranks in a band of waves, and the directions in which small slides and
    stretches move it.
    """
    film = _ranks(_reduce(pixels[None], _COARSE))[0]
    down, across = np.gradient(film)
    grid = _grid(_COARSE)
    # [4, waves, waves]
    moves = _WAVES @ np.stack([film, across, down, across * grid + down * grid[:, None]]) @ _WAVES.T
    vectors, triangle = np.linalg.qr((moves[:, _BAND] * _WEIGHTS).T)
    vectors[:, np.abs(np.diag(triangle)) < 1e-4] = 0  # no detail: any direction would fit, so none is taken
    largest = np.maximum(np.abs(vectors).max(axis=0), 1e-6)
    return np.rint(vectors.T * (127 / largest)[:, None]).astype(np.int8).ravel()


def evened(pixels: Pixels | Array) -> Array:
    """Return films [k,res,res] as `laid_over` takes them: float32 [k,r,r], r at most 32, from -0.5 to 0.5, of an even
    histogram."""
    return _equalise(_reduce(pixels, _COARSE))


def laid_over(fixed: Array, moving: Array) -> Array:
    """Return the films `moving`, slid and stretched onto the films `fixed`; both as `evened` returns them, and so is
    the result."""
    return _move(moving, _align(fixed, moving, np.zeros((len(fixed), 4), np.float32), 6))


def film_waves(pixels: Pixels | Array, moves: bool = True) -> Array:
    """Return float32 [k,6,waves] of films [k,res,res]: grey ranks in a band of waves, and how small moves change them.

    The moves: slid across, slid down, stretched across, stretched down, turned. moves: False leaves them out,
    [k,1,waves].
    """
    films = _ranks(_reduce(pixels, _COARSE))
    every = _all_waves(films.shape[1])
    of_moves = every if moves else every[:, : len(MIRROR)]
    return (films.reshape(len(films), -1) @ of_moves).reshape(len(films), -1, len(MIRROR))


@lru_cache(maxsize=1)
def _all_waves(res: int) -> Array:
    """Return the matrix [res², 6 · waves] of `film_waves`: everything after the ranks is linear, so one product does
    it."""
    films = np.eye(res * res, dtype=np.float32).reshape(-1, res, res)  # of one bright pixel each
    x, y = _grid(res), _grid(res)[:, None]
    columns = []
    for part in np.array_split(films, res):
        down, across = np.gradient(part, axis=(1, 2))
        moves = np.stack([part, across, down, across * x, down * y, down * x - across * y], axis=1)
        columns.append((_WAVES @ moves @ _WAVES.T)[:, :, _BAND] * _WEIGHTS)
    return np.concatenate(columns).reshape(res * res, -1)


def find_duplicates(
    descriptors: NDArray[np.int8], digests: Sequence[Hashable], read: Read, spread: Spread = map
) -> list[Pair]:
    """Return the pairs of duplicates, ordered by (a, b), of films with these descriptors (int8 [n,DESCRIPTOR_SIZE], may
    be mapped).

    digests: of each film's pixels, equal for equal films alone. read: films by rows, as Pool.read; called only for
    similar films. spread: `map`, or the same in several processes. Films of equal pixels are paired with the first of
    them, and only that one is compared with others. Every pair is searched: time grows with n^2, memory does not.
    Raises ValueError when descriptors and digests do not match.
    """
    if descriptors.shape != (len(digests), DESCRIPTOR_SIZE) or descriptors.dtype != np.int8:
        raise ValueError(
            f"descriptors of shape {descriptors.shape} and type {descriptors.dtype} "
            f"for {len(digests)} films; expected int8 "
            f"({len(digests)}, {DESCRIPTOR_SIZE}); describe the films again"
        )
    first: dict[Hashable, int] = {}
    pairs = []
    for row, digest in enumerate(digests):
        if first.setdefault(digest, row) != row:
            pairs.append(Pair(first[digest], row, "exact", 1.0))
    rows = np.fromiter(first.values(), np.int64, len(first))
    under_way: deque[tuple[NDArray[np.int64], NDArray[np.int64]]] = deque()
    small = lru_cache(maxsize=_CACHED)(lambda row: _reduce(read(np.array([row])), _FINE)[0])

    def batches() -> Iterator[tuple[Array, Array]]:
        for a, b in _candidates(descriptors, rows):
            under_way.append((a, b))
            films = [small(row) for row in [*a.tolist(), *b.tolist()]]
            res = min(map(len, films))  # films of 32 px may be among larger ones
            films = [_reduce(film[None], res)[0] for film in films]
            yield np.stack(films[: len(a)]), np.stack(films[len(a) :])

    for found in spread(_compare, batches()):
        a, b = under_way.popleft()
        kept = found >= MIN_CORRELATION
        pairs += [Pair(int(i), int(j), "near", float(c)) for i, j, c in zip(a[kept], b[kept], found[kept], strict=True)]
    return sorted(pairs, key=lambda pair: (pair.a, pair.b))


def _compare(films: tuple[Array, Array]) -> Array:
    return correlations(*films)


def groups(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Return the groups of duplicates, each as the pairs of its first film with its other films, in the order of rows.

    A film joins the earliest group whose first film it is a duplicate of, so that groups do not chain: a duplicate of
    another member alone begins a group of its own, or is in none.
    """
    home: dict[int, Pair] = {}  # of every film but the first ones: its pair with the first of its group
    for pair in sorted(pairs, key=lambda pair: (pair.b, pair.a)):
        first = home.get(pair.a)
        if pair.b in home or (first is not None and pair.kind == "near"):
            continue
        home[pair.b] = pair if first is None else Pair(first.a, pair.b, first.kind, first.correlation)  # as its equal
    found: dict[int, list[Pair]] = {}
    for pair in home.values():
        found.setdefault(pair.a, []).append(pair)
    return [found[first] for first in sorted(found)]


def similarity(a: NDArray[np.int8], b: NDArray[np.int8]) -> Array:
    """Return float32 [n,m], from 0 to about 1, of descriptors [n,DESCRIPTOR_SIZE] and [m,DESCRIPTOR_SIZE].

    It is the length of b's film projected onto the space of a's film and its moves, so that a small slide or stretch
    changes it little.
    """
    spaces, films = _vectors(a, _MOVES), _vectors(b, 1)[0]
    lengths = (spaces.reshape(_MOVES * len(a), -1) @ films.T).reshape(_MOVES, len(a), len(b))
    return np.sqrt(np.einsum("mab,mab->ab", lengths, lengths))


def correlations(a: Pixels | Array, b: Pixels | Array) -> Array:
    """Return float32 [k]: how well films b, slid and stretched onto a, agree with them in fine detail; both
    [k,res,res].

    Near 1 for one exposure whatever its grey scale, below MIN_CORRELATION for two. The three worst of 49 fields are
    left out, so that a burned-in mark has no effect.
    """
    res = min(a.shape[-1], _FINE)
    return _correlate(_equalise(_reduce(a, res)), _equalise(_reduce(b, res)))


def _reduce(pixels: Pixels | Array, res: int) -> Array:
    """Return [k,res,res] means of [k,native,native], or the films where they are no larger."""
    num, native = pixels.shape[:2]
    res = min(res, native)
    assert pixels.shape == (num, native, native), pixels.shape
    assert native % res == 0, f"films of {native} px to {res}"
    step = native // res
    if step == 1:
        return pixels.astype(np.float32)
    # Added up plane by plane: sums along an axis of two or four take numpy several times as long.
    rows = pixels.reshape(num, res, step, native)
    down = rows[:, :, 0].astype(np.float32)
    for i in range(1, step):
        down += rows[:, :, i]
    columns = down.reshape(num, res, res, step)
    across = columns[..., 0].copy()
    for i in range(1, step):
        across += columns[..., i]
    return across / np.float32(step**2)


def _ranks(films: Array) -> Array:
    """Return the share of pixels of each film [k,res,res] that are darker, from -0.5 to 0.5, ties in the middle: no
    change of grey scale changes them."""
    values = films.reshape(len(films), -1)
    size = values.shape[1]
    order = np.argsort(values, axis=1)
    ordered = np.take_along_axis(values, order, 1)
    first = np.ones(values.shape, np.bool_)  # of equal values
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=first[:, 1:])
    starts = np.flatnonzero(first)
    equal = np.diff(starts, append=values.size)
    darker, not_brighter = starts % size, starts % size + equal
    shares = ((darker + not_brighter) / (2 * size) - 0.5).astype(np.float32)
    ranks = np.empty(values.shape, np.float32)
    np.put_along_axis(ranks, order, np.repeat(shares, equal).reshape(values.shape), 1)
    return ranks.reshape(films.shape)


def _equalise(films: Array) -> Array:
    """Return [k,res,res] from -0.5 to 0.5 of an even histogram, but no grey level is stretched more than threefold.

    Plain ranks would amplify the grain of a black border, where many pixels have nearly one value.
    """
    values = films.reshape(len(films), -1)
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    levels = (values - low) * (255 / np.maximum(high - low, np.float32(1e-6)))
    whole = levels.astype(np.uint8)
    rows = np.arange(len(films))[:, None]
    counts = np.bincount((whole + 256 * rows).ravel(), minlength=256 * len(films)).reshape(-1, 256)
    shares = np.zeros((len(films), 257))
    np.cumsum(np.minimum(counts, 3 * values.shape[1] // 256), axis=1, out=shares[:, 1:])
    shares /= shares[:, -1:]
    below, step = shares[:, :-1], np.diff(shares, axis=1)
    even = np.take_along_axis(below, whole.astype(np.int64), 1) + np.take_along_axis(
        step, whole.astype(np.int64), 1
    ) * (levels - whole)
    return (even - 0.5).astype(np.float32).reshape(films.shape)


def _vectors(descriptors: NDArray[np.int8], moves: int) -> Array:
    """Return the first `moves` vectors of each film, float32 [moves,k,size], of length 1 (or 0)."""
    size = DESCRIPTOR_SIZE // _MOVES
    vectors = np.asarray(descriptors[:, : moves * size], np.float32).reshape(-1, moves, size).swapaxes(0, 1)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1)


def _candidates(
    descriptors: NDArray[np.int8], rows: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield (a, b), a < b, of the similar pairs among `rows`, at most _BATCH at a time: each film with later ones."""
    num = len(rows)
    found = np.empty((2, 0), np.int64)
    with tqdm(total=num * (num - 1) // 2, desc="duplicates", unit="pair", unit_scale=True, delay=1) as progress:
        for top in range(0, num, _TILE):
            above = descriptors[rows[top : top + _TILE]]
            alike = [np.empty((3, 0))]
            for left in range(top, num, _TILE):
                likeness = similarity(above, descriptors[rows[left : left + _TILE]])
                a, b = np.nonzero(likeness >= MIN_SIMILARITY)
                later = left + b > top + a
                alike.append(np.stack([a, left + b, likeness[a, b]])[:, later])
            a, b, how = np.concatenate(alike, axis=1)
            order = np.lexsort((-how, a))
            a, b = a[order].astype(np.int64), b[order].astype(np.int64)
            rank = np.arange(len(a)) - np.searchsorted(a, a)
            near = (rank < _NEAREST) | (np.bincount(a, minlength=1)[a] <= _MANY)
            found = np.concatenate([found, rows[np.stack([top + a[near], b[near]])]], axis=1)
            while found.shape[1] >= _BATCH:
                yield found[0, :_BATCH], found[1, :_BATCH]
                found = found[:, _BATCH:]
            progress.update(len(above) * (num - top) - len(above) * (len(above) + 1) // 2)
    if found.shape[1]:
        yield found[0], found[1]


def _correlate(fixed: Array, moving: Array) -> Array:
    moves = _align(_reduce(fixed, _COARSE), _reduce(moving, _COARSE), np.zeros((len(fixed), 4), np.float32), 6)
    if fixed.shape[1] > _COARSE:
        moves = _align(fixed, moving, moves, 3)
    a, b = _fields(_detail(fixed)), _fields(_detail(_move(moving, moves)))
    both, ours, theirs = (a * b).sum(axis=2), (a * a).sum(axis=2), (b * b).sum(axis=2)
    kept = np.argsort(both / np.sqrt(ours * theirs + 1e-6), axis=1)[:, 3:]
    both, ours, theirs = (np.take_along_axis(sums, kept, 1).sum(axis=1) for sums in (both, ours, theirs))
    return np.minimum(both / np.sqrt(ours * theirs + 1e-6), 1)  # rounding may take it a little beyond


def _detail(films: Array) -> Array:
    """Return detail of about nine waves across a film, of even local contrast: it differs between two exposures of one
    patient, and survives JPEG."""
    pixel = films.shape[1] / _FINE

    def blurred(values: Array, sigma: float) -> Array:
        return gaussian_filter(values, (0, sigma * pixel, sigma * pixel))

    smooth = blurred(films, 0.8)
    detail = smooth - blurred(smooth, 1.2)
    contrast = np.sqrt(blurred(detail * detail, 2.4))
    # Plus a quarter of the mean, so that noise of flat areas is not amplified.
    return detail / (contrast + contrast.mean(axis=(1, 2), keepdims=True) / 4 + np.float32(1e-6))


def _fields(films: Array) -> Array:
    """Return [k,49,pixels]: 7 x 7 fields, without the margin, which a cropped film lacks."""
    num, res = films.shape[:2]
    margin, field = res // 16, res // 8
    inner = films[:, margin:-margin, margin:-margin].reshape(num, 7, field, 7, field)
    return inner.swapaxes(2, 3).reshape(num, 49, field * field)


def _move(films: Array, moves: Array) -> Array:
    """Return [k,res,res] sampled at grid * (1 + stretch) + slide, linearly; moves [k,4]: stretch and slide across,
    then down."""
    res = films.shape[1]
    grid, pixels = _grid(res), np.arange(res, dtype=np.float32)

    def weights(stretch: Array, slide: Array) -> Array:  # [k, res to, res from]
        position = np.clip((grid * (1 + stretch[:, None]) + slide[:, None] + 1) * (res / 2) - 0.5, 0, res - 1)
        return np.maximum(0, 1 - np.abs(position[:, :, None] - pixels), dtype=np.float32)

    return np.matmul(
        weights(moves[:, 2], moves[:, 3]) @ films, weights(moves[:, 0], moves[:, 1]).swapaxes(1, 2), dtype=np.float32
    )


def _align(fixed: Array, moving: Array, moves: Array, steps: int) -> Array:
    """Return the moves that lay `moving` over `fixed`: Gauss-Newton steps of the squared difference, contrast and level
    free."""
    num, res = fixed.shape[:2]
    grid, window = _grid(res), np.sqrt(np.outer(_taper(res, 0.3), _taper(res, 0.3)))
    columns = np.empty((num, 7, res, res), np.float32)  # the last is the target of the fit
    columns[:, 5], columns[:, 6] = window, fixed * window
    flat = columns.reshape(num, 7, -1)
    for _ in range(steps):
        film = _move(moving, moves)
        down, across = np.gradient(film, 2 / res, axis=(1, 2))
        for column, values, factor in (
            (0, across, window * grid), (1, across, window),
            (2, down, window * grid[:, None]), (3, down, window), (4, film, window),
        ):  # fmt: skip
            np.multiply(values, factor, out=columns[:, column])
        products = flat[:, :6] @ flat.transpose(0, 2, 1)
        normal, right = products[:, :, :6], products[:, :, 6:]
        # solvable for every film
        normal = normal + np.eye(6, dtype=np.float32) * (normal * np.float32(1e-4) + np.float32(1e-6))
        solution = np.linalg.solve(normal, right)[:, :, 0]
        moves = np.clip(moves + solution[:, :4] / np.maximum(solution[:, 4:5], 0.3), -_MAX_MOVE, _MAX_MOVE)
    return moves
