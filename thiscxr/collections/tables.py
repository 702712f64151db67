"""Tables, whatever program wrote them: cells are mapped to the vocabulary, and words that are not understood are
counted and reported.

Every collection reads its tables through this module alone.
"""

import codecs
import csv
import gzip
import io
import logging
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from textwrap import shorten
from typing import TextIO, TypeVar

from thiscxr.collections.archives import ReleaseFile
from thiscxr.collections.ids import LONG_ID, SURELY_ROUNDED, rounding
from thiscxr.collections.names import AS_LATIN_1
from thiscxr.files import nearest_name
from thiscxr.labels import NOT_MENTIONED
from thiscxr.words import MAX_AGE, is_missing, read_age, read_sex, read_state, read_view

T = TypeVar("T")

_UNREADABLE = (UnicodeError, csv.Error, gzip.BadGzipFile, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError)
_DELIMITERS = ",;\t|"
_SEP = re.compile(r'"?sep=(.)"?[,;\t]*', re.IGNORECASE)  # Excel's first line
_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .xls
_FORMULA = re.compile(r'="(.*)"')  # keeps Excel from reading a number
_WHOLE = re.compile(r"([0-9]+)\.0+")
_MOST_WORDS = 5


@contextmanager
def open_text(table: Path | ReleaseFile) -> Iterator[TextIO]:
    """Yield a table's text, gzipped or not: UTF-8 or UTF-16 with or without a byte order mark, else bytes that are no
    UTF-8 as Latin-1.

    Raises ValueError for a workbook of a spreadsheet program, or when the content read in the block is no text.
    """
    file = ReleaseFile(str(table)) if isinstance(table, Path) else table
    try:
        with file.open() as stream:
            head = stream.read(4)
            stream.seek(0)
            if head in _WORKBOOKS:
                raise ValueError(f"{file} is a workbook of a spreadsheet program; save it as CSV in UTF-8")
            encoding = next((name for bom, name in _BOMS.items() if head.startswith(bom)), "utf-8")
            if encoding == "utf-8" and head[:2].count(0) == 1:
                encoding = "utf-16-be" if head[0] == 0 else "utf-16-le"
            yield io.TextIOWrapper(
                stream, encoding, AS_LATIN_1 if encoding.startswith("utf-8") else "strict", newline=""
            )
    except _UNREADABLE as error:
        raise ValueError(f"{file} is no text in UTF-8 ({error})") from error


def _header(
    rows: Iterator[list[str]], groups: Sequence[Sequence[str]], rename: Callable[[list[str]], list[str]]
) -> list[str]:
    """Return the names of the columns; a required one may have another case, dots, as R writes them, or
    underscores."""
    header = rename([" ".join(name.split()) for name in next(rows, [])])
    absent = {_plain(name): name for names in groups for name in names if name not in header}
    return [absent.get(_plain(name), name) for name in header]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().casefold()


def _columns(header: list[str], groups: Sequence[Sequence[str]]) -> tuple[int, int]:
    """Return how many of the required columns a header has, and how many columns in all."""
    return sum(not set(names).isdisjoint(header) for names in groups), len(header)


def read_table(
    table: Path | ReleaseFile,
    required: Sequence[str | tuple[str, ...]],
    rename: Callable[[list[str]], list[str]] = list,
    stripped: bool = True,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row by column name) of a table separated by commas, semicolons or tabs; all values are
    strings, `stripped` of white space.

    required: column names, or tuples of names of which one must be there. rename: header ->
    our names of its columns. Raises ValueError when a required column is missing, a row ends before it, or the file is
    no table.
    """
    file = ReleaseFile(str(table)) if isinstance(table, Path) else table
    groups = [(names,) if isinstance(names, str) else names for names in required]
    line = 0
    with open_text(file) as stream:
        try:
            first, above = stream.readline(), 0
            if declared := _SEP.fullmatch(first.strip("\r\n")):
                first, above = stream.readline(), 1
            headers = {
                mark: _header(csv.reader([first], delimiter=mark), groups, rename)
                for mark in (declared[1] if declared else _DELIMITERS)
            }
            delimiter = max(headers, key=lambda mark: _columns(headers[mark], groups))
            reader = csv.reader(chain([first], stream), delimiter=delimiter)
            header = _header(reader, groups, rename)
            needed = [_place(file, header, names) for names in groups]
            for row in reader:
                line = reader.line_num + above
                if not any(map(str.strip, row)):
                    continue
                if len(row) <= max(needed, default=0):
                    raise ValueError(
                        f"{file} line {line} has {len(row)} cells, expected {len(header)}; the file may be cut off"
                    )
                yield line, dict(zip(header, map(str.strip, row) if stripped else row, strict=False))
        except _UNREADABLE as error:
            raise ValueError(f"{file} after line {line} is not a comma-separated table in UTF-8 ({error})") from error


def _place(file: ReleaseFile, header: list[str], names: Sequence[str]) -> int:
    present = [name for name in names if name in header]
    if not present:
        shown = [name if name and name.isprintable() else repr(name) for name in header]
        found = ", ".join(shown) if any(header) else "nothing (the file is empty)"
        hint = nearest_name(names[0], [name for name in header if name and name.isprintable()])
        raise ValueError(f"{file} has no column '{' or '.join(names)}'{hint}; found: {shorten(found, 400)}")
    return header.index(present[0])


class Cells(AbstractContextManager["Cells"]):
    """Reads the cells of one table into the vocabulary; at the end of the block a warning counts the words that
    were not understood, by column.

    An unknown word is no error: it counts as unknown. An id that a spreadsheet has rounded is: unrelated patients would
    become one.
    """

    def __init__(self, table: Path | ReleaseFile | str) -> None:
        self.table = table
        self._strange: dict[str, Counter[str]] = {}
        self._rounded: dict[str, dict[str, float]] = {}  # column -> id that may be rounded -> bits of evidence
        self._whole: set[str] = set()  # columns with a long id that is not

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            return
        for column, ids in self._rounded.items():
            if column not in self._whole and sum(ids.values()) >= SURELY_ROUNDED:
                raise self._rounded_id(next(iter(ids)), column)
        for column, words in self._strange.items():
            shown = ", ".join(f"{shorten(repr(word), 60)} ({count})" for word, count in words.most_common(_MOST_WORDS))
            more = f" and {len(words) - _MOST_WORDS} more; {words.total()} cells" if len(words) > _MOST_WORDS else ""
            logging.getLogger(__name__).warning(
                "%s: %s: words that are not understood count as unknown: %s%s", self.table, column, shown, more
            )

    def age(self, row: Mapping[str, str], column: str, most: float = MAX_AGE) -> float | None:
        """Return an age in years; None is unknown."""
        text = row.get(column, "")
        return None if is_missing(text) else self.known(column, text, read_age(text, most))

    def sex(self, row: Mapping[str, str], column: str) -> str:
        """Return M, F or unknown."""
        text = row.get(column, "")
        return self.known(column, text, read_sex(text)) or "unknown"

    def view(self, row: Mapping[str, str], column: str, own: Mapping[str, str] = {}) -> str:
        """Return a view of the vocabulary. own: words with a meaning of their own in this
        collection."""
        text = row.get(column, "")
        return self.known(column, text, own.get(text) or read_view(text)) or "unknown"

    def state(self, row: Mapping[str, str], column: str) -> int:
        """Return the state of a finding; not mentioned where the cell is empty or not understood."""
        text = row.get(column, "")
        state = self.known(column, text, read_state(text))
        return NOT_MENTIONED if state is None else state

    def known(self, column: str, text: str, value: T | None) -> T | None:
        """Return `value`, and count `text` when that is None."""
        if value is None:
            self._strange.setdefault(column, Counter())[text] += 1
        return value

    def id(self, row: Mapping[str, str], column: str) -> str:
        """Return an id as text, "" where it is missing; 17.0, as tables with gaps have it, is 17.

        Raises ValueError for one that a spreadsheet has rounded.
        """
        text = row.get(column, "")
        if len(text) < LONG_ID and (text.isdecimal() or is_missing(text)):
            return "" if is_missing(text) else text
        if match := _FORMULA.fullmatch(text) or _WHOLE.fullmatch(text):
            text = match[1]
        evidence = rounding(text)
        if evidence == 0:
            self._whole.add(column)
        elif evidence is not None:
            if evidence >= SURELY_ROUNDED:
                raise self._rounded_id(text, column)
            self._rounded.setdefault(column, {})[text] = evidence
        return text

    def needed_id(self, line: int, row: Mapping[str, str], column: str) -> str:
        """Return an id. Raises ValueError when it is missing too."""
        if own_id := self.id(row, column):
            return own_id
        raise ValueError(f"{self.table} line {line} has no {column}; the table is damaged")

    def _rounded_id(self, text: str, column: str) -> ValueError:
        return ValueError(
            f"{self.table}: {column} {text} is an id that a spreadsheet has rounded, so that unrelated patients would "
            "count as one; take the table as it was released, or import that column as text"
        )
