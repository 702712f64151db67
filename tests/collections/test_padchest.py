"""PadChest: tokens and masks, the rows it rules out itself, patients tied together, layouts, and the messages for what
is wrong."""

import ast
import csv
import gzip
import logging
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thiscxr.collections import find_files, padchest
from thiscxr.labels import FINDINGS, NEGATIVE, NOT_MENTIONED, POSITIVE

COLUMNS = [
    "", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM",
    "ViewPosition_DICOM", "Projection", "MethodProjection", "Pediatric", "Modality_DICOM", "Manufacturer_DICOM",
    "PhotometricInterpretation_DICOM", "PixelRepresentation_DICOM", "PixelAspectRatio_DICOM", "SpatialResolution_DICOM",
    "BitsStored_DICOM", "WindowCenter_DICOM", "WindowWidth_DICOM", "Rows_DICOM", "Columns_DICOM",
    "XRayTubeCurrent_DICOM", "Exposure_DICOM", "ExposureInuAs_DICOM", "ExposureTime", "RelativeXRayExposure_DICOM",
    "ReportID", "Report", "MethodLabel", "Labels", "Localizations", "LabelsLocalizationsBySentence", "labelCUIS",
    "LocalizationsCUIS",
]  # fmt: skip
STUDY, PATIENT = "20536686640136348236148679891455886468", "839860488694292331637988235681460987"
ROW = dict.fromkeys(COLUMNS, "nan") | {
    "": "0", "ImageID": f"{STUDY}_k6ga29.png", "ImageDir": "0", "StudyDate_DICOM": "20140915", "StudyID": STUDY,
    "PatientID": PATIENT, "PatientBirth": "1930.0", "PatientSex_DICOM": "F", "ViewPosition_DICOM": "POSTEROANTERIOR",
    "Projection": "PA", "Pediatric": "No", "ReportID": "4765777", "Report": " sin hallazg patolog edad pacient .",
    "MethodLabel": "Physician", "Labels": "['normal']",
}  # fmt: skip


def row(number: int = 0, **cells: str) -> dict[str, str]:
    """A row of its own patient, study and report."""
    own = {"ImageID": f"{number}.png", "StudyID": f"9{number}", "PatientID": f"8{number}", "ReportID": f"7{number}"}
    return {**ROW, **own, **cells}


def write(root: Path, *rows: dict[str, str], columns: list[str] = COLUMNS, name: str = padchest.TABLES[0]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    with open(root / name, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows([list(cells.values()) for cells in rows])
    return root


def findings_of(root: Path, labels: str) -> dict[str, int]:
    (film,) = padchest.read_labels(write(root, row(Labels=labels)))
    assert film.refused == ""
    return dict(film.findings)


def test_a_row_of_the_release(tmp_path):
    (film,) = padchest.read_labels(write(tmp_path, ROW))
    assert (film.film, film.file, film.patient, film.study) == (ROW["ImageID"], ROW["ImageID"], PATIENT, STUDY)
    assert (film.view, film.sex, film.age_years, film.split, film.split_as) == ("PA", "F", 84.0, None, None)
    assert (film.labeler, film.refused) == ("physician", "")
    assert dict(zip(FINDINGS, film.states(), strict=True)) == {
        **dict.fromkeys(FINDINGS, NEGATIVE),
        "No Finding": POSITIVE,
    }


def test_tokens_are_whole_words_of_the_list(tmp_path):
    found = findings_of(
        tmp_path,
        "['pseudonodule', ' soft tissue mass', 'subcutaneous emphysema', 'pericardial effusion', 'NSG tube ', '']",
    )
    assert {name for name, state in found.items() if state != NEGATIVE} == {"Support_Devices"}
    found = findings_of(tmp_path, "['nodule', 'pulmonary mass', 'emphysema', 'loculated pleural effusion']")
    assert {name for name, state in found.items() if state == POSITIVE} == {
        "Nodule",
        "Mass",
        "Emphysema",
        "Effusion",
        "Lung_Lesion",
    }
    assert {name for name, state in found.items() if state == NOT_MENTIONED} == {
        "Lung_Opacity"
    }  # masked: such a shadow may be called opacity


def test_a_mask_token_hides_a_finding_unless_it_is_there(tmp_path):
    found = findings_of(tmp_path, "['COPD signs', 'costophrenic angle blunting', 'granuloma']")
    masked = {"Emphysema", "Effusion", "Nodule", "Lung_Lesion"}
    assert {name for name, state in found.items() if state == NOT_MENTIONED} == masked
    assert {found[name] for name in found if name not in masked} == {NEGATIVE}
    assert findings_of(tmp_path, "['COPD signs', 'emphysema']")["Emphysema"] == POSITIVE


@pytest.mark.parametrize("word", ["unchanged", "suboptimal study"])
def test_findings_that_a_silent_report_does_not_name_are_not_mentioned(tmp_path, word):
    found = findings_of(tmp_path, f"['{word}', 'cardiomegaly']")
    assert found == {**dict.fromkeys(FINDINGS, NOT_MENTIONED), "Cardiomegaly": POSITIVE}


def test_normal_counts_alone(tmp_path):
    assert findings_of(tmp_path, "['normal', '']")["No Finding"] == POSITIVE
    assert findings_of(tmp_path, "['normal', 'scoliosis']")["No Finding"] == NEGATIVE
    assert findings_of(tmp_path, "['normal', 'unchanged']")["No Finding"] == NOT_MENTIONED


NO_LISTS_OF_WORDS = ("nodule", "['a'", "[1]", "['a' * 10**9]", "[" * 9999, "__import__('os')")


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ("nan", "labels missing"), ("", "labels missing"), ("None", "labels missing"),
        ("['']", "labels empty"), ("[]", "labels empty"),
        ("['exclude']", "labels say exclude"), ("['exclude', 'nodule']", "labels say exclude"),
        *((odd, "labels are not a list of words") for odd in NO_LISTS_OF_WORDS),
    ],
)  # fmt: skip
def test_refused_rows_have_a_reason(tmp_path, labels, reason):
    one, odd = padchest.read_labels(write(tmp_path, row(1), row(2, Labels=labels)))
    assert (one.refused, odd.refused) == ("", reason)
    assert set(odd.states()) == {NOT_MENTIONED}


def test_unknown_words_are_named_once(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        padchest.read_labels(
            write(tmp_path, row(1, Labels="['nodul', 'unchanged', 'scoliosis']"), row(2, Labels="['nodul']"))
        )
    assert caplog.text.count("Labels: words that are not understood count as unknown: 'nodul' (2)\n") == 1


@pytest.mark.parametrize(
    ("projection", "view"),
    [
        ("PA", "PA"), ("AP", "AP"), ("AP_horizontal", "AP_supine"), ("L", "lateral"), ("COSTAL", "other"),
        ("EXCLUDE", "other"), ("UNK", "unknown"), ("nan", "unknown"),
    ],
)  # fmt: skip
def test_views(tmp_path, projection, view):
    assert padchest.read_labels(write(tmp_path, row(Projection=projection)))[0].view == view


@pytest.mark.parametrize(
    ("date", "birth", "age"),
    [
        ("20140915", "1930.0", 84.0),
        ("20140915", "1909", 105.0),
        ("20140915", "", None),
        ("nan", "1930.0", None),
        ("20140915", "2015.0", None),
    ],
)
def test_ages_are_at_the_study(tmp_path, date, birth, age):
    assert padchest.read_labels(write(tmp_path, row(StudyDate_DICOM=date, PatientBirth=birth)))[0].age_years == age


@pytest.mark.parametrize(("text", "sex"), [("M", "M"), ("F", "F"), ("O", "unknown"), ("nan", "unknown")])
def test_sexes(tmp_path, text, sex):
    assert padchest.read_labels(write(tmp_path, row(PatientSex_DICOM=text)))[0].sex == sex


def test_labelers(tmp_path):
    films = padchest.read_labels(write(tmp_path, row(1), row(2, MethodLabel="RNN_model"), row(3, MethodLabel="")))
    assert [film.labeler for film in films] == ["physician", "RNN", ""]


def test_patients_who_share_a_study_or_a_report_are_split_as_one(tmp_path):
    rows = [
        row(1, PatientID="30", StudyID="a"), row(2, PatientID="9", StudyID="a", ReportID="b"),
        row(3, PatientID="100", ReportID="b"),
        row(4, PatientID="100"), row(5, PatientID="1", ReportID="nan"), row(6, PatientID="2", ReportID="nan"),
        row(7, PatientID="3", StudyID="a"),
    ]  # fmt: skip
    films = padchest.read_labels(write(tmp_path, *rows))
    assert [film.split_as for film in films] == [("padchest", "3")] * 4 + [None, None, ("padchest", "3")]
    assert [film.patient for film in films] == ["30", "9", "100", "100", "1", "2", "3"]


@given(links=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), max_size=12))
def test_ties_are_the_connected_sets(links):
    groups = [{node} for node in range(1, 13)]
    for one, other in links:
        first, second = (next(group for group in groups if node in group) for node in (one, other))
        if first is not second:
            first |= second
            groups.remove(second)
    expected = {
        str(node): str(min(next(group for group in groups if node in group))) for link in links for node in link
    }
    assert padchest.tie_patients([(str(one), str(other)) for one, other in links]) == expected


@pytest.mark.parametrize(
    "layout", ["0/{}", "images/{}", "{}", "images-224/{}", "Padchest/54/{}", "2.zip", "images/jpg"]
)
def test_layouts_are_found_without_a_word(tmp_path, layout):
    name = ROW["ImageID"]
    path = tmp_path / layout.format(name)
    if layout == "images/jpg":
        path = tmp_path / "images" / name.replace(".png", ".jpg")
    path.parent.mkdir(parents=True, exist_ok=True)
    if layout.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "x")
    else:
        path.touch()
    (film,) = padchest.read_labels(write(tmp_path, ROW))
    found = find_files(padchest.PADCHEST, tmp_path, {film.file: film})
    assert [Path(file.path) for file in found.values()] == [path]


def test_the_table_may_be_gzipped_and_in_a_folder(tmp_path):
    write(tmp_path / "release", ROW)
    path = tmp_path / "release" / padchest.TABLES[0]
    (tmp_path / "release" / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert padchest.read_labels(tmp_path)[0].patient == PATIENT


@pytest.mark.parametrize(
    "column",
    [
        "ImageID",
        "StudyDate_DICOM",
        "StudyID",
        "PatientID",
        "PatientBirth",
        "PatientSex_DICOM",
        "Projection",
        "ReportID",
        "MethodLabel",
        "Labels",
    ],
)
def test_a_missing_column_is_named_with_the_nearest_name(tmp_path, column):
    write(tmp_path, ROW, columns=[name + "s" * (name == column) for name in COLUMNS])
    with pytest.raises(ValueError, match=rf"has no column '{column}' \(did you mean '{column}s'\?\)"):
        padchest.read_labels(tmp_path)


def test_other_bad_tables(tmp_path):
    with pytest.raises(ValueError, match="no PadChest label table; expected PADCHEST_chest_x_ray"):
        padchest.read_labels(tmp_path)
    for column in ("ImageID", "PatientID", "StudyID"):
        with pytest.raises(ValueError, match=rf"01\.02\.19\.csv line 3 has no {column}; the table is damaged"):
            padchest.read_labels(write(tmp_path, row(1), row(2, **{column: "nan"})))
    path = write(tmp_path, row(1)) / padchest.TABLES[0]
    path.write_bytes(path.read_bytes().replace(b"hallazg", b"hallazg\xf3"))  # Latin-1, which was an error
    assert len(padchest.read_labels(tmp_path)) == 1


ROUNDED = [
    "1.83E+38",
    "1,83E+38",
    "1.82658174744118E+38",
    "182658174744117000000000000000000000000",
    "182658174744117740002113468194822815744",
]


@pytest.mark.parametrize("column", ["PatientID", "StudyID", "ReportID"])
@pytest.mark.parametrize("rounded", ROUNDED)
def test_ids_that_a_spreadsheet_has_rounded_are_refused(tmp_path, column, rounded):
    """They tied unrelated patients together: the first two are what Excel shows, the last is a float written out as an
    integer."""
    with pytest.raises(ValueError, match=rf"{column} .* is an id that a spreadsheet has rounded") as caught:
        padchest.read_labels(write(tmp_path, row(1), row(2, **{column: rounded})))
    assert padchest.TABLES[0] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_a_spreadsheet_has_saved_with_semicolons(tmp_path):
    path = write(tmp_path, ROW) / padchest.TABLES[0]
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    with open(path, "w", encoding="utf-16", newline="") as file:
        file.write("sep=;\r\n")
        csv.writer(file, delimiter=";").writerows(rows)
    (film,) = padchest.read_labels(tmp_path)
    assert (film.patient, film.view, film.sex, film.age_years) == (PATIENT, "PA", "F", 84.0)


@given(words=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\\"), max_size=12), max_size=5))
def test_lists_are_read_as_python_prints_them(words):
    printed = repr(words)
    tokens = padchest.label_tokens(printed)
    if "\\" not in printed:  # the release escapes nothing
        assert tokens == {token for word in ast.literal_eval(printed) if (token := word.strip())}
    else:
        assert tokens is None


def films_or_message(root: Path) -> list | str:
    try:
        return padchest.read_labels(root)
    except ValueError as error:
        return str(error)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(COLUMNS), TEXT | st.sampled_from(["['nodule']", "nan"])), max_size=5),
    length=st.integers(0, 38),
)
def test_any_cells_give_rows_or_one_line(tmp_path_factory, rows, length):
    root = tmp_path_factory.mktemp("padchest")
    cells = [row(index, **changed) for index, changed in enumerate(rows)]
    write(root, *cells[:-1], *(dict(list(last.items())[:length]) for last in cells[-1:]))
    outcome = films_or_message(root)
    if isinstance(outcome, str):
        assert f"{padchest.TABLES[0]} " in outcome
        assert " line " in outcome
        assert "\n" not in outcome
    else:
        assert len(outcome) in (len(rows), len(rows) - 1)  # a row of nothing is no row


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=200), keep_header=st.booleans())
def test_any_bytes_give_rows_or_one_line(tmp_path_factory, data, keep_header):
    root = write(tmp_path_factory.mktemp("padchest"))
    path = root / padchest.TABLES[0]
    path.write_bytes((path.read_bytes() if keep_header else b"") + data)
    outcome = films_or_message(root)
    if isinstance(outcome, str):
        assert padchest.TABLES[0] in outcome
        assert "\n" not in outcome
