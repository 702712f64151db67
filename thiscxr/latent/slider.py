"""An axis of a network for one question of a classifier: fitted, divided into steps, evaluated on held-out seeds, and
written with a grid.

The numbers are predictions of the classifier, not diagnoses. The mathematics is in `direction`.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from tqdm import tqdm

import thiscxr
from thiscxr.files import atomic_folder
from thiscxr.labels import FINDINGS, NEGATIVE, POSITIVE
from thiscxr.latent.direction import (
    FIRMNESS,
    TAILS,
    Axis,
    Movement,
    Scores,
    choose_axis,
    fit_gradients,
    held_still,
    movements,
    place_steps,
)
from thiscxr.marks import NOTICE
from thiscxr.measures.resampling import interval, patient_weights
from thiscxr.model.conditions import Condition
from thiscxr.model.network_file import write_safetensors
from thiscxr.pixels import Pixels, save_png
from thiscxr.pixels.drawing import draw_sheet, enlarge
from thiscxr.reader.trust import Ceiling, TrustedReader
from thiscxr.sample.provenance import grid_text, origin_of
from thiscxr.sample.sampling import Network, draw_styles, noises_of, styles_of, to_pixels

DIRECTION_FORMAT = 1
# of the films that the axis is fitted to; those that place its steps and those that evaluate it follow
FIRST_SEED = 10**6
PLACING = 64  # films by which the steps are placed
TESTING = 64  # films by which the axis is evaluated
BATCH = 64
LEAST_RES = 120  # of a film on the grid, px

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Direction:
    """An axis and its effect on films that are moved along it."""

    axis: Axis
    severity: bool
    """Whether the finding was requested for all films, so that only its degree varies."""
    view: str | None
    """The view requested for all films; None: as in the training films."""
    places: Array
    """[steps], on the axis."""
    scores: tuple[float, ...]
    """Mean score of the test films at each step."""
    scores_ci95: tuple[tuple[float, float], ...]
    percentiles: tuple[float, float]
    """5th and 95th percentile of the score among unselected films."""
    rising: float
    """Share of the test films' steps at which the score rises."""
    movements: tuple[Movement, ...]
    """Of the test films; the target first."""
    num_films: int
    ceiling: Ceiling

    def to_json(self) -> dict[str, Any]:
        """Return all but the axis itself as plain values."""
        return {
            "question": self.axis.question,
            "severity": self.severity,
            "view": self.view,
            "ceiling": asdict(self.ceiling),
            "num_films": self.num_films,
            "r2": self.axis.r2,
            "r2_ci95": self.axis.r2_ci95,
            "kept": self.axis.kept,
            "held_still": list(self.axis.held_still),
            "firmness": self.axis.firmness,
            "places": self.places.tolist(),
            "scores": self.scores,
            "scores_ci95": self.scores_ci95,
            "score_percentiles": {f"{tail:.0%}": value for tail, value in zip(TAILS, self.percentiles, strict=True)},
            "num_judging": TESTING,
            "rising": self.rising,
            "movements": [asdict(each) for each in self.movements],
        }


def find_direction(
    network: Network,
    reader: TrustedReader,
    question: str,
    num_films: int,
    steps: int,
    severity: bool = False,
    view: str | None = None,
    entirely: bool = False,
) -> Direction:
    """Find the axis of a question in a network's w, with `steps` steps from one end to the other.

    view: requested for all films; entirely: hold the others still, however little the target then moves. A finding is
    requested for every second film, and its absence for the others; for its severity it is requested for all. Raises
    ValueError as `TrustedReader.check`, `fit_gradients` and `choose_axis`, and for what the network never learnt.
    """
    ceiling = reader.check(question)
    ends = np.cumsum([FIRST_SEED, num_films, PLACING, TESTING]).tolist()
    finding, placing, testing = (list(range(start, end)) for start, end in pairwise(ends))
    known = question in network.info.vocabulary.findings
    trial = [POSITIVE] if severity else [POSITIVE, NEGATIVE] if known else None
    w = latents(network, finding, view, question, trial)
    scores = read_films(reader, draw_films(network, w, finding, "read films"))
    gradients = fit_gradients(question, w, scores, held_still(question, list(scores), reader.trusted))
    low, high = (float(edge) for edge in np.quantile(scores[question], TAILS))

    def read(w: Array) -> Scores:
        return read_films(reader, draw_films(network, w, placing))

    there = latents(network, placing, view, question, trial)
    axis = choose_axis(gradients, there, read, low, high, (None,) if entirely else FIRMNESS)
    places = place_steps(axis, there, read, low, high, steps)
    films = walk_films(network, axis, places, testing, view, severity)
    walked = {
        name: values.reshape(steps, TESTING).T
        for name, values in read_films(reader, [films.reshape(-1, *films.shape[2:])]).items()
    }
    weights = patient_weights(np.arange(TESTING), 0)
    resampled = weights @ walked[question] / weights.sum(axis=1, keepdims=True)  # [rounds, steps]
    return Direction(
        axis,
        severity,
        view,
        places,
        tuple(walked[question].mean(axis=0).tolist()),
        tuple(interval(column) for column in resampled.T),
        (low, high),
        float((np.diff(walked[question], axis=1) > 0).mean()),
        tuple(movements(question, walked, {name: float(values.std()) for name, values in scores.items()})),
        num_films,
        ceiling,
    )


def latents(
    network: Network, seeds: Sequence[int], view: str | None, finding: str, states: Sequence[int] | None
) -> Array:
    """Return w [n, w_dim] of some seeds with the conditions that each draws, except the view and a finding.

    states: of the finding, assigned to the films in turn; None: as drawn.
    """
    requested = [Condition(view, findings={finding: state}) for state in states] if states else [Condition(view)]
    conditions = [
        requested[i % len(requested)].over(drawn) for i, drawn in enumerate(network.conditions(seeds, Condition()))
    ]
    return styles_of(network, seeds, conditions)[:, 0].double().cpu().numpy()


def draw_films(network: Network, w: Array, seeds: Sequence[int], title: str = "") -> Iterator[Pixels]:
    """Yield the films of w [n, w_dim] with the noise of their seeds, uint8 [up to BATCH, res, res]; title: of the
    progress bar."""
    with tqdm(total=len(w), unit="film", file=sys.stderr, desc=title, disable=not title, delay=1) as bar:
        for start in range(0, len(w), BATCH):
            some = torch.from_numpy(w[start : start + BATCH].astype(np.float32))[:, None]  # [k, 1, w_dim]
            ws = some.expand(-1, network.generator.config.num_ws, -1)
            for images in draw_styles(network, ws, noises_of(network, seeds[start : start + BATCH]), BATCH):
                yield to_pixels(images)
                bar.update(len(images))


def read_films(reader: TrustedReader, batches: Iterable[Pixels]) -> Scores:
    """Return the classifier's scores of films, float64 [n] per question."""
    parts = [reader.read(pixels) for pixels in batches]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def walk_films(
    network: Network, axis: Axis, places: Array, seeds: Sequence[int], view: str | None = None, severity: bool = False
) -> NDArray[np.uint8]:
    """Return the films of some seeds at places on the axis, uint8 [places, n, res, res]."""
    w = latents(network, seeds, view, axis.question, [POSITIVE] if severity else None)
    return np.stack([np.concatenate(list(draw_films(network, axis.moved(w, place), seeds))) for place in places])


def write_direction(out: Path, found: Direction, network: Network, reader: TrustedReader, seeds: Sequence[int]) -> None:
    """Write direction.safetensors, direction.json and direction.png, the grid of some seeds, into a folder; an older
    one is replaced.

    Raises ValueError as `check_direction_folder`.
    """
    check_direction_folder(out)
    origin = origin_of(network)
    facts = {
        "format_version": DIRECTION_FORMAT,
        "kind": "direction",
        "network_sha256": network.sha256,
        "reader": reader.name,
        "reader_sha256": reader.sha256,
        "code_version": thiscxr.__version__,
        "restriction": origin.restriction,
        **found.to_json(),
    }
    films = walk_films(network, found.axis, found.places, seeds, found.view, found.severity)
    tensors = {"step": found.axis.step, "gauge": found.axis.gauge, "mean": found.axis.mean, "places": found.places}
    title = {"Title": f"Synthetic chest x-rays along {_title(found, reader.name)}", "Seeds": ", ".join(map(str, seeds))}
    with atomic_folder(out, replace=True) as part:
        write_safetensors(
            part / "direction.safetensors",
            {name: torch.tensor(value).float() for name, value in tensors.items()},
            facts,
        )
        (part / "direction.json").write_text(json.dumps(facts, indent=2) + "\n")
        save_png(part / "direction.png", slider_grid(found, reader, films, seeds), title | grid_text(origin))


def check_direction_folder(out: Path) -> None:
    """Raise ValueError when `out` is a file, or a folder that holds anything but a direction."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; give a folder")
    foreign = [path.name for path in out.iterdir() if path.stem != "direction"] if out.is_dir() else []
    if foreign:
        raise ValueError(
            f"--out {out} holds {foreign[0]!r}, which does not belong to a direction; choose "
            "another folder, so that nothing is lost"
        )


def slider_grid(found: Direction, reader: TrustedReader, films: NDArray[np.uint8], seeds: Sequence[int]) -> Pixels:
    """Return a picture uint8 [h, w]: a row per seed, a column per step, place and score above each film; films: uint8
    [steps, seeds, res, res]."""
    question, steps = found.axis.question, len(found.places)
    scores = read_films(reader, [films.reshape(-1, *films.shape[2:])])[question].reshape(steps, -1)
    places = [f"{place:+.1f} SD: " for place in found.places]
    captions = [
        [f"seed {seed}", *(place + spell_score(question, score) for place, score in zip(places, row, strict=True))]
        for seed, row in zip(seeds, scores.T, strict=True)
    ]
    left, right = _ends(found, reader)
    head = [
        f"{_title(found, reader.name)}: {left} (left) to {right} (right)",
        f"Above each film its place on the axis, and the prediction: {_unit(question)}.",
    ]
    rows = [[None, *row] for row in enlarge(films, LEAST_RES).swapaxes(0, 1)]
    return draw_sheet(rows, captions, head, [NOTICE])


def _title(found: Direction, reader: str) -> str:
    what = f"severity of {found.axis.question}" if found.severity else found.axis.question
    return f"{what.replace('_', ' ')}, as predicted by {reader}"


def _unit(question: str) -> str:
    if question == "age":
        return "years"
    return (
        f"log odds and probability of {'F' if question == 'sex' else question.removeprefix('view ').replace('_', ' ')}"
    )


def spell_score(question: str, score: float) -> str:
    """Return a score for people: years, or log odds and probability."""
    return f"{score:.0f} years" if question == "age" else f"{score:+.1f} ({expit(score):.0%})"


def _ends(found: Direction, reader: TrustedReader) -> tuple[str, str]:
    """Return the names of the ends; "severe" only if the classifier finds the finding more likely than not."""
    question, (least, most) = found.axis.question, found.movements[0].ends
    if question in FINDINGS:
        return ("mild" if found.severity else "none" if least < 0.1 else "least"), ("severe" if most > 0.5 else "most")
    if question.startswith("view "):
        view = question.removeprefix("view ")
        others = [name for name in reader.network.config.views if name != view]
        return (others[0] if len(others) == 1 else f"not {view}"), view
    return {"sex": ("M", "F"), "age": ("young", "old")}[question]


def direction_table(found: Direction) -> str:
    """Return the effect of the axis as aligned lines."""
    axis, first = found.axis, found.movements[0]
    span = "[{:.2f}, {:.2f}]".format
    firm = (
        "entirely"
        if axis.firmness is None
        else "not at all"
        if axis.firmness == 0
        else f"with firmness {axis.firmness:g}"
    )
    rows = {
        "step": [f"{i}" for i in range(1, len(found.places) + 1)],
        "place": [f"{place:+.2f}" for place in found.places],
        "score": [f"{score:.2f}" for score in found.scores],
        "read": [spell_score(axis.question, score).split("(")[-1].strip(")") for score in found.scores],
    }
    notes = {
        "place": "standard deviations of the films along the axis",
        "score": (
            f"5th to 95th percentile of the {found.num_films} films: "
            f"{found.percentiles[0]:.2f} to {found.percentiles[1]:.2f}"
        ),
    }
    lines = [
        f"{axis.question}: w explains {axis.r2:.2f} {span(*axis.r2_ci95)} of the "
        "variance of the score on held-out films",
        f"the others are held still {firm}; {axis.kept:.0%} of the squared gradient is along the axis",
        *(
            f"{name:<8}" + "".join(f"{cell:>9}" for cell in cells) + f"   {notes.get(name, '')}".rstrip()
            for name, cells in rows.items()
        ),
        f"the score rises at {found.rising:.0%} of the steps of {TESTING} held-out seeds",
        "",
        f"{'per step, in SD of the films':<28}{'moves':>7}  "
        f"{'95 %':<16}{'of the target':>14}  {'95 %':<20}{'either way':>10}"
        f"{'first, last step':>20}",
    ]
    still = [each for each in found.movements if each.question in axis.held_still]
    free = [each for each in found.movements[1:] if each not in still]
    for head, group in (
        ("", (first,)),
        ("held still", still),
        ("not predicted well enough to be held still, or the same thing", free),
    ):
        lines += [f"- {head}"] if head and group else []
        for each in group:
            share = f"[{each.against_ci95[0]:.0%}, {each.against_ci95[1]:.0%}]"
            ends = ", ".join(f"{end:.0f} years" if each.question == "age" else f"{end:.0%}" for end in each.ends)
            moved = f"{each.question:<28}{each.per_step:>7.3f}  {span(*each.ci95):<16}"
            lines.append(f"{moved}{each.against:>14.0%}  {share:<20}{each.either_way:>10.3f}{ends:>20}")
    return "\n".join(lines)
