"""Phantom films written as a pool, or exactly as a collection releases its films: code that runs on them runs on the
real collection.

Every patient is drawn once and filmed several times, so that patient-wise splits have something to keep together.
`truth` returns what was drawn, and what the label files report of it.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from thiscxr.collections.ids import load_key, write_private_map
from thiscxr.config import check_res
from thiscxr.files import atomic_folder, nearest_name, write_file
from thiscxr.labels import FilmRecord, Terms
from thiscxr.parallel import open_workers
from thiscxr.phantom import SITES
from thiscxr.phantom.releases.chexpert import CHEXPERT
from thiscxr.phantom.releases.folder import FOLDER, shots
from thiscxr.phantom.releases.kermany import KERMANY
from thiscxr.phantom.releases.mimic import MIMIC_DICOM, MIMIC_JPG
from thiscxr.phantom.releases.nih import NIH
from thiscxr.phantom.releases.openi import OPENI
from thiscxr.phantom.releases.packing import pack
from thiscxr.phantom.releases.padchest import PADCHEST
from thiscxr.phantom.releases.release import MAX_PATIENTS, Release, ReleasedFilm, Shot, csv_bytes, dice, drawn_states
from thiscxr.pixels import Pixels
from thiscxr.pool.writer import PoolWriter

RELEASES: dict[str, Release] = {
    "nih": NIH,
    "chexpert": CHEXPERT,
    "mimic-cxr-jpg": MIMIC_JPG,
    "mimic-cxr": MIMIC_DICOM,
    "padchest": PADCHEST,
    "openi": OPENI,
    "kermany": KERMANY,
    "folder": FOLDER,
}
LAYOUTS = ("pool", *RELEASES)
DEFECTS = ("missing", "truncated", "empty", "text", "constant", "flipped byte")

# These ids protect nobody, so their key may be public: without a key file everybody gets the same pool, byte for byte.
_PUBLIC_KEY = b"thiscxr procedural phantom"


def phantom_terms(site: str) -> Terms:
    """Return the terms of the films of one of the phantom's sites."""
    return Terms(
        title=f"Procedural chest phantom, site {site}",
        terms="Procedural: computed from a seed, no patient, no restriction.",
        citation="",
        url="",
        acknowledgement="",
    )


def truth(layout: str, n: int, seed: int = 0, res: int = 64) -> list[ReleasedFilm]:
    """Return what `write_layout` draws and reports for each of the `n` films, without rendering any.

    `shot.body()` has the severities drawn; `record.refused` is not empty where the label files exclude the film or do
    not name it.
    """
    _check_layout(layout)
    return (
        RELEASES[layout].plan(n, seed, res)
        if layout != "pool"
        else [_pool_film(shot, res) for shot in islice(shots(seed), n)]
    )


def write_layout(
    out: Path,
    layout: str,
    n: int,
    res: int,
    seed: int = 0,
    key_file: Path | None = None,
    workers: int | None = None,
    defects: float = 0.0,
    archived: bool = False,
) -> None:
    """Write `n` phantom films to the new folder `out`, as a pool or in the release layout of a collection.

    The same arguments give the same bytes, whatever the number of workers. res: resolution of the drawn square, which
    is the short side of oblong films. key_file: for the ids of a pool; None: a public key, since there is nobody to
    protect. defects: share of the films of a release whose files are made DEFECTS; `<out>.defects.csv` beside it lists
    path and defect. A flipped byte shows in a PNG only. archived: the release as downloaded, in zips and tars. Raises
    ValueError for an unknown layout, a resolution that is not a power of two, n < 1 or more than a collection has
    patient numbers for, a layout that has no archives or no files to break, or an `out` that is not empty.
    """
    _check_layout(layout)
    check_res(res)
    if not 1 <= n <= MAX_PATIENTS:
        raise ValueError(f"-n {n} is not a number of films from 1 to {MAX_PATIENTS}")
    if seed < 0:
        raise ValueError(f"--seed {seed} is negative; seeds count from 0")
    if not 0 <= defects <= 1:
        raise ValueError(f"--defects {defects} is not a share from 0 to 1")
    if layout == "pool":
        if defects or archived:
            raise ValueError(
                f"--layout pool has no film files to {'break' if defects else 'archive'}; choose a collection's layout"
            )
        _write_pool(Path(out), n, res, seed, key_file, workers)
    else:
        if archived and RELEASES[layout].archive is None:
            packed = ", ".join(name for name, release in RELEASES.items() if release.archive)
            raise ValueError(f"--archived: {layout} is not released in archives; those that are: {packed}")
        _write_release(Path(out), RELEASES[layout], n, res, seed, workers, defects, archived)


def _check_layout(layout: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(
            f"--layout {layout}{nearest_name(layout, LAYOUTS)} does not exist; there are: {', '.join(LAYOUTS)}"
        )


@dataclass(frozen=True, slots=True)
class _Task:
    """A film to be rendered and written by a worker."""

    film: ReleasedFilm
    res: int
    encode: Callable[[ReleasedFilm, Pixels], bytes]
    file: Path
    defect: str


def _write_release(
    out: Path, release: Release, n: int, res: int, seed: int, workers: int | None, defects: float, archived: bool
) -> None:
    films = release.plan(n, seed, res)
    defect_of = _plant(n, defects, seed)
    with atomic_folder(out) as part:
        root = part / "unpacked" if archived else part
        tasks = [
            _Task(film, res, release.encode, root / film.path, defect_of.get(i, "")) for i, film in enumerate(films)
        ]
        for folder in {task.file.parent for task in tasks}:
            folder.mkdir(parents=True, exist_ok=True)
        with open_workers(n, workers) as hands:
            for _ in tqdm(hands.map(_write_film, tasks), "phantom", n, unit="film", delay=1):
                pass
        for path, data in release.tables(films, archived):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        if archived and release.archive is not None:
            pack(root, part, release.archive)
            shutil.rmtree(root)
    if defects:
        rows = ((films[i].path, defect) for i, defect in sorted(defect_of.items()))
        write_file(out.with_name(f"{out.name}.defects.csv"), csv_bytes("path,defect", rows))


def _plant(n: int, share: float, seed: int) -> dict[int, str]:
    """Return film -> defect for the share of films, each kind as often as the others."""
    chosen = dice("defects", seed).permutation(n)[: round(share * n)]
    return {int(film): DEFECTS[i % len(DEFECTS)] for i, film in enumerate(chosen)}


def _write_film(task: _Task) -> None:
    if task.defect == "missing":
        return
    pixels = task.film.shot.take(task.res)
    if task.defect == "constant":
        pixels = np.zeros_like(pixels)
    task.file.write_bytes(_damaged(task.encode(task.film, pixels), task.defect))


def _damaged(data: bytes, defect: str) -> bytes:
    if defect == "empty":
        return b""
    if defect == "truncated":
        return data[: len(data) // 2]
    if defect == "text":
        return b"<!DOCTYPE html>\n<html><body>Your session has expired. Please log in again.</body></html>\n"
    if defect == "flipped byte":
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]
    return data


def _pool_film(shot: Shot, res: int) -> ReleasedFilm:
    body, name = shot.body(), f"{shot.seed}-{shot.number}"
    record = FilmRecord(
        film=name,
        file=name,
        patient=str(shot.seed),
        study=str(shot.seed),  # one body at one time: all its films form one study
        view=shot.view,
        sex=body.sex,
        age_years=body.age_years,
        findings=drawn_states(body),
    )
    return ReleasedFilm(name, record, shot, (res, res))


def _take(film: ReleasedFilm) -> Pixels:
    return film.shot.take(film.size[0])


def _write_pool(out: Path, n: int, res: int, seed: int, key_file: Path | None, workers: int | None) -> None:
    key = load_key(Path(key_file)) if key_file is not None else _PUBLIC_KEY
    private = []
    terms = {site: phantom_terms(site) for site in SITES}
    films = truth("pool", n, seed, res)
    with (
        PoolWriter(out, res, 8, terms, key, {"layout": "phantom"}) as writer,
        open_workers(n, workers) as hands,
    ):
        for film, pixels in zip(films, tqdm(hands.map(_take, films), "phantom", n, unit="film", delay=1), strict=True):
            film_id = writer.add(film.shot.site, film.record, pixels, (res, res, 8))
            private.append((film_id, film.shot.site, film.path, "", ""))
        fingerprint = writer.finish()
        if key_file is not None:
            write_private_map(Path(key_file), fingerprint, private)
