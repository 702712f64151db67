"""Sample folders: every format, a job that resumes after a kill or a full disk, labelled sets."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from thiscxr.labels import POSITIVE
from thiscxr.model.conditions import Condition
from thiscxr.pixels import load_film, read_png_text
from thiscxr.sample import formats, writing
from thiscxr.sample.dicom import DicomOptions, dicom_format
from thiscxr.sample.formats import FORMATS
from thiscxr.sample.plan import plan_seeds, read_plan
from thiscxr.sample.sampling import Network, sample_images
from thiscxr.sample.truncation import parse_truncation

ASKED = Condition(view="PA", findings={"Effusion": POSITIVE})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write(
    network: Network, n: int, out: Path, form: formats.Format = formats.PNG, **options: object
) -> dict[str, bytes]:
    seeds = list(range(n))
    writing.write_samples(network, seeds, network.conditions(seeds, Condition()), 1.0, out, form, **options)
    return contents(out)


def test_sixteen_bits_are_of_the_network_and_not_of_eight(network: Network, tmp_path: Path) -> None:
    writing.write_samples(network, [3], [ASKED], 1.0, tmp_path / "out", FORMATS["png16"])
    pixels = load_film(tmp_path / "out" / "seed-00000003.png", stretch=False).pixels
    assert pixels.dtype == np.uint16
    images = next(sample_images(network, [3], [ASKED]))[0, 0].numpy()
    exact = np.clip((images.astype(np.float64) + 1) / 2 * 65535, 0, 65535)
    assert abs(pixels - exact).max() < 1
    assert len(np.unique(pixels)) > 400, "more greys than 8 bits have"
    inside = pixels[(pixels > 0) & (pixels < 65535)]
    assert (inside % 257 != 0).mean() > 0.9


def test_arrays_hold_films_and_what_was_requested(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "MAX_SHARD_FILMS", 64)
    files = write(network, 100, tmp_path / "out", FORMATS["npz"])
    assert sorted(files) == ["films-00000.npz", "films-00001.npz", "grid.png", "network.json", "samples.csv"]
    with np.load(tmp_path / "out" / "films-00001.npz", allow_pickle=False) as archive:
        arrays = dict(archive)
    assert arrays["films"].shape == (36, 32, 32)
    assert arrays["seed"].tolist() == list(range(64, 100))
    drawn = network.conditions(range(64, 100), Condition())
    assert arrays["view"].tolist() == [condition.view for condition in drawn]
    assert arrays["findings"].tolist() == ["|".join(condition.present) for condition in drawn]
    assert arrays["network_sha256"] == network.sha256
    assert "not a patient" in str(arrays["notice"])
    expected = next(sample_images(network, range(64, 100), drawn))
    assert abs(arrays["films"].astype(float) - np.clip(expected[:, 0].numpy() * 127.5 + 127.5, 0, 255)).max() <= 1
    with open(tmp_path / "out" / "samples.csv", newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["films-00000.npz"] * 64 + ["films-00001.npz"] * 36


def test_tars_are_as_webdataset_reads_them(network: Network, tmp_path: Path) -> None:
    files = write(network, 5, tmp_path / "out", FORMATS["wds"])
    with tarfile.open(tmp_path / "out" / "films-00000.tar") as tar:
        names = tar.getnames()
        assert names == [f"seed-{i:08d}{suffix}" for i in range(5) for suffix in (".png", ".json")]
        facts = json.load(tar.extractfile("seed-00000002.json"))
        assert {member.mtime for member in tar.getmembers()} == {0}
        (tmp_path / "film.png").write_bytes(tar.extractfile("seed-00000002.png").read())
    condition = network.conditions([2], Condition())[0]
    assert facts["seed"] == 2
    assert facts["labels"]["view"] == condition.view
    assert facts["labels"]["Effusion"] == int("Effusion" in condition.present)
    assert "not a patient" in facts["notice"]
    assert read_png_text(tmp_path / "film.png")["Seed"] == "2"
    assert write(network, 5, tmp_path / "again", FORMATS["wds"]) == files, "the same films are the same bytes"


def test_shards_are_bounded_and_hold_whole_steps() -> None:
    for res in (32, 64, 256, 1024):
        films = FORMATS["wds"].films_a_file(res)
        assert films % formats.BATCH == 0
        assert films == formats.BATCH or films * res * res <= formats.MAX_SHARD_BYTES
    assert FORMATS["png"].films_a_file(1024) == 1


def test_a_truncation_by_layer_is_in_the_table(network: Network, tmp_path: Path) -> None:
    writing.write_samples(network, [0], [ASKED], parse_truncation("0.5:0-3"), tmp_path / "out")
    with open(tmp_path / "out" / "samples.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["truncation"], row["truncation_layers"]) == ("", "0.5:0-3"), "no single number would be true"
    assert read_png_text(tmp_path / "out" / "seed-00000000.png")["Truncation"] == "0.5:0-3"
    with pytest.raises(ValueError, match="not all among this network's 0 to 7"):
        writing.write_samples(network, [0], [ASKED], parse_truncation("0.5:0-30"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from thiscxr.model.conditions import Condition
from thiscxr.sample import writing
from thiscxr.sample.formats import FORMATS
from thiscxr.sample.sampling import load
import torch
torch.set_num_threads(1)
after, name, out = int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
real, written = os.replace, []
def replace(source, target):
    real(source, target)
    written.append(target)
    if len(written) == after:
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
network = load(sys.argv[1])
writing.write_samples(network, range(300), network.conditions(range(300), Condition()), 1.0, out, FORMATS[name])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
@pytest.mark.parametrize(("name", "after"), [("png", 150), ("npz", 2)])
def test_a_killed_job_resumes_to_the_same_bytes(
    network: Network, network_file: Path, tmp_path: Path, name: str, after: int
) -> None:
    out = tmp_path / "killed"
    result = subprocess.run(
        [sys.executable, "-c", KILLED, network_file, str(after), name, out], capture_output=True, text=True
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert not out.exists(), "nothing half-written has the name of the result"
    part = tmp_path / ".killed.part"
    before = {path.name: path.stat().st_mtime_ns for path in part.glob("*.png")}
    assert len(before) >= (100 if name == "png" else 1)
    (part / ".seed-00000299.png.part").write_bytes(b"cut off")
    if name == "png":
        (part / "seed-00000001.png").write_bytes(b"")  # what a power cut leaves
    kept = []
    real_take_up = writing._take_up

    def take_up(folder: Path, *rest: object) -> None:
        real_take_up(folder, *rest)
        kept.append({path.name for path in folder.iterdir()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "_take_up", take_up)
        assert write(network, 300, out, FORMATS[name]) == write(network, 300, tmp_path / "undisturbed", FORMATS[name])
    assert kept[0] >= before.keys(), "what was written is kept"
    assert not part.exists()


def test_another_job_does_not_resume_from_what_is_there(network: Network, tmp_path: Path) -> None:
    part = tmp_path / ".out.part"
    part.mkdir()
    (part / "job").write_text("of another network")
    (part / "seed-00000001.png").write_bytes(b"of another network")
    assert write(network, 3, tmp_path / "out") == write(network, 3, tmp_path / "fresh")


def test_a_full_disk_leaves_the_old_samples_and_the_same_call_resumes(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "samples"
    before = write(network, 1, out)
    real, written = os.replace, []

    def full(source: Path, target: Path) -> None:
        if Path(target).name.startswith("seed-"):
            if len(written) == 80:
                raise OSError(errno.ENOSPC, "No space left on device", str(target))
            written.append(target)
        real(source, target)

    monkeypatch.setattr(writing.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write(network, 200, out)
    assert contents(out) == before
    monkeypatch.undo()
    assert not list((tmp_path / ".samples.part").glob("*.part")), "nothing half-written"
    assert len(list((tmp_path / ".samples.part").glob("seed-*.png"))) == 80
    assert write(network, 200, out) == write(network, 200, tmp_path / "undisturbed")


def test_a_file_that_arrives_meanwhile_is_not_lost(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "samples"
    write(network, 1, out)
    real = writing._write_tables

    def meanwhile(*args: object) -> None:
        real(*args)
        (out / "thesis.docx").write_text("precious")

    monkeypatch.setattr(writing, "_write_tables", meanwhile)
    with pytest.raises(OSError, match=r"holds 'thesis.docx', which is not a sample"):
        write(network, 2, out)
    assert (out / "thesis.docx").read_text() == "precious"


def plan(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_plan_becomes_a_labelled_set(network: Network, tmp_path: Path) -> None:
    path = plan(
        tmp_path / "plan.csv",
        "view,age_years,findings,no_findings,n\nPA,70,Effusion,,2\nAP,,,Effusion,1\nPA,,,,0\n,,,,1\n",
    )
    conditions = read_plan(path, network.info.vocabulary)
    assert [condition.view for condition in conditions] == ["PA", "PA", "AP", None]
    out = tmp_path / "out"
    writing.write_samples(network, plan_seeds(None, 4), conditions, 1.0, out, labels=True)
    names = ["labels.csv", "metadata.csv", "network.json", "samples.csv", *(f"seed-{i:08d}.png" for i in range(4))]
    assert sorted(path.name for path in out.iterdir()) == names, (
        "no grid: a reader of image folders would take it for a film"
    )
    for table, key in (("labels.csv", "file"), ("metadata.csv", "file_name")):
        with open(out / table, newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row[key] for row in rows] == names[4:]
        assert [row["Effusion"] for row in rows] == ["1", "1", "0", ""]
        assert [row["age_years"] for row in rows] == ["70.0", "70.0", "", ""]
    writing.write_samples(network, plan_seeds([5, 6, 7, 8], 4), conditions, 1.0, out, FORMATS["wds"], labels=True)
    assert sorted(path.name for path in out.iterdir()) == [
        "films-00000.tar",
        "labels.csv",
        "network.json",
        "samples.csv",
    ]
    with pytest.raises(ValueError, match="requests 4 films, but --seeds names 2"):
        plan_seeds([1, 2], 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("view,findigns,n\nPA,,1\n", r"unknown column 'findigns' \(did you mean 'findings'\?\)"),
        ("view\nPA\n", "no column 'n'"),
        ("view,n\nPA,two\n", "line 2: n is 'two'"),
        ("view,n\nPA,-1\n", "line 2: n is '-1'"),
        ("view,n\nPA,1\nPA,1,1\n", "line 3: more cells"),
        ("view,n\nPA,0\n", "requests no film"),
        ("", "no column 'n'"),
        ("view,n\nPA,999999999\n", "line 2: the plan requests more than 10,000,000"),
        (
            "findings,no_findings,n\nEffusion,Effusion,1\n",
            "line 2: finding 'Effusion' is requested both present and absent",
        ),
        ("findings,n\nNo Finding|Effusion,1\n", "line 2: 'No Finding' and finding 'Effusion'"),
        ("findings,n\nHernia,1\n", "line 2: finding 'Hernia' was not learnt"),
        ("view,n\nLL,1\n", "line 2: view 'LL' was not learnt"),
        ("age_years,n\nold,1\n", "line 2: age_years is 'old'"),
        ("age_years,n\n300,1\n", "line 2: age 300 is out of range"),
    ],
)
def test_bad_plans_are_refused_with_their_line(network: Network, tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_plan(plan(tmp_path / "plan.csv", text), network.info.vocabulary)


def test_a_plan_that_cannot_be_read_is_refused(network: Network, tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00n")
    for name in ("none.csv", "binary.csv"):
        with pytest.raises(ValueError, match="cannot be read as a CSV table"):
            read_plan(tmp_path / name, network.info.vocabulary)


def test_dicom_films_go_through_the_same_writer(network: Network, tmp_path: Path) -> None:
    files = write(network, 3, tmp_path / "out", dicom_format(DicomOptions()))
    assert sorted(files) == ["grid.png", "network.json", "samples.csv", *(f"seed-{i:08d}.dcm" for i in range(3))]
    assert write(network, 3, tmp_path / "again", dicom_format(DicomOptions())) == files, (
        "the same films are the same bytes"
    )


def test_a_disk_that_is_full_at_the_very_end_costs_nothing(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write(network, 70, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(
            writing,
            "_bring_to_disk",
            lambda folder: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")),
        )
        with pytest.raises(OSError, match="No space"):
            write(network, 70, tmp_path / "out")
    drawn: list[int] = []

    def counted(network: Network, seeds: list[int], *rest: object) -> object:
        drawn.extend(seeds)
        return sample_images(network, seeds, *rest)

    monkeypatch.setattr(writing, "sample_images", counted)
    assert write(network, 70, tmp_path / "out") == whole
    assert drawn == []


def test_a_labelled_set_does_not_resume_from_a_plain_one(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(writing, "_write_tables", lambda *rest: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write(network, 3, tmp_path / "out")
    (tmp_path / ".out.part" / "folder").mkdir()
    assert (tmp_path / ".out.part" / "grid.png").is_file()
    assert "grid.png" not in write(network, 3, tmp_path / "out", labels=True)
    assert "folder" not in contents(tmp_path / "out")


def test_more_columns_are_in_the_table_from_the_first(network: Network, tmp_path: Path) -> None:
    write(network, 3, tmp_path / "out", columns={"nearest": ["a", "b", "c"]})
    with open(tmp_path / "out" / "samples.csv", newline="") as file:
        assert [(row["seed"], row["nearest"]) for row in csv.DictReader(file)] == [("0", "a"), ("1", "b"), ("2", "c")]


def test_what_would_lose_a_film_or_a_file_is_refused(network: Network, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no seeds"):
        writing.write_samples(network, [], [], 1.0, tmp_path / "none")
    with pytest.raises(ValueError, match="a seed is there twice for one view"):
        writing.write_samples(network, [1, 1], [Condition(sex="F"), Condition(sex="M")], 1.0, tmp_path / "twice")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "labels.csv").write_text("my own labels")
    with pytest.raises(ValueError, match=r"holds 'labels\.csv', which is not a sample"):
        writing.write_samples(network, [1], [Condition()], 1.0, tmp_path / "mine")
    assert (tmp_path / "mine" / "labels.csv").read_text() == "my own labels"


def test_a_folder_without_a_name_is_refused(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for out in (Path(), Path("..")):
        with pytest.raises(ValueError, match=r"give the name of a folder|which is not a sample"):
            writing.write_samples(network, [1], [Condition()], 1.0, out)
    assert list(tmp_path.iterdir()) == []
