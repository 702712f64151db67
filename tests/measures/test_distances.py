"""Kernel distance, manifold and diversity: closed forms, brute force, other packages, and what is refused."""

import numpy as np
import pytest
import torch

from thiscxr.measures import manifold as manifolds
from thiscxr.measures.diversity import ms_ssim, ms_ssim_scores, num_scales, vendi, vendi_scores
from thiscxr.measures.floor import against_floor, films_a_side
from thiscxr.measures.kernel import kernel_distance, kernel_scores
from thiscxr.measures.manifold import manifold, manifold_scores, radii


def cloud(seed: int, n: int, d: int = 6, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((n, d)) * scale + shift).astype(np.float32)


def test_kernel_distance_by_hand():
    a, b = np.array([[1.0], [2.0]]), np.array([[0.0], [3.0]])
    k = lambda x, y: (x * y + 1) ** 3  # noqa: E731
    expected = k(1, 2) + k(0, 3) - 2 * (k(1, 0) + k(1, 3) + k(2, 0) + k(2, 3)) / 4
    assert kernel_distance(a, b) == pytest.approx(expected)
    with pytest.raises(ValueError, match="too few for a kernel distance"):
        kernel_distance(a[:1], b)


def test_kernel_distance_is_unbiased_and_blocks_change_nothing(monkeypatch):
    values = [kernel_distance(cloud(2 * i, 40), cloud(2 * i + 1, 40)) for i in range(300)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(300)
    a, b = cloud(0, 50), cloud(1, 70, shift=0.3)
    whole = kernel_distance(a, b)
    monkeypatch.setattr("thiscxr.measures.kernel._BLOCK", 7)
    assert kernel_distance(a, b) == pytest.approx(whole, rel=1e-12)


def brute_manifold(real: np.ndarray, fake: np.ndarray, k: int) -> list[float]:
    """The definitions, film by film."""

    def radius(rows: np.ndarray, i: int) -> float:
        return sorted(np.linalg.norm(rows[i] - rows[j]) for j in range(len(rows)) if j != i)[k - 1]

    in_real = [[np.linalg.norm(f - r) <= radius(real, i) for i, r in enumerate(real)] for f in fake]
    in_fake = [[np.linalg.norm(f - r) <= radius(fake, i) for i, f in enumerate(fake)] for r in real]
    return [
        np.mean(np.any(in_real, 1)),
        np.mean(np.any(in_fake, 1)),
        np.sum(in_real) / k / len(fake),
        np.mean(np.any(in_real, 0)),
    ]


@pytest.mark.parametrize("block", [5, 1024])
def test_manifold_agrees_with_its_definition(monkeypatch, block):
    monkeypatch.setattr(manifolds, "_BLOCK", block)
    real, fake = cloud(0, 30, 3), cloud(1, 24, 3, shift=0.5)
    np.testing.assert_allclose(manifold(real, fake, 3), brute_manifold(real.astype(float), fake.astype(float), 3))


def test_manifold_agrees_with_prdc():
    prdc = pytest.importorskip("prdc", reason="pip install prdc")
    real, fake = cloud(0, 300), cloud(1, 200, shift=0.7)
    theirs = prdc.compute_prdc(real.astype(np.float64), fake.astype(np.float64), 5)
    np.testing.assert_allclose(manifold(real, fake, 5), [theirs[name] for name in manifolds.NAMES], atol=1e-9)


def test_manifold_known_answers():
    real = cloud(0, 200)
    # each film lies in its own radius and in five others, about
    np.testing.assert_allclose(manifold(real, real), [1, 1, 1.2, 1])
    assert manifold(real, cloud(1, 200, shift=50)).tolist() == [0, 0, 0, 0]
    precision, recall, _, coverage = manifold(real, np.repeat(real[:4], 50, axis=0))
    assert precision == 1
    assert max(recall, coverage) < 0.2
    with pytest.raises(ValueError, match="5 films are too few for 5 neighbours"):
        radii(real[:5], 5)


def test_vendi_counts_different_films():
    assert vendi(np.eye(7)) == pytest.approx(7)
    assert vendi(np.ones((9, 4))) == pytest.approx(1)
    assert vendi(np.repeat(np.eye(3), 5, axis=0)) == pytest.approx(3)


def test_ms_ssim_known_answers():
    torch.manual_seed(0)
    a = torch.rand(3, 1, 64, 64) * 255
    torch.testing.assert_close(ms_ssim(a, a), torch.ones(3))
    assert (ms_ssim(a, 255 - a) < 0.1).all()
    assert [num_scales(res) for res in (11, 21, 32, 43, 64, 128, 175, 176, 512)] == [1, 1, 2, 2, 3, 4, 4, 5, 5]
    with pytest.raises(ValueError, match="too small for MS-SSIM"):
        num_scales(8)


def test_ms_ssim_agrees_with_another_implementation():
    theirs = pytest.importorskip("pytorch_msssim", reason="pip install pytorch-msssim")
    torch.manual_seed(0)
    a = torch.nn.functional.avg_pool2d(torch.rand(4, 1, 384, 384) * 255, 2)
    b = (a + 20 * torch.randn_like(a)).clamp(0, 255)
    torch.testing.assert_close(
        ms_ssim(a, b), theirs.ms_ssim(a, b, data_range=255, size_average=False), atol=2e-4, rtol=1e-3
    )


def pixels(seed: int, n: int, spread: float = 60) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.standard_normal((n, 8, 8)), np.ones((8, 8)))
    return np.clip(128 + spread * coarse, 0, 255).astype(np.uint8)


def test_scores_are_at_their_floor_for_other_films_and_leave_it_for_worse_ones():
    real, patients = cloud(0, 400), np.arange(400).astype(str)
    fakes = {
        "same": cloud(1, 190),
        "moved": cloud(1, 190, shift=1.3),
        "collapsed": np.repeat(cloud(1, 3), 64, axis=0)[:190],
    }
    found = {
        name: {
            m.measure: m
            for scores in (kernel_scores, manifold_scores, vendi_scores)
            for m in scores(real, patients, fake, "x", n=190)
        }
        for name, fake in fakes.items()
    }
    for key, score in found["same"].items():
        assert score.ci95[0] <= score.value <= score.ci95[1]
        assert score.value == pytest.approx(score.floor, rel=0.15, abs=0.05), key
    for name, keys in {
        "moved": ("kid", "precision", "recall", "density", "coverage"),
        "collapsed": ("kid", "recall", "coverage", "vendi"),
    }.items():
        for key in keys:
            score = found[name][key]
            assert score.ci95[0] > score.floor if key == "kid" else score.ci95[1] < score.floor, (name, key)


def test_shares_of_none_and_all_have_intervals() -> None:
    # A jackknife of no film within any radius is of width 0: the expected share, small as it is, was outside of it.
    far = {m.measure: m for m in manifold_scores(cloud(0, 60), np.arange(60), cloud(1, 24, shift=50), "x", n=24)}
    assert {name: far[name].value for name in far} == dict.fromkeys(manifolds.NAMES, 0.0)
    for name in ("precision", "recall", "coverage"):
        assert far[name].ci95 == (0, pytest.approx(0.138, abs=0.001)), "Wilson: z² / (n + z²)"
    same = {
        m.measure: m for m in manifold_scores(np.repeat(cloud(0, 60), 2, 0), np.arange(120), cloud(0, 60), "x", n=59)
    }
    assert all(each.ci95[0] <= each.value <= each.ci95[1] <= 1 for name, each in same.items() if name != "density")


def test_ms_ssim_finds_similar_films():
    real, patients = pixels(0, 80), np.arange(80).astype(str)
    (same,) = ms_ssim_scores(real.__getitem__, patients, pixels(1, 80), n=60)
    assert (same.measure, same.protocol, same.num_fake) == ("msssim", "3scales", 60)
    assert abs(same.value - same.floor) < same.ci95[1] - same.ci95[0]  # the floor has noise of its own
    (alike,) = ms_ssim_scores(real.__getitem__, patients, np.repeat(pixels(1, 2), 40, axis=0), n=60)
    assert alike.ci95[0] > same.ci95[1]


def test_the_interval_of_few_pairs_holds_the_mean_of_many() -> None:
    # Of three pairs two degrees of freedom: with the normal's 1.96 it held the mean in 4 trials of 5.
    # similar, by about as much
    films = ((2 * pixels(1, 1).astype(int) + pixels(0, 600)) // 3).astype(np.uint8)[:, 16:48, 16:48]
    (truth,) = ms_ssim_scores(films.__getitem__, np.arange(8), films, n=600)
    few = [ms_ssim_scores(films.__getitem__, np.arange(4), films[6 * i : 6 * i + 6], n=6)[0] for i in range(100)]
    assert np.mean([each.ci95[0] <= truth.value <= each.ci95[1] for each in few]) >= 0.92


def test_pairs_are_of_different_patients():
    films = pixels(0, 40).repeat(10, axis=0)  # ten equal films a patient: a pair of one patient would be 1
    (score,) = ms_ssim_scores(films.__getitem__, np.repeat(np.arange(40), 10), films[::10], n=40)
    assert score.floor < 0.5
    assert (score.num_real, score.num_fake) == (40, 40)


@pytest.mark.parametrize(
    ("patients", "fakes", "n", "counts"), [(315, 320, 320, (314, 320)), (41, 39, 39, (38, 38)), (5, 9, 60, (4, 8))]
)
def test_of_an_odd_number_of_films_or_patients_one_is_in_no_pair(
    patients: int, fakes: int, n: int, counts: tuple[int, int]
) -> None:
    # 315 patients below n gave "cannot reshape array of size 315 into shape (2)".
    films = pixels(0, max(patients, fakes))
    (score,) = ms_ssim_scores(films.__getitem__, np.arange(patients), films[:fakes], n=n)
    assert (score.num_real, score.num_fake) == counts
    assert score.num_fake == counts[1]


@pytest.mark.parametrize("scores", [kernel_scores, manifold_scores, vendi_scores])
def test_what_cannot_be_scored_is_named(scores):
    real, patients = cloud(0, 100), np.arange(100)
    with pytest.raises(ValueError, match="not finite"):
        scores(real, patients, np.full((60, 6), np.nan), "x", n=40)
    with pytest.raises(ValueError, match="all 60 films have the same features"):
        scores(real, patients, np.ones((60, 6)), "x", n=40)


def test_the_protocol_refuses_what_it_cannot_keep():
    real = cloud(0, 100)
    with pytest.raises(ValueError, match="100 real films do not give 60 per set"):
        against_floor(lambda a, b: np.zeros(1), real, np.arange(100), real, n=60)
    assert films_a_side(np.array(["a", "a", "a", "b", "c"])) == 1
    assert films_a_side(np.array([])) == 0
