"""Films as columns, and what can be counted in them: the numbers that `describe` shows.

Nothing here loops over films times findings in Python: a collection of a million films is a matter of seconds.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from thiscxr.collections.splits import Splits
from thiscxr.labels import FINDINGS, NEGATIVE, NOT_ANNOTATED, POSITIVE, SEXES, STATES, VIEWS, FilmRecord
from thiscxr.pixels import Pixels

DECADES = (*(f"{first}-{first + 9}" for first in range(0, 100, 10)), "100+")
FILM_RANGES = ("1", "2", "3-4", "5-8", "9-16", "17-32", "33-64", "65+")  # of films a patient
LEVELS = 64  # bins of an intensity histogram, over the full scale

_RANGE_ENDS = (1, 2, 4, 8, 16, 32, 64)
_CELL_PX = 128  # native sizes are counted in squares of this side


def film_table(source: str, films: Sequence[FilmRecord], as_released: bool = False) -> pa.Table:
    """Return the films as the columns of a pool that `part_facts` and the others read, with numbers for patients and
    studies.

    as_released: with the states that the cells of the label file have, before any rule made more of them.
    """
    names = ("patient", "study", "view", "sex", "labeler")
    columns: dict[str, pa.Array] = {
        name: pa.array([getattr(film, name) for film in films], pa.string()).dictionary_encode() for name in names
    }
    columns |= {name: columns[name].indices for name in ("patient", "study")}
    splits = Splits()
    for film in films:
        splits.add(source, film)
    splits.close()
    columns["split"] = pa.array([splits.of(source, film) for film in films], pa.string()).dictionary_encode()
    columns["age_years"] = pa.array([film.age_years for film in films], pa.float64())
    return pa.table({**columns, **dict(zip(FINDINGS, _states(films, as_released).T, strict=True))})


def _states(films: Sequence[FilmRecord], as_released: bool) -> NDArray[np.int8]:
    """Return int8 [n,21]. Films of a collection name few different sets of findings: a block is filled for each."""
    states = np.full((len(films), len(FINDINGS)), NOT_ANNOTATED, np.int8)
    places: dict[tuple[str, ...], list[int]] = {}
    findings = [(as_released and film.as_released) or film.findings or {} for film in films]
    for place, found in enumerate(findings):
        if found:
            places.setdefault(tuple(found), []).append(place)
    for names, rows in places.items():
        values = chain.from_iterable(findings[row].values() for row in rows)
        states[np.ix_(rows, [FINDINGS.index(name) for name in names])] = np.fromiter(values, np.int8).reshape(
            len(rows), len(names)
        )
    return states


def state_matrix(table: pa.Table) -> NDArray[np.int8]:
    """Return the states of all films, int8 [n,21]."""
    return np.stack([table[name].to_numpy() for name in FINDINGS], axis=1).astype(np.int8).reshape(-1, len(FINDINGS))


def part_facts(table: pa.Table) -> dict[str, Any]:
    """Return the counts of one set of films: the contract's keys (docs/formats.md), then ages, splits, labelers and
    films per patient."""
    states = state_matrix(table)
    facts = {
        "films": len(table),
        "patients": len(pc.unique(table["patient"])),
        "studies": len(pc.unique(table["study"])),
        "views": _counts(table["view"], VIEWS),
        "sexes": _counts(table["sex"], SEXES),
        "findings": {
            name: {word: int(np.count_nonzero(states[:, column] == state)) for state, word in STATES.items()}
            for column, name in enumerate(FINDINGS)
        },
        **_age_facts(table),
        "films_per_patient": _per_patient(table["patient"]),
        "splits": _counts(table["split"], ("train", "holdout")),
    }
    return {**facts, "labelers": {name: count for name, count in _counts(table["labeler"], ()).items() if name}}


def _counts(column: pa.ChunkedArray, order: Sequence[str]) -> dict[str, int]:
    """Return value -> count, in `order` and then by name."""
    counted = pc.value_counts(column)
    pairs = zip(map(str, counted.field("values").to_pylist()), counted.field("counts").to_pylist(), strict=True)
    return dict(sorted(pairs, key=lambda pair: (order.index(pair[0]) if pair[0] in order else len(order), pair[0])))


def _age_facts(table: pa.Table) -> dict[str, Any]:
    ages = table["age_years"].to_numpy().astype(np.float64)
    known = np.isfinite(ages)
    decade = np.where(known, np.clip(np.nan_to_num(ages) // 10, 0, len(DECADES) - 1), len(DECADES)).astype(np.int64)

    def histogram(films: NDArray[np.bool_]) -> dict[str, int]:
        return dict(
            zip((*DECADES, "unknown"), np.bincount(decade[films], minlength=len(DECADES) + 1).tolist(), strict=True)
        )

    sexes = [sex for sex in SEXES if sex in pc.unique(table["sex"]).to_pylist()]
    return {
        "ages": histogram(np.ones(len(ages), bool)),
        "ages_by_sex": {sex: histogram(_equal(table["sex"], sex)) for sex in sexes},
        "median_age": float(np.median(ages[known])) if known.any() else None,
    }


def _equal(column: pa.ChunkedArray, value: str) -> NDArray[np.bool_]:
    return pc.fill_null(pc.equal(column, value), False).to_numpy().astype(bool)


def _per_patient(patients: pa.ChunkedArray) -> dict[str, Any]:
    films = pc.value_counts(patients).field("counts").to_numpy()
    ranges = np.bincount(np.searchsorted(_RANGE_ENDS, films), minlength=len(FILM_RANGES)).tolist()
    return {
        "median": float(np.median(films)) if len(films) else None,
        "max": int(films.max(initial=0)),
        "patients": dict(zip(FILM_RANGES, ranges, strict=True)),
    }


def co_occurrence(table: pa.Table) -> dict[str, dict[str, list[int]]]:
    """Return {given: {finding: [both, of]}}: of the films positive for `given` and annotated for `finding`, how many
    have both.

    Findings that are nowhere positive are no `given`; pairs that are nowhere annotated together are left out.
    """
    states = state_matrix(table)
    pairs: dict[str, dict[str, list[int]]] = {}
    for row, given in enumerate(FINDINGS):
        films = states[states[:, row] == POSITIVE]
        both, of = (
            np.count_nonzero(films == POSITIVE, axis=0).tolist(),
            np.count_nonzero(films != NOT_ANNOTATED, axis=0).tolist(),
        )
        if len(films):
            pairs[given] = {
                name: [both[place], of[place]] for place, name in enumerate(FINDINGS) if place != row and of[place]
            }
    return pairs


def views_by_finding(table: pa.Table) -> dict[str, dict[str, dict[str, int]]]:
    """Return {finding: {"positive" or "negative": {view: films}}} of the findings that have films of both."""
    view_of_film = table["view"].combine_chunks()
    if not pa.types.is_dictionary(view_of_film.type):
        view_of_film = view_of_film.dictionary_encode()
    codes = view_of_film.indices.to_numpy(zero_copy_only=False)
    names = view_of_film.dictionary.to_pylist()
    states = state_matrix(table)
    found = {}
    for column, finding in enumerate(FINDINGS):
        sides = {
            word: np.bincount(codes[states[:, column] == state], minlength=len(names)).tolist()
            for word, state in (("positive", POSITIVE), ("negative", NEGATIVE))
        }
        if all(map(any, sides.values())):
            found[finding] = {
                word: {name: count for name, count in zip(names, counts, strict=True) if count}
                for word, counts in sides.items()
            }
    return found


def total_variation(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """Return half the summed difference of two distributions, from 0 (alike) to 1 (nothing in common).

    Guessing which of the two, equally likely, a value comes from succeeds in at most (1 + this) / 2 of the cases.
    """
    one_sum, other_sum = sum(one.values()), sum(other.values())
    if not (one_sum and other_sum):
        return 0.0
    return sum(abs(one.get(name, 0) / one_sum - other.get(name, 0) / other_sum) for name in sorted({*one, *other})) / 2


def size_facts(widths: Any, heights: Any, bits: Any) -> dict[str, Any]:
    """Return counts of native sizes: int [n] each. `cells`: [mean width, mean height, films] of squares of 128 px,
    largest first."""
    widths, heights = np.asarray(widths, np.int64), np.asarray(heights, np.int64)
    cells, places, counts = np.unique(
        widths // _CELL_PX * 2**20 + heights // _CELL_PX, return_inverse=True, return_counts=True
    )
    means = [np.rint(np.bincount(places, side, len(cells)) / counts).astype(int).tolist() for side in (widths, heights)]
    depths, films = np.unique(np.asarray(bits, np.int64), return_counts=True)
    return {
        "films": len(widths),
        "width": _range(widths),
        "height": _range(heights),
        "square": int(np.count_nonzero(widths == heights)),
        "bits": {str(depth): count for depth, count in zip(depths.tolist(), films.tolist(), strict=True)},
        "cells": sorted(map(list, zip(*means, counts.tolist(), strict=True)), key=lambda cell: (-cell[2], cell)),
    }


def _range(values: NDArray[np.int64]) -> dict[str, int]:
    if not len(values):
        return {}
    return {"min": int(values.min()), "median": int(np.median(values)), "max": int(values.max())}


def evenly(num: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` of the places 0 to num - 1, evenly spread, the ends among them: the same for everybody."""
    return np.unique(np.linspace(0, max(num - 1, 0), min(num, most)).round().astype(np.int64))


def film_levels(pixels: Pixels) -> NDArray[np.int64]:
    """Return how many pixels lie in each of LEVELS equal steps of the full scale, int64 [64]."""
    shift = pixels.dtype.itemsize * 8 - LEVELS.bit_length() + 1
    return np.bincount((pixels >> shift).ravel(), minlength=LEVELS).astype(np.int64)


def intensity_facts(levels: Any, of: int, refused: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Return the mean histogram of films, in shares of the pixels, each film counting the same.

    levels: int [n,64] of `film_levels`, one row a film looked at; of: how many films there are; refused: films that did
    not decode. `unevenness`: the median film's largest distance between its cumulated histogram and a straight line,
    black left out.
    """
    levels = np.asarray(levels, np.float64).reshape(-1, LEVELS)
    shares = levels / levels.sum(1, keepdims=True)
    histogram = shares.mean(0) if len(shares) else np.zeros(LEVELS)
    grey = levels[:, 1:] / np.maximum(levels[:, 1:].sum(1, keepdims=True), 1)
    distance = np.abs(grey.cumsum(1) - np.arange(1, LEVELS) / (LEVELS - 1)).max(1)
    return {
        "films": len(levels),
        "of": of,
        "refused": dict(sorted((refused or {}).items(), key=lambda item: (-item[1], item[0]))),
        "histogram": [round(share, 6) for share in histogram.tolist()],
        "mean": round(float(histogram @ (np.arange(LEVELS) + 0.5)) / LEVELS, 4) if len(levels) else None,
        "unevenness": round(float(np.median(distance)), 4) if len(levels) else None,
    }


def pooled_pairs(sources: Mapping[str, Any]) -> dict[str, dict[str, list[int]]]:
    """Return {given: {finding: [both, of, positive, annotated]}} over all sources that annotate the pair.

    The last two count `finding` in the same sources, whatever `given` is: the share that `both / of` stands against.
    """
    pooled: dict[str, dict[str, list[int]]] = {}
    for source in sources.values():
        for given, row in source["co_occurrence"].items():
            for name, (both, of) in row.items():
                states = source["kept"]["findings"][name]
                counts = (both, of, states["positive"], source["kept"]["films"] - states["not_annotated"])
                sums = pooled.setdefault(given, {}).setdefault(name, [0, 0, 0, 0])
                sums[:] = map(sum, zip(sums, counts, strict=True))
    return {
        given: {name: pooled[given][name] for name in FINDINGS if name in pooled[given]}
        for given in FINDINGS
        if given in pooled
    }


def strongest_pairs(
    sources: Mapping[str, Any], most: int = 5, min_films: int = 20
) -> list[tuple[str, str, float, float, int]]:
    """Return (given, finding, share, share in all, films with both), those first where the share is raised most.

    Each pair once; pairs of which one finding always comes with the other are left out: they are definitions, not
    observations.
    """
    pooled = pooled_pairs(sources)
    found: dict[frozenset[str], tuple[str, str, float, float, int]] = {}
    for given, row in pooled.items():
        for name, (both, of, positive, annotated) in row.items():
            back = pooled.get(name, {}).get(given, [0, 0])
            if both < min_films or both in (of, back[1]):
                continue
            pair = (given, name, both / of, positive / annotated, both)
            found[frozenset(pair[:2])] = max(
                pair, found.get(frozenset(pair[:2]), pair), key=lambda one: one[2] - one[3]
            )
    raised = (pair for pair in found.values() if pair[2] > pair[3])
    return sorted(raised, key=lambda pair: (pair[3] - pair[2], pair))[:most]
