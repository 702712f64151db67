"""How far each style input is pulled to the mean film: one psi, or one per range of layers.

Layers are the style inputs of the generator, from 0: layer 0 works at 4 px, layers 2i − 1 and 2i work at 4 · 2^i px.
Early layers decide the pose and the shape of the thorax, late ones its fine texture. Source: Karras et al. 2019,
arXiv:1812.04948, appendix B.
"""

import re
from dataclasses import dataclass

_RANGE = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*:\s*([0-9]{1,3})\s*(?:(-)\s*([0-9]{1,3})?)?\s*")


@dataclass(frozen=True)
class Truncation:
    """A requested truncation: psi in [0, 2] for all layers, or ranges (psi, first layer, last layer or None for the
    end)."""

    psi: float = 1.0  # of the layers that no range names
    ranges: tuple[tuple[float, int, int | None], ...] = ()

    def __post_init__(self) -> None:
        for psi in (self.psi, *(psi for psi, _, _ in self.ranges)):
            if not 0 <= psi <= 2:
                raise ValueError(f"truncation is {psi}, but must be between 0 and 2")

    def __str__(self) -> str:
        """Return what `parse_truncation` reads."""
        if not self.ranges:
            return _spell(self.psi)
        parts = (
            f"{_spell(psi)}:{first}" + ("-" if last is None else "" if last == first else f"-{last}")
            for psi, first, last in self.ranges
        )
        return ",".join(parts)

    def per_layer(self, num_ws: int) -> list[float]:
        """Return one psi per style input. Raises ValueError for a layer that the network does not have or that is named
        twice."""
        values: list[float | None] = [None] * num_ws
        for psi, first, last in self.ranges:
            end = num_ws - 1 if last is None else last
            if not first <= end < num_ws:
                raise ValueError(
                    f"truncation {self}: layers {first} to {end} are not all among this network's 0 to {num_ws - 1}"
                )
            for layer in range(first, end + 1):
                if values[layer] is not None:
                    raise ValueError(f"truncation {self}: layer {layer} is named twice")
                values[layer] = psi
        return [self.psi if value is None else value for value in values]


def _spell(psi: float) -> str:
    short = f"{psi:g}"
    return short if float(short) == psi else repr(psi)


def parse_truncation(text: str) -> Truncation:
    """Return the truncation of "0.7" or "0.5:0-3,1.0:4-"; layers that are not named are not truncated. Raises
    ValueError for other text."""
    try:
        if ":" not in text:
            return Truncation(float(text))
        matches = [_RANGE.fullmatch(part) for part in text.split(",")]
        ranges = [(float(m[1]), int(m[2]), int(m[4]) if m[4] else None if m[3] else int(m[2])) for m in matches if m]
    except ValueError as error:
        if "must be between" in str(error):
            raise
        ranges, matches = [], [None]
    if len(ranges) != len(matches):
        raise ValueError(
            f"truncation '{text}' is neither a number from 0 to 2 nor ranges of layers such as 0.5:0-3,1.0:4-"
        )
    return Truncation(ranges=tuple(ranges))
