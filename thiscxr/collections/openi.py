"""Open-I (Indiana University) as released: reports in XML, or Kaggle's two tables in their place; films as PNG or as
DICOM.

The view in the DICOM headers is wrong too often to be used: only Kaggle's table of projections identifies the lateral
films, and nothing distinguishes PA from AP.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from thiscxr.collections.archives import compressed_tars, find_table, release_files, stream
from thiscxr.collections.collection import FRONTAL_VIEWS, Collection, match_terms, missing_table, read_mapping, share
from thiscxr.collections.names import base_name
from thiscxr.collections.report_films import LABELER, ReportFindings
from thiscxr.collections.tables import Cells, read_table
from thiscxr.labels import FilmRecord

KAGGLE_REPORTS, KAGGLE_PROJECTIONS = "indiana_reports.csv", "indiana_projections.csv"

_MAPPING = read_mapping("openi.json")
_SILENT = frozenset(_MAPPING["silent"])
_REPORT = re.compile(r"(?:^|/)\d+\.xml$")
_REPORTS_TAR = re.compile(r"report", re.IGNORECASE)  # NLMCXR_reports.tgz; the others hold films, 80 GB of them
_MAX_REPORT_BYTES = 2**20  # they have some thousand
# CXR1_1_IM-… in XML is 1_IM-….dcm in the DICOM release and 1_IM-….dcm.png at Kaggle; all other numbers occur once.
_FILM = re.compile(r"(?:CXR)?(\d+)_(?:\1_)?(IM-[\d-]+)(?:\.\w+)*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Report:
    """A report: `number` as in CXR17, its coded headings (lower case), its films, and its text."""

    number: str
    headings: frozenset[str]
    films: tuple[str, ...]
    text: str


def parse_report(data: bytes) -> Report:
    """Return the report of one XML document.

    Raises ValueError when it is no XML, has a DOCTYPE (no released one has; entities may expand without bound), or
    lacks an id.
    """
    guard = expat.ParserCreate()
    guard.StartDoctypeDeclHandler = _refuse_doctype
    try:
        guard.Parse(data, True)
        tree = ElementTree.fromstring(data)
    except (expat.ExpatError, ElementTree.ParseError, LookupError) as error:
        raise ValueError(f"it is no well-formed XML ({error})") from error
    number = next((element.get("id", "") for element in tree.iterfind("uId")), "")
    images = [image.get("id", "") for image in tree.iterfind("parentImage")]
    if not number or not all(images):
        raise ValueError("a uId or a parentImage has no id")
    headings = frozenset(
        heading for element in tree.iterfind("MeSH/major") if (heading := (element.text or "").strip().lower())
    )
    parts = [(part.get("Label", ""), "".join(part.itertext())) for part in tree.iter("AbstractText")]
    return Report(number, headings, tuple(map(image_key, images)), _text(parts))


def _text(parts: Iterable[tuple[str, str]]) -> str:
    return "\n\n".join(f"{heading.upper()}: {words.strip()}" for heading, words in parts if words.strip())


def _refuse_doctype(*_: object) -> None:
    raise ValueError("it has a DOCTYPE, which no report of Open-I has")


def _documents(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (where it is, bytes) of all XML reports: on disk, in zips and tars, or else in the compressed tar of
    reports."""
    found = False
    for name, file in release_files(root, (".xml",)):
        if _REPORT.search(name):
            found = True
            try:
                data = file.read()
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from error
            yield str(file), data
    for _, path in compressed_tars(root):
        if not found and _REPORTS_TAR.search(path.name):
            yield from (
                (f"{path}!{name}", data or b"")
                for name, data in stream(path, lambda name: _REPORT.search(name) is not None, strict=True)
            )


def read_reports(root: Path) -> list[Report]:
    """Return all reports, those without films too, from XML where it is there and else from Kaggle's tables; by number.

    Raises ValueError, naming the file, when one is not as released.
    """
    reports: dict[str, Report] = {}
    for where, data in _documents(root):
        try:
            if len(data) > _MAX_REPORT_BYTES:
                raise ValueError(f"it has {len(data)} bytes, a report has some thousand")
            report = parse_report(data)
        except ValueError as error:
            raise ValueError(f"{where} is not a report of Open-I: {error}") from error
        reports.setdefault(report.number, report)
    found = list(reports.values()) or list(_kaggle_reports(root))
    return sorted(found, key=lambda report: (len(report.number), report.number))


def _kaggle_reports(root: Path) -> Iterator[Report]:
    table, projections = find_table(root, KAGGLE_REPORTS), find_table(root, KAGGLE_PROJECTIONS)
    if table is None or projections is None:
        raise missing_table(
            root, "Open-I", "NLMCXR_reports.tgz", "ecgen-radiology/*.xml", f"{KAGGLE_REPORTS} with {KAGGLE_PROJECTIONS}"
        )
    films: dict[str, list[str]] = {}
    with Cells(projections) as cells:
        for line, row in read_table(projections, ["uid", "filename"]):
            films.setdefault(cells.needed_id(line, row, "uid"), []).append(image_key(row["filename"]))
    with Cells(table) as cells:
        for line, row in read_table(table, ["uid", "MeSH"]):
            uid = cells.needed_id(line, row, "uid")
            headings = frozenset(heading for word in row["MeSH"].split(";") if (heading := word.strip().lower()))
            parts = [(heading, row.get(heading, "")) for heading in ("findings", "impression")]
            yield Report(f"CXR{uid}", headings, tuple(films.get(uid, ())), _text(parts))


def heading_terms(headings: frozenset[str]) -> set[str]:
    """Return the terms that the mapping may hold: each heading alone, and with each of its qualifiers (opacity/lung of
    opacity/lung/base/left)."""
    terms = set()
    for heading in headings:
        head, *qualifiers = (part.strip() for part in heading.split("/"))
        terms |= {head, *(f"{head}/{qualifier}" for qualifier in qualifiers)}
    return terms


@lru_cache(maxsize=2**14)
def report_findings(headings: frozenset[str]) -> Mapping[str, int]:
    """Return the states of all findings; reports of equal headings share them."""
    silent = not headings or not headings.isdisjoint(_SILENT)
    return share(match_terms(heading_terms(headings), _MAPPING["findings"], silent))


def _views(root: Path) -> dict[str, str]:
    table = find_table(root, KAGGLE_PROJECTIONS)
    if table is None:
        return {}
    with Cells(table) as cells:
        return {
            image_key(row["filename"]): cells.view(row, "projection")
            for _, row in read_table(table, ["filename", "projection"])
        }


def read_labels(root: Path, reports: bool = False) -> list[FilmRecord]:
    """Return the films of all reports; each report is one patient, since the release has one report per patient.

    reports: findings come from the text of the reports, not from the coded headings.

    Raises ValueError when there are neither XML reports nor Kaggle's tables, or one of them is not as released.
    """
    views = _views(root)
    with ReportFindings(root) as words:
        return [
            FilmRecord(
                film=film,
                file=film,
                patient=report.number,
                study=report.number,
                view=views.get(film, "unknown"),
                findings=findings,
                labeler=LABELER if reports else "MeSH coding",
            )
            for report in read_reports(root)
            for findings in [words.read(report.text) if reports else report_findings(report.headings)]
            for film in report.films
        ]


def image_key(path: str) -> str:
    """Return CXR1_IM-0001-3001 for a film of report 1, whichever of the releases the path is from."""
    name = base_name(path)
    match = _FILM.fullmatch(name)
    return f"CXR{match[1]}_{match[2].upper()}" if match else name


OPENI = Collection("openi", read_labels, image_key, default_views=(*FRONTAL_VIEWS, "unknown"), reports=True)
