"""Labels of a rule-based labeler for the reports of a phantom study: CheXpert and MIMIC-CXR share its fourteen columns
and four values.

It never reports more than was drawn, but it hedges and leaves out, as the real one does.
"""

from collections.abc import Mapping

import numpy as np

from thiscxr.labels import NEGATIVE, NOT_MENTIONED, POSITIVE, UNCERTAIN
from thiscxr.phantom import Patient

_FINDINGS = (
    "No Finding", "Enlarged_Cardiomediastinum", "Cardiomegaly", "Lung_Opacity", "Lung_Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Effusion", "Pleural_Other", "Fracture", "Support_Devices",
)  # fmt: skip
COLUMNS = {name: name.replace("_", " ").replace("Effusion", "Pleural Effusion") for name in _FINDINGS}
"""Finding -> column, in the order of CheXpert's table."""

VALUES = {POSITIVE: "1.0", NEGATIVE: "0.0", UNCERTAIN: "-1.0", NOT_MENTIONED: ""}
_OPACITIES = ("Atelectasis", "Consolidation", "Edema", "Lung_Lesion")
# of present findings labelled "maybe"; of absent ones labelled "no", and "maybe"
_HEDGED, _RULED_OUT, _SUSPECTED = 0.12, 0.2, 0.05


def present(body: Patient) -> set[str]:
    """Return the findings of a body in the labeler's words: a mass and a nodule are lesions, emphysema and hernias have
    no column."""
    lesion = {"Lung_Lesion"} if {"Mass", "Nodule"} & set(body.severities) else set()
    return {name for name in body.severities if name in COLUMNS} | lesion


def label(body: Patient, random: np.random.Generator) -> dict[str, int]:
    """Return the state of each of COLUMNS, as the table holds it."""
    found = present(body)
    healthy = not set(body.severities) - {"Support_Devices"}
    states = dict.fromkeys(COLUMNS, NOT_MENTIONED)
    if any(name in found for name in _OPACITIES) and random.random() < 0.6:
        found.add("Lung_Opacity")
    for name in tuple(COLUMNS)[1:]:
        hedge, say = random.random(2)
        if name in found:
            states[name] = UNCERTAIN if hedge < _HEDGED and name != "Support_Devices" else POSITIVE
        elif say < _RULED_OUT:
            states[name] = NEGATIVE
        # a film with No Finding has no other finding, not even a suspected one
        elif say > 1 - _SUSPECTED and not healthy:
            states[name] = UNCERTAIN
    if healthy:
        states["No Finding"] = POSITIVE  # with devices too
    return states


def reported(states: Mapping[str, int]) -> dict[str, int]:
    """Return what a row means: No Finding denies the other twelve findings, but not devices; it is never 0."""
    if states["No Finding"] != POSITIVE:
        return {**states, "No Finding": NOT_MENTIONED}
    silent = {name for name, state in states.items() if state == NOT_MENTIONED} - {"Support_Devices"}
    return {**states, **dict.fromkeys(silent, NEGATIVE)}


def read_by_radiologists(body: Patient) -> dict[str, int]:
    """Return the state of each of COLUMNS when nothing is left open, as in CheXpert's validation set."""
    found = present(body)
    found |= {"Lung_Opacity"} if any(name in found for name in _OPACITIES) else set()
    found |= {"Enlarged_Cardiomediastinum"} if "Cardiomegaly" in found else set()
    found |= {"No Finding"} if not found else set()
    return {name: POSITIVE if name in found else NEGATIVE for name in COLUMNS}
