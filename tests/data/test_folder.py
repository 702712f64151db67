"""Plain folders: with and without a table, and the messages for what is wrong in one."""

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thiscxr.data.labels import FINDINGS, NOT_ANNOTATED, NOT_MENTIONED, STATES
from thiscxr.data.sources import folder


def test_without_a_table_every_film_is_its_own_patient_and_nothing_is_guessed(tmp_path):
    for name in ("b/LL_female.png", "a.PNG", "b/c.dcm", ".hidden.png", "note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    films = folder.read_labels(tmp_path)
    assert [film.file for film in films] == ["a.PNG", "b/LL_female.png", "b/c.dcm"]
    assert len({film.patient for film in films}) == 3
    for film in films:
        assert (film.view, film.sex, film.age_years) == ("unknown", "unknown", None)
        assert set(film.states()) == {NOT_ANNOTATED}
        assert folder.find_files(tmp_path)[film.file].is_file()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_table_is_read(tmp_path, kind, caplog):
    row = {"file_name": "x/a.png", "patient": "p1", "study": "1", "view": "AP", "sex": "F", "age_years": 33.5, "Mass": 1, "Edema": ""}
    row |= {"Pnuemonia": 1, "Hernia": "-1.0"}
    if kind == "csv":
        (tmp_path / "metadata.csv").write_text(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
    else:
        (tmp_path / "metadata.jsonl").write_text(json.dumps({**row, "sex": "F"}) + "\n\n")
    with caplog.at_level(logging.WARNING):
        (film,) = folder.read_labels(tmp_path)
    assert (film.file, film.patient, film.study, film.view, film.sex, film.age_years) == ("x/a.png", "p1", "p1/1", "AP", "F", 33.5)
    assert dict(film.findings or {}) == {"Mass": 1, "Edema": NOT_MENTIONED, "Hernia": -1}
    assert caplog.text.count("unknown columns") == 1
    assert "Pnuemonia (did you mean 'Pneumonia'?)" in caplog.text


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,view\na.png,PA\n", "no column 'file_name'.*found: name, view"),
        ("file_name,view\na.png,frontal\n", "line 2: view 'frontal'.* is not one of PA"),
        ("file_name,sex\na.png,male\n", "line 2: sex 'male' is not one of M, F, unknown"),
        ("file_name,age_years\na.png,old\n", "line 2: age_years 'old'"),
        ("file_name,age_years\na.png,nan\n", "line 2: age_years 'nan'"),
        ("file_name,age_years\na.png,414\n", "line 2: age_years '414'"),
        ("file_name,Mass\na.png,2\n", "line 2: Mass '2' is not one of"),
        ("file_name,Mass\na.png,yes\n", "line 2: Mass 'yes' is not one of"),
        ("", "the file is empty"),
    ],
)
def test_bad_tables_name_the_line_and_the_value(tmp_path, table, message):
    (tmp_path / "metadata.csv").write_text(table)
    with pytest.raises(ValueError, match=message) as caught:
        folder.read_labels(tmp_path)
    assert "metadata.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"), [("{nope", "line 1 is not JSON"), ("[1]", "no 'file_name'"), ('{"view": "PA"}', "no 'file_name'")]
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


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=2), max_leaves=3)


@settings(max_examples=300, deadline=None)
@given(row=st.dictionaries(st.sampled_from(["file_name", "patient", "study", "view", "sex", "age_years", "Mass", "x"]), JSON))
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
