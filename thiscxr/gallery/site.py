"""Builds the static site: a sample folder and its scores become a folder that any static host, or file://, can show.

It must never request anything from a third party, run without its films' provenance, or delete a file that it did not
write.
"""

import re
from pathlib import Path

from tqdm import tqdm

from thiscxr.gallery import pages
from thiscxr.gallery.browser_model import BrowserModel, read_browser_model
from thiscxr.gallery.card import find_card, read_card
from thiscxr.gallery.evidence import evidence_facts
from thiscxr.gallery.folder import SiteFolder, check_ours, site_folder
from thiscxr.gallery.pages import PAGE_FILMS, Frame, Shown, site_sources
from thiscxr.gallery.pictures import THUMB_ABOVE_PX, contact_sheet, read_grey, shared_picture, sheet_text, thumbnail
from thiscxr.gallery.samples import SampleFolder, read_image, read_samples
from thiscxr.gallery.study import choose_films, study_files
from thiscxr.pixels import Pixels
from thiscxr.score.records import read_scores
from thiscxr.terms import require_permission

TITLE = "This chest x-ray does not exist"
ASSETS = ("style.css", "favicon.svg", "icon-192.png", "icon-512.png", "png.js")


def build_site(
    samples: Path | None,
    out: Path,
    scores: Path | None = None,
    title: str = TITLE,
    model: Path | None = None,
    permission: bool = False,
    index: bool = False,
    url: str = "",
    real: Path | None = None,
    card: Path | None = None,
) -> Path:
    """Write the site of a sample folder to `out`: pages, films/, manifest.json, style, script, icons and the marker
    file; return its first page.

    With the network file `model`, also make.html, which generates films in the visitor's browser, and what it loads;
    without `samples`, that page is the whole site. `index`: search engines may list the pages. `url`: where the site
    will be, http(s), which pictures of shared links need; everything else is relative.

    With samples there are also the study pages; `real`: a pool whose held-out films are mixed with the synthetic ones
    there (see `choose_films`); and evidence.html, with the model card `card` (Markdown; by default one beside `model`,
    of its name).

    The same input gives the same bytes. Films flagged as memorised are left out and counted. Nothing appears in `out`
    unless all of it was written; an older site there is replaced when it holds nothing but our own unchanged files.
    After a kill the same call resumes. Raises ValueError when the samples, the network's facts or the scores are
    missing, malformed or of different networks, when a file name would leave the sample folder, when no film is left to
    show, when `out` holds anything that we did not write, and when the terms of a source restrict sharing and no
    `permission` is stated; where it is, the page, the manifest and every film carry it.
    """
    out = Path(out).resolve()
    check_ours(out)
    if samples is None and (model is None or scores is not None or real is not None or card is not None):
        raise ValueError(
            "a site shows a sample folder, a network that generates in the browser, or both; "
            "give --samples, or --model without --scores, "
            "--real and --card, which are about samples"
        )
    if url and not re.fullmatch(r"https?://[^\s\"'<>?#]+", url):
        raise ValueError(
            f"--url {url}: expected the address where the site will be, such as https://example.org/films/"
        )
    url = url and url.rstrip("/") + "/"
    generator = read_browser_model(model) if model is not None else None
    restriction = (
        require_permission(generator.info["sources"], permission, f"a page that generates with {model}")
        if generator
        else ""
    )
    if samples is None:
        assert generator is not None
        with site_folder(out) as room:
            frame = Frame(title, generator.info, restriction, index, url, films=False, make=True)
            _write_common(room, frame)
            files = pages.make_files(frame, generator)
            for name, data in {**files, "index.html": files["make.html"]}.items():
                room.write(name, data)
        return out / "index.html"
    folder = read_samples(Path(samples))
    restriction = require_permission(folder.network.get("sources", {}), permission, f"a gallery of {samples}")
    if generator is not None and generator.sha256 != folder.network["sha256"]:
        raise ValueError(
            f"{model} is network {generator.sha256[:12]}…, but the samples come from {folder.network['sha256'][:12]}…; "
            "give the network that made them"
        )
    records = read_scores(Path(scores), folder.network["sha256"]) if scores is not None else ()
    films = [film for film in folder.films if not film.memorised]
    if not films:
        raise ValueError(
            f"{samples}: all {len(folder.films)} films are flagged as memorised, so "
            "none is left to show; sample other seeds"
        )
    study = choose_films(folder, films, real)
    card_text = read_card(card or find_card(model))
    more = (*study.pages, ("evidence.html", "Evidence"))
    frame = Frame(title, folder.network, restriction, index, url, films=True, make=generator is not None, more=more)
    with site_folder(out) as room:
        _write_films(room, folder, frame, generator)
        facts = evidence_facts(folder.films, films, records)
        room.write("evidence.html", pages.render(frame, "evidence.html", "evidence.html", card_text=card_text, **facts))
        for name, data in study_files(study, frame).items():
            room.write(name, data)
    return out / "index.html"


def _write_common(room: SiteFolder, frame: Frame) -> None:
    for name in ASSETS:
        room.write(name, (site_sources() / name).read_bytes())
    room.write("robots.txt", pages.robots(frame))
    room.write("site.webmanifest", pages.web_manifest(frame))


def _write_films(
    room: SiteFolder,
    folder: SampleFolder,
    frame: Frame,
    generator: BrowserModel | None,
) -> None:
    """Write the films with their pictures, and the pages about them."""
    _write_common(room, frame)
    room.write("gallery.js", (site_sources() / "gallery.js").read_bytes())
    if generator is not None:
        for name, data in pages.make_files(frame, generator).items():
            room.write(name, data)
    films = [film for film in folder.films if not film.memorised]
    more_text = {"Permission": frame.restriction} if frame.restriction else {}
    text = sheet_text(folder.network, frame.restriction) | more_text
    shown: list[Shown] = []
    first: list[Pixels] = []  # of the first page
    for film in tqdm(films, desc="films", unit="film", delay=2):
        data, image = read_image(folder.path, film, more_text)
        room.write(f"films/{film.file}", data)
        thumb = image.width_px > THUMB_ABOVE_PX
        if thumb or len(first) < PAGE_FILMS:
            grey = read_grey(data, folder.path / film.file)
            if len(first) < PAGE_FILMS:
                first.append(grey)
            if thumb:
                room.write(f"thumbs/{film.file}", thumbnail(grey, {**text, "Seed": str(film.seed)}))
        shown.append(Shown(film, image, thumb))
    room.write("contact-sheet.png", contact_sheet(first, text))
    room.write("share.png", shared_picture(first, text))
    room.write("manifest.json", pages.manifest(frame, shown))
    room.write("films.js", pages.films_script(shown, text))
    for name, data in pages.film_pages(frame, shown, len(folder.films) - len(films)).items():
        room.write(name, data)
