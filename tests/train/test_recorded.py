"""A training of eight steps gives the recorded losses and weights on every processor, and one that is changed a little
does not.

It runs in float64, where instruction sets and numbers of threads differ in the last digits only. Record it anew, after
a change that is meant to change trainings, with

    THISCXR_RECORD=1 pytest tests/train/test_recorded.py -k are_the_recorded_ones

and see how far every instruction set is from the limit with `pytest -s tests/train/test_recorded.py -k
every_instruction_set`.
"""

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from test_loop import small

from thiscxr.pool import Pool
from thiscxr.train.films import Films
from thiscxr.train.training import Training

RECORDED = Path(__file__).parents[1] / "golden" / "training.json"
LIMIT = 1e-8  # relative; instruction sets differ by 2e-14
STEPS = 8
# In so few steps the films grow, the last block is blended in, R1 comes three times, the augmentation sets in, and the
# half-life of the average is a share of the films seen at first and then constant.
SHORT: dict[str, object] = {
    "grow_kimg": 0.024, "fade_kimg": 0.024, "r1_gamma": 1.0, "r1_interval": 3, "augment_kimg": 0.1,
    "augment_target": 0.1, "ema_kimg": 0.02, "ema_rampup": 0.8,
}  # fmt: skip
RECIPES: dict[str, dict[str, object]] = {
    "default": {},
    "plain": {"relativistic": False, "contrast": 0.0, "fresh_fakes": True, "patch": 1, "grow_from": 0},
}


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def begun(pool: Pool, recipe: str, **changes: object) -> Training:
    config = small(pool, Path("unused"), **{**SHORT, **RECIPES[recipe], **changes})
    return Training(config, Films(pool, config))


def report_of(training: Training) -> dict[str, float]:
    """Return the losses of every step, and at the end the sizes of all weights and how far the average lags behind."""
    found = {f"{name} of step {step}": value for step in range(STEPS) for name, value in training.step().items()}
    with torch.no_grad():
        for letter, network in (("G", training.G), ("D", training.D)):
            found |= {f"size of {letter}.{name}": p.norm().item() for name, p in network.named_parameters()}
        pairs = zip(training.G_ema.named_parameters(), training.G.parameters(), strict=True)
        found |= {f"lag of {name}": (average - p).norm().item() for (name, average), p in pairs}
        return found | {"size of w_mean": training.G.w_mean.norm().item()}


def distance(found: dict[str, float], recipe: str) -> tuple[float, str]:
    """Return the largest difference from what was recorded, relative to the value or to 0.001, and of what."""
    expected = json.loads(RECORDED.read_text())[recipe]
    assert found.keys() == expected.keys()
    return max((abs(found[name] - value) / max(abs(value), 1e-3), name) for name, value in expected.items())


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("recipe", RECIPES)
def test_losses_and_weights_are_the_recorded_ones(pool: Pool, recipe: str, threads: int) -> None:
    torch.set_num_threads(threads)
    found = report_of(begun(pool, recipe))
    if os.environ.get("THISCXR_RECORD"):
        recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
        RECORDED.write_text(json.dumps({**recorded, recipe: found}, indent=1) + "\n")
    far, what = distance(found, recipe)
    print(f"{recipe}, {threads} threads: {far:.1e} ({what})")
    assert far < LIMIT, what


ISAS = {
    "ATEN_CPU_CAPABILITY": (None, "default", "avx2"),
    "ONEDNN_MAX_CPU_ISA": (None, "SSE41", "AVX2", "AVX512_CORE"),
}


@pytest.mark.slow
def test_every_instruction_set_gives_the_recorded_numbers() -> None:
    """With one thread and two; run with -s to see how far each is from the limit."""
    worst = 0.0
    for values in itertools.product(*ISAS.values()):
        environment = {name: value for name, value in os.environ.items() if name not in (*ISAS, "THISCXR_RECORD")}
        environment |= {name: value for name, value in zip(ISAS, values, strict=True) if value}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-s",
            "-p",
            "no:cacheprovider",
            __file__,
            "-k",
            "are_the_recorded_ones",
        ]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        found = {
            where: float(far) for where, far in re.findall(r"^\.?(\w+, \d threads): (\S+) \(", result.stdout, re.M)
        }
        print(", ".join(f"{name}={value or 'unset'}" for name, value in zip(ISAS, values, strict=True)), found)
        assert result.returncode == 0, result.stdout[-2000:]
        assert len(found) == 2 * len(RECIPES), result.stdout
        worst = max(worst, *found.values())
    print(f"worst {worst:.1e}, limit {LIMIT:.0e}")
    assert worst < LIMIT / 100, "there is no room to spare"


def heavier_r1(pool: Pool) -> Training:
    return begun(pool, "default", r1_gamma=1.01)


def longer_memory_of_adam(pool: Pool) -> Training:
    training = begun(pool, "default")
    for optimizer in (training.opt_G, training.opt_D):
        (beta1, beta2) = optimizer.param_groups[0]["betas"]
        optimizer.param_groups[0]["betas"] = (beta1, beta2 / 1.01)
    return training


def longer_half_life(pool: Pool) -> Training:
    return begun(pool, "default", ema_kimg=0.02 * 1.01)


def faster_rampup(pool: Pool) -> Training:
    return begun(pool, "default", ema_rampup=0.8 * 1.01)


def stronger_bias(pool: Pool) -> Training:
    training = begun(pool, "default")
    training.D.dense.bias_gain *= 1.01
    return training


@pytest.mark.parametrize("changed", [heavier_r1, longer_memory_of_adam, longer_half_life, faster_rampup, stronger_bias])
def test_a_hundredth_more_is_far_from_what_was_recorded(pool: Pool, changed: Callable[[Pool], Training]) -> None:
    far, what = distance(report_of(changed(pool)), "default")
    print(f"{changed.__name__}: {far:.1e} ({what})")
    assert far > 1e-3
