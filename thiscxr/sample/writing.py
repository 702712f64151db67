"""A sample folder: the films in one of the formats, a grid, `samples.csv` and `network.json`; with a plan, labels too.

The folder appears whole. The next call for the same films resumes from what an interrupted one left beside it,
`.NAME.part`, and the result is the same bytes as without the interruption: the network resumes in the same steps of
BATCH films.
"""

import csv
import ctypes
import hashlib
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import thiscxr
from thiscxr.files import atomic_path, nearest_name, resumable_folder, write_file
from thiscxr.labels import FINDINGS, NEGATIVE, POSITIVE, SEXES, VIEWS
from thiscxr.model.conditions import Condition
from thiscxr.parallel import ahead
from thiscxr.pixels import make_grid, save_png
from thiscxr.sample.formats import BATCH, PNG, Format, film_key, label_row
from thiscxr.sample.latents import MAX_SEED
from thiscxr.sample.provenance import Film, Origin, grid_text, origin_of
from thiscxr.sample.sampling import Network, sample_images, to_pixels
from thiscxr.sample.truncation import Truncation

COLUMNS = (
    "file", "seed", "view", "sex", "age_years", "source", "findings", "no_findings", "truncation", "truncation_layers",
    "network_sha256",
)  # fmt: skip
MAX_FILMS = 10_000_000  # in one call
GRID = 256  # films in grid.png at most
WRITERS = 4  # threads: compression and the disk do not delay the network, but their Python code can
_OURS = re.compile(
    r"seed-\d+(-[\w-]+)?\.(png|dcm)|films-\d+\.(npz|tar)|grid\.png|(samples|labels|metadata|malformed)\.csv|network\.json|broken-.*\.dcm"
)


@dataclass(frozen=True)
class _File:
    """One file to be written: its films are `films[start:end]` of the job."""

    name: str
    start: int
    end: int


def write_samples(
    network: Network,
    seeds: Sequence[int],
    conditions: Sequence[Condition],
    truncation: float | Truncation,
    out: Path,
    form: Format = PNG,
    permission: bool = False,
    labels: bool = False,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write the films of some seeds into the folder `out`; an older sample folder there is replaced at the end.

    permission: stated by the user, where the terms of a source require one; every file then states it. labels: the
    films are a labelled set, so `labels.csv` and, for PNG, `metadata.csv` are written, and no grid, which loaders of
    image folders would take for a film. columns: more columns of samples.csv, one value per film. Raises ValueError for
    no seeds, for two films of one name, and when `out` holds anything that sampling does not write, and OSError on a
    full disk; the same call then resumes.
    """
    out = Path(out)
    check_ours(out)
    if not seeds:
        raise ValueError("there are no seeds, so there is no film to write")
    requested = truncation if isinstance(truncation, Truncation) else Truncation(truncation)
    requested.per_layer(network.info.architecture.num_ws)  # raises before anything is generated
    origin = origin_of(network, permission)
    several = len(set(seeds)) < len(seeds)  # films of one seed, such as a pair: the view is in the file name
    films = [
        Film(seed, condition, requested, origin, (several and condition.view) or "")
        for seed, condition in zip(seeds, conditions, strict=True)
    ]
    if len({film_key(film) for film in films}) < len(films):
        raise ValueError(
            "a seed is there twice for one view, so two films would have one name; give each a seed of its own"
        )
    files = _files(films, form, network.info.architecture.res)
    with resumable_folder(out, replace=True) as part:
        _take_up(part, films, form, labels)
        _write_films(part, network, films, files, form, grid=not labels)
        _write_tables(part, network, films, files, form, labels, columns or {})
        try:
            check_ours(out)  # again: a file may have arrived in the meantime
        except ValueError as error:
            raise FileExistsError(str(error)) from None  # keeps what was written for the next call
        _bring_to_disk(part)
        (part / "job").unlink()


def _bring_to_disk(folder: Path) -> None:
    """Wait until every byte is on the disk, before the folder is moved into place."""

    if syncfs := getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if sys.platform == "linux" else None:
        descriptor = os.open(folder, os.O_RDONLY)  # one call for tens of thousands of files; Python has none for it
        try:
            if syncfs(descriptor):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
        finally:
            os.close(descriptor)
        return

    def sync(path: Path) -> None:
        with open(path, "r+b") as file:
            os.fsync(file.fileno())

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(sync, folder.iterdir()))


def check_ours(out: Path) -> None:
    """Raise ValueError when `out` is a file, or a folder that holds anything that sampling does not write."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; give a folder")
    there = [path.name for path in out.iterdir()] if out.is_dir() else []
    foreign = [name for name in there if not _OURS.fullmatch(name)]
    if not foreign and not {"network.json", "malformed.csv"} & {*there}:
        foreign = there  # somebody else's table may have the same name as ours
    if foreign:
        raise ValueError(
            f"--out {out} holds {foreign[0]!r}, which is not a sample; choose another folder, so that nothing is lost"
        )


def _files(films: Sequence[Film], form: Format, res: int) -> list[_File]:
    size = form.films_a_file(res)
    starts = range(0, len(films), size)
    return [
        _File(form.file_name(films[start], i), start, min(start + size, len(films))) for i, start in enumerate(starts)
    ]


def _take_up(part: Path, films: Sequence[Film], form: Format, labels: bool) -> None:
    """Keep what an earlier call for the same films left in `part`, and delete anything else."""
    digest = hashlib.sha256(f"{thiscxr.__version__} {form.name} {form.options} {labels}\n".encode())
    for film in films:
        digest.update(f"{film.seed} {film.condition} {film.truncation} {film.origin}\n".encode())
    job = part / "job"
    known = job.is_file() and job.read_text() == digest.hexdigest()
    for path in part.iterdir():
        # .NAME.part: an incomplete file
        if path.name != "lock" and not (known and path.is_file() and not path.name.startswith(".")):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    if not known:
        write_file(job, digest.hexdigest())


_Whole = list[tuple[str, list[np.ndarray], Sequence[Film]]]  # files: name, pixels and films


def _write_films(
    part: Path, network: Network, films: Sequence[Film], files: Sequence[_File], form: Format, grid: bool
) -> None:
    there = {path.name for path in part.iterdir() if path.stat().st_size}
    grid = grid and "grid.png" not in there
    in_grid = min(GRID, len(films)) if grid else 0
    # Whole steps of the network, so that each is the same step as in an uninterrupted call.
    unwritten = [file for file in files if file.name not in there]
    missing = {step for file in unwritten for step in range(file.start // BATCH, -(-file.end // BATCH))}
    steps = sorted(missing | set(range(-(-in_grid // BATCH))))
    todo = [i for step in steps for i in range(step * BATCH, min((step + 1) * BATCH, len(films)))]

    def drawn() -> Iterator[tuple[int, _Whole]]:
        """Generate the films `todo`, and yield for each step of the network how many there are and the files that it
        completes."""
        wanted = iter(unwritten)
        shown: list[np.ndarray] = []
        chosen = [films[i] for i in todo]
        images = sample_images(
            network, [f.seed for f in chosen], [f.condition for f in chosen], films[0].truncation, BATCH
        )
        held: dict[int, np.ndarray] = {}  # film -> pixels not yet in a file
        file = next(wanted, None)
        for start, step_images in zip(range(0, len(todo), BATCH), images, strict=True):
            indices = todo[start : start + BATCH]
            if indices[0] < in_grid:
                shown.extend(to_pixels(step_images)[: in_grid - indices[0]])
                if len(shown) == in_grid:
                    picture = make_grid(np.stack(shown), min(8, in_grid) if in_grid <= 64 else 16)
                    save_png(part / "grid.png", picture, grid_text(films[0].origin))
            held.update(zip(indices, to_pixels(step_images, form.bits), strict=True))
            whole: _Whole = []
            while file is not None and file.end - 1 in held:
                pixels = [held.pop(i) for i in range(file.start, file.end)]
                whole.append((file.name, pixels, films[file.start : file.end]))
                file = next(wanted, None)
            yield len(indices), whole
            held = {i: pixels for i, pixels in held.items() if file is not None and i >= file.start}

    with (
        tqdm(
            total=len(films),
            initial=len(films) - len(todo),
            unit="film",
            file=sys.stderr,
            desc="sample",
            disable=len(films) < BATCH,
        ) as bar,
        ThreadPoolExecutor(WRITERS) as pool,
    ):
        # files are encoded and written while the network runs; those of a few steps wait in memory
        for count in ahead(pool, partial(_write_files, str(part), form), drawn(), WRITERS):
            bar.update(count)


def _write_files(folder: str, form: Format, step: tuple[int, _Whole]) -> int:
    """Write the files that a step completes, each whole or not at all, and return how many films the step had; folder:
    as text, since building a Path would take longer than writing its file."""
    count, files = step
    for name, pixels, films in files:
        data = form.encode(np.stack(pixels), films)
        # Renamed, but not synced one by one, which would take longer than generating them; after a power cut the
        # files of the last seconds are empty, and are made again.
        cut_off = f"{folder}/.{name}.part"
        try:
            with open(cut_off, "wb") as file:
                file.write(data)
            os.replace(cut_off, f"{folder}/{name}")
        except BaseException:
            Path(cut_off).unlink(missing_ok=True)
            raise
    return count


def _write_tables(
    part: Path,
    network: Network,
    films: Sequence[Film],
    files: Sequence[_File],
    form: Format,
    labels: bool,
    more: Mapping[str, Sequence[str]],
) -> None:
    named = [(file.name, film) for file in files for film in films[file.start : file.end]]
    added = ({name: values[i] for name, values in more.items()} for i in range(len(named)))
    lines = ({**sample_row(name, film), **extra} for (name, film), extra in zip(named, added, strict=True))
    write_csv(part / "samples.csv", (*COLUMNS, *more), lines)
    if labels:
        names = [name for name in FINDINGS if any(name in film.condition.findings for film in films)]
        columns = ("seed", "view", "sex", "age_years", "source", *names)
        for table, key in (("labels.csv", "file"), ("metadata.csv", "file_name")):
            if key == "file" or form.suffix == ".png":  # Hugging Face reads metadata.csv beside images
                rows = ({key: name, "seed": film.seed, **label_row(film)} for name, film in named)
                write_csv(part / table, (key, *columns), rows)
    write_facts(part, network, films[0].origin)


def write_facts(folder: Path, network: Network, origin: Origin) -> None:
    """Write network.json: the facts of the network."""
    facts = {**network.info.to_json(), "sha256": network.sha256}
    facts.pop("joint_table")  # stays with the network: the site does not use it
    if origin.restriction:
        facts["restriction"] = origin.restriction
    write_file(folder / "network.json", json.dumps(facts, indent=2, sort_keys=True) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table, whole or not at all."""
    with atomic_path(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)


def sample_row(file: str, film: Film) -> dict[str, str]:
    """Return the line of samples.csv of one film: what was requested, empty where nothing was."""
    layers = bool(film.truncation.ranges)
    return {
        **dict.fromkeys(COLUMNS, ""),
        "file": file,
        "seed": str(film.seed),
        **film.requested,
        "truncation": "" if layers else str(film.truncation),
        "truncation_layers": str(film.truncation) if layers else "",
        "network_sha256": film.origin.sha256,
    }


def parse_seeds(text: str, option: str = "--seeds") -> list[int]:
    """Return the seeds of a list such as "0-63,100": ranges are inclusive. Raises ValueError naming the `option` and
    what is wrong."""
    seeds: list[int] = []
    for part in text.split(","):
        if len(seeds) > MAX_FILMS:
            break
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not match:
            raise ValueError(f"{option} {text}: '{part.strip()}' is not a seed or a range such as 0-63")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= MAX_FILMS:
            raise ValueError(
                f"{option} {text}: the range '{part.strip()}' must go upwards and hold at most 10 million seeds"
            )
        if last > MAX_SEED:
            raise ValueError(f"{option} {text}: seed {last} is out of range; use 0 to {MAX_SEED} (2^53 - 1)")
        seeds.extend(range(first, last + 1))
    if len(seeds) > MAX_FILMS:
        raise ValueError(f"{option} {text}: more than {MAX_FILMS:,} seeds; sample them in several calls")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{option} {text}: a seed is there twice; each seed makes one file")
    return seeds


def spell_ranges(numbers: Sequence[int]) -> str:
    """Return whole numbers as `parse_seeds` and `parse_layers` read them, in ascending order, such as "0-63,100"."""
    groups: list[list[int]] = []
    for number in sorted(numbers):
        if groups and groups[-1][1] == number - 1:
            groups[-1][1] = number
        else:
            groups.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in groups)


def requested_condition(row: Mapping[str, str]) -> Condition:
    """Return the requested condition of a line of samples.csv; columns that are missing or empty were not requested.

    Raises ValueError for a finding, view or sex that is not in the vocabulary, and for an age that is not a number of
    years.
    """
    where = f"samples.csv, {row.get('file', '?')}"
    for factor, known in (("view", VIEWS), ("sex", SEXES)):
        if (value := row.get(factor) or "") and value not in known:
            raise ValueError(f"{where}: {factor} {value!r} is not one of {', '.join(known)}")
    findings: dict[str, int] = {}
    for column, state in (("findings", POSITIVE), ("no_findings", NEGATIVE)):
        for name in filter(None, (row.get(column) or "").split("|")):
            if name not in FINDINGS:
                raise ValueError(f"{where}: no finding is called '{name}'{nearest_name(name, FINDINGS)}")
            if name in findings:
                raise ValueError(f"{where}: {name} is requested twice, or both present and absent")
            findings[name] = state
    age = row.get("age_years") or None
    try:
        years = None if age is None else float(age)
    except ValueError:
        years = math.nan
    if years is not None and not 0 <= years <= 120:
        raise ValueError(f"{where}: age_years is '{age}'; expected 0 to 120 years, or nothing")
    view, sex = (value if value != "unknown" else None for value in (row.get("view") or None, row.get("sex") or None))
    return Condition(view, sex, years, row.get("source") or None, findings)
