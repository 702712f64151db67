"""Films on disk: single PNG files that say what they are, a grid, `samples.csv` and `network.json`."""

import csv
import json
import math
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

import thiscxr
from thiscxr.data.labels import FINDINGS, NEGATIVE, POSITIVE
from thiscxr.data.pixels import make_grid, save_png
from thiscxr.files import atomic_folder, nearest_name
from thiscxr.model.conditions import Condition
from thiscxr.sample.sampling import Network, sample_films

NOTICE = "Synthetic chest x-ray made by a neural network: not a patient, not for diagnosis."
COLUMNS = ("file", "seed", "view", "sex", "age_years", "source", "findings", "no_findings", "truncation", "network_sha256")
GRID = 256  # films in grid.png at most
_OURS = re.compile(r"seed-\d+\.png|grid\.png|samples\.csv|network\.json")


def write_samples(network: Network, seeds: Sequence[int], conditions: Sequence[Condition], truncation: float, out: Path) -> None:
    """Write one film a seed into the folder `out`, all of it or nothing; an older sample folder there is replaced.

    Raises ValueError when `out` holds anything that sampling does not write.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; give a folder")
    foreign = [path.name for path in out.iterdir() if not _OURS.fullmatch(path.name)] if out.is_dir() else []
    if foreign:
        raise ValueError(f"--out {out} holds {foreign[0]!r}, which is not a sample; choose another folder, so that nothing is lost")
    # Built beside `out` and swapped in at the end.
    with atomic_folder(out.with_name(out.name + ".new")) as part:
        _write(part, network, seeds, conditions, truncation)
        if out.exists():
            shutil.rmtree(out)
    out.with_name(out.name + ".new").rename(out)


def _write(folder: Path, network: Network, seeds: Sequence[int], conditions: Sequence[Condition], truncation: float) -> None:
    shown: list[np.ndarray] = []
    with (
        open(folder / "samples.csv", "w", newline="") as file,
        tqdm(total=len(seeds), unit="film", file=sys.stderr, desc="sample", disable=len(seeds) < 64) as bar,
    ):
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        rows = iter(zip(seeds, conditions, strict=True))
        for films in sample_films(network, seeds, conditions, truncation):
            for pixels in films:
                seed, condition = next(rows)
                row = sample_row(network, seed, condition, truncation)
                save_png(folder / row["file"], pixels, film_text(row))
                table.writerow(row)
                if len(shown) < GRID:
                    shown.append(pixels)
            bar.update(len(films))
    columns = min(8, len(shown)) if len(shown) <= 64 else 16
    save_png(folder / "grid.png", make_grid(np.stack(shown), columns), {"Disclaimer": NOTICE, "Software": f"thiscxr {thiscxr.__version__}"})
    facts = {**network.info.to_json(), "sha256": network.sha256}
    facts.pop("joint_table")  # stays with the network: the site has no use for it
    (folder / "network.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")


def sample_row(network: Network, seed: int, condition: Condition, truncation: float) -> dict[str, str]:
    """Return the line of samples.csv of one film: what was asked, empty where nothing was."""
    return {
        "file": f"seed-{seed:08d}.png",
        "seed": str(seed),
        "view": condition.view or "",
        "sex": condition.sex or "",
        "age_years": "" if condition.age_years is None else f"{condition.age_years:g}",
        "source": condition.source or "",
        "findings": "|".join(condition.present),
        "no_findings": "|".join(condition.absent),
        "truncation": f"{truncation:g}",
        "network_sha256": network.sha256,
    }


def asked_condition(row: Mapping[str, str]) -> Condition:
    """Return what a line of samples.csv says was asked; columns that are missing or empty: nothing.

    Raises ValueError for a finding that is not of the vocabulary, and for an age that is not a number.
    """
    findings: dict[str, int] = {}
    for column, state in (("findings", POSITIVE), ("no_findings", NEGATIVE)):
        for name in filter(None, (row.get(column) or "").split("|")):
            if name not in FINDINGS:
                raise ValueError(f"samples.csv, {row.get('file', '?')}: no finding is called '{name}'{nearest_name(name, FINDINGS)}")
            if name in findings:
                raise ValueError(f"samples.csv, {row.get('file', '?')}: {name} is asked for twice, or both present and absent")
            findings[name] = state
    age = row.get("age_years") or None
    try:
        years = None if age is None else float(age)
    except ValueError:
        years = math.nan
    if years is not None and not math.isfinite(years):
        raise ValueError(f"samples.csv, {row.get('file', '?')}: age_years is '{age}'; expected years, or nothing")
    return Condition(row.get("view") or None, row.get("sex") or None, years, row.get("source") or None, findings)


def film_text(row: dict[str, str]) -> dict[str, str]:
    """Return the PNG text chunks of a film: synthetic, not a patient, which network, which seed, what was asked."""
    asked = {key: row[key] for key in ("view", "sex", "age_years", "source", "findings", "no_findings") if row[key]}
    return {
        "Title": "Synthetic chest x-ray",
        "Disclaimer": NOTICE,
        "Software": f"thiscxr {thiscxr.__version__}",
        "Seed": row["seed"],
        "Truncation": row["truncation"],
        "Network": row["network_sha256"],
        "Asked": json.dumps(asked, sort_keys=True),
    }


def parse_seeds(text: str) -> list[int]:
    """Return the seeds of a list such as "0-63,100": ranges are inclusive. Raises ValueError naming the part that is not one."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if not match:
            raise ValueError(f"--seeds {text}: '{part.strip()}' is not a seed or a range such as 0-63")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= 10_000_000:
            raise ValueError(f"--seeds {text}: the range '{part.strip()}' must go upwards and hold at most 10 million seeds")
        seeds.extend(range(first, last + 1))
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds {text}: a seed is there twice; each seed makes one file")
    return seeds
