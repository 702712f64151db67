"""The training loop: films in, run folder out. A run that was stopped anywhere goes on exactly as if it had not been."""

import json
import logging
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from thiscxr.config import AUTO, Config
from thiscxr.data.pixels import images_to_pixels, make_grid, pixels_to_images, save_png
from thiscxr.data.pool import Pool
from thiscxr.files import folder_lock
from thiscxr.model.conditions import Condition
from thiscxr.model.generator import Generator
from thiscxr.sample.sampling import Network, sample_films
from thiscxr.train.films import Films
from thiscxr.train.runs import NetworkInfo, find_run, load_state, new_run, save_network, save_state, write_text
from thiscxr.train.training import Training

TICK_KIMG = 1.0  # thousand films between lines of stats.jsonl
SAVE_SECONDS = 300.0  # between saved states when save_kimg is 0
GRID = 64  # films in fakes-*.png, seeds 0 to 63
log = logging.getLogger("thiscxr")


class Stop:
    """SIGINT and SIGTERM ask for a clean stop after the current step; a second SIGINT interrupts at once."""

    def __init__(self) -> None:
        self.asked = ""

    def __enter__(self) -> "Stop":
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name


def train(config: Config, pool: Pool, name: str, new: bool = False) -> Path:
    """Train until `kimg`, `minutes` or a signal, and return the run folder; the same call again goes on exactly where this one stopped.

    `config` must be resolved; `name` goes into the folder's name. Raises ValueError for a pool that does not fit the config, and for a
    run folder that another process holds.
    """
    if pool.resolution != config.res:
        raise ValueError(f"{pool.path} holds films of {pool.resolution} px, but --res is {config.res}; prepare a pool at {config.res} px")
    config = replace(config, pool_fingerprint=pool.fingerprint)
    assert AUTO not in (config.batch, config.channel_base, config.r1_gamma, config.device, config.threads)
    torch.set_num_threads(int(config.threads))
    films = Films(pool, config)
    run = None if new else find_run(Path(config.out), config)
    found = run is not None
    run = run or new_run(Path(config.out), config, name)
    with folder_lock(run, f"{run} is being trained by another process; stop it, or start another run with --new"):
        for stale in run.glob(".*.part"):  # half-written by a process that was killed
            stale.unlink()
        state = load_state(run)
        training = Training(config, films)
        log_to(run / "log.txt")
        log.info("%s %s", "run folder" if not found else "going on in", run)
        if state is not None:
            training.restore(state)
            forget_later_ticks(run, training.images_seen)
            log.info("resumed from %d films", training.images_seen)
        else:
            show_reals(run, films)
        info = NetworkInfo(
            name=run.name,
            architecture=training.G.config,
            vocabulary=films.vocabulary,
            joint_table=films.table,
            images_seen=0,
            pool_fingerprint=pool.fingerprint,
            sources=pool.meta["sources"],
        )
        if training.images_seen >= config.kimg * 1000:
            log.info("finished: %d of %d films were seen; raise --kimg to go on", training.images_seen, config.kimg * 1000)
            return run
        with Stop() as stop:
            run_steps(run, training, info, stop)
    return run


def run_steps(run: Path, training: Training, info: NetworkInfo, stop: Stop) -> None:
    """Step, log and save until the end or a stop."""
    config = training.config
    started = last_save = time.monotonic()
    first = last_saved = training.images_seen
    tick: dict[str, list[float]] = {}
    tick_images, tick_time = training.images_seen, started
    end = int(config.kimg * 1000)
    board = SummaryWriter(run, purge_step=training.images_seen)
    bar = tqdm(
        total=end / 1000, initial=min(first, end) / 1000, unit="kimg", file=sys.stderr, mininterval=1.0, smoothing=0.05,
        bar_format="{l_bar}{bar}| {n:.2f}/{total:g} kimg [{elapsed}<{remaining}{postfix}]",
    )  # fmt: skip
    try:
        while True:
            for key, value in training.step().items():
                tick.setdefault(key, []).append(value)
            now = time.monotonic()
            bar.update(min(training.images_seen, end) / 1000 - bar.n)
            done = training.images_seen >= end
            late = config.minutes > 0 and now - started >= config.minutes * 60
            stopping = done or late or bool(stop.asked)
            if stopping or training.images_seen - tick_images >= TICK_KIMG * 1000:
                rate = (training.images_seen - tick_images) / (now - tick_time)
                write_tick(run, board, training, tick, rate)
                left = f", stops in {max(0.0, config.minutes - (now - started) / 60):.1f} min" if config.minutes else ""
                bar.set_postfix_str(f"{rate:.1f} img/s{left}")
                tick, tick_images, tick_time = {}, training.images_seen, now
            due = training.images_seen - last_saved >= config.save_kimg * 1000 if config.save_kimg else now - last_save >= SAVE_SECONDS
            if stopping or due:
                save(run, training, replace(info, images_seen=training.images_seen), board)
                last_save, last_saved = time.monotonic(), training.images_seen
            if stopping:
                break
    finally:
        bar.close()
        board.close()
    reason = "finished" if done else f"stopped by {stop.asked}" if stop.asked else f"stopped after {config.minutes:g} minutes"
    log.info(
        "%s at %d films (%d in this call, %.1f img/s); %s", reason, training.images_seen, training.images_seen - first,
        (training.images_seen - first) / (time.monotonic() - started), run,
    )  # fmt: skip


def write_tick(run: Path, board: SummaryWriter, training: Training, tick: dict[str, list[float]], rate: float) -> None:
    """Append one line to stats.jsonl and the same to TensorBoard: means over the steps since the line before."""
    stats = {key: float(np.mean(values)) for key, values in tick.items()}
    stats["img_per_sec"] = rate
    for key, value in stats.items():
        board.add_scalar(key, value, training.images_seen)
    with open(run / "stats.jsonl", "a") as file:
        file.write(json.dumps({"images_seen": training.images_seen, **{key: round(value, 6) for key, value in stats.items()}}) + "\n")


def save(run: Path, training: Training, info: NetworkInfo, board: SummaryWriter) -> None:
    """Write the state, the averaged network and its fixed-seed films."""
    save_state(run, training.state())
    kimg = round(training.images_seen / 1000)
    generator = training.averaged()
    grid = fake_grid(generator, info)
    save_png(run / f"fakes-{kimg:06d}.png", grid)
    board.add_image("fakes", grid, training.images_seen, dataformats="HW")
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
    save_png(run / "reals.png", make_grid(pixels, columns=8))


def forget_later_ticks(run: Path, images_seen: int) -> None:
    """Drop the lines of stats.jsonl that a kill left behind after the last saved state: they will be written again."""
    path = run / "stats.jsonl"
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if line.endswith("}") and json.loads(line)["images_seen"] <= images_seen]
        write_text(path, "".join(f"{line}\n" for line in lines))


def log_to(path: Path) -> None:
    """Send the log to this file too, and to no other run's file."""
    for handler in [h for h in log.handlers if isinstance(h, logging.FileHandler)]:
        log.removeHandler(handler)
        handler.close()
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
