"""Phantom films written as a pool, or exactly as a collection releases its films: what runs on them runs on the real thing.

Every patient is drawn once and filmed one to three times, so that patient-wise splits have something to keep together.
"""

import csv
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from thiscxr.data.ids import load_key
from thiscxr.data.labels import FINDINGS, NOT_ANNOTATED, FilmRecord, Terms
from thiscxr.data.parallel import ordered_map
from thiscxr.data.phantom import SITES, PhantomFilm, draw_patient, render
from thiscxr.data.pixels import save_png
from thiscxr.data.pool import PoolWriter
from thiscxr.data.prepare import check_res, write_private_map
from thiscxr.data.sources.nih import NIH_FINDINGS
from thiscxr.files import atomic_folder, nearest_name

LAYOUTS = ("pool", "nih", "folder")

# Nobody is behind these ids, so their key may be known: without a key file everybody gets the same pool, byte for byte.
_PUBLIC_KEY = b"thiscxr procedural phantom"
_MAX_PATIENTS = 10_000_000  # a seed; one seed's patients are never another's
_VIEWS = {"PA": 0.45, "AP": 0.10, "AP_supine": 0.25, "lateral": 0.20}
_NIH_VIEWS = {"PA": 0.6, "AP": 0.4}
_NIH_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
_FIELD_MM = 430  # side of a large cassette, for the pixel spacing


def phantom_terms(site: str) -> Terms:
    """Return the terms of the films of one of the phantom's sites."""
    return Terms(
        title=f"Procedural chest phantom, site {site}",
        terms="Procedural: computed from a seed, no patient, no restriction.",
        citation="",
        url="",
        acknowledgement="",
    )


@dataclass(frozen=True, slots=True)
class _Shot:
    """One film to be taken."""

    patient: int  # counts from 0
    number: int  # of the film within the patient
    patient_seed: int
    view: str
    site: str
    res: int


def _shots(seed: int, res: int, views: dict[str, float], sites: Sequence[str]) -> Iterator[_Shot]:
    """Yield the endless list of films of one seed, patient by patient; a longer list begins with the shorter one."""

    def of_patient(patient: int) -> list[_Shot]:
        random = np.random.default_rng([seed, patient])
        site = str(random.choice(list(sites)))
        drawn = random.choice(list(views), size=random.choice([1, 2, 3], p=[0.6, 0.25, 0.15]), p=list(views.values()))
        return [_Shot(patient, number, seed * _MAX_PATIENTS + patient, str(view), site, res) for number, view in enumerate(drawn)]

    return chain.from_iterable(map(of_patient, count()))


def _take(shot: _Shot) -> PhantomFilm:
    # Other noise and centring for each film of a patient; the first keeps the patient's own.
    noise_seed = None if shot.number == 0 else shot.patient_seed + shot.number * 10**15
    return render(draw_patient(shot.patient_seed), shot.view, shot.res, site=shot.site, noise_seed=noise_seed)


def _films(n: int, shots: Iterator[_Shot], workers: int | None) -> Iterator[tuple[_Shot, PhantomFilm]]:
    todo = list(islice(shots, n))
    with closing(ordered_map(_take, todo, n, workers)) as films:
        yield from zip(todo, tqdm(films, "phantom", n, unit="film", delay=1), strict=True)


def write_layout(out: Path, layout: str, n: int, res: int, seed: int = 0, key_file: Path | None = None, workers: int | None = None) -> None:
    """Write `n` phantom films to the new folder `out`, as a pool or in the release layout of a collection.

    key_file: for the ids of a pool; None: a key that everybody has, since there is nobody to protect.
    Raises ValueError for an unknown layout, a resolution that is not a power of two, n < 1, or an `out` that is not empty.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"--layout {layout}{nearest_name(layout, LAYOUTS)} does not exist; there are: {', '.join(LAYOUTS)}")
    check_res(res)
    if not 1 <= n <= _MAX_PATIENTS:
        raise ValueError(f"-n {n} is not a number of films from 1 to {_MAX_PATIENTS}")
    if seed < 0:
        raise ValueError(f"--seed {seed} is negative; seeds count from 0")
    nih = layout == "nih"  # one hospital, frontal films only
    shots = _shots(seed, res, _NIH_VIEWS if nih else _VIEWS, SITES[:1] if nih else SITES)
    films = _films(n, shots, workers)
    if layout == "pool":
        _write_pool(Path(out), res, films, key_file)
    elif nih:
        _write_nih(Path(out), films)
    else:
        _write_folder(Path(out), films)


def _write_pool(out: Path, res: int, films: Iterator[tuple[_Shot, PhantomFilm]], key_file: Path | None) -> None:
    key = load_key(Path(key_file)) if key_file is not None else _PUBLIC_KEY
    private = []
    terms = {site: phantom_terms(site) for site in SITES}
    with PoolWriter(out, res, 8, terms, key, {"layout": "phantom"}) as writer:
        for shot, film in films:
            name = f"{shot.patient_seed}-{shot.number}"
            record = FilmRecord(
                film=name,
                file=name,
                patient=str(shot.patient_seed),
                study=str(shot.patient_seed),  # one body at one time: all its films are one study
                view=film.view,
                sex=film.patient.sex,
                age_years=film.patient.age_years,
                findings=film.labels,
            )
            film_id = writer.add(shot.site, record, film.pixels, (res, res, 8))
            private.append((film_id, shot.site, name, "", ""))
        fingerprint = writer.finish()
        if key_file is not None:
            write_private_map(Path(key_file), fingerprint, private)


def _write_nih(out: Path, films: Iterator[tuple[_Shot, PhantomFilm]]) -> None:
    with atomic_folder(out) as part:
        (part / "images").mkdir()
        with open(part / "Data_Entry_2017_v2020.csv", "w", encoding="utf-8", newline="") as file:
            file.write(_NIH_HEADER + "\n")  # by hand: the release does not quote the brackets, a csv writer would
            for shot, film in films:
                name = f"{shot.patient + 1:08d}_{shot.number:03d}.png"
                save_png(part / "images" / name, film.pixels)
                found = "|".join(name for name in NIH_FINDINGS if film.labels.get(name)) or "No Finding"
                spacing = round(_FIELD_MM / shot.res, 3)
                cells = (name, found, shot.number, shot.patient + 1, film.patient.age_years, film.patient.sex, film.view)
                file.write(",".join(map(str, (*cells, shot.res, shot.res, spacing, spacing))) + "\n")


def _write_folder(out: Path, films: Iterator[tuple[_Shot, PhantomFilm]]) -> None:
    with atomic_folder(out) as part:
        (part / "images").mkdir()
        with open(part / "metadata.csv", "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("file_name", "patient", "study", "view", "sex", "age_years", *FINDINGS))
            for shot, film in films:
                patient = f"{shot.site}-{shot.patient:07d}"
                name = f"images/{patient}-{shot.number}.png"
                save_png(part / name, film.pixels)
                states = (film.labels.get(finding, NOT_ANNOTATED) for finding in FINDINGS)
                table.writerow((name, patient, "1", film.view, film.patient.sex, film.patient.age_years, *states))
