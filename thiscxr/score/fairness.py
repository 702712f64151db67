"""Which network may score which real films, and which films may be called held out: no film is scored by a network that
was trained on its patient.

Otherwise the floor would be measured on the extractor's own training films.
"""

import hashlib
import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from thiscxr.measures.floor import films_a_side
from thiscxr.pool import Pool
from thiscxr.reader.extractors import Extractor
from thiscxr.score.fakes import FakeFilms
from thiscxr.terms import is_phantom

Rows = NDArray[np.int64]
Fair = list[tuple[Extractor, Rows]]  # an extractor's networks, each with the real films that it may score
log = logging.getLogger("thiscxr")


def fair_groups(pool: Pool, rows: Rows, extractor: Extractor) -> Fair:
    """Return networks, each with those of the films at `rows` that it may score, in their order.

    The network itself with all films if it was trained on no patient of the pool; else each of its folds with the films
    of the patients that the fold was not trained on (each fold gets the patients in the training set of none);
    else the network with the films of patients it was not trained on. Groups without films are left out; an empty list
    means that no network may score these films. The training patients of public networks are unknown, so these come
    back with all rows.
    """
    listed = extractor.trained_on.union(*(fold.trained_on for fold in extractor.folds))
    networks: tuple[Extractor, ...] = (extractor,)
    if seen_films(pool, extractor, listed)[rows].any():
        networks = extractor.folds or networks
    groups = [(network, rows[~seen_films(pool, network, listed)[rows]]) for network in networks]
    return [(network, some) for network, some in groups if len(some)]


def enough_films(
    real: Pool, extractors: Sequence[Extractor], num_fake: int, *, split: str, allow_small: bool
) -> tuple[Rows, list[Fair], list[int]]:
    """Return the real films of a split, and for each extractor its networks with the films that each may score, and
    how many films per set they are compared at with `num_fake` synthetic ones. No film is read.

    Raises ValueError as `score`.
    """
    real = real.at_resolution(real.resolution)
    rows, patients = real.indices(split), real.codes("patient")[0]
    if not len(rows):
        raise ValueError(f"{real.path} has no films in split '{split}'; use --split all")
    fair: list[Fair] = []
    counts = []
    for extractor in extractors:
        found = fair_groups(real, rows, extractor)
        if not found:
            raise ValueError(
                f"{extractor.name} was trained on the patients of all these films, so that none of them can be a floor;"
                " score against other films, or train its folds too (thiscxr classify train --cross-fit)"
            )
        n = min(num_fake, *(films_a_side(patients[some]) for _, some in found))
        if n <= extractor.dim and not allow_small:
            raise ValueError(
                f"{len(rows)} real films (split {split}) and {num_fake} synthetic films give {n} per set, not more "
                f"than the {extractor.dim} dimensions of {extractor.name}; add films, or use --allow-small, which adds "
                "`small` to the key"
            )
        fair.append(found)
        counts.append(n)
    return rows, fair, counts


def seen_films(pool: Pool, extractor: Extractor, listed: frozenset[str] = frozenset()) -> NDArray[np.bool_]:
    """Return for every film of the pool whether the network was trained on its patient, bool [n].

    Training films are known by their hashes. Where the network was trained on a collection but none of that
    collection's films here has such a hash or one of `listed` (prepared at another resolution, or by a file that does
    not list its films), all training patients of the collection count as seen: a patient's split is the same
    everywhere. Films of the phantom have no patients, so only the hashes count.
    """
    first = np.ascontiguousarray(pool.pixel_hashes).view(np.uint8).reshape(len(pool), 32)[:, :8]
    prefixes = np.ascontiguousarray(first).view(">u8")[:, 0].astype(np.uint64)
    known, alike = (
        np.isin(prefixes, np.array([int(digits, 16) for digits in some], np.uint64))
        for some in (extractor.trained_on, listed)
    )
    of_source, sources = pool.codes("source")
    patients, names = pool.codes("patient")
    person = of_source.astype(np.int64) * len(names) + patients  # two collections may use one id
    seen = np.isin(person, person[known])
    trained = np.zeros(len(pool), np.bool_)
    trained[pool.indices("train")] = True
    for number, source in enumerate(sources.to_pylist()):
        here = of_source == number
        if source in extractor.sources and not is_phantom(source) and not (known | alike)[here].any():
            seen |= here & trained
    return seen


def refuse_false_claims(real: Pool, fakes: FakeFilms, split: str) -> None:
    """Raise ValueError where films that the network may have been trained on are called held out; warn where both sets
    are the same films."""
    digests = set(real.column("sha256").tolist())
    same = sum(hashlib.sha256(np.ascontiguousarray(film).tobytes()).hexdigest() in digests for film in fakes.pixels)
    if same:
        log.warning(
            "%d of %d synthetic films are films of %s, byte for byte: the same films in both sets",
            same,
            len(fakes),
            real.path,
        )
    sources, pool = fakes.network.get("sources", {}), fakes.network.get("pool_fingerprint")
    if split == "holdout" and "folder" in sources and "folder" in real.meta["sources"] and pool != real.fingerprint:
        raise ValueError(
            f"--split holdout: the network was trained on a folder of films, and {real.path} is "
            "another pool of a folder; who is held out "
            "follows from file names, so nobody can say that these films are new to it. "
            "Score it against the pool it was trained on"
        )
    if split == "train" and sources:
        log.warning(
            "--split train: the network may have been trained on these films; distances "
            "to them say nothing of other patients"
        )
