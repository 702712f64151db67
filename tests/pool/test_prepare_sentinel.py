"""Films that are inverted or turned, whatever their files say: put right and marked at every resolution, or refused."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.films import dicom
from thiscxr.phantom import draw_film
from thiscxr.pixels import load_film, save_png, to_square
from thiscxr.pool import ORIENTATIONS, Pool, prepare, verify_pool
from thiscxr.pool.sentinel import Sight
from thiscxr.report import pool as describe

NUM = 12
# How film `number` lies: inverted, and degrees clockwise. The others lie right.
LIES = {0: (True, 0), 1: (False, 90), 2: (False, 180), 3: (False, 270), 4: (True, 90)}
BACK = {0: "as stored", 90: "turned 270", 180: "turned 180", 270: "turned 90"}  # what puts it right


def lie(film: np.ndarray, inverted: bool, degrees: int) -> np.ndarray:
    return np.rot90(255 - film if inverted else film, -degrees // 90)


@pytest.fixture(scope="module")
def films() -> list[np.ndarray]:
    return [draw_film(seed, 128, view="PA").pixels for seed in range(NUM)]


@pytest.fixture(scope="module")
def release(films, tmp_path_factory):
    root = tmp_path_factory.mktemp("films")
    for number, film in enumerate(films):
        save_png(root / f"{number:02d}.png", lie(film, *LIES.get(number, (False, 0))))
    # a header that says MONOCHROME1 of values that are not
    (root / "12.dcm").write_bytes(dicom(films[5].astype(np.uint16) * 16, photometric="MONOCHROME1", bits=12))
    # tags that put a film right, and tags that do not: what the film shows has the last word
    for name, stored, tag in (("13", np.rot90(films[6]), 6), ("14", films[7], 3), ("15", films[8][:, ::-1], 2)):
        exif = Image.Exif()
        exif[0x0112] = tag
        Image.fromarray(np.ascontiguousarray(stored)).save(root / f"{name}.png", exif=exif)
    deep = np.rot90(films[9]).astype(np.uint16) * 16
    # mirrors it, and leaves it on its head
    (root / "16.dcm").write_bytes(dicom(deep, bits=12, PatientOrientation=["H", "R"]))
    return root


@pytest.mark.parametrize("res", [32, 64, 128])
def test_films_are_put_right_alike_at_every_resolution(films, release, tmp_path, res):
    summary = prepare.prepare(tmp_path / "pool", [("folder", release)], res, key_file=tmp_path / "key")
    pool = Pool.open(tmp_path / "pool")
    assert summary.num_rejected == 0
    done = pool.column("orientation").tolist()
    assert done[:NUM] == [BACK[LIES.get(number, (False, 0))[1]] for number in range(NUM)]
    assert pool.column("inverted").tolist() == [True, False, False, False, True] + [False] * 12
    assert done[NUM:] == ["as stored", "turned 90", "as stored", "mirrored", "mirrored, turned 270"]
    stored = pool.read(range(len(pool)))
    for number, film in enumerate(films):
        if number in LIES:
            expected = lie(to_square(np.ascontiguousarray(lie(film, *LIES[number])), res), False, -LIES[number][1])
            expected = 255 - expected if LIES[number][0] else expected
            assert np.abs(expected.astype(int) - to_square(film, res)).mean() < 0.5  # rows are reduced before columns
        else:
            expected = to_square(film, res)
        assert np.array_equal(stored[number], expected), number
    for number, film in zip(range(NUM, NUM + 4), films[5:9], strict=True):
        assert np.corrcoef(stored[number].ravel(), to_square(film, res).ravel())[0, 1] > 0.99, number
    assert verify_pool(tmp_path / "pool") == []
    assert summary.put_right == {
        "inverted": 2,
        "mirrored": 1,
        "mirrored, turned 270": 1,
        "turned 180": 1,
        "turned 270": 2,
        "turned 90": 2,
    }
    assert "  put right: 2 (inverted)" in str(summary)


def test_describe_reports_the_same_orientations_for_a_release_and_its_pool(release, tmp_path):
    prepare.prepare(tmp_path / "pool", [("folder", release)], 64, key_file=tmp_path / "key")
    pool, films = describe.describe_pool(tmp_path / "pool"), describe.describe_sources([("folder", release)])
    for name in ("orientation", "inverted", "greys"):
        assert pool["sources"]["folder"]["native"][name] == films["sources"]["folder"]["native"][name], name
    assert "turned or mirrored" in describe.describe_text(pool)


def test_the_native_size_is_that_of_the_upright_film(tmp_path):
    film = draw_film(3, 128, view="PA").pixels[:, 8:-8]
    for number in range(4):
        save_png(tmp_path / "films" / f"{number}.png", np.rot90(film, number))
    prepare.prepare(tmp_path / "pool", [("folder", tmp_path / "films")], 64, key_file=tmp_path / "key")
    pool = Pool.open(tmp_path / "pool")
    assert {*zip(pool.column("native_width").tolist(), pool.column("native_height").tolist(), strict=True)} == {
        (112, 128)
    }


def test_films_that_look_wrong_without_a_clear_reason_are_refused_and_counted(release, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "look", lambda pixels, frontal: Sight(sure=bool(pixels[0, 0] % 2)))
    summary = prepare.prepare(
        tmp_path / "pool", [("folder", release)], 64, key_file=tmp_path / "key", max_rejected=0.99
    )
    reason = "looks inverted or turned, but it is not clear how"
    assert summary.rejected.keys() == {reason}
    assert summary.num_kept + summary.rejected[reason] == 17
    assert describe.describe_pool(tmp_path / "pool")["rejected"] == summary.rejected


@pytest.mark.parametrize("tag", range(1, 9))
def test_tags_and_columns_agree_on_the_turn(tag):
    """Mirrored first and then turned clockwise, the stored film equals the film that was read."""
    film = draw_film(0, 64, view="PA").pixels
    exif = Image.Exif()
    exif[0x0112] = tag
    file = io.BytesIO()
    Image.fromarray(film).save(file, "PNG", exif=exif)
    loaded = load_film(file.getvalue())
    assert np.array_equal(loaded.pixels, np.rot90(film[:, ::-1] if loaded.mirrored else film, -loaded.turned // 90))


@pytest.mark.parametrize(
    "sides", [(row, column) for one in "HF" for other in "LRAP" for row, column in ((one, other), (other, one))]
)
def test_patient_orientation_and_columns_agree_on_the_turn(sides):
    film = draw_film(0, 64, view="PA").pixels
    plain = load_film(dicom(film.astype(np.uint16) * 16, bits=12)).pixels
    loaded = load_film(dicom(film.astype(np.uint16) * 16, bits=12, PatientOrientation=list(sides)))
    assert np.array_equal(loaded.pixels, np.rot90(plain[:, ::-1] if loaded.mirrored else plain, -loaded.turned // 90))


def test_orientations_are_all_eight():
    assert len(set(ORIENTATIONS)) == 8
    assert {"as stored", "turned 90", "mirrored", "mirrored, turned 270"} < set(ORIENTATIONS)
