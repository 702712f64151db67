"""What lies in a folder besides the films: counted by kind, never a film by mistake, and never the reason why one is
lost."""

import gzip
import io
import logging
import os
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian

from tests.films import dicom, png, smooth
from thiscxr.collections import archives, folder, nih
from thiscxr.collections.archives import HIDDEN, NO_FILE, ReleaseFile, walk
from thiscxr.collections.beside import kind
from thiscxr.collections.collection import COPY, IMAGE_SUFFIXES, find_files
from thiscxr.collections.plan import wanted_films
from thiscxr.pool.prepare import prepare

FILM = dicom(smooth(48, 48, 12), PatientID="p1", ViewPosition="PA")
PR, SR, KO = "1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.88.67", "1.2.840.10008.5.1.4.1.1.88.59"
PDF, CT, DX, SC = (
    "1.2.840.10008.5.1.4.1.1.104.1",
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.7",
)


def put(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def picture(seed: int, side: int = 40) -> bytes:
    return png(smooth(side, side, 8, seed))


def zipped(members: dict[str, bytes], **options) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def dicom_object(sop_class: str, modality: str, **tags) -> bytes:
    """A DICOM object without pixels."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = (
        sop_class,
        "1.2.3",
        ExplicitVRLittleEndian,
    )
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality, dataset.PatientID = (
        sop_class,
        "1.2.3",
        modality,
        "p1",
    )
    for name, value in tags.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def bare(data: bytes, implicit: bool = False) -> bytes:
    """The same data set without preamble and file meta information, as old archives store it."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    del dataset.file_meta
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()


def taken(root: Path, *more: Path) -> tuple[list[str], dict[str, int], dict[str, int]]:
    """The paths of the films of one folder, or the ids of several; why others were not taken; what lies beside."""
    (part,) = wanted_films([("folder", path) for path in (root, *more)])
    names = [film.film if more else film.file for film in part.films.values() if film.film in part.files]
    for film, data in part.streamed(lambda film: False):
        assert data
        names.append(film.film if more else film.file)
    return names, dict(+part.dropped), dict(+part.beside)


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


def test_a_picture_without_a_suffix_is_a_film_and_with_a_strange_one_is_not(tmp_path):
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
    asked: list[tuple[str, int]] = []
    head = ReleaseFile.head
    monkeypatch.setattr(
        ReleaseFile, "head", lambda file, size: asked.append((Path(file.name).name, size)) or head(file, size)
    )
    assert len(folder.read_labels(tmp_path)) == 8
    assert sorted(asked) == [("Data_Entry_2017.csv", 512), ("README", 512), ("images_01", 512), ("images_01", 2**18)]
    asked.clear()
    passed: Counter[str] = Counter()
    assert sorted(find_files(nih.NIH, tmp_path, {"0.png"}, {"0.png"}, passed)) == ["0.png"]
    assert asked == []  # a known layout: a million films, and none is opened to see what it is
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


def test_folders_of_one_name_are_told_apart_by_what_is_above_them(tmp_path):
    roots = [
        tmp_path / "siteA" / "images",
        tmp_path / "siteB" / "images",
        tmp_path / "more" / "siteB" / "images",
        tmp_path / "films",
    ]
    for number, root in enumerate(roots):
        put(root, {f"00{i}.png": picture(10 * number + i) for i in range(1, 4)})
    a, b, c, other = roots
    assert taken(a, b)[:2] == ([f"site{site}/images/00{i}.png" for site in "AB" for i in (1, 2, 3)], {})
    assert taken(b, a) == taken(a, b)
    names, dropped, _ = taken(a, b, c, other)
    assert dropped == {}
    heads = ["films", "more/siteB/images", "siteA/images", f"{tmp_path.name}/siteB/images"]
    assert names == sorted(f"{head}/00{i}.png" for head in heads for i in (1, 2, 3))
    (part,) = wanted_films([("folder", a), ("folder", b)])
    assert len({film.patient for film in part.films.values()}) == 6
    key = tmp_path / "key"
    pools = [
        prepare(tmp_path / f"pool{n}", [("folder", root) for root in order], 32, key_file=key)
        for n, order in enumerate([(a, b), (b, a)])
    ]
    assert [pool.num_kept for pool in pools] == [6, 6]
    assert pools[0].fingerprint == pools[1].fingerprint


def test_a_folder_that_is_given_twice_or_lies_in_another_counts_once(tmp_path):
    outer = put(tmp_path / "outer", {"a.png": picture(1), "inner/b.png": picture(2)})
    (tmp_path / "link").symlink_to(outer)
    for more in ([outer], [tmp_path / "link"], [outer / ".." / "outer"]):
        assert taken(outer, *more)[:2] == (["outer/a.png", "outer/inner/b.png"], {"listed twice": 2})
    for order in ([outer, outer / "inner"], [outer / "inner", outer], [outer, outer / "inner", outer]):
        names, dropped, _ = taken(*order)
        assert names == ["outer/a.png", "outer/inner/b.png"]
        assert set(dropped) == {"listed twice"}


def test_two_folders_of_tars_that_hold_the_same_names(tmp_path):
    for site in "AB":
        put(
            tmp_path / site / "images",
            {"films.tar.gz": tarred({"x/1.png": picture(ord(site)), "x/notes.txt": b"no film"})},
        )
    names, dropped, beside = taken(tmp_path / "A" / "images", tmp_path / "B" / "images")
    assert (names, dropped, beside) == (["A/images/x/1.png", "B/images/x/1.png"], {}, {".txt file": 2})


@pytest.mark.parametrize("suffix", ["zip", "ZIP", "tar", "tar.gz", "tgz", "tbz2", "tar.xz"])
def test_a_folder_that_holds_only_archives_gives_their_films(tmp_path, suffix):
    films = {
        "a/1.png": picture(1),
        "a/IM_0001": FILM,
        "__MACOSX/a/._1.png": b"mac",
        "a/.DS_Store": b"mac",
        "a/README": b"text" * 200,
    }
    films |= {"inner.zip": zipped({"2.png": picture(2)}), "p.dcm": dicom_object(PR, "PR")}
    kinds = {"tar": "w:", "tar.gz": "w:gz", "tgz": "w:gz", "tbz2": "w:bz2", "tar.xz": "w:xz"}
    put(tmp_path, {f"sub/films.{suffix}": zipped(films) if suffix.lower() == "zip" else tarred(films, kinds[suffix])})
    names, dropped, beside = taken(tmp_path)
    assert names == ["sub/a/1.png", "sub/a/IM_0001"]
    assert dropped == {"no film: DICOM Grayscale Softcopy Presentation State": 1}
    assert beside == {HIDDEN: 2, "file without a suffix": 1, ".zip archive, not looked into: unpack it": 1}


def test_backslashes_of_windows_part_folders(tmp_path):
    put(
        tmp_path,
        {
            "images/films.zip": zipped(
                {"x\\1.png": picture(1), "x\\IM_1": FILM, "x\\": b"", "__MACOSX\\._1.png": b"mac"}
            )
        },
    )
    names, dropped, beside = taken(tmp_path)
    assert (names, dropped, beside) == (["images/x/1.png", "images/x/IM_1"], {}, {HIDDEN: 1})
    (part,) = wanted_films([("folder", tmp_path)])
    assert part.files[f"{tmp_path.name}/images/x/1.png"].read() == picture(1)


@pytest.mark.parametrize(
    "kinds", [("zip", "zip"), ("zip", "tar"), ("tar", "tar"), ("tar.gz", "tar.gz"), ("zip", "tar.gz")]
)
def test_archives_with_the_same_names_in_them_are_told_apart_and_copies_are_not(tmp_path, kinds):
    one, two = {"IM1": dicom(smooth(48, 48, 12, 1)), "c.png": picture(5)}, {"IM1": dicom(smooth(48, 48, 12, 2))}
    for number, (films, form) in enumerate(zip((one, two), kinds, strict=True)):
        data = zipped(films) if form == "zip" else tarred(films, "w:gz" if form == "tar.gz" else "w:")
        put(tmp_path, {f"{number}.{form}": data})
    assert sorted(taken(tmp_path)[0]) == sorted(["IM1", f"1.{kinds[1]}/IM1", "c.png"])
    put(tmp_path, one)  # unpacked where it lies, and the archive left there
    names, _, beside = taken(tmp_path)
    assert sorted(names) == sorted(["IM1", f"1.{kinds[1]}/IM1", "c.png"])
    assert beside[COPY] >= 2


@pytest.mark.parametrize("form", ["w:", "w:gz"])
def test_a_tar_of_the_folder_itself_has_the_names_of_the_folder(tmp_path, form):
    put(
        tmp_path,
        {"films.tgz" if form == "w:gz" else "films.tar": tarred({"./x/1.png": picture(1), "./x/IM1": FILM}, form)},
    )
    assert sorted(taken(tmp_path)[0]) == ["x/1.png", "x/IM1"]
    put(tmp_path, {"metadata.csv": b"file_name,view\nx/1.png,PA\nx/IM1,AP\n"})
    assert sorted(taken(tmp_path)[0]) == ["x/1.png", "x/IM1"]


def test_a_zip_that_is_unpacked_beside_itself_is_read_once(tmp_path):
    films = {"images/1.png": picture(1), "images/2.png": picture(2)}
    put(tmp_path, {**films, "images.zip": zipped(films)})
    assert taken(tmp_path) == (list(films), {}, {COPY: 2})


def reasons(root: Path) -> set[str]:
    (part,) = wanted_films([("folder", root)])
    found = set()
    for file in part.files.values():
        with pytest.raises(ValueError) as caught:
            file.read()
        found.add(str(caught.value))
    return found


def test_a_zip_with_a_password_and_one_of_deflate64_say_so(tmp_path):
    for name, change in (("password", "flag"), ("deflate64", "method")):
        data = bytearray(zipped({"1.png": picture(1)}, compression=zipfile.ZIP_DEFLATED))
        for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            place = data.index(signature) + flags
            if change == "flag":
                data[place] |= 1
            else:
                data[place + 2] = 9
        put(tmp_path / name, {"films.zip": bytes(data)})
    assert reasons(tmp_path / "password") == {"in a zip with a password; unpack it first"}
    assert reasons(tmp_path / "deflate64") == {
        ("in a zip that is packed by the method deflate64, which is not read here; unpack it first")
    }
    with pytest.raises(ValueError, match="1 x in a zip that is packed by the method deflate64") as caught:
        prepare(tmp_path / "pool", [("folder", tmp_path / "deflate64")], 32, key_file=tmp_path / "key")
    assert "\n" not in str(caught.value)


def test_zip64_is_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "films.zip", "w") as archive, archive.open("1.png", "w", force_zip64=True) as file:
        file.write(picture(1))
    (part,) = wanted_films([("folder", tmp_path)])
    assert [file.read() for file in part.files.values()] == [picture(1)]


def test_system_files_pipes_and_links_to_nowhere_are_counted_and_no_films(tmp_path):
    put(
        tmp_path,
        dict.fromkeys(
            ("a.png", "Thumbs.db", "desktop.ini", ".DS_Store", "._a.png", ".git/config", "@eaDir/a.png"), b"x"
        ),
    )
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "again.png").symlink_to(tmp_path / "a.png")
    assert taken(tmp_path) == (["a.png", "again.png"], {}, {HIDDEN: 6, NO_FILE: 3})


def test_a_folder_that_cannot_be_read_is_counted(tmp_path, monkeypatch):
    put(tmp_path, {"a.png": b"x", "closed/b.png": b"x", "open/c.png": b"x"})
    scan = os.scandir

    def refusing(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert taken(tmp_path) == (["a.png", "open/c.png"], {}, {"folder that cannot be read (Permission denied)": 1})


def test_a_file_that_cannot_be_read_is_a_film_by_its_suffix_only(tmp_path, monkeypatch):
    put(tmp_path, {"a.dcm": FILM, "IM_1": FILM, "b.png": b"", "empty": b"", "empty.dcm": b""})
    monkeypatch.setattr(
        archives, "open", lambda path, mode: (_ for _ in ()).throw(PermissionError(13, "no")), raising=False
    )
    assert taken(tmp_path) == (["a.dcm", "b.png", "empty.dcm"], {}, {"file without a suffix": 2})


def test_odd_names_are_names(tmp_path):
    names = [
        "line\nbreak.png",
        "tab\t.png",
        " .png",
        "x" * 250 + ".png",
        'quote".png',
        "a,b.png",
        "-rf.png",
        "snow ☃.png",
    ]
    put(tmp_path, {name: picture(number) for number, name in enumerate(names)})
    assert sorted(taken(tmp_path)[0]) == sorted(names)
    summary = prepare(
        tmp_path.parent / f"{tmp_path.name}-pool", [("folder", tmp_path)], 32, key_file=tmp_path.parent / "odd-key"
    )
    assert summary.num_kept == len(names)


def test_a_damaged_archive_is_counted_and_named_once(tmp_path, caplog):
    data = zipped({f"{number}.png": picture(number) for number in range(3)})
    put(
        tmp_path,
        {"a.png": picture(9), "films.zip": data[: len(data) // 2], "films.tar.gz": tarred({"b.png": picture(8)})[:-20]},
    )
    with caplog.at_level(logging.WARNING):
        names, _, beside = taken(tmp_path)
    assert "a.png" in names
    assert beside["archive that cannot be read to its end (File is not a zip file)"] == 1
    assert caplog.text.count("films.zip") == caplog.text.count("films.tar.gz") == 1


def test_files_beside_a_known_release_are_counted_too(tmp_path):
    table = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
    rows = [f"0000000{i}_000.png,No Finding,0,{i},50,M,{'PA' if i else 'LL'}\n" for i in range(3)]
    put(tmp_path, {"Data_Entry_2017.csv": (table + "".join(rows)).encode()})
    put(
        tmp_path,
        {f"images/0000000{i}_000.png": picture(i) for i in range(2)}
        | {"copy/00000001_000.png": picture(1), "images/9_0.png": picture(4)},
    )
    put(tmp_path, {"images/00000002_000.jp2": b"x", "images/part.7z": b"x", "images/films.7z.001": b"x"})
    (part,) = wanted_films([("nih", tmp_path)])
    assert list(part.films) == ["00000001_000.png"]
    assert part.dropped == {"view lateral": 1, "file missing": 1}
    assert part.beside == {
        COPY: 1,
        "film that no table lists": 1,
        ".csv file": 1,
        ".jp2 picture, not read: convert it to PNG": 1,
        ".7z archive, not looked into: unpack it": 1,
        "part of a split archive, not looked into: join and unpack it": 1,
    }
    (tmp_path / "images" / "00000001_000.png").unlink()
    (tmp_path / "copy" / "00000001_000.png").unlink()
    films = {
        "00000001_000.png": picture(1),
        "b/00000001_000.png": picture(1),
        "00000000_000.png": picture(0),
        "8_0.png": b"",
        "a.txt": b"",
    }
    put(tmp_path, {"images_01.tar.gz": tarred(films)})
    (part,) = wanted_films([("nih", tmp_path)])
    assert [film.film for film, _ in part.streamed(lambda film: False)] == ["00000001_000.png"]
    assert (part.beside[COPY], part.beside["film that no table lists"], part.beside[".txt file"]) == (1, 2, 1)


def test_where_no_film_is_left_the_reason_names_what_lies_there(tmp_path):
    put(tmp_path, {f"{number}.jp2": b"x" for number in range(4)} | {"films.rar": b"x"})
    with pytest.raises(
        ValueError, match=r"no film left .*: 4 x \.jp2 picture, not read: convert it to PNG, 1 x \.rar archive"
    ):
        prepare(tmp_path / "pool", [("folder", tmp_path)], 32, key_file=tmp_path / "key")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a/b.PNG", "film that no table lists"),
        ("x.dcm.gz", "film that no table lists"),
        ("IM_0001", "file without a suffix"),
        ("1.2.840.10008", "file without a suffix"),
        ("folder.d/IM 1", "file without a suffix"),
        ("a.Heic", ".heic picture, not read: convert it to PNG"),
        ("a.nii.gz", ".nii picture, not read: convert it to PNG"),
        ("a.tar.zst", ".zst archive, not looked into: unpack it"),
        ("a.part01.rar", "part of a split archive, not looked into: join and unpack it"),
        ("a.z01", "part of a split archive, not looked into: join and unpack it"),
        ("LICENSE.txt", ".txt file"),
        ("a.suffix that is none", "file without a suffix"),
    ],
)
def test_kinds(name, said):
    assert kind(name, IMAGE_SUFFIXES) == said


@given(st.text(min_size=1, max_size=30))
def test_any_name_has_a_kind_of_few_words(name):
    said = kind(name, IMAGE_SUFFIXES)
    assert said
    assert said.isprintable()
    assert len(said) < 80


def test_walk_counts_nothing_of_what_it_yields(tmp_path):
    put(tmp_path, {"b/2.png": b"", "a/1.png": b"", "c.png": b"", "a/b/3.png": b""})
    passed: Counter[str] = Counter()
    assert [name for name, _ in walk(tmp_path, passed)] == ["c.png", "a/1.png", "a/b/3.png", "b/2.png"]
    assert not passed


def test_pixels_are_those_of_the_film_wherever_it_lay(tmp_path):
    values = smooth(48, 48, 12, 7)
    put(tmp_path / "disc", {"DICOM/IM1": dicom(values)})
    put(tmp_path / "plain", {"a.dcm": dicom(values)})
    put(tmp_path / "zip", {"a.zip": zipped({"IM1": bare(dicom(values))})})
    digests = set()
    for name in ("disc", "plain", "zip"):
        prepare(tmp_path / f"pool-{name}", [("folder", tmp_path / name)], 32, key_file=tmp_path / "key")
        digests.add(np.load(tmp_path / f"pool-{name}" / "pixels-00000.npy").tobytes())
    assert len(digests) == 1
