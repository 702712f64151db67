"""Directions: a planted axis is found and a planted confounder kept still, steps are even, and what cannot be
predicted is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors import safe_open

from thiscxr import cli
from thiscxr.latent import direction as maths
from thiscxr.latent import slider
from thiscxr.latent.direction import Gradients, choose_axis, fit_gradients, held_still, movements, place_steps
from thiscxr.pixels import read_png_text

D = 12
rng = np.random.default_rng(0)
MIX = rng.normal(size=(D, D)) * np.geomspace(2, 0.1, D)  # w varies twenty times as much in one direction as in another
MOVES, OTHER = rng.normal(size=(2, D)) @ np.linalg.inv(MIX)  # gradients of two scores that are correlated on the films
OTHER = 0.8 * MOVES + 0.6 * OTHER


def films(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, D)) @ MIX.T + 3


def read(w: np.ndarray) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(len(w)).normal(size=(2, len(w)))
    return {"Cardiomegaly": w @ MOVES + 0.3 * noise[0], "sex": w @ OTHER + 0.3 * noise[1]}


@pytest.fixture(scope="module")
def found() -> Gradients:
    w = films(3000)
    return fit_gradients("Cardiomegaly", w, read(w), ["sex"])


def test_the_planted_axis_moves_the_target_and_not_what_is_correlated_with_it(found: Gradients) -> None:
    assert found.r2 > 0.9
    axis = found.axis()
    target, other = axis.step @ MOVES, axis.step @ OTHER
    assert target > 0
    assert abs(other / target) < 0.1
    loose = found.axis(0.0)
    assert abs(loose.step @ OTHER) / (loose.step @ MOVES) > 0.5, "not held, the other moves along"
    assert loose.kept == pytest.approx(1)
    assert axis.kept < 0.9
    leaks = [abs(a.step @ OTHER) / (a.step @ MOVES) for a in map(found.axis, maths.FIRMNESS)]
    assert leaks[1:] == sorted(leaks[1:]), "the less firmly, the more moves along"
    assert leaks[0] < 0.1


def test_a_place_is_in_standard_deviations_and_a_moved_film_is_there(found: Gradients) -> None:
    axis, w = found.axis(), films(4000, seed=2)
    assert axis.gauge @ axis.step == pytest.approx(1)
    assert axis.places(w).std() == pytest.approx(1, abs=0.1)
    moved = axis.moved(w[:5], 1.5)
    assert axis.places(moved) == pytest.approx(np.full(5, 1.5))
    across = np.linalg.svd(axis.step[None])[2][1:]  # all that is not along the axis
    assert (moved - w[:5]) @ across.T == pytest.approx(np.zeros((5, D - 1)), abs=1e-9)


def test_steps_are_even_in_the_score_although_it_bends(found: Gradients) -> None:
    axis, w = found.axis(), films(200, seed=3)

    def bent(w: np.ndarray) -> dict[str, np.ndarray]:
        return {"Cardiomegaly": np.sinh(axis.places(w))}

    places = place_steps(axis, w, bent, -2.0, 3.0, 6)
    assert np.sinh(places) == pytest.approx(np.linspace(-2, 3, 6), abs=0.06)
    beyond = place_steps(axis, w, bent, -2.0, 100.0, 5)
    assert beyond[-1] == maths.REACH, "no further than films are"
    steps = np.diff(np.sinh(beyond))
    assert steps == pytest.approx(np.full(4, steps.mean()), rel=0.1)
    flat = place_steps(axis, w, lambda w: {"Cardiomegaly": np.minimum(axis.places(w), 1.0)}, -1.0, 2.0, 5)
    assert 1 <= flat[-1] <= 1 + np.diff(maths.GRID)[0], "the steps end where the score stops rising"


def test_others_are_held_less_firmly_only_where_nothing_moves_otherwise(found: Gradients) -> None:
    w = films(100, seed=4)
    low, high = np.quantile(read(films(3000))["Cardiomegaly"], maths.TAILS)
    free = fit_gradients("Cardiomegaly", films(3000), read(films(3000)), [])
    assert choose_axis(free, w, read, low, high).firmness is None
    firm = choose_axis(found, w, read, low, 0.5 * low + 0.5 * high)
    soft = choose_axis(found, w, read, 1.5 * low, 1.5 * high)
    assert firm.firmness is None
    assert soft.firmness is not None
    assert choose_axis(found, w, read, 1.5 * low, 1.5 * high, (None,)).firmness is None, (
        "entirely, however little then moves"
    )
    assert soft.kept > firm.kept
    with pytest.raises(ValueError, match="does not rise along its own axis"):
        choose_axis(found, w, lambda w: {"Cardiomegaly": -read(w)["Cardiomegaly"]}, low, high)


@pytest.mark.parametrize(
    ("scores", "n", "message"),
    [
        (lambda w: w @ MOVES, 20, "20 films are too few for an axis among 12 dimensions of w; use -n 24 or more"),
        (lambda w: np.ones(len(w)), 500, "all 500 films have the same score"),
        (lambda w: np.random.default_rng(5).normal(size=len(w)), 500, "which may be none; use more films"),
    ],
)
def test_what_has_no_axis_is_refused(scores: Callable[[np.ndarray], np.ndarray], n: int, message: str) -> None:
    w = films(n)
    with pytest.raises(ValueError, match=message):
        fit_gradients("Cardiomegaly", w, {"Cardiomegaly": scores(w)}, [])


def test_what_is_held_still() -> None:
    names = [
        "No Finding",
        "Cardiomegaly",
        "Effusion",
        "Mass",
        "view PA",
        "view AP",
        "sex",
        "age",
        "source a",
        "source b",
    ]
    trusted = [name for name in names if name != "Mass" and not name.startswith("source")]
    assert held_still("Cardiomegaly", names, trusted) == [
        "Effusion",
        "view PA",
        "view AP",
        "sex",
        "age",
        "source a",
        "source b",
    ]
    assert held_still("view PA", names, trusted) == [
        "No Finding",
        "Cardiomegaly",
        "Effusion",
        "sex",
        "age",
        "source a",
        "source b",
    ]
    assert held_still("No Finding", names, trusted) == ["view PA", "view AP", "sex", "age", "source a", "source b"]


def test_movements_are_a_step_in_standard_deviations_and_against_the_target() -> None:
    steps = np.arange(5.0)
    up_and_down = np.where(np.arange(40) % 2, 1, -1)
    walked = {
        "sex": np.tile(-steps, (40, 1)),
        "Mass": np.tile(2 * steps, (40, 1)),
        "age": np.outer(up_and_down, steps) + 50,
    }
    target, sex, age = movements("Mass", walked, {"Mass": 4.0, "sex": 10.0, "age": 1.0})
    assert (target.question, target.per_step, target.against, target.ci95) == ("Mass", 0.5, 1.0, (0.5, 0.5))
    assert (sex.per_step, sex.against) == (pytest.approx(-0.1), pytest.approx(-0.2))
    assert (age.per_step, age.either_way) == (pytest.approx(0), pytest.approx(1)), (
        "a mean of nothing that hides a movement of every film"
    )
    assert age.ci95[0] < 0 < age.ci95[1]
    assert age.ends == (pytest.approx(50), pytest.approx(50))
    assert sex.ends == (pytest.approx(0.5), pytest.approx(1 / (1 + np.e**4)))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maths, "GRID", np.linspace(-maths.REACH, maths.REACH, 5))
    monkeypatch.setattr(slider, "PLACING", 16)
    monkeypatch.setattr(slider, "TESTING", 24)


def test_from_the_command_line(quick: None, tmp_path: Path) -> None:
    out = tmp_path / "pa"
    command = [
        "direction",
        "--view",
        "PA",
        "-n",
        "400",
        "--steps",
        "3",
        "--seeds",
        "4,7",
        "--out",
        str(out),
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(cli.group, command, catch_exceptions=False)
    assert "- held still\nsex" in result.stdout
    facts = json.loads((out / "direction.json").read_text())
    assert facts["question"] == "view PA"
    assert facts["held_still"] == ["sex", "age"]
    assert facts["ceiling"]["ci95"][0] > 0.75
    assert facts["r2_ci95"][0] > 0.5
    assert facts["scores"] == sorted(facts["scores"])
    moved = {each["question"]: each for each in facts["movements"]}
    assert moved["view PA"]["per_step"] > 0.5
    assert abs(moved["sex"]["against"]) < 0.25
    assert abs(moved["age"]["against"]) < 0.25
    with safe_open(out / "direction.safetensors", framework="np") as file:
        metadata = json.loads(file.metadata()["thiscxr"])
        step, gauge = file.get_tensor("step"), file.get_tensor("gauge")
    assert metadata["network_sha256"] == facts["network_sha256"]
    assert metadata["reader_sha256"] == facts["reader_sha256"]
    assert step @ gauge == pytest.approx(1, abs=1e-4)
    text = read_png_text(out / "direction.png")
    assert "not a patient" in text["Disclaimer"]
    assert text["Seeds"] == "4, 7"


def test_what_the_classifier_predicts_badly_is_refused_with_its_auc(tmp_path: Path) -> None:
    for flag, value in (("--finding", "Cardiomegaly"), ("--severity", "Fibrosis")):
        result = CliRunner().invoke(
            cli.group, ["direction", flag, value, "--out", str(tmp_path / "no"), "--device", "cpu"]
        )
        assert isinstance(result.exception, ValueError)
        assert f"thiscxr64 predicts {value} with AUC 0." in str(result.exception)
        assert "must begin above 0.75; it may be used for: view AP, view PA, sex, age" in str(result.exception)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("flags", [[], ["--sex", "--age"], ["--view", "PA", "--asked-view", "AP"]])
def test_one_thing_at_a_time(flags: list[str]) -> None:
    assert CliRunner().invoke(cli.group, ["direction", *flags]).exit_code == 2
