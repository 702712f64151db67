"""From seeds and conditions to films: the whole of sampling but the files.

A seed gives the same latent anywhere and the same film within one grey level, whatever the batch size.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from thiscxr.data.labels import NEGATIVE, POSITIVE
from thiscxr.files import sha256_file
from thiscxr.model.conditions import Condition, draw_condition
from thiscxr.model.generator import Generator
from thiscxr.sample.latents import LATENT_STREAM, NOISE_STREAM, condition_uniforms, normals
from thiscxr.train.runs import NetworkInfo, find_network, load_network


@dataclass(frozen=True)
class Network:
    """A loaded generator, ready to sample from."""

    generator: Generator
    info: NetworkInfo
    sha256: str  # of the network file; empty while it is still being trained

    def sample(
        self,
        seeds: Iterable[int],
        *,
        view: str | None = None,
        sex: str | None = None,
        age_years: float | None = None,
        source: str | None = None,
        findings: Sequence[str] = (),
        no_findings: Sequence[str] = (),
        truncation: float = 1.0,
    ) -> np.ndarray:
        """Return uint8 [n, res, res], one film a seed. Raises ValueError for a condition that the network never learnt."""
        asked = ask(view=view, sex=sex, age_years=age_years, source=source, findings=findings, no_findings=no_findings)
        seeds = list(seeds)
        films = list(sample_films(self, seeds, self.conditions(seeds, asked), truncation))
        return np.concatenate(films) if films else np.empty((0, self.info.architecture.res, self.info.architecture.res), np.uint8)

    def conditions(self, seeds: Sequence[int], asked: Condition) -> list[Condition]:
        """Return the condition of each seed: what was asked; with nothing asked, each seed's own draw from the joint table."""
        if asked != Condition():
            self.info.vocabulary.encode([asked])  # refuses what was never learnt before anything is made
            return [asked] * len(seeds)
        return [draw_condition(self.info.joint_table, condition_uniforms(seed)) for seed in seeds]


def load(model: str | Path, device: str = "cpu") -> Network:
    """Return the network that FILE, NAME or RUN means, e.g. `thiscxr.load("nih-64").sample(seeds=range(64))`."""
    path = find_network(str(model))
    generator, info = load_network(path)
    return Network(generator.to(device), info, sha256_file(path))


def ask(
    *,
    view: str | None = None,
    sex: str | None = None,
    age_years: float | None = None,
    source: str | None = None,
    findings: Sequence[str] = (),
    no_findings: Sequence[str] = (),
) -> Condition:
    """Return the condition that these words mean. Raises ValueError when a finding is both asked for and asked to be absent."""
    for name in findings:
        if name in no_findings:
            raise ValueError(f"finding '{name}' is asked for and asked to be absent; drop one of the two")
    if age_years is not None and not 0 <= age_years <= 120:
        raise ValueError(f"age {age_years:g} is out of range; use 0 to 120 years")
    states = dict.fromkeys(findings, POSITIVE) | dict.fromkeys(no_findings, NEGATIVE)
    return Condition(view, sex, age_years, source, states)


def sample_films(
    network: Network, seeds: Sequence[int], conditions: Sequence[Condition], truncation: float = 1.0, batch: int = 64
) -> Iterator[np.ndarray]:
    """Yield uint8 [up to `batch`, res, res] in the order of `seeds`. Raises ValueError for a truncation outside [0, 2]."""
    if not 0 <= truncation <= 2:
        raise ValueError(f"truncation is {truncation}, but must be between 0 and 2")
    device = network.generator.w_mean.device
    config = network.generator.config
    for start in range(0, len(seeds), batch):
        some = seeds[start : start + batch]
        z = torch.from_numpy(np.stack([normals(seed, LATENT_STREAM, config.z_dim) for seed in some]))
        c = torch.from_numpy(network.info.vocabulary.encode(conditions[start : start + batch]))
        noises = [
            torch.from_numpy(np.stack([normals(seed, NOISE_STREAM + i, res * res) for seed in some])).view(-1, 1, res, res)
            for i, res in enumerate(config.noise_resolutions)
        ]
        with torch.inference_mode():
            images = network.generator(z.to(device), c.to(device), [noise.to(device) for noise in noises], truncation)
        yield to_pixels(images)


def to_pixels(images: torch.Tensor) -> np.ndarray:
    """Return uint8 [N, H, W] of images float32 [N, 1, H, W]; values outside [-1, 1] are clipped."""
    return ((images[:, 0].float() * 127.5 + 127.5).round().clamp(0, 255)).to(torch.uint8).cpu().numpy()
