"""Starting from a network file or a run: another resolution, other conditions or another source, without learning the
chest again.

A file holds the generator, and few files its discriminator too; else that starts new. The saved state of a run has
both. A resumed run no longer needs what it started from: its config keeps what identifies it, its state the terms of
the films behind it.
"""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thiscxr.config import AUTO, Config
from thiscxr.model.conditions import Vocabulary
from thiscxr.model.discriminator import Discriminator
from thiscxr.model.generator import DETAIL, Generator, GeneratorConfig, MappingNetwork, SmoothToGrey, ToGrey
from thiscxr.model.haar import analysis
from thiscxr.model.layers import num_channels
from thiscxr.train.growth import resting_kimg
from thiscxr.train.origin import Origin, Saved, generated_res, open_origin
from thiscxr.train.runs import read_config
from thiscxr.train.training import Training

NEW_REST_KIMG = 10.0  # for which the generator rests while a new discriminator learns


def resolve_init(config: Config, new: bool = False, fit: bool = False) -> Config:
    """Return the config with what `init` decides: `init_sha256`, `grow_from`, so that films grow on from its
    resolution, and `rest_kimg` where that is "auto": none where its discriminator knows the films that come first.

    With `fit`, for a width that the user did not set, `channel_base` too. A generator with new output layers (see
    `output_layers_fit`) does not rest. Where `init` is gone, the run in `out` that this call resumes remembers all of
    it; `config` must be resolved otherwise. Raises ValueError for what is neither a generator of ours nor a run, for
    one of other widths, and for a run whose discriminator does not fit.
    """
    if not config.init:
        return config
    try:
        origin = open_fitting(config)
    except ValueError:
        if not new and (begun := _begun(config, fit)):
            return begun
        raise
    init = origin.generator.config
    config = replace(config, channel_base=init.channel_base) if fit else config
    check_widths(config, init)
    res = min(generated_res(origin.generator) // init.patch * config.patch, config.res)
    config = replace(config, init_sha256=origin.sha256, grow_from=config.grow_from and max(config.grow_from, res))
    if config.rest_kimg == AUTO:
        known = origin.saved is not None and origin.saved.positions == (config.grow_from or config.res) // config.patch
        config = replace(config, rest_kimg=0.0 if known else NEW_REST_KIMG)
    return config if output_layers_fit(config, init) else replace(config, rest_kimg=0.0)


def _begun(config: Config, fit: bool) -> Config | None:
    """Return the config as it was in the newest run in `out` that it resumes, or None."""
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
    shared = [res for res in init.resolutions if res <= config.res // config.patch]
    if any(num_channels(res, *widths[0]) != num_channels(res, *widths[1]) for res in shared):
        differ += [name for name in ("channel_base", "channel_max") if getattr(config, name) != getattr(init, name)]
    if differ:
        found = ", ".join(
            f"{name} {getattr(init, name)} where this training has {getattr(config, name)}" for name in differ
        )
        advice = " ".join(f"--set {name}={getattr(init, name)}" for name in differ)
        raise ValueError(f"--init {config.init}: the network has {found}; add {advice}")


def open_fitting(config: Config) -> Origin:
    """Return what `init` names, with its discriminator where that reads pixels as this training's does: both Haar
    bands, or both free pixels of equal patches.

    Where it does not, a file is taken without it. Raises ValueError for such a run, and as `open_origin`.
    """
    origin = open_origin(config.init)
    init = origin.generator.config
    if origin.saved is None or (output_layers_fit(config, init) and config.bands == init.haar):
        return origin
    if not origin.saved.discriminator_moments:  # of a file
        return replace(origin, saved=None)
    readings = [
        f"patches of {some.patch} px{' as Haar bands' if bands else ''}" if some.patch > 1 else "single pixels"
        for some, bands in ((init, init.haar), (config, config.bands))
    ]
    same = f"patch={init.patch}" + ("" if init.patch == 1 else f" --set haar={str(init.haar).lower()}")
    raise ValueError(
        f"--init {config.init}: the discriminator of this run reads {readings[0]} where this training reads "
        f"{readings[1]}; add --set {same}, or give the run's network-latest.safetensors to take the generator alone"
    )


def output_layers_fit(config: Config, init: GeneratorConfig) -> bool:
    """Return whether the output layers of `init` can be taken over: any can become bands, free pixels only come from
    free pixels."""
    return config.bands or (config.patch == init.patch and not init.haar)


def start(training: Training) -> list[str]:
    """Let a training that has not begun start from its config's `init`, and return lines on what it takes from
    there. Raises ValueError when that has changed."""
    config = training.config
    origin = open_fitting(config)
    if origin.sha256 != config.init_sha256:
        raise ValueError(f"--init {config.init} has changed since this call began; give the same command again")
    known, vocabulary = origin.info.vocabulary, training.films.vocabulary
    copy_known(training.G, vocabulary, origin.saved.generator if origin.saved else origin.generator, known)
    copy_known(training.G_ema, vocabulary, origin.generator, known)
    training.inherited = origin.info.sources
    training.started_from = f"{origin.info.name}, {origin.info.images_seen:,} films"
    names, before, init = vocabulary.names, known.names, origin.generator.config
    pixels = f"; its output layers start new (patches of {config.patch} for its {init.patch})"
    if (config.patch, config.bands) == (init.patch, init.haar):
        pixels = ""
    elif output_layers_fit(config, init):
        pixels = f"; its patches become those of {config.patch} px" if init.haar else "; its pixels become Haar bands"
    line = (
        f"starts from {config.init} ({generated_res(origin.generator)} px, {origin.info.images_seen} films seen): "
        f"{sum(name in before for name in names)} of {len(names)} conditions are known to it{pixels}; "
        f"with it go the terms of {', '.join(origin.info.sources) or 'no source'}"
    )
    kimg = resting_kimg(config)
    rest = f"the generator rests for {kimg:g} kimg" if kimg else "the generator does not rest"
    if origin.saved is None:
        return [line, f"discriminator: fresh; {rest}"]
    training.seen_before = origin.saved.seen
    return [line, *take_saved(training, origin.saved, known), rest]


def take_saved(training: Training, saved: Saved, known: Vocabulary) -> list[str]:
    """Take over the discriminator where it fits, the strength of the augmentation, and of both networks Adam's moments
    of what came over as it was; return lines on how much of it."""
    config = training.config
    copy_discriminator(training.D, training.films.vocabulary, saved, known)
    if config.augment_target:
        training.strength = saved.strength
    lines = []
    for name, network, optimizer, before, moments in (
        ("generator", training.G, training.opt_G, saved.generator.state_dict(), saved.generator_moments),
        ("discriminator", training.D, training.opt_D, saved.discriminator, saved.discriminator_moments),
    ):
        kept: dict[int, dict[str, Tensor]] = {}
        fresh: Counter[str] = Counter()
        taken = 0
        for place, (parameter, value) in enumerate(network.named_parameters()):
            old, positions = before.get(parameter), block_positions(parameter)
            if positions > saved.positions or old is None or not torch.equal(value.cpu(), old):
                fresh[f"{positions * config.patch} px" if positions else group_of(parameter)] += 1
                continue
            taken += 1
            if parameter in moments:
                kept[place] = moments[parameter]
        optimizer.load_state_dict({**optimizer.state_dict(), "state": kept})
        rest = ", ".join(f"{what} {count}" for what, count in fresh.items())
        lines.append(
            f"{name}: {taken} of {taken + fresh.total()} tensors taken, with Adam's moments of {len(kept)}; "
            f"fresh: {rest or 'nothing'}"
        )
    return lines


def block_positions(parameter: str) -> int:
    """Return how many positions a side has the block that a parameter of either network belongs to, 0: none that
    grows."""
    kind, _, rest = parameter.removeprefix("synthesis.").partition(".")
    number = rest.partition(".")[0]
    if kind in ("from_grey", "blocks"):
        return int(number)
    return 4 << ((int(number) + 1) // 2 if kind == "convs" else int(number)) if kind in ("convs", "to_grey") else 0


def group_of(parameter: str) -> str:
    """Return the name of the group of a parameter outside the blocks."""
    name = parameter.removeprefix("synthesis.").removeprefix("mapping.").partition(".")[0]
    return {"embed": "conditions (by name)", "layers": "mapping", "out": "logit"}.get(name, name)


def copy_known(generator: Generator, vocabulary: Vocabulary, init: Generator, known: Vocabulary) -> None:
    """Copy into `generator` what it shares with `init`, so that both generate the same film of what both have learnt.

    Blocks are shared by positions, output layers as `copy_head` says. What is new adds nothing yet: a block generates
    zeros, the grain of another resolution is dropped, a condition has the effect of an unknown one.
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
            sizes = [(some.config.res, some.config.patch) for some in (generator, init)]
            if old.grain is not None and sizes[0] == sizes[1]:
                new.grain.load_state_dict(old.grain.state_dict())
        new.bake(len(old.to_grey))


def copy_discriminator(discriminator: Discriminator, vocabulary: Vocabulary, saved: Saved, known: Vocabulary) -> None:
    """Copy the blocks of as many positions that have been trained, and conditions by name; others add nothing yet.

    Input layers share Haar bands by scale: those of patches of 4 × 4 pixels read the bands that 2 × 2 means of the film
    have in patches of 2 × 2. Their coarse bands have twice the amplitude (orthonormal) and the layer divides by twice
    the root of its inputs, so that the same weights give the same answer.
    """
    before = saved.discriminator
    with torch.no_grad():
        for name, value in discriminator.state_dict().items():  # the tensors themselves
            if name == "embed.weight":
                copy_columns(value, vocabulary, before.get(name), known)
            elif name not in before or block_positions(name) > saved.positions:
                continue
            elif before[name].shape == value.shape:
                value.copy_(before[name])
            elif name.startswith("from_grey") and before[name].shape[0] == value.shape[0]:
                shared = min(before[name].shape[1], value.shape[1])
                value.zero_()[:, :shared] = before[name][:, :shared]


def copy_head(head: nn.Module, init: nn.Module) -> None:
    """Let an output layer start from another one, where it can.

    Bands are shared by scale: those of larger patches give the same film at twice the resolution, those of smaller ones
    its means. Free pixels become their bands; the grid that they show in flat areas is lost, and the mean is smoothed.
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
    """Copy the mapping, conditions by name. At run time weights are divided by the root of their fan-in, which is
    compensated where it differs."""
    new, old = mapping.state_dict(), init.state_dict()  # the tensors themselves
    first = old["layers.0.weight"]  # its columns: z, then the embedded conditions
    z_dim = first.shape[1] // (2 if known.dim else 1)
    for name in old:
        if name.startswith("layers.") and new[name].shape == old[name].shape:
            new[name].copy_(old[name])
    if vocabulary.dim:
        copy_columns(new["embed.weight"], vocabulary, old.get("embed.weight"), known)
        new["embed.bias"].zero_()
    if vocabulary.dim and known.dim:
        new["embed.bias"].copy_(old["embed.bias"])
    elif vocabulary.dim:
        # The columns for conditions keep their first values: were they zero like the embedding, neither would ever
        # learn.
        new["layers.0.weight"][:, :z_dim] = first * math.sqrt(2)
    elif known.dim:
        new["layers.0.weight"].copy_(first[:, :z_dim] / math.sqrt(2))
        # what an unknown condition adds
        new["layers.0.bias"].add_(first[:, z_dim:] @ old["embed.bias"] / math.sqrt(2 * z_dim))


def copy_columns(weight: Tensor, vocabulary: Vocabulary, init: Tensor | None, known: Vocabulary) -> None:
    """Copy the weights [n, c_dim] of embedded conditions by name; those of others become zero.

    At run time they are divided by the root of the number of conditions, which is compensated where it differs.
    """
    weight.zero_()
    for place, name in enumerate(vocabulary.names):
        if init is not None and name in known.names:
            weight[:, place] = init[:, known.names.index(name)] * math.sqrt(vocabulary.dim / known.dim)


def with_inherited(own: dict[str, Any], inherited: dict[str, Any]) -> dict[str, Any]:
    """Return sources with those behind the network that a training began with; of one name with other terms, both are
    kept."""
    sources = dict(own)
    for name, terms in inherited.items():
        while {**sources.setdefault(name, terms), "films": None} != {**terms, "films": None}:  # their number may differ
            name += " (before)"
    return sources
