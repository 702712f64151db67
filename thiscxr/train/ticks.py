"""What a training reports while it runs: the progress bar, the lines of stats.jsonl and the same in TensorBoard."""

import json
import logging
import sys
import time
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from thiscxr.files import write_file
from thiscxr.train.training import Training

TICK_KIMG = 1.0  # thousand films between lines of stats.jsonl
log = logging.getLogger("thiscxr")


class Ticks:
    """A tick is the time between two lines of stats.jsonl; a line holds means over the steps of its tick. The leader
    alone writes."""

    def __init__(self, run: Path, training: Training, minutes: float) -> None:
        self.run, self.training, self.minutes = run, training, minutes
        self.started, self.first, self.trained = time.monotonic(), training.images_seen, 0
        self.board = SummaryWriter(run, purge_step=self.first) if training.team.leads else None
        self.end = int(training.config.kimg * 1000)
        layout = "{l_bar}{bar}| {n:.2f}/{total:g} kimg [{elapsed}<{remaining}{postfix}]"
        self.bar = tqdm(
            total=self.end / 1000, initial=min(self.first, self.end) / 1000, unit="kimg", bar_format=layout,
            file=sys.stderr, mininterval=1.0, smoothing=0.05, disable=not training.team.leads,
        )  # fmt: skip
        self.restart()

    def __enter__(self) -> "Ticks":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.board:
            self.board.close()

    def restart(self) -> None:
        """Begin a tick."""
        self.values: dict[str, list[float]] = {}
        self.images, self.time, self.waited = (
            self.training.images_seen,
            time.monotonic(),
            self.training.films.waited_sec,
        )

    def advance(self) -> None:
        """Move the bar by a step."""
        self.trained += int(self.training.config.batch)
        self.bar.update(min(self.training.images_seen, self.end) / 1000 - self.bar.n)

    def clear(self) -> None:
        """Take the bar off the screen, so that a line can be logged."""
        self.bar.clear()

    def add(self, *numbers: dict[str, float]) -> None:
        """Add the numbers of a step."""
        for some in numbers:
            for key, value in some.items():
                self.values.setdefault(key, []).append(value)

    def due(self) -> bool:
        """Return whether the tick has seen enough films."""
        return self.training.images_seen - self.images >= TICK_KIMG * 1000

    def write(self) -> None:
        """Append a line to stats.jsonl and TensorBoard, and begin the next tick."""
        if self.board:
            now, films = time.monotonic(), self.training.films
            stats = {key: float(np.mean(values)) for key, values in self.values.items()}
            stats["data/wait_share"] = (films.waited_sec - self.waited) / (now - self.time)
            stats["img_per_sec"] = (self.training.images_seen - self.images) / (now - self.time)
            for key, value in stats.items():
                self.board.add_scalar(key, value, self.training.images_seen)
            write_line(self.run, self.training, stats)
            left = f", stops in {max(0.0, self.minutes - (now - self.started) / 60):.1f} min" if self.minutes else ""
            self.bar.set_postfix_str(f"{stats['img_per_sec']:.1f} img/s{left}")
        self.restart()

    def log_end(self, why: str) -> None:
        """Log why and where the call ended, and how fast it was."""
        spent, waited = time.monotonic() - self.started, self.training.films.waited_sec
        log.info(
            "%s at %d films (%d in this call, %.1f img/s, %.1f %% of the time waiting for data); %s",
            why, self.training.images_seen, self.trained, self.trained / spent, 100 * waited / spent, self.run,
        )  # fmt: skip


def write_line(run: Path, training: Training, stats: dict[str, float]) -> None:
    """Append a line to stats.jsonl. Going back, `images_seen` does not fall within one number of returns."""
    line = {"images_seen": training.images_seen, "watch/returns": training.noise_stream, **stats}
    with open(run / "stats.jsonl", "a") as file:
        file.write(json.dumps({key: round(value, 6) for key, value in line.items()}) + "\n")


def forget_later_ticks(run: Path, training: Training) -> None:
    """Drop the lines of stats.jsonl that a kill left behind after the last saved state: they will be written again."""
    path = run / "stats.jsonl"
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        times = [(line.get("watch/returns", 0), line["images_seen"]) for line in map(json.loads, lines)]
        now = training.noise_stream, training.images_seen
        write_file(path, "".join(f"{line}\n" for line, then in zip(lines, times, strict=True) if then <= now))
