"""The gate before films leave the house: what is too close to a real film is not written."""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from thiscxr.data.pool import Pool
from thiscxr.data.terms import require_permission
from thiscxr.model.conditions import Condition
from thiscxr.sample.sampling import Network, sample_films
from thiscxr.sample.truncation import Truncation
from thiscxr.score.memorisation import audit, audit_columns


@dataclass(frozen=True)
class Release:
    """The films that may go out, and the columns of samples.csv that say how near each is to a real film."""

    seeds: list[int]
    conditions: list[Condition]
    columns: dict[str, list[str]]
    num_left_out: int


def release(
    pool: Pool, network: Network, seeds: Sequence[int], conditions: Sequence[Condition], truncation: Truncation, permission: bool
) -> Release:
    """Draw the films of some seeds, compare each with every film of the pool, and leave out what is a copy; nothing is written yet.

    Raises ValueError as `audit`, where the terms of the sources ask for a permission that is not given, where the pool has not all the
    sources that the network has learnt from (a copy could come from elsewhere), and where no film is left.
    """
    require_permission(network.info.sources, permission, "--release")
    missing = sorted(set(network.info.sources) - set(pool.meta["sources"]))
    if missing:
        what = f"--against {pool.path} holds no films of {', '.join(missing)}, which the network has learnt from"
        raise ValueError(f"{what}; give the pool that it was trained on")
    res = network.info.architecture.res
    with tempfile.TemporaryDirectory(prefix="thiscxr-") as scratch:
        path = Path(scratch) / "films"
        with open(path, "wb") as file, tqdm(total=len(seeds), unit="film", file=sys.stderr, desc="draw to compare", delay=1) as bar:
            for films in sample_films(network, seeds, conditions, truncation):
                file.write(films.tobytes())
                bar.update(len(films))
        found = audit(pool, np.memmap(path, np.uint8, "r", shape=(len(seeds), res, res)))
    fine = np.flatnonzero(~found.memorised).tolist()
    if not fine:
        raise ValueError(f"all {len(seeds)} films are too close to a real one of {pool.path}, so none is left; train on more patients")
    columns = {name: [values[place] for place in fine] for name, values in audit_columns(found).items()}
    return Release([seeds[place] for place in fine], [conditions[place] for place in fine], columns, len(seeds) - len(fine))
