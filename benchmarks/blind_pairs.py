"""Can somebody pick the synthetic film of a pair? Pairs of a real and a synthetic film of the same view, as pictures.

    python benchmarks/blind_pairs.py make POOL MODEL pairs -n 60
    python benchmarks/blind_pairs.py mark pairs answers-1.csv answers-2.csv answers-3.csv

`make` writes pairs/films/00.png and so on, the two films side by side, each enlarged to 512 px, and the truth to
pairs/key.json, which no reader may see. Real films are of held-out patients, one a patient; synthetic ones have the
conditions of these very films. Answers have the columns pair and synthetic (left or right). `mark` prints one JSON line
a reader and one for all; the interval for all resamples pairs and readers.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from thiscxr.measures.resampling import wilson
from thiscxr.pixels import save_png
from thiscxr.pool import Pool
from thiscxr.sample.sampling import load, request, sample_films

RES, GAP = 512, 16


def make(pool_path: Path, model: str, out: Path, n: int, seed: int) -> None:
    """Write n pairs and their key."""
    network = load(model)
    pool, rng = Pool.open(pool_path).at_resolution(network.info.architecture.res), np.random.default_rng(seed)
    known = network.info.vocabulary
    rows = rng.permutation(pool.indices("holdout"))
    rows = rows[[view in known.views for view in pool.column("view")[rows]]]
    first = np.unique(pool.codes("patient")[0][rows], return_index=True)[1]
    rows = rows[np.sort(first)][:n]
    if len(rows) < n:
        raise SystemExit(f"{pool_path} has {len(rows)} held-out patients with films that the network can be asked for")
    views, sources = pool.column("view")[rows], pool.column("source")[rows]
    asked = [
        request(view=view, source=source if source in known.sources else None)
        for view, source in zip(views, sources, strict=True)
    ]
    seeds = rng.choice(2**31, n, replace=False).tolist()
    fakes = np.concatenate(list(sample_films(network, seeds, asked)))
    left = rng.random(n) < 0.5  # the synthetic film
    (out / "films").mkdir(parents=True)
    for i, (real, fake) in enumerate(zip(pool.read(rows), fakes, strict=True)):
        pair = [np.asarray(Image.fromarray(film).resize((RES, RES), Image.Resampling.BICUBIC)) for film in (fake, real)]
        gap = np.full((RES, GAP), 255, np.uint8)
        save_png(out / "films" / f"{i:02}.png", np.hstack([pair[0 if left[i] else 1], gap, pair[1 if left[i] else 0]]))
    key = [
        {
            "pair": i,
            "synthetic": "left" if left[i] else "right",
            "seed": seeds[i],
            "view": views[i],
            "source": sources[i],
        }
        for i in range(n)
    ]
    (out / "key.json").write_text(json.dumps({"network": network.sha256, "pairs": key}, indent=1) + "\n")


def mark(out: Path, answers: list[Path]) -> None:
    """Print how often the synthetic film was picked."""
    key = {each["pair"]: each["synthetic"] for each in json.loads((out / "key.json").read_text())["pairs"]}
    right = []
    for path in answers:
        with path.open(newline="") as file:
            given = {int(row["pair"]): row["synthetic"].strip().lower() for row in csv.DictReader(file)}
        if given.keys() != key.keys() or not set(given.values()) <= {"left", "right"}:
            raise SystemExit(f"{path} has no answer left or right for each of the {len(key)} pairs")
        right.append([given[pair] == truth for pair, truth in key.items()])
        share = float(np.mean(right[-1]))
        ci95 = [round(float(edge), 3) for edge in wilson(share, len(key))]
        print(json.dumps({"reader": path.stem, "picked": round(share, 3), "ci95": ci95, "pairs": len(key)}))
    table, rng = np.array(right, float), np.random.default_rng(0)
    rounds = [
        table[np.ix_(rng.integers(len(table), size=len(table)), rng.integers(len(key), size=len(key)))].mean()
        for _ in range(4000)
    ]
    print(
        json.dumps(
            {
                "reader": "all",
                "picked": round(float(table.mean()), 3),
                "ci95": np.quantile(rounds, [0.025, 0.975]).round(3).tolist(),
                "pairs": len(key),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("pool", type=Path)
    making.add_argument("model", help="a run folder, a network file or a name")
    making.add_argument("out", type=Path)
    making.add_argument("-n", type=int, default=60)
    making.add_argument("--seed", type=int, default=0)
    marking = commands.add_parser("mark")
    marking.add_argument("out", type=Path)
    marking.add_argument("answers", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "make":
        make(arguments.pool, arguments.model, arguments.out, arguments.n, arguments.seed)
    else:
        mark(arguments.out, arguments.answers)


if __name__ == "__main__":
    main()
