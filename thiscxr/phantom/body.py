"""The draw of a patient: anatomy, findings and their sides, from one seed.

Independent of pixels and beam. Anatomy and findings come from separate random streams, so requesting a finding leaves
the body unchanged. Sizes are adult thoraces in cm, set by eye on films and by textbook proportions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from thiscxr.files import nearest_name

PHANTOM_FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Hernia",
    "Mass",
    "Nodule",
    "Pneumothorax",
    "Fracture",
    "Support_Devices",
)
SIDED = ("Atelectasis", "Consolidation", "Effusion", "Mass", "Nodule", "Pneumothorax", "Fracture")
FINDING_WEIGHTS = (1.1, 1.3, 1.2, 1.0, 1.4, 0.9, 0.6, 0.9, 0.9, 1.0, 0.7, 1.3)
STREAMS = (
    "anatomy",
    "findings",
    "sides",
    "vessels",
    "texture",
    "lesions",
    "film",
    "noise",
    "ribs",
    "bowel",
    "study",
    "posture",
)


@dataclass(frozen=True)
class Patient:
    """One body. Lengths in cm; `left` and `right` are the patient's."""

    seed: int
    sex: str
    age_years: int
    half_width: float
    """Inner half width of the rib cage at its widest."""
    half_depth: float
    """Inner half depth of the rib cage."""
    cage_height: float
    """From the apex to the costal margin."""
    lung_height: float
    """From the apex to the right dome at full inspiration."""
    wall: float
    """Thickness of skin, fat and muscle over the ribs."""
    dome_gap: float
    """How much lower the left dome stands."""
    dome_bulge: float
    """Height of a dome over its rim."""
    heart_ratio: float
    """Cardiothoracic ratio of the healthy heart on a PA film."""
    heart_tilt_deg: float
    """Slope of the long axis of the heart below the horizontal."""
    arch: float
    """Radius of the aortic knob."""
    unfolding: float
    """0..1: how far the aorta bulges to the left and backwards (age)."""
    pedicle: float
    """Half width of the upper mediastinum."""
    spine_curve: float
    """Sideways amplitude of the spine."""
    kyphosis: float
    """Backward amplitude of the thoracic spine."""
    rib_slope: float
    """Drop of a rib from its neck to its front end, relative to the usual."""
    clavicle_rise: float
    """Height of the outer end of the clavicle over the inner one."""
    breast: float
    """Radius of a breast; 0 in men."""
    breast_drop: float
    """How low the breast lies."""
    stomach: float
    """Radius of the gas bubble under the left dome; 0 for none."""
    bone: float
    """Bone mineral relative to a young adult."""
    vessels: float
    """Calibre of the lung vessels, relative."""
    shoulder: float
    """Half width across the shoulders beyond the cage."""
    severities: Mapping[str, float]
    """Severity 0..1 of each finding that is present."""
    sides: Mapping[str, str]
    """"left" or "right" for each finding that has a side, present or not."""

    def severity(self, finding: str) -> float:
        """Return 0..1, 0 when the finding is absent."""
        return float(self.severities.get(finding, 0.0))

    def sign(self, finding: str) -> int:
        """Return +1 when the finding is on the patient's left, else -1: the sign of its x."""
        return 1 if self.sides[finding] == "left" else -1

    def stream(self, name: str) -> np.random.Generator:
        """Return the patient's own random numbers for one subject."""
        return stream(self.seed, name)


def stream(seed: int, name: str, branch: int = 0) -> np.random.Generator:
    """Return the random numbers of one (seed, subject, branch): the same anywhere, independent of every other."""
    return np.random.Generator(np.random.Philox(key=[seed & (2**64 - 1), STREAMS.index(name) + 1 + 100 * branch]))


def draw_patient(
    seed: int, *, sex: str | None = None, age_years: int | None = None, severities: Mapping[str, float] | None = None
) -> Patient:
    """Draw a patient; the same seed gives the same body whatever findings are requested.

    severities: finding -> 0..1 (0 is absent); None draws them: four patients in ten have none, the others one to three
    at 0.3..1. Raises ValueError for an invalid sex, age, finding or severity.
    """
    if sex not in (None, "M", "F"):
        raise ValueError(f"sex '{sex}' is not one the phantom draws; expected 'M' or 'F'")
    if age_years is not None and not 18 <= age_years <= 90:
        raise ValueError(f"age {age_years} is outside 18..90 years; the phantom draws adults only")
    for name, value in (severities or {}).items():
        if name not in PHANTOM_FINDINGS:
            raise ValueError(
                f"finding '{name}' is not one the phantom "
                f"draws{nearest_name(name, PHANTOM_FINDINGS)}; known: {', '.join(PHANTOM_FINDINGS)}"
            )
        if not 0 <= value <= 1:
            raise ValueError(f"severity {value} of {name} is outside 0..1")
    r = stream(seed, "anatomy")
    drawn_sex, drawn_age = "MF"[int(r.random() < 0.46)], int(np.clip(r.normal(54, 17), 18, 90))
    sex, age = sex or drawn_sex, drawn_age if age_years is None else int(age_years)
    male, old = sex == "M", (age - 18) / 72
    size = r.normal(0, 1)
    fat = float(np.clip(np.exp(r.normal(0.25, 0.45)), 0.6, 3.6))
    chosen = _draw_findings(seed) if severities is None else {k: float(v) for k, v in severities.items() if v > 0}
    sides_from = stream(seed, "sides")
    sides = {name: ("left", "right")[int(sides_from.random() < 0.5)] for name in SIDED}
    # never both in one pleural space: that would be another finding
    if "Effusion" in chosen and "Pneumothorax" in chosen:
        sides["Pneumothorax"] = "left" if sides["Effusion"] == "right" else "right"
    return Patient(
        seed=seed,
        sex=sex,
        age_years=age,
        half_width=(14.0 if male else 12.8) + 0.45 * size + r.normal(0, 0.35),
        half_depth=(8.6 if male else 7.9) + 0.3 * size + 0.7 * old + r.normal(0, 0.4),
        cage_height=(24.8 if male else 22.8) + 0.8 * size,
        lung_height=(22.6 if male else 20.8) + 0.6 * size + r.normal(0, 0.7) - 0.25 * fat,
        wall=1.5 + fat,
        dome_gap=r.uniform(0.5, 2.0),
        dome_bulge=r.uniform(6.4, 8.2),
        heart_ratio=float(np.clip(r.normal(0.435, 0.025) + 0.02 * old + 0.005 * (fat - 1.3), 0.385, 0.485)),
        heart_tilt_deg=float(np.clip(r.normal(38, 5) - 5 * (fat - 1.3), 24, 50)),
        arch=1.1 + 0.5 * old + r.normal(0, 0.1),
        unfolding=float(np.clip(old + r.normal(0, 0.15), 0, 1)),
        pedicle=2.5 + 0.35 * old + 0.1 * fat + r.normal(0, 0.15),
        spine_curve=r.normal(0, 0.35),
        kyphosis=0.6 + 1.6 * old**1.5 + abs(r.normal(0, 0.3)),
        rib_slope=r.normal(1.0, 0.1),
        clavicle_rise=r.uniform(0.3, 2.6),
        breast=0.0 if male else float(np.clip(r.normal(4.2, 0.7) + 0.8 * (fat - 1.3), 3.0, 6.5)),
        breast_drop=r.uniform(0.0, 3.0) + 1.5 * old,
        stomach=r.uniform(1.6, 3.2) * (r.random() < 0.75),
        bone=1.12 - (0.25 if male else 0.4) * old + r.normal(0, 0.06),
        vessels=float(np.clip(r.normal(1.0, 0.1), 0.75, 1.25)),
        shoulder=(5.2 if male else 4.4) + r.normal(0, 0.3),
        severities=chosen,
        sides=sides,
    )


def _draw_findings(seed: int) -> dict[str, float]:
    r = stream(seed, "findings")
    if r.random() < 0.4:
        return {}
    weights = np.array(FINDING_WEIGHTS)
    count = int(r.choice([1, 2, 3], p=[0.6, 0.28, 0.12]))
    names = r.choice(PHANTOM_FINDINGS, size=count, replace=False, p=weights / weights.sum())
    return {str(name): float(r.uniform(0.3, 1.0)) for name in sorted(names)}
