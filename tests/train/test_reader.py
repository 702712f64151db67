"""The reader: it learns what is there, ignores what is unknown, and its file is refused when it is something else."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from thiscxr.data.pool import Pool
from thiscxr.model.conditions import Vocabulary
from thiscxr.train.reader import auc, judge_reader, load_reader, masked, read_targets, reader_loss, save_reader, train_reader


@pytest.mark.parametrize(
    ("truth", "scores", "area"),
    [
        ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.75),  # the example of scikit-learn's roc_auc_score
        ([0, 1], [1.0, 0.0], 0.0),
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 0.5),
    ],
)
def test_auc_of_known_tables(truth: list[int], scores: list[float], area: float) -> None:
    assert auc(np.array(truth, bool), np.array(scores)) == pytest.approx(area)


def test_auc_of_one_class_is_no_number() -> None:
    assert np.isnan(auc(np.ones(3, bool), np.arange(3.0)))


def test_unknown_targets_neither_count_nor_teach() -> None:
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
    targets = read_targets(pool, indices, Vocabulary(("Effusion", "Hernia"), ("AP", "PA"), ("discs",)))
    assert targets["findings"][:, 0].tolist() == [1, 1, 0, 0, 1, 1, 0, 0]
    assert torch.isnan(targets["findings"][:, 1]).all(), "Hernia is not annotated in this collection"
    assert targets["view"].tolist() == [0, 1] * 4


def test_it_learns_a_planted_finding_and_survives_its_file(pool: Pool, tmp_path: Path) -> None:
    reader = train_reader(pool, epochs=6, seed=0)
    judged = judge_reader(reader, pool)
    assert judged["auc"]["Effusion"] > 0.95
    assert abs(judged["auc"]["sex"] - 0.5) < 0.35, "nothing in a disc tells the sex"
    assert "Hernia" not in judged["auc"]
    path = tmp_path / "reader.safetensors"
    save_reader(path, reader, pool, judged)
    again, metadata = load_reader(path)
    images = torch.randn(3, 1, 32, 32)
    torch.testing.assert_close(again.features(images), reader.features(images))
    assert metadata["judged"] == judged
    assert metadata["pool_fingerprint"] == pool.fingerprint


def test_what_is_not_a_reader_is_refused(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load_reader(tmp_path / "x.safetensors")
