"""Chooses and hides the films of a reader study: study.html ("real or not?") and audit.html (does a film show its
label?).

Nothing that the page shows before an answer may reveal what a film is: names are hashes, the pixels are stored
uncompressed so that all files have one size, all carry the same text, and the list is in the order of the names. The
list, study/films.js, does hold the truth, in base64, since a static page has nowhere else to keep it: that prevents
accidents, not cheating. Answers: docs/formats.md and readers.py.
"""

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from tqdm import tqdm

from thiscxr.config import RESOLUTIONS
from thiscxr.gallery.pages import Frame, render, site_sources
from thiscxr.gallery.pictures import read_grey
from thiscxr.gallery.samples import Film, SampleFolder, cited_sources, read_image
from thiscxr.labels import FINDINGS, POSITIVE
from thiscxr.phantom import PHANTOM_VIEWS, draw_film
from thiscxr.pixels import Pixels, encode_png, to_bits
from thiscxr.pool import Pool
from thiscxr.terms import require_showable

PER_KIND = 32  # films of each kind in the study: the first ones, not picked ones
PER_SHEET = 12  # films of one label in the audit
TEXT = {"Disclaimer": "Film of a reader study, which may be synthetic. Not for diagnosis."}


@dataclass(frozen=True)
class StudyFilm:
    """A film of the study: real, synthetic or phantom; `item` names it in the answers."""

    item: str
    kind: str
    findings: tuple[str, ...]  # requested of it, drawn in it, or labelled in it
    pixels: Pixels  # uint8 [res, res]


@dataclass(frozen=True)
class Sheet:
    """Films of one label: (address inside the site, item); kind: of synthetic films it was requested, real ones are
    labelled with it."""

    label: str
    kind: str
    films: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Study:
    """The films of the study pages; there is no page without films, or without sheets."""

    films: tuple[StudyFilm, ...]
    sheets: tuple[Sheet, ...]
    real_sources: Mapping[str, Mapping[str, Any]]  # of the real films among them
    audit_files: Mapping[str, bytes]  # the real films of the sheets

    @property
    def other(self) -> str:
        """What the synthetic films are compared with: "real" or "phantom"."""
        return "real" if self.real_sources else "phantom"

    @property
    def pages(self) -> list[tuple[str, str]]:
        """The pages that will be written: file, title."""
        title = "Real or not?" if self.other == "real" else "Procedural or learned?"
        return [
            *([("study.html", title)] if self.films else []),
            *([("audit.html", "Label audit")] if self.sheets else []),
        ]


def choose_films(samples: SampleFolder, films: Sequence[Film], real: Path | None = None) -> Study:
    """Return the study of synthetic films against held-out real ones of the pool `real`, or, without, against
    procedural phantoms.

    films: those of the sample folder that may be shown. Partners have the requested view, where there is one. Of a pool
    of several resolutions, all films that have the size of the samples or more, reduced to it. Raises ValueError when
    the pool is of another size, has no held-out patients, or holds films that not everybody may show.
    """
    pool = _open_pool(real) if real is not None else None
    synthetic, views = (
        [_read_synthetic(samples, film) for film in films[:PER_KIND]],
        [film.view for film in films[:PER_KIND]],
    )
    sizes = {size for film in synthetic for size in film.pixels.shape}
    res = sizes.pop() if len(sizes) == 1 else 0  # 0: not all square and of one size
    sheets = _synthetic_sheets(films)
    if pool is None:
        if res not in RESOLUTIONS:  # the phantom draws square films of these sizes only
            return Study((), sheets, {}, {})
        partners = [
            _phantom(seed, res, view) for seed, view in enumerate(tqdm(views, "phantoms", unit="film", delay=2))
        ]
        return Study((*synthetic, *partners), sheets, {}, {})
    pool = pool.at_resolution(res)
    if pool.resolution != res:
        raise ValueError(
            f"{pool.path} holds films of {pool.resolution} px, the samples have "
            f"{f'{res} px' if res else 'several sizes'}: films "
            "could be distinguished by their size; prepare the pool at the size of the samples"
        )
    rows = _drawn_rows(pool)
    chosen = _matched(pool, rows, views)
    partners = [_real(pool, row) for row in chosen]
    patients = pool.codes("patient")[0]
    shown = set(patients[chosen].tolist())  # who has audited a film knows what it is, so the audit shows other patients
    real_sheets, files = _real_sheets(pool, [row for row in rows if patients[row] not in shown])
    return Study((*synthetic[: len(partners)], *partners), (*sheets, *real_sheets), pool.meta["sources"], files)


def _open_pool(path: Path) -> Pool:
    pool = Pool.open(path)
    require_showable(pool.meta["sources"], f"--real {path}")
    if not len(pool.indices("holdout")):
        raise ValueError(
            f"{path} has no held-out patients, and training films would be no test; prepare a pool with more patients"
        )
    return pool


def _read_synthetic(samples: SampleFolder, film: Film) -> StudyFilm:
    data, _ = read_image(samples.path, film)
    return StudyFilm(film.file, "synthetic", film.findings, read_grey(data, samples.path / film.file))


@lru_cache(maxsize=256)  # a twentieth of a second each, and a site is often built again
def _phantom(seed: int, res: int, view: str) -> StudyFilm:
    film = draw_film(seed, res, view=view if view in PHANTOM_VIEWS else "PA")
    findings = tuple(name for name, state in film.labels.items() if state)
    return StudyFilm(f"phantom-{seed}-{film.view}", "phantom", findings, film.pixels)


def _drawn_rows(pool: Pool) -> list[int]:
    """Return the held-out rows in a fixed random order."""
    return np.random.Generator(np.random.Philox(key=[0, 0])).permutation(pool.indices("holdout")).tolist()


def _matched(pool: Pool, rows: Sequence[int], views: Iterable[str]) -> list[int]:
    """Return a row for each view while there are patients: of that view, or, where none is left, of whichever there is
    most of.

    One row a patient: two films of one patient would not be independent answers.
    """
    of_row, patients = pool.column("view"), pool.codes("patient")[0]
    stock: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        stock[of_row[row]].append(row)
    taken: set[int] = set()
    chosen = []
    for view in views:
        while at_hand := stock[view] or max(stock.values(), key=len):
            row = at_hand.pop()
            if patients[row] not in taken:
                taken.add(patients[row])
                chosen.append(row)
                break
    return chosen


def _real(pool: Pool, row: int) -> StudyFilm:
    pixels = to_bits(pool.read([row])[0], 8)
    findings = tuple(name for name, state in zip(FINDINGS, pool.findings[row], strict=True) if state == POSITIVE)
    return StudyFilm(f"real-{hashlib.sha256(pixels.tobytes()).hexdigest()[:16]}", "real", findings, pixels)


def _synthetic_sheets(films: Sequence[Film]) -> tuple[Sheet, ...]:
    later_first = [*films[PER_KIND:], *films[:PER_KIND]]  # rather those that the study does not show
    labels = sorted({name for film in films for name in film.findings}, key=lambda name: (name not in FINDINGS, name))
    sheets = []
    for label in labels:
        having = [film for film in later_first if label in film.findings][:PER_SHEET]
        sheets.append(
            Sheet(label, "synthetic", tuple((f"films/{quote(film.file, safe='')}", film.file) for film in having))
        )
    return tuple(sheets)


def _real_sheets(pool: Pool, rows: Sequence[int]) -> tuple[list[Sheet], dict[str, bytes]]:
    sheets, files = [], {}
    for place, label in enumerate(FINDINGS):
        films = [_real(pool, row) for row in [row for row in rows if pool.findings[row, place] == POSITIVE][:PER_SHEET]]
        named = []
        for film in films:
            data = encode_png(film.pixels, TEXT)
            name = f"audit/{hashlib.sha256(data).hexdigest()[:16]}.png"
            files[name] = data
            named.append((name, film.item))
        if named:
            sheets.append(Sheet(label, "real", tuple(named)))
    return sheets, files


def study_files(study: Study, frame: Frame) -> dict[str, bytes]:
    """Return study.html and audit.html and all that they load: path inside the site -> bytes."""
    names = [name for name, _ in study.pages]
    files = {
        name: (site_sources() / name).read_bytes()
        for name in (["answers.js"] if names else []) + [name[:-4] + "js" for name in names]
    }
    real_sources = cited_sources(study.real_sources)
    if study.films:
        text = {**TEXT, **({"Permission": f"If it is synthetic: {frame.restriction}"} if frame.restriction else {})}
        listed = []
        for film in study.films:
            data = encode_png(film.pixels, text, compressed=False)
            name = f"study/{hashlib.sha256(data).hexdigest()[:16]}.png"
            files[name] = data
            listed.append({"src": name, "item": film.item, "truth": film.kind, "findings": "|".join(film.findings)})
        veiled = base64.b64encode(json.dumps(sorted(listed, key=lambda film: film["src"])).encode()).decode()
        files["study/films.js"] = f'"use strict";\nglobalThis.thiscxrStudy = "{veiled}";\n'.encode()
        facts = {"id": hashlib.sha256(veiled.encode()).hexdigest()[:12], "other": study.other}
        res, num = study.films[0].pixels.shape[0], len(study.films)
        sizes = {"res": res, "num_films": num, "num_pairs": num // 2}
        files["study.html"] = render(frame, "study.html", "study.html", study=facts, real_sources=real_sources, **sizes)
    if study.sheets:
        sheets: list[dict[str, Any]] = [
            {
                "label": sheet.label,
                "kind": sheet.kind,
                "films": [{"src": src, "item": item} for src, item in sheet.films],
            }
            for sheet in study.sheets
        ]
        audit = {"id": hashlib.sha256(json.dumps(sheets).encode()).hexdigest()[:12], "sheets": sheets}
        files["audit.html"] = render(frame, "audit.html", "audit.html", audit=audit, real_sources=real_sources)
        files |= study.audit_files
    return files
