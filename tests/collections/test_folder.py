"""Plain folders: with and without a table, and the messages for what is wrong in one."""

import json
import logging
import os
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.films import dicom, png
from thiscxr.collections import find_files, folder
from thiscxr.collections.plan import wanted_films
from thiscxr.collections.splits import Splits
from thiscxr.labels import FINDINGS, NOT_ANNOTATED, NOT_MENTIONED, STATES
from thiscxr.pool import Pool, verify_pool
from thiscxr.pool.prepare import prepare
from thiscxr.report.pool import describe_sources


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
    told = {
        "ViewPosition": "LL",
        "PatientSex": "F",
        "PatientAge": "044Y",
        "PatientID": "secret",
        "StudyInstanceUID": "1.2.3.4",
    }
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
    assert "21 of 21 films have one and the same patient id" in caplog.text
    caplog.clear()
    write_dicoms(tmp_path, {f"{number}.dcm": {"PatientID": str(number)} for number in range(21)})
    assert len({film.patient for film in folder.read_labels(tmp_path)}) == 21
    assert caplog.text == ""


def test_many_small_folders_are_patients_and_a_few_large_ones_are_not(tmp_path):
    for number in range(24):
        for name in (
            f"patients/train/p{number // 2}/study{number % 2}/{number}.png",
            f"classes/c{number % 3}/{number}.png",
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
    assert {film.patient for film in folder.read_labels(tmp_path / "patients")} == {
        f"p{number}" for number in range(12)
    }
    assert len({film.patient for film in folder.read_labels(tmp_path / "classes")}) == 24


ODD_NAMES = [
    b"R\xf6ntgen.png",
    "R\u00f6ntgen 2.png".encode(),
    "Ro\u0308ntgen 3.png".encode(),
    b"p\xe9re/\xff\xfe.png",
    b"p\xe9re/a.png",
]


def test_films_are_taken_whatever_bytes_their_names_have(tmp_path):
    """Names that are no UTF-8 ended in a traceback, with a film that was refused too."""
    films = tmp_path / "films"
    for number, name in enumerate([*ODD_NAMES, b"broken\xf6.png"]):
        path = Path(os.fsdecode(os.fsencode(films) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            png(np.random.default_rng(number).integers(0, 256, (32, 32), np.uint8)) if name[:2] != b"br" else b"broken"
        )
    facts = describe_sources([("folder", films)])
    assert facts["sources"]["folder"]["kept"]["patients"] == len(ODD_NAMES) + 1
    summary = prepare(tmp_path / "pool", [("folder", films)], 32, key_file=tmp_path / "key", max_rejected=0.5)
    assert (summary.num_kept, summary.num_rejected, summary.dropped) == (len(ODD_NAMES), 1, {})
    (private,) = tmp_path.glob("key.map-*.csv")
    # as they are on the disk
    assert all(os.fsencode(films) + b"/" + name in private.read_bytes() for name in ODD_NAMES)
    assert verify_pool(tmp_path / "pool") == []
    assert Pool.open(tmp_path / "pool").meta["counts"]["patients"] == len(ODD_NAMES)


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


def write_films(root: Path, *names: str, table: str | bytes | None = None, table_name: str = "metadata.csv") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    if table is not None:
        (root / table_name).parent.mkdir(parents=True, exist_ok=True)
        (root / table_name).write_bytes(table.encode() if isinstance(table, str) else table)
    return root


def there(root: Path) -> list:
    """The films of a folder that are found."""
    films = folder.read_labels(root)
    return [film for film in films if film.file in find_files(folder.FOLDER, root, {film.file: film for film in films})]


def test_words_that_people_write(tmp_path, caplog):
    """Each of these ended the run, or left a film without what its row says."""
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


def test_the_nearest_table_tells_of_a_film_and_a_column_of_its_split(tmp_path):
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


def test_ids_of_patients_that_say_nothing_are_none(tmp_path):
    rows = [f"{number}.png,{word}" for number, word in enumerate(["NaN", "", "N/A", "unknown", "7.0", "7"])]
    write_films(tmp_path, table="file_name,patient_id\n" + "\n".join(rows))
    # four unknown ones, who were one patient, and 7
    assert len({film.patient for film in folder.read_labels(tmp_path)}) == 5


def test_it_is_said_when_nothing_tells_the_patients(tmp_path, caplog):
    names = [f"{kind}/{number}.png" for kind in ("NORMAL", "PNEUMONIA") for number in range(3)]
    assert len({film.patient for film in folder.read_labels(write_films(tmp_path, *names))}) == 6
    assert "nothing says who the patient of 6 of 6 films is" in caplog.text
    caplog.clear()
    folder.read_labels(
        write_films(tmp_path, table="file_name,patient\n" + "".join(f"{name},{name}\n" for name in names))
    )
    assert caplog.text == ""


def test_folders_of_an_official_split_are_kept_and_patients_are_not_torn(tmp_path):
    names = [
        f"{part}/patient{number}/{number}.png"
        for part, numbers in (("train", (1, 2, 3)), ("test", (3, 4)))
        for number in numbers
    ]
    films = folder.read_labels(write_films(tmp_path, *names))
    assert {film.patient for film in films} == {"patient1", "patient2", "patient3", "patient4"}
    splits = Splits()
    for film in films:
        splits.add("folder", film)
    splits.close()
    sides = {film.file: splits.of("folder", film) for film in films}
    assert [sides[name] for name in names] == ["train", "train", "holdout", "holdout", "holdout"]


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


def test_reports_label_the_films_of_a_folder_and_leave_no_word_behind(tmp_path, caplog):
    films, secret = tmp_path / "films", "Quetzalcoatl"
    (films / "reports").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in "abcdef":
        (films / f"{name}.png").write_bytes(png(rng.integers(0, 255, (64, 64), dtype=np.uint8)))
    (films / "metadata.csv").write_text(
        "file_name,patient,study,view,report,Effusion\n"
        f'a.png,1,s1,PA,"FINDINGS: {secret}. No pneumothorax.\nSmall effusion.",\n'
        f"b.png,2,s2,PA,{secret} effusion cannot be excluded.,1\n"  # the table goes before the report
        "c.png,3,s3,PA,Derrame pleural sin neumotorax en la base del pulmon.,\n"
        "d.png,4,s4,PA,,\n"
        "e.png,5,s5,PA,,\n"
        "f.png,6,s6,PA,,0\n"
    )
    (films / "reports" / "d.txt").write_text(f"{secret}. The heart is large.")
    (films / "reports" / "s5.txt").write_bytes("Ödème? No edema.".encode("latin-1"))
    (films / "reports" / "nobody.txt").write_text("Mass.")
    records = {film.file: film for film in folder.read_labels(films)}
    states = {name: dict(zip(FINDINGS, film.states(), strict=True)) for name, film in records.items()}
    assert (states["a.png"]["Pneumothorax"], states["a.png"]["Effusion"], states["a.png"]["Mass"]) == (
        0,
        1,
        NOT_MENTIONED,
    )
    assert states["b.png"]["Effusion"] == 1
    assert states["c.png"]["Pneumonia"] == NOT_ANNOTATED  # reported, not guessed
    assert states["d.png"]["Cardiomegaly"] == 1
    assert states["e.png"]["Edema"] == 0
    assert (states["f.png"]["Effusion"], states["f.png"]["Mass"]) == (0, NOT_ANNOTATED)
    assert [records[f"{name}.png"].labeler for name in "abcdef"] == ["report rules"] * 2 + [""] + [
        "report rules"
    ] * 2 + [""]
    assert "reports that cannot be read label no film: not in English 1" in caplog.text
    assert "1 of 3 reports in reports/ are no film's" in caplog.text
    summary = prepare(tmp_path / "pool", [("folder", films)], 64, key_file=tmp_path / "key", workers=1)
    assert summary.beside == {".csv file": 1, "report": 3}
    assert secret not in caplog.text + str(summary)
    written = [path for path in tmp_path.rglob("*") if path.is_file() and films not in path.parents]
    assert written
    assert not any(secret.encode() in path.read_bytes() for path in written)
