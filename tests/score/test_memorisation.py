"""Planted near-duplicates are found, unrelated films are not flagged, and the block size does not matter."""

import csv
import itertools
import pickle
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from tests.conftest import blob
from thiscxr.model.conditions import Condition
from thiscxr.pixels import save_png
from thiscxr.pixels.mark import marked
from thiscxr.pool import Pool
from thiscxr.pool.covered import CoveredPool, cover, rows_to_hide
from thiscxr.reader.extractors import pool_key
from thiscxr.sample.dicom import DicomOptions, dicom_format
from thiscxr.sample.provenance import Film, Origin
from thiscxr.sample.truncation import Truncation
from thiscxr.score import memorisation
from thiscxr.score.fakes import open_fakes
from thiscxr.score.memorisation import annotate, audit, audit_columns, nearest, tied_patients, worst_pairs
from thiscxr.score.records import Record


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Pool:
    """A phantom pool of enough patients for limits."""
    from thiscxr.phantom.releases import write_layout

    path = tmp_path_factory.mktemp("phantoms") / "pool"
    write_layout(path, "pool", 240, 64, 3, workers=1)  # whose start costs more than it saves
    return Pool.open(path)


@pytest.fixture(scope="module")
def unrelated(tmp_path_factory) -> np.ndarray:
    """Films of phantom patients of another seed."""
    from thiscxr.phantom.releases import write_layout

    path = tmp_path_factory.mktemp("unrelated") / "pool"
    write_layout(path, "pool", 80, 64, 1003)
    pool = Pool.open(path)
    return pool.read(pool.indices("all"))


def grey(films: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(films), 0, 255).astype(np.uint8)


ATTACKS = {
    "exact": lambda x: x,
    "shifted": lambda x: ndimage.shift(x, (0, 2, -2), mode="nearest"),
    "contrast": lambda x: (x - 128) * 1.1 + 128,
    "blurred": lambda x: ndimage.gaussian_filter(x, (0, 1, 1)),
    "turned": lambda x: ndimage.rotate(x, 2, axes=(2, 1), reshape=False, mode="nearest"),
    "mirrored": lambda x: x[:, :, ::-1],
    "noisy": lambda x: x + np.random.default_rng(0).normal(0, 6, x.shape),
}


def test_near_duplicates_are_flagged_and_unrelated_films_are_not(phantoms, unrelated):
    films = phantoms.read(np.arange(0, len(phantoms), 8)).astype(float)
    planted = np.concatenate([grey(attack(films)) for attack in ATTACKS.values()])
    found = audit(phantoms, np.concatenate([planted, unrelated]))
    share = found.memorised[: len(planted)].reshape(len(ATTACKS), -1).mean(axis=1)
    assert dict(zip(ATTACKS, (share >= 0.95).tolist(), strict=True)) == dict.fromkeys(ATTACKS, True), share
    assert found.memorised[len(planted) :].mean() <= 0.05
    near, rate, ratio = audit(phantoms, unrelated).measures()
    assert tuple(Record.of(each).key for each in (near, rate, ratio)) == (
        "near_rate_p1",
        "memorised_rate",
        "nearest_ratio_median",
    )
    assert near.ci95[0] <= 0.05
    assert rate.ci95[0] <= rate.value <= rate.ci95[1]
    assert rate.floor <= 0.03


def test_a_near_duplicate_of_a_held_out_patient_is_flagged(phantoms):
    held = phantoms.read(phantoms.indices("holdout")[:10])
    assert audit(phantoms, held).memorised.all()


def test_blocks_change_nothing_and_brute_force_agrees(phantoms, unrelated, monkeypatch):
    people = tied_patients(phantoms)
    some = unrelated[:12]
    whole = nearest(phantoms, lambda rows: some[rows], len(some), people, None)
    monkeypatch.setattr(memorisation, "_BLOCK", 37)
    monkeypatch.setattr(memorisation, "_GROUP", 5)
    monkeypatch.setattr(memorisation, "_CHUNK", 7)
    cut = nearest(phantoms, lambda rows: some[rows], len(some), people, None)
    np.testing.assert_array_equal(cut.row, whole.row)
    np.testing.assert_allclose(cut.distance, whole.distance, atol=1e-5)
    np.testing.assert_allclose(cut.ratio, whole.ratio, atol=1e-4)


def test_the_nearest_of_all_is_found_without_registration(phantoms, unrelated, monkeypatch):
    """Against brute force over every pair."""
    people = tied_patients(phantoms)
    monkeypatch.setattr(memorisation._Best, "laid_over", lambda best, films, pixels, pool: best.likeness[films])
    monkeypatch.setattr(memorisation, "_BLOCK", 150)
    found = nearest(phantoms, lambda rows: unrelated[rows], len(unrelated), people, None)
    waves = memorisation.unit(memorisation.film_waves(phantoms.read(np.arange(len(phantoms))))[:, 0])
    for i, space in enumerate(memorisation._spaces(unrelated)):
        likeness = np.linalg.norm(space @ waves.T, axis=1).max(axis=0)
        by_patient = sorted((likeness[people == who].max() for who in np.unique(people)), reverse=True)
        assert found.distance[i] == pytest.approx(np.sqrt(1 - by_patient[0] ** 2), abs=1e-4)
        assert found.ratio[i] == pytest.approx(np.sqrt((1 - by_patient[0] ** 2) / (1 - by_patient[1] ** 2)), abs=1e-3)
        assert likeness[found.row[i]] == pytest.approx(likeness.max(), abs=1e-5)


def test_a_film_is_not_compared_with_its_own_patient(phantoms):
    people = tied_patients(phantoms)
    rows = np.arange(60)
    found = nearest(phantoms, lambda some: phantoms.read(rows[some]), len(rows), people, people[rows])
    assert (people[found.row] != people[rows]).all()
    assert found.distance.min() > 0


def test_patients_who_share_an_exposure_are_one(tmp_path, phantoms):
    import shutil

    path = tmp_path / "pool"
    shutil.copytree(phantoms.path, path)
    films, patients = phantoms.column("film_id"), phantoms.column("patient")
    other = int(np.flatnonzero(patients != patients[0])[0])
    with open(path / "duplicates.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerows(
            [["film_id", "group", "kind", "correlation"], [films[0], 0, "first", 1], [films[other], 0, "near", 0.97]]
        )
    people = tied_patients(Pool.open(path))
    assert people[0] == people[other]
    assert len(np.unique(people)) == len(np.unique(patients)) - 1


def test_bad_input_is_named(phantoms):
    with pytest.raises(ValueError, match=r"synthetic films have 32 px, but .* has 64 px"):
        audit(phantoms, np.zeros((3, 32, 32), np.uint8))
    few = types.SimpleNamespace(
        resolution=32, path=Path("pool"), codes=lambda name: (np.arange(99, dtype=np.int32), None)
    )
    few.at_resolution = lambda res: few
    with pytest.raises(ValueError, match="pool has 99 patients; at least 100 are needed"):
        audit(few, np.zeros((3, 32, 32), np.uint8))


def test_the_verdict_goes_into_samples_csv(tmp_path, phantoms, unrelated):
    films = np.concatenate([phantoms.read(np.arange(2)), unrelated[:2]])
    names = [f"seed-{i:08d}.png" for i in range(4)]
    for name, film in zip(names, films, strict=True):
        save_png(tmp_path / name, film)
    found = audit(phantoms, films)
    annotate(tmp_path, names, audit_columns(found))  # no table yet
    with open(tmp_path / "samples.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["memorised"] for row in rows] == ["true", "true", "false", "false"]
    assert float(rows[0]["nearest"]) < 0.01
    (tmp_path / "samples.csv").write_text(
        "seed,file\n" + "".join(f"{i},{name}\n" for i, name in reversed(list(enumerate(names))))
    )
    annotate(tmp_path, names, audit_columns(found))  # another order, other columns
    with open(tmp_path / "samples.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["memorised"]) for row in rows] == [
        ("3", "false"),
        ("2", "false"),
        ("1", "true"),
        ("0", "true"),
    ]


def test_the_pairs_carry_their_numbers_and_restricted_films_are_not_shown(phantoms, unrelated):
    films = np.concatenate([phantoms.read(np.array([5])), unrelated[:7]])
    names = [f"seed {i}" for i in range(8)]
    found = audit(phantoms, films)
    pairs = worst_pairs(phantoms, films, names, found, most=4)
    assert len(pairs) == 4
    worst = pairs[0]
    assert (worst.name, worst.memorised, worst.source) == ("seed 0", True, phantoms.column("source")[5])
    np.testing.assert_array_equal(worst.real, worst.fake)
    for pair in pairs:
        i = names.index(pair.name)
        assert pair.distance == pytest.approx(found.found.distance[i])
        assert pair.stranger_rank == found.stranger_rank[i]
        np.testing.assert_array_equal(pair.real, phantoms.read(found.found.row[[i]])[0])
    terms = {name: {"title": "MIMIC-CXR"} for name in phantoms.meta["sources"]}
    bound = types.SimpleNamespace(column=phantoms.column, read=phantoms.read, meta={"sources": terms})
    hidden = worst_pairs(bound, films, names, found, most=4)
    assert [(p.name, p.distance, p.stranger_rank) for p in hidden] == [
        (p.name, p.distance, p.stranger_rank) for p in pairs
    ]
    assert all(pair.real is None for pair in hidden)
    assert [pair.fake is None for pair in hidden] == [pair.memorised for pair in pairs], (
        "a copy of a restricted film is that film"
    )


def test_rates_of_films_of_patients_are_wider(phantoms):
    films = np.repeat(phantoms.read(np.arange(0, 60, 2)), 4, axis=0)
    films[60:] = films[60:][:, ::-1]  # upside down: copies of nobody
    found = audit(phantoms, films)
    alone, together = found.measures()[1], found.measures(np.arange(len(films)) // 4)[1]
    assert alone.value == together.value
    assert together.ci95[1] - together.ci95[0] > 1.5 * (alone.ci95[1] - alone.ci95[0])


def as_dicom(*options, **more) -> Callable[[Path, np.ndarray], None]:
    """Write a film as the sampler would."""
    form = dicom_format(DicomOptions(*options, **more))

    def write(path: Path, film: np.ndarray) -> None:
        deep = np.rint(film * ((2**form.bits - 1) / 255)).astype(np.uint8 if form.bits == 8 else np.uint16)
        drawn = Film(0, Condition(), Truncation(1.0), Origin("test", "a" * 64, (), ""))
        path.with_suffix(".dcm").write_bytes(form.encode(deep[None], [drawn]))

    return write


def as_picture(
    suffix: str, scale: float = 1, bits: int = 8, mark: bool = False, **how
) -> Callable[[Path, np.ndarray], None]:
    """Write a copy of a film as another tool would, or the DICOM file with the mark."""

    def write(path: Path, film: np.ndarray) -> None:
        image = Image.fromarray(marked(film, 255) if mark else film)
        image = image.resize((round(len(film) * scale),) * 2, Image.Resampling.BICUBIC)
        Image.fromarray(np.asarray(image) * np.uint16(257) if bits == 16 else np.asarray(image)).save(
            path.with_suffix(suffix), **how
        )

    return write


DICOM = itertools.product(("sc", "dx"), (8, 12, 16), ("MONOCHROME2", "MONOCHROME1"), ("none", "rle", "j2k"))
EXACT = {
    **{"-".join(map(str, each)): as_dicom(*each) for each in DICOM},
    "plain": as_dicom(mark=False),
    "png": as_picture(".png"),
    "marked png": as_picture(".png", mark=True),
}
REDUCED = {  # and whatever else changes the greys
    "16 bits": as_picture(".png", bits=16),
    "marked, 16 bits": as_picture(".png", bits=16, mark=True),
    "jpeg": as_picture(".jpg", quality=60),
    "marked jpeg": as_picture(".jpg", mark=True, quality=60),
    "2x": as_picture(".png", 2),
    "1.5x": as_picture(".tif", 1.5),
    "marked 2x": as_picture(".png", 2, mark=True),
    "marked 1.5x": as_picture(".png", 1.5, mark=True),
    "marked 4x jpeg": as_picture(".jpg", 4, mark=True, quality=80),
}


def laid_down(folder: Path, films: np.ndarray, write: Callable[[Path, np.ndarray], None]) -> tuple[np.ndarray, int]:
    """Write films and return them as the scorer reads them, and the number of rows it hides."""
    folder.mkdir()
    for i, film in enumerate(films):
        write(folder / str(i), film)
    with open_fakes(str(folder), films.shape[1], 1, 1.0, "cpu") as fakes:
        return np.array(fakes.pixels), fakes.hidden


def test_copies_are_flagged_in_every_format(phantoms, tmp_path):
    """Films with the mark were found at 0.36 instead of 1.00; of 16 bits, or enlarged, they were refused or lost their
    borders."""
    films = phantoms.read(np.arange(0, len(phantoms), 60))
    read: dict[int, list[np.ndarray]] = {}
    for name, write in EXACT.items():
        pixels, hidden = laid_down(tmp_path / name, films, write)
        assert hidden == (0 if name in ("png", "plain") else 9), name
        assert np.abs(pixels.astype(int) - cover(films, hidden)).max() <= 1, name
    for name, write in REDUCED.items():
        pixels, hidden = laid_down(tmp_path / name, films, write)
        assert (hidden > 0) is ("marked" in name), name
        read.setdefault(hidden, []).append(pixels)
    assert sorted(read) == [0, 9, 11]
    for hidden, some in read.items():
        found = audit(CoveredPool(phantoms, hidden), np.concatenate([cover(films, hidden), *some])).memorised
        assert found.reshape(-1, len(films)).all(axis=1).all(), (hidden, found)


def test_borders_of_square_films_stay(tmp_path):
    """Cropped, 64 px of 16 bits were refused as 59, and enlarged ones were shifted against the film that they were
    copied from."""
    films = np.stack([blob(i, 64, i % 2 == 0) for i in range(3)])
    films[0, :5], films[1, -5:], films[2, :, :5] = 0, 0, 255
    for name in ("2x", "16 bits", "marked 2x", "marked, 16 bits"):
        pixels, hidden = laid_down(tmp_path / name, films, REDUCED[name])
        for film, real in zip(pixels, cover(films, hidden), strict=True):
            assert np.corrcoef(film[: 64 - hidden].ravel(), real[: 64 - hidden].ravel())[0, 1] > 0.97, name


def test_unrelated_films_are_not_flagged_where_the_mark_is_hidden(phantoms, unrelated):
    rates = [audit(CoveredPool(phantoms, rows), cover(unrelated, rows)).memorised.mean() for rows in (0, 9)]
    assert rates[1] <= max(rates[0], 0.02)
    mirrored = cover(phantoms.read(np.arange(0, len(phantoms), 60))[:, :, ::-1], 9)
    assert audit(CoveredPool(phantoms, 9), mirrored).memorised.all(), "as of copies without a mark"


def test_the_place_of_the_mark():
    for res, made, stored, rows in (
        (64, 64, 64, 9),
        (64, 256, 256, 5),
        (256, 1024, 1024, 11),
        (64, 64, 128, 11),
        (32, 32, 48, 11),
        (128, 128, 128, 9),
    ):
        film = blob(0, made, True)
        for bears in (True, False):
            enlarged = np.array(Image.fromarray(marked(film, 255) if bears else film).resize((stored, stored)))
            assert rows_to_hide(enlarged, res) == (rows if bears else 0), (res, made, stored)


def test_one_marked_film_hides_the_foot_of_all(tmp_path, caplog):
    films = np.stack([blob(i, 64, i % 2 == 0) for i in range(3)])
    kept = films.copy()
    films[1] = marked(films[1], 255)
    pixels, hidden = laid_down(tmp_path / "films", films, as_picture(".png"))
    assert hidden == 9
    np.testing.assert_array_equal(pixels, cover(kept, 9))
    assert "1 of 3 films bear the mark SYNTHETIC; the last 9 of 64 rows are hidden in both sets" in caplog.text


def test_a_covered_pool_travels(phantoms):
    pool = pickle.loads(pickle.dumps(CoveredPool(phantoms, 9)))
    np.testing.assert_array_equal(pool.read(np.arange(3)), cover(phantoms.read(np.arange(3)), 9))
    assert len({pool_key(each, np.arange(3)) for each in (phantoms, pool, CoveredPool(phantoms, 11))}) == 3, (
        "features are cached by the pixels that are read"
    )


@pytest.mark.skipif(not (Path(__file__).parents[2] / "../shared/data/nih-64").is_dir(), reason="../shared is not here")
@pytest.mark.slow
def test_on_films_of_patients(tmp_path):
    """The figures of docs/memorisation.md, on films that no phantom resembles."""
    from thiscxr.pool.prepare import prepare

    prepare(
        tmp_path / "nih", [("nih", Path(__file__).parents[2] / "../shared/data/nih-64")], 64, key_file=tmp_path / "key"
    )
    pool = Pool.open(tmp_path / "nih")
    films = pool.read(np.arange(0, len(pool), 10)).astype(float)
    for name, attack in ATTACKS.items():
        assert audit(pool, grey(attack(films))).memorised.mean() >= 0.95, name
