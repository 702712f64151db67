"""Is a film inverted or turned? A small network on a thumbnail, tuned to report nothing when in doubt.

It never changes the film: the caller decides. Mirrored films are not detected: only the side of the heart and of the
gas bubble would show it, and a heart on the right is a finding. Error rates by collection:
thiscxr/weights/sentinel.md.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from scipy.ndimage import uniform_filter

from thiscxr.pixels import Pixels, content_box

THUMB = 32
WEIGHTS = Path(__file__).parents[1] / "weights" / "sentinel.safetensors"

_AROUND = 11  # side of the square surround of a pixel, in pixels of the thumbnail
_ROUGHEST = 0.5  # the roughest of 13,000 real films has 0.32, noise 0.96 and more
_SAMPLED_SIDE = 256  # of larger films every second, third ... pixel is enough


@dataclass(frozen=True, slots=True)
class Sight:
    """What is wrong with a film."""

    inverted: bool = False
    """Bones are dark."""
    turned: int = 0
    """Degrees clockwise, 0, 90, 180 or 270: np.rot90(pixels, turned // 90) is upright."""
    sure: bool = True
    """False: it looks wrong, but it is not clear what is wrong."""


def thumbnail(pixels: Pixels, res: int = THUMB) -> NDArray[np.float64]:
    """Return [res,res]: means over the film [h,w], both at least `res`, without constant borders; it need not be
    square."""
    step = max(1, min(pixels.shape) // _SAMPLED_SIDE)
    sampled = pixels[::step, ::step]
    left, top, right, bottom = content_box(sampled)
    if min(right - left, bottom - top) >= res:
        sampled = sampled[top:bottom, left:right]
    rows, columns = (np.arange(res + 1) * size // res for size in sampled.shape)
    sums = np.add.reduceat(np.add.reduceat(sampled, rows[:-1], axis=0, dtype=np.int64), columns[:-1], axis=1)
    return sums / np.outer(np.diff(rows), np.diff(columns))


def _ranks(values: NDArray[np.float64] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the ranks of [h,w], from -1 (darkest) to 1, ties at their middle: no tone curve changes
    them."""
    ordered = np.sort(values, axis=None)
    middle = np.searchsorted(ordered, values) + np.searchsorted(ordered, values, "right") - 1
    return (middle * (1 / (values.size - 1)) - 1).astype(np.float32)


def features(thumb: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return float32 [2,32,32]: the ranks of the greys and of their difference from the surround, which a white or
    black frame does not change. They turn with the film, and an inversion negates them."""
    grey = _ranks(np.round(thumb, 3))
    surround = uniform_filter(grey.astype(np.float64), _AROUND, mode="nearest")
    return np.stack([grey, _ranks(np.round(grey - surround, 5))])


def _roughness(ranks: NDArray[np.float32]) -> float:
    """Return 1 less the correlation of neighbours in [h,w]: 0 for a flat picture, 1 for noise."""
    return 1 - float(
        min((ranks[:, 1:] * ranks[:, :-1]).mean(), (ranks[1:] * ranks[:-1]).mean()) / max((ranks**2).mean(), 1e-6)
    )


@dataclass(frozen=True, slots=True)
class Network:
    """One hidden layer that scores how upright a film is; its eight turned and inverted versions share the same
    weights.

    signed and squared: [2048,H], of the features and of their squares less 1/3; bias, out: [H].
    """

    signed: NDArray[np.float32]
    squared: NDArray[np.float32]
    bias: NDArray[np.float32]
    out: NDArray[np.float32]

    def scores(self, ranks: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return [8]: log odds, less a constant, that the film of `features` is upright as it is (the first) or turned
        clockwise by 90, 180, 270 degrees, and the same four if it is also inverted."""
        across = ranks.swapaxes(1, 2)
        films = np.stack([ranks, across[:, ::-1], ranks[:, ::-1, ::-1], across[:, :, ::-1]]).reshape(4, -1)
        signed, squared = films @ self.signed, (films**2 - np.float32(1 / 3)) @ self.squared + self.bias
        return np.concatenate([np.maximum(each, 0) @ self.out for each in (squared + signed, squared - signed)]).astype(
            np.float64
        )


def odds(scores: NDArray[np.float64]) -> tuple[float, int, float]:
    """Return, of scores [8], the log odds that a film is not upright, the likeliest of the eight ways, and the log odds
    of that one against all others."""
    best = int(scores.argmax())
    rest = [float(np.logaddexp.reduce(np.delete(scores, way))) for way in (0, best)]
    return rest[0] - float(scores[0]), best, float(scores[best]) - rest[1]


def look(pixels: Pixels, frontal: bool = True) -> Sight:
    """Return what is wrong with pixels [h,w], uint8 or uint16, of a chest film; nothing for a side below 32 pixels.

    frontal: known to be a frontal film; others need stronger evidence, since laterals are common and few were trained
    on.
    """
    if min(pixels.shape) < THUMB:
        return Sight()
    ranks = features(thumbnail(pixels))
    network, doubtful, sure = _network()
    wrong, way, margin = odds(network.scores(ranks))
    kind = 0 if frontal else 1
    if wrong <= doubtful[kind] or _roughness(ranks[0]) > _ROUGHEST:
        return Sight()
    return Sight(way >= 4, way % 4 * 90) if way and margin > sure[kind] else Sight(sure=False)


@cache
def _network() -> tuple[Network, list[float], list[float]]:
    """Return the network, and the log odds above which a film is doubtful and surely wrong, each for frontal and for
    other films."""
    with safe_open(WEIGHTS, framework="np") as file:
        facts = json.loads(file.metadata()["sentinel"])
        network = Network(*(file.get_tensor(name).astype(np.float32) for name in ("signed", "squared", "bias", "out")))
    return network, facts["doubtful"], facts["sure"]
