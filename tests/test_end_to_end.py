"""The whole road at 32 px: release -> pool -> training -> samples -> scores -> site, by the commands that a user types."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from thiscxr.pool import Pool

ROOT = Path(__file__).parents[1]
NIH_64 = ROOT.parent / "shared" / "data" / "nih-64"
SMALL = "z_dim=32 w_dim=32 mapping_layers=2 channel_base=256 channel_max=16 batch=16 threads=1"


def thiscxr(*args: object) -> str:
    """Run a command in its own process and return its stdout."""
    result = subprocess.run([sys.executable, "-m", "thiscxr", *map(str, args)], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_from_a_release_to_a_gallery(tmp_path: Path) -> None:
    release, pool, runs, samples, site = (tmp_path / name for name in ("release", "pool", "runs", "samples", "site"))
    thiscxr("phantom", release, "-n", 180, "--res", 32, "--layout", "nih")
    facts = json.loads(thiscxr("describe", "--nih", release, "--labels-only", "--json"))
    assert facts["sources"]["nih"]["released"]["films"] == 180
    thiscxr("prepare", pool, "--nih", release, "--res", 32)
    thiscxr("verify", pool)
    opened = Pool.open(pool)
    assert (opened.num_films, opened.resolution, set(opened.column("view"))) == (180, 32, {"PA", "AP"})

    settings = [flag for setting in SMALL.split() for flag in ("--set", setting)]
    run = Path(thiscxr("train", "--data", pool, "--out", runs, "--kimg", 0.64, *settings).strip())
    names = {path.name for path in run.iterdir()}
    expected = "config.toml env.json log.txt stats.jsonl reals.png fakes-000001.png network-000001.safetensors network-latest.safetensors"
    assert {*expected.split(), "state-latest.pt"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert Path(thiscxr("train", "--data", pool, "--out", runs, "--kimg", 0.64, *settings).strip()) == run, "finished: the same run"

    thiscxr("sample", "--model", run, "-n", 40, "--out", samples, "--view", "PA")
    with open(samples / "samples.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == [str(seed) for seed in range(40)]
    assert {row["view"] for row in rows} == {"PA"}

    reader = tmp_path / "reader.safetensors"
    judged = json.loads(thiscxr("classify", "train", "--data", pool, "--epochs", 1, "--cross-fit", "--out", reader))
    assert judged["films"] == len(opened.indices("holdout"))
    scores = tmp_path / "scores.json"
    arguments = ("--real", pool, "--fake", samples, "--extractor", reader, "--allow-small", "--out", scores, "--json")
    printed = json.loads(thiscxr("score", *arguments))
    assert json.loads(scores.read_text()) == printed
    records = printed["records"]
    fd = records[0]["key"]
    assert re.fullmatch(r"fd_reader_\d+_small", fd)
    assert {record["network_sha256"] for record in records} == {rows[0]["network_sha256"]}

    index = Path(thiscxr("site", "--samples", samples, "--scores", scores, "--out", site).strip())
    assert "not a patient" in index.read_text().lower()
    assert fd in index.with_name("evidence.html").read_text()
    rows = list(csv.DictReader((samples / "samples.csv").read_text().splitlines()))
    assert {"seen", "stranger_rank", "memorised"} <= set(rows[0])
    shown = sum(row["memorised"] != "true" for row in rows)
    assert index.with_name("gallery.html").read_text().count('loading="lazy"') == shown
    assert not list(tmp_path.rglob("*.part")), "nothing half-written is left"


@pytest.mark.skipif(not NIH_64.is_dir(), reason="the NIH subset is not beside this checkout (../shared/data/nih-64)")
def test_real_films_become_a_pool_byte_for_byte(tmp_path: Path) -> None:
    from thiscxr.pixels import load_film

    thiscxr("prepare", tmp_path / "pool", "--nih", NIH_64, "--res", 64)
    pool = Pool.open(tmp_path / "pool")
    assert pool.num_films == 1988
    stored = {pixels.tobytes() for pixels in pool.read(pool.indices("all"))}
    films = sorted((NIH_64 / "images").iterdir())[::40]
    assert all(load_film(path).pixels.tobytes() in stored for path in films)
