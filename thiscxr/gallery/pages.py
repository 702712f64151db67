"""The pages of a site as text, and what their templates are given. Templates, style and scripts are the hand-written
files of site/.

Pages are complete without JavaScript, except make.html, which generates films with it. The data on the films for
scripts is films.js, a script itself, since pages from file:// may not read files.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2

from thiscxr.collections.collection import FRONTAL_VIEWS
from thiscxr.gallery.browser_model import BrowserModel, generator_files, page_facts
from thiscxr.gallery.samples import Film, Image, cited_sources
from thiscxr.gallery.words import SEX_WORDS, near, number, predicted, requested
from thiscxr.report.page import templates

MAKE_ASSETS = ("make.js", "generator.js")  # of make.html
# the large film is shown about this wide on a desk; a smaller one is enlarged, and the page says so
ENLARGED_BELOW_PX = 512
PAGE_FILMS = 120  # of one page of the gallery: whole rows of 2, 3, 4, 5, 6, 8, 10 or 12
NOTICE = "Synthetic. Not a patient. Not for diagnosis."


class Shown(NamedTuple):
    """A film of the site; `thumb`: it has a small one in thumbs/."""

    film: Film
    image: Image
    thumb: bool


@dataclass(frozen=True)
class Frame:
    """What every page of a site shares."""

    title: str
    network: Mapping[str, Any]
    restriction: str  # the stated permission, where one is needed
    index: bool  # search engines may list the pages
    url: str  # where the site will be, with a slash at the end, or ""
    films: bool  # whether there are films to show
    make: bool  # whether there is a make.html
    more: tuple[tuple[str, str], ...] = ()  # further pages about the films: (address, words)

    @property
    def links(self) -> list[tuple[str, str]]:
        """The pages that every page leads to: (address, words)."""
        of_films = [("index.html", "One film"), ("gallery.html", "Gallery")] if self.films else []
        return [
            *of_films,
            *([("make.html", "Make one")] if self.make else []),
            *self.more,
            *([("about.html", "About")] if self.films else []),
        ]


def site_sources() -> Path:
    """Return the folder of templates, style and script: inside the package in a wheel, at the root of a source
    checkout."""
    here = Path(__file__).resolve()
    for folder in (here.parent / "site", here.parents[2] / "site"):
        if (folder / "templates" / "index.html").is_file():
            return folder
    raise AssertionError(f"the gallery's templates are neither beside {here} nor at the root of its checkout")


def _facts(network: Mapping[str, Any]) -> dict[str, Any]:
    facts = {key: network.get(key) for key in ("name", "sha256", "images_seen", "started_from", "code_version")}
    return {**facts, "res": network.get("architecture", {}).get("res")}


def _facets(films: Iterable[Film]) -> list[dict[str, Any]]:
    """Return the filters that distinguish these films: name, label, options (value, words, number of films)."""
    films = tuple(films)
    decades = Counter(decade(film) for film in films if film.age_years is not None)
    counts = {
        ("finding", "Finding asked for"): Counter(finding for film in films for finding in set(film.findings)),
        ("view", "View asked for"): Counter(film.view for film in films if film.view),
        ("sex", "Sex asked for"): Counter(film.sex for film in films if film.sex),
        ("age", "Age asked for"): {str(start): decades[start] for start in sorted(decades)},
    }
    facets = []
    for (name, label), count in counts.items():
        values = list(count) if name == "age" else sorted(count)
        options = [(value, _option(name, value), count[value]) for value in values]
        if any(number_of_films < len(films) for _, _, number_of_films in options):
            facets.append({"name": name, "label": label, "options": options})
    return facets


def decade(film: Film) -> int:
    """Return the first year of the decade of the requested age."""
    assert film.age_years is not None
    return int(film.age_years // 10) * 10


def _option(name: str, value: str) -> str:
    if name == "age":
        return f"{value} to {int(value) + 9} years"
    return SEX_WORDS.get(value, value) if name == "sex" else value.replace("_", " ")


def manifest(frame: Frame, shown: Sequence[Shown]) -> bytes:
    """Return manifest.json: one entry a film, with the conditions requested (never "has"), sizes and hashes."""
    films = [
        {
            "file": f"films/{film.file}",
            "seed": film.seed,
            "permalink": f"#seed={film.key}",
            "width_px": image.width_px,
            "height_px": image.height_px,
            "bytes": image.num_bytes,
            "sha256": image.sha256,
            "truncation": film.truncation,
            "asked": {
                "view": film.view or None,
                "sex": film.sex or None,
                "age_years": film.age_years,
                "source": film.source or None,
                "findings": film.findings,
                "no_findings": film.no_findings,
            },
            "seen": film.seen,
            "screened": film.memorised is not None,
            "nearest": film.nearest,
            "stranger_rank": film.stranger_rank,
        }
        for film, image, _ in shown
    ]
    facts: dict[str, Any] = {
        "format": 1,
        "title": frame.title,
        "notice": NOTICE,
        "network": _facts(frame.network),
        "films": films,
    }
    if frame.restriction:
        facts["restriction"] = frame.restriction
    return (json.dumps(facts, ensure_ascii=False) + "\n").encode()


def films_script(shown: Sequence[Shown], marks: Mapping[str, str]) -> bytes:
    """Return films.js: the data on every film for gallery.js. Empty values are left out; `width` and `height` are the
    usual ones.

    marks: the text chunks of a contact sheet.
    """
    (width, height), _ = Counter((image.width_px, image.height_px) for _, image, _ in shown).most_common(1)[0]
    films = []
    for film, image, thumb in shown:
        facts = {
            "key": film.key,
            "file": "" if film.file == f"seed-{film.key:0>8}.png" else film.file,
            "asked": requested(film),
            "seen": predicted(film),
            "near": near(film),
            "unscreened": film.memorised is None,
            "view": film.view,
            "sex": film.sex,
            "age": "" if film.age_years is None else str(decade(film)),
            "finding": film.findings,
            "width": image.width_px if image.width_px != width else 0,
            "height": image.height_px if image.height_px != height else 0,
            "thumb": thumb,
        }
        films.append({name: value for name, value in facts.items() if value})
    rows = ",\n".join(json.dumps(film, separators=(",", ":")) for film in films)
    head = json.dumps({"width": width, "height": height, "marks": marks})[:-1]
    return f'"use strict";\nglobalThis.thiscxrFilms = {head}, "films": [\n{rows}\n] }};\n'.encode()


def web_manifest(frame: Frame) -> bytes:
    """Return site.webmanifest (W3C Web Application Manifest)."""
    icons = [
        {"src": f"icon-{side}.png", "sizes": f"{side}x{side}", "type": "image/png", "purpose": "any maskable"}
        for side in (192, 512)
    ]
    facts = {
        "name": frame.title,
        "short_name": "thiscxr",
        "description": NOTICE,
        "lang": "en",
        "start_url": "index.html",
        "scope": "./",
        "display": "browser",
        "background_color": "#0b0d10",
        "theme_color": "#0b0d10",
        "icons": [*icons, {"src": "favicon.svg", "sizes": "any", "type": "image/svg+xml"}],
    }
    return (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode()


def robots(frame: Frame) -> bytes:
    """Return robots.txt. Listed pages still ask that their pictures are not shown without the words around them
    (base.html)."""
    return b"User-agent: *\nAllow: /\n" if frame.index else b"User-agent: *\nDisallow: /\n"


def _image_object(frame: Frame, film: Film, image: Image) -> dict[str, Any]:
    """Return a film as schema.org ImageObject."""
    said = requested(film)
    return {
        "@type": "ImageObject",
        "contentUrl": f"{frame.url}films/{quote(film.file, safe='')}",
        "name": f"Synthetic chest x-ray, seed {film.key}",
        "description": (f"Asked for: {said}. " if said else "") + NOTICE,
        "digitalSourceType": "https://schema.org/TrainedAlgorithmicMediaDigitalSource",
        "creditText": (
            f"Synthetic image by the neural network {frame.network.get('name') or frame.network['sha256'][:12]}"
        ),
        "encodingFormat": "image/png",
        "width": image.width_px,
        "height": image.height_px,
    }


def _template(name: str) -> jinja2.Template:
    folder = site_sources() / "templates"
    pages = templates(folder, autoescape=True, lstrip_blocks=True, keep_trailing_newline=True)
    pages.filters.update(
        requested=requested,
        predicted=predicted,
        near=near,
        urlpath=lambda name: quote(name, safe=""),
        words=lambda names: [(name, SEX_WORDS.get(name, name.replace("_", " "))) for name in names],
        megabytes=lambda count: f"{count / 1e6:.1f} MB",
    )
    return pages.get_template(name)


def render(frame: Frame, template: str, page: str, **facts: Any) -> bytes:
    """Return a page: its template with the facts of the frame and its own."""
    sources = cited_sources(frame.network.get("sources", {}))
    own = {**vars(frame), "links": frame.links, "network": _facts(frame.network), "sources": sources, "page": page}
    return _template(template).render(own | facts).encode()


def page_name(number: int) -> str:
    """Return the name of a page of the gallery, counted from 1."""
    return "gallery.html" if number == 1 else f"gallery-{number}.html"


def film_pages(frame: Frame, shown: Sequence[Shown], num_memorised: int) -> dict[str, bytes]:
    """Return index.html, the pages of the gallery and about.html, name -> bytes."""
    films = [film for film, _, _ in shown]
    # The first page begins with a frontal film, which anybody takes for a chest.
    front = next((each for each in shown if each.film.view in FRONTAL_VIEWS), shown[0])
    truncations = sorted({film.truncation for film in films if film.truncation is not None})
    widths = sorted({image.width_px for _, image, _ in shown})
    common = {
        "num_films": len(films),
        "first": front,
        "small": widths[-1] <= 128,
        "enlarged_from": ", ".join(map(str, widths)) if widths[-1] < ENLARGED_BELOW_PX else "",
        "num_memorised": num_memorised,
        "num_unscreened": sum(film.memorised is None for film in films),
    }
    context = {"@context": "https://schema.org"}
    first = context | _image_object(frame, front.film, front.image)
    pages = {"index.html": render(frame, "index.html", "index.html", **common, linked=first)}
    starts = range(0, len(shown), PAGE_FILMS)
    facets = _facets(films)
    for place, start in enumerate(starts, 1):
        part = shown[start : start + PAGE_FILMS]
        media = [_image_object(frame, film, image) for film, image, _ in part]
        linked = {
            **context,
            "@type": "ImageGallery",
            "name": frame.title,
            "description": NOTICE,
            "associatedMedia": media,
        }
        facts = {
            "part": part,
            "facets": facets,
            "place": place,
            "num_pages": len(starts),
            "page_films": PAGE_FILMS,
            "linked": linked,
        }
        pages[page_name(place)] = render(
            frame, "gallery.html", page_name(place), **common, **facts, page_name=page_name
        )
    pages["about.html"] = render(
        frame, "about.html", "about.html", **common, truncations=[number(value) for value in truncations]
    )
    return pages


def make_files(frame: Frame, model: BrowserModel) -> dict[str, bytes]:
    """Return make.html and all that it loads beside the common files."""
    files = generator_files(model)
    files |= {name: (site_sources() / name).read_bytes() for name in MAKE_ASSETS}
    vocabulary = {"sexes": ["F", "M"], "ages": True, **model.info["vocabulary"]}  # absent from the first network files
    facts = page_facts(model, files, frame.restriction)
    own = {
        "facts": facts,
        "enlarged": facts["res"] < ENLARGED_BELOW_PX,
        "vocabulary": vocabulary,
        "sources": cited_sources(model.info.get("sources", {})),
    }
    return {"make.html": render(frame, "make.html", "make.html", **own), **files}
