"""Which files of a folder are DICOM films, whatever they are called: by their first bytes and their headers."""

import gzip
from collections import Counter
from pathlib import Path

import pytest

from tests.films import dicom, smooth
from tests.folders import CT, DX, FILM, KO, PDF, PR, SC, SR, bare, dicom_object, picture, put, taken
from thiscxr.collections import folder, nih
from thiscxr.collections.archives import ReleaseFile
from thiscxr.collections.collection import find_files
from thiscxr.pool.prepare import prepare

DIRECTORY = dicom_object("1.2.840.10008.1.3.10", "")


@pytest.mark.parametrize(
    "name",
    [
        "DICOM/PAT_0/IM_0001",
        "1.2.840.113619.2.55.3.1",
        "x.IMA",
        "x.dic",
        "x.DCM",
        "x.Dcm",
        "x.img",
        "x.dcm.old",
        "00000017",
        "x.gz",
    ],
)
@pytest.mark.parametrize("form", ["with a preamble", "bare", "bare implicit", "gzipped"])
def test_dicom_is_known_by_its_first_bytes(tmp_path, name, form):
    data = {"bare": bare(FILM), "bare implicit": bare(FILM, True), "gzipped": gzip.compress(FILM)}.get(form, FILM)
    put(tmp_path, {name: data, "README": b"a disc of films\n" * 40})
    names, dropped, beside = taken(tmp_path)
    assert (names, dropped, beside) == ([name], {}, {"file without a suffix": 1})
    (film,) = folder.read_labels(tmp_path)
    assert (film.patient, film.view) == ("p1", "PA")


def test_a_disc_gives_its_films_and_its_directory_is_none(tmp_path):
    put(tmp_path, {f"DICOM/S{i}/IM_000{i}": dicom(smooth(48, 48, 12, i)) for i in range(3)})
    put(
        tmp_path,
        {
            "DICOMDIR": DIRECTORY,
            "AUTORUN.INF": b"[autorun]\n",
            "VIEWER/view.exe": b"MZ" + bytes(600),
            "LIESMICH": b"\x08\0\0\0" * 200,
        },
    )
    summary = prepare(tmp_path / "pool", [("folder", tmp_path)], 32, max_rejected=0, key_file=tmp_path.parent / "key")
    assert summary.num_kept == 3
    assert summary.dropped == {"no film: DICOM Media Storage Directory": 1}
    assert summary.beside == {".exe file": 1, ".inf file": 1, "file without a suffix": 1}


def test_a_picture_without_a_suffix_is_a_film_and_with_an_unknown_one_is_not(tmp_path):
    put(
        tmp_path,
        {
            "scan": picture(1),
            "scan.cr2": b"II*\0" + bytes(600),
            "text": b"II am text" * 90,
            "a.jfif": b"x",
            "b.Bmp": b"x",
        },
    )
    assert taken(tmp_path) == (["a.jfif", "b.Bmp", "scan"], {}, {".cr2 file": 1, "file without a suffix": 1})


def test_only_what_may_be_dicom_is_opened(tmp_path, monkeypatch):
    put(tmp_path, {f"{number}.png": b"film" for number in range(5)} | {"README": bytes(10**6), "images_01": FILM})
    put(tmp_path, {"Data_Entry_2017.csv": b"", "a.JPEG": b"film", "b.tif": b"film"})
    opened: list[tuple[str, int]] = []
    head = ReleaseFile.head
    monkeypatch.setattr(
        ReleaseFile, "head", lambda file, size: opened.append((Path(file.name).name, size)) or head(file, size)
    )
    assert len(folder.read_labels(tmp_path)) == 8
    assert sorted(opened) == [("Data_Entry_2017.csv", 512), ("README", 512), ("images_01", 512), ("images_01", 2**18)]
    opened.clear()
    passed: Counter[str] = Counter()
    assert sorted(find_files(nih.NIH, tmp_path, {"0.png"}, {"0.png"}, passed)) == ["0.png"]
    assert opened == []  # a known layout: a million films, and none is opened
    assert +passed == {"film that no table lists": 6, "file without a suffix": 2, ".csv file": 1}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (dicom_object(PR, "PR"), "Grayscale Softcopy Presentation State"),
        (dicom_object(SR, "SR"), "X-Ray Radiation Dose SR"),
        (dicom_object(KO, "KO"), "Key Object Selection Document"),
        (dicom_object(PDF, "DOC"), "Encapsulated PDF"),
        (dicom_object("1.2.3.4.5", "SR"), "SR"),  # of a class of its maker
        (dicom(smooth(48, 48, 12), SOPClassUID=CT, Modality="CT"), "CT"),
        (
            dicom(smooth(48, 48, 12), SOPClassUID=CT, Modality="CT", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
            "localizer",
        ),
        (dicom(smooth(48, 48, 12), SOPClassUID=SC, Modality="US"), "US"),
    ],
)
@pytest.mark.parametrize("name", ["s0/x.dcm", "s0/X0002"])
def test_objects_of_a_study_that_are_no_films_do_not_count_as_broken_ones(tmp_path, data, reason, name):
    put(tmp_path, {"s0/CR1.dcm": FILM, name: data})
    pool = tmp_path.parent / f"{tmp_path.name}-pool"
    summary = prepare(pool, [("folder", tmp_path)], 32, max_rejected=0, key_file=tmp_path.parent / "key")
    assert (summary.num_kept, summary.num_rejected) == (1, 0)
    assert summary.dropped == {f"no film: DICOM {reason}": 1}


@pytest.mark.parametrize(
    "tags",
    [
        {"SOPClassUID": DX, "Modality": "CT"},  # the class is what its writer had to get right
        {"SOPClassUID": SC, "Modality": "OT"},
        {"SOPClassUID": CT, "Modality": "OT"},  # PNG files turned into DICOM after the best-known example
        {"SOPClassUID": "1.2.3.4.5", "Modality": ""},
        {"SOPClassUID": "no uid", "Modality": "RG", "ImageType": "ORIGINAL"},
    ],
)
def test_what_may_be_a_film_stays_one(tmp_path, tags):
    put(tmp_path, {"x.dcm": dicom(smooth(48, 48, 12), **tags)})
    assert taken(tmp_path)[:2] == (["x.dcm"], {})
