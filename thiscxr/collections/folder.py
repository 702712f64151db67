"""A plain folder of films: images wherever they lie, and tables `metadata.csv`, `.tsv`, `.jsonl` or `.parquet` beside
or above them.

Reports, in a column `report` or as files `reports/ID.txt`, label the films where no column of a finding does.

View, sex and age come from a table or a DICOM header, never from names. Where neither names the patient, folders may
stand for patients; otherwise every film has its own.
"""

import io
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from thiscxr.collections.archives import ReleaseFile, release_files
from thiscxr.collections.collection import FRONTAL_VIEWS, Collection
from thiscxr.collections.names import locate, plain_name
from thiscxr.collections.report_films import LABELER, ReportFindings, ReportFolders
from thiscxr.collections.subfolders import folder_patients, folder_splits
from thiscxr.collections.tables import Cells, open_text, read_table
from thiscxr.collections.unlisted import films_in, headers
from thiscxr.files import nearest_name
from thiscxr.labels import FINDINGS, FilmRecord, spelled
from thiscxr.pixels import DicomHeader
from thiscxr.words import is_missing, read_split

TABLES = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet")
NO_NAME = "row without a file_name"
_FIELDS = ("file_name", "patient", "study", "view", "sex", "age_years", "split", "report")
_IN_HEADERS = ("patient", "study", "view", "sex", "age_years")
_OTHER_NAMES = {
    **dict.fromkeys(("filename", "file", "path", "image_path"), "file_name"),
    **dict.fromkeys(("patient_id", "patientid", "subject", "subject_id"), "patient"),
    **{"study_id": "study", "gender": "sex", "age": "age_years", "projection": "view"},
}
_NO_HEADER = DicomHeader()
_FEW_FILMS = 20


def _our_columns(header: list[str]) -> list[str]:
    """Return our names of the columns: whatever their case, spaces or underscores, and some common other names."""
    ours = [spelled(name, (*_FIELDS, *FINDINGS)) for name in header]
    others = [_OTHER_NAMES.get(name.lower().replace(" ", "_"), name) for name in ours]
    return [name if other in ours else other for name, other in zip(ours, others, strict=True)]


def _objects(table: ReleaseFile) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Yield (line number, object) of JSON lines or Parquet."""
    if table.name.lower().endswith(".parquet"):
        try:
            yield from enumerate(pq.read_table(io.BytesIO(table.read())).to_pylist(), start=1)
        except pa.ArrowException as error:
            raise ValueError(f"{table} is no Parquet file ({' '.join(str(error).split())})") from error
        return
    with open_text(table) as file:
        for line, text in enumerate(file, start=1):
            if text.strip():
                try:
                    yield line, json.loads(text)
                except (json.JSONDecodeError, RecursionError) as error:
                    raise ValueError(f"{table} line {line} is not JSON ({error})") from error


def _table_rows(table: ReleaseFile) -> Iterator[dict[str, str]]:
    if table.name.lower().endswith((".csv", ".tsv")):
        yield from (row for _, row in read_table(table, ["file_name"], _our_columns))
        return
    for line, row in _objects(table):
        columns = _our_columns(list(row)) if isinstance(row, Mapping) else []
        if "file_name" not in columns:
            raise ValueError(
                f'{table} line {line} has no \'file_name\'; expected an object such as {{"file_name": "a.png"}}'
            )
        yield {name: "" if value is None else _text(value) for name, value in zip(columns, row.values(), strict=True)}


def _text(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode().strip()  # JSON may hold half a character


def _find_tables(files: Mapping[str, ReleaseFile]) -> dict[str, ReleaseFile]:
    """Return folder inside the root (with a slash at its end) -> its table, the deepest first: the nearest table
    describes a film."""
    tables: dict[str, ReleaseFile] = {}
    for name, file in files.items():
        folder, slash, last = name.rpartition("/")
        if last.lower() in TABLES:
            if folder + slash in tables:
                raise ValueError(
                    f"{tables[folder + slash]} and {file} both describe the films of one folder; keep one of them"
                )
            tables[folder + slash] = file
    return dict(sorted(tables.items(), key=lambda item: -item[0].count("/")))


def _rows(table: ReleaseFile, folder: str, files: Iterable[str]) -> list[tuple[str, dict[str, str]]]:
    """Return (path of the film inside the root, row) for the table of a folder.

    Its paths are inside that folder, or anywhere if that holds no other files.
    """
    rows = list(_table_rows(table))
    if unknown := {name: None for row in rows for name in row if name and name not in _FIELDS and name not in FINDINGS}:
        named = ", ".join(name + nearest_name(name, (*_FIELDS, *FINDINGS)) for name in unknown)
        logging.getLogger(__name__).warning("%s: unknown columns are ignored: %s", table, named)
    inside = [
        file.removeprefix(folder) for file in files if file.startswith(folder) and not file.lower().endswith(TABLES)
    ]
    folder, inside = (folder, inside) if inside else ("", list(files))
    found = locate((row["file_name"] for row in rows), inside)
    return [
        (folder + (found.get(path := row["file_name"]) or PurePosixPath(path.replace("\\", "/")).as_posix()), row)
        for row in rows
    ]


def _record(
    name: str,
    file: str,
    row: Mapping[str, str],
    cells: Cells,
    header: DicomHeader,
    folder_patient: str,
    folder_split: str | None,
    reported: Mapping[str, int] | None,
) -> FilmRecord:
    """Return a film: the table goes before the header, and the header before the names of folders.

    reported: findings of its report; a filled cell of the table goes before them.
    """
    if row and is_missing(row["file_name"]):
        return FilmRecord(f"{name}/", file, name, name, refused=NO_NAME)
    film = f"{name}/{file}"  # two folders may both hold an a.png
    patient = (
        cells.id(row, "patient") or ("" if is_missing(header.patient) else header.patient) or folder_patient or film
    )
    # study numbers often start again for each patient
    study = f"{patient}/{number}" if (number := cells.id(row, "study")) else header.study or film
    view, sex, age, split = (
        cells.view(row, "view"),
        cells.sex(row, "sex"),
        cells.age(row, "age_years"),
        row.get("split", ""),
    )
    return FilmRecord(
        film=film,
        file=file,
        patient=patient,
        study=study,
        view=header.view if view == "unknown" else view,
        sex=header.sex if sex == "unknown" else sex,
        age_years=header.age_years if age is None else age,
        findings={**(reported or {}), **_states(row, cells, reported is None)},
        labeler=LABELER if reported else "",
        split=folder_split if is_missing(split) else cells.known("split", split, read_split(split)),
        refused=header.no_film,
    )


def _states(row: Mapping[str, str], cells: Cells, also_empty: bool) -> dict[str, int]:
    there = [finding for finding in FINDINGS if finding in row]
    return {finding: cells.state(row, finding) for finding in there if also_empty or not is_missing(row[finding])}


def read_labels(root: Path, name: str = "") -> list[FilmRecord]:
    """Return the films that the tables list (others are not taken), or without a table every film under `root`, sorted.

    name: the prefix of ids; by default the folder's own name. DICOM objects that are no films come with the reason in
    `refused`. Raises ValueError when a table has no `file_name`, or an id that a spreadsheet has rounded.
    """
    name = plain_name(name or root.resolve().name)
    files: dict[str, ReleaseFile] = {}
    there = list(release_files(root))
    for path, found in there:
        files.setdefault(path, found)
    tables = _find_tables(files)
    rows = {table: _rows(table, folder, files) for folder, table in tables.items()}
    known: Mapping[str, DicomHeader | None]
    if tables:
        listed = {file for some in rows.values() for file, _ in some}
        incomplete = {
            file
            for some in rows.values()
            for file, row in some
            if any(is_missing(row.get(field, "")) for field in _IN_HEADERS)
        }
        known = headers({file: files[file] for file in sorted(incomplete & files.keys())})
    else:
        known = films_in(root, there)
        listed = {file for file, header in known.items() if not header.no_film}
        rows[ReleaseFile(str(root))] = [(file, {}) for file in sorted(known)]
    patients, splits = folder_patients(sorted(listed)), folder_splits(listed)
    records = []
    folders = ReportFolders(files)
    with ReportFindings(root) as reports:
        for table, some in rows.items():
            with Cells(table) as cells:
                for file, row in some:
                    header, patient = known.get(file) or _NO_HEADER, plain_name(patients.get(file, ""))
                    beside = folders.find(file, row.get("study", ""))
                    reported = (
                        reports.read(row["report"])
                        if row.get("report")
                        else reports.read_file(beside)
                        if beside
                        else None
                    )
                    records.append(
                        _record(name, plain_name(file), row, cells, header, patient, splits.get(file), reported)
                    )
    folders.warn(root)
    _warn_of_patients(root, [film for film in records if not film.refused])
    return records


def _warn_of_patients(root: Path, films: list[FilmRecord]) -> None:
    own = sum(film.patient == film.film for film in films)
    if own and len(films) > 1:
        logging.getLogger(__name__).warning(
            "%s: the patient of %d of %d films is unknown: each counts as a patient of its own, and films of "
            "one patient may be in both splits; give a metadata.csv with the columns file_name and patient",
            root, own, len(films),
        )  # fmt: skip
    patients = Counter(film.patient for film in films)
    if patients and (most := max(patients.values())) > max(_FEW_FILMS, len(films) / 2):
        logging.getLogger(__name__).warning(
            "%s: %d of %d films have one and the same patient id and count as one patient; "
            "if it is a placeholder, give a metadata.csv with the columns file_name and patient",
            root, most, len(films),
        )  # fmt: skip


FOLDER = Collection("folder", read_labels, plain_name, default_views=(*FRONTAL_VIEWS, "unknown"), by_path=True)
