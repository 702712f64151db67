"""Projections of films, measured: how near each is, compared with random synthetic films and films of other patients,
and what it has lost."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from thiscxr.files import atomic_folder
from thiscxr.latent.lost import MEASURES, Lost, distances, lost, nearest_and_median, projection_picture
from thiscxr.latent.projection import Projection, draw_candidates, project, save_projection
from thiscxr.marks import NOTICE, SOFTWARE, XMP_KEY, origin_text
from thiscxr.model.conditions import Condition
from thiscxr.pixels import Pixels, images_to_pixels, pixels_to_images, save_png, to_bits
from thiscxr.pool import Pool
from thiscxr.pool.prepare import FramedFilm, frame_film
from thiscxr.reader.extractors import Extractor
from thiscxr.sample.provenance import origin_of
from thiscxr.sample.sampling import Network

MOST_OTHERS = 1000  # real films that each is compared with
KEEP = (
    "Left: a film of a real patient; beside it the nearest film that a network "
    "generates. Keep both where the film may be."
)


@dataclass(frozen=True)
class Projected:
    """A film, its projection, and the distance between the two."""

    name: str
    real: bool
    film: Pixels
    """uint8 [res, res], framed as in a pool."""
    projection: Projection
    space: str
    steps: int
    near: dict[str, float]
    """The measures of the projection."""
    random: dict[str, dict[str, float]]
    """Of random synthetic films: the nearest, the median."""
    others: dict[str, dict[str, float]] | None
    """Of other real patients' films; None: no pool was given."""
    lost: Lost

    @property
    def pixels(self) -> Pixels:
        """The projection, uint8 [res, res]."""
        return images_to_pixels(self.projection.image[0].numpy())

    def report(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "film": self.name,
            "real": self.real,
            "space": self.space,
            "steps": self.steps,
            "start": self.projection.start,
            "distance": self.projection.distance,
            "nearest_candidate": self.projection.nearest,
            "projected": self.near,
            "random": self.random,
            "others": self.others,
            "lost": asdict(self.lost),
        }


def project_films(
    paths: Sequence[Path], network: Network, extractor: Extractor, real: Pool | None, steps: int, space: str, count: int
) -> list[Projected]:
    """Project films, all at once, and measure the results. real: a pool whose films of other patients are compared too.

    Raises ValueError for a film that `prepare` would refuse, two films of one name, and a pool of another resolution.
    """
    res = network.info.architecture.res
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        raise ValueError("two films have one name; project them one after the other")
    real = real and real.at_resolution(res)
    if real is not None and real.resolution != res:
        raise ValueError(
            f"{real.path} holds films of {real.resolution} px, but the network generates "
            f"{res} px; prepare a pool of that resolution"
        )
    reader = extractor.reader
    framed = [_framed(path, res) for path in paths]
    films = _stack([film.pixels for film in framed])
    candidates = draw_candidates(network, count, Condition())
    images = torch.from_numpy(pixels_to_images(films))[:, None]
    found = project(network, images, candidates, reader.block_maps, steps, space)
    drawn = _stack([images_to_pixels(each.image[0].numpy()) for each in found])
    random = images_to_pixels(candidates.images[:, 0].numpy())
    of_films, of_drawn, of_random = (extractor.features([some]) for some in (films, drawn, random))
    pool = _Others(real, extractor) if real is not None else None
    results = []
    for i, each in enumerate(found):
        own = distances(films[i], of_films[i], drawn[i : i + 1], of_drawn[i : i + 1])
        near = {name: float(values[0]) for name, values in own.items()}
        far = nearest_and_median(distances(films[i], of_films[i], random, of_random))
        others = pool.compare(films[i], of_films[i]) if pool else None
        gone = lost(films[i], drawn[i])
        results.append(Projected(names[i], not framed[i].marked, films[i], each, space, steps, near, far, others, gone))
    return results


def _stack(films: Sequence[Pixels]) -> Pixels:
    return np.stack(films).astype(np.uint8, copy=False)


def _framed(path: Path, res: int) -> FramedFilm:
    try:
        return frame_film(path, res)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


class _Others:
    """Films of a pool, at most MOST_OTHERS, evenly taken."""

    def __init__(self, pool: Pool, extractor: Extractor) -> None:
        rows = np.unique(np.linspace(0, len(pool) - 1, min(MOST_OTHERS, len(pool))).astype(np.int64))
        self.pixels = to_bits(pool.read(rows), 8)
        self.features = extractor.features(self.pixels[start : start + 256] for start in range(0, len(rows), 256))
        self.patients = pool.codes("patient")[0][rows]

    def compare(self, film: Pixels, features: np.ndarray) -> dict[str, dict[str, float]]:
        """Return the nearest and the median of each measure, without the film's own patient, if the pool has the
        film."""
        own = self.patients[(self.pixels == film).all(axis=(1, 2))]
        kept = ~np.isin(self.patients, own)
        return nearest_and_median(distances(film, features, self.pixels[kept], self.features[kept]))


def write_projections(out: Path, found: Sequence[Projected], network: Network, extractor: Extractor) -> None:
    """Write a new folder: a picture and the latent of each film, and projections.json. Raises ValueError when it is not
    empty."""
    origin = origin_of(network)
    with atomic_folder(out) as part:
        for each in found:
            text = {
                "Title": "A film and its projection",
                "Disclaimer": KEEP if each.real else NOTICE,
                "Software": SOFTWARE,
            }
            picture = projection_picture(each.film, each.pixels, each.lost, each.real, tuple(_lines(each)))
            marks = origin_text(origin.sources, origin.restriction, origin.attribution)
            if each.real:
                marks.pop(XMP_KEY)  # it states that the whole picture is synthetic
            save_png(part / f"{each.name}.png", picture, {**text, "Network": network.sha256, **marks})
            path = part / f"{each.name}.safetensors"
            save_projection(path, each.projection, origin, each.name, each.space, each.steps, each.real)
        facts = {
            "network_sha256": network.sha256,
            "reader": extractor.name,
            "reader_sha256": extractor.sha256,
            "software": SOFTWARE,
            "notice": KEEP if any(each.real for each in found) else NOTICE,
            "restriction": origin.restriction,
            "films": [each.report() for each in found],
        }
        (part / "projections.json").write_text(json.dumps(facts, indent=2) + "\n")


def projection_table(found: Sequence[Projected]) -> str:
    """Return the report as lines."""
    lines: list[str] = []
    for each in found:
        lines += [f"{each.name} ({'real' if each.real else 'synthetic'})", *(f"  {line}" for line in _lines(each))]
    return "\n".join(lines)


def _lines(each: Projected) -> list[str]:
    lines = []
    for name, title in MEASURES.items():
        beside = [f"random synthetic films {_two(each.random[name])}"]
        beside += [f"other patients {_two(each.others[name])}"] if each.others else []
        lines.append(f"{title}: {each.near[name]:.3g} (nearest / median of {', of '.join(beside)})")
    lines.append(f"lost: {each.lost.share:.1%} of the film's energy around its mean")
    if each.lost.largest is not None:
        lines.append(f"largest piece lost: {each.lost.largest.words}")
    if each.lost.brightest not in (None, each.lost.largest):
        assert each.lost.brightest is not None
        lines.append(f"largest bright piece lost: {each.lost.brightest.words}")
    return lines


def _two(values: dict[str, float]) -> str:
    return f"{values['nearest']:.3g} / {values['median']:.3g}"
