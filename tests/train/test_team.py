"""Several processes are one training: the same losses, one that writes, and an end for all when one is lost."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from test_loop import ROOT, assert_same, command, images_logged, small, wait_for

from thiscxr.cli.training import phantom_pool
from thiscxr.config import Config
from thiscxr.pool import Pool
from thiscxr.train import runs, team
from thiscxr.train.films import Films
from thiscxr.train.team import Team, open_team
from thiscxr.train.training import Training

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
STEPS = 12


@pytest.mark.parametrize(("size", "rows"), [(1, [[0, 1, 2, 3, 4, 5, 6, 7]]), (2, [[0, 2, 4, 6], [1, 3, 5, 7]])])
def test_a_process_takes_whole_groups_of_the_minibatch_statistics(size: int, rows: list[list[int]]) -> None:
    # groups: films i, i + 2, i + 4 and i + 6
    assert [Team(rank, size).rows(8).tolist() for rank in range(size)] == rows


def test_groups_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(ValueError, match="batch is 12, but 2 processes need a multiple of 8"):
        Team(0, 2).rows(12)


def test_one_process_is_a_team_without_messages() -> None:
    value = {"tensor": torch.ones(2)}
    assert Team().share(value) is value
    assert Team().most(3) == 3


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("mps", "device is mps, but several processes train on cpu or cuda only"),
        ("cuda", "process 31 of this machine has no GPU, there are"),
    ],
)
def test_a_device_that_cannot_be_shared_is_refused(device: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "31", "LOCAL_RANK": "31", "WORLD_SIZE": "32"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message), open_team(device):
        pass


def test_processes_share_the_cores_of_their_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert team.fair_threads() == torch.get_num_threads()
    cores = len(os.sched_getaffinity(0))
    for processes, expected in ((2, max(1, cores // 2)), (4 * cores, 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert team.fair_threads() == expected


def test_only_the_first_to_fail_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    assert team.first_to_fail()
    assert team.first_to_fail(), "without torchrun there is nobody else"
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    assert [team.first_to_fail() for _ in range(3)] == [True, False, False]
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert [team.first_to_fail() for _ in range(2)] == [True, False]


# What each of two processes does once they are started: a start costs more than all of this.
WORKER = """
import json, logging, sys
from pathlib import Path
sys.path.insert(0, "tests/train")
from test_team import Films, Pool, STEPS, Team, Training, loop_with_a_collapse, small, torch
from thiscxr.train.team import open_team

logging.basicConfig(level=logging.INFO)
torch.set_num_threads(1)
pool, out = Pool.open(Path(sys.argv[1])), Path(sys.argv[2])
config = small(pool, out)
films = Films(pool, config)
found = {}
torch.set_default_dtype(torch.float64)  # in which rounding stays far from what is looked for


def begun(team):
    training = Training(config, films, team)
    training.strength = 0.5
    return training


class Halves(Team):
    def rows(self, batch):
        return torch.arange(batch).view(2, -1)[self.rank]


def stopped(spoil):
    training = begun(team)
    if team.rank == 1:
        spoil(training)
    before = [p.clone() for network in (training.G, training.D) for p in network.parameters()]
    try:
        training.step()
    except FloatingPointError as error:
        after = [p for network in (training.G, training.D) for p in network.parameters()]
        same = sum(torch.equal(a, b) for a, b in zip(before, after))
        return [str(error), same, len(after)]


def bad_films(training):
    batch = films.batch
    training.films = type("Bad", (), {"__getattr__": lambda self, name: getattr(films, name)})()
    training.films.batch = lambda *given: (batch(*given)[0] * float("nan"), batch(*given)[1])


def bad_gradient(training):
    training.G.mapping.layers[0].bias.register_hook(lambda gradient: gradient * float("inf"))


with open_team("cpu") as team:
    training = begun(team)
    found["losses"] = [training.step() for _ in range(STEPS)]
    broken = begun(Halves(team.rank, team.size))
    found["broken"] = [broken.step() for _ in range(3)]
    found["bad films"] = stopped(bad_films)
    found["bad gradient"] = stopped(bad_gradient)
    given = {"a": [torch.arange(3.0), "text"], "b": None} if team.leads else "mine"
    shared = team.share(given)
    long = team.share("x" * 100000 if team.leads else None)
    found["shared"] = [shared["a"][0].tolist(), shared["a"][1], shared["b"], len(long)]
    found["most"] = [team.most(team.rank), team.most(-team.rank)]
    found["weights"] = sum(p.sum().item() for p in training.G_ema.parameters())
    torch.set_default_dtype(torch.float32)
    found["collapse"] = loop_with_a_collapse(pool, out / "collapse", team)
(out / f"found-{team.rank}.json").write_text(json.dumps(found))
"""


def loop_with_a_collapse(pool: Pool, out: Path, here: Team) -> int:
    """Train, in each process, a run that collapses once and goes back; return the number of films of the returned
    folder's state."""
    from test_watch import loop, once, watched

    # One launch connects once: a second group could take the first one's addresses from the store, and wait for ever.
    loop.open_team = lambda device: nullcontext(here)  # type: ignore[assignment]

    step = Training.step

    def planted(training: Training) -> dict[str, float]:
        losses = step(training)
        once(training)
        return losses

    Training.step = planted  # type: ignore[method-assign]
    run = loop.train(watched(pool, out), pool, "discs")
    here.most(0)  # the leader has saved
    return runs.load_state(run)["images_seen"]


@pytest.fixture(scope="module")
def found(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    out = tmp_path_factory.mktemp("two")
    (out / "worker.py").write_text(WORKER)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    program = [*LAUNCH, "2", str(out / "worker.py"), str(pool.path), str(out)]
    result = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    return [
        {**json.loads((out / f"found-{rank}.json").read_text()), "out": out, "stderr": result.stderr}
        for rank in range(2)
    ]


def one_process(pool: Pool, out: Path, steps: int) -> list[dict[str, float]]:
    config = small(pool, out)
    torch.set_default_dtype(torch.float64)
    try:
        training = Training(config, Films(pool, config))
        training.strength = 0.5
        return [training.step() for _ in range(steps)]
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(pool: Pool, tmp_path: Path, found: list[dict]) -> None:
    expected = one_process(pool, tmp_path, STEPS)
    assert any("loss/R1" in step for step in expected)
    assert expected[-1]["augment/strength"] > 0
    for number, (one, two) in enumerate(zip(expected, found[0]["losses"], strict=True)):
        assert two == pytest.approx(one, rel=1e-11, abs=1e-12), f"step {number}"
    assert found[0]["losses"] == found[1]["losses"]
    assert found[0]["weights"] == found[1]["weights"]


@pytest.mark.slow
def test_the_comparison_sees_groups_torn_apart(pool: Pool, tmp_path: Path, found: list[dict]) -> None:
    # Half of the batch each, whatever the groups: the mistake that `rows` is there to avoid.
    expected = one_process(pool, tmp_path, 3)
    assert found[0]["broken"][0]["loss/D"] != pytest.approx(expected[0]["loss/D"], rel=1e-4)


@pytest.mark.slow
def test_what_is_not_finite_in_one_process_stops_all_before_the_step(found: list[dict]) -> None:
    for rank in range(2):
        message, same, number = found[rank]["bad films"]
        assert message.startswith("step 1, discriminator: the logistic loss is not finite")
        assert same == number
        message, same, number = found[rank]["bad gradient"]
        assert message.startswith("step 1, generator: the gradient is not finite")
        assert 0 < same < number, "the discriminator had its step, the generator none"


@pytest.mark.slow
def test_the_leader_decides_and_the_largest_wins(found: list[dict]) -> None:
    for rank in range(2):
        assert found[rank]["shared"] == [[0.0, 1.0, 2.0], "text", None, 100000]
        assert found[rank]["most"] == [1, 0]


@pytest.mark.slow
def test_a_collapse_takes_both_back_in_one_folder(pool: Pool, found: list[dict]) -> None:
    (run,) = (found[0]["out"] / "collapse").iterdir()
    state = runs.load_state(run)
    assert state is not None
    assert [state[name] for name in ("images_seen", "noise_stream", "processes")] == [200, 1, 2]
    assert [found[rank]["collapse"] for rank in range(2)] == [200, 200]
    assert (run / "log.txt").read_text().count("return 1 of 3") == 1
    assert found[0]["stderr"].count("return 1 of 3") == 1, "one process speaks"
    ticks = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    assert [tick["images_seen"] for tick in ticks] == [120, 200]


def processes_of(launcher: subprocess.Popen) -> dict[int, int]:
    """Return the process number of each local rank."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = path.read_bytes()
            parent = int(re.sub(r"^.*\) ", "", (path.parent / "stat").read_text()).split()[1])
        except OSError:  # it has ended meanwhile
            continue
        rank = re.search(rb"(?:^|\0)LOCAL_RANK=(\d+)\0", environment)
        if rank and parent == launcher.pid:
            found[int(rank[1])] = int(path.parent.name)
    return found


@pytest.fixture
def launch(pool: Pool) -> Callable[..., subprocess.Popen]:
    def launch(out: Path, *more: str, flags: tuple[str, ...] = ()) -> subprocess.Popen:
        program = [*LAUNCH, "2", *flags, *command(pool, out, *more)[1:]]
        return subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return launch


Launch = Callable[..., subprocess.Popen]
LOST = "error: another process of this training has ended or does not answer"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the ranks are found in /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_lost_process_ends_all_with_one_line_and_a_state_to_resume(
    pool: Pool, tmp_path: Path, launch: Launch, rank: int
) -> None:
    launcher = launch(tmp_path, "--kimg", "1000", "--save-kimg", "0.4")
    wait_for(lambda: list(tmp_path.glob("*/state-latest.pt")), launcher)
    ranks = processes_of(launcher)
    os.kill(ranks[rank], signal.SIGKILL)
    start = time.monotonic()
    _, errors = launcher.communicate(timeout=60)
    assert time.monotonic() - start < 10
    assert launcher.returncode != 0
    assert errors.count("error: ") == errors.count(LOST) == 1, errors
    assert "the same command resumes from the last saved state" in errors
    assert not Path(f"/proc/{ranks[1 - rank]}").exists()
    again = subprocess.run(command(pool, tmp_path, "--kimg", "2"), cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "resumed from" in again.stderr
    assert "1 processes × 1 threads, before 2 × 1: the same training, but not bit for bit" in again.stderr
    (run,) = tmp_path.iterdir()
    assert runs.load_state(run)["images_seen"] == 2000


@pytest.mark.slow
def test_a_signal_stops_all_at_one_step_and_two_resume_bit_for_bit(tmp_path: Path, launch: Launch) -> None:
    whole = launch(tmp_path / "whole", "--kimg", "3")
    assert whole.wait(timeout=120) == 0, whole.stderr.read()
    parts = launch(tmp_path / "parts", "--kimg", "3")
    wait_for(lambda: images_logged(tmp_path / "parts"), parts)
    os.kill(processes_of(parts)[1], signal.SIGTERM)  # not the leader, and not the launcher
    _, errors = parts.communicate(timeout=60)
    assert parts.returncode == 0, errors
    assert errors.count("stopped by SIGTERM at") == 1
    (run,) = (tmp_path / "parts").iterdir()
    assert 1000 <= runs.load_state(run)["images_seen"] < 3000
    last = launch(tmp_path / "parts", "--kimg", "3")
    _, errors = last.communicate(timeout=120)
    assert "resumed from" in errors
    assert "not bit for bit" not in errors
    (a,), (b,) = (tmp_path / "whole").iterdir(), (tmp_path / "parts").iterdir()
    assert_same(a, b)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the ranks are found in /proc")
def test_torchrun_starts_a_lost_training_again_where_it_was(tmp_path: Path, launch: Launch) -> None:
    whole = launch(tmp_path / "whole", "--kimg", "3", "--save-kimg", "0.4")
    assert whole.wait(timeout=120) == 0, whole.stderr.read()
    parts = launch(tmp_path / "parts", "--kimg", "3", "--save-kimg", "0.4", "--new", flags=("--max-restarts", "2"))
    wait_for(lambda: images_logged(tmp_path / "parts"), parts)
    os.kill(processes_of(parts)[1], signal.SIGKILL)
    _, errors = parts.communicate(timeout=120)
    assert parts.returncode == 0, errors
    assert "resumed from" in errors
    (a,), (b,) = (tmp_path / "whole").iterdir(), (tmp_path / "parts").iterdir()
    assert_same(a, b)


@pytest.mark.slow
def test_what_all_meet_is_reported_once(tmp_path: Path, launch: Launch) -> None:
    launcher = launch(tmp_path, "--set", "batch=12")
    output, errors = launcher.communicate(timeout=60)
    assert launcher.returncode != 0
    said = "error: batch is 12, but 2 processes need a multiple of 8"
    assert errors.count("error: ") == errors.count(said) == 1, errors
    assert output == ""


@pytest.mark.slow
def test_without_data_one_process_makes_the_phantoms_and_one_prints_the_run(tmp_path: Path) -> None:
    options = ["--res", "32", "--kimg", "0.032", "--device", "cpu", "--out"]
    program = [*LAUNCH, "2", "train_gan.py", *options, str(tmp_path / "runs")]
    settings = ["phantom_films=80", "channel_base=128", "channel_max=16", "grow_from=16"]
    program += [word for setting in settings for word in ("--set", setting)]
    environment = {**os.environ, "THISCXR_CACHE": str(tmp_path / "cache")}
    result = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(tmp_path / "runs" / "00000-phantom-32")]
    assert result.stderr.count("making 80 phantom films") == 1


def test_who_waits_for_phantoms_makes_them_when_their_maker_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited without end for the first process of the machine, which need not be a child of torchrun."""
    monkeypatch.setenv("THISCXR_CACHE", str(tmp_path))
    monkeypatch.setenv("LOCAL_RANK", "1")
    made: list[Path] = []

    def write(path: Path, *_: object) -> None:
        made.append(path)
        path.mkdir()
        (path / "pool.json").touch()

    monkeypatch.setattr("thiscxr.phantom.releases.write_layout", write)
    holding = "import sys, time; from pathlib import Path; from thiscxr.files import folder_lock\n"
    holding += "with folder_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    maker = subprocess.Popen([sys.executable, "-c", holding, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert maker.stdout.readline() == b"held\n"
    config = Config(res=32).resolve("cpu", 1)
    with ThreadPoolExecutor(1) as threads:
        waits = threads.submit(phantom_pool, config, make=True)
        with pytest.raises(TimeoutError):
            waits.result(timeout=0.5)
        maker.kill()
        maker.wait()
        assert waits.result(timeout=60) == phantom_pool(config, make=True) == made[0]
    assert len(made) == 1


@pytest.mark.slow
def test_other_pools_in_the_processes_of_one_training_are_refused(pool: Pool, tmp_path: Path) -> None:
    code = (
        "import os, sys; rank = os.environ['RANK']; from thiscxr import cli; "
        "sys.argv += ['--seed', '5'] if rank == '1' else []; cli.main('train')"
    )
    (tmp_path / "train.py").write_text(code)
    program = [*LAUNCH, "2", str(tmp_path / "train.py"), *command(pool, tmp_path / "runs", "--kimg", "1")[2:]]
    result = subprocess.run(
        program, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert result.returncode != 0
    assert "error: process 1 has other options or another pool" in result.stderr
    assert not list((tmp_path / "runs").glob("*/state-latest.pt"))
