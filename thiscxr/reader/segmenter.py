"""The segmenter: lung fields and heart of a frontal chest film. A small U-Net (Ronneberger et al. 2015,
arXiv:1505.04597).

It is trained on phantoms only, mirrored ones too, so that a heart on the wrong side is segmented where it is.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

import thiscxr
from thiscxr.files import sha256_file
from thiscxr.model.network_file import find_weights, read_safetensors, write_safetensors
from thiscxr.pixels import Pixels, pixels_to_images

CLASSES = ("background", "lungs", "heart")
DEFAULT = "lungs64"
SEGMENTER_FORMAT = 1


@dataclass(frozen=True)
class SegmenterConfig:
    """The architecture of a segmenter."""

    res: int = 64  # resolution at which films are read; others are resized to it
    widths: tuple[int, ...] = (16, 32, 64, 96)  # channels at res/patch, res/patch/2, …
    patch: int = 2  # pixels across one position


class DoubleConv(nn.Sequential):
    """Two 3×3 convolutions, each with batch normalisation and ReLU."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        layers: list[nn.Module] = []
        for width in (fan_in, fan_out):
            layers += [
                nn.Conv2d(width, fan_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(fan_out),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class Segmenter(nn.Module):
    """images float32 [N, 1, H, W] in [-1, 1] -> logits [N, 3, res, res] of CLASSES."""

    def __init__(self, config: SegmenterConfig = SegmenterConfig()) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        place = config.patch**2
        self.down = nn.ModuleList(DoubleConv(a, b) for a, b in zip((place, *widths), widths, strict=False))
        self.up = nn.ModuleList(DoubleConv(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = nn.Conv2d(widths[0], place * len(CLASSES), 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, 3, res, res]. Each film is standardised, so brightness and contrast do not matter."""
        if images.shape[-1] != self.config.res:
            images = F.interpolate(images, size=(self.config.res, self.config.res), mode="area")
        spread, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True)
        x = F.pixel_unshuffle((images - mean) / (spread + 1e-3), self.config.patch)
        skips = []
        for block in self.down[:-1]:
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.down[-1](x)
        for block in self.up:
            x = block(
                torch.cat([F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), skips.pop()], dim=1)
            )
        return F.pixel_shuffle(self.head(x), self.config.patch)


def find_segmenter(name: str = DEFAULT, device: str = "cpu") -> tuple[Segmenter, str]:
    """Return the bundled segmenter of that name and its SHA-256. Raises ValueError for an unknown name or a changed
    file."""
    path = find_weights(name, "segmenter")
    return load_segmenter(path)[0].to(device), sha256_file(path)


def segment(segmenter: Segmenter, batches: Iterable[Pixels]) -> NDArray[np.float32]:
    """Return the probabilities of lungs and heart, float32 [n, 2, res, res], of batches of pixels uint8 or uint16 [k,
    res, res]."""
    device, parts = next(segmenter.parameters()).device, []
    with torch.inference_mode():
        for pixels in batches:
            if not len(pixels):
                continue  # layers take no batch without images
            images = torch.from_numpy(pixels_to_images(pixels))[:, None].to(device)
            parts.append(segmenter(images).softmax(1)[:, 1:].cpu().numpy())
    res = segmenter.config.res
    return np.concatenate(parts) if parts else np.empty((0, len(CLASSES) - 1, res, res), np.float32)


def save_segmenter(
    path: Path, segmenter: Segmenter, evaluation: dict[str, Any], dtype: torch.dtype = torch.float32
) -> None:
    """Write a segmenter as safetensors with its architecture and its evaluation (`judged`)."""
    metadata = {
        "format_version": SEGMENTER_FORMAT,
        "kind": "segmenter",
        "architecture": asdict(segmenter.config),
        "judged": evaluation,
        "code_version": thiscxr.__version__,
    }
    tensors = {
        name: (tensor.to("cpu", dtype) if tensor.is_floating_point() else tensor.cpu()).contiguous()
        for name, tensor in segmenter.state_dict().items()
    }
    write_safetensors(path, tensors, metadata)


def load_segmenter(path: Path) -> tuple[Segmenter, dict[str, Any]]:
    """Return a segmenter (float32, CPU, evaluation mode) and its metadata. Raises ValueError for any other file."""
    metadata, tensors = read_safetensors(path, "segmenter", SEGMENTER_FORMAT)
    try:
        architecture = metadata["architecture"]
        segmenter = Segmenter(SegmenterConfig(**architecture | {"widths": tuple(architecture["widths"])}))
        segmenter.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in tensors.items()})
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{path}: the segmenter's description and its tensors do not fit ({str(error).splitlines()[0]})"
        ) from None
    return segmenter.eval().requires_grad_(False), metadata
