"""One number, what it is of, and what it stands beside."""

from dataclasses import KW_ONLY, dataclass


@dataclass(frozen=True)
class Measured:
    """A number with its 95 % interval, and the same number between real patients and other real patients.

    `report/words.py` says what each measure means, `score/records.py` what the panel adds and how a key is made of it.
    """

    measure: str  # "fd", "recall", "fidelity" …
    value: float | None  # None, or nan: it could not be measured
    ci95: tuple[float, float] | None  # None where no interval can be given
    floor: float | None  # None where real against real has no meaning
    num_real: int  # films
    num_fake: int
    _: KW_ONLY
    extractor: str | None = None  # network through which the films are seen
    question: str = ""  # what is asked of a film, or measured in it: "view PA", "Effusion", "ctr"
    statistic: str = ""  # "auc", "r", "mae", "v", "w1" …, where a measure has several
    group: str = ""  # the films that it is of, where not all: "view PA", "Effusion"; or whose films: "real", "asked"
    protocol: str = ""  # what else it depends on: "k5", "small", "3scales"
    null95: tuple[float, float] | None = None  # between these it lies in 95 of 100 shuffles, where that was tried
    p: float | None = None  # the chance of as much where there is nothing, corrected for how many were tried
