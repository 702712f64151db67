"""Starting from a network file: another resolution, other conditions or another source, without learning the chest
again.

Such a file holds only the generator; the discriminator starts new. A resumed run needs the file no more: its config
keeps what identifies the file, its state the terms of the films behind it.
"""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thiscxr.config import AUTO, Config
from thiscxr.files import sha256_file
from thiscxr.model.conditions import Vocabulary
from thiscxr.model.generator import DETAIL, Generator, GeneratorConfig, MappingNetwork, SmoothToGrey, ToGrey
from thiscxr.model.haar import analysis
from thiscxr.model.layers import num_channels
from thiscxr.model.network_file import find_network, load_network
from thiscxr.sample.sampling import load
from thiscxr.train.runs import read_config
from thiscxr.train.training import Training

log = logging.getLogger("thiscxr")


def resolve_init(config: Config, new: bool = False, fit: bool = False) -> Config:
    """Return the config with what the network of `init` decides: `init_sha256`, and `grow_from`, so that films grow on
    from its side.

    With `fit`, for a width that nobody asked for, `channel_base` too. A generator whose layers that draw pixels are new
    (see `draws_alike`) does not rest. Where the network is gone, the run in `out` that this call goes on with remembers
    all of it; `config` must be resolved otherwise. Raises ValueError for what is not a generator of ours, and for one
    of other widths.
    """
    if not config.init:
        return config
    try:
        path = find_network(config.init)
    except ValueError:
        if not new and (begun := _begun(config, fit)):
            return begun
        raise
    generator, _ = load_network(path)
    config = replace(config, channel_base=generator.config.channel_base) if fit else config
    check_widths(config, generator.config)
    side = min(drawn_side(generator) // generator.config.patch * config.patch, config.res)
    config = replace(config, init_sha256=sha256_file(path), grow_from=config.grow_from and max(config.grow_from, side))
    return config if draws_alike(config, generator.config) else replace(config, rest_kimg=0.0)


def _begun(config: Config, fit: bool) -> Config | None:
    """Return the config as it was in the newest run in `out` that it goes on with, or None."""
    for run in sorted(Path(config.out).glob("[0-9][0-9][0-9][0-9][0-9]-*"), reverse=True):
        before = read_config(run)
        if before is None:
            continue
        begun = replace(config, **{name: getattr(before, name) for name in ("init_sha256", "grow_from", "rest_kimg")})
        begun = replace(begun, channel_base=before.channel_base) if fit else begun
        # a phantom may not be made yet
        data = before.pool_fingerprint if config.pool_fingerprint == AUTO else config.pool_fingerprint
        if before.init == config.init and before.fingerprint == replace(begun, pool_fingerprint=data).fingerprint:
            return begun
    return None


def check_widths(config: Config, init: GeneratorConfig) -> None:
    """Raise ValueError when a training of `config` cannot take over the layers of `init`, saying what to set."""
    differ = [name for name in ("z_dim", "w_dim", "mapping_layers") if getattr(config, name) != getattr(init, name)]
    widths = [(int(some.channel_base), some.channel_max) for some in (config, init)]
    shared = [side for side in init.resolutions if side <= config.res // config.patch]
    if any(num_channels(side, *widths[0]) != num_channels(side, *widths[1]) for side in shared):
        differ += [name for name in ("channel_base", "channel_max") if getattr(config, name) != getattr(init, name)]
    if differ:
        found = ", ".join(
            (f"{name} {getattr(init, name)} where this training has {getattr(config, name)}") for name in differ
        )
        advice = " ".join(f"--set {name}={getattr(init, name)}" for name in differ)
        raise ValueError(f"--init {config.init}: the network has {found}; add {advice}")


def draws_alike(config: Config, init: GeneratorConfig) -> bool:
    """Return whether the layers of `init` that draw pixels can be taken over: all become bands, but free pixels come
    from free pixels."""
    return config.bands or (config.patch == init.patch and not init.haar)


def drawn_side(generator: Generator) -> int:
    """Return the side in pixels of the films that a network really draws: what has not grown yet has weights of
    zero."""
    sides = zip(generator.config.resolutions, generator.synthesis.to_grey, strict=True)
    return max([4, *(side for side, grey in sides if grey.get_parameter("conv.weight").any())]) * generator.config.patch


def start(training: Training) -> None:
    """Let a training that has not begun start from the network of its config's `init`. Raises ValueError when that has
    changed."""
    config = training.config
    network = load(config.init)
    if network.sha256 != config.init_sha256:
        raise ValueError(f"--init {config.init} has changed since this call began; give the same command again")
    known, vocabulary = network.info.vocabulary, training.films.vocabulary
    for generator in (training.G, training.G_ema):
        copy_known(generator, vocabulary, network.generator, known)
    training.inherited = network.info.sources
    names, before, init = columns(vocabulary), columns(known), network.generator.config
    pixels = f"; what draws pixels starts new (patches of {config.patch} for its {init.patch})"
    if draws_alike(config, init):
        pixels = "" if (config.patch, config.bands) == (init.patch, init.haar) else "; its pixels become Haar bands"
    log.info(
        "starts from %s (%d px, %d films seen): %d of %d conditions are known to it%s; with it go the terms of %s",
        config.init, drawn_side(network.generator), network.info.images_seen, sum(name in before for name in names),
        len(names), pixels, ", ".join(network.info.sources) or "no source",
    )  # fmt: skip


def copy_known(generator: Generator, vocabulary: Vocabulary, init: Generator, known: Vocabulary) -> None:
    """Copy into `generator` what it shares with `init`, so that both draw the same film of what both have learnt.

    Blocks are shared by side, layers that draw pixels as `copy_head` says. What is new adds nothing yet: a block draws
    zeros, the grain of another side is left behind, a condition is as good as unknown.
    """
    with torch.no_grad():
        copy_mapping(generator.mapping, vocabulary, init.mapping, known)
        generator.w_mean.copy_(init.w_mean)
        new, old = generator.synthesis, init.synthesis
        new.constant.copy_(old.constant)
        for conv, before in zip(new.convs, old.convs, strict=False):
            conv.load_state_dict(before.state_dict())
        for grey, before in zip(new.to_grey, old.to_grey, strict=False):
            copy_head(grey, before)
        if new.grain is not None:
            new.grain.gain.zero_()
            if old.grain is not None and (generator.config.res, generator.config.patch) == (
                init.config.res,
                init.config.patch,
            ):
                new.grain.load_state_dict(old.grain.state_dict())
        new.bake(len(old.to_grey))


def copy_head(head: nn.Module, init: nn.Module) -> None:
    """Let a layer that draws pixels start from another one, where it can.

    Bands are shared by scale: those of larger patches draw the same film at twice the side, those of smaller ones its
    means. Free pixels become their bands; what they differ by where nothing changes, the grid, is lost, and the mean is
    smoothed.
    """
    if isinstance(head, ToGrey):
        if isinstance(init, ToGrey) and head.patch == init.patch:
            head.load_state_dict(init.state_dict())
        return
    assert isinstance(head, SmoothToGrey)
    assert isinstance(init, ToGrey | SmoothToGrey)
    weight: Tensor = init.conv.weight
    if isinstance(init, ToGrey):
        weight = (analysis(init.patch) @ weight.flatten(1)).view_as(weight)
        weight[1:] /= DETAIL
        if init.patch == 1:
            weight = F.pad(weight * 3, (1, 1, 1, 1))  # 3×3: its gain divides by the root of nine times as many weights
    shared = min(len(weight), len(head.conv.weight))
    head.conv.weight.zero_()[:shared] = weight[:shared]
    head.conv.style.load_state_dict(init.conv.style.state_dict())
    head.bias.fill_(init.bias.mean())


def copy_mapping(mapping: MappingNetwork, vocabulary: Vocabulary, init: MappingNetwork, known: Vocabulary) -> None:
    """Copy the mapping, conditions by name. At run time weights are divided by the root of their fan-in: made good
    where that differs."""
    new, old = mapping.state_dict(), init.state_dict()  # the tensors themselves
    first = old["layers.0.weight"]  # its columns: z, then the embedded conditions
    z_dim = first.shape[1] // (2 if known.dim else 1)
    for name in old:
        if name.startswith("layers.") and new[name].shape == old[name].shape:
            new[name].copy_(old[name])
    for name in ("embed.weight", "embed.bias")[: 2 * bool(vocabulary.dim)]:
        new[name].zero_()
    if vocabulary.dim and known.dim:
        new["embed.bias"].copy_(old["embed.bias"])
        names = columns(known)
        for place, name in enumerate(columns(vocabulary)):
            if name in names:
                new["embed.weight"][:, place] = old["embed.weight"][:, names.index(name)] * math.sqrt(
                    vocabulary.dim / known.dim
                )
    elif vocabulary.dim:
        # The columns for conditions keep their first values: were they zero like the embedding, neither would ever
        # learn.
        new["layers.0.weight"][:, :z_dim] = first * math.sqrt(2)
    elif known.dim:
        new["layers.0.weight"].copy_(first[:, :z_dim] / math.sqrt(2))
        # what an unknown condition adds
        new["layers.0.bias"].add_(first[:, z_dim:] @ old["embed.bias"] / math.sqrt(2 * z_dim))


def columns(vocabulary: Vocabulary) -> list[str]:
    """Return a name for each number of a condition vector."""
    return [
        *vocabulary.findings,
        *(f"view {name}" for name in vocabulary.views),
        *(f"source {name}" for name in vocabulary.sources),
        *["sex"][: bool(vocabulary.sexes)],
        *["age known", "age"][: 2 * vocabulary.ages],
    ]


def with_inherited(own: dict[str, Any], inherited: dict[str, Any]) -> dict[str, Any]:
    """Return sources with those behind the network that a training began with; of one name with other terms, both are
    kept."""
    sources = dict(own)
    for name, terms in inherited.items():
        while {**sources.setdefault(name, terms), "films": None} != {**terms, "films": None}:  # their number may differ
            name += " (before)"
    return sources
