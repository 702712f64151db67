"""The training loop: films in, run folder out. A stopped run resumes exactly as if it had never stopped."""

import logging
import signal
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from thiscxr.config import AUTO, Config
from thiscxr.files import folder_lock
from thiscxr.marks import NOTICE, SOFTWARE
from thiscxr.model.conditions import Condition
from thiscxr.model.generator import Generator
from thiscxr.model.network_file import NetworkInfo, save_network
from thiscxr.model.resample import use_triton
from thiscxr.pixels import images_to_pixels, make_grid, save_png
from thiscxr.pool import Pool
from thiscxr.sample.sampling import Network, sample_films
from thiscxr.train.board import show
from thiscxr.train.films import Films
from thiscxr.train.runs import find_run, load_state, new_run, save_state
from thiscxr.train.start import start, with_inherited
from thiscxr.train.team import Team, open_team, restarts
from thiscxr.train.ticks import Ticks, forget_later_ticks, write_line
from thiscxr.train.training import Training
from thiscxr.train.watch import CollapseError, Watch

SAVE_SECONDS = 300.0  # between saved states when save_kimg is 0
GRID = 64  # films in fakes-*.png, seeds 0 to 63
FINISHED = "finished"
LATE = 1  # among the numbers of signals: the minutes are over
log = logging.getLogger("thiscxr")


class Stop:
    """SIGINT and SIGTERM request a clean stop after the current step; a second SIGINT interrupts at once."""

    def __init__(self, team: Team, minutes: float) -> None:
        self.team, self.minutes = team, minutes
        self.received = 0  # number of the signal
        self.started = time.monotonic()

    def __enter__(self) -> "Stop":
        self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None and self.team.size > 1:
            return  # torchrun ends those left with SIGTERM, but not before they have said why
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    def why(self, training: Training) -> str:
        """Return why all processes stop after this step, or "": the end, a signal, or the time of one of them is
        over."""
        if training.images_seen >= training.config.kimg * 1000:
            return FINISHED
        late = self.minutes > 0 and time.monotonic() - self.started >= self.minutes * 60
        number = self.team.most(self.received or LATE * late)
        if number == LATE:
            return f"stopped after {self.minutes:g} minutes"
        return f"stopped by {signal.Signals(number).name}" if number else ""


def train(config: Config, pool: Pool, name: str, new: bool = False) -> Path:
    """Train until `kimg`, `minutes` or a signal, and return the run folder; the same call again resumes exactly
    where this one stopped.

    `config` must be resolved; `name` goes into the folder's name. Under torchrun every process makes this call and they
    train together. Raises ValueError for a pool that does not fit the config, and for a run folder that another process
    holds; FloatingPointError when the training is not finite or has collapsed for good; ConnectionError when another
    process of it is lost.
    """
    config = replace(config, pool_fingerprint=pool.fingerprint)
    derived = (config.batch, config.channel_base, config.r1_gamma, config.device, config.threads, config.rest_kimg)
    assert AUTO not in derived
    torch.set_num_threads(int(config.threads))
    if config.triton and config.device != "cuda":
        raise ValueError(
            f"triton is true, but the device is {config.device}; its kernels need --device cuda, so leave it off"
        )
    use_triton(config.triton)
    with open_team(config.device) as team:
        if team.share(config.fingerprint) != config.fingerprint:
            raise ValueError(
                f"process {team.rank} has other options or another pool ({pool.path}) than process 0; give all the same"
            )
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
                started_from=training.started_from,
            )
            if training.images_seen >= config.kimg * 1000:
                log.info(
                    "finished: %d of %d films were seen; raise --kimg to continue",
                    training.images_seen,
                    config.kimg * 1000,
                )
                return run
            with Stop(team, config.minutes) as stop:
                run_steps(run, training, watch, info, stop)
    return run


def choose_run(config: Config, name: str, new: bool, team: Team) -> Path:
    """Return the run folder to resume, or a new one; the leader decides for all."""
    run = None
    if team.leads:
        new = new and not restarts()  # what torchrun starts again resumes
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
        log.info("%s %s", "run folder" if saved is None else "resuming in", run)
        if saved is None:
            show_reals(run, training.films)
            if training.config.init:
                for line in start(training):
                    log.info(line)
    watch.restore(training, team.share(saved or training.state()))
    if team.leads:
        forget_later_ticks(run, training)
    if saved is not None:
        log.info("resumed from %d films", training.images_seen)
        before, now = (saved.get("processes", 1), saved.get("threads", threads)), (team.size, threads)
        if before != now:
            log.info("%d processes × %d threads, before %d × %d: the same training, but not bit for bit", *now, *before)


def run_steps(run: Path, training: Training, watch: Watch, info: NetworkInfo, stop: Stop) -> None:
    """Train, watch, log and save, and after a collapse go back, until the end or a stop; the leader alone logs and
    saves."""
    with Ticks(run, training, stop.minutes) as ticks:
        saves = Saves(run, training, watch, info, ticks)
        why = ""
        while not why:
            losses = training.step()
            watch.note(losses)
            ticks.advance()
            why = stop.why(training)
            scheduled, due = watch.due(training.images_seen), saves.due()
            seen, wrong = watch.look(training, scheduled) if scheduled or why or due else ({}, "")
            if scheduled or why:
                wrong = training.team.share(wrong)
            if wrong and scheduled:
                ticks.clear()
                go_back(run, training, watch, seen, wrong)
                ticks.restart()
                saves.restart()
                why = ""
                continue
            if wrong and why:
                raise CollapseError(not_saved(training, watch, why, wrong))
            ticks.add(losses, seen if scheduled else {})
            if why or ticks.due():
                ticks.write()
            if why or due:
                saves.write(wrong)
    ticks.log_end(why)


def not_saved(training: Training, watch: Watch, why: str, wrong: str) -> str:
    """Return the message for a training that ends collapsed. It goes back only at scheduled checks: between them, the
    result would depend on where a call ends."""
    images_seen = training.images_seen
    next_look = f"Raise --kimg to {watch.next(images_seen) / 1000:g}, where it goes back"
    advice = next_look if why == FINISHED else "Give the same command again"
    return f"{why} after {images_seen} films, not saved: {wrong}. {advice}"


class Saves:
    """When a state is due, and what is written then."""

    def __init__(self, run: Path, training: Training, watch: Watch, info: NetworkInfo, ticks: Ticks) -> None:
        self.run, self.training, self.watch, self.info, self.ticks = run, training, watch, info, ticks
        self.restart()

    def restart(self) -> None:
        """Count from now on."""
        self.images, self.time = self.training.images_seen, time.monotonic()

    def due(self) -> bool:
        """Return whether the leader is to save: by films where the config says so, by the clock otherwise."""
        kimg = self.training.config.save_kimg
        late = (
            self.training.images_seen - self.images >= kimg * 1000
            if kimg
            else time.monotonic() - self.time >= SAVE_SECONDS
        )
        return self.training.team.leads and late

    def write(self, wrong: str) -> None:
        """Write the state, the averaged network and its fixed-seed films, unless something is wrong with them."""
        if self.ticks.board and not wrong:
            write_state(self.run, self.training, self.watch.state(self.training))
            generator, info = self.training.averaged(), replace(self.info, images_seen=self.training.images_seen)
            kimg = round(info.images_seen / 1000)
            grid = fake_grid(generator, info)
            save_png(
                self.run / f"fakes-{kimg:06d}.png",
                grid,
                {"Title": "Films of seeds 0 to 63", "Disclaimer": NOTICE, "Software": SOFTWARE},
            )
            show(self.ticks.board, self.training, generator, info, grid)
            for name in (f"network-{kimg:06d}.safetensors", "network-latest.safetensors"):
                save_network(self.run / name, generator, info)
        self.restart()


def go_back(run: Path, training: Training, watch: Watch, seen: dict[str, float], wrong: str) -> None:
    """Return to the last good state with other random numbers and smaller steps. Raises CollapseError when that was
    done too often."""
    config, team = training.config, training.team
    collapsed_at, good_at, returns = (
        training.images_seen,
        team.share(watch.good["images_seen"]),
        training.noise_stream + 1,
    )
    if team.leads:
        write_line(run, training, {**seen, "watch/back_to": good_at})
    if returns > config.max_returns:
        if team.leads:
            write_state(run, training, watch.again(training.noise_stream))
        raise CollapseError(
            f"collapsed {returns} times, at last after {collapsed_at} films: {wrong}. "
            f"The state of {good_at} films is kept. "
            f"Lower lr or raise r1_gamma (--set lr={config.lr / 2:g}), with --new"
        )
    watch.restore(training, team.share(watch.again(returns)))
    if team.leads:
        write_state(run, training, watch.state(training))  # so that a kill does not go through it again
        log.warning(
            "collapsed after %d films: %s; back to %d films, "
            "with other random numbers and half the learning rate (return %d of %d)",
            collapsed_at, wrong, good_at, returns, config.max_returns,
        )  # fmt: skip


def write_state(run: Path, training: Training, state: dict[str, Any]) -> None:
    """Write a state, and how many processes and threads made it."""
    save_state(run, {**state, "processes": training.team.size, "threads": training.config.threads})


def fake_grid(generator: Generator, info: NetworkInfo) -> np.ndarray:
    """Return the films of seeds 0 to 63 as one picture."""
    network = Network(generator, info, "")
    seeds = range(GRID)
    films = sample_films(network, seeds, network.conditions(list(seeds), Condition()), batch=16)
    return make_grid(np.concatenate(list(films)), columns=8)


def show_reals(run: Path, films: Films) -> None:
    """Write reals.png: as many training films as a grid of samples has."""
    rows = np.random.Generator(np.random.Philox(key=films.seed)).permutation(len(films.indices))[:GRID]
    pixels = images_to_pixels(films.reduced(np.sort(rows))[:, 0].numpy())  # 16-bit pools are shown in 8 bits
    save_png(run / "reals.png", make_grid(pixels, columns=8), {"Title": "Training films", "Software": SOFTWARE})


def log_to(path: Path) -> None:
    """Send the log to this file too, and to no other run's file."""
    for handler in [h for h in log.handlers if isinstance(h, logging.FileHandler)]:
        log.removeHandler(handler)
        handler.close()
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
