"""scores.json: one record for each number, identified by its fields. The key is made from them for people; no code
parses it."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from thiscxr.files import read_json, write_file
from thiscxr.measures.measured import Measured

FORMAT_VERSION = 2
KEYS = {  # empty fields are left out
    **dict.fromkeys(
        ("fd", "kid", "precision", "recall", "density", "coverage", "vendi"),
        "{measure}{_extractor}_{size}{_protocol}{_group}",
    ),
    "msssim": "{measure}_{protocol}_{size}",
    "reid": "{measure}_{statistic}{_extractor}",
    "real_or_synthetic": "probe{_extractor}_{measure}_{statistic}",
    "tie": "{measure}_{group}_finding_{protocol}_{statistic}",
    **dict.fromkeys(("grid", "sharpness", "band"), "{measure}_{resolution}px{_question}_{statistic}"),
    "shortcut": "{measure}{_extractor}_{question}",
    "poses": "{measure}{_extractor}_{group}_{protocol}_{question}_{statistic}",
}
OTHER_KEYS = "{measure}{_extractor}{_protocol}{_group}{_question}{_statistic}"


@dataclass(frozen=True, kw_only=True)
class Record(Measured):
    """A number as in scores.json, with the films, networks and pool that it was measured with."""

    resolution: int | None = None  # of the films, px
    extractor_sha256: str | None = None  # of the network that measured it: extractor, classifier or segmenter
    truncation: float | None = None
    seeds: str | None = None  # as ranges
    split: str | None = None  # of the pool
    pool_fingerprint: str | None = None
    network_sha256: str | None = None  # of the generator
    code_version: str | None = None
    seconds: float | None = None  # that its section of the panel took
    hidden: float | None = None  # share of a film, at its foot, that was hidden in both sets

    @classmethod
    def of(cls, found: Measured, **more: Any) -> "Record":
        """Return the record of a number: six decimals, and None for nan."""

        def plain(value: float | None) -> float | None:
            return None if value is None or not math.isfinite(value) else round(float(value), 6)

        def pair(edges: tuple[float, float] | None) -> tuple[float, float] | None:
            low, high = map(plain, edges or (None, None))
            return None if low is None or high is None else (low, high)

        values = {each.name: getattr(found, each.name) for each in fields(Measured)}
        values |= {name: plain(values[name]) for name in ("value", "floor", "p")}
        return cls(**values | {name: pair(values[name]) for name in ("ci95", "null95")} | more)

    @property
    def key(self) -> str:
        """A readable name: measure, protocol and question, in one word."""

        def slug(text: str) -> str:
            return text.replace(" ", "_").replace("+", "and").replace(",", "")

        # Whole thousands are shortened, other sizes not: the bias of a distance depends on the number.
        size = f"{self.num_fake // 1000}k" if self.num_fake % 1000 == 0 else str(self.num_fake)
        parts = {name: slug(getattr(self, name)) for name in ("measure", "question", "statistic", "group", "protocol")}
        parts |= {"extractor": self.extractor or "", "resolution": str(self.resolution or ""), "size": size}
        return KEYS.get(self.measure, OTHER_KEYS).format(
            **parts, **{f"_{name}": text and f"_{text}" for name, text in parts.items()}
        )


def scores_json(records: Sequence[Record]) -> str:
    """Return the text of scores.json."""
    return json.dumps(
        {"format_version": FORMAT_VERSION, "records": [{"key": each.key} | asdict(each) for each in records]}, indent=2
    )


def write_scores(path: Path, records: Sequence[Record]) -> None:
    """Write scores.json atomically."""
    write_file(path, scores_json(records) + "\n")


def read_scores(path: Path, network_sha256: str) -> list[Record]:
    """Return the records of a scores.json of this network's films.

    Raises ValueError where it cannot be read, is of another version, a field is invalid, or a record is of another
    network.
    """
    wanted = "expected the scores that `thiscxr score --out` writes"
    again = f"make a new one: thiscxr score --real POOL --fake SAMPLES --out {path}"
    read = read_json(path, "the scores that `thiscxr score --out` writes")
    if isinstance(read, list):
        raise ValueError(f"{path} is a list, as scores were written before version {FORMAT_VERSION}; {again}")
    if not isinstance(read, dict) or not isinstance(read.get("records"), list):
        raise ValueError(f"{path} holds no records of scores; {wanted}")
    if read.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path} is of format version {read.get('format_version')!r}; this thiscxr reads {FORMAT_VERSION}; {again}"
        )
    records = [_record(entry, f"{path}: record {number}") for number, entry in enumerate(read["records"], 1)]
    if not records:
        raise ValueError(f"{path} holds no record; {wanted}")
    for each in records:
        if each.network_sha256 != network_sha256:
            whose = f"network {each.network_sha256[:12]}…" if each.network_sha256 else "no named network"
            raise ValueError(
                f"{path}: {each.key} is of {whose}, not of {network_sha256[:12]}…; score this network's films"
            )
    return records


def _record(entry: object, where: str) -> Record:
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is no table of fields; expected measure, value, ci95, floor and others")
    values = {
        each.name: entry.get(each.name, each.default)
        for each in fields(Record)
        if each.name in entry or each.name in _NEEDED
    }
    for name, value in values.items():
        what, fits = _FITS[name]
        if not fits(value):
            raise ValueError(
                (f"{where}: {name} is {value!r}; expected {what}")
                if name in entry
                else f"{where} has no {name}; expected {what}"
            )
    checked: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return Record(**checked)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


_NEEDED = ("measure", "value", "ci95", "floor", "num_real", "num_fake")
_NUMBER = ("a number or null", lambda value: value is None or _is_number(value))
_PAIR = ("[low, high] or null", lambda value: value is None or _is_pair(value))
_TEXT = ("text or null", lambda value: value is None or isinstance(value, str))
_WORD = ("text", lambda value: isinstance(value, str))
_FITS: dict[str, tuple[str, Callable[[Any], bool]]] = {each.name: _TEXT for each in fields(Record)}
_FITS |= dict.fromkeys(("value", "floor", "p", "truncation", "seconds", "hidden"), _NUMBER) | dict.fromkeys(
    ("ci95", "null95"), _PAIR
)
_FITS |= dict.fromkeys(("question", "statistic", "group", "protocol"), _WORD)
_FITS |= {"measure": ("the name of a measure", lambda value: isinstance(value, str) and value != "")}
_FITS |= dict.fromkeys(("num_real", "num_fake"), ("a number of films", _is_count))
_FITS |= {"resolution": ("a number of pixels or null", lambda value: value is None or _is_count(value))}
