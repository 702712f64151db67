"""Each phantom release file by file: headers, paths, values, traps and pixels, as documented."""

import ast
import csv
import io
import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.releases import MANY, encoded, label_files, many_films, read_csv, similarity
from thiscxr.labels import FINDINGS, NEGATIVE, NOT_MENTIONED, POSITIVE, UNCERTAIN
from thiscxr.phantom.releases import labeler as layout_labeler
from thiscxr.phantom.releases import mimic as layout_mimic
from thiscxr.phantom.releases import padchest as layout_padchest
from thiscxr.phantom.releases.encode import equalised
from thiscxr.phantom.releases.folder import FORMS
from thiscxr.pixels import load_film, to_bits, to_square

MAPPINGS = Path(__file__).parents[3] / "shared" / "docs" / "label_mappings.json"


# --- NIH


def test_the_nih_tables_speak_nih():
    files = label_files("nih")
    header, *rows = csv.reader(io.StringIO(files["Data_Entry_2017_v2020.csv"].decode()))
    assert len(header) == 11
    assert (header[7], header[8]) == ("OriginalImage[Width", "Height]")
    assert all(len(row) == 11 and row[6] in ("PA", "AP") for row in rows)
    assert all(row[1] == "No Finding" or "No Finding" not in row[1] for row in rows)
    assert all(re.fullmatch(r"\d{8}_\d{3}\.png", row[0]) and int(row[0][:8]) == int(row[3]) for row in rows)
    # follow-up numbers are not the suffixes
    assert 0.03 < np.mean([int(row[0][9:12]) != int(row[2]) for row in rows]) < 0.3
    lists = [set(files[name].decode().split()) for name in ("train_val_list.txt", "test_list.txt")]
    assert set.union(*lists) == {row[0] for row in rows}
    assert not {name[:8] for name in lists[0]} & {name[:8] for name in lists[1]}  # no patient crosses
    assert 0.1 < len(lists[1]) / MANY < 0.35


def test_nih_films_are_one_channel_or_now_and_then_four():
    (_, drawn, grey), (_, _, colour) = encoded("nih", "L")[0], encoded("nih", "RGBA")[0]
    assert (Image.open(io.BytesIO(grey)).mode, Image.open(io.BytesIO(grey)).size) == ("L", (64, 64))
    assert (Image.open(io.BytesIO(colour)).mode, Image.open(io.BytesIO(colour)).size) == ("RGBA", (64, 64))
    assert load_film(io.BytesIO(colour)).pixels.shape == drawn.shape
    assert 0.005 < np.mean([film.form == "RGBA" for film in many_films("nih")]) < 0.05


def test_nih_squares_are_squashed_and_can_be_restored():
    gains = []
    for film, drawn, data in encoded("nih", "L", count=12):
        released = load_film(io.BytesIO(data)).pixels
        width, height = film.size
        whole = np.asarray(Image.fromarray(released).resize(film.size, Image.Resampling.BICUBIC))
        assert similarity(whole[(height - 64) // 2 :, (width - 64) // 2 :][:64, :64], drawn) > 0.99
        aspect = film.record.original_aspect
        assert aspect == pytest.approx(width / height, abs=0.02)
        if not 0.95 < aspect < 1.05:
            small = to_square(drawn, 32)
            gains.append(
                similarity(to_square(released, 32, aspect), small) - similarity(to_square(released, 32), small)
            )
    assert len(gains) > 4
    assert np.mean(gains) > 0.1


# --- CheXpert


def test_the_chexpert_tables_speak_chexpert():
    train, valid = (read_csv(label_files("chexpert")[f"CheXpert-v1.0-small/{name}.csv"]) for name in ("train", "valid"))
    labels = list(train[0])[5:]
    assert len(labels) == 14
    assert {row[name] for row in train for name in labels} == {"1.0", "0.0", "-1.0", ""}
    assert {row["No Finding"] for row in train} == {"1.0", ""}
    assert {row[name] for row in valid for name in labels} == {"1.0", "0.0"}  # three radiologists leave nothing open
    for row in train:
        said = {name for name in labels[1:] if row[name] in ("1.0", "-1.0")}
        assert row["No Finding"] == "" or said <= {"Support Devices"}
    assert all(int(re.search(r"patient(\d+)", row["Path"])[1]) > 64540 for row in valid)
    assert all(int(re.search(r"patient(\d+)", row["Path"])[1]) <= 64540 for row in train)
    assert [row["Path"] for row in train] == sorted(row["Path"] for row in train)
    by_study = defaultdict(set)
    for row in [*train, *valid]:
        match = re.fullmatch(
            r"CheXpert-v1\.0-small/(train|valid)/(patient\d{5}/study\d)/view[123]_(frontal|lateral)\.jpg", row["Path"]
        )
        assert match[3] == row["Frontal/Lateral"].lower()
        assert row["AP/PA"] in (("",) if match[3] == "lateral" else ("AP", "PA", "LL"))
        by_study[match[2]].add(tuple(row[name] for name in labels))
    assert {len(rows) for rows in by_study.values()} == {1}  # labels are those of the study
    assert {row["AP/PA"] for row in train} == {"AP", "PA", "LL", ""}
    assert {row["Sex"] for row in train} == {"Male", "Female", "Unknown"}
    assert "0" in {row["Age"] for row in train}


def test_the_labeler_hedges_but_does_not_invent():
    counts = Counter()
    for film in many_films("chexpert"):
        if "/train/" in film.path:
            drawn = layout_labeler.present(film.shot.body())
            for name, state in film.record.findings.items():
                if name not in ("No Finding", "Lung_Opacity"):
                    assert state != POSITIVE or name in drawn, (film.path, name)
                    assert state in (POSITIVE, UNCERTAIN) or name not in drawn, (film.path, name)
                counts[state] += 1
    assert all(counts[state] > MANY / 20 for state in (POSITIVE, NEGATIVE, UNCERTAIN, NOT_MENTIONED))


def test_chexpert_films_are_oblong_jpegs():
    for form, mode in (("black L", "L"), ("white L", "L"), ("black RGB", "RGB")):
        for film, _, data in encoded("chexpert", form, count=2):
            with Image.open(io.BytesIO(data)) as image:
                assert (image.format, image.mode, image.size) == ("JPEG", mode, film.size)
            if film.size != (64, 64):
                assert (load_film(io.BytesIO(data)).pixels[0, 0] > 250) == ("white" in form)
    sizes = Counter(film.size for film in many_films("chexpert"))
    assert set(sizes) == {(78, 64), (64, 78), (64, 64)}
    assert sizes[(64, 64)] < MANY / 10


# --- MIMIC-CXR


@pytest.mark.slow
def test_the_mimic_tree_and_tables_agree():
    labels = {f"mimic-cxr-2.0.0-{name}.csv.gz" for name in ("metadata", "split", "chexpert", "negbio")}
    assert set(label_files("mimic-cxr-jpg")) == labels
    assert set(label_files("mimic-cxr")) == labels | {
        "cxr-record-list.csv.gz",
        "cxr-study-list.csv.gz",
        "patients.csv.gz",
    }
    for layout, suffix in (("mimic-cxr", ".dcm"), ("mimic-cxr-jpg", ".jpg")):
        paths = set()
        for row in read_csv(label_files(layout)["mimic-cxr-2.0.0-metadata.csv.gz"]):
            subject, study = row["subject_id"], row["study_id"]
            paths.add(f"files/p{subject[:2]}/p{subject}/s{study}/{row['dicom_id']}{suffix}")
        assert paths == {film.path for film in many_films(layout)}
        assert all(
            re.fullmatch(r"files/p1\d/p1\d{7}/s5\d{7}/([0-9a-f]{8}-){4}[0-9a-f]{8}\.\w+", path) for path in paths
        )
    assert {row["path"] for row in read_csv(label_files("mimic-cxr")["cxr-record-list.csv.gz"])} == {
        film.path for film in many_films("mimic-cxr")
    }


def test_the_mimic_tables_speak_mimic():
    metadata, split, chexpert, negbio = (
        read_csv(label_files("mimic-cxr")[f"mimic-cxr-2.0.0-{name}.csv.gz"])
        for name in ("metadata", "split", "chexpert", "negbio")
    )
    assert tuple(metadata[0]) == layout_mimic.METADATA
    assert list(split[0]) == ["dicom_id", "study_id", "subject_id", "split"]
    assert [row["dicom_id"] for row in metadata] == [row["dicom_id"] for row in split]
    splits = defaultdict(set)
    for row in split:
        splits[row["subject_id"]].add(row["split"])
    assert Counter(map(len, splits.values())).keys() == {1}
    assert set.union(*splits.values()) == {"train", "validate", "test"}
    assert {subject[:2] for subject in splits} == {f"1{digit}" for digit in range(10)}
    assert {"AP", "PA", "LATERAL", "LL", ""} < {row["ViewPosition"] for row in metadata}
    assert 0.02 < np.mean([row["ViewPosition"] == "" for row in metadata]) < 0.07
    recumbent = {
        row["ViewPosition"] for row in metadata if row["PatientOrientationCodeSequence_CodeMeaning"] == "Recumbent"
    }
    assert recumbent <= {"AP", "AP LLD", "AP RLD", ""}
    assert all(re.fullmatch(r"2[12]\d\d(0[1-9]|1[0-2])[0-2]\d", row["StudyDate"]) for row in metadata)
    studies = {row["study_id"] for row in metadata}
    for rows in (chexpert, negbio):
        assert list(rows[0]) == [
            "subject_id",
            "study_id",
            *(layout_mimic.COLUMNS[name] for name in layout_mimic.LABELS),
        ]
        named = {row["study_id"] for row in rows}
        assert len(named) == len(rows)
        assert 0 < len(studies - named) < 0.05 * len(studies)
        assert {value for row in rows for value in list(row.values())[2:]} == {"1.0", "0.0", "-1.0", ""}
    assert 0 < sum(one != other for one, other in zip(chexpert, negbio, strict=True)) < len(chexpert) / 3


def test_equalised_as_opencv_does():
    assert equalised(np.array([[0, 0], [1, 2]], np.uint8)).tolist() == [[0, 0], [128, 255]]
    assert equalised(np.full((2, 2), 7, np.uint8)).tolist() == [[7, 7], [7, 7]]
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(equalised(ramp), ramp)


def test_mimic_jpegs_are_equalised():
    for _, drawn, data in encoded("mimic-cxr-jpg", count=6):
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.mode) == ("JPEG", "L")
            pixels = np.asarray(image)
        # all but the black, which keeps its place
        shares = [np.mean(film[film > 12] <= 200) for film in (pixels, drawn)]
        assert shares[0] == pytest.approx(200 / 255, abs=0.04)
        assert abs(shares[1] - 200 / 255) > 0.1
        assert pixels.max() > 250


@pytest.mark.parametrize("form", layout_mimic.FORMS)
def test_mimic_dicom_files_are_of_both_polarities_with_and_without_a_window(form):
    for film, drawn, data in encoded("mimic-cxr", form, count=2):
        file = pydicom.dcmread(io.BytesIO(data))
        stored = file.pixel_array
        assert (file.BitsAllocated, file.BitsStored, file.HighBit, stored.dtype) == (16, 12, 11, np.uint16)
        assert file.PhotometricInterpretation == form.split()[0]
        assert ("WindowCenter" in file) == ("windowed" in form)
        assert (file.Columns, file.Rows) == film.size
        assert (file.PatientID, file.SOPInstanceUID) == (film.record.patient, file.file_meta.MediaStorageSOPInstanceUID)
        assert "no patient" in file.ImageComments
        middle = stored[(film.size[1] - 64) // 2 :, (film.size[0] - 64) // 2 :][:64, :64].astype(int)
        assert np.array_equal((4095 - middle if "MONOCHROME1" in form else middle) // 16, drawn)
        loaded = load_film(io.BytesIO(data))
        assert loaded.inverted == ("MONOCHROME1" in form)
        assert similarity(to_bits(to_square(loaded.pixels, 64), 8), drawn) > 0.99


# --- PadChest


@pytest.fixture(scope="module")
def padchest():
    return read_csv(label_files("padchest")[layout_padchest.TABLE])


def test_the_padchest_table_speaks_padchest(padchest):
    assert len(padchest[0]) == 36
    assert [row[""] for row in padchest] == [str(i) for i in range(MANY)]
    for row in padchest:
        machine = row["MethodLabel"] == "RNN_model"
        assert re.fullmatch(r"\d{37,39}", row["PatientID"])
        assert re.fullmatch(
            row["StudyID"] + (r"_\d\d-\d{3}-\d{3}\.png" if machine else r"_[0-9a-z]{6}\.png"), row["ImageID"]
        )
        assert len(row["StudyID"]) in ((45,) if machine else (38, 39))
        if row["Labels"] != "nan":
            assert all(
                isinstance(ast.literal_eval(row[name]), list)
                for name in ("Labels", "Localizations", "LabelsLocalizationsBySentence")
            )
    assert padchest[-1]["ImageDir"] in ("50", "54")
    assert sum(row["ImageDir"] == "50" for row in padchest) <= 1
    assert {int(row["ImageDir"]) for row in padchest} >= {*range(50), 54}
    assert {row["MethodLabel"] for row in padchest if row["ImageDir"] == "54"} == {"Physician"}
    assert {row["Projection"] for row in padchest} == {"PA", "L", "AP", "AP_horizontal", "COSTAL", "EXCLUDE", "UNK"}
    assert {row["PatientSex_DICOM"] for row in padchest} == {"M", "F", "O", "nan"}
    assert {row["BitsStored_DICOM"] for row in padchest} == {"12", "10"}
    assert {row["Pediatric"] for row in padchest} == {"No", "PED"}
    assert "nan" in {row["PatientBirth"] for row in padchest}
    assert any("\n" in row["LocalizationsCUIS"] for row in padchest)  # a cell of two lines


def test_padchest_labels_have_all_the_traps(padchest):
    texts = Counter(row["Labels"] for row in padchest)
    lists = [ast.literal_eval(text) for text in texts if text != "nan"]
    assert min(texts["nan"], texts["['']"], texts["['exclude']"], texts["['normal']"]) > 10
    assert any(word != word.strip() for words in lists for word in words)
    assert any(len(set(map(str.strip, words))) < len(words) for words in lists)
    for word in ("", "normal", "unchanged", "suboptimal study"):
        assert any(word in words and len(words) > 1 for words in lists), word
    by_study, patients_of = defaultdict(set), {"StudyID": defaultdict(set), "ReportID": defaultdict(set)}
    for row in padchest:
        by_study[row["StudyID"]].add(row["Labels"])
        for name, patients in patients_of.items():
            patients[row[name]].add(row["PatientID"])
    assert {len(labels) for labels in by_study.values()} == {1}
    for name, patients in patients_of.items():
        assert 0 < sum(len(who) > 1 for who in patients.values()) < MANY / 50, name


def test_padchest_films_of_ten_bits_are_four_times_as_dark():
    for form in ("12", "10"):
        for film, drawn, data in encoded("padchest", form, count=2):
            with Image.open(io.BytesIO(data)) as image:
                pixels = np.asarray(image)
            assert (pixels.dtype, pixels.shape[::-1]) == (np.uint16, film.size)
            assert pixels.max() == pytest.approx(drawn.max() / 255 * 65535 * 2 ** int(form) / 4096, rel=0.01)
            assert 300 < len(np.unique(pixels)) <= 2 ** int(form)  # there is something below the eighth bit


def test_padchest_words_mean_what_the_reference_says():
    if not MAPPINGS.is_file():
        pytest.skip(f"the reference mapping is not here: {MAPPINGS}")
    mapping = json.loads(MAPPINGS.read_text())["padchest"]
    for word, token in layout_padchest.TOKENS.items():
        for finding in FINDINGS:
            positive = word in mapping.get(finding, {}).get("tokens", ())
            masked = word in mapping.get(finding, {}).get("mask_tokens", ())
            assert (finding in token.positive, finding in token.blank) == (positive, masked and not positive), (
                word,
                finding,
            )


# --- Open-I


def test_the_openi_reports_and_films_agree(reports):
    named = [image.get("id") for report in reports for image in report.iterfind("parentImage")]
    films = {Path(film.path).stem for film in many_films("openi")}
    assert len(named) == len(set(named))
    assert films - set(named) == {Path(film.path).stem for film in many_films("openi") if film.record.refused}
    assert len(films) - len(named) == 2
    assert sum(report.find("parentImage") is None for report in reports) == 1
    for path, report in zip(label_files("openi"), reports, strict=True):
        number = Path(path).stem
        assert path == f"ecgen-radiology/{number}.xml"
        assert report.find("uId").get("id") == f"CXR{number}"
        assert all(image.get("id").startswith(f"CXR{number}_") for image in report.iterfind("parentImage"))
    assert all(re.fullmatch(r"CXR(1_)?\d+_IM-\d{4}-\d001", name) for name in films)
    assert any(name.startswith("CXR1_1_IM") for name in films)


def test_the_openi_headings_have_all_the_traps(reports):
    headings = [[major.text for major in report.iterfind("MeSH/major")] for report in reports]
    assert all(len(mine) == 1 or not {"normal", "No Indexing"} & set(mine) for mine in headings)
    used = Counter(heading for mine in headings for heading in mine)
    assert {
        "normal",
        "No Indexing",
        "Subcutaneous Emphysema/thorax",
        ("Technical Quality of Image Unsatisfactory "),
    } < used.keys()
    assert not any("SIDE" in heading for heading in used)


def test_openi_films_are_oblong_pngs_of_one_channel_or_three():
    for form in ("L", "RGB"):
        film, drawn, data = encoded("openi", form)[0]
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.mode, image.size) == ("PNG", form, film.size)
        assert np.array_equal(to_square(load_film(io.BytesIO(data)).pixels, 64), drawn)


# --- the folder


def test_the_folder_has_a_column_for_every_finding():
    rows = read_csv(label_files("folder")["metadata.csv"])
    assert tuple(rows[0])[6:] == FINDINGS
    assert {row["Fibrosis"] for row in rows} == {"-3"}
    assert {row["Cardiomegaly"] for row in rows} == {"0", "1"}


@pytest.mark.parametrize("form", FORMS)
def test_the_folder_mixes_all_formats(form):
    film, drawn, data = encoded("folder", form)[0]
    assert film.path.endswith("." + form.split()[-1])
    if form.endswith("dcm"):
        assert pydicom.dcmread(io.BytesIO(data)).PhotometricInterpretation == form.split()[1]
    loaded = load_film(io.BytesIO(data))
    assert loaded.native_bits == {"png": 8, "jpg": 8, "tif": 8, "16-bit png": 16}.get(form, 12)
    assert similarity(loaded.pixels, drawn) > 0.99
