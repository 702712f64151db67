"""The segmenter: lung fields and heart of a frontal chest film. A small U-Net (Ronneberger et al. 2015,
arXiv:1505.04597).

It must not know what a patient looks like more than it has to: it is trained on drawn films only (`train.segmenter`),
mirrored ones too, so that a heart on the wrong side is seen where it is.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = ("background", "lungs", "heart")


@dataclass(frozen=True)
class SegmenterConfig:
    """The architecture of a segmenter."""

    res: int = 64  # side at which films are read; others are resized to it
    widths: tuple[int, ...] = (16, 32, 64, 96)  # channels at res/2, res/4, …


class DoubleConv(nn.Sequential):
    """Two 3×3 convolutions, each normalised over the batch and rectified."""

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
        # 4: the 2×2 pixels of a place
        self.down = nn.ModuleList(DoubleConv(a, b) for a, b in zip((4, *widths), widths, strict=False))
        self.up = nn.ModuleList(DoubleConv(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.head = nn.Conv2d(widths[0], 4 * len(CLASSES), 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, 3, res, res]. Brightness and contrast of a film do not matter: each is standardised."""
        if images.shape[-1] != self.config.res:
            images = F.interpolate(images, size=(self.config.res, self.config.res), mode="area")
        spread, mean = torch.std_mean(images, dim=(1, 2, 3), keepdim=True)
        x = F.pixel_unshuffle((images - mean) / (spread + 1e-3), 2)
        skips = []
        for block in self.down[:-1]:
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.down[-1](x)
        for block in self.up:
            x = block(
                torch.cat([F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), skips.pop()], dim=1)
            )
        return F.pixel_shuffle(self.head(x), 2)
