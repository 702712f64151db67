"""Pools of films of several resolutions: which are kept at which, and the views of them that others work on."""

import pickle
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from tests.films import smooth
from thiscxr.pixels import area_means, save_png
from thiscxr.pool import Pool, prepare, verify_pool
from thiscxr.pool.covered import CoveredPool, cover
from thiscxr.report.pool import describe_pool, describe_text

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,View Position\n"


def film(number: int, res: int = 64) -> np.ndarray:
    """A film of 64 px, or its area means."""
    fine = smooth(64, 64, 8, number) + np.random.default_rng(number).integers(0, 12, (64, 64), np.uint8)
    return area_means(fine.clip(0, 255).astype(np.uint8)[None], res)[0]


def release(root: Path, sizes: dict[int, int]) -> Path:
    """An NIH release of films, by number, of these resolutions; two films a patient."""
    root.mkdir()
    rows = [f"{number // 2 + 1:08d}_{number % 2:03d}.png,No Finding,0,{number // 2 + 1},50,M,PA" for number in sizes]
    (root / "Data_Entry_2017_v2020.csv").write_text(HEADER + "\n".join(rows) + "\n")
    for row, (number, res) in zip(rows, sizes.items(), strict=True):
        save_png(root / row.split(",")[0], film(number, res))
    return root


@pytest.fixture
def mixed(tmp_path) -> Path:
    """Films 0 to 9, the first four of 64 px and the others of 32 px."""
    roots = [
        release(tmp_path / "small", dict.fromkeys(range(10), 32)),
        release(tmp_path / "large", dict.fromkeys(range(4), 64)),
    ]
    prepare.prepare(tmp_path / "pool", [("nih", root) for root in roots], 64, smallest=32, key_file=tmp_path / "key")
    return tmp_path / "pool"


def test_a_film_in_two_sizes_is_kept_once_the_larger_whichever_folder_comes_first(tmp_path):
    small, large = (release(tmp_path / str(res), {0: res, 1: res, number: res}) for res, number in ((32, 2), (64, 3)))
    for place, roots in enumerate(permutations([small, large])):
        pool = tmp_path / f"pool{place}"
        summary = prepare.prepare(pool, [("nih", root) for root in roots], 64, smallest=32, key_file=tmp_path / "key")
        assert (summary.num_kept, summary.num_rejected, summary.dropped) == (4, 0, {"listed twice": 2})
        assert summary.resolutions == {64: 3, 32: 1}
        assert "resolutions: 3 films of 64 px, 1 films of 32 px" in str(summary)
        assert verify_pool(pool) == []
    assert Pool.open(tmp_path / "pool0").fingerprint == Pool.open(tmp_path / "pool1").fingerprint


def test_films_between_the_two_are_kept_at_the_power_of_two_that_they_fill(tmp_path):
    root = release(tmp_path / "nih", {0: 64})
    for number, shape in enumerate([(64, 80), (63, 64), (32, 32), (90, 33), (31, 64)], start=1):
        name = f"{number + 1:08d}_000.png"
        save_png(root / name, smooth(*shape, 8, number))
        with open(root / "Data_Entry_2017_v2020.csv", "a") as table:
            table.write(f"{name},No Finding,0,{number + 1},50,M,PA\n")
    summary = prepare.prepare(
        tmp_path / "pool", [("nih", root)], 64, smallest=32, max_rejected=1, key_file=tmp_path / "key"
    )
    assert Pool.open(tmp_path / "pool").column("resolution").tolist() == [64, 64, 32, 32, 32]
    assert summary.rejected == {"short side 31 px is below the resolution 32": 1}
    plain = prepare.prepare(tmp_path / "plain", [("nih", root)], 64, max_rejected=1, key_file=tmp_path / "key")
    assert (plain.num_kept, plain.num_rejected) == (2, 4), "without --smallest nothing changes"
    assert "smallest" not in Pool.open(tmp_path / "plain").meta["options"]


@pytest.mark.parametrize(
    ("smallest", "words"),
    [
        (128, "--smallest 128 is above --res 64: it is the resolution of the smallest films; give 64 or less"),
        (48, "--smallest 48 is not"),
    ],
)
def test_smallest_above_res_is_one_line(tmp_path, smallest, words):
    with pytest.raises(ValueError, match=words):
        prepare.prepare(tmp_path / "pool", [("nih", tmp_path)], 64, smallest=smallest)


def test_a_pool_whose_films_are_all_too_small_is_refused(tmp_path):
    root = release(tmp_path / "nih", dict.fromkeys(range(4), 32))
    with pytest.raises(
        ValueError, match=r"no film for .* has a short side of --res 64 px; prepare it at a smaller one, such as 32"
    ):
        prepare.prepare(tmp_path / "pool", [("nih", root)], 64, smallest=32, key_file=tmp_path / "key")
    assert not (tmp_path / "pool").exists()


def test_one_exposure_in_two_sizes_under_two_names_is_a_duplicate(tmp_path):
    one, other = release(tmp_path / "one", dict.fromkeys(range(6), 64)), tmp_path / "other"
    other.mkdir()
    save_png(other / "copy.png", film(3, 32))
    summary = prepare.prepare(
        tmp_path / "pool", [("nih", one), ("folder", other)], 64, smallest=32, key_file=tmp_path / "key"
    )
    assert summary.num_duplicates == 2


def test_views_hold_the_films_that_are_large_enough_at_one_resolution(mixed):
    pool = Pool.open(mixed)
    assert pool.resolutions == {64: 4, 32: 6}
    with pytest.raises(ValueError, match="films of 32, 64 px do not fit one array"):
        pool.read([0, 9])
    large, every = pool.at_resolution(64), pool.at_resolution(32)
    assert (len(large), large.resolution, len(every), every.resolution) == (4, 64, 10, 32)
    assert np.array_equal(large.read(range(4)), np.stack([film(number) for number in range(4)]))
    assert np.array_equal(every.read([9, 0, 3]), np.stack([film(number, 32) for number in (9, 0, 3)])), (
        "area means of the large ones"
    )
    assert large.column("resolution").tolist() == [64] * 4
    assert large.findings.shape == (4, 21)
    assert large.column("film_id").tolist() == pool.column("film_id").tolist()[:4]
    assert sorted([*large.indices("train"), *large.indices("holdout")]) == [0, 1, 2, 3]
    copy = pickle.loads(pickle.dumps(large))
    assert (len(copy), copy.resolution) == (4, 64)
    assert np.array_equal(copy.read([2]), large.read([2]))
    hidden = CoveredPool(pool, 5)
    assert np.array_equal(hidden.at_resolution(64).read([1]), cover(large.read([1]), 5))
    assert np.array_equal(hidden.at_resolution(32).read([9, 1]), cover(every.read([9, 1]), 3)), "as far up"
    small = pool.at_resolution(128)
    assert small is pool, "there are none so large"


def test_a_damaged_film_is_found_through_a_view(mixed):
    shard = mixed / "pixels-00001.npy"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ValueError, match="the film in row 9 is damaged"):
        Pool.open(mixed).at_resolution(32).read([9])


def test_describe_and_verify_report_the_resolutions(mixed):
    facts = describe_pool(mixed)
    assert facts["pool"]["counts"]["resolutions"] == {"32": 6, "64": 4}
    assert "64 px: 4 films, 32 px: 6 films" in describe_text(facts)
