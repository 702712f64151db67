"""Builds the static gallery: a sample folder and its scores become a folder that any static host, or file://, can show.

It must never ask a third party for anything, run without its films' provenance, or delete a file that it did not write. Pages are
whole without JavaScript, but for make.html, which draws with it. Templates, style and scripts are the hand-written files of site/; the
conventions are in its templates.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from tqdm import tqdm

from thiscxr.data.terms import require_permission
from thiscxr.files import atomic_folder, sha256_file
from thiscxr.gallery.browser_model import BrowserModel, generator_files, page_facts, read_browser_model
from thiscxr.gallery.card import read_card
from thiscxr.gallery.evidence import evidence, evidence_facts, number
from thiscxr.gallery.samples import Film, Image, SampleFolder, cited_sources, read_image, read_json, read_samples, read_scores
from thiscxr.gallery.study import Study, choose_films, study_files

TITLE = "This chest x-ray does not exist"
MARKER = ".thiscxr-site"
ASSETS = ("style.css", "gallery.js", "favicon.svg")
MAKE_ASSETS = ("make.js", "generator.js")  # of make.html
STUDY_ASSETS = ("answers.js", "study.js", "audit.js")  # of study.html and audit.html
ENLARGED_BELOW_PX = 512  # the large film is shown about this wide on a desk; a smaller one is enlarged, and the page says so

SEX_WORDS = {"F": "female", "M": "male", "unknown": "sex unknown"}


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


def site_sources() -> Path:
    """Return the folder of templates, style and script: inside the package in a wheel, at the root of a source checkout."""
    here = Path(__file__).resolve()
    for folder in (here.parent / "site", here.parents[2] / "site"):
        if (folder / "templates" / "index.html").is_file():
            return folder
    raise AssertionError(f"the gallery's templates are neither beside {here} nor at the root of its checkout")


def words(name: str) -> str:
    """Return the name of a finding as it stands in a sentence: Pleural_Thickening -> pleural thickening."""
    return name.replace("_", " ").lower()


def asked(film: Film) -> str:
    """Say what the network was asked for: "PA view, female, 70 years, effusion; without mass". Empty when nothing was asked."""
    parts = []
    if film.view:
        parts.append("view unknown" if film.view == "unknown" else f"{film.view.replace('_', ' ')} view")
    if film.sex:
        parts.append(SEX_WORDS.get(film.sex, film.sex))
    if film.age_years is not None:
        parts.append(f"{film.age_years:.3g} years")
    parts += [words(finding) for finding in film.findings]
    if film.source:
        parts.append(f"in the manner of {film.source}")
    text = ", ".join(parts)
    absent = [words(finding) for finding in film.no_findings if finding != "No Finding"]  # "without no finding" says nothing
    if absent:
        listed = ", ".join(absent) if len(absent) <= 4 else f"{len(absent)} other findings"
        text += ("; " if text else "") + f"without {listed}"
    return text


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


def _manifest(title: str, network: Mapping[str, Any], shown: list[tuple[Film, Image]], restriction: str) -> str:
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


def check_ours(out: Path) -> None:
    """Raise ValueError unless `out` is absent, empty, or holds nothing but what an earlier build wrote, unchanged."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    advice = "choose another --out, or move it away first"
    if not (out / MARKER).is_file():
        raise ValueError(f"{out} exists and was not written by `thiscxr site` (no {MARKER} inside); {advice}")
    marker = read_json(out / MARKER, "the list of files that `thiscxr site` wrote")
    ours = marker.get("files") if isinstance(marker, dict) else None
    if not isinstance(ours, dict):
        raise ValueError(f"{out / MARKER} holds no list of files; {advice}")
    folders = {parent.as_posix() for name in ours for parent in Path(name).parents}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if name == MARKER or (path.is_dir() and not path.is_symlink() and name in folders):
            continue
        if name not in ours or path.is_symlink():
            raise ValueError(f"{path} was not written by `thiscxr site`, and replacing {out} would delete it; {advice}")
        if sha256_file(path) != ours[name]:
            raise ValueError(f"{path} was changed since `thiscxr site` wrote it, and replacing {out} would lose that; {advice}")


def _swap(fresh: Path, out: Path) -> None:
    """Put the finished folder `fresh` in the place of `out`; on a failure the old folder is put back."""
    check_ours(out)  # once more: a file may have arrived while the films were copied
    if not out.exists():
        os.replace(fresh, out)
        return
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    os.replace(out, old)
    try:
        os.replace(fresh, out)
    except OSError:
        os.replace(old, out)
        raise
    shutil.rmtree(old)


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


def _page(
    title: str,
    network: Mapping[str, Any],
    shown: list[tuple[Film, Image]],
    records: Iterable[Mapping[str, Any]],
    num_memorised: int,
    restriction: str,
    make: bool,
    pages: Iterable[tuple[str, str]],
) -> str:
    """Return index.html; `restriction`: who permitted it, where that is needed; `make`: whether there is a make.html beside it.

    pages: those beside it, (file, words).
    """
    films = [film for film, _ in shown]
    truncations = sorted({film.truncation for film in films if film.truncation is not None})
    widths = sorted({image.width_px for _, image in shown})
    return _template("index.html").render(
        title=title,
        network=_facts(network),
        shown=shown,
        facets=_facets(films),
        scores=[evidence(record, truncations) for record in records],
        sources=cited_sources(network.get("sources", {})),
        restriction=restriction,
        truncations=[number(value) for value in truncations],
        small=widths[-1] <= 128,
        enlarged_from=", ".join(map(str, widths)) if widths[-1] < ENLARGED_BELOW_PX else "",
        num_memorised=num_memorised,
        num_unscreened=sum(film.memorised is None for film in films),
        make=make,
        pages=list(pages),
    )


def _make_files(title: str, model: BrowserModel, runtime: Mapping[str, bytes] | None, restriction: str, gallery: bool) -> dict[str, bytes]:
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
        sources=cited_sources(model.info.get("sources", {})),
        restriction=restriction,
        gallery=gallery,
    )
    return {"make.html": page.encode(), **files}


def _study_and_evidence(
    title: str,
    folder: SampleFolder,
    films: Iterable[Film],
    records: Sequence[Mapping[str, Any]],
    study: Study,
    card: Path | None,
    restriction: str,
    pages: Iterable[tuple[str, str]],
) -> dict[str, bytes]:
    """Return study.html, audit.html, evidence.html and what they load; films: those that are shown."""
    named = dict(pages)

    def render(name: str, **facts: Any) -> str:
        return _template(name).render(
            title=f"{named[name]} – {title}",
            network=_facts(folder.network),
            sources=cited_sources(folder.network.get("sources", {})),
            restriction=restriction,
            pages=list(named.items()),
            **facts,
        )

    facts = evidence_facts(folder.films, films, records)
    evidence_page = render("evidence.html", model_card=read_card(card) if card else "", **facts)
    files = {name: (site_sources() / name).read_bytes() for name in STUDY_ASSETS}
    return {"evidence.html": evidence_page.encode(), **files, **study_files(study, restriction, render)}


def _write(folder: Path, name: str, data: bytes, written: dict[str, str]) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    written[name] = hashlib.sha256(data).hexdigest()


def build_site(
    samples: Path | None,
    out: Path,
    scores: Path | None = None,
    title: str = TITLE,
    model: Path | None = None,
    runtime: Mapping[str, bytes] | None = None,
    permission: bool = False,
    real: Path | None = None,
    card: Path | None = None,
) -> SiteSummary:
    """Write the gallery of a sample folder to `out`: index.html, films/, manifest.json, style, script, icon and the marker file.

    With the network file `model`, also make.html, which draws films in the visitor's browser, and what it loads; without `samples`, that
    page is the whole site. `runtime` (see `generator_files`) makes onnxruntime-web its backend.

    With samples there are also evidence.html, which shows the model card `card` (Markdown; without, one that lies beside `model` under its
    name), and the study pages; `real`: a pool whose held-out films stand against the synthetic ones there (see `choose_films`).

    The same input gives the same bytes. Films flagged as memorised are left out and counted. Nothing appears in `out` unless all of
    it was written; an older gallery there is replaced when it holds nothing but our own unchanged files.
    Raises ValueError when the samples, the network's facts or the scores are missing, malformed or of different networks, when a file
    name would leave the sample folder, when no film is left to show, when `out` holds anything that we did not write, and when the
    terms of a source restrict sharing and no `permission` is stated; where it is, the page, the manifest and every film say so.
    """
    out = Path(out).resolve()
    check_ours(out)
    if samples is None and (model is None or scores is not None or real is not None or card is not None):
        raise ValueError(
            "a site shows a sample folder, a network that draws in the browser, or both; give --samples, or --model alone: "
            "--scores, --real and --card say more of samples"
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
        study = choose_films(folder, films, real)
        pages = [("index.html", "Films"), *([("make.html", "Make one")] if model else []), *study.pages, ("evidence.html", "Evidence")]
        if card is None and model is not None and model.with_suffix(".md").is_file():
            card = model.with_suffix(".md")

    written: dict[str, str] = {}
    fresh = out.with_name(f".{out.name}.{os.getpid()}.new")
    try:
        with atomic_folder(fresh) as part:
            for name in ASSETS:
                _write(part, name, (site_sources() / name).read_bytes(), written)
            if generator is not None:
                for name, data in _make_files(title, generator, runtime, restriction, bool(films)).items():
                    _write(part, name, data, written)
            if samples is not None:
                shown: list[tuple[Film, Image]] = []
                for film in tqdm(films, desc="films", unit="film", delay=2):
                    data, image = read_image(folder.path, film, {"Permission": restriction} if restriction else {})
                    _write(part, f"films/{film.file}", data, written)
                    shown.append((film, image))
                _write(part, "manifest.json", _manifest(title, network, shown, restriction).encode(), written)
                page = _page(title, network, shown, records, num_memorised, restriction, generator is not None, pages).encode()
                for name, data in _study_and_evidence(title, folder, films, records, study, card, restriction, pages).items():
                    _write(part, name, data, written)
            else:
                page = (part / "make.html").read_bytes()
            _write(part, "index.html", page, written)
            marker = json.dumps({"format": 1, "files": written}, indent=0, sort_keys=True) + "\n"
            (part / MARKER).write_text(marker, encoding="utf-8")
            total_bytes = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
        _swap(fresh, out)
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
