"""The foot of a film, where a burned-in mark stands, hidden in synthetic and real films alike.

Otherwise every score would measure the mark, and a marked near-duplicate would be near no film.
"""

from typing import Any

import numpy as np

from thiscxr.config import RESOLUTIONS
from thiscxr.pixels import Pixels, fit, is_marked, mark_rows
from thiscxr.pool import Pool


def rows_to_hide(film: Pixels, res: int) -> int:
    """Return how many of the last rows of a square film, at `res` px, hold the mark SYNTHETIC; 0 for a film without
    it."""
    # A network's film may have been enlarged since.
    for marked in (len(film), *(larger for larger in RESOLUTIONS if res <= larger < len(film))):
        if is_marked(film if marked == len(film) else fit(film, marked)):
            rim = 0 if marked == len(film) == res else 2  # rows that a filter mixes with the mark
            return -(-mark_rows(marked) * res // marked) + rim
    return 0


def cover(pixels: Pixels, rows: int) -> Pixels:
    """Return films [n, res, res] with the last `rows` rows of each filled with the median of the rows above."""
    out: Pixels = pixels.copy()
    for film in out if rows else ():
        film[-rows:] = np.rint(np.median(film[:-rows]))
    return out


class CoveredPool(Pool):
    """A pool whose films are read with their last rows hidden; its columns and hashes are those of the uncovered
    films."""

    def __init__(self, pool: Pool, rows: int) -> None:
        vars(self).update(vars(pool))
        self.pool, self.hidden = pool, rows

    def __reduce__(self) -> tuple[Any, ...]:
        return CoveredPool, (self.pool, self.hidden)

    def at_resolution(self, res: int) -> Pool:
        """Return a view as `Pool.at_resolution`, covered to the same height."""
        view = self.pool.at_resolution(res)
        return CoveredPool(view, -(-self.hidden * view.resolution // self.resolution))

    def read(self, indices: Any) -> Pixels:
        """Return the films at `indices` as `Pool.read`, covered."""
        return cover(self.pool.read(indices), self.hidden)
