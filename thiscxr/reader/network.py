"""The classifier: a multi-label network for chest films, whose pooled features are also the toolkit's own feature
extractor.

It predicts findings, view, sex, age and source at once, with one of two backbones: CheXNet's DenseNet-121 (Rajpurkar
et al. 2017, arXiv:1711.05225), or residual blocks (He et al. 2016, arXiv:1512.03385) at a size that trains on a laptop.
Two backbones together read the frontal and the lateral film of one study (Rubin et al. 2018, arXiv:1804.07839).
"""

import pickle
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import densenet121

PAIR = ("frontal", "lateral")  # the views that are read together, in this order
READS = ("film", "study")
SIDES = {"small": 64, "densenet121": 224}  # backbone -> default resolution at which films are read


@dataclass(frozen=True)
class ReaderConfig:
    """The architecture of a classifier."""

    findings: tuple[str, ...]
    views: tuple[str, ...]
    sources: tuple[str, ...]
    res: int = 64  # resolution at which films are read; others are resized to it
    widths: tuple[int, ...] = (24, 48, 96, 128)  # of the small one: channels at res/2, res/4, res/8 and res/16
    backbone: str = "small"  # or densenet121
    fine: bool = True  # whether the small one has a block at res/2, beside its first layer
    dropout: float = 0.0  # share of the features dropped before the heads in training
    measures: tuple[str, ...] = ()  # sizes, places and opacities that it also learnt to estimate, and does not report
    reads: str = "film"  # or study: frontal and lateral film together; its views are ("study",)

    def __post_init__(self) -> None:
        if self.backbone not in SIDES:
            raise ValueError(f"backbone '{self.backbone}' is not one of {', '.join(SIDES)}")
        if self.reads not in READS:
            raise ValueError(f"it reads a '{self.reads}', which is not one of {', '.join(READS)}")
        if self.res < 32:
            raise ValueError(
                f"a classifier of {self.res} px was requested; films are halved four or five times, so give 32 or more"
            )

    @property
    def feature_dim(self) -> int:
        """Length of the feature vector."""
        return self.widths[-1] if self.backbone == "small" else 1024


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with a skip connection; halves the resolution with stride 2."""

    def __init__(self, fan_in: int, fan_out: int, stride: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(fan_in, fan_out, 3, stride, 1, bias=False)
        self.norm0 = nn.BatchNorm2d(fan_out)
        self.conv1 = nn.Conv2d(fan_out, fan_out, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(fan_out)
        self.skip = nn.Conv2d(fan_in, fan_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm0(self.conv0(x)))
        return F.relu(self.norm1(self.conv1(y)) + self.skip(x))


def _heads(config: ReaderConfig, dim: int) -> nn.ModuleDict:
    """Return the linear heads on features [N, dim]."""
    widths = {
        "findings": len(config.findings),
        "view": len(config.views),
        "source": len(config.sources),
        "sex": 1,  # logit of F
        "age": 1,  # (years - AGE_CENTRE) / AGE_SCALE of model.conditions
    }
    if config.measures:
        widths["measures"] = len(config.measures)
    return nn.ModuleDict({name: nn.Linear(dim, width) for name, width in widths.items()})


class Reader(nn.Module):
    """images float32 [N, 1, H, W] in [-1, 1] -> a dict of logits; `features` gives float32 [N, feature_dim]."""

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        self.config = config
        if config.backbone == "densenet121":
            self.dense = densenet121(weights=None).features
            self.dense.conv0 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
            nn.init.kaiming_normal_(self.dense.conv0.weight)
        else:
            first = config.widths[0]
            self.stem = nn.Conv2d(1, first, 5, 2, 2, bias=False)
            self.stem_norm = nn.BatchNorm2d(first)
            pairs = [(first, first, 1)] * config.fine + [(a, b, 2) for a, b in pairwise(config.widths)]
            self.blocks = nn.ModuleList(ResidualBlock(*pair) for pair in pairs)
        self.heads = _heads(config, config.feature_dim)

    @property
    def first_filters(self) -> Tensor:
        """The kernels of the first layer, float32 [filters, k, k]."""
        layer = self.dense.conv0 if self.config.backbone == "densenet121" else self.stem
        return layer.weight.detach()[:, 0].cpu()

    def resize(self, images: Tensor) -> Tensor:
        """Return the images at the resolution at which they are read: area averaging if larger, interpolation if
        smaller."""
        side, res = images.shape[-1], self.config.res
        if side == res:
            return images
        if side > res:
            return F.interpolate(images, size=(res, res), mode="area")
        return F.interpolate(images, size=(res, res), mode="bilinear", align_corners=False)

    def block_maps(self, images: Tensor) -> list[Tensor]:
        """Return the maps after each block, the finest first, float32 [N, C, h, w], non-negative; of densenet121
        only the last."""
        x = self.resize(images).contiguous(memory_format=torch.channels_last)
        if self.config.backbone == "densenet121":
            return [F.relu(self.dense(x))]
        maps = [F.relu(self.stem_norm(self.stem(x)))]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return maps[1:]

    def maps(self, images: Tensor) -> Tensor:
        """Return the last maps, float32 [N, feature_dim, h, w], non-negative; h = res / 16 of the small backbone, res /
        32 of the other."""
        return self.block_maps(images)[-1]

    def features(self, images: Tensor) -> Tensor:
        """Return float32 [N, feature_dim], non-negative: the last maps, averaged over the film."""
        return self.maps(images).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return logits: findings [N, F], view [N, V], source [N, S], sex [N, 1], the scaled age [N, 1], and the
        standardised measures [N, M], where it learnt any."""
        return self.answers(self.features(images))

    def answers(self, features: Tensor) -> dict[str, Tensor]:
        """Return the logits that belong to features [N, feature_dim]."""
        return _answers(self, features)


class TwoViewReader(nn.Module):
    """Predicts from the films of a study together: images float32 [N, 2, H, W] in [-1, 1], in the order of PAIR, nan
    where the study has no such film.

    A backbone for each view, and heads on the features of both (DualNet, Rubin et al. 2018, arXiv:1804.07839, section
    3.2). Each view also has heads of its own, which predict where the other film is missing and are trained on every
    film of that view, as a classifier of such films would be.
    """

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        self.config = config
        self.frontal, self.lateral = Reader(config), Reader(config)
        self.heads = _heads(config, 2 * config.feature_dim)

    @property
    def views(self) -> tuple[Reader, Reader]:
        """The classifiers of one view, in the order of PAIR."""
        return self.frontal, self.lateral

    def forward(self, images: Tensor) -> list[tuple[Tensor, dict[str, Tensor]]]:
        """Return for the frontal films, for the lateral films and for the studies with both: which studies, bool [N],
        and the logits of these studies as of `Reader.forward`."""
        there = ~images[:, :, 0, 0].isnan()  # [N, 2]
        found, features = [], []
        for place, view in enumerate(self.views):
            rows = there[:, place]
            some = images.new_zeros(0, self.config.feature_dim)  # batch normalisation refuses a batch of no film
            if rows.any():
                some = view.features(images[rows, place, None])
            found.append((rows, view.answers(some)))
            features.append(some)
        both = there.all(dim=1)
        joint = torch.cat([some[both[rows]] for some, (rows, _) in zip(features, found, strict=True)], dim=1)
        return [*found, (both, _answers(self, joint))]

    def answers(self, images: Tensor) -> dict[str, Tensor]:
        """Return the logits of all studies: from both films if there are both, else from the one there is; nan if there
        is none."""
        merged: dict[str, Tensor] = {}
        for rows, logits in self(images):  # both films last, so that they overwrite
            for name, values in logits.items():
                empty = values.new_full((len(images), values.shape[1]), torch.nan)
                merged.setdefault(name, empty)[rows] = values
        return merged


def _answers(network: Reader | TwoViewReader, features: Tensor) -> dict[str, Tensor]:
    features = F.dropout(features, network.config.dropout, network.training)
    # float32 for the losses, whatever the features are
    return {name: head(features).float() for name, head in network.heads.items()}


def start_from_imagenet(reader: Reader, path: Path) -> None:
    """Load the ImageNet weights of torchvision's DenseNet-121 from a local .safetensors or .pth file, as CheXNet did.

    The first layer's kernels are summed over the colours, equivalent to a grey image in three channels. Raises
    ValueError if the classifier is not a DenseNet-121 and if the file is something else.
    """
    if reader.config.backbone != "densenet121":
        raise ValueError(
            f"--pretrained {path} is for --backbone densenet121; the {reader.config.backbone} one starts from noise"
        )
    try:
        whole = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
        # The file that torchvision distributes names its layers as of 2017: "denselayer1.norm.1.weight" for
        # "denselayer1.norm1.weight".
        names = {
            name: re.sub(r"\.(norm|conv)\.(\d)\.", r".\1\2.", name) for name in whole if name.startswith("features.")
        }
        weights = {new.removeprefix("features."): whole[name] for name, new in names.items()}
        weights["conv0.weight"] = weights["conv0.weight"].sum(dim=1, keepdim=True)
        reader.dense.load_state_dict(weights)
    except (
        OSError,
        EOFError,
        pickle.UnpicklingError,
        SafetensorError,
        RuntimeError,
        KeyError,
        AttributeError,
        TypeError,
    ) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"--pretrained {path} does not hold the weights of torchvision's densenet121 ({what})"
        ) from None
