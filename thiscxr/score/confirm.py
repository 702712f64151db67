"""Whether a reader can say that a film shows what it was asked for: series of a growing finding are drawn only where it can.

A series says "here it grows". Where no reader can tell on real patients, nobody could say whether it does.
"""

from collections.abc import Collection
from typing import Any

import numpy as np

from thiscxr.data.pixels import Pixels
from thiscxr.data.pool import Pool
from thiscxr.score.extractors import Extractor
from thiscxr.score.fairness import fair_groups
from thiscxr.score.fidelity import LEAST_AUC, read_answers
from thiscxr.score.judge import judge, read_films


def refuse_unconfirmed(finding: str, extractor: Extractor, learnt_from: Collection[str], real: Pool | None = None) -> str:
    """Return how well the reader tells a finding, as words, such as "AUC 0.912 [0.894, 0.931] on 811 held-out films".

    learnt_from: the collections of the network; real: where given, the reader is judged on its held-out patients, of those that it does not
    know, and else by what its file says of itself. Raises ValueError when the reader knows neither the finding nor any of the collections,
    and when the lower end of its 95 % interval is not above LEAST_AUC.
    """
    reader, name = extractor.reader, extractor.name
    if finding not in reader.config.findings:
        known = ", ".join(reader.config.findings)
        raise ValueError(f"reader {name} does not read '{finding}', so nobody could say whether it grows; it reads: {known}")
    if learnt_from and not extractor.sources & set(learnt_from):
        ours, theirs = (", ".join(sorted(sources)) for sources in (extractor.sources, learnt_from))
        raise ValueError(
            f"reader {name} learnt from {ours} and the network from {theirs}; give a --reader of its films (thiscxr classify train)"
        )
    if real is not None:
        groups = fair_groups(real, real.indices("holdout"), extractor)
        found = judge([read_films(one.reader, real, rows) for one, rows in groups]) if groups else None
        answered = next((each for each in found.questions if each.question == finding), None) if found else None
        if answered is None or found is None:
            raise ValueError(f"{real.path} has no held-out films with and without '{finding}' that reader {name} may be judged on")
        auc, ci95, films = answered.value, answered.ci95, answered.num_positive + answered.num_negative
    else:
        judged: Any = extractor.judged
        auc, ci95, films = judged.get("auc", {}).get(finding), judged.get("auc_ci95", {}).get(finding), judged.get("films")
        if auc is None:
            raise ValueError(f"reader {name} does not say how well it tells '{finding}'; give --real POOL with held-out patients")
        if ci95 is None and auc > LEAST_AUC:
            raise ValueError(f"reader {name} has AUC {auc:.3f} for '{finding}' on {films} films, but no interval; give --real POOL")
    interval = "" if ci95 is None else f" [{ci95[0]:.3f}, {ci95[1]:.3f}]"
    words = f"AUC {auc:.3f}{interval} on {films} held-out films"
    if ci95 is None or not ci95[0] > LEAST_AUC:
        raise ValueError(
            f"reader {name} cannot confirm '{finding}': {words}, where the lower end of the 95 % interval must be above "
            f"{LEAST_AUC}; a series would claim what nobody can check"
        )
    return words


def probability(extractor: Extractor, pixels: Pixels, finding: str) -> np.ndarray:
    """Return what the reader sees of a finding in films [n, res, res], float64 [n] between 0 and 1."""
    logits = read_answers(extractor.reader, [pixels])[finding].astype(np.float64)
    return 1 / (1 + np.exp(-logits))


def growth_table(seen: np.ndarray, finding: str, reader: str) -> str:
    """Return lines: the mean probability [patients, visits] at each visit, and in how many patients the last exceeds the first."""
    means = "  ".join(f"{value:.2f}" for value in seen.mean(axis=0))
    more = int((seen[:, -1] > seen[:, 0]).sum())
    steady = int((np.diff(seen, axis=1) >= 0).all(axis=1).sum())
    return (
        f"{finding} as the reader sees it ({reader})\n  mean probability by visit: {means}\n"
        f"  higher at the last visit than at the first in {more} of {len(seen)} patients; never falling in {steady}"
    )
