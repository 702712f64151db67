"""Write the films of seeds 0 to 63 of a network as one picture, twice their size: `python tools/grid_picture.py nih-64 OUT.png`."""

import sys
from pathlib import Path

import numpy as np

import thiscxr
from thiscxr.data.pixels import make_grid, save_png
from thiscxr.model.conditions import Condition
from thiscxr.sample.sampling import sample_films
from thiscxr.sample.writing import NOTICE

if __name__ == "__main__":
    network = thiscxr.load(sys.argv[1])
    seeds = list(range(64))
    films = np.concatenate(list(sample_films(network, seeds, network.conditions(seeds, Condition()))))
    save_png(Path(sys.argv[2]), make_grid(films.repeat(2, axis=1).repeat(2, axis=2), 8), {"Disclaimer": NOTICE})
