"""Duplicates across collections: found when a pool is made, listed, and never in both splits."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thiscxr.collections.ids import patient_split
from thiscxr.files import sha256_file
from thiscxr.phantom.releases import write_layout
from thiscxr.pixels import load_film, save_png
from thiscxr.pool import Pool, verify_pool
from thiscxr.pool.prepare import prepare


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Path:
    """A phantom NIH release, and a folder that holds ten of its films again as other people would have them."""
    root = tmp_path_factory.mktemp("duplicates")
    write_layout(root / "nih", "nih", 30, 128)
    (root / "copies").mkdir()
    for number, path in enumerate(sorted((root / "nih" / "images").iterdir())[:10]):
        film = load_film(path).pixels
        if number < 3:
            save_png(root / "copies" / f"{number}.png", film)
        elif number < 6:
            save_png(root / "copies" / f"{number}.png", np.rint(255 * (film / 255.0) ** 0.8).astype(np.uint8))
        else:
            buffer = io.BytesIO()
            Image.fromarray(film).save(buffer, "JPEG", quality=80)
            (root / "copies" / f"{number}.jpg").write_bytes(buffer.getvalue())
    summary = prepare(root / "pool", [("nih", root / "nih"), ("folder", root / "copies")], 128, key_file=root / "key")
    assert f"duplicates: {summary.num_duplicates} films, listed in duplicates.csv" in str(summary)
    return root / "pool"


def test_every_planted_copy_is_listed_with_its_original_and_nothing_else(pool):
    with open(pool / "duplicates.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    opened = Pool.open(pool)
    facts = {
        name: dict(zip(opened.column("film_id"), opened.column(name), strict=True)) for name in ("source", "patient")
    }
    groups: dict[str, list[str]] = {}
    kinds: dict[str, list[str]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row["film_id"])
        kinds.setdefault(row["group"], []).append(row["kind"])
        assert 0.9 < float(row["correlation"]) <= 1
    planted = [
        group for group, films in groups.items() if {facts["source"][film] for film in films} == {"nih", "folder"}
    ]
    # Two frontal films of one phantom body differ by their noise and a few millimetres only: those, and no others, may
    # be listed too.
    for group in groups.keys() - set(planted):
        assert len({facts["patient"][film] for film in groups[group]}) == 1
    assert len(planted) == 10
    assert all(kinds[group][0] == "first" and facts["source"][groups[group][0]] == "nih" for group in planted)
    assert sorted(kinds[group][1] for group in planted) == ["exact"] * 3 + ["near"] * 7
    assert opened.meta["counts"]["duplicate_groups"] == len(groups)


def test_no_group_is_in_both_splits_though_its_patients_would_be(pool):
    opened = Pool.open(pool)
    split = dict(zip(opened.column("film_id"), opened.column("split"), strict=True))
    with open(pool / "duplicates.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["group"], set()).add(split[row["film_id"]])
    assert all(len(found) == 1 for found in splits.values())
    own = {patient_split("folder", f"copies/{number}.{'png' if number < 6 else 'jpg'}") for number in range(10)}
    assert own == {"train", "holdout"}, "the copies must be of patients in both splits, or this proves nothing"
    assert verify_pool(pool) == []


def test_verify_finds_a_group_in_both_splits(pool, tmp_path):
    shutil.copytree(pool, tmp_path / "pool")
    opened = Pool.open(pool)
    splits = opened.column("split")
    one, other = (opened.column("film_id")[np.flatnonzero(splits == split)[0]] for split in ("train", "holdout"))
    table = tmp_path / "pool" / "duplicates.csv"
    table.write_text(f"film_id,group,kind,correlation\n{one},0,first,1\n{other},0,near,0.99\n")
    meta = json.loads((tmp_path / "pool" / "pool.json").read_text())
    meta["files"]["duplicates.csv"] = sha256_file(table)
    (tmp_path / "pool" / "pool.json").write_text(json.dumps(meta))
    assert verify_pool(tmp_path / "pool") == ["duplicates.csv: 1 groups of duplicates are in both splits"]
