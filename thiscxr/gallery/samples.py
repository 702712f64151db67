"""Reads what the gallery shows: a sample folder (samples.csv, network.json, PNG films).

Everything read here is untrusted: a file name may not leave the folder. It writes nothing and is independent of HTML.
Formats: docs/formats.md; PNG chunks: W3C PNG (third edition), sections 5 and 11.2.1.
"""

import csv
import hashlib
import math
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thiscxr.files import nearest_name, read_json
from thiscxr.pixels.image import check_whole

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
# Windows refuses these in a name, browsers and shells read some of them as more than a name.
UNSAFE_IN_NAME = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')
TRUTH = {"true": True, "1": True, "false": False, "0": False, "": None}


@dataclass(frozen=True)
class Film:
    """One row of samples.csv. Conditions are those REQUESTED of the network; an empty one was not requested."""

    file: str
    seed: int
    key: str  # what the permalink names: the seed, or "seed.2" for the second film of one seed
    view: str = ""
    sex: str = ""
    age_years: float | None = None
    source: str = ""
    findings: tuple[str, ...] = ()
    no_findings: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()  # predicted by a classifier, of the findings that it predicts well
    truncation: float | None = None
    nearest: float | None = None
    stranger_rank: float | None = None
    memorised: bool | None = None  # None: not compared


@dataclass(frozen=True)
class SampleFolder:
    """The rows of samples.csv in their order, and network.json as read."""

    path: Path
    films: tuple[Film, ...]
    network: Mapping[str, Any]


@dataclass(frozen=True)
class Image:
    """What the pages show of one PNG film."""

    width_px: int
    height_px: int
    num_bytes: int
    sha256: str


def check_name(name: str, where: str) -> str:
    """Return `name` when it is a plain PNG file name. Raises ValueError for a path, a hidden file or another format."""
    if UNSAFE_IN_NAME.search(name) or name.startswith(".") or len(name.encode()) > 200:
        raise ValueError(
            f"{where}: file {name!r} is not a plain file name; expected the name of a PNG inside the sample folder"
        )
    if not name.lower().endswith(".png"):
        raise ValueError(
            f"{where}: file {name!r} is not a PNG; the gallery shows PNG films: sample again with --format png"
        )
    return name


def _number(text: str, column: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{where}: {column} {text!r} is not a number; leave it empty when it is not known")
    return value


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split("|") if (name := part.strip()))


def _film(row: Mapping[str, str], where: str, films_of_seed: dict[int, int]) -> Film:
    if not re.fullmatch(r"[0-9]{1,20}", row["seed"]):
        raise ValueError(f"{where}: seed {row['seed']!r} is not a whole number of 0 or more")
    seed = int(row["seed"])
    films_of_seed[seed] = films_of_seed.get(seed, 0) + 1
    memorised = row.get("memorised", "").lower()
    if memorised not in TRUTH:
        raise ValueError(f"{where}: memorised {row['memorised']!r} is neither true, false nor empty")
    rank = _number(row.get("stranger_rank", ""), "stranger_rank", where)
    if rank is not None and not 0 <= rank <= 1:
        raise ValueError(f"{where}: stranger_rank {rank:g} is not a share from 0 to 1; score these samples again")
    return Film(
        file=check_name(row["file"], where),
        seed=seed,
        key=str(seed) if films_of_seed[seed] == 1 else f"{seed}.{films_of_seed[seed]}",
        view=row.get("view", ""),
        sex=row.get("sex", ""),
        age_years=_number(row.get("age_years", ""), "age_years", where),
        source=row.get("source", ""),
        findings=_names(row.get("findings", "")),
        no_findings=_names(row.get("no_findings", "")),
        seen=_names(row.get("seen", "")),
        truncation=_number(row.get("truncation", ""), "truncation", where),
        nearest=_number(row.get("nearest", ""), "nearest", where),
        stranger_rank=rank,
        memorised=TRUTH[memorised],
    )


def read_network(path: Path) -> Mapping[str, Any]:
    """Read network.json: name, sha256, architecture, images_seen, sources. Raises ValueError for a missing or malformed
    one."""
    what = (
        "the network.json that `thiscxr sample` writes beside its films: a gallery says "
        "which network made them, from whose data"
    )
    network = read_json(path, what)
    if not isinstance(network, dict) or not isinstance(network.get("sha256"), str) or not network["sha256"]:
        raise ValueError(f"{path}: no sha256 of a network inside; expected {what}")
    if not isinstance(network.get("architecture", {}), dict):
        raise ValueError(f"{path}: architecture is not a table; expected {{res, z_dim, …}}")
    sources = network.get("sources", {})
    if not isinstance(sources, dict) or not all(isinstance(source, dict) for source in sources.values()):
        raise ValueError(
            f"{path}: sources is not a table of collections; expected {{key: {{title, terms, citation, url}}}}"
        )
    return network


def cited_sources(sources: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return collections (key -> title, terms, …) as text, by key; a link only where the address is http(s)."""
    fields = ("title", "terms", "citation", "acknowledgement", "url")
    cited = []
    for key, terms in sorted(sources.items()):
        source = {field: str(terms.get(field) or "") for field in fields}
        source["title"] = source["title"] or key
        source["link"] = source["url"] if re.match(r"https?://", source["url"]) else ""
        cited.append(source)
    return cited


def read_samples(path: Path) -> SampleFolder:
    """Read samples.csv and network.json of a sample folder; the films themselves are read by `read_image`.

    Raises ValueError when either is missing, a row is malformed, a file name is no plain PNG name or listed twice, or a
    row was made by another network than the one in network.json.
    """
    table = path / "samples.csv"
    if not table.is_file():
        raise ValueError(f"{table} is missing; expected a folder written by `thiscxr sample`")
    network = read_network(path / "network.json")
    films: list[Film] = []
    films_of_seed: dict[int, int] = {}
    seen: set[str] = set()
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            columns = reader.fieldnames or []
            for column in ("file", "seed"):
                if column not in columns:
                    raise ValueError(
                        f"{table}: no column {column!r}{nearest_name(column, columns)}; expected file, seed, conditions"
                    )
            for cells in reader:
                where = f"{table} line {reader.line_num}"
                if None in cells:
                    raise ValueError(f"{where}: more cells than the header has; expected {len(columns)}")
                row = {column: cell.strip() for column, cell in cells.items()}
                film = _film(row, where, films_of_seed)
                if film.file.casefold() in seen:  # casefold: some hosts' disks do not distinguish A.png from a.png
                    raise ValueError(f"{where}: file {film.file!r} is listed twice")
                seen.add(film.file.casefold())
                if row.get("network_sha256", "") not in ("", network["sha256"]):
                    raise ValueError(
                        f"{where}: made by network {row['network_sha256'][:12]}…, but "
                        f"network.json names {network['sha256'][:12]}…; "
                        "show the films of one network at a time"
                    )
                films.append(film)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table} is not a CSV table in UTF-8 ({error})") from None
    if not films:
        raise ValueError(f"{table} lists no film; expected at least one row")
    return SampleFolder(path, tuple(films), network)


def read_image(folder: Path, film: Film, text: Mapping[str, str] | None = None) -> tuple[bytes, Image]:
    """Read one film: its bytes as they are on the disk, and its facts; with `text`, further text chunks stand at the
    end of the bytes.

    Raises ValueError when it is missing, a link, or no whole PNG.
    """
    path = folder / film.file
    if path.is_symlink():  # a gallery is published: it must not pick up a file from elsewhere on the disk
        raise ValueError(f"{path} is a link; expected the film itself inside the sample folder")
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        raise ValueError(f"{path} is missing, but samples.csv names it (seed {film.seed})") from None
    reason = ""
    if not data.startswith(PNG_SIGNATURE + b"\x00\x00\x00\x0dIHDR") or not data.endswith(PNG_END):
        reason = "its head or end is missing"
    else:
        try:
            check_whole(data, "PNG")
        except ValueError as error:
            reason = str(error)
    if reason:
        raise ValueError(f"{path} is not a whole PNG file ({reason}); expected a film as `thiscxr sample` writes it")
    data = (
        data.removesuffix(PNG_END) + b"".join(_text_chunk(key, value) for key, value in (text or {}).items()) + PNG_END
    )
    width_px, height_px = struct.unpack(">II", data[16:24])
    return data, Image(width_px, height_px, len(data), hashlib.sha256(data).hexdigest())


def _text_chunk(key: str, value: str) -> bytes:
    """Return a tEXt chunk (PNG 11.3.3.2): length, type, keyword, value, CRC over type and data."""
    body = b"tEXt" + key.encode("latin-1") + b"\0" + value.encode("latin-1", "replace")
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
