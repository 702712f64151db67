"""Rejection sampling: of many films keep those that a classifier predicts to be as required, before any is written.

A pilot estimates their share and how long it will take. Progress is noted beside the output folder, so that the same
call resumes after a kill.
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
from thiscxr.files import write_file
from thiscxr.latent.where import Where
from thiscxr.measures.resampling import wilson
from thiscxr.model.conditions import Condition
from thiscxr.reader.trust import TrustedReader
from thiscxr.sample.latents import MAX_SEED
from thiscxr.sample.sampling import Network, sample_films
from thiscxr.sample.truncation import Truncation

PILOT = 512  # films that estimate the yield; if none passes, the call stops
STEP = 512  # films between two notes
log = logging.getLogger("thiscxr")


@dataclass(frozen=True)
class Selection:
    """The films that pass, and the columns of samples.csv with what the classifier predicts for them."""

    seeds: list[int]
    conditions: list[Condition]
    columns: dict[str, list[str]]

    def columns_of(self, seeds: Sequence[int]) -> dict[str, list[str]]:
        """Return the columns of some of the seeds, in their order."""
        places = {seed: place for place, seed in enumerate(self.seeds)}
        return {name: [values[places[seed]] for seed in seeds] for name, values in self.columns.items()}


class _Notes:
    """The progress of an earlier call for the same films: a hash of the request, then a JSON line every STEP films,
    appended."""

    def __init__(self, path: Path, requested: str) -> None:
        self.path, self.drawn = path, 0
        self.found: list[tuple[int, list[str]]] = []  # seed, and its values
        head = hashlib.sha256(requested.encode()).hexdigest()
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
        write_file(path, "\n".join(whole) + "\n")

    def add(self, drawn: int, found: list[tuple[int, list[str]]]) -> None:
        """Note that `drawn` films were classified in all, and those of the last step that pass."""
        self.drawn, self.found = drawn, self.found + found
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps([drawn, found]) + "\n")
            file.flush()
            os.fsync(file.fileno())


def notes_path(out: Path) -> Path:
    """Return the file that notes the progress for a folder; to be removed once the folder is there."""
    return out.with_name(f".{out.name}.where")


def select(
    network: Network,
    reader: TrustedReader,
    where: Where,
    requested: Condition,
    truncation: Truncation,
    out: Path,
    seeds: Sequence[int] | None = None,
    count: int | None = None,
) -> Selection:
    """Generate the films of seeds one after the other until `count` pass; seeds: None: all there are; count: None: all
    of `seeds` that pass.

    Raises ValueError when none of the first PILOT films passes, and when fewer than `count` of `seeds` pass.
    """
    candidates = range(MAX_SEED + 1) if seeds is None else seeds
    assert seeds is not None or count is not None
    spelt = f"{thiscxr.__version__} {network.sha256} {reader.sha256} {where} {requested} {truncation} {seeds} {count}"
    out.parent.mkdir(parents=True, exist_ok=True)
    notes = _Notes(notes_path(out), spelt)
    if notes.drawn:
        log.info("resuming after %d films, of which %d pass", notes.drawn, len(notes.found))
    most = len(candidates) if count is None else count
    with tqdm(total=most, unit="film", file=sys.stderr, desc="select", delay=2) as bar:
        while notes.drawn < len(candidates) and len(notes.found) < most:
            some = candidates[notes.drawn : notes.drawn + (PILOT if not notes.drawn else STEP)]
            start = time.monotonic()
            found = _passing(network, reader, where, requested, truncation, some)
            seconds = (time.monotonic() - start) / len(some)
            if not notes.drawn and len(some) == PILOT:
                if not found:
                    notes.path.unlink()
                _report_pilot(where, len(found), most, count is None, seconds)
            notes.add(notes.drawn + len(some), found)
            bar.update(min(len(notes.found), most) - bar.n if count is not None else len(some))
    if not notes.found or (count is not None and len(notes.found) < count):
        yielded = f"{len(notes.found)} of {notes.drawn} films are {where}"
        notes.path.unlink()
        raise ValueError(
            f"{yielded}{'' if count is None else f', and -n requests {count}'}; give more --seeds, or request fewer"
        )
    kept = notes.found[:most]
    share = len(notes.found) / notes.drawn
    low, high = wilson(share, notes.drawn)
    yielded = f"{len(notes.found):,} of {notes.drawn:,} films are {where}: {share:.1%} [{low:.1%}, {high:.1%}]"
    log.info("%s%s", yielded, f"; the first {most:,} are kept" if len(notes.found) > most else "")
    chosen = [seed for seed, _ in kept]
    columns = {f"read_{name}": [values[i] for _, values in kept] for i, name in enumerate(where.names)}
    return Selection(
        chosen, network.conditions(chosen, requested), {**columns, "reader_sha256": [reader.sha256] * len(chosen)}
    )


def _passing(
    network: Network,
    reader: TrustedReader,
    where: Where,
    requested: Condition,
    truncation: Truncation,
    seeds: Sequence[int],
) -> list[tuple[int, list[str]]]:
    found, done = [], 0
    for pixels in sample_films(network, list(seeds), network.conditions(list(seeds), requested), truncation):
        predicted = where.predict(reader.read(pixels))
        for place in np.flatnonzero(where.holds(predicted)).tolist():
            values = [predicted[name][place] for name in where.names]
            found.append(
                (int(seeds[done + place]), [value if isinstance(value, str) else f"{value:.4f}" for value in values])
            )
        done += len(pixels)
    return found


def _report_pilot(where: Where, passed: int, most: int, all_of_them: bool, seconds: float) -> None:
    """Report the yield of the pilot and the expected time. Raises ValueError when no film passed."""
    share = passed / PILOT
    low, high = (float(edge) for edge in wilson(share, PILOT))
    if not passed:
        what = f"none of {PILOT} films is {where}, so at most {high:.1%} are"
        raise ValueError(
            f"{what}; lower the threshold, or request it of the network too, with --finding, --view, --sex or --age"
        )
    pilot = f"pilot: {passed} of {PILOT} films are {where}: {share:.1%} [{low:.1%}, {high:.1%}]"
    if all_of_them:
        log.info("%s; %s of them take %s", pilot, f"{most:,}", _clock(most * seconds))
        return
    if passed < most:
        draws = [most / each for each in (share, high, low)]
        span = f"{draws[0]:,.0f} [{draws[1]:,.0f}, {draws[2]:,.0f}]"
        log.info(
            "%s; %s films take about %s draws, %s [%s, %s]",
            pilot,
            f"{most:,}",
            span,
            *(_clock(each * seconds) for each in draws),
        )
    else:
        log.info("%s", pilot)


def _clock(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )
