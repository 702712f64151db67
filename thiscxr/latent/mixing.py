"""Style mixing: some layers of one film's style, the other layers of another film's (Karras et al. 2019,
arXiv:1812.04948, section 3.1)."""

import re
from collections.abc import Sequence

import numpy as np

from thiscxr.marks import NOTICE
from thiscxr.model.conditions import Condition
from thiscxr.pixels.drawing import LEAST_SIDE, draw_sheet, enlarge
from thiscxr.sample.sampling import Network, draw_styles, noises_of, styles_of, to_pixels
from thiscxr.sample.truncation import Truncation
from thiscxr.sample.writing import spell_ranges

MOST_FILMS = 1024  # of a grid


def parse_layers(text: str, num_ws: int) -> list[int]:
    """Return the layers of "0-3" or "0,2-4"; ranges are inclusive and open to the end without a last layer.

    Raises ValueError for other text, for layers that the network does not have, and when all layers are named, which
    mixes nothing.
    """
    layers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})\s*(?:(-)\s*(\d{1,3})?)?\s*", part)
        if not match:
            raise ValueError(f"--layers {text}: '{part.strip()}' is not a layer or a range such as 0-3")
        first = int(match[1])
        last = int(match[3]) if match[3] else num_ws - 1 if match[2] else first
        if not first <= last < num_ws:
            raise ValueError(
                f"--layers {text}: layers {first} to {last} are not all among this network's 0 to {num_ws - 1}"
            )
        layers.update(range(first, last + 1))
    if len(layers) == num_ws:
        raise ValueError(
            f"--layers {text} are all layers of this network, so the columns would contribute nothing; leave some out"
        )
    return sorted(layers)


def mix_films(
    network: Network,
    rows: Sequence[int],
    columns: Sequence[int],
    layers: Sequence[int],
    requested: Condition,
    truncation: Truncation,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the films of the rows' seeds [r], of the columns' seeds [c], and their mixtures [r, c], each uint8 [...,
    res, res].

    A mixture has the row's style in `layers` and the column's in all others, and the column's noise, which belongs to
    the fine texture. Raises ValueError for more than MOST_FILMS films.
    """
    if len(rows) * len(columns) > MOST_FILMS:
        raise ValueError(
            f"{len(rows)} rows and {len(columns)} columns are "
            f"{len(rows) * len(columns)} films; a grid holds {MOST_FILMS}"
        )
    of_rows, of_columns = (
        styles_of(network, seeds, network.conditions(seeds, requested), truncation) for seeds in (rows, columns)
    )
    ws = of_columns.repeat(len(rows), 1, 1)
    ws[:, list(layers)] = of_rows.repeat_interleave(len(columns), 0)[:, list(layers)]
    noises = [noise.repeat(len(rows), 1, 1, 1) for noise in noises_of(network, columns)]
    films = [
        np.concatenate([to_pixels(images) for images in draw_styles(network, some, noise)])
        for some, noise in (
            (of_rows, noises_of(network, rows)), (of_columns, noises_of(network, columns)), (ws, noises),
        )
    ]  # fmt: skip
    return films[0], films[1], films[2].reshape(len(rows), len(columns), *films[2].shape[1:])


def mixing_grid(
    films: tuple[np.ndarray, np.ndarray, np.ndarray], rows: Sequence[int], columns: Sequence[int], layers: Sequence[int]
) -> np.ndarray:
    """Return what `mix_films` gave as one picture, uint8 [h, w], with the seeds as captions."""
    left, top, mixed = (enlarge(some, LEAST_SIDE) for some in films)
    pictures = [[None, *top], *([film, *line] for film, line in zip(left, mixed, strict=True))]
    captions = [["", *(f"seed {seed}" for seed in columns)]]
    captions += [[f"seed {seed}", *(f"{seed} + {other}" for other in columns)] for seed in rows]
    head = f"layers {spell_ranges(layers)} from the rows, all others from the columns"
    return draw_sheet(pictures, captions, [head], [NOTICE])
