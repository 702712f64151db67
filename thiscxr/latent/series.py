"""Several films of one invented patient: a frontal and a lateral one, and follow-up series in which a finding grows.

The films of a patient share the latent z, the noise, sex and age. The network was not trained to make them one person;
how far they agree can be seen and measured.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from thiscxr.files import atomic_folder
from thiscxr.labels import NEGATIVE, NO_FINDING, POSITIVE
from thiscxr.marks import NOTICE
from thiscxr.model.conditions import Condition, Vocabulary
from thiscxr.pixels import save_png
from thiscxr.pixels.drawing import LEAST_SIDE, draw_sheet, enlarge
from thiscxr.sample.formats import Format
from thiscxr.sample.provenance import Film, Visit, grid_text, origin_of
from thiscxr.sample.sampling import Network, draw_styles, noises_of, styles_of, to_pixels
from thiscxr.sample.truncation import Truncation
from thiscxr.sample.writing import COLUMNS, check_ours, sample_row, write_csv, write_facts

MOST_FILMS = 4096  # of all series together
SHOWN = 12  # patients on the grid


def in_pairs(network: Network, seeds: Sequence[int], requested: Condition) -> tuple[list[int], list[Condition]]:
    """Return each seed twice, and the conditions: frontal (PA unless another view is requested) and lateral, the rest
    as requested.

    Each seed draws the rest of the condition once for both films: left unknown, each film would have its own sex, site
    and findings. Raises ValueError when the network never learnt one of the two views, and when the requested view is
    the lateral one.
    """
    if requested.view == "lateral":
        raise ValueError("--pairs generate a frontal and a lateral film; leave --view out, or name the frontal one")
    views = (requested.view or "PA", "lateral")
    try:
        network.info.vocabulary.encode([Condition(view) for view in views])
    except ValueError as error:
        raise ValueError(f"--pairs: {error}") from None
    conditions = [replace(one, view=view) for one in network.patients(seeds, requested) for view in views]
    return [seed for seed in seeds for _ in views], conditions


@dataclass(frozen=True)
class Series:
    """Films of some patients, visit after visit."""

    films: Sequence[Film]
    images: torch.Tensor
    """float32 [patients · steps, 1, res, res], about [-1, 1]."""
    steps: int

    @property
    def pixels(self) -> np.ndarray:
        """uint8 [patients · steps, res, res]."""
        return to_pixels(self.images)


def draw_series(
    network: Network,
    seeds: Sequence[int],
    finding: str,
    steps: int,
    requested: Condition,
    truncation: Truncation,
    permission: bool = False,
) -> Series:
    """Generate follow-up films, one patient per seed: equal steps on the straight line in w from "requested absent" to
    "requested present".

    In w, because both ends are then films as in training; half a finding in the condition vector never occurred in
    training. requested: view, sex, age and source; what it leaves open is drawn from the joint table. Raises ValueError
    for a finding that was not learnt or cannot grow, fewer than two steps, and more than MOST_FILMS films.
    """
    if finding == NO_FINDING:
        raise ValueError(f"'{NO_FINDING}' cannot grow; a series needs a finding")
    if steps < 2 or steps * len(seeds) > MOST_FILMS:
        raise ValueError(
            f"{steps} steps of {len(seeds)} seeds: a series has 2 or more, and at "
            f"most {MOST_FILMS} films are generated at once"
        )
    rest = [replace(one, findings={}) for one in network.patients(seeds, requested)]
    first, last = (
        [replace(one, findings=states) for one in rest] for states in _ends(finding, network.info.vocabulary)
    )
    start, end = (styles_of(network, seeds, some, truncation) for some in (first, last))
    shares = torch.linspace(0, 1, steps)
    ws = torch.lerp(start[:, None], end[:, None], shares[:, None, None].to(start.device)).flatten(0, 1)
    noises = [noise.repeat_interleave(steps, 0) for noise in noises_of(network, seeds)]
    images = torch.cat([some.cpu() for some in draw_styles(network, ws, noises)])
    origin = origin_of(network, permission)
    films = []
    for seed, *conditions in zip(seeds, first, rest, last, strict=True):
        for number, share in enumerate(shares.tolist(), 1):
            condition = conditions[0 if number == 1 else 2 if number == steps else 1]
            visit = Visit(number, _day(seed, number), finding, share)
            films.append(Film(seed, condition, truncation, origin, f"visit-{number}", visit))
    return Series(films, images, steps)


def _ends(finding: str, vocabulary: Vocabulary) -> tuple[dict[str, int], dict[str, int]]:
    healthy, ill = {finding: NEGATIVE}, {finding: POSITIVE}
    if NO_FINDING in vocabulary.findings:
        healthy[NO_FINDING], ill[NO_FINDING] = POSITIVE, NEGATIVE
    return healthy, ill


def _day(seed: int, number: int) -> int:
    """Return the day of a visit after the first one: invented, 3 to 16 days apart."""
    return sum(
        3 + uuid.uuid5(uuid.NAMESPACE_URL, f"thiscxr/visit/{seed}/{later}").int % 14 for later in range(2, number + 1)
    )


def write_series(series: Series, network: Network, out: Path, form: Format, predicted: np.ndarray) -> None:
    """Write a sample folder of series; predicted: the probability of the finding by a classifier, float [films].

    samples.csv has also the columns visit, day, grows, strength and reader_sees; grid.png has a row per patient. Raises
    ValueError as `write_samples`.
    """
    check_ours(out)
    with atomic_folder(out, replace=True) as part:
        rows = []
        for film, pixels, probability in zip(series.films, to_pixels(series.images, form.bits), predicted, strict=True):
            name = form.file_name(film, 0)
            (part / name).write_bytes(form.encode(pixels[None], [film]))
            assert film.visit is not None
            visit = {
                "visit": film.visit.number,
                "day": film.visit.day,
                "grows": film.visit.finding,
                "strength": f"{film.visit.strength:g}",
            }
            rows.append({**sample_row(name, film), **visit, "reader_sees": f"{probability:.4f}"})
        write_csv(part / "samples.csv", (*COLUMNS, "visit", "day", "grows", "strength", "reader_sees"), rows)
        write_facts(part, network, series.films[0].origin)
        save_png(part / "grid.png", _grid(series, predicted), grid_text(series.films[0].origin))


def _grid(series: Series, predicted: np.ndarray) -> np.ndarray:
    """Return up to SHOWN patients, a row each, with the predicted probability above each film."""
    films = enlarge(series.pixels, LEAST_SIDE)
    visits = [film.visit for film in series.films if film.visit]
    captions = [f"day {visit.day}: {p:.2f}" for visit, p in zip(visits, predicted.tolist(), strict=True)]
    rows = [slice(i, i + series.steps) for i in range(0, len(films), series.steps)][:SHOWN]
    head = [
        f"{visits[0].finding}, requested absent (left) to requested present (right); a row is a seed",
        "day (invented): probability by the classifier",
    ]
    return draw_sheet([list(films[row]) for row in rows], [captions[row] for row in rows], head, [NOTICE])


def growth_table(predicted: np.ndarray, finding: str, reader: str) -> str:
    """Return lines: the mean probability [patients, visits] at each visit, and in how many patients the last exceeds
    the first."""
    means = "  ".join(f"{value:.2f}" for value in predicted.mean(axis=0))
    more = int((predicted[:, -1] > predicted[:, 0]).sum())
    steady = int((np.diff(predicted, axis=1) >= 0).all(axis=1).sum())
    return (
        f"{finding} as predicted by {reader}\n  mean probability by visit: {means}\n"
        f"  higher at the last visit than at the first in {more} of {len(predicted)} patients; "
        f"never falling in {steady}"
    )
