"""Run folders and the training states in them. Nothing here runs code from a file: states are loaded with
`weights_only=True`."""

import json
import logging
import os
import platform
import re
import sys
import tomllib
import zipfile
from dataclasses import fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

import thiscxr
from thiscxr.config import Config
from thiscxr.files import atomic_path, write_file

STATE_FORMAT = 2
STATES = ("state-latest.pt", "state-previous.pt")
log = logging.getLogger("thiscxr")


def save_state(run: Path, state: dict[str, Any]) -> None:
    """Write state-latest.pt, keeping the one before as state-previous.pt; at every moment at least one of them is
    whole."""
    latest, previous = (run / name for name in STATES)
    with atomic_path(latest) as part:
        try:
            torch.save({"format_version": STATE_FORMAT, **state}, part)
        except RuntimeError as error:  # what torch makes of a full disk
            raise OSError(f"{latest} could not be written, is the disk full? ({str(error).splitlines()[0]})") from None
        if latest.exists():
            os.replace(latest, previous)


def load_state(run: Path, advice: str = "start again with --new") -> dict[str, Any] | None:
    """Return the newest readable state of a run, or None when it never saved one. Raises ValueError, with the advice,
    when all of them are damaged."""
    damaged: list[Path] = []
    for name in STATES:
        path = run / name
        if not path.exists():
            continue
        try:
            with zipfile.ZipFile(path) as archive:
                bad = archive.testzip()  # torch does not check the CRC of the tensors
            if bad is None:
                state = torch.load(path, map_location="cpu", weights_only=True)
                if state.get("format_version") != STATE_FORMAT:
                    raise ValueError(
                        f"{path} has another format than {STATE_FORMAT}, which this version resumes; {advice}"
                    )
                if damaged:
                    log.warning("%s is damaged; resuming from %s", damaged[0], path)
                return state
        # AttributeError: what was saved is no table
        except (RuntimeError, UnpicklingError, EOFError, OSError, zipfile.BadZipFile, AttributeError):
            pass
        damaged.append(path)
    if damaged:
        raise ValueError(f"{run}: {' and '.join(path.name for path in damaged)} cannot be read; {advice}")
    return None


def find_run(out: Path, config: Config) -> Path | None:
    """Return the newest run folder in `out` whose config has the same fingerprint, or None."""
    for run in sorted(out.glob("[0-9][0-9][0-9][0-9][0-9]-*"), reverse=True):
        if (before := read_config(run)) and before.fingerprint == config.fingerprint:
            return run
    return None


def read_config(run: Path) -> Config | None:
    """Return the config of a run folder, or None for a folder that is not a run, or one of a version with other
    options.

    An option that is not in the file would take today's default, which the run was not trained with.
    """
    try:
        values = tomllib.loads((run / "config.toml").read_text())
        return Config(**values) if values.keys() == {f.name for f in fields(Config)} else None
    except (OSError, TypeError, ValueError):  # TOMLDecodeError is a ValueError
        return None


def new_run(out: Path, config: Config, name: str) -> Path:
    """Make the next numbered run folder, with its config.toml and env.json."""
    numbers = [int(run.name[:5]) for run in out.glob("[0-9][0-9][0-9][0-9][0-9]-*")]
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    run = out / f"{max(numbers, default=-1) + 1:05d}-{slug}-{config.res}"
    run.mkdir(parents=True)
    write_file(run / "env.json", json.dumps(environment(), indent=2) + "\n")
    write_file(run / "config.toml", config.to_toml())
    return run


def environment() -> dict[str, Any]:
    """Return what a bug report needs: versions, machine, threads, devices."""
    return {
        "thiscxr": thiscxr.__version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu_threads": torch.get_num_threads(),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "mps": torch.backends.mps.is_available(),
    }
