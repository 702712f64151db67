"""NIH ChestX-ray14: both tables, all layouts, known defects, and the messages for what is wrong."""

import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thiscxr.collections import find_files, nih
from thiscxr.collections.tables import read_table
from thiscxr.labels import FINDINGS, NEGATIVE, NOT_ANNOTATED, NOT_MENTIONED, POSITIVE, derive

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
ROW = "00000013_005.png,Emphysema|Infiltration,5,13,60,M,AP,3056,2544,0.139,0.139"
REAL = Path(__file__).parents[3] / "shared" / "data" / "nih-64"


def write(root: Path, *rows: str, header: str = HEADER, name: str = nih.TABLES[0]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return root


def test_a_row_of_the_current_table(tmp_path):
    (film,) = nih.read_labels(write(tmp_path, ROW))
    assert (film.film, film.file, film.patient, film.study) == (
        "00000013_005.png",
        "00000013_005.png",
        "13",
        "00000013_005.png",
    )
    assert (film.view, film.sex, film.age_years, film.split) == ("AP", "M", 60.0, None)
    assert film.original_aspect == pytest.approx(3056 / 2544)
    states = dict(zip(FINDINGS, film.states(), strict=True))
    assert {name for name, state in states.items() if state == POSITIVE} == {"Emphysema", "Infiltration"}
    assert {name for name, state in states.items() if state == NOT_ANNOTATED} == {
        "Enlarged_Cardiomediastinum",
        "Lung_Opacity",
        "Pleural_Other",
        "Fracture",
        "Support_Devices",
    }
    assert states["No Finding"] == states["Lung_Lesion"] == states["Hernia"] == NEGATIVE


def test_the_older_table_has_a_trailing_comma_and_impossible_ages(tmp_path, caplog):
    rows = [ROW + ",", "00000014_000.png,No Finding,0,00000014,155,F,PA,2992,2991,0.143,0.143,"]
    rows += ["00000015_000.png,Mass,0,15,058Y,F,PA,1,1,1,1,"]
    with caplog.at_level(logging.WARNING):
        films = nih.read_labels(write(tmp_path, *rows, header=HEADER + ",", name="Data_Entry_2017.csv"))
    assert [film.age_years for film in films] == [60, None, 58]
    assert films[1].patient == "14"
    assert films[1].states()[0] == POSITIVE
    assert films[2].findings is not None
    assert films[2].findings["Lung_Lesion"] == POSITIVE
    assert "Patient Age: words that are not understood count as unknown: '155' (1)" in caplog.text


def test_patient_sex_is_the_other_name_of_patient_gender(tmp_path):
    (film,) = nih.read_labels(write(tmp_path, ROW, header=HEADER.replace("Patient Gender", "Patient Sex")))
    assert film.sex == "M"


def test_the_newer_table_wins(tmp_path):
    write(tmp_path, ROW.replace("60", "61"), name="Data_Entry_2017.csv")
    assert nih.read_labels(write(tmp_path, ROW))[0].age_years == 60


@pytest.mark.parametrize(
    "column", ["Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position"]
)
def test_a_missing_column_is_named_with_what_was_found(tmp_path, column):
    write(tmp_path, ROW, header=HEADER.replace(column, "Something"))
    with pytest.raises(ValueError, match=column) as caught:
        nih.read_labels(tmp_path)
    message = str(caught.value)
    assert "Data_Entry_2017_v2020.csv" in message
    assert "Something" in message
    assert "\n" not in message


def test_other_bad_tables(tmp_path):
    with pytest.raises(ValueError, match="no NIH label table"):
        nih.read_labels(tmp_path)
    with pytest.raises(ValueError, match=r"line 2 has no Patient ID; the table is damaged"):
        nih.read_labels(write(tmp_path, ROW.replace("5,13,60", "5,NaN,60")))
    with pytest.raises(ValueError, match="line 3 has 3 cells"):
        nih.read_labels(write(tmp_path, ROW, "00000014_000.png,No Finding,0"))
    with pytest.raises(ValueError, match="the file is empty"):
        nih.read_labels(write(tmp_path, header=""))
    (tmp_path / nih.TABLES[0]).write_bytes(HEADER.encode("utf-16")[:-1])
    with pytest.raises(ValueError, match="UTF-8"):
        nih.read_labels(tmp_path)


@pytest.mark.parametrize("folders", [("images",), ("images_001/images", "images_002/images"), ("",)])
def test_files_are_found_in_every_layout(tmp_path, folders):
    for index, folder in enumerate(folders):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / f"0000000{index}_000.png").touch()
    (tmp_path / "spam.pdf").touch()
    names = [f"0000000{index}_000.png" for index in range(len(folders))]
    assert sorted(find_files(nih.NIH, tmp_path, dict.fromkeys([*names, "spam.png"]))) == names


def test_an_unknown_word_is_no_error_and_makes_no_finding_absent(tmp_path, caplog):
    rows = [
        ROW.replace("Infiltration", "Infiltrate"),
        ROW.replace("Emphysema|Infiltration", "pleural thickening|emphysema"),
    ]
    odd, spelt = nih.read_labels(write(tmp_path, *rows))  # it was an error: one word in 112,120 rows
    assert "Finding Labels: words that are not understood count as unknown: 'Infiltrate' (1)" in caplog.text
    assert (odd.findings["Emphysema"], odd.findings["Infiltration"], odd.findings["Mass"]) == (
        POSITIVE,
        NOT_MENTIONED,
        NOT_MENTIONED,
    )
    assert {name for name, state in spelt.findings.items() if state == POSITIVE} == {"Emphysema", "Pleural_Thickening"}
    assert spelt.findings["Mass"] == NEGATIVE


def test_the_official_split_is_kept_together_by_patient(tmp_path):
    rows = [
        (f"0000000{patient}_00{film}.png,No Finding,0,{patient},50,M,PA,1,1,1,1")
        for patient in (1, 2)
        for film in (0, 1)
    ]
    write(tmp_path, *rows)
    assert [film.split for film in nih.read_labels(tmp_path)] == [None] * 4
    (tmp_path / "test_list.txt").write_text("00000002_001.png\n")
    assert [film.split for film in nih.read_labels(tmp_path)] == ["train", "train", "holdout", "holdout"]


TWO = ["00000001_000.png,No Finding,0,1,50,M,PA,1,1,1,1", "00000002_000.png,No Finding,0,2,50,M,PA,1,1,1,1"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("test_list_NIH.txt", "00000002_000.png\n"),  # it was not found, and official test patients were trained on
        ("lists/test_list.txt", "00000002_000.png\r\n"),
        ("test_list.txt", "00000002_000.jpg\n"),
        ("test_list.txt", "images_001/images/00000002_000.png\n"),
        ("test_list.txt", "D:\\nih\\images\\00000002_000.png\n"),
        ("train_val_list.txt", "00000001_000.png\n"),
        ("train_val_list_NIH.txt", "00000001_000.png\n"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])  # as a pipe of PowerShell 5 writes it
def test_the_official_lists_under_every_name(tmp_path, caplog, name, text, encoding):
    write(tmp_path, *TWO)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(text.encode(encoding))
    assert [film.split for film in nih.read_labels(tmp_path)] == ["train", "holdout"]
    assert caplog.text == ""


def test_lists_that_are_missing_or_hold_out_nobody_give_a_warning(tmp_path, caplog):
    nih.read_labels(write(tmp_path, *TWO))
    assert "has no test_list.txt or test_list_NIH.txt: a fifth of the patients is held out" in caplog.text
    (tmp_path / "test_list.txt").write_text("00000009_000.png\n")
    assert [film.split for film in nih.read_labels(tmp_path)] == ["train", "train"]
    assert "hold out none of the table's films" in caplog.text


@pytest.mark.parametrize(
    "image", ["00000002_000.jpg", "images_001/images/00000002_000.png", "C:\\nih\\images\\00000002_000.jpg"]
)
def test_a_table_may_name_copies_and_folders(tmp_path, image):
    write(tmp_path, TWO[0], TWO[1].replace("00000002_000.png", image))
    (tmp_path / "images-224").mkdir()
    (tmp_path / "images-224" / "00000002_000.jpg").touch()
    (tmp_path / "test_list.txt").write_text("00000002_000.png\n")
    films = nih.read_labels(tmp_path)
    assert [(film.film, film.split) for film in films] == [
        ("00000001_000.png", "train"),
        ("00000002_000.png", "holdout"),
    ]
    assert list(find_files(nih.NIH, tmp_path, {film.file: film for film in films})) == ["00000002_000.png"]


def test_derive_adds_positives_only_and_touches_nothing_annotated(tmp_path):
    (film,) = nih.read_labels(write(tmp_path, ROW))
    assert film.findings is not None
    derived = derive(film.findings)
    assert derived.pop("Lung_Opacity") == POSITIVE
    assert derived == dict(film.findings)
    assert derive({"Lung_Lesion": 0, "Mass": NOT_ANNOTATED, "Nodule": 1})["Mass"] == NEGATIVE
    assert derive({"Lung_Lesion": 0, "Nodule": 1})["Nodule"] == 1


@settings(max_examples=80, deadline=None)
@given(tokens=st.sets(st.sampled_from(nih.NIH_FINDINGS)))
def test_any_set_of_the_fourteen_is_closed(tokens):
    states = nih._findings("|".join(sorted(tokens)))
    for name in nih.NIH_FINDINGS:
        assert states[name] == ((POSITIVE if name in tokens else NEGATIVE) if tokens else NOT_MENTIONED)


def films_or_message(root: Path) -> list | str:
    try:
        return nih.read_labels(root)
    except ValueError as error:
        return str(error)


CELL = st.text(st.characters(codec="utf-8", exclude_characters='\r\n",\0'), max_size=8)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.lists(CELL, max_size=13), max_size=6))
def test_any_table_gives_rows_or_one_line(tmp_path_factory, rows):
    root = write(tmp_path_factory.mktemp("nih"), *(",".join(row) for row in rows))
    outcome = films_or_message(root)
    if isinstance(outcome, str):
        assert str(root) in outcome
        assert "\n" not in outcome
    else:
        assert len(outcome) <= len(rows)


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_as_a_table_give_one_line(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"t\.csv"):
        list(read_table(path, ["no such column"]))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"real films are not here: {REAL}")
def test_the_real_subset():
    films = nih.read_labels(REAL)
    files = find_files(nih.NIH, REAL, {film.file: film for film in films})
    assert len(films) == len(files) == 1988
    assert all(film.file in files for film in films)
    assert len({film.patient for film in films}) == 1229
    assert sum(film.view == "PA" for film in films) == 1242
    assert sum((film.findings or {})["Pneumonia"] for film in films) == 408
