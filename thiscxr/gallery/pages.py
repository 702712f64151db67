"""The pages of a site as text: what a template is told. Templates, style and scripts are the hand-written files of site/.

Pages are whole without JavaScript, but for make.html, which draws with it.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from thiscxr.gallery.browser_model import BrowserModel, generator_files, page_facts
from thiscxr.gallery.evidence import evidence
from thiscxr.gallery.samples import Film, Image
from thiscxr.gallery.words import SEX_WORDS, asked, number

MAKE_ASSETS = ("make.js", "generator.js")  # of make.html
ENLARGED_BELOW_PX = 512  # the large film is shown about this wide on a desk; a smaller one is enlarged, and the page says so


def site_sources() -> Path:
    """Return the folder of templates, style and script: inside the package in a wheel, at the root of a source checkout."""
    here = Path(__file__).resolve()
    for folder in (here.parent / "site", here.parents[2] / "site"):
        if (folder / "templates" / "index.html").is_file():
            return folder
    raise AssertionError(f"the gallery's templates are neither beside {here} nor at the root of its checkout")


def _sources(network: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the training collections as text; a link only where the address is http(s)."""
    fields = ("title", "terms", "citation", "acknowledgement", "url")
    sources = []
    for key, terms in sorted(network.get("sources", {}).items()):
        source = {field: str(terms.get(field) or "") for field in fields}
        source["title"] = source["title"] or key
        source["link"] = source["url"] if re.match(r"https?://", source["url"]) else ""
        sources.append(source)
    return sources


def _facts(network: Mapping[str, Any]) -> dict[str, Any]:
    return {key: network.get(key) for key in ("name", "sha256", "resolution", "images_seen", "code_version")}


def _facets(films: Iterable[Film]) -> list[dict[str, Any]]:
    """Return the filters that can tell these films apart: name, label, options (value, words, number of films)."""
    films = tuple(films)
    counts = {
        ("view", "View asked"): Counter(film.view for film in films if film.view),
        ("sex", "Sex asked"): Counter(film.sex for film in films if film.sex),
        ("findings", "Finding asked"): Counter(finding for film in films for finding in set(film.findings)),
    }
    facets = []
    for (name, label), count in counts.items():
        options = [
            (value, SEX_WORDS.get(value, value) if name == "sex" else value.replace("_", " "), count[value]) for value in sorted(count)
        ]
        if any(number_of_films < len(films) for _, _, number_of_films in options):
            facets.append({"name": name, "label": label, "options": options})
    return facets


def manifest(title: str, network: Mapping[str, Any], shown: list[tuple[Film, Image]], restriction: str) -> str:
    """Return manifest.json: one entry a film, with the conditions asked (never "has"), sizes and hashes."""
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
            "screened": film.memorised is not None,
            "nearest": film.nearest,
            "stranger_rank": film.stranger_rank,
        }
        for film, image in shown
    ]
    notice = "Synthetic. Not a patient. Not for diagnosis."
    facts: dict[str, Any] = {"format": 1, "title": title, "notice": notice, "network": _facts(network), "films": films}
    if restriction:
        facts["restriction"] = restriction
    return json.dumps(facts, ensure_ascii=False) + "\n"


def _template(name: str) -> jinja2.Template:
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(site_sources() / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    pages.filters.update(
        asked=asked,
        urlpath=lambda name: quote(name, safe=""),
        words=lambda names: [(name, SEX_WORDS.get(name, name.replace("_", " "))) for name in names],
        megabytes=lambda count: f"{count / 1e6:.1f} MB",
    )
    return pages.get_template(name)


def index_page(
    title: str,
    network: Mapping[str, Any],
    shown: list[tuple[Film, Image]],
    records: Iterable[Mapping[str, Any]],
    num_memorised: int,
    restriction: str,
    make: bool,
) -> str:
    """Return index.html; `restriction`: who permitted it, where that is needed; `make`: whether there is a make.html beside it."""
    films = [film for film, _ in shown]
    truncations = sorted({film.truncation for film in films if film.truncation is not None})
    widths = sorted({image.width_px for _, image in shown})
    return _template("index.html").render(
        title=title,
        network=_facts(network),
        shown=shown,
        facets=_facets(films),
        scores=[evidence(record, truncations) for record in records],
        sources=_sources(network),
        restriction=restriction,
        truncations=[number(value) for value in truncations],
        small=widths[-1] <= 128,
        enlarged_from=", ".join(map(str, widths)) if widths[-1] < ENLARGED_BELOW_PX else "",
        num_memorised=num_memorised,
        num_unscreened=sum(film.memorised is None for film in films),
        make=make,
    )


def make_files(title: str, model: BrowserModel, runtime: Mapping[str, bytes] | None, restriction: str, gallery: bool) -> dict[str, bytes]:
    """Return make.html and all that it loads; `gallery`: whether index.html beside it shows films."""
    files = generator_files(model, runtime)
    files |= {name: (site_sources() / name).read_bytes() for name in MAKE_ASSETS}
    vocabulary = {"sexes": ["F", "M"], "ages": True, **model.info["vocabulary"]}  # what the first files do not say
    facts = page_facts(model, files, restriction)
    page = _template("make.html").render(
        title=title,
        network=_facts(model.info),
        facts=facts,
        enlarged=facts["res"] < ENLARGED_BELOW_PX,
        vocabulary=vocabulary,
        sources=_sources(model.info),
        restriction=restriction,
        gallery=gallery,
    )
    return {"make.html": page.encode(), **files}
