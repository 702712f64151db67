"""A walk from film to film: straight lines in w between the latents of some seeds, generated with one noise.

In w, not in z: z is warped to be normally distributed, and the mapping network undoes the warping, so equal steps on a
straight line in w change the film evenly (Karras et al. 2019, arXiv:1812.04948, section 4.1). The noise is that of the
first seed throughout, or the texture would flicker; so each later film has its own shape and the grain of the first
one.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from thiscxr.files import atomic_folder, atomic_path
from thiscxr.latent.projection import load_projection
from thiscxr.marks import FILM_TITLE, NOTICE, SOFTWARE, origin_text, xmp
from thiscxr.model.conditions import Condition
from thiscxr.pixels import save_png
from thiscxr.pixels.animation import encode_animation
from thiscxr.pixels.drawing import enlarge
from thiscxr.pixels.mark import marked
from thiscxr.sample.provenance import Film, Origin, origin_of
from thiscxr.sample.sampling import Network, draw_styles, noises_of, styles_of, to_pixels
from thiscxr.sample.truncation import Truncation

LIKENESS = (
    "Drawn by a neural network on the way from a real film of a patient: keep it "
    "where that film may be; not for diagnosis."
)
LEAST_SIDE = 256  # of an animation, px: smaller films are enlarged by whole pixels


@dataclass(frozen=True)
class Stop:
    """A film that a walk passes."""

    name: str
    """Such as "seed 5"."""
    requested: str
    """The request in words."""
    ws: Tensor
    """float32 [num_ws, w_dim]."""
    real: bool = False
    """Whether it is the likeness of a real film."""


@dataclass(frozen=True)
class Walk:
    """The frames of a walk and their facts."""

    frames: np.ndarray
    """uint8 [n, res, res]."""
    positions: np.ndarray
    """float64 [n]: 0 at the first stop, 1 at the second and so on."""
    stops: Sequence[Stop]
    noise_seed: int
    truncation: str
    origin: Origin
    loop: bool

    @property
    def route(self) -> str:
        """The stops in words."""
        return " - ".join(stop.name for stop in self.stops) + (f" - {self.stops[0].name}" if self.loop else "")

    @property
    def restriction(self) -> str:
        """The limits on sharing it: a sentence, or ""."""
        return " ".join(filter(None, (self.origin.restriction, LIKENESS if self.notice == LIKENESS else "")))

    @property
    def notice(self) -> str:
        """What the frames are, in a sentence."""
        return LIKENESS if any(stop.real for stop in self.stops) else NOTICE

    def text(self, number: int) -> dict[str, str]:
        """Return the PNG text chunks of a frame."""
        return {
            "Title": f"{FILM_TITLE}, frame {number + 1} of {len(self.frames)} of a walk: {self.route}",
            "Disclaimer": self.notice,
            "Software": SOFTWARE,
            "Network": self.origin.sha256,
            "Position": f"{self.positions[number]:.4f}",
            "Noise": f"seed {self.noise_seed}",
            "Truncation": self.truncation,
            "Asked": json.dumps({stop.name: stop.requested for stop in self.stops}),
            **origin_text(self.origin.sources, self.restriction, self.origin.attribution),
        }

    def comment(self) -> str:
        """Return the same for a file of all frames."""
        return " ".join(
            (self.notice, f"A walk: {self.route}.", f"{SOFTWARE}, network {self.origin.sha256}.", self.origin.terms)
        ).strip()


def walk_positions(num_stops: int, num_frames: int, loop: bool) -> np.ndarray:
    """Return float64 [num_frames]: equal steps from the first stop to the last, or, in a loop, on to the first without
    repeating it.

    Raises ValueError for a walk without two different ends or too few frames for its stops.
    """
    if num_stops < 2:
        raise ValueError(f"a walk needs two films or more, and has {num_stops}; name them, such as --seeds 1,2,5")
    if num_frames < num_stops:
        raise ValueError(f"{num_frames} frames are too few to pass {num_stops} films; use {num_stops} or more")
    if loop:
        return np.arange(num_frames) * (num_stops / num_frames)
    return np.linspace(0, num_stops - 1, num_frames)


def between(ws: Tensor, positions: np.ndarray) -> Tensor:
    """Return ws [n, num_ws, w_dim] at positions [n] on the straight lines between the stops ws [k, num_ws, w_dim]; k is
    the first again."""
    places = torch.from_numpy(np.floor(positions).astype(np.int64)).to(ws.device)
    share = torch.from_numpy((positions - np.floor(positions)).astype(np.float32)).to(ws.device)[:, None, None]
    return torch.lerp(ws[places % len(ws)], ws[(places + 1) % len(ws)], share)


def seed_stops(network: Network, seeds: Sequence[int], requested: Condition, truncation: Truncation) -> list[Stop]:
    """Return the films of some seeds as stops; if nothing is requested, each seed draws its own conditions."""
    conditions = network.conditions(seeds, requested)
    films = [
        Film(seed, condition, truncation, origin_of(network)) for seed, condition in zip(seeds, conditions, strict=True)
    ]
    ws = styles_of(network, seeds, conditions, truncation) if seeds else ()
    return [Stop(f"seed {film.seed}", film.requested_words, w) for film, w in zip(films, ws, strict=True)]


def projected_stop(path: Path, network: Network) -> Stop:
    """Return a film that `thiscxr project` found as a stop. Raises ValueError as `load_projection`."""
    ws, name, real = load_projection(path, network)
    return Stop(f"projection of {name}", "It was found for that film.", ws, real)


def draw_walk(
    network: Network,
    stops: Sequence[Stop],
    num_frames: int,
    loop: bool,
    noise_seed: int,
    truncation: str,
    origin: Origin,
) -> Walk:
    """Generate a walk. Raises ValueError as `walk_positions`."""
    positions = walk_positions(len(stops), num_frames, loop)
    ws = between(torch.stack([stop.ws for stop in stops]), positions)
    images = draw_styles(network, ws, noises_of(network, [noise_seed]))
    frames = np.concatenate([to_pixels(some) for some in images])
    return Walk(frames, positions, stops, noise_seed, truncation, origin, loop)


def write_walk(found: Walk, out: Path, kind: str, fps: int) -> None:
    """Write a walk as one file (webp, gif, mp4), or as a new folder of PNG frames.

    A frame that is cut out of an animation loses its metadata, so SYNTHETIC is burned into each; PNG frames have text
    chunks. Raises ValueError as `encode_animation`, and when the folder exists and is not empty.
    """
    if kind == "frames":
        with atomic_folder(out) as part:
            for number, frame in enumerate(found.frames):
                save_png(part / f"frame-{number:05d}.png", frame, found.text(number))
        return
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; give the name of a file, or use --format frames")
    large = np.stack([marked(frame, 255) for frame in enlarge(found.frames, LEAST_SIDE)]).astype(np.uint8)
    data = encode_animation(
        large, fps, kind, found.comment(), xmp(" ".join(filter(None, (found.restriction, found.origin.attribution))))
    )
    with atomic_path(out) as file:
        file.write_bytes(data)
