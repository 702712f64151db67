"""Every metric moves the right way when films are degraded in a known way. All films are samples of the bundled
network."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from thiscxr.labels import FilmRecord, Terms
from thiscxr.measures import floor
from thiscxr.measures.diversity import ms_ssim_scores, vendi_scores
from thiscxr.measures.frechet import frechet_scores
from thiscxr.measures.kernel import kernel_scores
from thiscxr.measures.manifold import manifold_scores
from thiscxr.model.conditions import Condition, FilmConditions
from thiscxr.pool import Pool
from thiscxr.pool.writer import PoolWriter
from thiscxr.reader.answers import read_answers
from thiscxr.reader.extractors import load_extractor
from thiscxr.sample.sampling import load
from thiscxr.score import probes
from thiscxr.score.fidelity import fidelity
from thiscxr.score.memorisation import audit
from thiscxr.score.probes import probe_real_or_synthetic

N = 140  # films in each set


def grey(films: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(films), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def films() -> dict[str, np.ndarray]:
    network = load("nih-64")
    real, good = network.sample(range(300)), network.sample(range(1000, 1000 + N))
    views = [condition.view for condition in network.conditions(range(1000, 1000 + N), Condition())]
    one_view = good[np.resize(np.flatnonzero([view == "PA" for view in views]), N)]
    x = good.astype(np.float64)
    return {
        "real": real,
        "good": good,
        "noise": grey(x + np.random.default_rng(0).normal(0, 20, x.shape)),
        "blur": grey(ndimage.gaussian_filter(x, (0, 1.5, 1.5))),
        "one view": one_view,
        "collapse": grey(x[np.arange(N) % 4] + np.random.default_rng(1).normal(0, 1, x.shape)),
        "copies": real[:N],
    }


@pytest.fixture(scope="module")
def panel(films: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """kind of films -> metric -> value; without the intervals, which take ten times as long and have tests of their
    own."""
    extractor = load_extractor("thiscxr64")
    features = {name: extractor.features([pixels]) for name, pixels in films.items()}
    real, whose = features.pop("real"), np.arange(len(films["real"]))
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(floor, "jackknife_error", lambda *samples: 0.0)
        patch.setattr(probes, "SPLITS", 1)
        for name, fake in features.items():
            kinds = (frechet_scores, kernel_scores, manifold_scores, vendi_scores)
            scores = [score for kind in kinds for score in kind(real, whose, fake, "t", n=N)]
            scores += ms_ssim_scores(films["real"].__getitem__, whose, films[name], n=N)
            found[name] = {score.measure: score.value for score in scores}
            found[name]["distinguished"] = probe_real_or_synthetic(real, whose, fake, np.arange(N)).value
    return found


UP: dict[str, Callable[[float, float], bool]] = {"+": lambda a, b: a > b, "-": lambda a, b: a < b}


@pytest.mark.parametrize(
    ("spoilt", "moves"),
    [
        ("noise", "+fd +fdinf +kid -precision +distinguished"),
        ("blur", "+fd +fdinf +kid -coverage +distinguished"),
        ("one view", "+fd +kid -recall -coverage +distinguished"),
        ("collapse", "+fd +kid -recall -coverage -vendi +msssim +distinguished"),
    ],
)
def test_degraded_films_score_worse(panel: dict[str, dict[str, float]], spoilt: str, moves: str) -> None:
    for move in moves.split():
        metric = move[1:].replace("_", " ")
        assert UP[move[0]](panel[spoilt][metric], panel["good"][metric]), (
            spoilt,
            move,
            panel[spoilt][metric],
            panel["good"][metric],
        )


def test_memorised_films_look_perfect_to_distances_and_are_caught_by_the_search(
    panel: dict[str, dict[str, float]], films: dict[str, np.ndarray], tmp_path: Path
) -> None:
    assert panel["copies"]["fd"] < panel["good"]["fd"]
    with PoolWriter(tmp_path / "pool", 64, 8, {"x": Terms("x", "", "", "", "")}, b"key") as writer:
        for i, film in enumerate(films["real"]):
            writer.add("x", FilmRecord(str(i), str(i), str(i), str(i), "PA", "F", 50.0, {}), film, (64, 64, 8))
    pool = Pool.open(tmp_path / "pool")
    rates = {name: audit(pool, films[name]).memorised.mean() for name in ("copies", "good", "blur")}
    assert rates["copies"] >= 0.95
    assert max(rates["good"], rates["blur"]) <= 0.05


def test_swapped_conditions_lower_fidelity_to_the_null_and_below() -> None:
    network, reader = load("nih-64"), load_extractor("thiscxr64").reader
    seeds = list(range(300))
    requested = network.conditions(seeds, Condition())
    predicted = read_answers(reader, [network.sample(seeds)])
    rng = np.random.default_rng(0)

    def auc(share: float) -> float:
        swap = rng.random(len(requested)) < share
        other = {"PA": "AP", "AP": "PA"}
        swapped = [replace(c, view=other[c.view]) if s and c.view else c for c, s in zip(requested, swap, strict=True)]
        films = FilmConditions.of(swapped)
        truth = FilmConditions.of(requested)
        found = fidelity(truth, predicted, seeds, films, predicted, seeds)
        return next(each.value for each in found if each.question == "view PA")

    values = [auc(share) for share in (0.0, 0.2, 0.5, 1.0)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.9
    assert 0.4 < values[2] < 0.6
    assert values[3] < 0.1
