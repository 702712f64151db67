"""The probe: its arithmetic by hand, its steps on the real pool, and that it leaves nothing behind."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.train.test_loop import small
from thiscxr.cli import group
from thiscxr.config import Config
from thiscxr.pool import Pool
from thiscxr.train.growth import stage
from thiscxr.train.probe import Cost, describe_costs, format_time, probe, reached, spread
from thiscxr.train.training import Training

CONFIG = Config(res=64, grow_from=16, grow_kimg=20, kimg=100, batch=20, r1_interval=4).resolve("cpu", 1)
# By hand: (3 × 2 s + 1 × 10 s) / 4 / 20 films = 0.2 s a film at 16 px, and so on.
COSTS = [Cost(16, 2.0, 10.0, 10**9), Cost(32, 4.0, 20.0, 2 * 10**9), Cost(64, 8.0, 40.0, 3 * 10**9)]


def test_films_are_spread_over_the_resolutions_by_hand() -> None:
    assert spread(CONFIG, 100_000) == [(16, 20_000), (32, 20_000), (64, 60_000)]
    assert spread(CONFIG, 30_000) == [(16, 20_000), (32, 10_000)]
    assert spread(CONFIG, 20_000) == [(16, 20_000)]
    assert spread(replace(CONFIG, grow_from=0), 100_000) == [(64, 100_000)]
    assert spread(replace(CONFIG, grow_kimg=0.0), 100_000) == [(64, 100_000)]
    resting = replace(CONFIG, init_sha256="f", rest_kimg=10.0)
    assert spread(resting, 100_000) == [(16, 30_000), (32, 20_000), (64, 50_000)]


@given(
    seen=st.integers(0, 120_000),
    grow_kimg=st.floats(0.1, 60),
    first=st.sampled_from([0, 8, 16, 32, 64]),
    init=st.booleans(),
)
def test_the_spread_is_that_of_the_schedule(seen: int, grow_kimg: float, first: int, init: bool) -> None:
    config = replace(CONFIG, grow_kimg=grow_kimg, grow_from=first, init_sha256="f" * init)
    until = 0.0
    for res, films in spread(config, 121_000):
        until += films
        if seen < until - 1:
            assert stage(config, seen).res <= res
            break
        if seen > until + 1 and res < 64:
            assert stage(config, seen).res > res


def test_costs_and_what_time_is_enough_for_by_hand() -> None:
    assert [cost.film_sec(CONFIG) for cost in COSTS] == pytest.approx([0.2, 0.4, 0.8])
    # 20,000 films at 0.2 s are 66.7 minutes, 20,000 at 0.4 s are 133.3.
    assert reached(replace(CONFIG, minutes=10), COSTS) == (pytest.approx(3000), 16)
    assert reached(replace(CONFIG, minutes=100), COSTS) == (pytest.approx(25_000), 32)
    assert reached(replace(CONFIG, minutes=240), COSTS) == (pytest.approx(43_000), 64)
    assert reached(replace(CONFIG, minutes=10_000), COSTS) == (pytest.approx(100_000), 64), "not more than kimg"
    lines = describe_costs(replace(CONFIG, minutes=100), COSTS)
    assert lines[1].split() == ["16", "px", "5.0", "img/s", "1.00", "GB", "20", "kimg", "in", "66.7", "min"]
    assert lines[-2] == "100 kimg take about 16.7 h"
    assert lines[-1] == "--minutes 100 is enough for about 25 kimg, which ends at 32 px"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (120, "2.0 min"), (7200, "2.0 h"), (86400 * 3.5, "3.5 days")]
)
def test_a_time_is_given_in_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


def test_three_real_steps_a_resolution_one_of_them_with_r1(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, bool]] = []
    step = Training.step

    def watched(training: Training) -> dict[str, float]:
        losses = step(training)
        taken.append((stage(training.config, training.images_seen).res, "loss/R1" in losses))
        return losses

    monkeypatch.setattr(Training, "step", watched)
    monkeypatch.chdir(tmp_path)
    lines = probe(small(pool, tmp_path), pool)
    assert taken == [(16, False), (16, True), (16, False), (32, False), (32, True), (32, False)]
    assert [line.split()[0] for line in lines[1:3]] == ["16", "32"]
    assert lines[-1].startswith("generator 0.0")
    assert not list(tmp_path.iterdir())


def test_only_the_resolutions_that_are_reached_are_tried(pool: Pool, tmp_path: Path) -> None:
    lines = probe(small(pool, tmp_path, kimg=0.05), pool)
    assert [line.split()[0] for line in lines if "img/s" in line] == ["16"]


def test_a_pool_of_another_size_is_refused(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds films of 32 px, but --res is 64"):
        probe(replace(small(pool, tmp_path), res=64), pool)


@pytest.mark.parametrize("with_pool", [True, False])
def test_a_dry_run_prints_toml_with_the_estimate_as_comments(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_pool: bool
) -> None:
    monkeypatch.setenv("THISCXR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    narrow = ["--set", "channel_base=64", "--set", "batch=4", "--res", "32", "--minutes", "3"]
    result = CliRunner().invoke(
        group, ["train", "--dry-run", *narrow, *(["--data", str(pool.path)] if with_pool else [])]
    )
    assert result.exit_code == 0, result.output
    values: dict[str, Any] = tomllib.loads(result.stdout)
    assert values["res"] == 32
    comments = [line for line in result.stdout.splitlines() if line.startswith("# ")]
    assert sum("img/s" in line for line in comments) == 2
    assert any(line.startswith("# --minutes 3 is enough for about") for line in comments)
    assert not list(tmp_path.iterdir())
