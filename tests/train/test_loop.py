"""The loop: exact resume, clean stops, golden losses, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from thiscxr.config import Config
from thiscxr.data.pool import Pool
from thiscxr.files import folder_lock
from thiscxr.sample.sampling import load
from thiscxr.train import loop, runs
from thiscxr.train.draws import Draws
from thiscxr.train.films import Films, thin
from thiscxr.train.training import Training

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.json"


def small(pool: Pool, out: Path, **changes: object) -> Config:
    """A training of seconds: 32 px, narrow, batches of 8; it grows from 16 px."""
    config = Config(
        data=str(pool.path), out=str(out), res=32, z_dim=16, w_dim=16, mapping_layers=2, channel_base=128, channel_max=16, batch=8,
        grow_from=16, grow_kimg=0.05, fade_kimg=0.05, r1_interval=4, augment_kimg=0.2, kimg=0.16, device="cpu", threads=1,
    )  # fmt: skip
    return replace(config.resolve("cpu", 1), **changes)


def digest(run: Path) -> dict[str, torch.Tensor]:
    """Every tensor and number of a run's newest state, flat."""
    flat: dict[str, torch.Tensor] = {}

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                walk(f"{prefix}/{key}", item)
        elif isinstance(value, list | tuple):
            for i, item in enumerate(value):
                walk(f"{prefix}/{i}", item)
        elif isinstance(value, torch.Tensor):
            flat[prefix] = value
        elif isinstance(value, int | float):
            flat[prefix] = torch.tensor(float(value))

    state = runs.load_state(run)
    assert state is not None
    walk("", state)
    return flat


def assert_same(a: Path, b: Path) -> None:
    left, right = digest(a), digest(b)
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), f"{name} differs"


def test_a_stopped_and_resumed_run_is_the_uninterrupted_one_bit_for_bit(pool: Pool, tmp_path: Path) -> None:
    whole = loop.train(small(pool, tmp_path / "whole"), pool, "discs")
    # In the small stage, while the last block is blended in, at full size; not at multiples of the R1 or augmentation interval alone.
    for kimg in (0.024, 0.08, 0.12, 0.16):
        parts = loop.train(small(pool, tmp_path / "parts", kimg=kimg), pool, "discs")
    assert_same(whole, parts)
    assert runs.load_state(parts)["images_seen"] == 160
    assert runs.load_state(whole)["strength"] > 0, "the augmentation must have been at work, or its resume was not tested"
    files = [(run / "network-latest.safetensors").read_bytes() for run in (whole, parts)]
    assert files[0] == files[1]
    a, b = ((run / "stats.jsonl").read_text().splitlines()[-1] for run in (whole, parts))
    assert json.loads(a)["images_seen"] == json.loads(b)["images_seen"] == 160


def test_a_finished_run_says_so_and_stays_as_it_is(pool: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = small(pool, tmp_path, kimg=0.016)
    run = loop.train(config, pool, "discs")
    before = (run / "state-latest.pt").read_bytes()
    caplog.set_level("INFO")
    assert loop.train(config, pool, "discs") == run
    assert "finished: 16 of 16 films" in caplog.text
    assert (run / "state-latest.pt").read_bytes() == before


def test_new_and_another_config_start_another_run(pool: Pool, tmp_path: Path) -> None:
    config = small(pool, tmp_path, kimg=0.008)
    first = loop.train(config, pool, "discs")
    assert loop.train(config, pool, "discs", new=True) != first
    assert loop.train(replace(config, lr=0.001), pool, "discs").name == "00002-discs-32"


def test_a_damaged_state_falls_back_to_the_one_before(pool: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = small(pool, tmp_path, kimg=0.032, save_kimg=0.016)
    run = loop.train(config, pool, "discs")
    path = run / "state-latest.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1  # one flipped bit in a tensor
    path.write_bytes(data)
    assert runs.load_state(run)["images_seen"] == 16
    assert "state-latest.pt is damaged; going on from" in caplog.text
    (run / "state-previous.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be read; start again with --new"):
        runs.load_state(run)


def test_a_run_with_a_folder_but_no_state_starts_from_the_beginning(pool: Pool, tmp_path: Path) -> None:
    config = small(pool, tmp_path, kimg=0.008)
    run = loop.train(config, pool, "discs")
    (run / "state-latest.pt").unlink()
    (run / ".state-latest.pt.1.part").write_bytes(b"half")  # as a kill in the middle of writing leaves it
    assert loop.train(config, pool, "discs") == run
    assert not list(run.glob(".*.part"))
    assert runs.load_state(run)["images_seen"] == 8


def test_non_finite_gradients_stop_before_the_step(pool: Pool, tmp_path: Path) -> None:
    training = Training(small(pool, tmp_path), Films(pool, small(pool, tmp_path)))
    with torch.no_grad():
        training.D.out.weight[0, 0] = float("nan")
    weights = training.D.conv.weight.clone()
    with pytest.raises(FloatingPointError, match="loss of the discriminator is not finite after 0 films; nothing was updated"):
        training.step()
    assert torch.equal(training.D.conv.weight, weights)


def test_a_pool_of_another_resolution_is_refused(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds films of 32 px, but --res is 64"):
        loop.train(replace(small(pool, tmp_path), res=64), pool, "discs")


def test_two_trainings_in_one_folder_are_refused(pool: Pool, tmp_path: Path) -> None:
    config = small(pool, tmp_path, kimg=0.008)
    run = loop.train(config, pool, "discs")
    with folder_lock(run, "busy"), pytest.raises(ValueError, match="is being trained by another process"):
        loop.train(replace(config, kimg=0.016), pool, "discs")


def test_an_epoch_shows_every_film_once(pool: Pool, tmp_path: Path) -> None:
    films = Films(pool, small(pool, tmp_path))
    n = len(films.indices)
    seen = np.concatenate([films.batch(torch.arange(i, i + 8))[0].numpy().reshape(8, -1)[:, :40] for i in range(0, n - n % 8, 8)])
    assert len(np.unique(seen, axis=0)) == n - n % 8
    across = torch.arange(n - 4, n + 4)
    halves = torch.cat([films.batch(across[:4])[0], films.batch(across[4:])[0]])
    assert torch.equal(films.batch(across)[0], halves), "a batch across the end of an epoch is the two halves"


def test_an_unconditional_network_takes_no_conditions(pool: Pool, tmp_path: Path) -> None:
    run = loop.train(small(pool, tmp_path, kimg=0.008, conditional=False), pool, "discs")
    network = load(run)
    assert network.sample([0, 1]).shape == (2, 32, 32)
    with pytest.raises(ValueError, match="sex 'F' was not learnt"):
        network.sample([0], sex="F")


def test_thinning_hides_and_never_invents(pool: Pool, tmp_path: Path) -> None:
    films = Films(pool, small(pool, tmp_path))
    c = films.vectors(np.arange(100)).repeat(20, 1)
    thinned = thin(c, films.vocabulary, 0.5, Draws(0, 0, len(c)))
    assert ((thinned == c) | (thinned == 0)).all()
    hidden = torch.stack([(thinned[:, part] == 0).all(dim=1) & (c[:, part] != 0).any(dim=1) for part in films.vocabulary.factors]).float()
    num_findings = len(films.vocabulary.findings)
    by_factor = hidden.mean(dim=1)
    assert by_factor[num_findings:].numpy() == pytest.approx(0.1 + 0.5 * 0.5, abs=0.04)
    assert by_factor[:num_findings].numpy() == pytest.approx(0.1 + 0.5 * 0.75, abs=0.04)
    only_view = (thinned[:, :num_findings] == 0).all(dim=1) & (thinned[:, films.vocabulary.factors[num_findings]] != 0).any(dim=1)
    assert only_view.float().mean() > 0.1, "a view without findings is what people ask for: it must be taught"
    for part in films.vocabulary.factors:  # known and unknown together: never half a factor
        assert ((thinned[:, part] == c[:, part]).all(dim=1) | (thinned[:, part] == 0).all(dim=1)).all()


def test_losses_are_the_recorded_ones(pool: Pool, tmp_path: Path) -> None:
    """Golden numbers: made by this test with THISCXR_WRITE_GOLDEN=1; the torch version is in the file, since CPU kernels differ by 1e-6."""
    training = Training(small(pool, tmp_path), Films(pool, small(pool, tmp_path)))
    steps = [training.step() for _ in range(12)]
    if os.environ.get("THISCXR_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps({"torch": torch.__version__, "steps": steps}, indent=1) + "\n")
    golden = json.loads(GOLDEN.read_text())["steps"]
    for number, (step, expected) in enumerate(zip(steps, golden, strict=True)):
        assert step == pytest.approx(expected, rel=2e-3, abs=1e-4), f"step {number}"


def command(pool: Pool, out: Path, *more: str) -> list[str]:
    settings = ["z_dim=16", "w_dim=16", "mapping_layers=2", "channel_base=128", "channel_max=16", "batch=8", "threads=1", "augment_kimg=1"]
    settings += ["grow_from=16", "grow_kimg=1", "fade_kimg=1"]
    flags = [flag for setting in settings for flag in ("--set", setting)]
    return [sys.executable, "train_gan.py", "--data", str(pool.path), "--out", str(out), "--device", "cpu", *flags, *more]


ROOT = Path(__file__).parents[2]


def images_logged(out: Path) -> int:
    lines = [line for path in out.glob("*/stats.jsonl") for line in path.read_text().splitlines()]
    return max((json.loads(line)["images_seen"] for line in lines), default=0)


def wait_for(happened: Callable[[], object], process: subprocess.Popen) -> None:
    for _ in range(1200):
        if happened():
            return
        assert process.poll() is None, process.stderr.read().decode()[-2000:]
        time.sleep(0.1)
    raise AssertionError("no progress in two minutes")


@pytest.mark.slow
def test_kill_9_in_the_middle_then_the_same_command_gives_the_uninterrupted_run(pool: Pool, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    options = ("--kimg", "6", "--save-kimg", "0.7")
    subprocess.run(command(pool, whole, *options), cwd=ROOT, check=True, capture_output=True)
    for _ in range(2):
        process = subprocess.Popen(command(pool, parts, *options), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        done = images_logged(parts)
        wait_for(lambda done=done: images_logged(parts) > done + 1000, process)
        process.kill()
        process.wait()
    last = subprocess.run(command(pool, parts, *options), cwd=ROOT, check=True, capture_output=True, text=True)
    assert "resumed from" in last.stderr
    (a,), (b,) = whole.iterdir(), parts.iterdir()
    assert_same(a, b)
    assert not list(b.glob(".*.part")), "what the kills left half-written is gone"


def test_a_full_disk_is_one_line_and_the_last_state_stays(pool: Pool, tmp_path: Path) -> None:
    # A limit on the size of files stands in for a full disk: the state (over 300 kB) does not fit, the small files do.
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000)); from thiscxr import cli; cli.main('train')"
    )
    first = subprocess.run(command(pool, tmp_path, "--kimg", "0.016"), cwd=ROOT, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    again = [sys.executable, "-c", code, *command(pool, tmp_path, "--kimg", "0.032")[2:]]
    result = subprocess.run(again, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "could not be written, is the disk full?" in result.stderr
    (run,) = tmp_path.iterdir()
    assert not list(run.glob(".*.part"))
    state = runs.load_state(run)
    assert state is not None
    assert state["images_seen"] == 16


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops_cleanly(pool: Pool, tmp_path: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(command(pool, tmp_path, "--kimg", "1000"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: list(tmp_path.glob("*/reals.png")), process)
    time.sleep(1)  # some steps
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()[-2000:]
    assert f"stopped by {number.name}" in errors.decode()
    (run,) = tmp_path.iterdir()
    state = runs.load_state(run)
    assert state is not None
    assert state["images_seen"] > 0
    assert json.loads((run / "stats.jsonl").read_text().splitlines()[-1])["images_seen"] == state["images_seen"]
