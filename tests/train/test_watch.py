"""The watch: what it measures, that it stays quiet where it should, and that a collapse leads back, on, and at last to
an end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_loop import ROOT, assert_same, small

from thiscxr.config import Config
from thiscxr.phantom.releases import write_layout
from thiscxr.pool import Pool
from thiscxr.train import loop, runs
from thiscxr.train.films import Films
from thiscxr.train.training import Training
from thiscxr.train.watch import FIRST_COVERAGE, CollapseError, Watch, coverage, cpu_copy, spread

Plant = Callable[[Callable[[Training], None]], None]


def test_spread_at_known_answers() -> None:
    reals = torch.randn(40, 64)
    assert spread(reals[:1].repeat(10, 1), reals) == 0.0
    assert spread(reals, reals) == 1.0
    assert spread(3 * reals + 1, reals) == pytest.approx(3.0, rel=1e-5)


def test_coverage_at_known_answers() -> None:
    line = torch.arange(10.0)[:, None]  # the fifth nearest of 0 … 9 is 5, 4, 3, 3, 3, 3, 3, 3, 4, 5 away
    assert coverage(line, torch.zeros(1, 1)) == pytest.approx(0.4)  # 0, 1, 2 and 3
    assert coverage(line, torch.full((3, 1), 9.5)) == pytest.approx(0.3)  # 7, 8 and 9
    assert coverage(line, line) == 1.0
    assert coverage(line, torch.full((3, 1), 100.0)) == 0.0


def test_a_copy_shares_nothing() -> None:
    value = {"a": [torch.zeros(2), {"b": (torch.zeros(1), 0.5)}], "c": "text"}
    copy = cpu_copy(value)
    value["a"][0] += 1
    value["a"][1]["b"][0].add_(1)
    assert copy == {"a": [copy["a"][0], {"b": (copy["a"][1]["b"][0], 0.5)}], "c": "text"}
    assert copy["a"][0].sum() == 0
    assert copy["a"][1]["b"][0].item() == 0


def watched(pool: Pool, out: Path, **changes: object) -> Config:
    """A training of seconds with a look every five steps."""
    return small(pool, out, **{"watch_kimg": 0.04, "kimg": 0.2, **changes})


def same_films(training: Training) -> None:
    """Let both generators forget z and c."""
    with torch.no_grad():
        for generator in (training.G, training.G_ema):
            generator.mapping.layers[-1].weight.zero_()


def strong_discriminator(training: Training) -> None:
    with torch.no_grad():
        training.D.dense.weight.mul_(1e5)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Let something happen after every step."""
    step = Training.step

    def plant(change: Callable[[Training], None]) -> None:
        def changed(training: Training) -> dict[str, float]:
            losses = step(training)
            change(training)
            return losses

        monkeypatch.setattr(Training, "step", changed)

    return plant


def once(training: Training) -> None:
    """Collapse after 100 films, in the first try only."""
    if training.noise_stream == 0 and training.images_seen > 100:
        same_films(training)


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]


def test_a_collapse_goes_back_once_and_on(
    pool: Pool, tmp_path: Path, plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    plant(once)
    run = loop.train(watched(pool, tmp_path), pool, "discs")
    state = runs.load_state(run)
    assert state is not None
    assert state["images_seen"] == 200
    assert state["noise_stream"] == 1
    assert [state[name]["param_groups"][0]["lr"] for name in ("opt_G", "opt_D")] == [0.0015, 0.0015]
    assert (
        "collapsed after 120 films: two synthetic films differ by 0.00 of what two "
        "real ones do, below 0.3; back to 80 films"
    ) in caplog.text
    assert "back to 80 films" in (run / "log.txt").read_text()
    back, last = lines(run)
    assert (back["images_seen"], back["watch/returns"], back["watch/back_to"]) == (120, 0, 80)
    assert back["watch/spread"] < 0.01
    assert (last["images_seen"], last["watch/returns"]) == (200, 1)
    assert last["watch/spread"] > 0.3


def test_another_try_draws_other_numbers(pool: Pool, tmp_path: Path) -> None:
    config = watched(pool, tmp_path)
    films = Films(pool, config)
    losses = []
    for noise_stream in (0, 1, 1):
        training = Training(config, films)
        training.noise_stream = noise_stream
        losses.append(training.step()["loss/D"])
    assert losses[0] != losses[1] == losses[2]


class KilledError(Exception):
    """Stands in for a kill: nothing is saved on the way out."""


@pytest.mark.slow
@pytest.mark.parametrize("stops", [(0.112,), (0.096, 0.104, 0.144)], ids=["while collapsed", "around the return"])
def test_a_return_is_the_same_when_the_run_is_killed_or_stopped_around_it(
    pool: Pool, tmp_path: Path, plant: Plant, monkeypatch: pytest.MonkeyPatch, stops: tuple[float, ...]
) -> None:
    plant(once)
    whole = loop.train(watched(pool, tmp_path / "whole", save_kimg=0.016), pool, "discs")
    kills = [(0, 112), (0, 120), (1, 88), (1, 136)]

    def kill(training: Training) -> None:
        once(training)
        if kills and kills[0] == (training.noise_stream, training.images_seen):
            kills.pop(0)
            raise KilledError

    if len(stops) == 1:
        plant(kill)
        for _ in range(4):
            with pytest.raises(KilledError):
                loop.train(watched(pool, tmp_path / "parts", save_kimg=0.016), pool, "discs")
    else:
        for kimg in stops:  # between looks: the state to go back to travels within the saved one
            collapsed = pytest.raises(
                CollapseError, match=r"finished after 104 films, not saved: two .* Raise --kimg to 0\.12"
            )
            with collapsed if kimg == 0.104 else nullcontext():
                loop.train(watched(pool, tmp_path / "parts", kimg=kimg), pool, "discs")
    parts = loop.train(watched(pool, tmp_path / "parts"), pool, "discs")
    assert_same(whole, parts)
    assert [(line["images_seen"], line["watch/returns"]) for line in lines(whole)] == [(120, 0), (200, 1)]
    again = [(line["images_seen"], line["watch/returns"]) for line in lines(parts)]
    assert sorted(again, key=lambda line: line[::-1]) == again, "each film of each try is reported once"
    assert [line for line in lines(parts) if "watch/back_to" in line] == lines(whole)[:1]


def test_the_returns_are_bounded_and_the_last_good_state_stays(pool: Pool, tmp_path: Path, plant: Plant) -> None:
    def always(training: Training) -> None:
        if training.images_seen > 100:
            same_films(training)

    config = watched(pool, tmp_path, max_returns=2, save_kimg=0.04)
    with pytest.MonkeyPatch.context() as patch:
        step = Training.step
        patch.setattr(Training, "step", lambda training: (step(training), always(training))[0])
        for _ in range(2):  # the second call meets the same end
            with pytest.raises(
                CollapseError, match=r"collapsed 3 times, at last after 120 films: .* The state of 80 films is kept"
            ) as end:
                loop.train(config, pool, "discs")
    assert "\n" not in str(end.value)
    (run,) = tmp_path.iterdir()
    state = runs.load_state(run)
    assert state is not None
    assert (state["images_seen"], state["noise_stream"]) == (80, 2)
    assert [line["watch/returns"] for line in lines(run) if "watch/back_to" in line] == [0, 1, 2]
    assert loop.train(replace(config, max_returns=3), pool, "discs") == run, (
        "more returns, and nothing planted: it continues from there"
    )
    assert runs.load_state(run)["images_seen"] == 200


def test_a_discriminator_far_too_strong_goes_back(
    pool: Pool, tmp_path: Path, plant: Plant, caplog: pytest.LogCaptureFixture
) -> None:
    plant(
        lambda training: (
            strong_discriminator(training) if (training.images_seen, training.noise_stream) == (88, 0) else None
        )
    )
    run = loop.train(watched(pool, tmp_path), pool, "discs")
    assert "D(real) − D(fake) is " in caplog.text
    assert ", beyond ±20; back to 80 films" in caplog.text
    state = runs.load_state(run)
    assert (state["images_seen"], state["noise_stream"]) == (200, 1)
    assert state["watch"]["gap"] < 20


def test_a_loss_of_coverage_is_seen(pool: Pool, tmp_path: Path) -> None:
    config = watched(pool, tmp_path)
    training, watch = Training(config, Films(pool, config)), Watch(config, Films(pool, config))
    watch.keep(training)
    assert watch.look(training, True)[1] == ""
    watch.best = 0.39  # not yet learnt
    assert watch.look(training, True)[1] == ""
    watch.best = 0.8
    assert watch.look(training, True)[1] == (
        "0% of the real films have a synthetic one near, below 20% (best so far 80%)"
    )


def test_a_collapsed_state_is_not_saved(pool: Pool, tmp_path: Path, plant: Plant) -> None:
    plant(lambda training: same_films(training) if training.images_seen > 50 else None)
    with pytest.raises(CollapseError, match="finished after 72 films, not saved"):
        loop.train(watched(pool, tmp_path, kimg=0.072, save_kimg=0.008, watch_kimg=0.08), pool, "discs")
    (run,) = tmp_path.iterdir()
    assert runs.load_state(run)["images_seen"] == 48


def test_only_a_state_well_within_the_limits_is_one_to_go_back_to(pool: Pool, tmp_path: Path) -> None:
    config = watched(pool, tmp_path)
    training, watch = Training(config, Films(pool, config)), Watch(config, Films(pool, config))
    watch.keep(training)
    for gap, images_seen in ((9.9, 8), (10.1, 8), (19.9, 8), (1.0, 32)):
        training.step()
        watch.gap = gap
        assert watch.look(training, True)[1] == ""
        assert watch.good["images_seen"] == images_seen
    for gap in (20.1, -20.1, float("nan")):
        watch.gap = gap
        assert "beyond ±20" in watch.look(training, True)[1]
    assert watch.good["images_seen"] == 32


def test_no_watch_and_too_few_films_to_compare(pool: Pool, tmp_path: Path, plant: Plant) -> None:
    plant(same_films)
    run = loop.train(watched(pool, tmp_path, watch_kimg=0.0, kimg=0.048), pool, "discs")
    assert runs.load_state(run)["noise_stream"] == 0
    films = Films(pool, watched(pool, tmp_path))
    films.indices = films.indices[:5]
    assert not Watch(watched(pool, tmp_path), films).due(40)


@pytest.mark.slow
def test_a_plain_training_is_left_alone(tmp_path: Path) -> None:
    write_layout(tmp_path / "phantom", "pool", 300, 32, 0)
    pool = Pool.open(tmp_path / "phantom")
    config = small(
        pool,
        tmp_path / "runs",
        watch_kimg=0.1,
        kimg=30.0,
        grow_kimg=1.0,
        fade_kimg=0.5,
        augment_kimg=5.0,
        channel_base=256,
    )
    config = replace(config, channel_max=32, batch=16, r1_interval=16)
    run = loop.train(config, pool, "phantom")
    reported = lines(run)
    assert all(line["watch/returns"] == 0 for line in reported)
    assert min(line["watch/spread"] for line in reported) > 0.6
    assert runs.load_state(run)["watch"]["best"] > FIRST_COVERAGE, "it must have learnt enough for a loss to be noticed"


@pytest.mark.slow
def test_kill_9_around_a_return(pool: Pool, tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, "tests/train")
from test_watch import loop, once, watched, Pool, Training
pool, out, kills = Pool.open(Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3:]
step = Training.step
def planted(training):
    losses = step(training)
    once(training)
    if f"{training.noise_stream}-{training.images_seen}" in kills:
        os.kill(os.getpid(), signal.SIGKILL)
    return losses
Training.step = planted
loop.train(watched(pool, out, save_kimg=0.016), pool, "discs")
"""
    for kills in (["0-96"], ["0-112"], ["1-88"], ["1-144"], []):
        process = subprocess.run(
            [sys.executable, "-c", code, str(pool.path), str(tmp_path / "parts"), *kills], cwd=ROOT, env=os.environ
        )
        assert process.returncode == (-signal.SIGKILL if kills else 0)
    subprocess.run(
        [sys.executable, "-c", code, str(pool.path), str(tmp_path / "whole")], cwd=ROOT, env=os.environ, check=True
    )
    (a,), (b,) = (tmp_path / "whole").iterdir(), (tmp_path / "parts").iterdir()
    assert runs.load_state(a)["noise_stream"] == 1
    assert_same(a, b)
