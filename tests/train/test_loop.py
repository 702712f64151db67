"""The loop: exact resume, clean stops, and what it refuses."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest
import torch

from thiscxr import cli
from thiscxr.config import Config
from thiscxr.files import folder_lock
from thiscxr.pool import Pool
from thiscxr.sample.sampling import load
from thiscxr.train import loop, runs
from thiscxr.train import training as steps
from thiscxr.train.films import Films
from thiscxr.train.training import Training


def small(pool: Pool, out: Path, **changes: object) -> Config:
    """A training of seconds: 32 px, narrow, batches of 8; it grows from 16 px."""
    config = Config(
        data=str(pool.path), out=str(out), res=32, z_dim=16, w_dim=16, mapping_layers=2, channel_base=128,
        channel_max=16, batch=8, grow_from=16, grow_kimg=0.05, fade_kimg=0.05, r1_interval=4, augment_kimg=0.2,
        augment_target=0.2, kimg=0.16, device="cpu", threads=1,
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
    # In the small stage, while the last block is blended in, at full size; not at multiples of the R1 or augmentation
    # interval alone.
    for kimg in (0.024, 0.08, 0.12, 0.16):
        parts = loop.train(small(pool, tmp_path / "parts", kimg=kimg), pool, "discs")
    assert_same(whole, parts)
    assert runs.load_state(parts)["images_seen"] == 160
    assert runs.load_state(whole)["strength"] > 0, (
        "the augmentation must have been at work, or its resume was not tested"
    )
    files = [(run / "network-latest.safetensors").read_bytes() for run in (whole, parts)]
    assert files[0] == files[1]
    a, b = ((run / "stats.jsonl").read_text().splitlines()[-1] for run in (whole, parts))
    assert json.loads(a)["images_seen"] == json.loads(b)["images_seen"] == 160


def test_a_finished_run_is_reported_and_stays_as_it_is(
    pool: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
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


def test_a_run_of_a_version_with_other_options_is_left_alone(pool: Pool, tmp_path: Path) -> None:
    config = small(pool, tmp_path, kimg=0.008)
    run = loop.train(config, pool, "discs")
    lines = (run / "config.toml").read_text().splitlines(keepends=True)
    (run / "config.toml").write_text("".join(line for line in lines if not line.startswith("relativistic")))
    assert loop.train(config, pool, "discs") != run, "the option would take a default that the run never had"


def test_other_threads_resume_the_run_and_warn_that_it_is_not_bit_for_bit(
    pool: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = loop.train(small(pool, tmp_path, kimg=0.008), pool, "discs")
    caplog.set_level("INFO")
    assert loop.train(small(pool, tmp_path, kimg=0.016, threads=2), pool, "discs") == run
    torch.set_num_threads(1)
    assert "1 processes × 2 threads, before 1 × 1: the same training, but not bit for bit" in caplog.text


def test_a_damaged_state_falls_back_to_the_one_before(
    pool: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = small(pool, tmp_path, kimg=0.032, save_kimg=0.016)
    run = loop.train(config, pool, "discs")
    path = run / "state-latest.pt"
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    data[largest.header_offset + largest.file_size // 2] ^= 1  # one flipped bit in a tensor
    path.write_bytes(data)
    assert runs.load_state(run)["images_seen"] == 16
    assert "state-latest.pt is damaged; resuming from" in caplog.text
    (run / "state-previous.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be read; start again with --new"):
        runs.load_state(run)


def test_a_run_with_a_folder_but_no_state_starts_from_the_beginning(pool: Pool, tmp_path: Path) -> None:
    config = small(pool, tmp_path, kimg=0.008)
    run = loop.train(config, pool, "discs")
    (run / "state-latest.pt").unlink()
    assert len((run / "stats.jsonl").read_text().splitlines()) == 1
    (run / ".state-latest.pt.1.part").write_bytes(b"half")  # as a kill in the middle of writing leaves it
    assert loop.train(config, pool, "discs") == run
    assert not list(run.glob(".*.part"))
    assert runs.load_state(run)["images_seen"] == 8
    assert len((run / "stats.jsonl").read_text().splitlines()) == 1, "what was reported before is reported again, once"


def spoilt_loss(training: Training, patch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        training.D.out.weight[0, 0] = float("nan")


def spoilt_penalty(training: Training, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(steps, "gradient_penalty", lambda logits, images: logits.sum() * float("inf"))


def spoilt_penalty_of_fakes(training: Training, patch: pytest.MonkeyPatch) -> None:
    calm, spoil = steps.gradient_penalty, cycle((1.0, float("inf")))  # R1, then R2
    patch.setattr(steps, "gradient_penalty", lambda logits, images: calm(logits, images) * next(spoil))


def spoilt_gradient(training: Training, patch: pytest.MonkeyPatch) -> None:
    training.D.conv.weight.register_hook(lambda gradient: gradient * float("inf"))


def spoilt_generator_loss(training: Training, patch: pytest.MonkeyPatch) -> None:
    calm = steps.relativistic_loss
    patch.setattr(steps, "relativistic_loss", lambda a, b: calm(a, b) * (1.0 if b.requires_grad else float("nan")))


def spoilt_generator_gradient(training: Training, patch: pytest.MonkeyPatch) -> None:
    training.G.synthesis.constant.register_hook(lambda gradient: gradient / 0)


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (spoilt_loss, "discriminator: the logistic loss"),
        (spoilt_penalty, "discriminator: the R1 penalty"),
        (spoilt_penalty_of_fakes, "discriminator: the R2 penalty"),
        (spoilt_gradient, "discriminator: the gradient"),
        (spoilt_generator_loss, "generator: the logistic loss"),
        (spoilt_generator_gradient, "generator: the gradient"),
    ],
)
def test_what_is_not_finite_stops_before_the_step_and_is_named(
    pool: Pool, tmp_path: Path, spoil: Callable, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(small(pool, tmp_path, r1_interval=1), Films(pool, small(pool, tmp_path)))
    training.step()
    spoil(training, monkeypatch)
    network = training.D if what.startswith("discriminator") else training.G
    weights = [p.clone() for p in network.parameters()]
    with pytest.raises(FloatingPointError, match=f"^step 2, {what} is not finite after 8 films; nothing was updated"):
        training.step()
    assert all(
        torch.allclose(p, before, rtol=0, atol=0, equal_nan=True)
        for p, before in zip(network.parameters(), weights, strict=True)
    )


def test_r1_takes_no_step_of_its_own_and_the_step_needs_no_correction(pool: Pool, tmp_path: Path) -> None:
    """The correction of Karras et al. 2020, appendix B, by k / (k + 1), is for penalties that are steps of their
    own."""
    config = small(pool, tmp_path, r1_interval=2, anneal_kimg=0)
    training = Training(config, Films(pool, config))
    assert ["loss/R1" in training.step() for _ in range(3)] == [True, False, True]
    for optimizer in (training.opt_G, training.opt_D):
        (group,) = optimizer.param_groups
        assert (group["lr"], group["betas"]) == (config.lr, (0.0, 0.99))
        assert max(state["step"] for state in optimizer.state.values()) == 3


def test_a_pool_of_another_resolution_is_refused(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds films of 32 px, but --res is 64"):
        loop.train(replace(small(pool, tmp_path), res=64), pool, "discs")


def test_triton_without_a_gpu_is_refused(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="triton is true, but the device is cpu"):
        loop.train(small(pool, tmp_path, triton=True), pool, "discs")
    assert not list(tmp_path.iterdir())


def test_two_trainings_in_one_folder_are_refused(pool: Pool, tmp_path: Path) -> None:
    config = small(pool, tmp_path, kimg=0.008)
    run = loop.train(config, pool, "discs")
    with folder_lock(run, "busy"), pytest.raises(ValueError, match="is being trained by another process"):
        loop.train(replace(config, kimg=0.016), pool, "discs")


def test_an_unconditional_network_takes_no_conditions(pool: Pool, tmp_path: Path) -> None:
    run = loop.train(small(pool, tmp_path, kimg=0.008, conditional=False), pool, "discs")
    network = load(run)
    assert network.sample([0, 1]).shape == (2, 32, 32)
    with pytest.raises(ValueError, match="sex 'F' was not learnt"):
        network.sample([0], sex="F")


@pytest.mark.slow
def test_the_discriminator_learns_which_condition_is_wrong(pool: Pool, tmp_path: Path) -> None:
    """In this pool the finding is the place and width of a disc; view, sex and age are not to be seen, so log 2 stays
    for those."""
    learnt = {}
    for contrast in (1.0, 0.0):
        config = small(pool, tmp_path, contrast=contrast, r1_interval=16, channel_max=32, grow_from=0)
        films = Films(pool, config)
        training = Training(config, films)
        losses = [training.step() for _ in range(50)]
        assert ("loss/contrast" in losses[-1]) is (contrast > 0)
        images, rows = films.batch(torch.arange(128))
        effusion = films.vocabulary.factors[0]
        c = torch.zeros(128, 1, films.vocabulary.dim)
        c[..., effusion] = 1.0
        with torch.no_grad():
            gain = training.D(images, torch.cat([c, -c], dim=1))
        truth = films.vectors(rows)[:, effusion][:, 0]
        margins = (gain[:, 0] - gain[:, 1]) * truth
        learnt[contrast] = float(margins.mean())
        assert contrast == 0 or (margins > 0).float().mean() > 0.95
    assert learnt[1.0] > 2 * learnt[0.0], learnt


def command(pool: Pool, out: Path, *more: str) -> list[str]:
    settings = [
        "z_dim=16",
        "w_dim=16",
        "mapping_layers=2",
        "channel_base=128",
        "channel_max=16",
        "batch=8",
        "threads=1",
        "augment_kimg=1",
    ]
    settings += ["grow_from=16", "grow_kimg=1", "fade_kimg=1"]
    flags = [flag for setting in settings for flag in ("--set", setting)]
    return [
        sys.executable,
        "train_gan.py",
        "--data",
        str(pool.path),
        "--out",
        str(out),
        "--device",
        "cpu",
        *flags,
        *more,
    ]


ROOT = Path(__file__).parents[2]


def images_logged(out: Path) -> int:
    lines = [line for path in out.glob("*/stats.jsonl") for line in path.read_text().splitlines()]
    return max((json.loads(line)["images_seen"] for line in lines), default=0)


def latest(out: Path) -> float:
    """Return when the newest state was saved."""
    return max((path.stat().st_mtime_ns for path in out.glob("*/state-latest.pt")), default=0)


def wait_for(happened: Callable[[], object], process: subprocess.Popen) -> None:
    for _ in range(1200):
        if happened():
            return
        assert process.poll() is None, process.stderr.read().decode()[-2000:]
        time.sleep(0.1)
    raise AssertionError("no progress in two minutes")


@pytest.mark.slow
def test_kill_9_at_random_moments_then_the_same_command_gives_the_uninterrupted_run(pool: Pool, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    # grows after 1,000 films and blends in until 2,000; the watch looks at 2,000 and 4,000
    options = ("--kimg", "4", "--save-kimg", "0.3")
    subprocess.run(command(pool, whole, *options), cwd=ROOT, check=True, capture_output=True)
    moments = random.Random(0)
    for _ in range(6):
        process = subprocess.Popen(
            command(pool, parts, *options), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        before = latest(parts)
        wait_for(lambda before=before: latest(parts) != before, process)  # one more saved state: so it ends some day
        time.sleep(moments.uniform(0, 1.5))
        process.kill()
        process.wait()
    last = subprocess.run(command(pool, parts, *options), cwd=ROOT, check=True, capture_output=True, text=True)
    assert "resumed from" in last.stderr
    (a,), (b,) = whole.iterdir(), parts.iterdir()
    assert_same(a, b)
    assert not list(b.glob(".*.part")), "what the kills left half-written is gone"


@pytest.mark.slow
def test_a_full_disk_is_one_line(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the last state stays."""
    # A limit on the size of files stands in for a full disk: the state (over 300 kB) does not fit.
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000)); from thiscxr import cli; cli.main('train')"
    )
    monkeypatch.setattr(sys, "argv", command(pool, tmp_path, "--kimg", "0.016")[1:])
    cli.main("train")
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
def test_a_signal_within_a_step_stops_after_it(
    pool: Pool, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before, step = signal.getsignal(number), Training.step

    def signalled(training: Training) -> dict[str, float]:
        if training.images_seen == 8:
            os.kill(os.getpid(), number)
        return step(training)

    monkeypatch.setattr(Training, "step", signalled)
    caplog.set_level("INFO")
    run = loop.train(small(pool, tmp_path), pool, "discs")
    assert f"stopped by {signal.Signals(number).name} at 16 films (16 in this call" in caplog.text
    assert runs.load_state(run)["images_seen"] == 16
    assert json.loads((run / "stats.jsonl").read_text().splitlines()[-1])["images_seen"] == 16
    assert signal.getsignal(number) == before


def test_ctrl_c_saves_and_stops_the_command_cleanly(pool: Pool, tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(pool, tmp_path, "--kimg", "1000"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_for(lambda: list(tmp_path.glob("*/reals.png")), process)
    time.sleep(1)  # some steps
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()[-2000:]
    assert "stopped by SIGINT" in errors.decode()
    (run,) = tmp_path.iterdir()
    state = runs.load_state(run)
    assert state is not None
    assert state["images_seen"] > 0
    assert json.loads((run / "stats.jsonl").read_text().splitlines()[-1])["images_seen"] == state["images_seen"]
