"""Names of files, as disks have them and as tables write them; what folders stand for."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thiscxr.collections.names import base_name, locate, plain_name, stem
from thiscxr.collections.subfolders import folder_patients, folder_splits
from thiscxr.labels import FINDINGS

COMPOSED, DECOMPOSED = "R\u00f6ntgen.png", "Ro\u0308ntgen.png"
IN_LATIN_1 = b"R\xf6ntgen.png".decode("utf-8", "surrogateescape")  # what Python makes of such a name on the disk


@pytest.mark.parametrize(
    ("path", "base", "name"),
    [
        ("a.png", "a.png", "a"), ("x/y/a.dcm.gz", "a.dcm.gz", "a.dcm"), ("C:\\x\\a.png", "a.png", "a"),
        ("x\\y/a", "a", "a"), ("\\\\server\\a.b.png", "a.b.png", "a.b"), ("", "", ""),
    ],
)  # fmt: skip
def test_names_of_paths(path, base, name):
    assert (base_name(path), stem(path)) == (base, name)


def test_a_name_is_the_same_in_either_form_and_in_bytes_that_are_no_utf_8():
    assert {plain_name(form) for form in (COMPOSED, DECOMPOSED, IN_LATIN_1)} == {COMPOSED}


@pytest.mark.parametrize(
    ("written", "there", "found"),
    [
        ("a.png", ["a.png", "x/a.png"], "a.png"),
        ("a.png", ["x/a.png", "x/b.png"], "x/a.png"),  # it was missing, as all that follow
        ("./x\\a.png", ["x/a.png", "y/a.png"], "x/a.png"),
        ("C:\\data\\a.png", ["a.png"], "a.png"),
        ("C:\\data\\x\\a.png", ["x/a.png", "y/a.png"], "x/a.png"),
        ("/mnt/data/x/a.png", ["films/x/a.png", "films/y/a.png"], "films/x/a.png"),
        ("\\\\server\\share\\A.PNG", ["a.png"], "a.png"),
        ("file:///home/me/a.png", ["a.png"], "a.png"),
        (COMPOSED, [DECOMPOSED], DECOMPOSED),
        (DECOMPOSED, [COMPOSED], COMPOSED),
        (COMPOSED, [IN_LATIN_1], IN_LATIN_1),
        (f"D:\\{COMPOSED}", [f"x/{IN_LATIN_1}"], f"x/{IN_LATIN_1}"),
        (COMPOSED, [COMPOSED, DECOMPOSED, IN_LATIN_1], COMPOSED),
        ("a.png", ["x/a.png", "y/a.png"], None),  # which?
        ("z/a.png", ["x/a.png", "y/a.png"], None),
        ("ba.png", ["a.png"], None),
        ("a.png", ["x/a.jpg"], "x/a.jpg"),
        ("a", ["a.dcm", "b.dcm"], "a.dcm"),
        ("1.2.840.1", ["1.2.840.1.dcm", "1.2.840.2.dcm"], "1.2.840.1.dcm"),
        ("a.png", ["x/a.png", "a.jpg"], "x/a.png"),
        ("a", ["a.png", "a.jpg"], None),
        ("a.txt", ["a.png"], None),
        ("", ["a.png"], None),
    ],
)
def test_the_file_that_a_table_means(written, there, found):
    assert locate([written], there) == ({} if found is None else {written: found})


def test_no_file_is_meant_twice():
    assert locate(["train/a.png", "test/a.png"], ["train/a.png"]) == {"train/a.png": "train/a.png"}
    assert locate(["/1/a.png", "/2/a.png"], ["a.png"]) == {}  # one of the two is another file
    assert locate(["/1/x/a.png", "/2/a.png"], ["x/a.png"]) == {"/1/x/a.png": "x/a.png"}
    assert locate(["a.png", "a.jpg"], ["a.png"]) == {"a.png": "a.png"}
    assert locate(["a.png", "a.jpg"], ["a.tif"]) == {}
    assert locate(["a.png", "A.PNG"], ["a.png"]) == {"a.png": "a.png", "A.PNG": "a.png"}  # one film, listed twice


NAME = st.text(st.sampled_from("abAö\u0308 ."), min_size=1, max_size=3).filter(lambda name: name.strip(" .") == name)
PATH = st.lists(NAME, min_size=1, max_size=3).map("/".join)


@given(there=st.sets(PATH, max_size=6), written=st.sets(PATH, max_size=6))
def test_what_is_there_is_found_and_nothing_is_taken_twice(there, written):
    found = locate(written, sorted(there))
    assert set(found) <= written
    assert set(found.values()) <= there
    assert {path: found[path] for path in written & there} == {path: path for path in written & there}
    spelled = {path: unicodedata.normalize("NFC", path).casefold() for path in found}  # no name has a suffix of films
    for file in set(found.values()):
        assert len({spelled[path] for path in found if found[path] == file}) == 1


@given(
    there=st.sets(PATH, min_size=1, max_size=6), root=st.sampled_from(["C:\\films\\", "/home/me/", "\\\\pacs\\", "x:/"])
)
def test_a_folder_that_was_moved_is_found_as_a_whole(there, root):
    written = {root + (file.replace("/", "\\") if "\\" in root else file): file for file in there}
    found = locate(written, there)
    assert all(found.get(path, file) == file for path, file in written.items())
    if len({plain_name(file).casefold().rpartition("/")[2] for file in there}) == len(there):
        assert found == written


# --- what folders stand for


def files(*folders: str, films: int = 2) -> list[str]:
    return [f"{folder}/{film}.png" for folder in folders for film in range(films)]


def patients(names: list[str]) -> set[str]:
    found = folder_patients(names)
    return {found.get(name, name) for name in names}


@pytest.mark.parametrize("name", ["{:04d}", "p{}", "CXR{}", "10000{:03d}", "case {}", "sub-{:02d}", "A{}b"])
def test_many_numbered_folders_are_patients(name):
    assert len(patients(files(*(name.format(number) for number in range(12))))) == 12


@pytest.mark.parametrize(
    "name", ["patient{}", "Patient_{}", "person{}", "subject-{}", "sub-{:02d}", "case {}", "PID{}"]
)
def test_two_are_enough_that_are_called_patients(name):
    names = files(*(f"{name.format(number)}/study1" for number in range(2)))
    assert patients(names) == {name.format(number) for number in range(2)}


CLASSES = [name for name in FINDINGS if name != "No Finding"][:12]


@pytest.mark.parametrize(
    "folders",
    [
        CLASSES,  # twelve classes of a few films each were twelve patients
        [
            f"{part}/{name}"
            for part in ("train", "test", "val")
            for name in ("NORMAL", "PNEUMONIA", "COVID-19", "Viral Pneumonia")
        ],
        [f"class{number}" for number in range(12)],
        [f"images_{number:03d}" for number in range(1, 13)],
        [f"batch-{number}" for number in range(12)],
        [f"2020-{number:02d}-03" for number in range(1, 13)],
        [str(year) for year in range(2005, 2020)],
        ["NORMAL", "PNEUMONIA"],
        [f"p{number}" for number in range(3)],
    ],
)
def test_classes_and_parts_are_no_patients(folders):
    names = files(*folders)
    assert patients(names) == set(names)


def test_patients_inside_classes_and_in_several_parts_of_a_split():
    names = files(*(f"{kind}/p{number}" for kind in ("NORMAL", "PNEUMONIA") for number in range(8)))
    assert len(patients(names)) == 16
    names = files(*(f"{part}/p{number}" for part in ("train", "test") for number in range(8)))
    assert patients(names) == {f"p{number}" for number in range(8)}  # one patient in one split


def test_folders_called_after_parts_of_a_split():
    names = ["data/train/a.png", "data/validation/NORMAL/b.png", "data/test/c.png", "d.png", "test.png"]
    assert folder_splits(names) == {names[0]: "train", names[1]: "holdout", names[2]: "holdout"}
    assert folder_splits(["test/a.png", "val/b.png"]) == {}  # what is there must be trained on
    assert folder_splits(["train/a.png"]) == {}
