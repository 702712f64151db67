"""The gate before films are shared: a film that is too close to a real one is not written."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from thiscxr.model.conditions import Condition
from thiscxr.pool import Pool
from thiscxr.sample.sampling import Network, sample_films
from thiscxr.sample.truncation import Truncation
from thiscxr.score.fakes import store_films
from thiscxr.score.memorisation import audit, audit_columns
from thiscxr.terms import require_permission


@dataclass(frozen=True)
class Release:
    """The films that may be shared, and the columns of samples.csv with the distance of each to a real film."""

    seeds: list[int]
    conditions: list[Condition]
    columns: dict[str, list[str]]
    num_left_out: int


def check_release(pool: Pool, network: Network, permission: bool, superset: bool = False) -> None:
    """Raise ValueError where films of a network cannot pass a gate against this pool.

    That is when the terms of its sources require a permission that is not given, and when the pool is not the one that
    it was trained on: it could have memorised other films. superset: the user asserts that the pool holds all training
    films and more.
    """
    require_permission(network.info.sources, permission, "--release")
    missing = sorted(set(network.info.sources) - set(pool.meta["sources"]))
    if missing:
        what = f"--against {pool.path} holds no films of {', '.join(missing)}, which the network has learnt from"
        raise ValueError(f"{what}; give the pool that it was trained on")
    trained = network.info.pool_fingerprint
    here = pool.meta["fingerprint"]
    if not superset and here != trained:
        what = (
            f"--against {pool.path} ({here[:16]}) is not the pool that "
            f"{network.info.name} was trained on ({trained[:16]})"
        )
        raise ValueError(
            f"{what}, and what it lacks is not compared; give that pool, or --superset "
            "where this one holds all of its films"
        )


def release(
    pool: Pool, network: Network, seeds: Sequence[int], conditions: Sequence[Condition], truncation: Truncation
) -> Release:
    """Generate the films of some seeds, compare each with every film of the pool, and leave out the memorised ones;
    nothing is written yet.

    The pool must pass `check_release`. Raises ValueError as `audit`, and when no film is left.
    """
    res = network.info.architecture.res
    with tempfile.TemporaryDirectory(prefix="thiscxr-") as scratch:
        films = sample_films(network, seeds, conditions, truncation)
        found = audit(pool, store_films(films, len(seeds), res, Path(scratch) / "films", "generate to compare"))
    fine = np.flatnonzero(~found.memorised).tolist()
    if not fine:
        raise ValueError(
            f"all {len(seeds)} films are too close to a real one of {pool.path}, so "
            "none is left; train on more patients"
        )
    columns = {name: [values[place] for place in fine] for name, values in audit_columns(found).items()}
    columns["against"] = [pool.meta["fingerprint"]] * len(fine)
    return Release(
        [seeds[place] for place in fine], [conditions[place] for place in fine], columns, len(seeds) - len(fine)
    )
