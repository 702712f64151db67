"""The vocabulary of every film: findings and their five states, views, sexes.

Collections translate into these names; they never add to them, and the states are never collapsed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

FINDINGS = (
    "No Finding",
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
    "Enlarged_Cardiomediastinum",
    "Lung_Opacity",
    "Lung_Lesion",
    "Pleural_Other",
    "Fracture",
    "Support_Devices",
)

NO_FINDING, SUPPORT_DEVICES = FINDINGS[0], FINDINGS[-1]

VIEWS = ("PA", "AP", "AP_supine", "lateral", "other", "unknown")
SEXES = ("M", "F", "unknown")

POSITIVE = 1
NEGATIVE = 0
UNCERTAIN = -1
NOT_MENTIONED = -2
NOT_ANNOTATED = -3
STATES = {
    POSITIVE: "positive",
    NEGATIVE: "negative",
    UNCERTAIN: "uncertain",
    NOT_MENTIONED: "not_mentioned",
    NOT_ANNOTATED: "not_annotated",
}

# What can be derived for a finding without an annotation: it is present when one of its children is, ...
_POSITIVE_FROM = {
    "Enlarged_Cardiomediastinum": ("Cardiomegaly",),
    "Lung_Opacity": ("Infiltration", "Consolidation", "Pneumonia", "Edema", "Atelectasis", "Mass", "Nodule"),
    "Pleural_Other": ("Pleural_Thickening", "Fibrosis"),
}
# ... and absent when its parent was looked for and is not there.
_NEGATIVE_FROM = {
    "Infiltration": "Lung_Opacity",
    "Mass": "Lung_Lesion",
    "Nodule": "Lung_Lesion",
    "Pleural_Thickening": "Pleural_Other",
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a collection requires of its users; it goes with every pool, network and gallery made from it."""

    title: str
    terms: str
    citation: str
    url: str
    acknowledgement: str


@dataclass(frozen=True, slots=True)
class FilmRecord:
    """One row of a collection's label table in the common vocabulary; ids are the collection's own, and always
    strings."""

    film: str  # unique within the collection
    file: str  # what `image_key` of the collection makes of the path of its image
    patient: str
    study: str
    view: str = "unknown"
    sex: str = "unknown"
    age_years: float | None = None
    findings: Mapping[str, int] | None = None  # what is missing here is NOT_ANNOTATED
    # the states as released, where a rule derives others in `findings`
    as_released: Mapping[str, int] | None = None
    split: str | None = None  # the collection's official split, when it has one
    # (collection, patient) whose split this film follows, where patients are tied together
    split_as: tuple[str, str] | None = None
    labeler: str = ""  # who or what made the labels
    # width / height of the film before the release squashed it; None: not squashed
    original_aspect: float | None = None
    refused: str = ""  # why the collection itself rules the row out, or ""

    def states(self) -> tuple[int, ...]:
        """Return the states of all findings in the order of FINDINGS."""
        findings = self.findings or {}
        return tuple(findings.get(name, NOT_ANNOTATED) for name in FINDINGS)


def derive(findings: Mapping[str, int]) -> dict[str, int]:
    """Return `findings` with the not annotated ones filled in where a child or a parent settles them.

    Positives come from children and negatives from parents only; nothing that the collection annotated is touched.
    """
    derived = dict(findings)
    for name, children in _POSITIVE_FROM.items():
        if findings.get(name, NOT_ANNOTATED) == NOT_ANNOTATED and any(
            findings.get(child) == POSITIVE for child in children
        ):
            derived[name] = POSITIVE
    for name, parent in _NEGATIVE_FROM.items():
        if findings.get(name, NOT_ANNOTATED) == NOT_ANNOTATED and findings.get(parent) == NEGATIVE:
            derived[name] = NEGATIVE
    return derived


def with_derived(film: FilmRecord) -> FilmRecord:
    """Return the film with its findings completed by `derive`."""
    return film if film.findings is None else replace(film, findings=derive(film.findings))


def spelled(word: str, names: Iterable[str]) -> str:
    """Return the one of `names` that a word means, whatever its case and with spaces or underscores; the word itself
    where none is."""
    return {_plain(name): name for name in names}.get(_plain(word), word)


def _plain(word: str) -> str:
    return word.strip().replace(" ", "_").lower()
