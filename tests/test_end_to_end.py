"""The whole road at 32 px: release -> pool -> training -> samples -> scores -> site, by the commands that a user
types."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_cli import run as run_command
from thiscxr.pool import Pool

ROOT = Path(__file__).parents[1]
SMALL = "z_dim=32 w_dim=32 mapping_layers=2 channel_base=256 channel_max=16 batch=16 threads=1"


@pytest.mark.slow
def test_from_a_release_to_a_gallery(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def thiscxr(*args: object) -> str:
        """Run a command and return its stdout."""
        code, out, err = run_command(capsys, *args)
        assert code == 0, err[-3000:]
        return out

    release, pool, runs, samples, site = (tmp_path / name for name in ("release", "pool", "runs", "samples", "site"))
    thiscxr("phantom", release, "-n", 180, "--res", 32, "--layout", "nih")
    facts = json.loads(thiscxr("describe", "--nih", release, "--labels-only", "--json"))
    assert facts["sources"]["nih"]["released"]["films"] == 180
    thiscxr("prepare", pool, "--nih", release, "--res", 32)
    # One in a process of its own; the others would spend most of their time on starting one.
    subprocess.run([sys.executable, "-m", "thiscxr", "verify", pool], cwd=ROOT, check=True)
    opened = Pool.open(pool)
    assert (opened.num_films, opened.resolution, set(opened.column("view"))) == (180, 32, {"PA", "AP"})

    settings = [flag for setting in SMALL.split() for flag in ("--set", setting)]
    run = Path(thiscxr("train", "--data", pool, "--out", runs, "--kimg", 0.64, *settings).strip())
    names = {path.name for path in run.iterdir()}
    expected = (
        "config.toml env.json log.txt stats.jsonl reals.png fakes-000001.png "
        "network-000001.safetensors network-latest.safetensors"
    )
    assert {*expected.split(), "state-latest.pt"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert Path(thiscxr("train", "--data", pool, "--out", runs, "--kimg", 0.64, *settings).strip()) == run, (
        "finished: the same run"
    )

    thiscxr("sample", "--model", run, "-n", 40, "--out", samples, "--view", "PA")
    with open(samples / "samples.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == [str(seed) for seed in range(40)]
    assert {row["view"] for row in rows} == {"PA"}

    reader = tmp_path / "reader.safetensors"
    summary = json.loads(thiscxr("classify", "train", "--data", pool, "--epochs", 1, "--cross-fit", "--out", reader))
    assert (summary["films"], summary["held_out"]["films"]) == (len(opened), len(opened.indices("holdout")))
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
