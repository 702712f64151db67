"""Tables beside the films of a plain folder: their content, and the messages for their errors."""

import json
import logging
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.folders import write_films
from thiscxr.collections import find_files, folder
from thiscxr.collections.plan import wanted_films
from thiscxr.labels import FINDINGS, NOT_MENTIONED, STATES


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_table_is_read(tmp_path, kind, caplog):
    row = {
        "file_name": "x/a.png",
        "patient": "p1",
        "study": "1",
        "view": "AP",
        "sex": "F",
        "age_years": 33.5,
        "Mass": 1,
        "Edema": "",
    }
    row |= {"Pnuemonia": 1, "Hernia": "-1.0"}
    if kind == "csv":
        (tmp_path / "metadata.csv").write_text(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
    else:
        (tmp_path / "metadata.jsonl").write_text(json.dumps({**row, "sex": "F"}) + "\n\n")
    with caplog.at_level(logging.WARNING):
        (film,) = folder.read_labels(tmp_path)
    assert (film.file, film.patient, film.study, film.view, film.sex, film.age_years) == (
        "x/a.png",
        "p1",
        "p1/1",
        "AP",
        "F",
        33.5,
    )
    assert dict(film.findings or {}) == {"Mass": 1, "Edema": NOT_MENTIONED, "Hernia": -1}
    assert caplog.text.count("unknown columns") == 1
    assert "Pnuemonia (did you mean 'Pneumonia'?)" in caplog.text


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,view\na.png,PA\n", "no column 'file_name'.*found: name, view"),
        ("view,file_name\nPA\n", "line 2 has 1 cells, expected 2"),
        ("file_name,patient\na.png,1.83E+38\n", r"patient 1.83E\+38 is an id that a spreadsheet has rounded"),
        ("file_name,patient,study\na.png,p1,182658174744117000000000000000000000000\n", "study 1826.* has rounded"),
        ("", "the file is empty"),
    ],
)
def test_bad_tables_name_what_is_wrong(tmp_path, table, message):
    (tmp_path / "metadata.csv").write_text(table)
    with pytest.raises(ValueError, match=message) as caught:
        folder.read_labels(tmp_path)
    assert "metadata.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [("{nope", "line 1 is not JSON"), ("[1]", "no 'file_name'"), ('{"view": "PA"}', "no 'file_name'")],
)
def test_bad_json_lines(tmp_path, line, message):
    (tmp_path / "metadata.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=message):
        folder.read_labels(tmp_path)


def test_two_tables_are_one_too_many(tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name\n")
    (tmp_path / "metadata.jsonl").write_text("")
    with pytest.raises(ValueError, match="both"):
        folder.read_labels(tmp_path)


def films_or_message(root: Path) -> list | str:
    try:
        return folder.read_labels(root)
    except ValueError as error:
        return str(error)


def there(root: Path) -> list:
    """The films of a folder that are found."""
    films = folder.read_labels(root)
    return [film for film in films if film.file in find_files(folder.FOLDER, root, {film.file: film for film in films})]


def test_words_that_people_write(tmp_path, caplog):
    """Each of these ended the run, or left a film without the content of its row."""
    rows = [
        "a.png;060Y;Male;pa;1,0",
        "b.png;51,5;woman;AP supine;",
        "c.png;NaN;?;N/A;NaN",
        "d.png;411;x;Lateral;yes",
        "e.png;-1;2;up;mild",
    ]
    root = write_films(
        tmp_path,
        *(f"{name}.png" for name in "abcde"),
        table="sep=;\nFile_Name;Age;Gender;View;mass\n" + "\n".join(rows),
    )
    films = folder.read_labels(root)
    assert [(film.age_years, film.sex, film.view, film.findings["Mass"]) for film in films] == [
        (60, "M", "PA", 1),
        (51.5, "F", "AP_supine", -2),
        (None, "unknown", "unknown", -2),
        (None, "unknown", "lateral", 1),
        (None, "unknown", "unknown", -2),
    ]
    for column, words in (
        ("age_years", "'411' (1), '-1' (1)"),
        ("sex", "'2' (1)"),
        ("view", "'up' (1)"),
        ("Mass", "'mild' (1)"),
    ):
        assert f"metadata.csv: {column}: words that are not understood count as unknown: {words}\n" in caplog.text


@pytest.mark.parametrize(
    ("written", "there_is"),
    [
        ("C:\\data\\f0.png", "f0.png"),
        ("D:\\x\\images\\f0.png", "images/f0.png"),
        ("/home/me/images/f0.png", "images/f0.png"),
        ("images\\f0.png", "images/f0.png"),
        ("F0.PNG", "f0.png"),
        ("R\u00f6ntgen.png", "Ro\u0308ntgen.png"),
        ("Ro\u0308ntgen.png", "R\u00f6ntgen.png"),
    ],
)
def test_paths_of_another_machine_or_another_unicode_form(tmp_path, written, there_is):
    root = write_films(tmp_path, there_is, "other.png", table=f"file_name,view\n{written},AP\n")
    (film,) = there(root)
    assert film.view == "AP"
    (alone,) = (film for film in folder.read_labels(write_films(tmp_path / "again" / tmp_path.name, there_is)))
    assert alone.film == film.film  # the table changes no ids


def test_a_table_in_latin_1_meets_names_in_latin_1_and_in_utf_8(tmp_path):
    write_films(
        tmp_path,
        os.fsdecode(b"R\xf6ntgen 1.png"),
        "Röntgen 2.png",
        table="file_name,sex\nRöntgen 1.png,F\nRöntgen 2.png,F\n".encode("latin-1"),
    )
    assert [film.sex for film in there(tmp_path)] == ["F", "F"]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_in_each_folder_of_a_split(tmp_path, kind):
    """As Hugging Face's imagefolder has it; no table was read, and the held-out films were trained on."""
    for part in ("train", "validation", "test"):
        rows = [{"file_name": f"{number:04d}.png", "view": "AP", "patient": f"{part}{number}"} for number in range(3)]
        table = tmp_path / part / f"metadata.{kind}"
        write_films(tmp_path / part, *(row["file_name"] for row in rows))
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), table)
        elif kind == "jsonl":
            table.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            mark = {"csv": ",", "tsv": "\t"}[kind]
            table.write_text(
                "\n".join(mark.join(row) for row in [list(rows[0]), *(list(row.values()) for row in rows)])
            )
    films = there(tmp_path)
    assert {(film.file, film.view, film.patient, film.split) for film in films} == {
        (f"{part}/{number:04d}.png", "AP", f"{part}{number}", "train" if part == "train" else "holdout")
        for part in ("train", "validation", "test")
        for number in range(3)
    }


def test_the_nearest_table_describes_a_film_and_a_column_its_split(tmp_path):
    write_films(tmp_path, table="file_name,view,split\nx/a.png,AP,train\nb.png,AP,Validation\nc.png,AP,\n")
    write_films(tmp_path, "x/a.png", "b.png", "c.png", table="file_name,view\na.png,PA\n", table_name="x/metadata.csv")
    (part,) = wanted_films([("folder", tmp_path)])
    assert {film.file: (film.view, film.split) for film in part.films.values()} == {
        "x/a.png": ("PA", None), "b.png": ("AP", "holdout"), "c.png": ("AP", None),
    }  # fmt: skip
    assert part.dropped == {"listed twice": 1}


def test_a_table_that_lies_beside_the_films(tmp_path):
    table = "file_name,view\nimages/a.png,AP\nb.png,PA\n"
    write_films(tmp_path, "images/a.png", "images/b.png", table=table, table_name="labels/metadata.csv")
    assert {film.file: film.view for film in there(tmp_path)} == {"images/a.png": "AP", "images/b.png": "PA"}


def test_a_table_in_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "films.zip", "w") as archive:
        archive.writestr("train/metadata.csv", "file_name,view\na.png,AP\n")
        archive.writestr("train/a.png", b"")
    assert [(film.file, film.view) for film in there(tmp_path)] == [("train/a.png", "AP")]


def test_rows_without_a_name_and_films_without_a_row_are_counted(tmp_path):
    write_films(tmp_path, "a.png", "b.png", table="file_name,view\na.png,AP\n,PA\nNaN,PA\nc.png,AP\n")
    (part,) = wanted_films([("folder", tmp_path)])
    assert list(part.films) == [f"{tmp_path.name}/a.png"]
    assert part.dropped == {"row without a file_name": 2, "file missing": 1}
    assert part.beside["film that no table lists"] == 1


def test_placeholder_ids_of_patients_count_as_none(tmp_path):
    rows = [f"{number}.png,{word}" for number, word in enumerate(["NaN", "", "N/A", "unknown", "7.0", "7"])]
    write_films(tmp_path, table="file_name,patient_id\n" + "\n".join(rows))
    # four unknown ones, who were one patient, and 7
    assert len({film.patient for film in folder.read_labels(tmp_path)}) == 5


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)


@settings(max_examples=100, deadline=None)
@given(
    row=st.dictionaries(
        st.sampled_from(["file_name", "patient", "study", "view", "sex", "age_years", "split", "Mass", "x"]), JSON
    )
)
def test_any_json_gives_a_film_or_one_line(tmp_path_factory, row):
    root = tmp_path_factory.mktemp("folder")
    (root / "metadata.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    outcome = films_or_message(root)
    if isinstance(outcome, str):
        assert str(root / "metadata.jsonl") in outcome
        assert "\n" not in outcome
    else:
        assert len(outcome) == 1
        assert set(outcome[0].states()) <= set(STATES)
        assert len(outcome[0].states()) == len(FINDINGS)


BYTES = (
    st.binary(max_size=80)
    | st.binary(max_size=9).map(b"\xff\xfe".__add__)
    | st.text("file_name,;view\n\tap.0").map(str.encode)
)


@settings(max_examples=60, deadline=None)
@given(data=BYTES, name=st.sampled_from(folder.TABLES))
def test_any_bytes_as_a_table_give_films_or_one_line(tmp_path_factory, data, name):
    root = tmp_path_factory.mktemp("folder")
    (root / name).write_bytes(data)
    outcome = films_or_message(root)
    if isinstance(outcome, str):
        assert str(root / name) in outcome
        assert "\n" not in outcome
