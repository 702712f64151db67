"""Tables as people have them: encodings, separators, cells that are not understood, ids that a spreadsheet has
rounded."""

import csv
import gzip
import io
import logging
import random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thiscxr.collections.ids import SURELY_ROUNDED, rounding
from thiscxr.collections.tables import Cells, read_table

ROWS = [{"file_name": "Röntgen, links.png", "age": "51"}, {"file_name": "b.png", "age": "1,5"}]


def as_csv(delimiter: str, rows=ROWS, newline: str = "\n") -> str:
    text = io.StringIO()
    table = csv.writer(text, delimiter=delimiter, lineterminator=newline)
    table.writerows([rows[0].keys(), *(row.values() for row in rows)])
    return text.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_whatever_wrote_the_table(tmp_path, encoding, delimiter, newline):
    (tmp_path / "t.csv").write_bytes(as_csv(delimiter, newline=newline).encode(encoding))
    assert [row for _, row in read_table(tmp_path / "t.csv", ["file_name"])] == ROWS


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["sep={}\n", '"sep={}"\r\n', "SEP={}\n"])
def test_the_first_line_of_excel_names_the_separator(tmp_path, delimiter, mark):
    (tmp_path / "t.csv").write_text(mark.format(delimiter) + as_csv(delimiter) + "c.png", encoding="utf-8-sig")
    rows = list(read_table(tmp_path / "t.csv", ["file_name"]))
    assert [row for _, row in rows[:2]] == ROWS
    assert [line for line, _ in rows] == [3, 4, 5]


@pytest.mark.parametrize(
    "header", ["Image.Index,Patient.ID,View", "image index,PATIENT_ID,View", "Image Index ,  Patient  ID,view"]
)
def test_columns_are_known_in_other_spellings(tmp_path, header):
    (tmp_path / "t.csv").write_text(f"{header}\na.png,7,PA\n")
    ((_, row),) = read_table(tmp_path / "t.csv", ["Image Index", ("Subject", "Patient ID"), "View"])
    assert row == {"Image Index": "a.png", "Patient ID": "7", "View": "PA"}
    (tmp_path / "t.csv").write_text("view,View\nx,PA\n")
    ((_, row),) = read_table(tmp_path / "t.csv", ["View"])
    assert row["View"] == "PA"


def test_a_gzipped_table_and_one_of_a_spreadsheet(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(as_csv(";").encode("utf-16")))
    assert len(list(read_table(tmp_path / "t.csv.gz", ["age"]))) == 2
    (tmp_path / "t.csv").write_bytes(b"PK\x03\x04 a workbook")
    with pytest.raises(ValueError, match=r"t\.csv is a workbook of a spreadsheet program; save it as CSV"):
        list(read_table(tmp_path / "t.csv", ["age"]))


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(
        st.lists(
            st.text(st.characters(codec="latin-1", categories=["L", "N", "P", "Zs"]), max_size=6),
            min_size=3,
            max_size=3,
        )
    ),
    delimiter=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-16", "latin-1"]),
)
def test_any_cells_come_back(tmp_path_factory, rows, delimiter, encoding):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    cells = [dict(zip(("a", "b", "c"), row, strict=True)) for row in rows]
    path.write_bytes(as_csv(delimiter, [{"a": "first", "b": "", "c": ""}, *cells]).encode(encoding))
    if encoding == "latin-1" and path.read_bytes() != path.read_bytes().decode("latin-1").encode("utf-8"):
        try:
            path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            return  # bytes that are valid in both
    read = [row for _, row in read_table(path, ["a", "c"])][1:]
    if encoding != "latin-1":
        assert read == [
            {name: cell.strip() for name, cell in row.items()}
            for row in cells
            if any(cell.strip() for cell in row.values())
        ]
    assert len(read) == sum(any(cell.strip() for cell in row.values()) for row in cells)


def test_what_is_not_understood_is_counted_by_column_and_word(tmp_path, caplog):
    with Cells(tmp_path / "t.csv") as cells:
        ages = [cells.age({"age": text}, "age") for text in ("51", "NaN", "", "-1", "-1", "old", "411", "a", "b", "c")]
        views = [cells.view({"view": text}, "view", {"Z": "other"}) for text in ("pa", "Z", "up", "")]
        assert (cells.sex({}, "sex"), cells.state({"Mass": "2"}, "Mass")) == ("unknown", -2)
    assert ages == [51, *[None] * 9]
    assert views == ["PA", "other", "unknown", "unknown"]
    assert "t.csv: age: words that are not understood count as unknown: '-1' (2), 'old' (1), '411' (1), " in caplog.text
    assert "and 1 more; 7 cells" in caplog.text
    assert "view: words that are not understood count as unknown: 'up' (1)" in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3


def test_no_warning_when_all_words_are_understood(caplog):
    with Cells("t.csv") as cells:
        assert (cells.age({"a": "060Y"}, "a"), cells.sex({"s": "Female"}, "s"), cells.view({"v": "?"}, "v")) == (
            60,
            "F",
            "unknown",
        )
    assert caplog.text == ""


# --- ids

WHOLE = "182658174744117744858128618703541119526"
AS_FLOAT = "182658174744117740002113468194822815744"


@pytest.mark.parametrize(
    ("text", "own_id"),
    [
        ("p 7", "p 7"), ("0013", "0013"), ("17.0", "17"), ('="0017"', "0017"), ("NaN", ""), ("", ""), ("unknown", ""),
        ("02aa804e-bde0afdd-112c0b34-7bc16630-4e384014", "02aa804e-bde0afdd-112c0b34-7bc16630-4e384014"),
        ("1234e567", "1234e567"), ("1e5", "1e5"),
        ("12345678901234567890123456e78901", "12345678901234567890123456e78901"),
        ("1.2.840.113619.2.55", "1.2.840.113619.2.55"), (WHOLE, WHOLE),
    ],
)  # fmt: skip
def test_ids_stay_what_they_are(text, own_id):
    with Cells("t.csv") as cells:
        assert cells.id({"id": text}, "id") == own_id


@pytest.mark.parametrize(
    "text", ["1.83E+38", "1,83E+38", "1e+16", "1.8265817474411775e+38", "4.38E37", f"{AS_FLOAT}.0"]
)
def test_numbers_are_no_ids(text):
    with pytest.raises(
        ValueError,
        match=r"t\.csv: id .* is an id that a spreadsheet has rounded, so that unrelated patients would count as one",
    ):
        Cells("t.csv").id({"id": text}, "id")


def read_ids(ids: list[str]) -> None:
    with Cells("t.csv") as cells:
        for text in ids:
            cells.id({"id": text}, "id")


def test_a_column_of_shorter_ids_is_rounded_when_all_of_it_is():
    whole = [str(random.Random(seed).randrange(10**16, 10**17)) for seed in range(40)]
    rounded = [f"{text[:15]}00" for text in whole]
    read_ids(whole)
    read_ids([*rounded, whole[0]])  # somebody's ids end in zeros at times
    read_ids(rounded[:2])
    with pytest.raises(ValueError, match="has rounded"):
        read_ids(rounded)
    read_ids([f"201901{seed:02d}123450000000" for seed in range(40)])  # dates with empty microseconds


@given(
    head=st.from_regex(r"[1-9][0-9]{13}[1-9]", fullmatch=True),
    tail=st.from_regex(r"[0-9]{9,29}[13579]", fullmatch=True),
)
def test_every_way_to_round_a_long_id_is_seen(head, tail):
    number, whole = int(head + tail), head + tail
    as_float = int(float(number))
    assume(not str(as_float).endswith("00"))
    assert rounding(whole) in (0.0, None)
    for text in (
        f"{number:.2E}",
        f"{number:.2E}".replace(".", ","),
        repr(float(number)),
        str(as_float),
        head.ljust(len(whole), "0"),
    ):
        assert (rounding(text) or 0) >= SURELY_ROUNDED, text
