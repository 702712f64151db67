"""The gate: memorised films are not shared, and the table states the distance of each film that is."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from thiscxr import cli
from thiscxr.latent import release as gates
from thiscxr.latent.release import check_release, release
from thiscxr.model.conditions import Condition
from thiscxr.pool import Pool
from thiscxr.sample.sampling import Network, load
from thiscxr.sample.truncation import Truncation


@pytest.fixture(scope="module")
def network() -> Network:
    return load("nih-64")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, network: Network) -> Pool:
    """A pool of the network's own source, in which films of its seeds 0 and 3 stand for training films that it has
    memorised."""
    from thiscxr.labels import FilmRecord, Terms
    from thiscxr.pool.writer import PoolWriter

    path = tmp_path_factory.mktemp("released") / "pool"
    films = network.sample([0, 3, *range(1000, 1238)])
    with PoolWriter(path, 64, 8, {"nih": Terms("NIH", "none", "none", "none", "none")}, b"key") as writer:
        for i, film in enumerate(films):
            writer.add("nih", FilmRecord(str(i), str(i), str(i), str(i), "PA", "F", 50.0, {}), film, (64, 64, 8))
    return Pool.open(path)


def test_memorised_films_are_left_out_and_counted(released: Pool, network: Network) -> None:
    seeds = list(range(8))
    found = release(released, network, seeds, network.conditions(seeds, Condition()), Truncation(1.0))
    assert not {0, 3} & set(found.seeds)
    assert found.num_left_out == 8 - len(found.seeds)
    assert len(found.seeds) >= 5
    assert found.columns["memorised"] == ["false"] * len(found.seeds)


@pytest.mark.parametrize("form", ["png", "dicom"])
def test_from_the_command_line(released: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str) -> None:
    """The gate compares films before the mark is burned into DICOM files: a memorised film with the mark is near no
    real one."""
    out = tmp_path / "films"
    command = [
        "sample",
        "-n",
        "6",
        "--release",
        "--against",
        str(released.path),
        "--superset",
        "--format",
        form,
        "--out",
        str(out),
    ]
    caplog.set_level("INFO", "thiscxr")
    result = CliRunner().invoke(cli.group, command, catch_exceptions=False)
    assert result.exit_code == 0
    assert "of 6 films are left out" in caplog.text
    with open(out / "samples.csv") as file:
        rows = list(csv.DictReader(file))
    assert not {"0", "3"} & {row["seed"] for row in rows}
    assert len(rows) >= 3
    assert sorted(path.name for path in out.glob("seed-*")) == [row["file"] for row in rows]
    assert all(row["memorised"] == "false" and 0 < float(row["nearest"]) < 1 for row in rows)
    assert {row["against"] for row in rows} == {released.meta["fingerprint"]}


@pytest.mark.parametrize(
    "flags", [["--release"], ["--against", "POOL"], ["--superset"], ["--release", "--malformed", "--format", "dicom"]]
)
def test_half_a_gate_is_refused(flags: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.group, ["sample", "-n", "4", *flags, "--out", str(tmp_path / "films")])
    assert result.exit_code == 2, result.output
    assert not (tmp_path / "films").exists()


def test_what_the_gate_refuses(released: Pool, network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="none is left; train on more patients"):
        release(released, network, [0, 3], network.conditions([0, 3], Condition()), Truncation(1.0))
    with monkeypatch.context() as patch:
        patch.setitem(network.info.sources, "mimic-cxr", {"title": "MIMIC-CXR"})
        with pytest.raises(ValueError, match=r"--release is refused: .*MIMIC-CXR"):
            check_release(released, network, False)
        with pytest.raises(ValueError, match="holds no films of mimic-cxr, which the network has learnt from"):
            check_release(released, network, True, superset=True)
    with pytest.raises(
        ValueError, match=r"is not the pool that nih-64 was trained on \(da934d3447bae682\).*or --superset where"
    ):
        check_release(released, network, False)
    check_release(released, network, False, superset=True)
    check_release(
        released, replace(network, info=replace(network.info, pool_fingerprint=released.meta["fingerprint"])), False
    )
    monkeypatch.setattr(
        gates, "audit", lambda pool, films: (_ for _ in ()).throw(ValueError(f"{np.asarray(films).shape}"))
    )
    with pytest.raises(ValueError, match=r"\(1, 64, 64\)"):
        release(released, network, [1], [Condition()], Truncation(1.0))
