"""What a training starts from: the network of a file, which may have its discriminator too, or a run, whose saved state
has both and Adam's moments."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from thiscxr.files import sha256_file
from thiscxr.model.generator import Generator
from thiscxr.model.network_file import NetworkInfo, find_network, load_discriminator, load_network
from thiscxr.train.growth import stage
from thiscxr.train.runs import STATES, load_state, read_config


@dataclass(frozen=True)
class Saved:
    """What a saved state has beside the averaged generator; moments are Adam's numbers by the name of the parameter.

    A file with a discriminator has no moments, and the averaged generator for the one in training.
    """

    generator: Generator  # the one in training, at full resolution
    generator_moments: dict[str, dict[str, Tensor]]
    discriminator: dict[str, Tensor]
    discriminator_moments: dict[str, dict[str, Tensor]]
    seen: int  # films that the average has seen, those before this run too where it began with another
    positions: int  # along a side of the largest block that it has trained: resolution over patch
    strength: float  # of the augmentation


@dataclass(frozen=True)
class Origin:
    """A network to start from, its metadata and, from a run or a file with its discriminator, what else is saved."""

    generator: Generator  # the averaged one, at full resolution
    info: NetworkInfo
    sha256: str  # of the file that was read: network or state
    saved: Saved | None


def open_origin(init: str) -> Origin:
    """Return the network of a FILE, a NAME (of a bundled network) or a RUN (a run folder or its state-latest.pt).

    Raises ValueError for none of them, and for a run without a state that can be read.
    """
    run = _run_folder(Path(init))
    if run is not None:
        return _open_run(init, run)
    path = find_network(init)
    generator, info = load_network(path)
    saved = None
    if info.augment_strength is not None:
        positions = generated_res(generator) // info.architecture.patch
        saved = Saved(generator, {}, load_discriminator(path), {}, info.images_seen, positions, info.augment_strength)
    return Origin(generator, info, sha256_file(path), saved)


def generated_res(generator: Generator) -> int:
    """Return the resolution in pixels to which a network has grown: what has not grown yet has weights of zero."""
    layers = zip(generator.config.resolutions, generator.synthesis.to_grey, strict=True)
    grown = max([4, *(res for res, grey in layers if grey.get_parameter("conv.weight").any())])
    return grown * generator.config.patch


def _run_folder(path: Path) -> Path | None:
    if path.name == STATES[0] and not path.is_dir():
        return path.parent
    signs = ("config.toml", "network-latest.safetensors", *STATES)
    return path if path.is_dir() and any((path / name).exists() for name in signs) else None


def _open_run(init: str, run: Path) -> Origin:
    network = run / "network-latest.safetensors"
    alone = f"--init {network} takes its generator alone" if network.is_file() else "train it until it has saved one"
    # The hash only serves to notice a change.
    path = next((run / name for name in STATES if (run / name).exists()), None)
    sha256 = sha256_file(path) if path else ""
    state = load_state(run, alone)
    if state is None:
        raise ValueError(f"--init {init}: found no saved state ({' or '.join(STATES)}) in {run}; {alone}")
    config = read_config(run)
    if config is None:
        raise ValueError(
            f"--init {init}: expected the options of this version in {run / 'config.toml'}, which is missing, damaged "
            f"or of another version; {alone}"
        )
    _, info = load_network(network)  # has the names of the conditions
    try:
        now = stage(config, state["images_seen"])
        networks = [Generator(info.architecture) for _ in range(2)]
        for made, name in zip(networks, ("G", "G_ema"), strict=True):
            made.load_state_dict(state[name])
            made.synthesis.bake(now.grown)
            made.eval().requires_grad_(False)
        saved = Saved(
            networks[0], _moments(state["opt_G"], [name for name, _ in networks[0].named_parameters()]),
            state["D"], _moments(state["opt_D"], list(state["D"])), state["images_seen"] + state.get("seen_before", 0),
            now.res // config.patch, state["strength"],
        )  # fmt: skip
    except (KeyError, TypeError, RuntimeError, AttributeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"--init {init}: {path} and the files beside it do not fit ({reason}); {alone}") from None
    return Origin(networks[1], replace(info, images_seen=state["images_seen"]), sha256, saved)


def _moments(optimizer: dict[str, Any], names: list[str]) -> dict[str, dict[str, Tensor]]:
    """Return the numbers of an optimizer's saved state by the name of the parameter; those it never moved have none."""
    places = [place for group in optimizer["param_groups"] for place in group["params"]]
    return {name: optimizer["state"][i] for i, name in zip(places, names, strict=True) if i in optimizer["state"]}
