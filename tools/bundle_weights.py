"""Add a trained generator, classifier or segmenter to the bundled weights: half precision, hash, one-line summary, list
of the training films.

python tools/bundle_weights.py nih-64 runs/00000-nih-64-64/network-latest.safetensors --summary "64 px, …"
python tools/bundle_weights.py phantom-64 runs/00000-phantom-64 --summary "64 px, …"
python tools/bundle_weights.py thiscxr64 reader.safetensors --summary "reader, …"
python tools/bundle_weights.py lungs64 segmenter.safetensors --summary "segmenter, …"
python tools/bundle_weights.py --films pooled-256 nih=NIH_FOLDER kermany=KERMANY_FOLDER

Of a run folder the discriminator is bundled too, for trainings that continue with it. It can tell its training films
from others better than a generator's films do, so this is for films of no patients.
"""

import argparse
import csv
import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open

from thiscxr.collections import COLLECTIONS
from thiscxr.collections.ids import patient_split
from thiscxr.files import atomic_path, sha256_file
from thiscxr.model.network_file import WEIGHTS, load_network, save_network
from thiscxr.reader.segmenter import load_segmenter, save_segmenter
from thiscxr.reader.training import load_folds, load_reader, write_reader
from thiscxr.train.origin import open_origin


def bundle(name: str, source: Path, summary: str) -> None:
    """Write WEIGHTS/name.safetensors in half precision and its line in weights.json."""
    path, kind = WEIGHTS / f"{name}.safetensors", "generator"
    if source.is_file():
        with safe_open(source, framework="pt") as file:
            kind = json.loads((file.metadata() or {}).get("thiscxr", "{}")).get("kind")
    if source.is_dir():
        run = open_origin(str(source))
        assert run.saved is not None
        info = replace(run.info, name=name, augment_strength=run.saved.strength)
        save_network(path, run.generator, info, torch.float16, run.saved.discriminator)
    elif kind == "generator":
        generator, info = load_network(source)
        save_network(path, generator, replace(info, name=name), torch.float16)
    elif kind == "segmenter":
        segmenter, facts = load_segmenter(source)
        save_segmenter(path, segmenter, facts["judged"], torch.float16)
    else:
        reader, facts = load_reader(source)
        write_reader(path, reader, facts, facts["judged"], load_folds(source), torch.float16)
    table = json.loads((WEIGHTS / "weights.json").read_text())
    table[name] = {"file": path.name, "sha256": sha256_file(path), "kind": kind, "summary": summary}
    with atomic_path(WEIGHTS / "weights.json") as part:
        part.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n")
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, {kind}")


def list_films(name: str, roots: list[str]) -> None:
    """Write the source, file name and split of the films in `roots`, each KEY=FOLDER, as `prepare` took the flags."""
    films = [(key, film) for key, _, root in (each.partition("=") for each in roots)
             for film in sorted(COLLECTIONS[key].read_labels(Path(root)), key=lambda film: film.file)]  # fmt: skip
    # one film in two folders is there once
    rows = {(key, film.file): film.split or patient_split(key, film.patient) for key, film in films}
    with atomic_path(WEIGHTS / f"{name}-films.csv") as part, open(part, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("source", "file", "split"))
        table.writerows((*film, split) for film, split in rows.items())
    print(f"{WEIGHTS / f'{name}-films.csv'}: {len(rows)} films")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("source", nargs="+", help="a file or run folder; with --films KEY=FOLDER, such as nih=NIH")
    parser.add_argument("--summary", default="")
    parser.add_argument("--films", action="store_true", help="write the list of films instead")
    arguments = parser.parse_args()
    if arguments.films:
        list_films(arguments.name, arguments.source)
    else:
        bundle(arguments.name, Path(arguments.source[0]), arguments.summary)
