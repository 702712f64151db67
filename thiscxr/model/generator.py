"""The generator: a mapping network and a StyleGAN2 synthesis network with skip connections, one grey channel.

It knows nothing of files, seeds or schedules: latents and noise come from outside, so that Python, ONNX and a browser
can agree. Source: Karras et al. 2019, arXiv:1812.04948 (mapping, styles, noise); Karras et al. 2020, arXiv:1912.04958
(modulation, skips).

Legend: z latent, w style latent, c condition vector; N films, C channels, H and W pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thiscxr.model.haar import detail_synthesis, without_mean
from thiscxr.model.layers import ACTIVATION_GAIN, EqualizedLinear, num_channels, scale_leaky
from thiscxr.model.resample import filter_leaky, upsample2

# Details and grain are small in films, a tenth and less of the spread of the smooth value; so a step of Adam is small
# for them too.
DETAIL = 0.25
GRAIN = 0.1


@dataclass(frozen=True)
class GeneratorConfig:
    """The architecture of a generator: what a network file needs to be rebuilt."""

    res: int  # of the film in pixels, a power of two from 32 to 1024
    c_dim: int  # length of the condition vector, 0 for none
    z_dim: int = 128
    w_dim: int = 128
    mapping_layers: int = 4
    channel_base: int = 1024  # channels of the block of resolution r are channel_base / r …
    channel_max: int = 128  # … and never more than this
    patch: int = 1  # a block of resolution r generates films of r · patch pixels: patch × patch a position
    haar: bool = False  # patches are one smooth value and Haar details; grain is added at full resolution

    def __post_init__(self) -> None:
        if self.haar and self.patch not in (2, 4):
            raise ValueError(f"haar is for patches of 2 or 4 pixels, not of {self.patch}")

    @property
    def resolutions(self) -> list[int]:
        """The resolutions of the blocks: 4, 8, … res / patch."""
        return [4 << i for i in range(int(math.log2(self.res // self.patch)) - 1)]

    @property
    def noise_resolutions(self) -> list[int]:
        """The resolution of each noise input, in the order in which `synthesis` takes them."""
        return self.grown_noise_resolutions(len(self.resolutions))

    def grown_noise_resolutions(self, blocks: int) -> list[int]:
        """Return `noise_resolutions` of the first blocks: one at 4 px, two a block after it, and with all blocks the
        grain's."""
        found = [4] + [res for res in self.resolutions[1:blocks] for _ in range(2)]
        return [*found, self.res] if self.haar and blocks == len(self.resolutions) else found

    @property
    def num_ws(self) -> int:
        """The number of style inputs, one a convolution and one a to-grey layer (shared as in the paper's skip
        design)."""
        return 2 * len(self.resolutions)


def normalize_second_moment(x: Tensor) -> Tensor:
    """Scale each row of [N, dim] to unit mean square (the pixel norm of Karras et al. 2018, Eq. 2)."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


class MappingNetwork(nn.Module):
    """z [N, z_dim] and c [N, c_dim] -> w [N, w_dim]."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.embed = EqualizedLinear(config.c_dim, config.z_dim) if config.c_dim else None
        widths = [config.z_dim * (2 if config.c_dim else 1)] + [config.w_dim] * config.mapping_layers
        self.layers = nn.ModuleList(EqualizedLinear(a, b, lr_multiplier=0.01, active=True) for a, b in pairwise(widths))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        x = normalize_second_moment(z)
        if self.embed is not None:
            # Not normalised, unlike z: the fewer factors are known, the nearer to the middle. Scaled up to unit length,
            # the condition of a view alone would lie where no fully described film ever was, and the film would be
            # grey.
            x = torch.cat([x, self.embed(c)], dim=1)
        for layer in self.layers:
            x = layer(x)
        return x


class ModulatedConv(nn.Module):
    """A convolution whose input channels are scaled by a style, in the factored form.

    Scaling the inputs, convolving with one shared weight and scaling the outputs by the demodulation is the same
    function as per-film grouped weights (Karras et al. 2020, Eqs. 1 and 3), is faster, and exports to ONNX with a free
    batch size.
    """

    def __init__(self, fan_in: int, fan_out: int, kernel: int, w_dim: int, up: bool = False) -> None:
        super().__init__()
        self.style = EqualizedLinear(w_dim, fan_in, bias=1.0)  # styles start at one: Karras et al. 2020, appendix B
        self.weight = nn.Parameter(torch.randn(fan_out, fan_in, kernel, kernel))
        self.gain = 1 / math.sqrt(fan_in * kernel * kernel)
        self.up = up

    def forward(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """x [N, fan_in, H, W], w [N, w_dim] -> y [N, fan_out, H, W] and the demodulation [N, fan_out].

        y is to be multiplied by the demodulation (Eq. 3) or, without, left as it is. With `up`, y is [N, fan_out, 2H +
        1, 2W + 1] and still to be filtered: `filter_leaky` does both.
        """
        style = self.style(w)  # [N, fan_in]
        weight = self.weight * self.gain
        x = x * style[:, :, None, None]
        # Zero insertion, convolution and FIR commute: the strided transposed convolution skips the zeros.
        x = (
            F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            if self.up
            else F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        )
        energy = style.square() @ weight.square().sum(dim=(2, 3)).T  # sum of the squared modulated weights
        return x, (energy + 1e-8).rsqrt()


class StyledConv(nn.Module):
    """Modulated 3×3 convolution, noise, bias, activation."""

    def __init__(self, fan_in: int, fan_out: int, w_dim: int, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(fan_in, fan_out, 3, w_dim, up=up)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(fan_out))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        x, demodulation = self.conv(x, w)
        # The gain of the activation goes into what is small, so that the film is read three times and not five.
        scale, bias = demodulation * ACTIVATION_GAIN, self.bias * ACTIVATION_GAIN
        noise = noise * (self.noise_strength * ACTIVATION_GAIN)
        if self.conv.up:
            return filter_leaky(x, scale, bias, noise, padding=1, gain=4.0)
        return scale_leaky(x, scale, bias, noise)


class ToGrey(nn.Module):
    """Modulated convolution to the pixels of each position, without demodulation (Karras et al. 2020, section 2.2 and
    figure 7b).

    1×1, as in the paper, for single pixels; 3×3 for larger patches, so that neighbouring ones agree. The head of the
    first networks.
    """

    def __init__(self, fan_in: int, w_dim: int, patch: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(fan_in, patch * patch, 1 if patch == 1 else 3, w_dim)
        self.bias = nn.Parameter(torch.zeros(patch * patch))
        self.patch = patch

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x [N, fan_in, H, W] -> [N, 1, H · patch, W · patch]."""
        x = self.conv(x, w)[0] + self.bias[:, None, None]
        return F.pixel_shuffle(x, self.patch)


class SmoothToGrey(nn.Module):
    """The pixels of each position as a Haar pyramid: one smooth value, which the FIR filter enlarges, and three details
    a square of 2 × 2.

    Pixels of a position that are free to differ do so in flat areas too, which shows as a grid. Here kernels of details
    have no mean and no bias, so that flat features give no detail, whatever the style; beyond the border, features are
    those at it.
    """

    synthesis: Tensor

    def __init__(self, fan_in: int, w_dim: int, patch: int) -> None:
        super().__init__()
        # the smooth value, then the bands in the order of `haar`
        self.conv = ModulatedConv(fan_in, patch * patch, 3, w_dim)
        self.bias = nn.Parameter(torch.zeros(1))
        self.scales = [2**level for level in range(1, patch.bit_length())]
        pixels = torch.block_diag(torch.ones(1, 1), *detail_synthesis(patch))  # [1 + 4 (+ 16), patch²]
        self.register_buffer("synthesis", pixels, persistent=False)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x [N, fan_in, H, W] -> [N, 1, H · patch, W · patch]."""
        smooth, details = self.conv.weight[:1], without_mean(self.conv.weight[1:]) * DETAIL
        # The map from bands to pixels is linear: it goes into the weights, which are few.
        weight = (self.synthesis @ torch.cat([smooth, details]).flatten(1) * self.conv.gain).view(-1, *smooth.shape[1:])
        x = F.pad(x * self.conv.style(w)[:, :, None, None], (1, 1, 1, 1), mode="replicate")
        images, *squares = F.conv2d(x, weight).split([1, *(scale**2 for scale in self.scales)], dim=1)
        images = images + self.bias
        for scale, pixels in zip(self.scales, squares, strict=True):
            images = upsample2(images, edge=True) + F.pixel_shuffle(pixels, scale)
        return images


class Grain(nn.Module):
    """Noise at full resolution, which a network that works at res / patch cannot generate: white noise under a short
    learnt kernel.

    Its strength is a smooth map of the last block's features, so that it differs by film and position. It starts at 0.
    """

    taps: Tensor

    def __init__(self, fan_in: int, w_dim: int, patch: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(fan_in, 1, 1, w_dim)
        nn.init.zeros_(self.conv.weight)  # the same everywhere at first
        self.bias = nn.Parameter(torch.ones(1))
        self.gain = nn.Parameter(torch.zeros(()))
        self.kernel = nn.Parameter(torch.zeros(5, 5).index_put((torch.tensor(2), torch.tensor(2)), torch.tensor(1.0)))
        self.patch = patch
        # The kernel as one between the pixels of a position and those of the nine positions around it: several times as
        # fast as on single pixels. Rows from a pixel of a position to one of the three, [p, 3 p]:
        away = torch.arange(3 * patch) - torch.arange(patch)[:, None] - patch
        tap = (away[:, None, :, None] + 2) * 5 + away[:, None] + 2  # [p, p, 3 p, 3 p]
        tap = torch.where((away.abs()[:, None, :, None] <= 2) & (away.abs()[:, None] <= 2), tap, 25)  # 25: none
        taps = tap.view(patch, patch, 3, patch, 3, patch).permute(0, 1, 3, 5, 2, 4).reshape(patch**2, patch**2, 3, 3)
        self.register_buffer("taps", taps, persistent=False)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        """x [N, fan_in, H, W], noise [N, 1, H · patch, W · patch] -> [N, 1, H · patch, W · patch]."""
        strength = (self.conv(x, w)[0] + self.bias) * (self.gain * GRAIN)
        while strength.shape[-1] < noise.shape[-1]:
            strength = upsample2(strength, edge=True)
        # of unit energy, so that the gain alone is the strength
        kernel = self.kernel * self.kernel.square().sum().rsqrt()
        # Wrapped around: the noise at the border is as strong as within.
        places = F.pad(F.pixel_unshuffle(noise, self.patch), (1, 1, 1, 1), mode="circular")
        return F.pixel_shuffle(F.conv2d(places, F.pad(kernel.flatten(), (0, 1))[self.taps]), self.patch) * strength


class SynthesisNetwork(nn.Module):
    """ws [N, num_ws, w_dim] and noises -> images [N, 1, res, res], about [-1, 1] and not clipped."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        channels = [num_channels(res, config.channel_base, config.channel_max) for res in config.resolutions]
        self.constant = nn.Parameter(torch.randn(1, channels[0], 4, 4))
        self.convs = nn.ModuleList([StyledConv(channels[0], channels[0], config.w_dim)])
        head = SmoothToGrey if config.haar else ToGrey
        self.to_grey = nn.ModuleList([head(channels[0], config.w_dim, config.patch)])
        for narrow, wide in zip(channels[1:], channels, strict=False):
            self.convs.append(StyledConv(wide, narrow, config.w_dim, up=True))
            self.convs.append(StyledConv(narrow, narrow, config.w_dim))
            self.to_grey.append(head(narrow, config.w_dim, config.patch))
        self.grain = Grain(channels[-1], config.w_dim, config.patch) if config.haar else None

    def forward(self, ws: Tensor, noises: Sequence[Tensor], grown: float | None = None) -> Tensor:
        """Generate with all blocks, or with the first `grown` ones: films of the resolution of the last, which a
        fraction blends in.

        The skip design needs no more than that to grow (Karras et al. 2018, arXiv:1710.10196, section 2, in the form of
        the 2020 paper).
        """
        blocks = len(self.to_grey) if grown is None else math.ceil(grown)
        blend = 1.0 if grown is None else grown - blocks + 1
        # channels_last is the fast layout of depthwise filters on a CPU.
        x = self.constant.expand(ws.shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.convs[0](x, ws[:, 0], noises[0])
        images = self.to_grey[0](x, ws[:, 1])
        for i in range(1, blocks):
            x = self.convs[2 * i - 1](x, ws[:, 2 * i - 1], noises[2 * i - 1])
            x = self.convs[2 * i](x, ws[:, 2 * i], noises[2 * i])
            grey = self.to_grey[i](x, ws[:, 2 * i + 1])
            if self.grain is not None and i == len(self.to_grey) - 1:
                grey = grey + self.grain(x, ws[:, -1], noises[-1])
            # Zeros beyond the border would darken it, which the first networks learnt to compensate.
            images = upsample2(images, edge=self.grain is not None) + (
                grey * blend if i == blocks - 1 and blend < 1 else grey
            )
        return images

    def bake(self, grown: float) -> None:
        """Write the growth into the weights: from here on all blocks generate at full resolution what the first `grown`
        ones did."""
        with torch.no_grad():
            for i, grey in enumerate(self.to_grey):
                share = min(max(grown - i, 0.0), 1.0)
                for value in (grey.get_parameter("conv.weight"), grey.get_parameter("bias")):
                    value.mul_(share)
            if self.grain is not None:
                self.grain.gain.mul_(share)


class Generator(nn.Module):
    """Mapping, truncation and synthesis: z, c and noises -> images [N, 1, res, res]."""

    w_mean: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.mapping = MappingNetwork(config)
        self.synthesis = SynthesisNetwork(config)
        self.register_buffer("w_mean", torch.zeros(config.w_dim))

    def styles(self, z: Tensor, c: Tensor, truncation: float | Tensor = 1.0) -> Tensor:
        """Return ws [N, num_ws, w_dim], pulled to the mean w by `truncation` psi (Karras et al. 2019, appendix B).

        truncation: one number, a tensor [num_ws] of one a style input, or a tensor [N, 1] of one a film.
        """
        w = self.mapping(z, c)[:, None, :]  # [N, 1, w_dim]
        if isinstance(truncation, Tensor):
            truncation = truncation[..., None]
        return (self.w_mean + truncation * (w - self.w_mean)).expand(-1, self.config.num_ws, -1)

    def forward(self, z: Tensor, c: Tensor, noises: Sequence[Tensor], truncation: float | Tensor = 1.0) -> Tensor:
        """z float32 [N, z_dim] normal, c float32 [N, c_dim], noises[i] float32 [N, 1, r_i, r_i] with r_i of
        `noise_resolutions`."""
        return self.synthesis(self.styles(z, c, truncation), noises)
