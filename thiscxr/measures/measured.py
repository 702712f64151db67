"""One number, its subject, and its interval and floor."""

from dataclasses import KW_ONLY, dataclass


@dataclass(frozen=True)
class Measured:
    """A number with its 95 % interval, and the same number between real patients and other real patients.

    `report/words.py` words each measure; `score/records.py` adds the panel's fields and makes the key.
    """

    measure: str  # "fd", "recall", "fidelity" …
    value: float | None  # None, or nan: it could not be measured
    ci95: tuple[float, float] | None  # None where no interval can be given
    floor: float | None  # None where real against real has no meaning
    num_real: int  # films
    num_fake: int
    _: KW_ONLY
    extractor: str | None = None  # network whose features or predictions are used
    question: str = ""  # what is predicted or measured: "view PA", "Effusion", "ctr"
    statistic: str = ""  # "auc", "r", "mae", "v", "w1" …, where a measure has several
    group: str = ""  # the films it is restricted to: "view PA", "Effusion"; or whose: "real", "asked"
    protocol: str = ""  # other parameters: "k5", "small", "3scales"
    null95: tuple[float, float] | None = None  # its middle 95 % under permutation, where tested
    p: float | None = None  # probability of as much by chance, corrected for the number of tests
