"""Projection: the latent w whose film is nearest to a given one, found by descent (Karras et al. 2020,
arXiv:1912.04958, section 5).

A film that the network generated is recovered; any other becomes what the network can generate. Noise is left out,
since no w encodes it.

The distance is that of the pixels plus that of an extractor's maps, block by block, with the channels at each place
scaled to unit length (Zhang et al. 2018, arXiv:1801.03924, Eq. 1, without learnt weights). Each is divided by its
median over films of the network, so the median such film has a distance of about 2.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

import thiscxr
from thiscxr.model.conditions import Condition
from thiscxr.model.network_file import read_safetensors, write_safetensors
from thiscxr.sample.provenance import Origin
from thiscxr.sample.sampling import Network, draw_styles, noises_of, styles_of

PROJECTION_FORMAT = 1
SPACES = ("w", "w+")
SHARED = 0.1  # weight of the variance between the layers of w+, in variances of w
RATE = 0.1  # of Adam, in standard deviations of w
Perceive = Callable[[Tensor], Sequence[Tensor]]


@dataclass(frozen=True)
class Candidates:
    """Films of the network that a projection may start from."""

    seeds: Sequence[int]
    ws: Tensor
    """float32 [n, num_ws, w_dim]."""
    images: Tensor
    """float32 [n, 1, res, res] in [-1, 1], each with its own noise."""


@dataclass(frozen=True)
class Projection:
    """The projection of one film."""

    ws: Tensor
    """float32 [num_ws, w_dim]."""
    image: Tensor
    """float32 [1, res, res], clipped to [-1, 1]."""
    start: str
    """Where the better of the two descents started: "mean" or "seed 12"."""
    distance: float
    """At the end; about 2 for the median film of the network."""
    nearest: float
    """Distance of the nearest candidate."""


def draw_candidates(network: Network, count: int, requested: Condition) -> Candidates:
    """Generate the films of seeds 0 to count − 1 with the requested condition, or each with its draw from the joint
    table."""
    seeds = range(count)
    ws = styles_of(network, seeds, network.conditions(seeds, requested))
    images = torch.cat([some.cpu() for some in draw_styles(network, ws, noises_of(network, seeds))])
    return Candidates(seeds, ws, images.clamp(-1, 1))


def project(
    network: Network, images: Tensor, candidates: Candidates, perceive: Perceive, steps: int, space: str = "w"
) -> list[Projection]:
    """Return the projection of each of images [N, 1, res, res] in [-1, 1]: `steps` of Adam from the mean w and from the
    nearest candidate.

    space: "w", one latent for all layers, as a seed has; "w+", one per layer, held together by SHARED: nearer to the
    film, and less like a film of this network. perceive: images -> maps, each [N, C, h, w]. Raises ValueError for
    another space.
    """
    if space not in SPACES:
        raise ValueError(f"space '{space}' is not one of {', '.join(SPACES)}")
    generator, device = network.generator, network.generator.w_mean.device
    images = images.to(device)
    measure = _Distance(images, candidates.images.to(device), perceive)
    nearest = measure.of_candidates.argmin(dim=1)
    std = candidates.ws[:, 0].std(dim=0).clamp(min=1e-6)
    begun = torch.stack(
        [generator.w_mean.expand(len(images), -1), candidates.ws[nearest.to(candidates.ws.device), 0]], dim=1
    )
    offset = torch.zeros(
        len(images), 2, generator.config.num_ws if space == "w+" else 1, generator.config.w_dim, device=device
    )
    offset.requires_grad_(True)
    noises = [torch.zeros(1, 1, res, res, device=device) for res in generator.config.noise_resolutions]
    optimizer = torch.optim.Adam([offset], lr=RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def draw() -> tuple[Tensor, Tensor]:
        ws = (begun[:, :, None] + std * offset).expand(-1, -1, generator.config.num_ws, -1).flatten(0, 1)
        return ws, generator.synthesis(ws, noises)

    with tqdm(total=steps, unit="step", file=sys.stderr, desc="project", delay=1) as bar:
        for _ in range(steps):
            distance = measure(draw()[1])
            spread = (offset - offset.mean(dim=2, keepdim=True)).square().mean(dim=(2, 3))
            optimizer.zero_grad()
            (distance.view(-1, 2) + SHARED * spread).sum().backward()
            optimizer.step()
            schedule.step()
            bar.update()
    with torch.no_grad():
        ws, drawn = draw()
        found = measure(drawn).view(-1, 2)
    best = found.argmin(dim=1)
    results = []
    for number, which in enumerate(best.tolist()):
        seed = candidates.seeds[int(nearest[number])]
        place = 2 * number + which
        least = float(measure.of_candidates[number].min())
        start = f"seed {seed}" if which else "mean"
        results.append(
            Projection(ws[place].cpu(), drawn[place].clamp(-1, 1).cpu(), start, float(found[number, which]), least)
        )
    return results


class _Distance:
    """The distance of films [2N, 1, res, res] from the given ones [N, 1, res, res], two consecutive films for each; the
    candidates give the units."""

    def __init__(self, images: Tensor, candidates: Tensor, perceive: Perceive) -> None:
        self.perceive = perceive
        with torch.no_grad():
            own = self._with_maps(images)
            parts = []
            for some in map(self._with_maps, candidates.split(64)):
                # [N, 2, k]
                parts.append(torch.stack([_terms(some, [x[n : n + 1] for x in own]) for n in range(len(images))]))
            both = torch.cat(parts, dim=2)
            self.units = both.median(dim=2).values.median(dim=0).values.clamp(min=1e-8)  # [2]
            self.of_candidates = (both / self.units[:, None]).sum(dim=1)  # [N, n]
            self.own = [x.repeat_interleave(2, 0) for x in own]

    def __call__(self, images: Tensor) -> Tensor:
        return (_terms(self._with_maps(images), self.own) / self.units[:, None]).sum(dim=0)

    def _with_maps(self, images: Tensor) -> list[Tensor]:
        return [images, *(x * (x.square().sum(dim=1, keepdim=True) + 1e-8).rsqrt() for x in self.perceive(images))]


def _terms(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Return the mean squared difference of films and, averaged over blocks, of their maps, [2, N]; a, b: films and
    maps."""
    pixels, *blocks = ((x - y).square().sum(dim=1).mean(dim=(1, 2)) for x, y in zip(a, b, strict=True))
    return torch.stack([pixels, torch.stack(blocks).mean(dim=0)])


def save_projection(
    path: Path, found: Projection, origin: Origin, name: str, space: str, steps: int, real: bool
) -> None:
    """Write a projection as safetensors: `ws` [num_ws, w_dim] and its facts. real: it is the likeness of a real
    film."""
    facts = {
        "format_version": PROJECTION_FORMAT,
        "kind": "projection",
        "name": name,
        "space": space,
        "steps": steps,
        "start": found.start,
        "real": real,
        "distance": found.distance,
        "network_sha256": origin.sha256,
        "restriction": origin.restriction,
        "code_version": thiscxr.__version__,
    }
    write_safetensors(path, {"ws": found.ws.contiguous()}, facts)


def load_projection(path: Path, network: Network) -> tuple[Tensor, str, bool]:
    """Return ws [num_ws, w_dim], the name of the film, and whether it was a real one.

    Raises ValueError for another kind of file, and for a projection into another network.
    """
    facts, tensors = read_safetensors(path, "projection", PROJECTION_FORMAT)
    if facts.get("network_sha256") != network.sha256:
        raise ValueError(
            f"{path} was found in another network than {network.info.name}; give --model the one that it was found in"
        )
    ws = tensors.get("ws")
    if ws is None or ws.shape != (network.generator.config.num_ws, network.generator.config.w_dim):
        raise ValueError(f"{path} does not hold the styles of a film of {network.info.name}")
    return ws.to(network.generator.w_mean.device), str(facts.get("name")), bool(facts.get("real", True))
