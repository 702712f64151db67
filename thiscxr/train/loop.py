"""The training loop: films in, run folder out. A run that was stopped anywhere goes on exactly as if it had not been."""

import json
import logging
import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from thiscxr.config import AUTO, Config
from thiscxr.files import folder_lock
from thiscxr.marks import NOTICE, SOFTWARE
from thiscxr.model.conditions import Condition
from thiscxr.model.generator import Generator
from thiscxr.model.network_file import NetworkInfo, save_network
from thiscxr.model.resample import use_triton
from thiscxr.pixels import images_to_pixels, make_grid, pixels_to_images, save_png
from thiscxr.pool import Pool
from thiscxr.sample.sampling import Network, sample_films
from thiscxr.train.board import show
from thiscxr.train.films import Films
from thiscxr.train.runs import find_run, load_state, new_run, save_state, write_text
from thiscxr.train.start import start, with_inherited
from thiscxr.train.team import Team, open_team, restarts
from thiscxr.train.training import Training
from thiscxr.train.watch import CollapseError, Watch

TICK_KIMG = 1.0  # thousand films between lines of stats.jsonl
SAVE_SECONDS = 300.0  # between saved states when save_kimg is 0
GRID = 64  # films in fakes-*.png, seeds 0 to 63
LATE = 1  # among the numbers of signals: the minutes are over
log = logging.getLogger("thiscxr")


class Stop:
    """SIGINT and SIGTERM ask for a clean stop after the current step; a second SIGINT interrupts at once."""

    def __init__(self, team: Team, minutes: float) -> None:
        self.team, self.minutes = team, minutes
        self.asked = 0  # number of the signal

    def __enter__(self) -> "Stop":
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None and self.team.size > 1:
            return  # torchrun ends those left with SIGTERM, but not before they have said why
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = number

    def agreed(self, late: bool) -> str:
        """Return why all processes stop after this step, or "": because one of them was asked to or is out of time."""
        number = self.team.most(self.asked or LATE * late)
        if number == LATE:
            return f"stopped after {self.minutes:g} minutes"
        return f"stopped by {signal.Signals(number).name}" if number else ""


def train(config: Config, pool: Pool, name: str, new: bool = False) -> Path:
    """Train until `kimg`, `minutes` or a signal, and return the run folder; the same call again goes on exactly where this one stopped.

    `config` must be resolved; `name` goes into the folder's name. Under torchrun every process makes this call and they train together.
    Raises ValueError for a pool that does not fit the config, and for a run folder that another process holds; FloatingPointError when
    the training is not finite or has collapsed for good; ConnectionError when another process of it is lost.
    """
    config = replace(config, pool_fingerprint=pool.fingerprint)
    assert AUTO not in (config.batch, config.channel_base, config.r1_gamma, config.device, config.threads)
    torch.set_num_threads(int(config.threads))
    if config.triton and config.device != "cuda":
        raise ValueError(f"triton is true, but the device is {config.device}; its kernels need --device cuda, so leave it off")
    use_triton(config.triton)
    with open_team(config.device) as team:
        if team.share(config.fingerprint) != config.fingerprint:
            raise ValueError(f"process {team.rank} has other options or another pool ({pool.path}) than process 0; give all the same")
        films = Films(pool, config)
        training, watch = Training(config, films, team), Watch(config, films)
        run = choose_run(config, name, new, team)
        busy = f"{run} is being trained by another process; stop it, or start another run with --new"
        with folder_lock(run, busy) if team.leads else nullcontext():
            begin(run, training, watch)
            info = NetworkInfo(
                name=run.name,
                architecture=training.G.config,
                vocabulary=films.vocabulary,
                joint_table=films.table,
                images_seen=0,
                pool_fingerprint=pool.fingerprint,
                sources=with_inherited(pool.meta["sources"], training.inherited),
            )
            if training.images_seen >= config.kimg * 1000:
                log.info("finished: %d of %d films were seen; raise --kimg to go on", training.images_seen, config.kimg * 1000)
                return run
            with Stop(team, config.minutes) as stop:
                run_steps(run, training, watch, info, stop)
    return run


def choose_run(config: Config, name: str, new: bool, team: Team) -> Path:
    """Return the run folder to go on in, or a new one; the leader decides for all."""
    run = None
    if team.leads:
        new = new and not restarts()  # what torchrun starts again goes on
        run = None if new else find_run(Path(config.out), config)
        run = run or new_run(Path(config.out), config, name)
    return Path(team.share(str(run)))


def begin(run: Path, training: Training, watch: Watch) -> None:
    """Bring every process to the saved state of the run, or to one beginning."""
    team, threads = training.team, training.config.threads
    saved = None
    if team.leads:
        for stale in run.glob(".*.part"):  # half-written by a process that was killed
            stale.unlink()
        saved = load_state(run)
        log_to(run / "log.txt")
        log.info("%s %s", "run folder" if saved is None else "going on in", run)
        if saved is None:
            show_reals(run, training.films)
            if training.config.init:
                start(training)
    watch.restore(training, team.share(saved or training.state()))
    if team.leads:
        forget_later_ticks(run, training)
    if saved is not None:
        log.info("resumed from %d films", training.images_seen)
        before, now = (saved.get("processes", 1), saved.get("threads", threads)), (team.size, threads)
        if before != now:
            log.info("%d processes × %d threads, before %d × %d: the same training, but not bit for bit", *now, *before)


def run_steps(run: Path, training: Training, watch: Watch, info: NetworkInfo, stop: Stop) -> None:
    """Step, log, save and, after a collapse, go back, until the end or a stop; the leader alone logs and saves."""
    config, leads = training.config, training.team.leads
    started = last_save = time.monotonic()
    first = last_saved = training.images_seen
    trained = 0
    tick: dict[str, list[float]] = {}
    tick_images, tick_time, waited = training.images_seen, started, training.films.waited_sec
    end = int(config.kimg * 1000)
    board = SummaryWriter(run, purge_step=first) if leads else None
    bar = tqdm(
        total=end / 1000, initial=min(first, end) / 1000, unit="kimg", file=sys.stderr, mininterval=1.0, smoothing=0.05, disable=not leads,
        bar_format="{l_bar}{bar}| {n:.2f}/{total:g} kimg [{elapsed}<{remaining}{postfix}]",
    )  # fmt: skip
    try:
        while True:
            losses = training.step()
            trained += int(config.batch)
            watch.note(losses)
            now = time.monotonic()
            bar.update(min(training.images_seen, end) / 1000 - bar.n)
            done = training.images_seen >= end
            late = config.minutes > 0 and now - started >= config.minutes * 60
            why = "finished" if done else stop.agreed(late)
            due = leads and (
                training.images_seen - last_saved >= config.save_kimg * 1000 if config.save_kimg else now - last_save >= SAVE_SECONDS
            )
            scheduled = watch.due(training.images_seen)
            seen, wrong = watch.look(training, scheduled) if scheduled or why or due else ({}, "")
            if scheduled or why:
                wrong = training.team.share(wrong)
            if scheduled and wrong:
                bar.clear()
                go_back(run, training, watch, seen, wrong)
                tick, tick_images, tick_time, last_saved = {}, training.images_seen, time.monotonic(), training.images_seen
                waited = training.films.waited_sec
                continue
            if why and wrong:
                # Between two looks nobody goes back: the training would depend on where a call ends.
                next_look = f"Raise --kimg to {watch.next(training.images_seen) / 1000:g}, where it goes back"
                advice = next_look if done else "Give the same command again"
                raise CollapseError(f"{why} after {training.images_seen} films, not saved: {wrong}. {advice}")
            for key, value in {**losses, **(seen if scheduled else {})}.items():
                tick.setdefault(key, []).append(value)
            if board and (why or training.images_seen - tick_images >= TICK_KIMG * 1000):
                rate = (training.images_seen - tick_images) / (now - tick_time)
                tick["data/wait_share"] = [(training.films.waited_sec - waited) / (now - tick_time)]
                waited = training.films.waited_sec
                write_tick(run, board, training, tick, rate)
                left = f", stops in {max(0.0, config.minutes - (now - started) / 60):.1f} min" if config.minutes else ""
                bar.set_postfix_str(f"{rate:.1f} img/s{left}")
                tick, tick_images, tick_time = {}, training.images_seen, now
            if board and (why or due):
                if not wrong:
                    save(run, training, watch, replace(info, images_seen=training.images_seen), board)
                last_save, last_saved = time.monotonic(), training.images_seen
            if why:
                break
    finally:
        bar.close()
        if board:
            board.close()
    spent = time.monotonic() - started
    log.info(
        "%s at %d films (%d in this call, %.1f img/s, %.1f %% of the time waiting for data); %s",
        why, training.images_seen, trained, trained / spent, 100 * training.films.waited_sec / spent, run,
    )  # fmt: skip


def go_back(run: Path, training: Training, watch: Watch, seen: dict[str, float], wrong: str) -> None:
    """Return to the last good state with other random numbers and smaller steps. Raises CollapseError when that was done too often."""
    config, team = training.config, training.team
    collapsed_at, good_at, returns = training.images_seen, team.share(watch.good["images_seen"]), training.noise_stream + 1
    if team.leads:
        write_line(run, training, {**seen, "watch/back_to": good_at})
    if returns > config.max_returns:
        if team.leads:
            write_state(run, training, watch.again(training.noise_stream))
        raise CollapseError(
            f"collapsed {returns} times, at last after {collapsed_at} films: {wrong}. The state of {good_at} films is kept. "
            f"Lower lr or raise r1_gamma (--set lr={config.lr / 2:g}), with --new"
        )
    watch.restore(training, team.share(watch.again(returns)))
    if team.leads:
        write_state(run, training, watch.state(training))  # so that a kill does not go through it again
        log.warning(
            "collapsed after %d films: %s; back to %d films, with other random numbers and half the learning rate (return %d of %d)",
            collapsed_at, wrong, good_at, returns, config.max_returns,
        )  # fmt: skip


def write_tick(run: Path, board: SummaryWriter, training: Training, tick: dict[str, list[float]], rate: float) -> None:
    """Append one line to stats.jsonl and the same to TensorBoard: means over the steps since the line before."""
    stats = {key: float(np.mean(values)) for key, values in tick.items()}
    stats["img_per_sec"] = rate
    for key, value in stats.items():
        board.add_scalar(key, value, training.images_seen)
    write_line(run, training, stats)


def write_line(run: Path, training: Training, stats: dict[str, float]) -> None:
    """Append a line to stats.jsonl. Going back, `images_seen` does not fall within one number of returns."""
    line = {"images_seen": training.images_seen, "watch/returns": training.noise_stream, **stats}
    with open(run / "stats.jsonl", "a") as file:
        file.write(json.dumps({key: round(value, 6) for key, value in line.items()}) + "\n")


def write_state(run: Path, training: Training, state: dict[str, Any]) -> None:
    """Write a state, and how many processes and threads made it."""
    save_state(run, {**state, "processes": training.team.size, "threads": training.config.threads})


def save(run: Path, training: Training, watch: Watch, info: NetworkInfo, board: SummaryWriter) -> None:
    """Write the state, the averaged network and its fixed-seed films."""
    write_state(run, training, watch.state(training))
    kimg = round(training.images_seen / 1000)
    generator = training.averaged()
    grid = fake_grid(generator, info)
    save_png(run / f"fakes-{kimg:06d}.png", grid, {"Title": "Films of seeds 0 to 63", "Disclaimer": NOTICE, "Software": SOFTWARE})
    board.add_image("fakes", grid, training.images_seen, dataformats="HW")
    show(board, training, generator, info)
    board.flush()
    for name in (f"network-{kimg:06d}.safetensors", "network-latest.safetensors"):
        save_network(run / name, generator, info)


def fake_grid(generator: Generator, info: NetworkInfo) -> np.ndarray:
    """Return the films of seeds 0 to 63 as one picture."""
    network = Network(generator, info, "")
    seeds = range(GRID)
    films = sample_films(network, seeds, network.conditions(list(seeds), Condition()), batch=16)
    return make_grid(np.concatenate(list(films)), columns=8)


def show_reals(run: Path, films: Films) -> None:
    """Write reals.png: as many training films as a grid of samples has."""
    rows = np.random.Generator(np.random.Philox(key=films.seed)).permutation(len(films.indices))[:GRID]
    pixels = images_to_pixels(pixels_to_images(films.pool.read(films.indices[np.sort(rows)])))  # 16-bit pools are shown in 8 bits
    save_png(run / "reals.png", make_grid(pixels, columns=8), {"Title": "Training films", "Software": SOFTWARE})


def forget_later_ticks(run: Path, training: Training) -> None:
    """Drop the lines of stats.jsonl that a kill left behind after the last saved state: they will be written again."""
    path = run / "stats.jsonl"
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        times = [(line.get("watch/returns", 0), line["images_seen"]) for line in map(json.loads, lines)]
        now = training.noise_stream, training.images_seen
        write_text(path, "".join(f"{line}\n" for line, then in zip(lines, times, strict=True) if then <= now))


def log_to(path: Path) -> None:
    """Send the log to this file too, and to no other run's file."""
    for handler in [h for h in log.handlers if isinstance(h, logging.FileHandler)]:
        log.removeHandler(handler)
        handler.close()
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
