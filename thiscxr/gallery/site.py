"""Builds the static gallery: a sample folder and its scores become a folder that any static host, or file://, can show.

It must never ask a third party for anything, run without its films' provenance, or delete a file that it did not write.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from thiscxr.data.terms import require_permission
from thiscxr.files import atomic_folder
from thiscxr.gallery.browser_model import read_browser_model
from thiscxr.gallery.folder import MARKER, check_ours, swap, write
from thiscxr.gallery.pages import index_page, make_files, manifest, site_sources
from thiscxr.gallery.samples import Film, Image, read_image, read_samples, read_scores

TITLE = "This chest x-ray does not exist"
ASSETS = ("style.css", "gallery.js", "favicon.svg")


@dataclass(frozen=True)
class SiteSummary:
    """What was written: `index` is the first page, `page_bytes` its size, `total_bytes` everything."""

    index: Path
    num_films: int
    num_memorised: int  # left out
    num_unscreened: int  # shown, but nobody compared them with the training films
    num_scores: int
    num_files: int
    page_bytes: int
    total_bytes: int


def build_site(
    samples: Path | None,
    out: Path,
    scores: Path | None = None,
    title: str = TITLE,
    model: Path | None = None,
    runtime: Mapping[str, bytes] | None = None,
    permission: bool = False,
) -> SiteSummary:
    """Write the gallery of a sample folder to `out`: index.html, films/, manifest.json, style, script, icon and the marker file.

    With the network file `model`, also make.html, which draws films in the visitor's browser, and what it loads; without `samples`, that
    page is the whole site. `runtime` (see `generator_files`) makes onnxruntime-web its backend.

    The same input gives the same bytes. Films flagged as memorised are left out and counted. Nothing appears in `out` unless all of
    it was written; an older gallery there is replaced when it holds nothing but our own unchanged files.
    Raises ValueError when the samples, the network's facts or the scores are missing, malformed or of different networks, when a file
    name would leave the sample folder, when no film is left to show, when `out` holds anything that we did not write, and when the
    terms of a source restrict sharing and no `permission` is stated; where it is, the page, the manifest and every film say so.
    """
    out = Path(out).resolve()
    check_ours(out)
    if samples is None and (model is None or scores is not None):
        raise ValueError(
            "a site shows a sample folder, a network that draws in the browser, or both; give --samples, or --model without --scores"
        )
    generator = read_browser_model(model) if model is not None else None
    restriction = require_permission(generator.info["sources"], permission, f"a page that draws with {model}") if generator else ""
    films: list[Film] = []
    num_memorised = 0
    records: tuple[Mapping[str, Any], ...] = ()
    if samples is not None:
        folder = read_samples(Path(samples))
        network = folder.network
        restriction = require_permission(network.get("sources", {}), permission, f"a gallery of {samples}")
        if generator is not None and generator.sha256 != network["sha256"]:
            raise ValueError(
                f"{model} is network {generator.sha256[:12]}…, but the samples come from {network['sha256'][:12]}…; "
                "give the network that made them"
            )
        records = read_scores(Path(scores), network["sha256"]) if scores is not None else ()
        films = [film for film in folder.films if not film.memorised]
        num_memorised = len(folder.films) - len(films)
        if not films:
            raise ValueError(f"{samples}: all {num_memorised} films are flagged as memorised, so none is left to show; sample other seeds")

    written: dict[str, str] = {}
    fresh = out.with_name(f".{out.name}.{os.getpid()}.new")
    try:
        with atomic_folder(fresh) as part:
            for name in ASSETS:
                write(part, name, (site_sources() / name).read_bytes(), written)
            if generator is not None:
                for name, data in make_files(title, generator, runtime, restriction, bool(films)).items():
                    write(part, name, data, written)
            if samples is not None:
                shown: list[tuple[Film, Image]] = []
                for film in tqdm(films, desc="films", unit="film", delay=2):
                    data, image = read_image(folder.path, film, {"Permission": restriction} if restriction else {})
                    write(part, f"films/{film.file}", data, written)
                    shown.append((film, image))
                write(part, "manifest.json", manifest(title, network, shown, restriction).encode(), written)
                page = index_page(title, network, shown, records, num_memorised, restriction, generator is not None).encode()
            else:
                page = (part / "make.html").read_bytes()
            write(part, "index.html", page, written)
            marker = json.dumps({"format": 1, "files": written}, indent=0, sort_keys=True) + "\n"
            (part / MARKER).write_text(marker, encoding="utf-8")
            total_bytes = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
        swap(fresh, out)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return SiteSummary(
        index=out / "index.html",
        num_films=len(films),
        num_memorised=num_memorised,
        num_unscreened=sum(film.memorised is None for film in films),
        num_scores=len(records),
        num_files=len(written) + 1,
        page_bytes=len(page),
        total_bytes=total_bytes,
    )
