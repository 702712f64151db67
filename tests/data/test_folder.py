"""Plain folders: with and without a table, and the messages for what is wrong in one."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from films import dicom
from hypothesis import given, settings
from hypothesis import strategies as st

from thiscxr.data.labels import FINDINGS, NOT_ANNOTATED, NOT_MENTIONED, STATES
from thiscxr.data.sources import find_files, folder


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
        assert film.file in find_files(folder.FOLDER, tmp_path, {film.file: film})


def write_dicoms(root: Path, headers: dict[str, dict[str, str]]) -> None:
    for name, tags in headers.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(dicom(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64), **tags))


def test_dicom_headers_tell_view_sex_age_patient_and_study(tmp_path):
    told = {"ViewPosition": "LL", "PatientSex": "F", "PatientAge": "044Y", "PatientID": "secret", "StudyInstanceUID": "1.2.3.4"}
    write_dicoms(tmp_path, {"a.dcm": told, "b.dcm": {**told, "ViewPosition": "PA"}, "c.dcm": {}})
    a, b, c = folder.read_labels(tmp_path)
    assert (a.view, a.sex, a.age_years, a.patient, a.study) == ("lateral", "F", 44, "secret", "1.2.3.4")
    assert (b.view, b.patient) == ("PA", "secret")
    assert (c.view, c.patient) == ("unknown", c.film)
    (tmp_path / "metadata.csv").write_text("file_name,view,sex,age_years\na.dcm,AP,,30\nb.dcm,,M,\n")
    a, b = folder.read_labels(tmp_path)  # the table goes before the header
    assert (a.view, a.sex, a.age_years, a.patient) == ("AP", "F", 30, "secret")
    assert (b.view, b.sex, b.age_years, b.patient) == ("PA", "M", 44, "secret")


def test_a_placeholder_for_all_patients_is_warned_of(tmp_path, caplog):
    write_dicoms(tmp_path, {f"{number}.dcm": {"PatientID": "ANONYMOUS"} for number in range(21)})
    assert len({film.patient for film in folder.read_labels(tmp_path)}) == 1
    assert "21 of 21 DICOM files have one and the same Patient ID" in caplog.text
    caplog.clear()
    write_dicoms(tmp_path, {f"{number}.dcm": {"PatientID": str(number)} for number in range(21)})
    assert len({film.patient for film in folder.read_labels(tmp_path)}) == 21
    assert caplog.text == ""


def test_many_small_folders_are_patients_and_a_few_large_ones_are_not(tmp_path):
    for number in range(24):
        for name in (f"patients/train/p{number // 2}/study{number % 2}/{number}.png", f"classes/c{number % 3}/{number}.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
    assert {film.patient for film in folder.read_labels(tmp_path / "patients")} == {f"train/p{number}" for number in range(12)}
    assert len({film.patient for film in folder.read_labels(tmp_path / "classes")}) == 24


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
