"""Scores in plain words, each beside its floor."""

from collections.abc import Iterable, Mapping
from typing import Any

from thiscxr.gallery.words import number

# First word of a score key -> (its name, what it measures, which way is better). An unknown key is shown as it is.
SCORE_WORDS = {
    "fd": ("Fréchet distance", "how far the synthetic films, as a crowd, lie from real ones", "lower"),
    "kd": ("Kernel distance", "how far the synthetic films, as a crowd, lie from real ones", "lower"),
    "precision": ("Precision", "share of the synthetic films that look like some real film", "higher"),
    "recall": ("Recall", "share of the real films that some synthetic film looks like", "higher"),
    "density": ("Density", "how thickly real films surround the synthetic ones", "higher"),
    "coverage": ("Coverage", "share of the real films with a synthetic film close by", "higher"),
}


def evidence(record: Mapping[str, Any], truncations: Iterable[float]) -> dict[str, str]:
    """Turn one score into words: name, key, value, interval, floor, what it says, and what it was measured on.

    truncations: those of the films shown; the words say so when the score was measured at another one.
    """
    key, value, floor = record["key"], record.get("value"), record.get("floor")
    name, meaning, better = SCORE_WORDS.get(key.split("_")[0], (key, "", ""))
    said = [f"{meaning[0].upper()}{meaning[1:]}; {better} is better."] if meaning else []
    if value is None:
        said.append("It was not measured.")
    elif floor is None:
        said.append("No floor was measured, so the number says little by itself.")
    elif better == "lower" and floor > 0:
        times = value / floor
        said.append(
            f"Real films of other patients are {number(floor)} apart; these are "
            + (f"{number(times)} times as far." if times > 1 else "no farther than that.")
        )
    else:
        said.append(f"Real films of other patients reach {number(floor)}.")
    basis = []
    if record.get("num_real") is not None and record.get("num_fake") is not None:
        basis.append(f"{record['num_real']} real and {record['num_fake']} synthetic films")
    if record.get("extractor"):
        basis.append(f"seen through {record['extractor']}")
    if record.get("truncation") is not None:
        basis.append(f"truncation {record['truncation']}")
        others = [number(value) for value in sorted(truncations) if value != record["truncation"]]
        if others:
            basis[-1] += f" (films shown here: {', '.join(others)})"
    return {
        "name": name,
        "key": key,
        "value": "–" if value is None else number(value),
        "interval": " to ".join(map(number, record["ci95"])) if record.get("ci95") else "",
        "floor": "–" if floor is None else number(floor),
        "said": " ".join(said),
        "basis": ", ".join(basis),
    }
