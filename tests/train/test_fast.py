"""The fast passes, on a CPU: near the exact ones, R1 untouched, and uncompiled where compiling fails."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.train.test_loop import small
from thiscxr.config import load_config
from thiscxr.data.pool import Pool
from thiscxr.train.films import Films
from thiscxr.train.training import Training


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    """Stand in for the compiler, which takes half a minute: every pass through what it made is noted with the shape of its first input."""
    passes = []

    def compile(network: nn.Module, **_: object) -> Callable:
        def run(*inputs: torch.Tensor) -> torch.Tensor:
            passes.append((type(network).__name__, tuple(inputs[0].shape)))
            return network(*inputs)

        return run

    monkeypatch.setattr(torch, "compile", compile)
    return passes


def steps(pool: Pool, out: Path, count: int, **changes: object) -> tuple[Training, list[dict[str, float]]]:
    config = small(pool, out, **changes)
    training = Training(config, Films(pool, config))
    return training, [training.step() for _ in range(count)]


def test_it_is_a_switch() -> None:
    assert [load_config(None, (f"fast={word}",)).fast for word in ("true", "false")] == [True, False]
    with pytest.raises(ValueError, match="fast is 'off', but must be bool"):
        load_config(None, ("fast=off",))


def test_losses_stay_near_weights_stay_float32_and_r1_is_exact(pool: Pool, tmp_path: Path, compiled: list) -> None:
    exact, expected = steps(pool, tmp_path, 9, grow_kimg=0.032, fade_kimg=0.016)
    assert compiled == []
    fast, found = steps(pool, tmp_path, 9, fast=True, grow_kimg=0.032, fade_kimg=0.016)
    assert found[0]["loss/R1"] == pytest.approx(expected[0]["loss/R1"], rel=1e-5), "both networks are new in the first step"
    assert found[0]["loss/D"] != expected[0]["loss/D"], "bfloat16 must have been at work"
    for step, wanted in zip(found, expected, strict=True):
        wanted.pop("D/sign", None), step.pop("D/sign", None)  # counts signs: one logit near zero is a jump
        assert step == pytest.approx(wanted, rel=0.1, abs=0.05)
    assert {p.dtype for p in (*fast.G.parameters(), *fast.D.parameters())} == {torch.float32}
    assert fast.state().keys() == exact.state().keys()


def test_nothing_is_compiled_while_a_block_is_blended_in(pool: Pool, tmp_path: Path, compiled: list) -> None:
    training, _ = steps(pool, tmp_path, 4, fast=True, grow_kimg=0.032, fade_kimg=0.016, r1_interval=100)
    assert {shape for name, shape in compiled if name == "Discriminator"} == {(16, 1, 16, 16), (8, 1, 16, 16)}, "D judges both"
    compiled.clear()
    for _ in range(2):  # films 32 to 47: the block of 32 px is blended in
        training.step()
    assert compiled == []
    training.step()
    assert {shape for name, shape in compiled if name == "Discriminator"} == {(16, 1, 32, 32), (8, 1, 32, 32)}


def test_where_compiling_fails_it_says_so_once_and_goes_on(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(network: nn.Module, **_: object) -> Callable:
        def run(*inputs: torch.Tensor) -> torch.Tensor:
            raise torch._dynamo.exc.TorchDynamoException("no C compiler\nand more")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    caplog.set_level("INFO")
    training, losses = steps(pool, tmp_path, 8, fast=True, grow_kimg=0.016, fade_kimg=0.0)
    assert [record.message for record in caplog.records] == ["the networks run uncompiled: no C compiler"]
    assert losses[-1]["loss/D"] > 0
    assert all(p.requires_grad for p in training.D.parameters())


@pytest.mark.slow
def test_the_compiler_itself_on_a_cpu(pool: Pool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    _, expected = steps(pool, tmp_path, 3, grow_from=0)
    _, found = steps(pool, tmp_path, 3, fast=True, grow_from=0)
    assert "uncompiled" not in caplog.text
    for step, wanted in zip(found, expected, strict=True):
        assert step == pytest.approx(wanted, rel=0.1, abs=0.05)
