"""Published networks as feature extractors: input, output, weights and licence of each.

Weights are never downloaded here; `weights` keeps them. All take films of any size, resized once by antialiased
bilinear interpolation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_fid.inception import FIDInceptionA, FIDInceptionC, FIDInceptionE_1, FIDInceptionE_2
from torch import Tensor, nn
from torchvision.models import densenet121, inception_v3

Tensors = Mapping[str, Tensor]


class FeatureNetwork(nn.Module):
    """images float32 [N, 1, H, W] in [-1, 1] -> features float32 [N, dim], by a network with a fixed input size and
    range."""

    def __init__(self, network: nn.Module, res: int, scale: float, shift: float, channels: int) -> None:
        super().__init__()
        self.network, self.res, self.scale, self.shift, self.channels = network, res, scale, shift, channels

    def features(self, images: Tensor) -> Tensor:
        """Return float32 [N, dim]."""
        size = (self.res, self.res)
        if images.shape[-2:] != size:
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)
        images = (images * self.scale + self.shift).expand(-1, self.channels, -1, -1)
        return self.network(images.contiguous(memory_format=torch.channels_last))


@dataclass(frozen=True)
class PublicNetwork:
    """A published network; `build` makes it and raises ValueError for tensors that are not its own."""

    title: str
    url: str  # of the weights as published; the file's name is its last part
    sha256: str  # of that file; empty where nobody published it
    licence: str
    trained_on: tuple[str, ...]  # collections by our names, and others by theirs
    res: int  # px
    values: str
    layer: str
    dim: int
    batch: int  # films at once
    build: Callable[..., nn.Module]  # of its tensors by name

    @property
    def file(self) -> str:
        """Name of the weight file as published."""
        return self.url.rpartition("/")[2]


class _DenseNet(nn.Module):
    """torchvision's DenseNet-121 for one channel; torchxrayvision's has the same names and shapes of layers."""

    def __init__(self) -> None:
        super().__init__()
        with torch.device("meta"):  # no random weights: the file replaces them
            network = densenet121(weights=None, num_classes=18)
            network.features.conv0 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
        self.features, self.classifier = network.features, network.classifier

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.features(images)).mean(dim=(2, 3))


def _build_densenet(tensors: Tensors) -> nn.Module:
    network = _DenseNet()
    # op_threshs: decision thresholds
    _fill(network, {name: tensor for name, tensor in tensors.items() if name != "op_threshs"})
    return FeatureNetwork(network, 224, 1024.0, 0.0, 1)


def _build_inception(tensors: Tensors) -> nn.Module:
    """torchvision's Inception with pytorch-fid's blocks, as `pytorch_fid.inception.fid_inception_v3` makes it, but
    without its download."""
    with torch.device("meta"):
        network = inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
        network.Mixed_5b, network.Mixed_5c, network.Mixed_5d = (
            FIDInceptionA(n, pool_features=m) for n, m in ((192, 32), (256, 64), (288, 64))
        )
        blocks = (FIDInceptionC(768, channels_7x7=n) for n in (128, 160, 160, 192))
        network.Mixed_6b, network.Mixed_6c, network.Mixed_6d, network.Mixed_6e = blocks
        network.Mixed_7b, network.Mixed_7c = FIDInceptionE_1(1280), FIDInceptionE_2(2048)
    _fill(network, tensors)
    network.fc = nn.Identity()  # features instead of logits
    return FeatureNetwork(network, 299, 1.0, 0.0, 3)


class _RadDino(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(pixel_values=images).pooler_output


def _build_rad_dino(tensors: Tensors, **smaller: Any) -> nn.Module:
    """A DINOv2 ViT-B/14 for films of 518 px; `smaller`: options of Dinov2Config for a smaller one."""
    try:
        from transformers import Dinov2Config, Dinov2Model
        from transformers.utils import logging as chatter
    except ImportError:
        raise ValueError("rad-dino needs transformers; install it with: pip install 'thiscxr[rad-dino]'") from None
    config = Dinov2Config(image_size=518, **smaller)
    verbosity = chatter.get_verbosity()
    chatter.set_verbosity_error()  # misfits are reported below, in one line
    try:
        # Not load_state_dict: the names of layers differ from version to version, and from_pretrained knows them all.
        options: dict[str, Any] = {"config": config, "state_dict": dict(tensors), "ignore_mismatched_sizes": True}
        loaded: Any = Dinov2Model.from_pretrained(None, **options, output_loading_info=True)
    finally:
        chatter.set_verbosity(verbosity)
    network, found = loaded
    _refuse([*found["missing_keys"], *found["unexpected_keys"], *(key[0] for key in found["mismatched_keys"])])
    mean, std = 0.5307, 0.2583  # of films in [0, 1], as in its published preprocessor
    return FeatureNetwork(_RadDino(network), 518, 0.5 / std, (0.5 - mean) / std, 3)


def _fill(network: nn.Module, tensors: Tensors) -> None:
    """Load tensors, as float32, into a network on the meta device. Raises ValueError unless they are all its own."""
    own = network.state_dict()
    counters = {name for name in own if name.endswith(".num_batches_tracked")}  # networks of old versions have none
    other_shape = [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    _refuse([*(own.keys() ^ tensors.keys()) - (counters - tensors.keys()), *other_shape])
    network.load_state_dict(
        {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}, assign=True
    )


def _refuse(wrong: list[str]) -> None:
    if wrong:
        raise ValueError(f"{len(wrong)} tensors are missing, unknown or of another shape, such as {min(wrong)[:100]}")


_XRV = "https://github.com/mlmed/torchxrayvision/releases/download/v1/"
_XRV_FILES = {  # weights of torchxrayvision's DenseNet: part of the file name, collections, SHA-256
    "all": (
        "nih-pc-chex-mimic_ch-google-openi-kaggle-densenet121",
        ("nih", "padchest", "chexpert", "mimic-cxr", "openi", "rsna", "Google's labels of NIH films"),
        "56524913dd16a906422e8d8b66a7a5c46be1d82eb7ac012d8103776f1aa68899",
    ),
    "nih": ("nih-densenet121", ("nih",), ""),
    "pc": ("pc-densenet121", ("padchest",), "a9148ef62ae4e7a31a9bed8cef22811f39681cd61e4390398936efc6280af521"),
    "chex": ("chex-densenet121", ("chexpert",), "1a914ae802170187a4852e594708206c12468eeeefd66aa4e8e26141649d61a4"),
    "rsna": ("kaggle-densenet121", ("rsna",), ""),
    "mimic_nb": ("mimic_nb-densenet121", ("mimic-cxr",), ""),
    "mimic_ch": (
        "mimic_ch-densenet121",
        ("mimic-cxr",),
        "23b13a04459684ffa41247d068207a7657b4e1b4dec2b02431f5026bd75b1189",
    ),
}

_xrv = partial(
    PublicNetwork,
    licence="Apache-2.0",
    res=224,
    values="[-1024, 1024], 1 channel",
    layer="last block after ReLU, averaged over the film",
    dim=1024,
    batch=32,
    build=_build_densenet,
)

NETWORKS: dict[str, PublicNetwork] = {
    **{
        f"xrv-densenet121-{key}": _xrv(
            title=f"torchxrayvision's DenseNet-121, weights '{key}' (Cohen et al. 2022, arXiv:2111.00595)",
            url=f"{_XRV}{file}-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt",
            sha256=sha256,
            trained_on=trained_on,
        )
        for key, (file, trained_on, sha256) in _XRV_FILES.items()
    },
    "inception": PublicNetwork(
        title="pytorch-fid's Inception-v3, the network of the usual FID (Seitzer 2020)",
        url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        licence="Apache-2.0",
        trained_on=("ImageNet",),
        res=299,
        values="[-1, 1], grey in 3 channels",
        layer="final average pooling (pool3)",
        dim=2048,
        batch=32,
        build=_build_inception,
    ),
    "rad-dino": PublicNetwork(
        title="RAD-DINO, a DINOv2 ViT-B/14 of chest films (Pérez-García et al. 2025, arXiv:2401.10815)",
        url="https://huggingface.co/microsoft/rad-dino/resolve/main/model.safetensors",
        sha256="",
        licence="MIT (research only, says its card; MSRLA before 2025)",
        trained_on=("mimic-cxr", "chexpert", "nih", "padchest", "BRAX"),
        res=518,
        values="(film in [0, 1] - 0.5307) / 0.2583, grey in 3 channels",
        layer="CLS token after the last layer norm",
        dim=768,
        batch=8,
        build=_build_rad_dino,
    ),
}
