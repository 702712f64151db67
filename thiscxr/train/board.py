"""What TensorBoard shows besides numbers: films by requested condition, and the first filters of the discriminator.

Nothing here touches the training, and every picture is of fixed seeds.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from thiscxr.labels import FINDINGS, POSITIVE
from thiscxr.model.conditions import Condition, Vocabulary
from thiscxr.model.discriminator import Discriminator
from thiscxr.model.generator import Generator
from thiscxr.model.network_file import NetworkInfo
from thiscxr.model.resample import filter2d
from thiscxr.pixels import Pixels, images_to_pixels, make_grid
from thiscxr.sample.sampling import Network, sample_films
from thiscxr.train.growth import stage
from thiscxr.train.training import Training

SEEDS = range(8)  # columns of the films by condition
AGES = (25.0, 75.0)  # years
MIN_SHARE = 0.02  # of the films: a rarer finding gets no row
SHOWN_PX = 128  # width of a film in the picture at most
FILTER_PX = 48  # width of a filter in the picture


def show(board: SummaryWriter, training: Training, generator: Generator, info: NetworkInfo, fakes: Pixels) -> None:
    """Write the pictures of this moment: `fakes`; `asked`, a row for each requested condition, named in the text of
    that name; and the filters of D."""
    board.add_image("fakes", fakes, info.images_seen, dataformats="HW")
    rows = requested_rows(info.vocabulary, training.films.conditions.findings)
    board.add_image("asked", requested_grid(generator, info, rows), info.images_seen, dataformats="HW")
    board.add_text("asked", "From above: " + ", ".join(name for name, _ in rows), info.images_seen)
    res = stage(training.config, training.images_seen).res // training.config.patch
    for name, kernels in zip(("first layer", "first block"), first_filters(training.D, res), strict=False):
        board.add_image(f"D/{name}", filter_grid(kernels), info.images_seen, dataformats="HW")
    for res, strength in noise_strengths(generator).items():
        board.add_scalar(f"noise/{res}", strength, info.images_seen)
    board.flush()


def requested_rows(known: Vocabulary, findings: NDArray[np.int8]) -> list[tuple[str, Condition]]:
    """Return the condition that each row requests, by name: nothing, then one factor each, where the network knows it
    and enough films have it.

    findings: states of the training films, int8 [n, 21].
    """
    share = dict(zip(FINDINGS, (findings == POSITIVE).mean(axis=0), strict=True))
    return [
        ("nothing", Condition()),
        *((view, Condition(view=view)) for view in known.views),
        *((sex, Condition(sex=sex)) for sex in known.sexes),
        *((f"{age:g} years", Condition(age_years=age)) for age in AGES if known.ages),
        *((name, Condition(findings={name: POSITIVE})) for name in known.findings if share[name] >= MIN_SHARE),
    ]


def requested_grid(generator: Generator, info: NetworkInfo, rows: list[tuple[str, Condition]]) -> Pixels:
    """Return the films of SEEDS as one picture, a row for each of `rows`; "nothing" leaves all factors unknown."""
    network = Network(generator, info, "")
    requested = [condition for _, condition in rows for _ in SEEDS]
    films = np.concatenate(list(sample_films(network, [*SEEDS] * len(rows), requested, batch=len(SEEDS))))
    step = max(1, films.shape[1] // SHOWN_PX)
    films = films.reshape(len(films), films.shape[1] // step, step, -1, step).mean(axis=(2, 4)).round().astype(np.uint8)
    return make_grid(films, columns=len(SEEDS))


def first_filters(discriminator: Discriminator, res: int) -> list[Tensor]:
    """Return the filters of the block of that resolution, float32 [filters, h, h] pixels: its first layer, then
    the whole block.

    The activations in between are left out, and the skip: for the second, all three layers count as the linear maps
    that they contain.
    """
    layer = discriminator.from_grey[str(res)].get_parameter("weight").detach()  # [C, patch², k, k]
    kernels = [layer]
    if res > 4:
        block = discriminator.blocks[str(res)]
        inner, outer = (block.get_parameter(f"{name}.weight").detach() for name in ("conv0", "conv1"))  # [C', C, 3, 3]
        # The map of two layers is the full convolution of their kernels, here over places: [C', patch², k + 2, k + 2].
        kernels.append(F.conv_transpose2d(outer, filter2d(F.conv_transpose2d(inner, layer), padding=3)))
    if discriminator.config.haar:
        kernels = [torch.einsum("bp,cbhw->cphw", discriminator.analysis[:, :, 0, 0], kernel) for kernel in kernels]
    return [F.pixel_shuffle(kernel, discriminator.config.patch)[:, 0].cpu() for kernel in kernels]


def filter_grid(kernels: Tensor) -> Pixels:
    """Return filters [n, h, h] as one picture, the strongest first, each scaled by its own largest weight; 0 is
    grey."""
    kernels = kernels[kernels.square().sum(dim=(1, 2)).argsort(descending=True)]
    kernels = kernels / kernels.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    zoom = max(1, FILTER_PX // kernels.shape[1])
    tiles = F.pad(kernels.repeat_interleave(zoom, dim=1).repeat_interleave(zoom, dim=2), (1, 1, 1, 1), value=-1.0)
    return make_grid(images_to_pixels(tiles.numpy()), columns=8)


def noise_strengths(generator: Generator) -> dict[int, float]:
    """Return how much noise each block adds, by its resolution: the mean of |strength| over its convolutions."""
    strengths: dict[int, list[float]] = {}
    # without the grain
    for res, conv in zip(generator.config.noise_resolutions, generator.synthesis.convs, strict=False):
        strengths.setdefault(res, []).append(conv.get_parameter("noise_strength").abs().item())
    return {res: float(np.mean(values)) for res, values in strengths.items()}
