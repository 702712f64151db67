"""Print distance and grid of the demo's films, and of those of its network before the training if scored: `python
tools/demo_scores.py demo/scores.json --before demo/before.json`."""

import argparse
import json
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path, help="What `thiscxr score --out` wrote.")
    parser.add_argument("--before", type=Path, help="The same of the network that the training started from.")
    arguments = parser.parse_args()
    after = json.loads(arguments.scores.read_text())["records"]
    before = json.loads(arguments.before.read_text())["records"] if arguments.before else []
    for measure, words in (
        ("fd", "distance to real films: {}"),
        ("grid", "grid at its worst, dB above real films: {}"),
    ):
        last, first = worst(after, measure), worst(before, measure)
        if last is None:
            continue
        shown = f"{last['value']:.2f}"
        if first is not None:
            shown = f"{first['value']:.2f} before and {shown} after training, {compared(first['value'], last)}"
        print(f"{words.format(shown)}; between real films {last['floor']:.2f}")


def compared(before: float, after: dict[str, Any]) -> str:
    """Return how a record compares with a value before, where less is better."""
    if after["value"] <= before:
        return "no worse"
    return "not shown to be worse" if after["ci95"][0] <= before else "worse"


def worst(records: list[dict[str, Any]], measure: str) -> dict[str, Any] | None:
    """Return the record with the largest value of a measure of all films, None where there is none."""
    of_all = [
        each for each in records if each["measure"] == measure and not each["group"] and each["value"] is not None
    ]
    return max(of_all, key=lambda each: each["value"], default=None)


if __name__ == "__main__":
    main()
