"""Kermany et al.'s films of children: labels by folder, patients by name across all folders, every layout that people
have."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.films import smooth
from thiscxr.collections import find_files, kermany
from thiscxr.collections.collection import COPY
from thiscxr.collections.plan import wanted_films
from thiscxr.labels import FINDINGS, NEGATIVE, NOT_ANNOTATED, POSITIVE
from thiscxr.pool import Pool
from thiscxr.pool.prepare import prepare

REAL = Path(__file__).parents[3] / "shared" / "data" / "kermany-256"
RELEASE = [  # as version 2 has them
    "test/NORMAL/IM-0115-0001.jpeg",
    "test/NORMAL/NORMAL2-IM-0201-0001.jpeg",
    "test/PNEUMONIA/person17_virus_48.jpeg",
    "train/NORMAL/IM-0115-0001-0002.jpeg",
    "train/NORMAL/NORMAL2-IM-0115-0001.jpeg",
    "train/PNEUMONIA/person17_bacteria_56.jpeg",
    "train/PNEUMONIA/person115_bacteria_545.jpeg",
]
PATIENTS = ["IM-115", "IM-201", "person17", "IM-115", "IM-115", "person17", "person115"]


def jpeg(seed: int, size: tuple[int, int] = (64, 40), mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(smooth(*size, 8, seed)).convert(mode).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def release(root: Path, names: list[str] = RELEASE, data: bytes = b"") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def taken(root: Path) -> tuple[dict[str, str], dict[str, int]]:
    """File -> patient of what is taken of a root, and what lies beside."""
    (part,) = wanted_films([("kermany", root)])
    for _ in part.streamed(lambda film: True):
        pass
    assert not +part.dropped
    return {part.files[name].name: film.patient for name, film in part.films.items()}, dict(+part.beside)


def test_folders_give_the_label_and_names_the_patient_across_all_folders(tmp_path):
    films = kermany.read_labels(release(tmp_path))
    assert [film.patient for film in films] == [
        patient for _, patient in sorted(zip(map(str.lower, RELEASE), PATIENTS, strict=True))
    ]
    for film in films:
        states = dict(zip(FINDINGS, film.states(), strict=True))
        ill = "pneumonia" in film.film
        assert (states.pop("Pneumonia"), states.pop("No Finding")) == (
            (POSITIVE, NEGATIVE) if ill else (NEGATIVE, POSITIVE)
        )
        assert set(states.values()) == {NOT_ANNOTATED}
        assert (film.view, film.sex, film.age_years) == ("AP", "unknown", None)
        assert film.split is None, "the published split goes through patients"


@pytest.mark.parametrize("top", ["", "chest_xray/", "archive/chest_xray/", "ChestXRay2017/chest_xray/"])
def test_root_or_folder_and_what_mac_and_windows_leave(tmp_path, top):
    release(tmp_path, [top + name for name in RELEASE])
    litter = [
        ".DS_Store",
        f"{top}train/.DS_Store",
        f"{top}train/NORMAL/._IM-0115-0001.jpeg",
        f"__MACOSX/{top}train/NORMAL/._IM-1-1.jpeg",
    ]
    release(tmp_path, [*litter, f"{top}train/PNEUMONIA/Thumbs.db", f"{top}README.txt"])
    found, beside = taken(tmp_path)
    assert sorted(found.values()) == sorted(PATIENTS)
    assert beside.pop(".txt file") == 1
    assert set(beside) == {"hidden or system file"}


def test_kaggle_has_val_and_all_of_it_twice(tmp_path):
    names = [*RELEASE[1:], "val/NORMAL/NORMAL2-IM-1427-0001.jpeg", "val/PNEUMONIA/person1946_bacteria_4874.jpeg"]
    release(tmp_path, [f"{top}{name}" for top in ("chest_xray/", "chest_xray/chest_xray/") for name in names])
    found, beside = taken(tmp_path)
    assert sorted(found.values()) == sorted([*PATIENTS[1:], "IM-1427", "person1946"])
    assert beside == {COPY: len(names)}


def test_films_of_one_name_in_two_folders_are_two_films(tmp_path):
    release(tmp_path, ["train/NORMAL/IM-0001-0001.jpeg", "test/NORMAL/IM-0001-0001.jpeg"])
    found, beside = taken(tmp_path)
    assert list(found.values()) == ["IM-1", "IM-1"]
    assert not beside


def test_version_3_and_the_retinas_that_lie_beside_it(tmp_path):
    ill = ["train/PNEUMONIA/BACTERIA-1008087-0001.jpeg", "test/PNEUMONIA/VIRUS-1008087-0002.jpeg"]
    release(tmp_path, [f"CellData/chest_xray/{name}" for name in ("train/NORMAL/NORMAL-1003233-0001.jpeg", *ill)])
    release(tmp_path, ["CellData/OCT/train/NORMAL/NORMAL-1003233-1.jpeg", "OCT2017 /test/CNV/CNV-1016042-1.jpeg"])
    found, beside = taken(tmp_path)
    assert sorted(found.values()) == ["patient1003233", "patient1008087", "patient1008087"]
    assert beside == {"film that no table lists": 2}


@pytest.mark.parametrize(
    "names", [["a.jpg", "IM-0003-0001.JPG"], ["pneumonia/a.png", "Normal/b.jpeg", "person3_virus_15.tiff"]]
)
def test_renamed_and_converted_films_are_kept_with_a_warning(tmp_path, caplog, names):
    films = kermany.read_labels(release(tmp_path, ["NORMAL/IM-0115-0001.jpeg", *names]))
    labelled = [film for film in films if "Pneumonia" in film.findings]
    assert len(labelled) == len(films) == 1 + len(names) - (names[0] == "a.jpg"), "a.jpg has no label"
    own = sum(film.patient == film.film for film in films)
    assert own == (0 if names[0] == "a.jpg" else 2)
    assert (f"the names of {own} of {len(films)} films have no patient" in caplog.text) == bool(own)


def pack(path: Path, films: dict[str, bytes]) -> None:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in films.items():
                archive.writestr(name, data)
        return
    with tarfile.open(path, "w:gz" if path.name.endswith(".gz") else "w") as tar:
        for name, data in films.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("name", ["archive.zip", "ChestXRay2017.tar", "chest_xray.tar.gz"])
def test_grey_and_colour_of_any_shape_from_archives_to_a_pool(tmp_path, name):
    films = {
        f"chest_xray/{path}": jpeg(i, (64 + i, 40 + 20 * i), "RGB" if i % 2 else "L") for i, path in enumerate(RELEASE)
    }
    films["__MACOSX/chest_xray/train/NORMAL/._IM-0115-0001.jpeg"] = b"\0\5\x16\7"
    (tmp_path / "release").mkdir()
    pack(tmp_path / "release" / name, films)
    summary = prepare(tmp_path / "pool", [("kermany", tmp_path / "release")], 32, key_file=tmp_path / "key")
    assert (summary.num_kept, summary.num_rejected, summary.dropped) == (len(RELEASE), 0, {})
    pool = Pool.open(tmp_path / "pool")
    assert set(pool.column("source")) == {"kermany"}
    assert set(pool.column("view")) == {"AP"}
    assert np.isnan(pool.column("age_years")).all()
    assert len(set(pool.column("patient"))) == len(set(PATIENTS))
    splits = dict(zip(pool.column("patient"), pool.column("split"), strict=True))
    assert [splits[patient] for patient in pool.column("patient")] == pool.column("split").tolist()
    assert pool.meta["sources"]["kermany"]["terms"].startswith("CC BY 4.0")
    assert "Kermany" in pool.meta["sources"]["kermany"]["citation"]


def test_another_folder_is_one_line_and_names_what_it_is(tmp_path):
    with pytest.raises(
        ValueError, match=r"no films as Kermany et al\. release them; expected chest_xray/train/NORMAL/"
    ) as caught:
        kermany.read_labels(release(tmp_path, ["a.jpeg", "b/c.png", "NORMAL/readme.txt"]))
    assert "\n" not in str(caught.value)
    (tmp_path / "Data_Entry_2017.csv").touch()
    with pytest.raises(ValueError, match="it looks like --nih"):
        kermany.read_labels(tmp_path)


@given(path=st.text(st.sampled_from("aIiMmP/\\-_.0159erson NORMALé"), max_size=40))
def test_any_path_is_a_film_or_none_and_its_patient_is_never_empty(path):
    film = kermany._record(kermany.image_key(path))
    assert film is None or (film.patient and film.file == film.film == kermany.image_key(path))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"real films are not here: {REAL}")
@pytest.mark.parametrize("root", [REAL, REAL / "chest_xray"])
def test_the_real_subset(root):
    films = kermany.read_labels(root)
    files = find_files(kermany.KERMANY, root, {film.file: film for film in films})
    assert len(films) == len(files) == 2074
    assert len({film.patient for film in films}) == 1363
    assert sum(film.findings["Pneumonia"] for film in films) == 1523
