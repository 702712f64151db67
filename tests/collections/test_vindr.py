"""VinDr-CXR: votes of three readers, both releases, and the messages for what is wrong."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thiscxr.collections import find_files, vindr
from thiscxr.labels import FINDINGS, NEGATIVE, NOT_ANNOTATED, NOT_MENTIONED, POSITIVE, UNCERTAIN

CLASSES = [
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema",
    "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift",
    "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture",
    "Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other diseases", "No finding",
]  # fmt: skip
VOTES_HEADER = ",".join(["image_id", "rad_id", *CLASSES])
CONSENSUS_HEADER = ",".join(["image_id", *CLASSES]).replace("Other diseases", "Other disease")
BOX_HEADER = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
FILM = "50a418190bc3fb1ef1633bf9678929b3"


def write(path: Path, header: str, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def vote(reader: str, *classes: str, film: str = FILM) -> str:
    return ",".join([film, *([reader] if reader else []), *(str(int(word in classes)) for word in CLASSES)])


def box(reader: str, word: str, film: str = FILM) -> str:
    return f"{film},{word},0,{reader},1,2,3,4"


def test_two_readers_make_a_finding_and_one_a_doubt(tmp_path):
    rows = [
        vote("R9", "Cardiomegaly", "Rib fracture", "Edema"),
        vote("R10", "Cardiomegaly", "Clavicle fracture"),
        vote("R8", "Cardiomegaly"),
    ]
    write(tmp_path / "annotations" / "image_labels_train.csv", VOTES_HEADER, *rows)
    (film,) = vindr.read_labels(tmp_path)
    assert (film.film, film.patient, film.study, film.view, film.split, film.labeler) == (
        FILM,
        FILM,
        FILM,
        "PA",
        None,
        "radiologists",
    )
    found = dict(zip(FINDINGS, film.states(), strict=True))
    # a rib or a clavicle
    assert {name for name, state in found.items() if state == POSITIVE} == {"Cardiomegaly", "Fracture"}
    assert {name for name, state in found.items() if state == UNCERTAIN} == {"Edema"}
    assert {name for name, state in found.items() if state == NOT_ANNOTATED} == {
        "Hernia", "Mass", "Nodule", "Enlarged_Cardiomediastinum", "Pleural_Other", "Support_Devices"
    }  # fmt: skip
    assert found["No Finding"] == NEGATIVE


def test_the_kaggle_table_has_a_row_a_box_and_fewer_classes(tmp_path):
    rows = [
        box("R1", "Nodule/Mass"),
        box("R1", "Nodule/Mass"),
        box("R2", "Nodule/Mass"),
        box("R2", "ILD"),
        box("R3", "Pleural thickening"),
    ]
    rows += [box(reader, "No finding", film="b") for reader in ("R1", "R2", "R3")]
    write(tmp_path / "train.csv", BOX_HEADER, *rows)
    one, normal = vindr.read_labels(tmp_path)
    assert (one.findings["Lung_Lesion"], one.findings["Pleural_Thickening"], one.findings["Effusion"]) == (
        POSITIVE,
        UNCERTAIN,
        NEGATIVE,
    )
    assert normal.findings["No Finding"] == POSITIVE
    assert "Edema" not in one.findings  # not among Kaggle's classes
    write(tmp_path / "image_labels_train.csv", VOTES_HEADER, vote("R1", film="c"))
    assert [film.film for film in vindr.read_labels(tmp_path)] == ["c"]  # PhysioNet's table has more


def test_the_consensus_is_held_out(tmp_path):
    write(tmp_path / "image_labels_test.csv", CONSENSUS_HEADER, vote("", "Pneumonia"))
    (film,) = vindr.read_labels(tmp_path)
    assert (film.split, film.findings["Pneumonia"], film.findings["Edema"]) == ("holdout", POSITIVE, NEGATIVE)


def test_an_odd_label_refuses_its_film_only(tmp_path):
    write(tmp_path / "image_labels_train.csv", VOTES_HEADER, vote("R1"), vote("R1", film="b").replace("0,0", "0,2", 1))
    one, odd = vindr.read_labels(tmp_path)
    assert (one.refused, odd.refused) == ("", "label that is not 0 or 1")
    assert set(odd.findings.values()) == {NOT_MENTIONED}


@pytest.mark.parametrize("name", [f"train/{FILM}.dicom", f"{FILM}.dcm", f"resized/{FILM}.png"])
def test_layouts_are_found_without_a_word(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    write(tmp_path / "train.csv", BOX_HEADER, box("R1", "No finding"))
    (film,) = vindr.read_labels(tmp_path)
    assert [Path(file.path) for file in find_files(vindr.VINDR, tmp_path, {film.file: film}).values()] == [
        tmp_path / name
    ]


def test_bad_tables(tmp_path):
    with pytest.raises(ValueError, match=r"no VinDr-CXR label table; expected image_labels_train\.csv or train\.csv"):
        vindr.read_labels(tmp_path)
    write(tmp_path / "train.csv", BOX_HEADER, box("R1", "Cardiomegally"))
    assert [film.refused for film in vindr.read_labels(tmp_path)] == ["class that is not VinDr's"]  # it was an error
    write(tmp_path / "train.csv", BOX_HEADER, box("R1", "ILD", film=""))
    with pytest.raises(ValueError, match="line 2 has no image_id"):
        vindr.read_labels(tmp_path)
    write(tmp_path / "image_labels_train.csv", VOTES_HEADER.replace("Edema", "Oedema"), vote("R1"))
    with pytest.raises(ValueError, match=r"has no column 'Edema' \(did you mean 'Oedema'\?\)"):
        vindr.read_labels(tmp_path)


def films_or_message(root: Path) -> list | str:
    try:
        return vindr.read_labels(root)
    except ValueError as error:
        return str(error)


CELL = st.sampled_from([FILM, "R1", "0", "1", "No finding", "ILD"]) | st.text(
    st.characters(codec="utf-8", exclude_characters='\r\n",\0'), max_size=6
)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(["image_labels_train.csv", "train.csv", "image_labels_test.csv"]),
    rows=st.lists(st.lists(CELL, max_size=31), max_size=4),
)
def test_any_cells_give_rows_or_one_line(tmp_path_factory, name, rows):
    header = {
        "image_labels_train.csv": VOTES_HEADER,
        "train.csv": BOX_HEADER,
        "image_labels_test.csv": CONSENSUS_HEADER,
    }[name]
    path = write(tmp_path_factory.mktemp("vindr") / name, header, *map(",".join, rows))
    outcome = films_or_message(path.parent)
    if isinstance(outcome, str):
        assert f"{path} line " in outcome
        assert "\n" not in outcome
    else:
        assert len(outcome) <= len(rows)
