"""The group of all commands, and the options and values that several of them share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import thiscxr
from thiscxr.files import check_place

DEVICES = ("auto", "cpu", "cuda", "mps")
SEED = click.IntRange(0, 2**63 - 1)  # the keys of random numbers have 64 bits: beyond that two seeds would be the same


def common(seed: bool = True, device: bool = True) -> Callable[[Callable], Callable]:
    """Add the options that every command has."""

    def decorate(function: Callable) -> Callable:
        if seed:
            function = click.option(
                "--seed", type=SEED, default=0, show_default=True, help="Seed of everything random."
            )(function)
        if device:
            function = click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)(function)
        return click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of a failure.")(
            function
        )

    return decorate


def several(*options: Callable[[Callable], Callable]) -> Callable[[Callable], Callable]:
    """Return one decorator that adds options, in their order."""

    def decorate(function: Callable) -> Callable:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(thiscxr.__version__, prog_name="thiscxr")
def group() -> None:
    """Pool chest x-rays, train a generator on them, sample, score, and show the result. Synthetic films are not for
    diagnosis."""


FOLDER = click.Path(path_type=Path)


class _Place(click.Path):
    """A path that a command writes: checked before anything else is done."""

    def __init__(self, folder: bool) -> None:
        super().__init__(path_type=Path)
        self.folder = folder

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, parameter, context)))
        check_place(path, self.folder)
        return path


NEW_FILE, NEW_FOLDER = _Place(folder=False), _Place(folder=True)
MODEL = click.option(
    "--model", default="nih-64", show_default=True, help="FILE, NAME (see `thiscxr models`) or RUN folder."
)
PERMISSION = click.option(
    "--i-have-permission",
    "permission",
    is_flag=True,
    help="To share films of a network trained on restricted films; every file then states it.",
)

READER = click.option(
    "--reader",
    metavar="NAME|FILE",
    help="A bundled classifier or a file of `thiscxr classify train`.  [default: thiscxr64; from 128 px on thiscxr128]",
)
# what is requested of all films; a finding that grows in a series is another option
PATIENT = several(
    click.option("--view", help="PA, AP, … as the network learnt them."),
    click.option("--sex", type=click.Choice(["F", "M"], case_sensitive=False)),
    click.option("--age", "age_years", type=float, help="Years."),
    click.option("--source", help="The look of one collection."),
    click.option(
        "--truncation",
        default="1.0",
        show_default=True,
        help="psi: below 1, nearer to the mean film; or by layer: 0.5:0-3,1.0:4-.",
    ),
)
REQUEST = several(
    click.option("--finding", "findings", multiple=True, help="Request a finding; repeatable."),
    click.option("--no-finding", "no_findings", multiple=True, help="Request its absence; repeatable."),
    PATIENT,
)


def resolve_device(device: str) -> str:
    """Return cpu, cuda or mps for "auto"; raises ValueError when that device is not available."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, available in there.items() if available)
    if not there[device]:
        raise ValueError(
            f"--device {device}: this torch ({torch.__version__}) finds none; use --device {resolve_device('auto')}"
        )
    return device
