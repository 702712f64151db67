"""Gains between arms: intervals that hold the truth, and the smallest gain that a test could detect, on planted
answers."""

import numpy as np
import pytest
from scipy.stats import norm

from thiscxr.score.gains import Gain, areas, difference, gains, too_few
from thiscxr.score.records import Record

PATIENTS = np.repeat(np.arange(150), 2)


def answers(
    rng: np.random.Generator, truth: np.ndarray, signals: dict[str, float], seeds: int, spread: float
) -> dict[str, np.ndarray]:
    """Scores [seeds, n] an arm: what all arms share on a film, the arm's own signal, and the change with a seed."""
    common = rng.normal(size=len(truth))
    return {
        arm: np.stack(
            [
                truth * (signal + spread * rng.normal()) + common + 0.5 * rng.normal(size=len(truth))
                for _ in range(seeds)
            ]
        )
        for arm, signal in signals.items()
    }


def one(seed: int, gain: float, seeds: int = 3, spread: float = 0.15, base: float = 1.0) -> Gain:
    rng = np.random.default_rng(seed)
    truth = np.repeat(rng.random(150) < 0.3, 2).astype(float)
    found = {
        arm: areas({"Mass": truth}, {"Mass": each}, PATIENTS, seed, rounds=100)
        for arm, each in answers(rng, truth, {"more": base + gain, "less": base}, seeds, spread).items()
    }
    return gains({"Mass": truth}, found, PATIENTS, [("more", "less")], {})[0]


def test_intervals_cover_other_seeds_and_other_patients() -> None:
    found = [one(seed, 0.0) for seed in range(100)]
    covered = np.mean([gain.ci95[0] <= 0 <= gain.ci95[1] for gain in found])
    assert covered >= 0.92, covered
    # Seeds alone, or patients alone, would not do: the spread of the values is as wide as the interval and no
    # wider.
    wide = np.mean([(gain.ci95[1] - gain.ci95[0]) / 2 for gain in found])
    assert 1.7 < wide / np.std([gain.value for gain in found]) < 4.5


@pytest.mark.slow
def test_a_gain_of_the_smallest_size_is_found_in_about_80_of_100() -> None:
    smallest = np.mean([one(seed, 0.0, seeds=8).smallest for seed in range(20)])
    score_spread = np.sqrt(1.25)

    def auc(signal: float) -> float:
        return float(norm.cdf(signal / (score_spread * np.sqrt(2))))

    signals = np.linspace(1, 2, 2001)
    signal = signals[np.argmin(np.abs([auc(t) - auc(1.0) - smallest for t in signals]))]
    detected = np.mean([one(seed, signal - 1.0, seeds=8).verdict == "gain" for seed in range(100, 150)])
    assert 0.62 < detected < 0.94, (detected, smallest)


def test_smallest_gain_is_2_8_standard_errors_when_patients_and_seeds_are_many() -> None:
    rng = np.random.default_rng(0)
    one_side, other = rng.normal(size=(2, 400, 201))
    value, (low, high), smallest = difference(one_side, other, 10_000)
    error = (high - low) / 2 / norm.ppf(0.975)
    assert value == pytest.approx((one_side - other)[:, 0].mean())
    assert smallest / error == pytest.approx(2.8, abs=0.03)
    few = difference(one_side[:2], other[:2] + np.array([[0.0], [9.0]]), 10_000)
    assert few[2] / ((few[1][1] - few[1][0]) / 2) > 1.05, "two seeds that disagree: one degree of freedom, wide"
    assert few[1][1] - few[1][0] > 30


def test_verdicts_and_words() -> None:
    better, worse, same = one(1, 1.5), one(1, -0.9), one(1, 0.0)
    assert (better.verdict, worse.verdict, same.verdict) == ("gain", "loss", "no gain")
    assert str(better).endswith(": gain")
    assert str(same).endswith(f"no gain (a gain of {same.smallest:.3f} would have been detected)")
    measured = better.measured("64px_300steps", 77)
    assert Record.of(measured).key == "utility_64px_300steps_3seeds_more_over_less_Mass"
    assert (measured.value, measured.ci95, measured.num_fake, measured.num_real) == (better.value, better.ci95, 77, 300)


def test_means_over_questions_are_paired_by_patient() -> None:
    rng = np.random.default_rng(5)
    truth = {name: np.repeat(rng.random(150) < 0.3, 2).astype(float) for name in ("Mass", "Nodule")}
    parts = {name: answers(rng, values, {"more": 1.5, "less": 1.0}, 3, 0.05) for name, values in truth.items()}
    found = {arm: areas(truth, {name: part[arm] for name, part in parts.items()}, PATIENTS) for arm in ("more", "less")}
    mass, nodule, mean = gains(
        truth, found, PATIENTS, [("more", "less")], {"mean of findings": list(truth), "none": []}
    )
    assert mean.question == "mean of findings"
    assert mean.value == pytest.approx((mass.value + nodule.value) / 2)
    assert mean.smallest < max(mass.smallest, nodule.smallest)


def test_a_mean_is_of_the_same_questions_in_every_sample() -> None:
    """A question that half of the samples cannot answer: the mean was then of the other one, and the change counted as
    variance, with an interval of [0.00, 0.20] around a difference that no sample changes."""
    there = np.arange(201) % 2 == 0
    levels = {"more": (0.9, 0.7), "less": (0.7, 0.7)}
    found = {
        arm: {"Mass": np.full((2, 201), a), "Hernia": np.tile(np.where(there, b, np.nan), (2, 1))}
        for arm, (a, b) in levels.items()
    }
    truth = {name: np.repeat([1.0, 0.0], 20) for name in ("Mass", "Hernia")}
    (mean,) = (
        each
        for each in gains(truth, found, np.arange(40), [("more", "less")], {"mean": list(truth)})
        if each.question == "mean"
    )
    assert mean.value == pytest.approx(0.1)
    assert mean.ci95 == pytest.approx((0.1, 0.1))
    found["more"]["Hernia"][:, 1:] = np.nan
    (mean,) = (
        each
        for each in gains(truth, found, np.arange(40), [("more", "less")], {"mean": list(truth)})
        if each.question == "mean"
    )
    assert mean.value == pytest.approx(0.1)
    assert np.isnan(mean.ci95).all()
    assert mean.verdict == "no gain"


def test_what_cannot_be_tested_is_refused() -> None:
    truth = np.array([1.0] * 4 + [0.0] * 50 + [np.nan] * 10)
    assert too_few(truth, np.arange(64)) == (
        "4 held-out patients with and 50 without it; at least 5 of either are needed"
    )
    assert too_few(np.array([1.0, 0.0] * 5), np.arange(10) // 2) == ""
    assert too_few(np.array([1.0, 0.0] * 5), np.arange(10) // 5).startswith("2 held-out patients with"), (
        "ten films of two patients"
    )
    with pytest.raises(ValueError, match="Mass: 4 held-out patients with and 50 without it"):
        areas({"Mass": truth}, {"Mass": np.zeros((2, 64))}, np.arange(64))
    with pytest.raises(ValueError, match="1 seed of training; at least 2"):
        difference(np.zeros((1, 3)), np.zeros((1, 3)), 5)


def test_equal_arms_show_no_gain() -> None:
    truth = {"Mass": (np.arange(60) % 3 == 0).astype(float)}
    same = areas(truth, {"Mass": np.stack([truth["Mass"]] * 2)}, np.arange(60), rounds=20)
    (gain,) = gains(truth, {"a": same, "b": same}, np.arange(60), [("a", "b")], {})
    assert (gain.value, gain.ci95, gain.auc, gain.verdict) == (0.0, (0.0, 0.0), 1.0, "no gain")
    assert str(gain).endswith("no gain (no gain can be detected here)")
