"""RSNA pneumonia challenge: boxes and classes, patients of the NIH through the official map, and the messages for what
is wrong."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thiscxr.collections import find_files, rsna
from thiscxr.labels import FINDINGS, NEGATIVE, NOT_ANNOTATED, NOT_MENTIONED, POSITIVE

LABEL_HEADER, CLASS_HEADER = "patientId,x,y,width,height,Target", "patientId,class"
FILMS = [
    "0004cfab-14fd-4e49-80ba-63a80b6bddd6",
    "00436515-870c-4b36-a041-de91049b9ab4",
    "003d8fa0-6bf1-40ed-b54c-ac657f8495c5",
]
ROWS = [
    f"{FILMS[0]},,,,,0",
    f"{FILMS[1]},264.0,152.0,213.0,379.0,1",
    f"{FILMS[1]},562.0,152.0,256.0,453.0,1",
    f"{FILMS[2]},,,,,0",
]
CLASSES = [f"{FILMS[0]},No Lung Opacity / Not Normal", *[f"{FILMS[1]},Lung Opacity"] * 2, f"{FILMS[2]},Normal"]
MAP = [
    {"subset_img_id": film, "img_id": f"0000{index + 13:04d}_00{index}.png", "SOPInstanceUID": "1.2"}
    for index, film in enumerate(FILMS)
]


def write(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def release(tmp_path) -> Path:
    write(tmp_path / rsna.LABEL_TABLE, LABEL_HEADER, *ROWS)
    write(tmp_path / rsna.CLASS_TABLE, CLASS_HEADER, *CLASSES)
    (tmp_path / rsna.MAP).write_text(json.dumps(MAP))
    return tmp_path


def test_targets_and_classes(release):
    films = rsna.read_labels(release)
    assert [film.film for film in films] == FILMS
    assert [film.findings["Lung_Opacity"] for film in films] == [NEGATIVE, POSITIVE, NEGATIVE]
    assert [film.findings["No Finding"] for film in films] == [NEGATIVE, NEGATIVE, POSITIVE]
    states = dict(zip(FINDINGS, films[1].states(), strict=True))
    assert {name for name, state in states.items() if state != NOT_ANNOTATED} == {"No Finding", "Lung_Opacity"}
    assert {(film.view, film.sex, film.age_years, film.labeler, film.refused) for film in films} == {
        ("unknown", "unknown", None, "radiologists", "")
    }


@pytest.mark.parametrize("targets", ["01", "10", "11"])
def test_one_box_is_enough(release, targets):
    write(release / rsna.LABEL_TABLE, LABEL_HEADER, *(f"{FILMS[0]},1,2,3,4,{target}" for target in targets))
    assert [film.findings["Lung_Opacity"] for film in rsna.read_labels(release)] == [POSITIVE]


def test_the_map_puts_patients_in_the_split_of_the_nih(release, caplog):
    assert [(film.patient, film.split_as) for film in rsna.read_labels(release)] == [
        (name, ("nih", name)) for name in ("13", "14", "15")
    ]
    assert caplog.text == ""
    (release / rsna.MAP).unlink()
    assert [(film.patient, film.split_as) for film in rsna.read_labels(release)] == [(name, None) for name in FILMS]
    assert "each film counts as a patient of its own" in caplog.text


def test_without_classes_no_finding_is_not_annotated(release):
    (release / rsna.CLASS_TABLE).unlink()
    assert "No Finding" not in rsna.read_labels(release)[0].findings
    write(release / rsna.CLASS_TABLE, CLASS_HEADER, f"{FILMS[0]},Odd")
    assert [film.findings["No Finding"] for film in rsna.read_labels(release)] == [NOT_MENTIONED] * 3


def test_a_table_of_headers_gives_view_sex_and_age(release):
    rows = [f"{FILMS[0]},43,F,AP", f"{FILMS[1]},155,M,PA"]
    write(release / rsna.HEADER_TABLE, "PatientID,PatientAge,PatientSex,ViewPosition", *rows)
    films = rsna.read_labels(release)
    assert [(film.view, film.sex, film.age_years) for film in films] == [
        ("AP", "F", 43.0),
        ("PA", "M", None),
        ("unknown", "unknown", None),
    ]


def test_an_odd_target_refuses_its_film_only(release):
    write(release / rsna.LABEL_TABLE, LABEL_HEADER, *ROWS[:2], ROWS[2].removesuffix("1") + "maybe", ROWS[3])
    assert [film.refused for film in rsna.read_labels(release)] == ["", "Target that is not 0 or 1", ""]


@pytest.mark.parametrize("name", ["stage_2_train_images/{}.dcm", "{}.png"])
def test_layouts_are_found_without_a_word(release, name):
    path = release / name.format(FILMS[0])
    path.parent.mkdir(exist_ok=True)
    path.touch()
    files = find_files(rsna.RSNA, release, {film.file: film for film in rsna.read_labels(release)})
    assert {key: Path(file.path) for key, file in files.items()} == {FILMS[0]: path}


def test_bad_tables(release, tmp_path_factory):
    with pytest.raises(ValueError, match=r"no RSNA label table; expected stage_2_train_labels\.csv"):
        rsna.read_labels(tmp_path_factory.mktemp("empty"))
    write(release / rsna.LABEL_TABLE, LABEL_HEADER.replace("Target", "Targets"), *ROWS)
    with pytest.raises(ValueError, match=r"has no column 'Target' \(did you mean 'Targets'\?\)"):
        rsna.read_labels(release)
    write(release / rsna.LABEL_TABLE, LABEL_HEADER, ",,,,,0")
    with pytest.raises(ValueError, match="line 2 has no patientId; the table is damaged"):
        rsna.read_labels(release)


def films_or_message(root: Path) -> list | str:
    try:
        return rsna.read_labels(root)
    except ValueError as error:
        return str(error)


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=40) | st.recursive(st.none() | st.text(max_size=5), st.lists).map(json.dumps))
def test_a_map_that_is_none_is_one_line(tmp_path_factory, text):
    root = tmp_path_factory.mktemp("rsna")
    write(root / rsna.LABEL_TABLE, LABEL_HEADER, *ROWS)
    (root / rsna.MAP).write_text(text, encoding="utf-8")
    outcome = films_or_message(root)
    if isinstance(outcome, str):
        assert f"{root / rsna.MAP} is not RSNA's map" in outcome
        assert "\n" not in outcome
    else:
        assert json.loads(text) == []
        assert [film.split_as for film in outcome] == [None] * 3
