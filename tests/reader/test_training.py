"""The classifier: it learns known labels and ignores unknown ones, and other files are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from thiscxr.labels import FINDINGS, NOT_ANNOTATED, NOT_MENTIONED, UNCERTAIN
from thiscxr.model.conditions import Condition, FilmConditions, Vocabulary
from thiscxr.pool import Pool
from thiscxr.reader.evaluation import evaluate, read_films
from thiscxr.reader.fitting import condition_targets
from thiscxr.reader.network import Reader, ReaderConfig
from thiscxr.reader.training import (
    Recipe,
    load_folds,
    load_reader,
    masked,
    positive_weights,
    reader_loss,
    save_reader,
    take_back,
    train_folds,
    train_reader,
)
from thiscxr.train.conditions import read_conditions


def test_unknown_targets_have_no_loss_and_no_gradient() -> None:
    answers = torch.tensor([[2.0], [-1.0], [0.5]], requires_grad=True)
    targets = torch.tensor([[1.0], [float("nan")], [0.0]])
    loss = masked(F.binary_cross_entropy_with_logits, answers, targets)
    expected = F.binary_cross_entropy_with_logits(answers[[0, 2]], targets[[0, 2]])
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert answers.grad[1].item() == 0
    nothing = {
        "findings": torch.full((3, 1), float("nan")),
        "sex": torch.full((3, 1), float("nan")),
        "age": torch.full((3, 1), float("nan")),
    }
    unknown = nothing | {"view": torch.full((3,), -100), "source": torch.full((3,), -100)}
    names = {"findings": 1, "sex": 1, "age": 1, "view": 2, "source": 2}
    assert reader_loss({name: torch.randn(3, width) for name, width in names.items()}, unknown).item() == 0


def test_targets_keep_the_five_states_apart(pool: Pool) -> None:
    indices = pool.indices("all")[:8]
    targets = condition_targets(
        read_conditions(pool, indices), Vocabulary(("Effusion", "Hernia"), ("AP", "PA"), ("discs",))
    )
    assert targets["findings"][:, 0].tolist() == [1, 1, 0, 0, 1, 1, 0, 0]
    assert torch.isnan(targets["findings"][:, 1]).all(), "Hernia is not annotated in this collection"
    assert targets["view"].tolist() == [0, 1] * 4


def test_the_target_of_an_uncertain_finding_follows_the_policy() -> None:
    states = (UNCERTAIN, NOT_MENTIONED, NOT_ANNOTATED)
    doubtful = FilmConditions.of([Condition(findings=dict.fromkeys(FINDINGS, state)) for state in states])
    for policy, first in (("ignore", np.nan), ("zeros", 0.0), ("ones", 1.0)):
        targets = condition_targets(doubtful, Vocabulary(("Mass",), ("PA",), ("a",)), policy)
        np.testing.assert_array_equal(targets["findings"][:, 0], [first, np.nan, np.nan], err_msg=policy)
        assert targets["view"].tolist() == [-100] * 3
    with pytest.raises(ValueError, match="uncertain is 'twos', expected one of ignore, zeros, ones"):
        Recipe(uncertain="twos")


def test_present_findings_weigh_as_much_as_absent_ones_up_to_the_limit() -> None:
    nan = float("nan")
    findings = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0], [nan, nan, nan]])
    assert positive_weights(findings, 10).tolist() == [3, 1, 4], "the second is common; the third is never there"
    assert positive_weights(findings, 2).tolist() == [2, 1, 2]
    assert positive_weights(findings, 1).tolist() == [1, 1, 1]
    answers = {"findings": torch.zeros(5, 3)} | {name: torch.zeros(5, 1) for name in ("sex", "age", "view", "source")}
    unknown = {name: torch.full((5, 1), nan) for name in ("sex", "age")} | {
        name: torch.full((5,), -100) for name in ("view", "source")
    }
    loss = reader_loss(answers, {"findings": findings, **unknown}, torch.tensor([3.0, 1.0, 4.0]))
    assert loss.item() == pytest.approx(np.log(2) * (6 + 4 + 4) / 12)


def test_weights_do_not_spoil_the_probabilities() -> None:
    """For uninformative films the best prediction is the share with the finding; a weighted loss raises it until the
    weight is taken back."""
    findings = torch.tensor([[1.0, 1.0]] + [[0.0, 1.0]] * 2 + [[0.0, 0.0]] * 5)  # shares of 1 in 8 and 3 in 8
    weights = positive_weights(findings, 5)
    reader = Reader(ReaderConfig(("Mass", "Edema"), ("PA",), ("a",), 32))
    features, bias = torch.zeros(8, 128), reader.heads["findings"].get_parameter("bias")
    unknown = {name: torch.full((8, 1), float("nan")) for name in ("sex", "age")}
    unknown |= {name: torch.full((8,), -100) for name in ("view", "source")}
    descent = torch.optim.LBFGS([bias], max_iter=100)

    def loss() -> torch.Tensor:
        descent.zero_grad()
        value = reader_loss(reader.answers(features), {"findings": findings, **unknown}, weights)
        value.backward()
        return value

    descent.step(loss)
    assert (torch.sigmoid(bias) > torch.tensor([0.4, 0.45])).all()
    take_back(reader, weights)
    torch.testing.assert_close(torch.sigmoid(bias.detach()), torch.tensor([1 / 8, 3 / 8]), atol=1e-3, rtol=0)


def test_a_loss_that_is_not_finite_stops_it(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thiscxr.reader.fitting.augment", lambda films, *_: films * float("nan"))
    with pytest.raises(FloatingPointError, match="classifier: the loss is not finite after 0 films"):
        train_reader(pool, epochs=1, seed=0)


def test_it_learns_a_planted_finding_and_survives_its_file(pool: Pool, tmp_path: Path) -> None:
    reader = train_reader(pool, epochs=6, seed=0, recipe=Recipe(max_weight=10, res=32))
    summary = evaluate([read_films(reader, pool, pool.indices("holdout"))]).brief()
    assert summary["auc"]["Effusion"] > 0.95
    assert abs(summary["auc"]["sex"] - 0.5) < 0.35, "a disc has no information on the sex"
    assert "Hernia" not in summary["auc"]
    path = tmp_path / "reader.safetensors"
    save_reader(path, reader, pool, summary)
    again, metadata = load_reader(path)
    images = torch.randn(3, 1, 32, 32)
    torch.testing.assert_close(again.features(images), reader.features(images))
    assert metadata["judged"] == summary
    assert metadata["pool_fingerprint"] == pool.fingerprint


def test_folds_are_halves_of_all_patients_whatever_their_order(pool: Pool, tmp_path: Path) -> None:
    recipe = Recipe(res=32)
    folds = train_folds(pool, epochs=1, seed=0, recipe=recipe)
    marks = [digest[:16] for digest in pool.column("sha256")]
    one, other = (fold.trained_on for fold in folds)
    assert not one & other
    assert one | other == set(marks)
    assert 0.35 < len(one) / len(marks) < 0.65
    for patient in np.unique(pool.column("patient")):
        films = {marks[row] for row in np.flatnonzero(pool.column("patient") == patient)}
        assert films <= one or films <= other, "a patient is in both halves"
    save_reader(tmp_path / "reader.safetensors", train_reader(pool, epochs=1, seed=0, recipe=recipe), pool, {}, folds)
    again = load_folds(tmp_path / "reader.safetensors")
    images = torch.randn(2, 1, 32, 32)
    for fold, same in zip(folds, again, strict=True):
        torch.testing.assert_close(same.reader.features(images), fold.reader.features(images))
        assert same.trained_on == fold.trained_on


def test_a_file_that_is_no_classifier_is_refused(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load_reader(tmp_path / "x.safetensors")
