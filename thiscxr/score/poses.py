"""Poses: a classifier's predictions as films are rotated, shifted and scaled in small steps, and where they start to
flip.

Only the pose of a film changes, so a prediction that flips is wrong before or after. Each curve is shown with the range
of poses that real films have: flips outside of that range matter little, inside of it they are a defect.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from thiscxr.labels import FINDINGS
from thiscxr.measures.measured import Measured
from thiscxr.measures.resampling import generator, patient_weights, weighted_auc
from thiscxr.model.conditions import FilmConditions
from thiscxr.pixels import Pixels, pixels_to_images
from thiscxr.pool import Pool
from thiscxr.reader.answers import questions_of, read_answers
from thiscxr.reader.extractors import in_batches
from thiscxr.reader.network import Reader
from thiscxr.score.fakes import FakeFilms
from thiscxr.score.gains import too_few
from thiscxr.score.registration import LEAST_MATCH, MOTIONS, Motion, find_poses, mean_film, move
from thiscxr.train.conditions import read_conditions

AMOUNTS: dict[str, NDArray[np.float64]] = {
    "turn": np.linspace(-20, 20, 17),  # degrees, clockwise
    "shift_x": np.linspace(-0.15, 0.15, 13),  # shares of the resolution, to the right
    "shift_y": np.linspace(-0.15, 0.15, 13),  # downwards
    "scale": np.exp(np.linspace(np.log(0.8), np.log(1.25), 11)),
}
UNITS = {
    "turn": "degrees clockwise",
    "shift_x": "of the side to the right",
    "shift_y": "of the side downwards",
    "scale": "times as large",
}
REST = {"turn": 0.0, "shift_x": 0.0, "shift_y": 0.0, "scale": 1.0}
LIMIT = 0.1  # share of flipped decisions from which a classifier counts as fooled
FILMS = 300  # in each group
MEAN_FILMS = 600  # of a view, for its mean film; MIN_VIEW at least
MIN_VIEW = 20
BEST_FINDINGS = 4  # those predicted best

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One question to one group of films along one motion."""

    group: str
    question: str
    motion: str
    amounts: Array  # [k], including no motion
    flipped: Array
    """[k]: share of films whose decision differs from that on the unmoved film."""
    flipped95: Array  # [2, k]
    floor: float
    """The same share after half a pixel right and down and back: the effect of resampling alone."""
    fooled: tuple[float, float]
    """Amounts below and above zero from which more than the limit are flipped; -inf and inf: none of those tried."""
    num_films: int


@dataclass(frozen=True)
class Span:
    """The middle 95 % of the films of a group along one motion, against the median real film of their view."""

    group: str
    motion: str
    low: float
    high: float
    num_films: int
    left_out: int
    """Films that match no mean film, or whose view is unknown."""


@dataclass(frozen=True)
class Poses:
    """All curves, and the range of real films."""

    curves: list[Curve]
    spans: list[Span]
    thresholds: dict[str, float]  # question -> score from which the decision is yes
    left_out: dict[str, str] = field(default_factory=dict)  # question or group -> why

    def measured(self, reader: str) -> list[Measured]:
        """Return as numbers of the panel the share flipped at the ends of the range of real films, the larger of the
        two."""
        ranges = {each.motion: (each.low, each.high) for each in self.spans if each.group == "real"}
        found = []
        for curve in self.curves:
            if curve.motion in ranges:
                ends = np.clip(ranges[curve.motion], curve.amounts[0], curve.amounts[-1])
                shares, low, high = (np.interp(ends, curve.amounts, y) for y in (curve.flipped, *curve.flipped95))
                worse = int(np.argmax(shares))
                counts = (0, curve.num_films) if curve.group == "synthetic" else (curve.num_films, 0)
                ci95 = (float(low[worse]), float(high[worse]))
                each = Measured(
                    "poses", float(shares[worse]), ci95, curve.floor, *counts, extractor=reader, statistic="flipped"
                )
                found.append(replace(each, group=curve.group, protocol=curve.motion, question=curve.question))
        return found

    def __str__(self) -> str:
        """One line for each group and motion: which decisions flip within the range of real films, and from which
        amount."""
        lines = []
        for real in (each for each in self.spans if each.group == "real"):
            within = f"within the range of real films ({real.low:.3g} to {real.high:.3g} {UNITS[real.motion]})"
            for group in dict.fromkeys(curve.group for curve in self.curves):
                words = []
                for curve in (c for c in self.curves if (c.group, c.motion) == (group, real.motion)):
                    edges = [f"{edge:.3g}" for edge in curve.fooled if real.low <= edge <= real.high]
                    words += [f"{curve.question} (from {' and '.join(edges)})"] if edges else []
                said = ", ".join(words) or "nothing"
                lines.append(
                    f"poses, {group} films, {real.motion}: {within} more than {LIMIT:.0%} of decisions flip on: {said}"
                )
        return "\n".join([*lines, *(f"poses, {name}: left out: {why}" for name, why in self.left_out.items())])


@dataclass(frozen=True)
class PosedFilms:
    """Films, their patients, and their known or requested conditions."""

    pixels: Pixels
    patients: NDArray[np.int64]
    conditions: FilmConditions


def pool_poses(
    reader: Reader,
    real: Pool,
    fakes: FakeFilms,
    *,
    phantoms: PosedFilms | None = None,
    films: int = FILMS,
    seed: int = 0,
) -> Poses:
    """Return the poses of held-out films of a pool, of synthetic films and of phantoms, for a classifier that was not
    trained on the held-out patients. Raises ValueError for a pool without held-out patients."""
    held = real.indices("holdout")
    if not len(held):
        raise ValueError(
            f"poses: {real.path} has no held-out patients, "
            "whose films the classifier has not seen; prepare a larger pool"
        )
    rows = np.sort(generator(seed, 40).permutation(held)[: max(films, MEAN_FILMS)])
    chosen = np.sort(generator(seed, 41).permutation(len(fakes))[:films])
    whose = real.codes("patient")[0][rows].astype(np.int64)
    groups = {
        "real": PosedFilms(real.read(rows), whose, read_conditions(real, rows)),
        "synthetic": PosedFilms(fakes.pixels[chosen], chosen, FilmConditions.of([fakes.requested[i] for i in chosen])),
    }
    if phantoms is not None:
        groups["phantom"] = phantoms
    return poses(reader, groups, films=films, seed=seed)


def poses(
    reader: Reader,
    groups: Mapping[str, PosedFilms],
    *,
    films: int = FILMS,
    seed: int = 0,
) -> Poses:
    """Return the curves of every group, the one named "real" first: it gives the questions, decisions and the range of
    poses.

    Questions are views, sex and the findings that are predicted best on the real films. The decision threshold is
    the score with the largest sum of sensitivity and specificity on the real films (Youden 1950). Raises ValueError
    when no question can be tested.
    """
    real = groups["real"]
    some = {name: np.sort(generator(seed, 42).permutation(len(group.pixels))[:films]) for name, group in groups.items()}
    still = {name: _read(reader, group.pixels[some[name]]) for name, group in groups.items()}
    truth = questions_of(real.conditions.take(some["real"]), list(still["real"]))
    thresholds = _thresholds(still["real"], truth, real.patients[some["real"]])
    if not thresholds:
        raise ValueError(
            "poses: the real films have no question with 5 patients of either answer, so no decision can be tested"
        )
    curves = []
    moves = sum(map(len, AMOUNTS.values())) + 1
    with tqdm(total=moves * sum(map(len, some.values())), unit="film", file=sys.stderr, delay=1) as bar:
        for name, group in groups.items():
            bar.set_description(f"poses: {name} films")
            pixels, weights = group.pixels[some[name]], patient_weights(group.patients[some[name]], seed)
            half = Motion(shift_x=0.5 / pixels.shape[-1], shift_y=0.5 / pixels.shape[-1])
            resampled = _read(reader, pixels, half, Motion(shift_x=-half.shift_x, shift_y=-half.shift_y))
            bar.update(len(pixels))
            for motion, amounts in AMOUNTS.items():
                scores = []
                for amount in amounts:
                    at_rest = abs(amount - REST[motion]) < 1e-9
                    scores.append(still[name] if at_rest else _read(reader, pixels, Motion(**{motion: float(amount)})))
                    bar.update(len(pixels))
                for question, cut in thresholds.items():
                    moved, before = np.stack([each[question] for each in scores]), still[name][question] >= cut
                    flips = ((moved >= cut) != before).astype(np.float64)  # [k, n]
                    floor = float(np.mean((resampled[question] >= cut) != before))
                    curves.append(curve(name, question, motion, amounts, flips, weights, floor))
    found = spans(groups)
    left_out = {
        name: why
        for name in still["real"]
        if name != "age" and (why := too_few(truth[name], real.patients[some["real"]]))
    }
    placed = {span.group for span in found}
    left_out |= {
        f"range of the {name} films": "none matches the mean film of its view" for name in groups if name not in placed
    }
    return Poses(curves, found, thresholds, left_out)


def curve(
    group: str,
    question: str,
    motion: str,
    amounts: Array,
    flips: Array,
    weights: NDArray[np.floating],
    floor: float,
) -> Curve:
    """Return one curve from flips [k, n] and bootstrap weights [rounds, n]."""
    flipped, shares = flips.mean(axis=1), weights @ flips.T / weights.sum(axis=1, keepdims=True)  # [rounds, k]
    rest = int(np.argmin(np.abs(amounts - REST[motion])))
    below, above = (
        crossing(amounts[side], flipped[side], LIMIT, never)
        for side, never in ((slice(rest, None, -1), -np.inf), (slice(rest, None), np.inf))
    )
    ends = np.quantile(shares, (0.025, 0.975), axis=0)
    return Curve(group, question, motion, amounts, flipped, ends, floor, (below, above), flips.shape[1])


def crossing(amounts: Array, shares: Array, limit: float, never: float) -> float:
    """Return where shares [k] first exceed the limit along amounts [k] from zero, by linear interpolation."""
    over = np.flatnonzero(shares > limit)
    if not len(over):
        return never
    first = max(int(over[0]), 1)
    low, high = shares[first - 1 : first + 1]
    part = np.clip((limit - low) / (high - low), 0, 1)
    return float(amounts[first - 1] + part * (amounts[first] - amounts[first - 1]))


def _read(reader: Reader, pixels: Pixels, *motions: Motion) -> dict[str, Array]:
    """Return the scores [n] of each question on films that are moved by each of the motions in turn."""
    device = next(reader.parameters()).device

    def moved() -> Iterator[Tensor]:
        for rows in in_batches(np.arange(len(pixels))):
            images = torch.from_numpy(pixels_to_images(pixels[rows]))[:, None].to(device)
            for motion in motions:
                images = move(images, motion)
            yield images

    return {name: values.astype(np.float64) for name, values in read_answers(reader, moved()).items()}


def _thresholds(
    still: Mapping[str, Array], truth: Mapping[str, Array], patients: NDArray[np.int64]
) -> dict[str, float]:
    """Return the decision thresholds of the views, the sex and the findings that are predicted best."""
    cuts, read_well = {}, {}
    for name, answers in still.items():
        if name == "age" or too_few(truth[name], patients):
            continue
        known = np.isfinite(truth[name])
        positive, scores = truth[name][known] > 0.5, answers[known]
        order = np.argsort(-scores, kind="stable")
        hits, alarms = (np.cumsum(side[order]) / side.sum() for side in (positive, ~positive))
        place, ranked = int(np.argmax(hits - alarms)), scores[order]
        cuts[name] = float(ranked[place : place + 2].mean())  # half way to the next film, so that none lies on it
        read_well[name] = float(weighted_auc(positive, scores, np.ones((1, len(scores))))[0])
    views = [name for name in cuts if name.startswith("view ")]
    if len(views) == 2:
        del cuts[views[0]]  # with two views one flips where the other does
    best = sorted((name for name in cuts if name in FINDINGS), key=lambda name: -read_well[name])[:BEST_FINDINGS]
    return {name: cut for name, cut in cuts.items() if name in best or name not in FINDINGS}


def spans(groups: Mapping[str, PosedFilms]) -> list[Span]:
    """Return how far the films of each group are rotated, shifted and scaled, against the mean real film of their
    view."""
    real = groups["real"]
    means = {}
    for view in sorted(set(_views(real)) - {""}):
        rows = np.flatnonzero(_views(real) == view)
        if len(rows) >= MIN_VIEW:
            means[view] = mean_film(real.pixels[rows[:MEAN_FILMS]])
    found = []
    for name, group in groups.items():
        values = [np.empty((0, len(MOTIONS)))]
        for view, mean in means.items():
            rows = np.flatnonzero(_views(group) == view)
            where, match = find_poses(group.pixels[rows], mean)
            values.append(where[match >= LEAST_MATCH])
        where = np.concatenate(values)
        if not len(where):
            continue
        for i, motion in enumerate(MOTIONS):
            low, high = np.quantile(where[:, i], (0.025, 0.975)).tolist()
            found.append(Span(name, motion, low, high, len(where), len(group.pixels) - len(where)))
    return found


def _views(group: PosedFilms) -> NDArray[np.str_]:
    """Return the view of each film, empty where unknown; a supine film lies as other AP films do."""
    names = [*group.conditions.names["view"], ""]
    return np.array(["AP" if name == "AP_supine" else name for name in names])[group.conditions.view]
