"""Train variants of a recipe for equal times, score every saved network, and plot distance over wall-clock.

    python benchmarks/learning_curve.py nih-64 --minutes 25 --seeds 0 1 --variant plain --variant best
    python benchmarks/learning_curve.py nih-64 --minutes 9 --variant best --variant "best lr=0.002" --picture curve.png

A variant is the name of a preset ("best": the defaults of the resolution) and any number of key=value. Trainings run
one after another, are resumed when they were stopped, and are not trained again when they are there. `--run FOLDER`
scores a run that was trained before. The distance is that of 2,048 samples of the averaged generator, no truncation, to
all films of the pool, each half of the patients scored by the fold of `thiscxr64` (from 128 px on `thiscxr128`) that
has not seen them: an extractor trained on the generator's training films flatters a generator that memorises them.
`held_out` is that to the held-out patients alone, of whom there are few films. The floor is that of real patients to
other real patients. Prints one JSON line a network. Minutes are those that the steps took: saving, grids and scoring do
not count. Long: the time of the trainings and about 10 s a network.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import ScalarFormatter

from thiscxr.files import check_place
from thiscxr.measures.floor import films_a_side
from thiscxr.measures.frechet import frechet_distance, frechet_scores, moments
from thiscxr.model.network_file import load_network
from thiscxr.pool import Pool
from thiscxr.reader.extractors import Extractor, default_extractor, in_batches, load_extractor
from thiscxr.score.fairness import fair_groups
from thiscxr.score.fakes import open_fakes

SAMPLES = 2048
ROOT = Path(__file__).parents[1]


def train(pool: Pool, variant: str, seed: int, out: Path, minutes: float, save_kimg: float, threads: int) -> Path:
    """Train one variant for that many minutes of wall-clock, or resume it, and return its run folder."""
    preset, *settings = variant.split()
    home = out / f"{variant.replace(' ', '_').replace('=', '-')}-seed{seed}"
    done = home / "minutes.txt"
    if not done.exists():
        command = [
            sys.executable,
            str(ROOT / "train_gan.py"),
            "--data",
            str(pool.path),
            "--res",
            str(pool.resolution),
            "--out",
            str(home),
        ]
        command += ["--minutes", str(minutes), "--kimg", "100000", "--save-kimg", str(save_kimg), "--seed", str(seed)]
        command += [] if preset == "best" else ["--config", preset]
        for setting in (f"threads={threads}", *settings):
            command += ["--set", setting]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        done.write_text(f"{minutes:g}\n")
    return max(home.glob("[0-9]*-*"))


def clock(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return films seen and minutes of stepping, float64 [ticks + 1] both, from the run's stats.jsonl."""
    ticks = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    if any("watch/back_to" in tick for tick in ticks):
        raise SystemExit(f"{run} collapsed and went back: its films do not say how long it took")
    seen = np.array([0, *(tick["images_seen"] for tick in ticks)], dtype=np.float64)
    return seen, np.concatenate([[0.0], np.cumsum(np.diff(seen) / [tick["img_per_sec"] for tick in ticks]) / 60])


# an extractor, the films of the pool that it was not trained on, and their features
Fold = tuple[Extractor, np.ndarray, np.ndarray]


def folds(pool: Pool, extractor: Extractor) -> list[Fold]:
    """Return which extractor scores which real films, with the features of those films."""
    groups = fair_groups(pool, pool.indices("all"), extractor)
    return [(each, rows, each.features(pool.read(some) for some in in_batches(rows))) for each, rows in groups]


def score_run(
    run: Path, every: Pool, pool: Pool, extractor: Extractor, real: list[Fold], name: str, seed: int
) -> list[dict]:
    """Return one record a saved network, oldest first; a network that was scored before is not scored again."""
    log = run / "curve-fair.jsonl"
    known = (
        {record["network_sha256"]: record for record in map(json.loads, log.read_text().splitlines())}
        if log.exists()
        else {}
    )
    seen, minutes = clock(run)
    records = []
    for path in sorted(run.glob("network-[0-9]*.safetensors")):
        with open_fakes(str(path), pool.resolution, SAMPLES, 1.0, "cpu", real=every) as fakes:
            record = known.get(fakes.network_sha256)
            if record is None:
                held = pool.indices("holdout")
                distances: dict[str, list[float]] = {"value": [], "held_out": []}
                for each, rows, features in real:
                    of_fakes = moments(each.features(fakes.pixels[some] for some in in_batches(np.arange(SAMPLES))))
                    distances["value"].append(frechet_distance(*of_fakes, *moments(features)))
                    distances["held_out"].append(frechet_distance(*of_fakes, *moments(features[np.isin(rows, held)])))
                images_seen = load_network(path)[1].images_seen
                record = {
                    "key": f"fd_{extractor.name}_fair", "variant": name, "seed": seed, "images_seen": images_seen,
                    "minutes": round(float(np.interp(images_seen, seen, minutes)), 2),
                    **{what: round(float(np.mean(values)), 3) for what, values in distances.items()},
                    "num_real": [len(rows) for _, rows, _ in real], "num_fake": SAMPLES,
                    "extractor_sha256": extractor.sha256, "network_sha256": fakes.network_sha256,
                }  # fmt: skip
                with open(log, "a") as file:
                    file.write(json.dumps(record) + "\n")
        print(json.dumps(record), flush=True)
        records.append(record)
    return records


def plot(curves: dict[str, list[list[dict]]], floor: float, path: Path) -> None:
    """Plot the distance over minutes, both axes logarithmic: a colour a variant, a line a seed."""
    fig, ax = plt.subplots(figsize=(8, 5), dpi=120)
    for number, (name, runs) in enumerate(curves.items()):
        for i, records in enumerate(runs):
            at = [record["minutes"] for record in records], [record["value"] for record in records]
            ax.plot(
                *at,
                marker="o",
                markersize=3,
                color=f"C{number}",
                label=name if i == 0 else None,
                linestyle=("-", "--", ":")[i % 3],
            )
    ax.axhline(floor, linestyle="--", color="grey", label="floor: real patients against other real patients")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="minutes of training",
        ylabel=f"Fréchet distance of {SAMPLES:,} samples",
    )
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(ScalarFormatter())
    ax.grid(True, which="both", alpha=0.25)
    ax.legend()
    fig.tight_layout()
    fig.savefig(path)


def main() -> None:
    """Train, score, print, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--variant", action="append", default=[])
    parser.add_argument("--run", type=Path, action="append", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--save-kimg", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("curves"))
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    if arguments.picture:
        check_place(arguments.picture)
    every = Pool.open(arguments.pool)
    extractor, pool = load_extractor(default_extractor(every.resolution)), every.at_resolution(every.resolution)
    real = folds(pool, extractor)
    patients = pool.codes("patient")[0]
    sides = [films_a_side(patients[rows]) for _, rows, _ in real]
    floors = [
        frechet_scores(features, patients[rows], features, "real", n=n)[0].floor
        for n, (_, rows, features) in zip(sides, real, strict=True)
    ]
    floor = float(np.mean([each for each in floors if each is not None]))
    print(json.dumps({"floor": round(floor, 3), "films_a_side": sides}), flush=True)
    curves: dict[str, list[list[dict]]] = {}
    for run in arguments.run:
        curves[run.name] = [score_run(run, every, pool, extractor, real, run.name, 0)]
    for seed in arguments.seeds:  # variants side by side in time, so that a slow hour hits all of them
        for variant in arguments.variant:
            run = train(pool, variant, seed, arguments.out, arguments.minutes, arguments.save_kimg, arguments.threads)
            curves.setdefault(variant, []).append(score_run(run, every, pool, extractor, real, variant, seed))
    if arguments.picture:
        plot(curves, floor, arguments.picture)


if __name__ == "__main__":
    main()
