"""From seeds and conditions to films: all of sampling but the files.

A seed gives the same latent anywhere and the same film within one grey level, whatever the batch size.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from thiscxr.files import sha256_file
from thiscxr.labels import FINDINGS, NEGATIVE, NO_FINDING, POSITIVE, SEXES, SUPPORT_DEVICES, VIEWS, spelled
from thiscxr.model.conditions import Condition, draw_conditions
from thiscxr.model.generator import Generator
from thiscxr.model.network_file import NetworkInfo, find_network, load_network
from thiscxr.model.parallel import AT_ONCE, in_threads
from thiscxr.sample.latents import LATENT_STREAM, NOISE_STREAM, condition_uniforms, normals
from thiscxr.sample.truncation import Truncation


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
        truncation: float | Truncation = 1.0,
    ) -> np.ndarray:
        """Return uint8 [n, res, res], one film per seed. Raises ValueError for a condition that the network never
        learnt."""
        requested = request(
            view=view, sex=sex, age_years=age_years, source=source, findings=findings, no_findings=no_findings
        )
        seeds = list(seeds)
        films = sample_films(self, seeds, self.conditions(seeds, requested), truncation)
        return np.concatenate([np.empty((0, *(self.info.architecture.res,) * 2), np.uint8), *films])

    def conditions(self, seeds: Sequence[int], requested: Condition) -> list[Condition]:
        """Return the condition of each seed: the requested one; if nothing is requested, each seed's draw from the
        joint table."""
        if requested != Condition():
            self.info.vocabulary.encode([requested])  # refuses what was never learnt before anything is generated
            return [requested] * len(seeds)
        return draw_conditions(self.info.joint_table, condition_uniforms(seeds))

    def patients(self, seeds: Sequence[int], requested: Condition) -> list[Condition]:
        """Return the condition of each seed for several films of one invented patient: the request, completed by the
        seed's draw.

        The rest is not left unknown: in the training films, sites and findings are correlated, so an unknown site would
        change with the finding from film to film.
        """
        self.info.vocabulary.encode([requested])
        return [requested.over(drawn) for drawn in self.conditions(seeds, Condition())]


def load(model: str | Path, device: str = "cpu") -> Network:
    """Return the network of a FILE, NAME or RUN, e.g. `thiscxr.load("nih-64").sample(seeds=range(64))`."""
    path = find_network(str(model))
    sha256 = ""
    # the latest network of a run is replaced while it is being trained
    while sha256 != (now := sha256_file(path)):
        sha256, (generator, info) = now, load_network(path)
    return Network(generator.to(device), info, sha256)


def request(
    *,
    view: str | None = None,
    sex: str | None = None,
    age_years: float | None = None,
    source: str | None = None,
    findings: Sequence[str] = (),
    no_findings: Sequence[str] = (),
) -> Condition:
    """Return these words as a condition; case and underscores do not matter in findings, views and sexes.

    Raises ValueError for contradictions: a finding both present and absent, or No Finding with a finding. Support
    devices may be in a film without findings, as in CheXpert's labels.
    """
    findings, no_findings = ([spelled(name, FINDINGS) for name in names] for names in (findings, no_findings))
    view, sex = view and spelled(view, VIEWS), sex and spelled(sex, SEXES)
    for name in findings:
        if name in no_findings:
            raise ValueError(f"finding '{name}' is requested both present and absent; drop one of the two")
    others = [name for name in findings if name not in (NO_FINDING, SUPPORT_DEVICES)]
    if NO_FINDING in findings and others:
        raise ValueError(f"'{NO_FINDING}' and finding '{others[0]}' are requested in one film; drop one of the two")
    if age_years is not None and not 0 <= age_years <= 120:
        raise ValueError(f"age {age_years:g} is out of range; use 0 to 120 years")
    states = dict.fromkeys(findings, POSITIVE) | dict.fromkeys(no_findings, NEGATIVE)
    return Condition(view, sex, age_years, source, states)


def sample_images(
    network: Network,
    seeds: Sequence[int],
    conditions: Sequence[Condition],
    truncation: float | Truncation = 1.0,
    batch: int = 64,
) -> Iterator[torch.Tensor]:
    """Yield float32 [up to `batch`, 1, res, res], about [-1, 1] and not clipped, in the order of `seeds`.

    Raises ValueError for a truncation outside [0, 2] or of layers that the network does not have.
    """
    device = network.generator.w_mean.device
    psi = _psi(network, truncation)

    def draw(start: int) -> torch.Tensor:
        some = seeds[start : start + batch]
        z, c = _latents_of(network, some, conditions[start : start + batch])
        with torch.inference_mode():
            return network.generator(
                z.to(device), c.to(device), [noise.to(device) for noise in noises_of(network, some)], psi
            )

    # several batches of large films at once would fill the memory
    at_once = AT_ONCE if network.generator.config.res <= 256 else 1
    yield from in_threads(draw, range(0, len(seeds), batch), device, at_once)


def _latents_of(
    network: Network, seeds: Sequence[int], conditions: Sequence[Condition]
) -> tuple[torch.Tensor, torch.Tensor]:
    z = torch.from_numpy(normals(seeds, LATENT_STREAM, network.generator.config.z_dim))
    return z, torch.from_numpy(network.info.vocabulary.encode(conditions))


def noises_of(network: Network, seeds: Sequence[int]) -> list[torch.Tensor]:
    """Return the noise inputs of some seeds, each [N, 1, r, r], on the CPU."""
    resolutions = enumerate(network.generator.config.noise_resolutions)
    return [
        torch.from_numpy(normals(seeds, NOISE_STREAM + i, res * res)).view(-1, 1, res, res) for i, res in resolutions
    ]


def styles_of(
    network: Network,
    seeds: Sequence[int],
    conditions: Sequence[Condition],
    truncation: float | Truncation = 1.0,
    batch: int = 64,
) -> torch.Tensor:
    """Return ws float32 [N, num_ws, w_dim] of some seeds, on the network's device: the films' latents after mapping and
    truncation.

    Raises ValueError as `sample_images`.
    """
    device, psi = network.generator.w_mean.device, _psi(network, truncation)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(seeds), batch):
            z, c = _latents_of(network, seeds[start : start + batch], conditions[start : start + batch])
            parts.append(network.generator.styles(z.to(device), c.to(device), psi))
    return torch.cat(parts)


def draw_styles(
    network: Network, ws: torch.Tensor, noises: Sequence[torch.Tensor], batch: int = 64
) -> Iterator[torch.Tensor]:
    """Yield the films of ws [N, num_ws, w_dim], float32 [up to `batch`, 1, res, res]; noises: one per film, or one for
    all."""
    device = network.generator.w_mean.device
    noises = [noise.to(device) for noise in noises]
    with tqdm(total=len(ws), unit="film", file=sys.stderr, desc="draw", delay=2) as bar:
        for start in range(0, len(ws), batch):
            some = ws[start : start + batch].to(device)
            with torch.inference_mode():
                yield network.generator.synthesis(
                    some, [n if len(n) == 1 else n[start : start + batch] for n in noises]
                )
            bar.update(len(some))


def _psi(network: Network, truncation: float | Truncation) -> torch.Tensor:
    requested = truncation if isinstance(truncation, Truncation) else Truncation(truncation)
    return torch.tensor(requested.per_layer(network.generator.config.num_ws), device=network.generator.w_mean.device)


def sample_films(
    network: Network,
    seeds: Sequence[int],
    conditions: Sequence[Condition],
    truncation: float | Truncation = 1.0,
    batch: int = 64,
) -> Iterator[np.ndarray]:
    """Yield uint8 [up to `batch`, res, res]; otherwise as `sample_images`."""
    for images in sample_images(network, seeds, conditions, truncation, batch):
        yield to_pixels(images)


def to_pixels(images: torch.Tensor, bits: int = 8) -> np.ndarray:
    """Return uint8 (bits 8) or uint16 (bits 9 to 16) [N, H, W], 0 to 2^bits − 1, of images float32 [N, 1, H, W]; the
    rest is clipped."""
    half = (2**bits - 1) / 2
    values = (
        images[:, 0].float().cpu().numpy() * half
    )  # by NumPy: torch's threads would wait for the cores that run the network
    values += half
    return np.clip(np.rint(values, out=values), 0, 2 * half, out=values).astype(np.uint8 if bits == 8 else np.uint16)
