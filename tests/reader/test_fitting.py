"""How a network is fitted: mixup of films and targets, the average of its weights, small films first."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from thiscxr.api import phantom
from thiscxr.pool import Pool
from thiscxr.reader import training
from thiscxr.reader.fitting import Schedule, fit
from thiscxr.reader.measuring import COLUMNS, measure
from thiscxr.reader.segmenter import find_segmenter
from thiscxr.reader.training import Recipe, train_reader

# 32 films of one grey each
FILMS = np.arange(0, 256, 8, dtype=np.uint8)[:, None, None] * np.ones((1, 32, 32), np.uint8)
GREYS = {"grey": torch.from_numpy(FILMS[:, 0, :1] / 127.5 - 1).float()}  # [32, 1]


class Scale(nn.Module):
    """Returns the mean grey of a film times one weight, and keeps its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.shown: list[Tensor] = []
        self.before: list[float] = []  # the weight before each step

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        self.shown.append(images.mean(dim=(1, 2, 3)))
        self.before.append(self.weight.item())
        return {"grey": self.shown[-1][:, None] * self.weight}


def error(answers: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
    return (answers["grey"] - 0.5 * targets["grey"]).square().mean()


def fitted(schedule: Schedule, steps: int) -> Scale:
    network = Scale()
    fit(network, FILMS, GREYS, error, steps, seed=3, batch=8, schedule=schedule)
    return network


def test_mixed_films_are_trained_on_mixed_targets() -> None:
    batches: list[list[Tensor]] = []
    shares = []

    def noted(answers: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        batches.append([answers["grey"][:, 0].detach(), targets["grey"][:, 0]])
        return answers["grey"].mean() * 0 + targets["grey"].sum() * 0

    network = Scale()
    fit(network, FILMS, GREYS, noted, 12, seed=3, batch=8, schedule=Schedule(strength=0.0, mixup=0.4))
    own, other = ([targets for _, targets in batches[k::2]] for k in (0, 1))
    for shown, mine, theirs in zip(network.shown, own, other, strict=True):
        assert sorted(mine.tolist()) == sorted(theirs.tolist()), "the others are of the same batch"
        apart = (mine - theirs).abs() > 0.05
        share = ((shown - theirs) / (mine - theirs))[apart]
        torch.testing.assert_close(share, share[:1].expand_as(share), atol=1e-4, rtol=0)
        shares.append(share[0].item())
    assert min(shares) >= 0.5
    assert max(shares) <= 1 + 1e-4
    assert len({round(share, 3) for share in shares}) > 8, "a share is drawn for each step"


def test_without_mixup_the_films_are_as_they_are() -> None:
    network = fitted(Schedule(strength=0.0), 4)
    assert sorted(torch.cat(network.shown).tolist()) == pytest.approx(GREYS["grey"][:, 0].tolist(), abs=1e-6)


def test_the_weights_that_are_kept_are_an_average_of_the_steps() -> None:
    plain = fitted(Schedule(strength=0.0), 10)
    averaged = fitted(Schedule(strength=0.0, average=0.5), 10)
    after = [*plain.before[1:], plain.weight.item()]
    assert averaged.before == plain.before, "the average does not disturb the training"
    expected = plain.before[0]
    for step, weight in enumerate(after):
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * weight
    assert averaged.weight.item() == pytest.approx(expected, abs=1e-6)
    assert abs(averaged.weight.item() - after[-1]) > 1e-4


class Noted(nn.Conv2d):
    """Keeps the dtypes of what it returns."""

    def __init__(self) -> None:
        super().__init__(1, 1, 1)
        self.dtypes: list[torch.dtype] = []

    def forward(self, images: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        made = super().forward(images)
        self.dtypes.append(made.dtype)
        return {"grey": made.mean(dim=(2, 3)).float()}


@pytest.mark.parametrize("bf16", [False, True])
def test_half_precision_is_of_activations_and_learns_the_same(bf16: bool) -> None:
    network = Noted()
    nn.init.zeros_(network.weight)
    fit(network, FILMS, GREYS, error, 300, 0, batch=16, schedule=Schedule(rate=0.05, decay=0, strength=0, bf16=bf16))
    assert set(network.dtypes) == {torch.bfloat16 if bf16 else torch.float32}
    assert network.weight.dtype == torch.float32
    assert network.weight.item() == pytest.approx(0.5, abs=0.01)


def test_a_classifier_learns_in_half_precision(pool: Pool) -> None:
    reader = train_reader(pool, epochs=1, seed=0, recipe=Recipe(res=32, bf16=True))
    assert all(weight.dtype == torch.float32 for weight in reader.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert all(logits.dtype == torch.float32 for logits in reader(torch.zeros(1, 1, 32, 32)).values())


def test_a_classifier_of_large_films_has_a_recipe_of_its_own(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def noted(_: Any, __: Any, targets: Any, loss: Any, *___: Any, schedule: Schedule, batch: int, **____: Any) -> None:
        assert (schedule.mixup, batch) == (0.4, 32)
        unknown = {name: torch.full_like(values, -100 if name in ("view", "source") else torch.nan)
                   for name, values in targets.items()}  # fmt: skip
        answers = {name: torch.zeros(len(values), *values.shape[1:] or (1,)) for name, values in targets.items()}
        value = loss(answers, unknown | {"age": torch.full_like(targets["age"], 0.5)})
        assert value.item() == pytest.approx(0.5), "L1, not a half of the Huber loss, 0.0625"
        assert torch.isnan(targets["measures"]).all(), "discs have neither lungs nor a heart"

    monkeypatch.setattr(training, "fit", noted)
    reader = train_reader(pool, epochs=1, seed=0, recipe=Recipe(res=128))
    assert reader.features(torch.zeros(2, 1, 128, 128)).shape == (2, 256)
    assert len(reader.blocks) == 3
    assert reader(torch.zeros(2, 1, 128, 128))["measures"].shape == (2, len(COLUMNS))


def test_the_measures_that_it_learns_are_those_of_the_table(tmp_path: Path) -> None:
    pool = Pool.open(phantom(tmp_path / "pool", n=30, res=64))
    rows = np.arange(len(pool))[::2]
    learnt = training.measure_targets(pool, rows).numpy()
    measure(pool.path, tmp_path / "measures.csv", find_segmenter("lungs128")[0])
    with open(tmp_path / "measures.csv", newline="", encoding="utf-8") as file:
        table = np.array([[float(row[name] or "nan") for name in COLUMNS] for row in csv.DictReader(file)])[rows]
    assert np.isnan(table).any(axis=1).sum() < 8, "most phantoms have lungs and a heart"
    expected = (table - np.nanmean(table, axis=0)) / np.nanstd(table, axis=0)
    np.testing.assert_allclose(learnt, expected.clip(-4, 4), atol=0.02)


def test_an_unknown_measure_has_no_loss() -> None:
    nothing = torch.full((3, 1), float("nan"))
    known = {"findings": nothing, "sex": nothing, "age": nothing, "view": torch.full((3,), -100)}
    known |= {"source": torch.full((3,), -100), "measures": torch.tensor([[float("nan"), 2.0]] * 3)}
    answers = {"findings": nothing * 0, "sex": nothing * 0, "age": nothing * 0, "view": torch.zeros(3, 2)}
    answers |= {"source": torch.zeros(3, 1), "measures": torch.tensor([[7.0, 1.5]] * 3)}
    answers = {name: torch.nan_to_num(values) for name, values in answers.items()}
    assert training.reader_loss(answers, known).item() == pytest.approx(0.125), "smooth L1 of 0.5"


def test_the_recipe_follows_from_the_resolution() -> None:
    small, large, dense = Recipe(), Recipe(res=128), Recipe(backbone="densenet121", res=256)
    assert [each.step for each in (small, large, dense)] == [64, 32, 16]
    assert [each.most for each in (small, large, dense)] == [1, 5, 1]
    assert Recipe(res=128, max_weight=2, batch=8).most == 2
    assert (small.schedule.mixup, dense.schedule.rate) == (0, 1e-3)
