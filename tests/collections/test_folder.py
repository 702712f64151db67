"""Plain folders: patients and splits by names and headers, odd names, and reports."""

import os
from pathlib import Path

import numpy as np

from tests.films import dicom, png
from tests.folders import write_films
from thiscxr.collections import find_files, folder
from thiscxr.collections.splits import Splits
from thiscxr.labels import FINDINGS, NOT_ANNOTATED, NOT_MENTIONED
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


def test_dicom_headers_give_view_sex_age_patient_and_study(tmp_path):
    header = {
        "ViewPosition": "LL",
        "PatientSex": "F",
        "PatientAge": "044Y",
        "PatientID": "secret",
        "StudyInstanceUID": "1.2.3.4",
    }
    write_dicoms(tmp_path, {"a.dcm": header, "b.dcm": {**header, "ViewPosition": "PA"}, "c.dcm": {}})
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


def test_a_warning_when_nothing_identifies_the_patients(tmp_path, caplog):
    names = [f"{kind}/{number}.png" for kind in ("NORMAL", "PNEUMONIA") for number in range(3)]
    assert len({film.patient for film in folder.read_labels(write_films(tmp_path, *names))}) == 6
    assert "the patient of 6 of 6 films is unknown" in caplog.text
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
    found = {film.file: splits.of("folder", film) for film in films}
    assert [found[name] for name in names] == ["train", "train", "holdout", "holdout", "holdout"]


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
