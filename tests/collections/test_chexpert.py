"""CheXpert: all layouts, the labeler's states, the rule of No Finding, known defects, and the messages for what is
wrong."""

import gzip
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thiscxr.collections import chexpert, find_files
from thiscxr.labels import FINDINGS, NEGATIVE, NOT_ANNOTATED, NOT_MENTIONED, POSITIVE, UNCERTAIN

HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged "
    "Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,"
    "Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
TEST_HEADER = ",".join(["Path", *HEADER.split(",")[5:]])
FILM = "patient00001/study1/view1_frontal"
# Beside No Finding in the order of the header: blank but for Pneumothorax 0.0 and Support Devices 1.0, as in the first
# row of the release.
ROW = f"CheXpert-v1.0-small/train/{FILM}.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0"
OTHER_FILM = "patient00002/study2/view1_frontal"
OTHER = f"CheXpert-v1.0-small/train/{OTHER_FILM}.jpg,Female,87,Frontal,AP,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,"
ANNOTATED = {
    "No Finding", "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Pneumonia", "Pneumothorax",
    "Enlarged_Cardiomediastinum", "Lung_Opacity", "Lung_Lesion", "Pleural_Other", "Fracture", "Support_Devices",
}  # fmt: skip


def write(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def film_of(root: Path, row: str):
    write(root / "train.csv", row)
    (film,) = chexpert.read_labels(root)
    return film


def states(film) -> dict[str, int]:
    return dict(zip(FINDINGS, film.states(), strict=True))


def test_a_row_of_the_release(tmp_path):
    film = film_of(tmp_path, OTHER)
    assert (film.film, film.file) == ("patient00002/study2/view1_frontal",) * 2
    assert (film.patient, film.study) == ("patient00002", "patient00002/study2")
    assert (film.view, film.sex, film.age_years, film.split) == ("AP", "F", 87.0, None)
    assert (film.labeler, film.refused) == ("CheXpert labeler", "")
    found = states(film)
    assert {name for name, state in found.items() if state != NOT_ANNOTATED} == ANNOTATED
    assert {name for name, state in found.items() if state == POSITIVE} == {"Lung_Opacity", "Fracture"}
    uncertain = {"Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Effusion"}
    assert {name for name, state in found.items() if state == UNCERTAIN} == uncertain
    assert {name for name, state in found.items() if state == NOT_MENTIONED} == ANNOTATED - uncertain - {
        "Lung_Opacity",
        "Fracture",
    }


def test_no_finding_makes_twelve_blanks_negative_and_spares_devices(tmp_path):
    found = states(film_of(tmp_path, ROW))
    assert found["No Finding"] == found["Support_Devices"] == POSITIVE
    assert {found[name] for name in ANNOTATED - {"No Finding", "Support_Devices"}} == {NEGATIVE}
    blank_devices = states(film_of(tmp_path, ROW.removesuffix("1.0")))
    assert blank_devices["Support_Devices"] == NOT_MENTIONED


def test_no_finding_overwrites_nothing_and_is_never_negative(tmp_path):
    contradiction = ROW.replace("1.0,,,,,,,,,0.0", "1.0,,-1.0,1.0,,,,,,0.0")
    found = states(film_of(tmp_path, contradiction))
    assert (found["Cardiomegaly"], found["Lung_Opacity"], found["Edema"]) == (UNCERTAIN, POSITIVE, NEGATIVE)
    for cell in ("0.0", "-1.0", ""):
        found = states(film_of(tmp_path, ROW.replace("AP,1.0", f"AP,{cell}")))
        assert (found["No Finding"], found["Edema"], found["Pneumothorax"]) == (NOT_MENTIONED, NOT_MENTIONED, NEGATIVE)


def test_rows_with_equal_labels_share_them(tmp_path):
    write(tmp_path / "train.csv", ROW, ROW.replace("00001", "00003"), OTHER)
    one, same, other = chexpert.read_labels(tmp_path)
    assert one.findings is same.findings
    assert one.findings is not other.findings


@pytest.mark.parametrize(
    ("cells", "view"),
    [
        ("Frontal,AP", "AP"), ("Frontal,PA", "PA"), ("Frontal,LL", "lateral"), ("Frontal,RL", "lateral"),
        ("Frontal,", "unknown"), ("Lateral,", "lateral"), ("Frontal,pa-ish", "unknown"),
    ],
)  # fmt: skip
def test_views(tmp_path, cells, view):
    assert film_of(tmp_path, ROW.replace("Frontal,AP", cells)).view == view


@pytest.mark.parametrize(
    ("cells", "sex", "age"),
    [
        ("Male,90", "M", 90.0), ("Unknown,0", "unknown", None), ("Female,", "F", None), (",34", "unknown", 34.0),
        ("Male,-3", "M", None), ("Male,414", "M", None), ("Male,old", "M", None),
    ],
)  # fmt: skip
def test_sexes_and_ages(tmp_path, cells, sex, age):
    film = film_of(tmp_path, ROW.replace("Female,68", cells))
    assert (film.sex, film.age_years) == (sex, age)


def test_an_odd_label_refuses_its_row_only(tmp_path):
    write(tmp_path / "train.csv", ROW, OTHER.replace("1.0,,-1.0,-1.0", "2,,-1.0,-1.0"))
    one, odd = chexpert.read_labels(tmp_path)
    assert (one.refused, odd.refused) == ("", "label that is not 1, 0, -1 or empty")
    assert {odd.findings[name] for name in ANNOTATED} == {NOT_MENTIONED}


def test_valid_and_test_are_held_out_and_read_by_radiologists(tmp_path):
    write(tmp_path / "train.csv", ROW)
    write(
        tmp_path / "valid.csv",
        "CheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,0,1,1,1,0,0,1,0,0,0,0,0,0,0",
    )
    rows = [
        f"test/patient64741/study1/view{view}.jpg,0.0,1.0,1.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0"
        for view in ("1_frontal", "2_lateral")
    ]
    write(tmp_path / "test_labels.csv", *rows, header=TEST_HEADER)
    films = chexpert.read_labels(tmp_path)
    assert [film.split for film in films] == [None, "holdout", "holdout", "holdout"]
    assert [film.labeler for film in films] == ["CheXpert labeler", "radiologists", "radiologists", "radiologists"]
    assert [film.view for film in films] == [
        "AP",
        "AP",
        "unknown",
        "lateral",
    ]  # the test table names no projection; its file names mark laterals
    assert (films[2].sex, films[2].age_years, films[2].patient) == ("unknown", None, "patient64741")
    assert films[1].findings["Lung_Opacity"] == films[2].findings["Lung_Opacity"] == POSITIVE


@pytest.mark.parametrize("folder", ["valid/", "val\\", "D:\\CheXpert-v1.0\\test\\"])
def test_valid_films_in_somebody_s_one_table_of_all_are_held_out(tmp_path, folder):
    """They were trained on."""
    films = chexpert.read_labels(write(tmp_path / "train.csv", ROW, folder + OTHER[OTHER.index("patient") :]).parent)
    assert [film.split for film in films] == [None, "holdout"]


def zipped(path: Path, members: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)


def test_the_release_s_own_labels_come_before_later_ones(tmp_path):
    write(tmp_path / "train_visualCheXbert.csv", ROW)
    assert chexpert.read_labels(tmp_path)[0].labeler == "VisualCheXbert"
    write(tmp_path / "train_cheXbert.csv", ROW)
    assert chexpert.read_labels(tmp_path)[0].labeler == "CheXbert"
    # As Stanford's download has it: train.csv inside the first zip, the other two unpacked beside it.
    zipped(
        tmp_path / ("CheXpert-v1.0 batch 1 (validate & csv).zip"),
        {("CheXpert-v1.0 batch 1 (validate & csv)/train.csv"): f"{HEADER}\n{ROW}\n"},
    )
    assert chexpert.read_labels(tmp_path)[0].labeler == "CheXpert labeler"


VALID = "patient64541/study1/view1_frontal"
LAYOUTS = {
    "small": [
        "CheXpert-v1.0-small/train.csv",
        f"CheXpert-v1.0-small/train/{FILM}.jpg",
        f"CheXpert-v1.0-small/valid/{VALID}.jpg",
    ],
    "root": ["train.csv", f"train/{FILM}.jpg", f"valid/{VALID}.jpg"],
    "renamed, resized to PNG": ["chex/train.csv", f"chex/train/{FILM}.png", f"chex/valid/{VALID}.png"],
    "wrapped twice": [
        "download/release/train.csv",
        f"download/release/train/{FILM}.jpg",
        f"download/release/valid/{VALID}.jpg",
    ],
    "batches": [
        "CheXpert-v1.0 batch 1 (validate & csv)/train.csv",
        f"CheXpert-v1.0 batch 1 (validate & csv)/valid/{VALID}.jpg",
        f"CheXpert-v1.0 batch 2 (train 1)/{FILM}.jpg",
    ],
    "table gzipped": ["train.csv.gz", f"train/{FILM}.jpg", f"val/{VALID}.jpg"],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_found_without_a_word(tmp_path, layout):
    table, *images = (tmp_path / name for name in LAYOUTS[layout])
    rows = [ROW, ROW.replace(f"train/{FILM}", f"valid/{VALID}")]
    write(table, *rows)
    if table.suffix == ".gz":
        table.write_bytes(gzip.compress(table.read_bytes()))
    for image in images:
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    films = chexpert.read_labels(tmp_path)
    found = find_files(chexpert.CHEXPERT, tmp_path, {film.file: film for film in films})
    assert {name: Path(file.path) for name, file in found.items()} == dict(
        zip([FILM, VALID], sorted(images, key=lambda path: "64541" in str(path)), strict=True)
    )


def test_zips_are_read_in_place(tmp_path):
    first, second = "CheXpert-v1.0 batch 1 (validate & csv)", "CheXpert-v1.0 batch 2 (train 1)"
    table = f"{HEADER}\n{ROW}\n"
    zipped(
        tmp_path / f"{first}.zip",
        {
            f"{first}/train.csv": table,
            f"{first}/valid.csv": table.replace(FILM, VALID),
            f"{first}/valid/{VALID}.jpg": "x",
        },
    )
    zipped(tmp_path / f"{second}.zip", {f"{second}/{FILM}.jpg": "y"})
    films = chexpert.read_labels(tmp_path)
    assert [(film.file, film.split) for film in films] == [(FILM, None), (VALID, "holdout")]
    found = find_files(chexpert.CHEXPERT, tmp_path, {film.file: film for film in films})
    assert [found[name].read() for name in (FILM, VALID)] == [b"y", b"x"]


def test_the_chexlocalize_repack(tmp_path):
    row = "CheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg" + ",0.0" * 14
    write(tmp_path / "chexlocalize" / "CheXpert" / "val_labels.csv", row, header=TEST_HEADER)
    write(
        tmp_path / "chexlocalize" / "CheXpert" / "test_labels.csv",
        row.replace("valid/patient64541", "test/patient64741"),
        header=TEST_HEADER,
    )
    image = tmp_path / "chexlocalize" / "CheXpert" / "val" / f"{VALID}.jpg"
    image.parent.mkdir(parents=True)
    image.touch()
    films = chexpert.read_labels(tmp_path)
    assert [(film.patient, film.split, film.view) for film in films] == [
        ("patient64541", "holdout", "unknown"),
        ("patient64741", "holdout", "unknown"),
    ]
    assert list(find_files(chexpert.CHEXPERT, tmp_path, {film.file: film for film in films})) == [VALID]


@pytest.mark.parametrize(
    "column", ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", "Pleural Effusion", "Support Devices"]
)
def test_a_missing_column_is_named_with_the_nearest_name(tmp_path, column):
    write(tmp_path / "train.csv", ROW, header=HEADER.replace(column, column + "s"))
    with pytest.raises(
        ValueError, match=rf"train\.csv has no column '{column}' \(did you mean '{column}s'\?\)"
    ) as caught:
        chexpert.read_labels(tmp_path)
    assert "\n" not in str(caught.value)


def test_other_bad_tables(tmp_path):
    with pytest.raises(ValueError, match=r"no CheXpert label table; expected train\.csv or valid\.csv in that folder$"):
        chexpert.read_labels(tmp_path)
    (tmp_path / "Data_Entry_2017.csv").touch()
    with pytest.raises(ValueError, match=r"no CheXpert label table.*; it looks like --nih$"):
        chexpert.read_labels(tmp_path)
    with pytest.raises(
        ValueError,
        match=r"train\.csv line 3: Path 'CheXpert/view1.jpg' does not end like "
        r"patient00001/study1/view1_frontal\.jpg",
    ):
        chexpert.read_labels(write(tmp_path / "train.csv", ROW, "CheXpert/view1.jpg" + ROW[ROW.index(",") :]).parent)
    with pytest.raises(ValueError, match=r"train\.csv line 2 has 6 cells, expected 19"):
        chexpert.read_labels(write(tmp_path / "train.csv", ",".join(ROW.split(",")[:6])).parent)
    (tmp_path / "train.csv").unlink()
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress("\n".join([HEADER, *[ROW] * 999]).encode())[:-20])
    with pytest.raises(ValueError, match=r"train\.csv\.gz after line \d+ is not a comma-separated table"):
        chexpert.read_labels(tmp_path)


@pytest.mark.parametrize(
    "root", ["CheXpert-v1.0-small\\", "D:\\data\\CheXpert-v1.0\\", "/home/me/CheXpert-v1.0/", "\\\\server\\share\\"]
)
def test_a_table_of_windows_and_absolute_paths(tmp_path, root):
    """With backslashes every row was an error."""
    inside = "train/patient00001/study1/view1_frontal.jpg"
    path = root + (inside.replace("/", "\\") if "\\" in root else inside)
    (film,) = chexpert.read_labels(write(tmp_path / "train.csv", path + ROW[ROW.index(",") :]).parent)
    (tmp_path / inside).parent.mkdir(parents=True)
    (tmp_path / inside).touch()
    assert (film.patient, film.study) == ("patient00001", "patient00001/study1")
    assert list(find_files(chexpert.CHEXPERT, tmp_path, {film.file: film})) == ["patient00001/study1/view1_frontal"]


def films_or_message(root: Path) -> list | str:
    try:
        return chexpert.read_labels(root)
    except ValueError as error:
        return str(error)


CELL = st.sampled_from([*ROW.split(","), "-1.0", "0", "Lateral", "LL"]) | st.text(
    st.characters(codec="utf-8", exclude_characters='\r\n",\0'), max_size=8
)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.lists(CELL, max_size=21), max_size=6), path=st.sampled_from(["train.csv", "valid.csv"]))
def test_any_cells_give_rows_or_one_line(tmp_path_factory, rows, path):
    root = tmp_path_factory.mktemp("chexpert")
    write(
        root / path,
        *(",".join([f"train/patient0000{index}/study1/view1_frontal.jpg", *row]) for index, row in enumerate(rows)),
    )
    outcome = films_or_message(root)
    if isinstance(outcome, str):
        assert f"{root / path} line " in outcome
        assert "\n" not in outcome
    else:
        assert [film.patient for film in outcome] == [f"patient0000{index}" for index in range(len(rows))]
        assert all(set(film.findings) == ANNOTATED for film in outcome)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), head=st.sampled_from([b"", HEADER.encode() + b"\n", b"\x1f\x8b\x08\x00"]))
def test_any_bytes_give_rows_or_one_line(tmp_path_factory, data, head):
    root = tmp_path_factory.mktemp("chexpert")
    (root / "train.csv").write_bytes(head + data)
    outcome = films_or_message(root)
    if isinstance(outcome, str):
        assert "train.csv" in outcome
        assert "\n" not in outcome
