"""The two networks, their optimizers and one step of training.

Everything random and every schedule is a function of (seed, images_seen), the one clock. Source: Karras et al. 2020,
arXiv:1912.04958 and arXiv:2006.06676.
"""

import copy
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from thiscxr.config import Config
from thiscxr.model.discriminator import Discriminator, DiscriminatorConfig
from thiscxr.model.generator import Generator, GeneratorConfig
from thiscxr.train.augment import augment, next_strength
from thiscxr.train.draws import Draws, begin_weights
from thiscxr.train.films import Films
from thiscxr.train.growth import Stage, resting_kimg, stage
from thiscxr.train.losses import contrast_loss, discriminator_loss, generator_loss, gradient_penalty, relativistic_loss
from thiscxr.train.team import Team

AUGMENT_INTERVAL = 4  # steps between adjustments of the augmentation
# of a state, beside the networks; None: has to be there
CARRIED: dict[str, Any] = {
    **dict.fromkeys(("inherited", "images_seen", "noise_stream", "strength", "signs")),
    **{"seen_before": 0, "started_from": ""},
}


def contrast_weight(config: Config, images_seen: int) -> float:
    """Return the weight of the contrast of conditions, which falls in a line to 0.

    It lets D learn early what conditions look like. Held at 1 it made trainings of a small pool worse after 60
    thousand films.
    """
    return config.contrast * (
        max(1 - images_seen / (config.contrast_kimg * 1000), 0.0) if config.contrast_kimg else 1.0
    )


def learning_rate(config: Config, images_seen: int, returns: int) -> float:
    """Return Adam's step: constant at first, then falling as 1 / films seen (Robbins and Monro 1951), and halved by
    every return.

    At a constant step D memorises its films in time, and G follows it; with a falling one both settle, however long a
    run is.
    """
    past = images_seen / (config.anneal_kimg * 1000) if config.anneal_kimg else 0.0
    return config.lr * 0.5**returns / max(1.0, past)


def area_means(images: Tensor, res: int) -> Tensor:
    """Return films [N, 1, H, H] as [N, 1, res, res], each pixel the mean of a square of theirs: how the small films
    were made."""
    return images if images.shape[-1] == res else F.avg_pool2d(images, images.shape[-1] // res)


class Training:
    """Networks, optimizers and the few numbers that change: everything that a resume needs, and one step of it."""

    def __init__(self, config: Config, films: Films, team: Team | None = None) -> None:
        self.config, self.films, self.team = config, films, team or Team()
        self.rows = self.team.rows(int(config.batch))
        c_dim = films.vocabulary.dim
        base, most = int(config.channel_base), config.channel_max
        begin_weights(config.seed)
        pixels: Any = {"patch": config.patch, "haar": config.bands}
        generator = GeneratorConfig(
            config.res, c_dim, config.z_dim, config.w_dim, config.mapping_layers, base, most, **pixels
        )
        # Films of less than the full resolution enter at their own block, also where nothing grows any more.
        first = min(config.grow_from, *films.resolutions) if config.grow_from else None
        discriminator = DiscriminatorConfig(
            config.res, c_dim, base, most, first_res=first, logit_bias=not config.relativistic, **pixels
        )
        layout: Any = {"device": torch.device(config.device), "memory_format": torch.channels_last}
        self.G: Generator = Generator(generator).to(**layout)
        self.D: Discriminator = Discriminator(discriminator).to(**layout)
        self.G_ema = copy.deepcopy(self.G).eval().requires_grad_(False)
        adam: Any = {"lr": config.lr, "betas": (0.0, 0.99), "eps": 1e-8, "fused": config.device != "mps"}
        self.opt_G, self.opt_D = (torch.optim.Adam(some.parameters(), **adam) for some in (self.G, self.D))
        self.inherited: dict[str, Any] = {}  # sources of the network that it started from, and their terms
        self.started_from = ""  # that network, in words
        self.images_seen = 0
        self.seen_before = 0  # films that the average had seen before this training, where it started from a run
        self.noise_stream = 0  # counts the returns after a collapse: each try draws other random numbers
        self.strength = 0.0  # of the augmentation
        # mean sign of D(real), or of D(real) − D(fake), of the steps since the last adjustment
        self.signs: list[float] = []

    def state(self) -> dict[str, Any]:
        """Return everything that an exact resume needs; random streams, sampler position and growth are functions of
        images_seen."""
        return {
            **{name: getattr(self, name).state_dict() for name in ("G", "D", "G_ema", "opt_G", "opt_D")},
            **{name: getattr(self, name) for name in CARRIED},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        for name in ("G", "D", "G_ema", "opt_G", "opt_D"):
            getattr(self, name).load_state_dict(state[name])
        for name, missing in CARRIED.items():
            setattr(self, name, state[name] if missing is None else state.get(name, missing))

    def averaged(self) -> Generator:
        """Return the averaged generator as it is used from now on: at full resolution, whatever has grown so far."""
        generator = copy.deepcopy(self.G_ema)
        generator.synthesis.bake(stage(self.config, self.images_seen).grown)
        return generator

    def step(self) -> dict[str, float]:
        """Train both networks on one batch and return the losses. Raises FloatingPointError before a step on non-finite
        gradients."""
        config, n = self.config, int(self.config.batch)
        number = self.images_seen // n
        now = stage(config, self.images_seen)
        for optimizer in (self.opt_G, self.opt_D):
            optimizer.param_groups[0]["lr"] = learning_rate(config, self.images_seen, self.noise_stream)
        draws = Draws(config.seed, self.images_seen, n, self.rows, config.device, self.noise_stream)
        like = self.G.w_mean  # in device and dtype
        images, rows = self.films.batch(self.images_seen + self.rows)
        # the resolution that D reads: real films of less than the full resolution stay as they are
        res = min(now.res, images.shape[-1])
        shown_blend = now.blend if res == now.res else 1.0
        images = area_means(images.to(like), res)
        c_real = self.films.with_dropout(rows, draws)
        # With the contrast, the real and the synthetic film of a pair have one condition, so that they differ only in
        # being real.
        c_fake = (c_real if config.contrast else self.films.requested(self.images_seen, draws)).to(like)
        contrast = contrast_weight(config, self.images_seen)
        contrasts = self.films.contrasts(rows, draws) if contrast else c_real[:, None][:, :0]
        differ = (contrasts != 0).any(dim=2).to(config.device)
        c_real = torch.cat([c_real[:, None], c_real[:, None] - contrasts], dim=1).to(like)  # [n, 1 + factors, c_dim]
        fakes, w = self._fakes(c_fake, now, draws)

        # Discriminator
        reals = augment(images, self.strength, draws)
        shown = augment(area_means(fakes.detach(), res), self.strength, draws)
        lazy = number % config.r1_interval == 0
        if lazy:
            logits = self.D(reals.requires_grad_(), c_real, shown_blend)
            fake_logits = self.D(shown.requires_grad_(config.relativistic), c_fake, shown_blend)
        else:
            # Both batches in one pass, which is faster than two: what depends on the weights alone is done once.
            conditions = torch.cat([c_real, c_fake[:, None].expand_as(c_real)])
            logits, of_fakes = self.D(torch.cat([reals, shown]), conditions, shown_blend, 2).chunk(2)
            fake_logits = of_fakes[:, 0]
        real_logits, wrong_logits = logits[:, 0], logits[:, 1:]
        of_d = relativistic_loss if config.relativistic else discriminator_loss
        terms = {"logistic loss": of_d(real_logits, fake_logits)}
        losses = {
            "loss/D": terms["logistic loss"].detach(),
            "D/real": real_logits.detach().mean(),
            "D/fake": fake_logits.detach().mean(),
        }
        if contrast:
            by_condition = contrast_loss(real_logits, wrong_logits, differ)
            losses["loss/contrast"] = by_condition.detach()
            terms["contrast"] = by_condition * contrast
        if lazy:
            # Taken at the augmented films, the inputs of D, and weighted up for the steps on which it is left out
            # (lazy: the 2020 paper, section 2.1). Small films have fewer pixels to sum over.
            weight = float(config.r1_gamma) * (res / config.res) ** 2 / 2 * config.r1_interval
            at = {"R1": (real_logits, reals), **({"R2": (fake_logits, shown)} if config.relativistic else {})}
            for name, (logits, films) in at.items():
                penalty = gradient_penalty(logits, films)
                losses[f"loss/{name}"] = penalty.detach()
                terms[f"{name} penalty"] = penalty * weight
        real_logits, fake_logits = real_logits.detach(), fake_logits.detach()
        # How well D separates what it trains on: signs of pairs, where only differences count.
        sign = (real_logits - fake_logits if config.relativistic else real_logits).sign().mean()
        self._descend(terms, self.opt_D, self.D, "discriminator")

        # Generator
        self.D.requires_grad_(False)
        if config.fresh_fakes:
            c_fake = c_fake if config.contrast else self.films.requested(self.images_seen, draws).to(like)
            fakes, w = self._fakes(c_fake, now, draws)
        logits = self.D(augment(area_means(fakes, res), self.strength, draws), c_fake, shown_blend)
        loss = relativistic_loss(logits, real_logits) if config.relativistic else generator_loss(logits)
        losses["loss/G"] = loss.detach()
        if self.images_seen >= resting_kimg(config) * 1000:
            self._descend({"logistic loss": loss}, self.opt_G, self.G, "generator")
        self.D.requires_grad_(True)

        w_mean = w.detach().mean(dim=0)
        self.team.mean_([*losses.values(), sign, w_mean])
        self.G.w_mean.lerp_(w_mean, 0.005)  # the centre of truncation follows the generator that is being trained
        self.signs.append(sign.item())
        self.images_seen += n
        self._average(n)
        report = {name: value.item() for name, value in losses.items()}
        if config.augment_target and (number + 1) % AUGMENT_INTERVAL == 0:
            mean_sign = float(np.mean(self.signs))
            self.strength = next_strength(
                self.strength, mean_sign, n * AUGMENT_INTERVAL, config.augment_target, config.augment_kimg
            )
            self.signs = []
            report["D/sign"] = mean_sign
        return {**report, "augment/strength": self.strength}

    def _fakes(self, c: Tensor, now: Stage, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return images of these conditions and their w."""
        config = self.G.config
        resolutions = config.grown_noise_resolutions(math.ceil(now.grown))
        noises = draws.grain(sum(res**2 for res in resolutions)).to(c).split([res**2 for res in resolutions], dim=1)
        w = self.G.mapping(draws.normal(self.config.z_dim).to(c), c)
        fields = [noise.view(-1, 1, res, res) for noise, res in zip(noises, resolutions, strict=True)]
        return self.G.synthesis(w[:, None].expand(-1, config.num_ws, -1), fields, now.grown), w

    def _descend(
        self, terms: dict[str, Tensor], optimizer: torch.optim.Optimizer, network: torch.nn.Module, phase: str
    ) -> None:
        """Step down the sum of the terms of a loss, if they and their gradient are finite in every process."""
        optimizer.zero_grad(set_to_none=True)
        values = torch.stack(list(terms.values()))
        values.sum().backward()
        values = values.detach()
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        self.team.mean_([*gradients, values])
        checked = torch.cat([values, torch.stack(torch._foreach_norm(gradients)).norm()[None]])
        if not torch.isfinite(checked).all():
            term = next(
                name for name, value in zip([*terms, "gradient"], checked, strict=True) if not torch.isfinite(value)
            )
            raise FloatingPointError(
                f"step {self.images_seen // int(self.config.batch) + 1}, {phase}: the {term} is "
                f"not finite after {self.images_seen} films; "
                "nothing was updated. Lower lr or raise r1_gamma (--set lr=0.001), with --new"
            )
        optimizer.step()

    def _average(self, n: int) -> None:
        """Move the averaged generator: half-life ema_kimg, shorter in the beginning."""
        half_life = min(self.config.ema_kimg * 1000, (self.seen_before + self.images_seen) * self.config.ema_rampup)
        keep = 0.5 ** (n / max(half_life, 1e-8))
        torch._foreach_lerp_(list(self.G_ema.parameters()), list(self.G.parameters()), 1 - keep)
        self.G_ema.w_mean.copy_(self.G.w_mean)
