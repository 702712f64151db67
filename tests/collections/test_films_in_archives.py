"""Films in the zips and tars of a folder: named by their place, read once, and refused with a reason."""

import logging
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.films import dicom, smooth
from tests.folders import FILM, PR, bare, dicom_object, picture, put, taken, tarred, zipped
from thiscxr.collections.archives import HIDDEN
from thiscxr.collections.collection import COPY
from thiscxr.collections.plan import wanted_films
from thiscxr.pool.prepare import prepare


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
def test_archives_with_the_same_names_in_them_are_distinguished_and_copies_are_not(tmp_path, kinds):
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


def test_a_zip_with_a_password_or_deflate64_is_refused_with_the_reason(tmp_path):
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
