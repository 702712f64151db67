"""Score every saved network of a run against a pool, and draw the curve.

    python benchmarks/learning_curve.py runs/00000-nih-64-64 pool --picture docs/pictures/nih-64-curve.png

Prints one JSON line a network and appends it to the run's scores.jsonl; a network that is there already is not scored again. About 15
seconds a network at 64 px on two cores.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import ScalarFormatter

from thiscxr.data.pool import Pool
from thiscxr.score import panel
from thiscxr.score.extractors import DEFAULT, load_extractor
from thiscxr.train.runs import load_network


def score_run(run: Path, pool: Pool, extractor_name: str) -> list[dict]:
    """Return one record a saved network, oldest first, each with its images_seen."""
    extractor = load_extractor(extractor_name)
    log = run / "scores.jsonl"
    known = {r["network_sha256"]: r for r in map(json.loads, log.read_text().splitlines())} if log.exists() else {}
    records = []
    for path in sorted(run.glob("network-[0-9]*.safetensors")):
        fakes = panel.open_fakes(str(path), pool.resolution, panel.films_a_side(pool, "all"), 1.0, "cpu")
        record = known.get(fakes.network_sha256 or "")
        if record is None or record["extractor_sha256"] != extractor.sha256:
            (record,) = panel.score(pool, fakes, extractor)
            record["images_seen"] = load_network(path)[1].images_seen
            with open(log, "a") as file:
                file.write(json.dumps(record) + "\n")
        print(json.dumps(record), flush=True)
        records.append(record)
    return records


def draw(records: list[dict], path: Path) -> None:
    """Draw value, interval and floor over the films seen, both axes logarithmic."""
    kimg = [record["images_seen"] / 1000 for record in records]
    fig, ax = plt.subplots(figsize=(7, 4), dpi=120)
    ax.fill_between(kimg, [max(r["ci95"][0], 0.1) for r in records], [r["ci95"][1] for r in records], alpha=0.2, label="95 % interval")
    ax.plot(kimg, [r["value"] for r in records], marker="o", label=records[0]["key"])
    ax.axhline(records[-1]["floor"], linestyle="--", color="grey", label="floor: real patients against other real patients")
    ax.set(xscale="log", yscale="log", xlabel="training films seen (thousand)", ylabel="Fréchet distance")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(ScalarFormatter())
    ax.grid(True, which="both", alpha=0.25)
    ax.legend()
    fig.tight_layout()
    fig.savefig(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("pool", type=Path)
    parser.add_argument("--extractor", default=DEFAULT)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    scores = score_run(arguments.run, Pool.open(arguments.pool), arguments.extractor)
    if arguments.picture:
        draw(scores, arguments.picture)
