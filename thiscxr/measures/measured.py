"""One number of the panel, before the panel adds who was judged by what."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """A value with its protocol in the key, its 95 % interval, and the same number between real patients and other real patients."""

    key: str
    value: float
    ci95: tuple[float, float] | None  # None where no interval can be given
    floor: float | None  # None where real against real has no meaning
    num_real: int
    num_fake: int
