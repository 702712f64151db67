"""Records of scores, for tests of what is said of them."""

from pathlib import Path
from typing import Any

from thiscxr.score.records import Record, write_scores

SHA = "ab" * 32


Ci95 = tuple[float, float] | None


def record(
    measure: str, value: float | None = 1.5, ci95: Ci95 = None, floor: float | None = None, **more: Any
) -> Record:
    """A score of 600 films of the network SHA, unless given otherwise."""
    return Record(measure, value, ci95, floor, **{"num_real": 600, "num_fake": 600, "network_sha256": SHA} | more)


def written(path: Path, *records: Record) -> Path:
    """The path of a scores.json of these."""
    write_scores(path, records)
    return path
