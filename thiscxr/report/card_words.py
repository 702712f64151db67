"""What the scores mean in plain words: one table of kinds of keys, in the order in which a card tells them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """What keys that begin with a prefix measure. better: low, high, or "" where neither is."""

    prefix: str
    section: str
    words: str
    better: str


CROWD, COPIES, ASKED, CONFOUNDERS, ANATOMY, UTILITY = (
    "As a crowd",
    "Copies of patients",
    "Asked and seen",
    "Confounders",
    "Anatomy",
    "Use for a reader",
)
FLOORS = {  # what stands under "real patients" in each section
    CROWD: "Real patients: half of them against the other half, at the same number of films.",
    COPIES: "Real patients: strangers, each against all other patients; for how far features know a patient again, what guessing gives.",
    ASKED: "The reader's answers against what was asked. Real patients: the same reader on held-out ones, against their labels.",
    CONFOUNDERS: "Real patients: the same judge on patients that it has not seen; for ties, what findings that are not tied stay below.",
    ANATOMY: "",
    UTILITY: "Readers taught with and without the films, on held-out patients.",
}
KINDS = tuple(
    Kind(*each)
    for each in (
        ("fd_", CROWD, "Fréchet distance", "low"),
        ("fdinf_", CROWD, "the same with endless films (FD∞)", "low"),
        ("kid_", CROWD, "kernel distance (KID)", "low"),
        ("precision_", CROWD, "share of the synthetic films that lie among real ones", "high"),
        ("recall_", CROWD, "share of the real films that lie among synthetic ones", "high"),
        ("density_", CROWD, "how thickly synthetic films lie among real ones", "high"),
        ("coverage_", CROWD, "share of the real films with a synthetic one as near as their neighbours", "high"),
        ("vendi_", CROWD, "how many different films they are worth (Vendi)", "high"),
        ("msssim_", CROWD, "how alike pairs of films are (MS-SSIM)", "low"),
        ("memorised_rate", COPIES, "share of the films that are flagged as copies", "low"),
        ("near_rate_", COPIES, "share nearer to a real film than 99 % of strangers are to anybody", "low"),
        ("nearest_ratio_", COPIES, "distance of the nearest patient over that of the second, median", "high"),
        ("reid_match_rate_", COPIES, "share of the films that features take for a patient", "low"),
        ("reid_auc_", COPIES, "how far these features know a patient again: AUC of pairs", ""),
        ("reid_rank1_", COPIES, "the same: share of real films whose nearest other film is of the same patient", ""),
        ("fidelity_", ASKED, "asked and seen: ", "high"),
        ("probe_", CONFOUNDERS, "what a linear judge reads from the features: ", "high"),
        ("tie_real_", CONFOUNDERS, "strongest tie of a finding in the real films (Cramér's V): ", ""),
        ("tie_asked_", CONFOUNDERS, "strongest tie of a finding in what was asked (Cramér's V): ", ""),
        ("anatomy_", ANATOMY, "", "low"),
        ("utility_", UTILITY, "AUC gained: ", "high"),
    )
)
MEASURES = {"auc": "AUC", "r": "correlation", "mae": "error in years", "v": "Cramér's V"}
ANATOMY_WORDS = {
    "ctr_w1": "cardiothoracic ratio, distance from real films",
    "viewer_left_lung_w1": "area of the lung on the viewer's left, distance",
    "viewer_right_lung_w1": "area of the lung on the viewer's right, distance",
    "lung_symmetry_w1": "symmetry of the lungs, distance",
    "heart_lean_w1": "place of the heart, distance",
    "implausible": "share of films with implausible anatomy",
    "leans_left": "share of films whose heart leans to the viewer's left",
}


def kind_of(key: str) -> Kind | None:
    """Return the kind of a score, or None for one that a card does not tell: poses and label noise say something of a reader."""
    return next((kind for kind in KINDS if key.startswith(kind.prefix)), None)


def question_of(record: Mapping[str, Any]) -> tuple[str, str]:
    """Return what a score of fidelity or of a probe asks ("view PA", "Pleural_Thickening") and its measure ("auc")."""
    rest = record["key"].removeprefix("fidelity_").removeprefix("probe_").removeprefix(f"{record['extractor']}_")
    question, _, measure = rest.rpartition("_")
    words = {"No_Finding": "No Finding", "real_or_synthetic": "real or synthetic", "age_over_median": "age over the median"}
    return words.get(question, question.replace("view_", "view ")), measure


def words_of(record: Mapping[str, Any]) -> str:
    """Return what a score measures, in words."""
    key, kind = record["key"], kind_of(record["key"])
    if kind is None:
        return ""
    if kind.section == ASKED or kind.prefix == "probe_":
        question, measure = question_of(record)
        return f"{kind.words}{question} ({MEASURES.get(measure, measure)})"
    if kind.prefix.startswith("tie_"):
        return kind.words + key.split("_")[3]
    if kind.section == ANATOMY:
        return next((words for end, words in ANATOMY_WORDS.items() if key.endswith(end)), key.replace("_", " "))
    if kind.section == UTILITY:
        return kind.words + key.split("seeds_")[-1].replace("_", " ")
    parts = key.removeprefix(f"fd_{record['extractor']}_").split("_", 1) if kind.prefix == "fd_" else []
    group = parts[1].removeprefix("small_").removeprefix("small") if len(parts) > 1 else ""
    return f"{kind.words}, {group.replace('view_', 'view ')} only" if group else kind.words


def reading(record: Mapping[str, Any]) -> str:
    """Return how a score stands to its floor: told apart from real patients by its interval or not; "" where that cannot be said."""
    kind = kind_of(record["key"])
    if kind is None or not kind.better or record["ci95"] is None or record["floor"] is None:
        return ""
    low, high = record["ci95"]
    if low <= record["floor"] <= high:
        return "not told apart"
    lower_is_better = kind.better == "low" or record["key"].endswith(("_mae", "real_or_synthetic_auc"))
    return "better" if (high < record["floor"]) == lower_is_better else "worse"
