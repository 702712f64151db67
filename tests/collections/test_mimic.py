"""MIMIC-CXR: JPEG and DICOM, both labelers and the radiologists, splits, views, MIMIC-IV's ages, and the messages for
what is wrong."""

import gzip
import logging
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thiscxr.collections import find_files, mimic
from thiscxr.labels import FINDINGS, NEGATIVE, NOT_ANNOTATED, NOT_MENTIONED, POSITIVE, UNCERTAIN

METADATA_HEADER = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,StudyDate,StudyTime,"
    "ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,PatientOrientationCodeSequence_CodeMeaning"
)
LABEL_HEADER = (
    "subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged "
    "Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,"
    "No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices"
)
SPLIT_HEADER = "dicom_id,study_id,subject_id,split"
READ_HEADER = LABEL_HEADER.removeprefix("subject_id,").replace("Lung Opacity", "Airspace Opacity")
PATIENTS_HEADER = "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod"
METADATA, CHEXPERT, NEGBIO = (f"mimic-cxr-2.0.0-{name}.csv" for name in ("metadata", "chexpert", "negbio"))
FILM = "02aa804e-bde0afdd-112c0b34-7bc16630-4e384014"
FOLDER = "files/p10/p10000032/s50414267"
ROW = (
    f"{FILM},10000032,50414267,CHEST (PA AND "
    "LAT),PA,3056,2544,21800506,213014.531,CHEST (PA AND LAT),postero-anterior,Erect"
)
LABELS = "10000032,50414267,,1.0,,-1.0,,,,0.0,,,,,0.0,1.0"


def write(path: Path, header: str, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join([header, *rows]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.fixture
def release(tmp_path) -> Path:
    write(tmp_path / "release" / f"{METADATA}.gz", METADATA_HEADER, ROW)
    write(tmp_path / "release" / f"{CHEXPERT}.gz", LABEL_HEADER, LABELS)
    return tmp_path / "release"


def states(film) -> dict[str, int]:
    return dict(zip(FINDINGS, film.states(), strict=True))


def test_a_row_of_the_release(release):
    (film,) = mimic.read_labels(release)
    assert (film.film, film.file, film.patient, film.study) == (FILM, FILM, "10000032", "50414267")
    assert (film.view, film.sex, film.age_years, film.split, film.labeler) == (
        "PA",
        "unknown",
        None,
        None,
        "CheXpert labeler",
    )
    found = states(film)
    assert {name for name, state in found.items() if state == POSITIVE} == {"Cardiomegaly", "Support_Devices"}
    assert {name for name, state in found.items() if state == NEGATIVE} == {"Lung_Opacity", "Pneumothorax"}
    assert {name for name, state in found.items() if state == UNCERTAIN} == {"Edema"}
    assert found["No Finding"] == found["Effusion"] == NOT_MENTIONED
    assert {name for name, state in found.items() if state == NOT_ANNOTATED} == {
        "Emphysema", "Fibrosis", "Hernia", "Infiltration", "Mass", "Nodule", "Pleural_Thickening"
    }  # fmt: skip


def test_no_finding_makes_twelve_blanks_negative_and_spares_devices(release):
    write(release / f"{CHEXPERT}.gz", LABEL_HEADER, "10000032,50414267,,,,,,,,,1.0,,,,,")
    found = states(mimic.read_labels(release)[0])
    assert (found["No Finding"], found["Support_Devices"]) == (POSITIVE, NOT_MENTIONED)
    assert sum(state == NEGATIVE for state in found.values()) == 12


def test_a_study_without_a_row_or_with_a_blank_one_is_all_unknown(release):
    write(release / f"{METADATA}.gz", METADATA_HEADER, ROW, ROW.replace(FILM, "b").replace("50414267", "50000001"))
    write(release / f"{CHEXPERT}.gz", LABEL_HEADER, "10000032,50414267,,,,,,,,,,,,,,")
    blank, absent = mimic.read_labels(release)
    assert blank.findings == absent.findings == dict.fromkeys(blank.findings, NOT_MENTIONED)
    assert (blank.labeler, absent.labeler) == ("CheXpert labeler", "")
    assert len(blank.findings) == 14


def test_chexpert_labels_come_before_negbio_and_radiologists_before_both(release):
    write(release / NEGBIO, LABEL_HEADER, LABELS.replace("-1.0", "1.0"))
    assert mimic.read_labels(release)[0].labeler == "CheXpert labeler"
    (release / f"{CHEXPERT}.gz").unlink()
    (film,) = mimic.read_labels(release)
    assert (film.labeler, film.findings["Edema"]) == ("NegBio", POSITIVE)
    write(release / mimic.READ_TABLE, READ_HEADER, "50414267,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0")
    (film,) = mimic.read_labels(release)
    assert film.labeler == "radiologists"
    assert (film.findings["Lung_Opacity"], film.findings["Edema"], film.findings["No Finding"]) == (
        POSITIVE,
        NEGATIVE,
        NOT_MENTIONED,
    )


def test_studies_that_radiologists_did_not_read_keep_the_labeler_s_labels(release):
    write(release / f"{METADATA}.gz", METADATA_HEADER, ROW, ROW.replace(FILM, "b").replace("50414267", "50000001"))
    write(release / mimic.READ_TABLE, READ_HEADER, "50000001" + ",0.0" * 14)
    one, read = mimic.read_labels(release)
    assert [(film.labeler, film.findings["Cardiomegaly"]) for film in (one, read)] == [
        ("CheXpert labeler", POSITIVE),
        ("radiologists", NEGATIVE),
    ]


def test_without_a_label_table_nothing_is_annotated(release, caplog):
    (release / f"{CHEXPERT}.gz").unlink()
    with caplog.at_level(logging.WARNING):
        (film,) = mimic.read_labels(release)
    assert set(film.states()) == {NOT_ANNOTATED}
    assert "no finding is annotated" in caplog.text


def test_an_odd_label_refuses_the_films_of_its_study_only(release):
    write(release / f"{METADATA}.gz", METADATA_HEADER, ROW, ROW.replace(FILM, "b").replace("50414267", "50000001"))
    write(
        release / f"{CHEXPERT}.gz", LABEL_HEADER, LABELS.replace("-1.0", "soon"), LABELS.replace("50414267", "50000001")
    )
    assert [film.refused for film in mimic.read_labels(release)] == ["label that is not 1, 0, -1 or empty", ""]


def test_the_official_split_goes_by_patient(release):
    films = [
        f"{film},1000003{patient},5041426{film},X,PA,1,1,21800506,1,X,,Erect"
        for patient, film in ((1, 0), (1, 1), (2, 2), (3, 3), (4, 4))
    ]
    write(release / f"{METADATA}.gz", METADATA_HEADER, *films)
    splits = [
        "0,50414260,10000031,train",
        "1,50414261,10000031,test",
        "9,50414269,10000031,train",
        "2,50414262,10000032,validate",
        "3,50414263,10000033,train",
    ]
    write(release / "mimic-cxr-2.0.0-split.csv.gz", SPLIT_HEADER, *splits)
    assert [film.split for film in mimic.read_labels(release)] == ["holdout", "holdout", "holdout", "train", None]
    write(release / "mimic-cxr-2.0.0-split.csv.gz", SPLIT_HEADER, "0,50414260,10000031,Fold 1")
    with pytest.raises(ValueError, match=r"split\.csv\.gz line 2: split 'Fold 1' is not one of train, validate, test"):
        mimic.read_labels(release)


@pytest.mark.parametrize(
    ("position", "code", "procedure", "orientation", "view"),
    [
        ("AP", "antero-posterior", "CHEST (PORTABLE AP)", "Erect", "AP"),
        ("AP", "antero-posterior", "CHEST (PORTABLE AP)", "", "AP"),
        ("AP", "antero-posterior", "CHEST (PORTABLE AP)", "Recumbent", "AP_supine"),
        ("PA", "", "", "Recumbent", "PA"),
        ("LATERAL", "lateral", "", "Erect", "lateral"),
        ("LL", "left lateral", "", "Erect", "lateral"),
        ("LL", "left lateral", "", "Recumbent", "lateral"),
        ("AP LLD", "antero-posterior", "", "Recumbent", "other"),
        ("PA LLD", "", "", "", "other"),
        ("PA RLD", "", "", "", "other"),
        ("AP RLD", "", "", "", "other"),
        ("AP AXIAL", "", "", "", "other"),
        ("XTABLE LATERAL", "", "", "", "other"),
        ("LAO", "", "", "", "other"),
        ("RAO", "", "", "", "other"),
        ("LPO", "", "", "", "other"),
        ("SWIMMERS", "", "", "", "other"),
        ("SOMETHING", "postero-anterior", "CHEST PA", "", "unknown"),
        ("", "", "", "", "unknown"),
        ("", "", "CHEST (PA AND LAT)", "", "unknown"),  # two films, and which this is nobody says
        ("", "", "CHEST (PORTABLE AP)", "Recumbent", "unknown"),
        ("", "", "CHEST PORT", "", "unknown"),
        ("", "", "CHEST PA", "", "PA"),
        ("", "", "CHEST LAT", "", "lateral"),
        ("", "", "CHEST AP GRID", "Recumbent", "AP_supine"),
        ("", "postero-anterior", "CHEST LAT", "", "PA"),
    ],
)
def test_views(release, position, code, procedure, orientation, view):
    study, taken = "10000032,50414267", "3056,2544,21800506,213014.531"
    row = ",".join([FILM, study, procedure, position, taken, procedure, code, orientation])
    write(release / f"{METADATA}.gz", METADATA_HEADER, row)
    assert mimic.read_labels(release)[0].view == view


@pytest.mark.parametrize(
    "place",
    [
        "release/patients.csv.gz", "release/hosp/patients.csv", "release/mimic-iv-3.1/hosp/patients.csv.gz",
        "patients.csv", "hosp/patients.csv", "MIMIC-IV/hosp/patients.csv.gz", "mimiciv/patients.csv",
    ],
)  # fmt: skip
def test_sex_and_age_come_from_mimic_iv_where_it_is(release, place):
    write(release.parent / place, PATIENTS_HEADER, "10000032,F,52,2178,2014 - 2016,2180-09-09")
    (film,) = mimic.read_labels(release)
    assert (film.sex, film.age_years) == ("F", 54.0)


def test_physionet_s_tree_has_the_patients_two_folders_up(tmp_path):
    release = tmp_path / "files" / "mimic-cxr-jpg" / "2.1.0"
    write(release / f"{METADATA}.gz", METADATA_HEADER, ROW)
    write(
        tmp_path / "files" / "mimiciv" / "3.1" / "hosp" / "patients.csv.gz",
        PATIENTS_HEADER,
        "10000032,M,52,2178,2014 - 2016,",
    )
    assert mimic.read_labels(release)[0].sex == "M"
    assert mimic.read_labels(tmp_path / "files" / "mimic-cxr-jpg")[0].patient == "10000032"


@pytest.mark.parametrize(
    ("anchor", "age"),
    [
        ("89,2176", 91.0),
        ("91,2180", 91.0),
        ("60,2190", 50.0),
        ("5,2190", None),
        (",2178", None),
        ("52,", None),
        ("x,y", None),
    ],
)
def test_ages_are_shifted_and_capped(release, anchor, age):
    write(release / "patients.csv", PATIENTS_HEADER, f"10000032,F,{anchor},2014 - 2016,")
    assert mimic.read_labels(release)[0].age_years == age


def test_somebody_else_s_patients_are_passed_over(release, caplog):
    write(release.parent / "patients.csv", "patientunitstayid,age", "141168,70")
    with caplog.at_level(logging.WARNING):
        (film,) = mimic.read_labels(release)
    assert (film.sex, film.age_years) == ("unknown", None)
    assert "has no column 'subject_id'" in caplog.text


def test_without_metadata_the_record_list_names_the_films(tmp_path):
    write(
        tmp_path / "cxr-record-list.csv.gz",
        "subject_id,study_id,dicom_id,path",
        f"10000032,50414267,{FILM},{FOLDER}/{FILM}.dcm",
    )
    (film,) = mimic.read_labels(tmp_path)
    assert (film.film, film.patient, film.study, film.view) == (FILM, "10000032", "50414267", "unknown")


@pytest.mark.parametrize(
    ("tree", "equalised"),
    [
        ([f"{FOLDER}/{FILM}.jpg"], True),
        ([f"renamed/{FOLDER}/{FILM}.png"], True),
        ([f"{FOLDER}/{FILM}.dcm"], False),
        ([f"{FOLDER}/{FILM}.dcm.gz"], False),
        ([f"{FOLDER}/{FILM}.dcm", f"a/{FOLDER}/{FILM}.jpg"], False),
        ([f"a/{FOLDER}/{FILM}.dcm.gz", f"{FOLDER}/{FILM}.jpg"], False),
    ],
)
def test_dicom_comes_before_the_equalised_jpeg(release, tree, equalised):
    for name in [*tree, f"{FOLDER}/index.html", "files/p10/p10000032/s50414267.txt"]:
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).touch()
    (film,) = mimic.read_labels(release)
    found = find_files(mimic.MIMIC, release, {film.file: film})
    assert Path(found[FILM].path) == release / tree[0]
    assert found[FILM].name.endswith(mimic.MIMIC.equalised) == equalised


@pytest.mark.parametrize(
    ("name", "column"),
    [
        (METADATA, "dicom_id"), (METADATA, "subject_id"), (METADATA, "study_id"), (METADATA, "ViewPosition"),
        (CHEXPERT, "study_id"), (CHEXPERT, "Pneumonia"), (CHEXPERT, "No Finding"),
    ],
)  # fmt: skip
def test_a_missing_column_is_named_with_the_nearest_name(release, name, column):
    header, row = (METADATA_HEADER, ROW) if name == METADATA else (LABEL_HEADER, LABELS)
    write(release / f"{name}.gz", header.replace(column, column + "s"), row)
    with pytest.raises(ValueError, match=rf"{name}\.gz has no column '{column}' \(did you mean '{column}s'\?\)"):
        mimic.read_labels(release)


def test_other_bad_tables(release, tmp_path):
    with pytest.raises(ValueError, match=r"line 3 has no subject_id; the table is damaged"):
        mimic.read_labels(write(release / f"{METADATA}.gz", METADATA_HEADER, ROW, ROW.replace("10000032", "")).parent)
    whole = write(release / f"{METADATA}.gz", METADATA_HEADER, ROW).read_bytes()
    (release / f"{METADATA}.gz").write_bytes(whole[:-9])
    with pytest.raises(ValueError, match=r"metadata\.csv\.gz after line \d+ is not a comma-separated table"):
        mimic.read_labels(release)
    (tmp_path / "other").mkdir()
    with pytest.raises(
        ValueError,
        match=r"no MIMIC-CXR label table; expected mimic-cxr-2\.0\.0-metadata\.csv or cxr-record-list\.csv",
    ):
        mimic.read_labels(tmp_path / "other")


def films_or_message(root: Path) -> list | str:
    try:
        return mimic.read_labels(root)
    except ValueError as error:
        return str(error)


CELL = st.sampled_from([*ROW.split(","), *LABELS.split(","), "train", "F"]) | st.text(
    st.characters(codec="utf-8", exclude_characters='\r\n",\0'), max_size=8
)
TABLES = {
    METADATA: METADATA_HEADER, CHEXPERT: LABEL_HEADER, "mimic-cxr-2.0.0-split.csv": SPLIT_HEADER,
    mimic.READ_TABLE: READ_HEADER, "patients.csv": PATIENTS_HEADER,
}  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(tables=st.fixed_dictionaries({name: st.lists(st.lists(CELL, max_size=18), max_size=4) for name in TABLES}))
def test_any_cells_give_rows_or_one_line(tmp_path_factory, tables):
    root = tmp_path_factory.mktemp("mimic")
    for name, rows in tables.items():
        write(root / name, TABLES[name], *map(",".join, rows))
    outcome = films_or_message(root)
    if isinstance(outcome, str):
        assert f"{root}/" in outcome
        assert " line " in outcome
        assert "\n" not in outcome
    else:
        assert len(outcome) <= len(tables[METADATA])


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(sorted(TABLES)), data=st.binary(max_size=100), keep_header=st.booleans())
def test_any_bytes_give_rows_or_one_line(tmp_path_factory, name, data, keep_header):
    root = tmp_path_factory.mktemp("mimic")
    write(root / METADATA, METADATA_HEADER, ROW)
    (root / name).write_bytes((f"{TABLES[name]}\n".encode() if keep_header else b"") + data)
    outcome = films_or_message(root)
    if isinstance(outcome, str):
        assert name in outcome
        assert "\n" not in outcome


def test_labels_from_reports_packed_or_not(release, tmp_path, caplog):
    text = " FINAL REPORT\n INDICATION: Pneumothorax?\n\n FINDINGS: Effusion, new. Heart\n size is normal.\n"
    with pytest.raises(ValueError, match=r"has no reports; expected mimic-cxr-reports\.zip there"):
        mimic.read_labels(release, reports=True)
    for packed in (True, False):
        if packed:
            with zipfile.ZipFile(release / "mimic-cxr-reports.zip", "w") as archive:
                archive.writestr("files/p10/p10000032/s50414267.txt", text)
        else:
            (release / "mimic-cxr-reports.zip").unlink()
            write(release / "files" / "p10" / "p10000032" / "s50414267.txt", text)
        (film,) = mimic.read_labels(release, reports=True)
        found = states(film)
        assert (found["Effusion"], found["Cardiomegaly"], found["Pneumothorax"]) == (POSITIVE, NEGATIVE, NOT_MENTIONED)
        assert found["Support_Devices"] == NOT_MENTIONED  # the label table says otherwise
        assert film.labeler == "report rules"
    (release / "files" / "p10" / "p10000032" / "s50414267.txt").write_bytes(b"\x00\x01effusion")
    (film,) = mimic.read_labels(release, reports=True)
    assert film.findings is None
    assert "reports that cannot be read label no film: not text 1" in caplog.text
