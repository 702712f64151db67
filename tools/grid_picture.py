"""Write the films of seeds 0 to 63 of a network as one picture, below 256 px twice their size: `python
tools/grid_picture.py nih-64 OUT.png`."""

import argparse
from pathlib import Path

import numpy as np

from thiscxr.model.conditions import Condition
from thiscxr.pixels import make_grid, save_png
from thiscxr.sample.provenance import grid_text, origin_of
from thiscxr.sample.sampling import load, sample_films


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="FILE, NAME or RUN")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    network, seeds = load(arguments.model), list(range(64))
    films = np.concatenate(list(sample_films(network, seeds, network.conditions(seeds, Condition()))))
    times = 2 if films.shape[-1] < 256 else 1
    films = films.repeat(times, axis=1).repeat(times, axis=2)
    save_png(arguments.out, make_grid(films, 8), grid_text(origin_of(network)))


if __name__ == "__main__":
    main()
