"""`thiscxr measure`: a table of sizes, positions and opacities of lungs and heart, one row per film.

Every film has a row: if it cannot be measured, the column `reason` says why, and reasons are counted.
"""

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, zoom
from tqdm import tqdm

from thiscxr.collections import FRONTAL_VIEWS
from thiscxr.collections.archives import walk
from thiscxr.collections.beside import kind
from thiscxr.collections.collection import IMAGE_SUFFIXES
from thiscxr.files import atomic_folder, atomic_path
from thiscxr.measures.chest import OPACITIES, clipped, measure_masks, measure_opacity
from thiscxr.pixels import (
    Pixels,
    begins_like,
    fit,
    load_film,
    read_dicom_header,
    save_png,
    short_side,
    to_bits,
    to_square,
)
from thiscxr.pixels.drawing import enlarge
from thiscxr.pool import Pool
from thiscxr.reader.segmenter import Segmenter, segment

SHORTEST = 64  # px: in films with a shorter side, borders cannot be measured
LEAST_REFERENCE = 50  # films of a view, for percentiles among them
NO_CHEST = "no two lungs and a heart seen: no frontal chest film, or none that can be read"
CLIPPED = "most of the lungs is clipped to black or white, so that their opacity is lost"
# column -> key of `measures.chest`, which has the viewer's left and right
COLUMNS = {
    "ctr": "ctr",
    "left_lung": "viewer_right_lung",
    "right_lung": "viewer_left_lung",
    "heart_lean": "heart_lean",
    "opacity_left": "viewer_right_opacity",
    "opacity_right": "viewer_left_opacity",
} | {
    f"opacity_{patient}_{zone}": f"{viewer}_{zone}_opacity"
    for patient, viewer in (("left", "viewer_right"), ("right", "viewer_left"))
    for zone in ("upper", "middle", "lower")
}
UNKNOWN = "unknown"
_BATCH = 64
_COLOURS = ((80, 200, 255), (255, 120, 80))  # of the outlines of lungs and heart
_TIMES = 3  # scale of the pictures, relative to the segmenter's resolution


@dataclass(frozen=True)
class Film:
    """A film to measure: pixels uint8 or uint16 [res, res], or why it has none."""

    name: str
    view: str
    pixels: Pixels | None
    reason: str = ""


@dataclass(frozen=True)
class Summary:
    """What was measured: films with all measures, and how many lack some or all, by reason."""

    measured: int
    reasons: Counter[str]
    passed: Counter[str]
    """Files in the folder that are no films, by kind."""
    unplaced: Counter[str] = field(default_factory=Counter)
    """Measured films without percentiles, by reason."""

    def __str__(self) -> str:
        lines = [f"{self.measured} of {self.measured + self.reasons.total()} films measured"]
        lines += [f"  {count} not measured: {reason}" for reason, count in self.reasons.most_common()]
        lines += [f"  {count} without percentiles: {reason}" for reason, count in self.unplaced.most_common()]
        lines += [f"  {count} x {what}, no film" for what, count in self.passed.most_common()]
        return "\n".join(lines)


def measure(
    films: Path, out: Path, segmenter: Segmenter, pictures: Path | None = None, against: Path | None = None
) -> Summary:
    """Measure the films of a pool or a folder and write a CSV, and a PNG with outlines a film to the folder `pictures`.

    against: a table of this kind, or films: columns `…_percentile` give for each measure the share of those films of
    the same view with less of it, and `reference` how many they are. Raises ValueError for a path without films, and
    for a table without measures.
    """
    references = [] if against is None else _references(against, segmenter)
    scales: dict[str, Scale] = {}
    passed: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    unplaced: Counter[str] = Counter()
    source, count = open_films(films, segmenter.config.res, passed)
    columns = ["file", "view", *COLUMNS, "reason"]
    if against is not None:
        columns[-1:-1] = [*(f"{name}_percentile" for name in COLUMNS), "reference"]
    with ExitStack() as stack:
        folder = stack.enter_context(atomic_folder(pictures)) if pictures is not None else None
        part = stack.enter_context(atomic_path(out))
        table = csv.DictWriter(stack.enter_context(open(part, "w", newline="", encoding="utf-8")), columns, restval="")
        table.writeheader()
        for row in _rows(source, count, segmenter, folder):
            reasons[row["reason"]] += 1
            if against is not None and row.get("ctr"):
                if row["view"] not in scales:
                    scales[row["view"]] = scale_of(row["view"], references)
                row |= scales[row["view"]].place(row)
                if not scales[row["view"]].known:
                    unplaced[row["reference"]] += 1
            table.writerow(row)
    return Summary(reasons.pop("", 0), reasons, passed, unplaced)


@dataclass(frozen=True)
class Scale:
    """The films that those of a view are compared with."""

    reference: str
    """Their number and view, or that they are too few."""
    known: dict[str, NDArray[np.float64]]
    """Column -> sorted values; without columns that have too few."""

    def place(self, row: dict[str, str]) -> dict[str, str]:
        """Return the percentiles of a row's measures, and `reference`."""
        measured = [(name, float(row[name])) for name in self.known if row.get(name)]
        found = {f"{name}_percentile": f"{percentile(value, self.known[name]):.1f}" for name, value in measured}
        return found | {"reference": self.reference}


def scale_of(view: str, rows: Sequence[dict[str, str]]) -> Scale:
    """Return the scale of the films of a view: those of that view among `rows`; of AP and AP_supine both together,
    where one alone has too few; of an unknown view all frontal ones."""
    choices: list[tuple[str, ...]] = [(view,)] if view != UNKNOWN else [(*FRONTAL_VIEWS, UNKNOWN)]
    choices += [("AP", "AP_supine")] if view in ("AP", "AP_supine") else []
    for views in choices:
        some = [row for row in rows if row.get("view", UNKNOWN) in views and row.get("ctr")]
        named = f"{len(some)} {'frontal' if UNKNOWN in views else ' and '.join(views)} films"
        if len(some) >= LEAST_REFERENCE:
            known = {n: np.sort([float(row[n]) for row in some if row.get(n)]) for n in COLUMNS}
            return Scale(named, {n: values for n, values in known.items() if len(values) >= LEAST_REFERENCE})
    return Scale(f"{named}, {LEAST_REFERENCE} are needed", {})


def percentile(value: float, known: NDArray[np.float64]) -> float:
    """Return the share of `known` (sorted, [n]) below a value in percent, those equal to it counted half."""
    below, upto = np.searchsorted(known, value, "left"), np.searchsorted(known, value, "right")
    return float(50 * (below + upto) / len(known))


def _references(against: Path, segmenter: Segmenter) -> list[dict[str, str]]:
    """Return the rows of a table, or of films that are measured here."""
    if against.is_file():
        try:
            with open(against, newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"--against {against} cannot be read as a CSV table in UTF-8 ({error})") from None
    else:
        rows = list(_rows(*open_films(against, segmenter.config.res, Counter()), segmenter, None))
    try:
        known = {name: [float(row[name]) for row in rows if row.get(name)] for name in COLUMNS}
    except ValueError as error:
        raise ValueError(f"{against}: {error}; expected a table that `thiscxr measure` wrote") from None
    if lacking := [name for name, values in known.items() if not values]:
        raise ValueError(
            f"{against} has no measures in {', '.join(lacking[:3])}; expected a table that `thiscxr measure` wrote, a "
            "pool, or a folder of frontal films"
        )
    return rows


def _rows(source: Iterable[Film], count: int, segmenter: Segmenter, pictures: Path | None) -> Iterator[dict[str, str]]:
    waiting: list[Film] = []
    with tqdm(total=count, unit="film", file=sys.stderr, desc="measure", delay=1) as bar:
        for film in source:
            waiting.append(film)
            if len(waiting) == _BATCH:
                yield from _measured(waiting, segmenter, pictures)
                waiting = []
            bar.update()
        yield from _measured(waiting, segmenter, pictures)


def _measured(films: list[Film], segmenter: Segmenter, pictures: Path | None) -> Iterator[dict[str, str]]:
    """Yield the rows of some films, in their order."""
    res = segmenter.config.res
    given = [to_bits(film.pixels, 16) for film in films if film.pixels is not None]
    pixels: Pixels = np.stack(given).astype(np.uint16) if given else np.empty((0, res, res), np.uint16)
    masks = segment(segmenter, [pixels])
    values = measure_masks(masks) | measure_opacity(pixels, masks)
    place = 0
    for film in films:
        row = {"file": film.name, "view": film.view, "reason": film.reason}
        if film.pixels is not None:
            lost = np.isnan(values[OPACITIES[0]][place])
            white = lost and clipped(pixels[place], masks[place, 0])
            if np.isnan(values["ctr"][place]) or (lost and not white):
                row["reason"] = NO_CHEST
            else:
                row["reason"] = CLIPPED if white else ""
                row |= {name: f"{values[key][place]:.4f}" for name, key in COLUMNS.items()}
                row = {name: value for name, value in row.items() if value != "nan"}
            if pictures is not None:
                path = pictures / f"{film.name.removesuffix('.png')}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                save_png(path, outlined(pixels[place], masks[place]))
            place += 1
        yield row


def outlined(pixels: Pixels, masks: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return a film [res, res] and the outlines of lungs and heart [2, res, res] as a picture, uint8 [h, w, 3]."""
    picture = enlarge(to_bits(pixels, 8), _TIMES * len(pixels)).astype(np.uint8)[..., None].repeat(3, axis=-1)
    for mask, colour in zip(masks, _COLOURS, strict=True):
        inside = zoom(mask.astype(np.float64), _TIMES, order=1, grid_mode=True, mode="nearest") >= 0.5
        picture[inside & ~binary_erosion(inside)] = colour
    return picture


def open_films(place: Path, res: int, passed: Counter[str]) -> tuple[Iterator[Film], int]:
    """Return the films of a pool, a folder (of samples too) or one file at `res` px, and their number.

    passed: counts other files in a folder, by kind. Raises ValueError if there are no films.
    """
    if (place / "pool.json").is_file():
        pool = Pool.open(place)
        return _of_pool(pool, res), len(pool)
    if place.is_file():
        return _of_files([(place.name, place)], {}, res), 1
    if not place.is_dir():
        raise ValueError(f"{place} is not there; expected a pool, a folder of films, or a film")
    files = []
    for name, path in walk(place, passed):
        if name.lower().endswith(IMAGE_SUFFIXES) or _is_dicom(path):
            files.append((name, path))
        else:
            passed[kind(name, IMAGE_SUFFIXES)] += 1
    if not files:
        found = f"; there are {', '.join(f'{n} x {what}' for what, n in passed.items())}" if passed else ""
        raise ValueError(f"{place} holds no films; expected {', '.join(IMAGE_SUFFIXES)} files{found}")
    return _of_files(sorted(files), _requested_views(place / "samples.csv"), res), len(files)


def _of_pool(pool: Pool, res: int) -> Iterator[Film]:
    names, views, resolutions = (pool.column(name) for name in ("film_id", "view", "resolution"))
    for row, (name, view) in enumerate(zip(names, views, strict=True)):
        if view not in (*FRONTAL_VIEWS, UNKNOWN):
            yield Film(name, view, None, f"{view} view: only frontal films are measured")
        elif resolutions[row] < SHORTEST:
            yield Film(name, view, None, f"smaller than {SHORTEST} px")
        else:
            yield Film(name, view, _brought_to(pool.read([row])[0], res))


def _of_files(files: list[tuple[str, Path]], views: dict[str, str], res: int) -> Iterator[Film]:
    for name, path in files:
        view = views.get(name) or read_dicom_header(path).view
        if view not in (*FRONTAL_VIEWS, UNKNOWN):
            yield Film(name, view, None, f"{view} view: only frontal films are measured")
            continue
        try:
            film = load_film(path, min_side=res)
            if film.marked == "picture":
                raise ValueError("a contact sheet or a projection, not a single film")
            short = short_side(film.pixels, film.aspect)
            if short < SHORTEST:
                raise ValueError(f"smaller than {SHORTEST} px")
            pixels = to_square(film.pixels, min(short, res), film.aspect)
        except ValueError as error:
            yield Film(name, view, None, str(error))
            continue
        yield Film(name, view, _brought_to(pixels, res))


def _brought_to(pixels: Pixels, res: int) -> Pixels:
    return pixels if len(pixels) == res else fit(pixels, res)


def _is_dicom(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return begins_like(file.read(512)) == "DICOM"
    except OSError:
        return False


def _requested_views(table: Path) -> dict[str, str]:
    """Return file -> requested view of the films of a folder of samples, where its table has one."""
    if not table.is_file():
        return {}
    with open(table, newline="", encoding="utf-8", errors="replace") as file:
        return {row.get("file") or "": row.get("view") or "" for row in csv.DictReader(file)}
