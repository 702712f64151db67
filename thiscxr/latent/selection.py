"""Rejection to a target: of many films those that look to a reader as they should, before any is written.

A pilot says what share that is and how long it will take. What was looked at is noted beside the folder to come, so
that the same call goes on there after a kill.
"""

import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

import thiscxr
from thiscxr.files import atomic_path
from thiscxr.latent.where import Where
from thiscxr.measures.resampling import wilson
from thiscxr.model.conditions import Condition
from thiscxr.reader.trust import TrustedReader
from thiscxr.sample.latents import MAX_SEED
from thiscxr.sample.sampling import Network, sample_films
from thiscxr.sample.truncation import Truncation

PILOT = 512  # films by which the yield is told; none of them: the call stops
STEP = 512  # films between two notes
log = logging.getLogger("thiscxr")


@dataclass(frozen=True)
class Selection:
    """The films that pass, and the columns of samples.csv that say what the reader sees on them."""

    seeds: list[int]
    conditions: list[Condition]
    columns: dict[str, list[str]]

    def columns_of(self, seeds: Sequence[int]) -> dict[str, list[str]]:
        """Return the columns of some of the seeds, in their order."""
        places = {seed: place for place, seed in enumerate(self.seeds)}
        return {name: [values[places[seed]] for seed in seeds] for name, values in self.columns.items()}


class _Notes:
    """How far an earlier call for the same films came: a line of what is asked, then a JSON line every STEP films,
    appended."""

    def __init__(self, path: Path, asked: str) -> None:
        self.path, self.drawn = path, 0
        self.found: list[tuple[int, list[str]]] = []  # seed, and its values
        head = hashlib.sha256(asked.encode()).hexdigest()
        lines = path.read_text().splitlines() if path.is_file() else []
        whole = [head]
        for line in lines[1:] if lines[:1] == [head] else []:
            try:
                note = json.loads(line)
            except ValueError:
                break  # cut off in the middle
            self.drawn, found = note
            self.found += [(seed, values) for seed, values in found]
            whole.append(line)
        with atomic_path(path) as part:
            part.write_text("\n".join(whole) + "\n")

    def add(self, drawn: int, found: list[tuple[int, list[str]]]) -> None:
        """Note that `drawn` films were looked at in all, and those of the last step that pass."""
        self.drawn, self.found = drawn, self.found + found
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps([drawn, found]) + "\n")
            file.flush()
            os.fsync(file.fileno())


def notes_path(out: Path) -> Path:
    """Return where what was looked at for a folder is noted; to be removed once the folder is there."""
    return out.with_name(f".{out.name}.where")


def select(
    network: Network,
    reader: TrustedReader,
    where: Where,
    asked: Condition,
    truncation: Truncation,
    out: Path,
    seeds: Sequence[int] | None = None,
    count: int | None = None,
) -> Selection:
    """Draw the films of seeds one after the other until `count` pass; seeds: None: all there are; count: None: all that
    pass of `seeds`.

    Raises ValueError when none of the first PILOT films passes, and when `seeds` do not hold `count` that do.
    """
    candidates = range(MAX_SEED + 1) if seeds is None else seeds
    assert seeds is not None or count is not None
    spelt = f"{thiscxr.__version__} {network.sha256} {reader.sha256} {where} {asked} {truncation} {seeds} {count}"
    out.parent.mkdir(parents=True, exist_ok=True)
    notes = _Notes(notes_path(out), spelt)
    if notes.drawn:
        log.info("going on after %d films, of which %d pass", notes.drawn, len(notes.found))
    most = len(candidates) if count is None else count
    with tqdm(total=most, unit="film", file=sys.stderr, desc="select", delay=2) as bar:
        while notes.drawn < len(candidates) and len(notes.found) < most:
            some = candidates[notes.drawn : notes.drawn + (PILOT if not notes.drawn else STEP)]
            start = time.monotonic()
            found = _passing(network, reader, where, asked, truncation, some)
            seconds = (time.monotonic() - start) / len(some)
            if not notes.drawn and len(some) == PILOT:
                if not found:
                    notes.path.unlink()
                _tell(where, len(found), most, count is None, seconds)
            notes.add(notes.drawn + len(some), found)
            bar.update(min(len(notes.found), most) - bar.n if count is not None else len(some))
    if not notes.found or (count is not None and len(notes.found) < count):
        told = f"{len(notes.found)} of {notes.drawn} films are {where}"
        notes.path.unlink()
        raise ValueError(
            f"{told}{'' if count is None else f', and -n asks for {count}'}; give more --seeds, or ask for less"
        )
    kept = notes.found[:most]
    share = len(notes.found) / notes.drawn
    low, high = wilson(share, notes.drawn)
    told = f"{len(notes.found):,} of {notes.drawn:,} films drawn are {where}: {share:.1%} [{low:.1%}, {high:.1%}]"
    log.info("%s%s", told, f"; the first {most:,} are kept" if len(notes.found) > most else "")
    chosen = [seed for seed, _ in kept]
    columns = {f"read_{name}": [values[i] for _, values in kept] for i, name in enumerate(where.names)}
    return Selection(
        chosen, network.conditions(chosen, asked), {**columns, "reader_sha256": [reader.sha256] * len(chosen)}
    )


def _passing(
    network: Network,
    reader: TrustedReader,
    where: Where,
    asked: Condition,
    truncation: Truncation,
    seeds: Sequence[int],
) -> list[tuple[int, list[str]]]:
    found, done = [], 0
    for pixels in sample_films(network, list(seeds), network.conditions(list(seeds), asked), truncation):
        seen = where.look(reader.read(pixels))
        for place in np.flatnonzero(where.holds(seen)).tolist():
            values = [seen[name][place] for name in where.names]
            found.append(
                (int(seeds[done + place]), [value if isinstance(value, str) else f"{value:.4f}" for value in values])
            )
        done += len(pixels)
    return found


def _tell(where: Where, passed: int, most: int, all_of_them: bool, seconds: float) -> None:
    """Say what the pilot found and what is to come. Raises ValueError when it found nothing."""
    share = passed / PILOT
    low, high = (float(edge) for edge in wilson(share, PILOT))
    if not passed:
        what = f"none of {PILOT} films is {where}, so at most {high:.1%} are"
        raise ValueError(
            f"{what}; lower the threshold, or ask the network for it too, with --finding, --view, --sex or --age"
        )
    told = f"pilot: {passed} of {PILOT} films are {where}: {share:.1%} [{low:.1%}, {high:.1%}]"
    if all_of_them:
        log.info("%s; %s of them take %s", told, f"{most:,}", _clock(most * seconds))
        return
    if passed < most:
        draws = [most / each for each in (share, high, low)]
        span = f"{draws[0]:,.0f} [{draws[1]:,.0f}, {draws[2]:,.0f}]"
        log.info(
            "%s; %s films take about %s draws, %s [%s, %s]",
            told,
            f"{most:,}",
            span,
            *(_clock(each * seconds) for each in draws),
        )
    else:
        log.info("%s", told)


def _clock(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )
