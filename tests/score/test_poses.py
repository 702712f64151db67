"""Poses: a classifier whose answer is known for every pose is fooled exactly where it must be."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from thiscxr.model.conditions import Condition, FilmConditions
from thiscxr.phantom.labelled import draw_posed_films
from thiscxr.pool import Pool
from thiscxr.reader.network import Reader, ReaderConfig
from thiscxr.score.fakes import FakeFilms
from thiscxr.score.poses import AMOUNTS, PosedFilms, Poses, crossing, pool_poses, poses
from thiscxr.score.records import Record


class Side(Reader):
    """Predicts a finding where the right half of the film is brighter than the left one; the sex by the brightness,
    whatever the pose."""

    def __init__(self) -> None:
        super().__init__(ReaderConfig(("Mass",), ("PA",), (), 32, (8, 8)))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        half = images.shape[-1] // 2
        lean = (images[..., half:].mean(dim=(1, 2, 3)) - images[..., :half].mean(dim=(1, 2, 3)))[:, None]
        zero = torch.zeros_like(lean)
        return {"findings": lean, "view": zero, "source": zero[:, :0], "sex": images.mean(dim=(2, 3)), "age": zero}


def bars(count: int, seed: int) -> PosedFilms:
    """A narrow bright bar a film, 1.5 to 4.5 px of 32 right of the middle (Mass) or left of it; as many bright films as
    dark ones."""
    rng = np.random.default_rng(seed)
    x = np.arange(32) + 0.5
    offsets = rng.uniform(1.5, 4.5, count) * np.where(np.arange(count) % 2, 1, -1)
    grey = np.where(np.arange(count) // 2 % 2, 150, 40)
    pixels = np.stack(
        [np.tile(g + 80 * np.exp(-((x - 16 - o) ** 2) / 2), (32, 1)) for o, g in zip(offsets, grey, strict=True)]
    )
    known = [
        Condition("PA", "F" if g > 100 else "M", 50.0, None, {"Mass": int(o > 0)})
        for o, g in zip(offsets, grey, strict=True)
    ]
    return PosedFilms(np.rint(pixels).astype(np.uint8), np.arange(count), FilmConditions.of(known))


@pytest.fixture(scope="module")
def found() -> Poses:
    return poses(Side().eval(), {"real": bars(80, 0), "synthetic": bars(60, 1)})


def test_predictions_flip_at_the_known_pose(found: Poses) -> None:
    curves = {(curve.group, curve.question, curve.motion): curve for curve in found.curves}
    for group in ("real", "synthetic"):
        shifted = curves[group, "Mass", "shift_x"]
        # A fifth of the bars of the half that moves over the middle has crossed it: 1.5 + 0.2 * 3 px of 32.
        assert shifted.fooled == pytest.approx((-2.1 / 32, 2.1 / 32), abs=0.02)
        assert shifted.flipped[0] == pytest.approx(0.5, abs=0.08), "by 15 % every bar of one side"
        assert shifted.flipped[len(shifted.amounts) // 2] == 0
        for question, motion in (("Mass", "shift_y"), ("sex", "shift_x"), ("sex", "turn"), ("Mass", "scale")):
            still = curves[group, question, motion]
            assert still.fooled == (-np.inf, np.inf), still
            assert still.flipped.max() <= 0.1
            assert still.floor <= 0.05
        assert (group, "age", "turn") not in curves


def test_numbers_and_words(found: Poses) -> None:
    spans = {(each.group, each.motion): each for each in found.spans}
    assert spans["real", "shift_x"].num_films + spans["real", "shift_x"].left_out == 80
    assert all(each.low <= each.high for each in found.spans)
    measured = {Record.of(each).key: each for each in found.measured("side")}
    assert set(measured) == {
        f"poses_side_{group}_{motion}_{question}_flipped"
        for group in ("real", "synthetic") for motion in AMOUNTS for question in ("Mass", "sex")
    }  # fmt: skip
    number = measured["poses_side_synthetic_shift_x_Mass_flipped"]
    assert (number.num_real, number.num_fake) == (0, 60)
    assert number.ci95 is not None
    assert number.ci95[0] <= number.value <= number.ci95[1]
    lines = str(found).splitlines()
    assert len(lines) == 2 * len(AMOUNTS), "one a group and motion, whatever the number of questions"
    span = spans["real", "shift_x"]
    fooled = {
        curve.motion: curve.fooled for curve in found.curves if (curve.group, curve.question) == ("real", "Mass")
    }["shift_x"]
    inside = [f"{edge:.3g}" for edge in fooled if span.low <= edge <= span.high]
    (line,) = (line for line in lines if line.startswith("poses, real films, shift_x"))
    assert line.endswith(f"Mass (from {' and '.join(inside)})" if inside else "nothing")
    assert not [line for line in lines if "sex" in line], "the brightness of a film does not change as it moves"


def test_crossings() -> None:
    amounts = np.array([0.0, 1.0, 2.0])
    for shares, place in (([0.0, 0.05, 0.25], 1.25), ([0.0, 0.2, 0.0], 0.5), ([0.0, 0.1, 0.1], np.inf)):
        assert crossing(amounts, np.array(shares), 0.1, np.inf) == pytest.approx(place)
        assert crossing(-amounts, np.array(shares), 0.1, -np.inf) == pytest.approx(-place)


def test_a_pool_its_synthetic_films_and_phantoms(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    reader = Reader(ReaderConfig(("Effusion",), ("AP", "PA"), ("discs",), 32, (8, 8))).eval()
    fakes = FakeFilms(pool.read(np.arange(30)), [Condition("PA")] * 30, ["f"] * 30, None, "", None, None, {})
    found = pool_poses(reader, pool, fakes, phantoms=draw_posed_films(pool.resolution, 6), films=20)
    assert {curve.group for curve in found.curves} == {"real", "synthetic", "phantom"}
    assert {curve.question for curve in found.curves} == {"Effusion", "view PA", "sex"}, "two views flip together"
    assert {curve.num_films for curve in found.curves} == {20, 6}
    assert found.left_out == {}
    unread = FilmConditions.of([Condition("PA", "FM"[i % 2]) for i in range(40)])
    result = poses(Side().eval(), {"real": replace(bars(40, 0), conditions=unread)})
    assert result.left_out == {"Mass": "0 held-out patients with and 0 without it; at least 5 of either are needed"}
    assert "poses, Mass: left out: 0 held-out patients" in str(result)
    monkeypatch.setattr(pool, "indices", lambda split: np.arange(0))
    with pytest.raises(ValueError, match="has no held-out patients, whose films the classifier has not seen"):
        pool_poses(reader, pool, fakes)


def test_mistakes_are_refused() -> None:
    real = bars(40, 0)
    reader = Side().eval()
    with pytest.raises(ValueError, match="no question with 5 patients of either answer"):
        poses(reader, {"real": replace(real, conditions=FilmConditions.of([Condition()] * 40))})


def test_phantoms_are_labelled() -> None:
    films = draw_posed_films(32, 4)
    assert films.pixels.shape == (4, 32, 32)
    assert [films.conditions.names["view"][code] for code in films.conditions.view] == ["PA", "AP_supine"] * 2
