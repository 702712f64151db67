"""What a report says of organs, as states of findings: a normal heart denies cardiomegaly, an enlarged one shows it."""

from collections.abc import Sequence
from dataclasses import dataclass

from thiscxr.collections.report_lexicon import Item, cue_of, link_of

_ORGAN_REACH = 90  # characters from an organ to what is said of it
_LIST_GAP = 16  # characters of other words between the organs of a list
_DENIED_BY = {  # organ: (what is said of it, the findings that this denies)
    "Cardiomegaly": ("normal", ("Cardiomegaly",)),
    "Enlarged_Cardiomediastinum": ("normal", ("Enlarged_Cardiomediastinum",)),
    "Lung_Opacity": ("clear", ("Lung_Opacity",)),
    "Pleura": ("clear", ("Effusion", "Pneumothorax")),
}
_SHOWN_BY = {"Cardiomegaly": ("enlarged",), "Enlarged_Cardiomediastinum": ("enlarged", "prominent")}
_DOUBTED_BY = {"Cardiomegaly": ("borderline", "prominent"), "Enlarged_Cardiomediastinum": ("borderline",)}
_SAID_OF_ORGANS = frozenset(("enlarged", "prominent", "borderline", "normal", "clear"))


@dataclass(frozen=True, slots=True)
class Mention:
    """Item `at` of a sentence names `names`, in the characters [start, end); `subject` is the item of the organ that
    comes before it."""

    at: int
    names: tuple[str, ...]
    start: int
    end: int
    subject: int | None = None
    doubt: Item | None = None


def organ_mentions(text: str, found: Sequence[Item]) -> tuple[list[Mention], list[Mention]]:
    """Return (organs that are called normal, organs that are called large) as mentions of what that denies or shows."""
    normal, large = [], []
    for at, item in enumerate(found):
        said = item.kinds & _SAID_OF_ORGANS
        if not said or "look_alikes" in item.kinds:
            continue
        named, subject = _organs_of(found, at)
        for organ in sorted(named):
            wanted, denied = _DENIED_BY.get(organ, ("", ()))
            start, end = _around(found, at, subject)
            if wanted in said or (wanted == "clear" and "normal" in said):
                if not _denied(found, at, subject) and not _or_large(text, found, at):
                    normal.append(Mention(at, denied, start, end, subject))
            elif said & set(_SHOWN_BY.get(organ, ())) or said & set(_DOUBTED_BY.get(organ, ())):
                doubt = None if said & set(_SHOWN_BY[organ]) and "borderline" not in said else item
                before = next((i for i in range(at - 1, -1, -1) if found[i].kinds - {"degree", "status", "or"}), at)
                doubt = found[before] if "normal" in found[before].kinds and _or_large(text, found, before) else doubt
                large.append(Mention(at, (organ,), start, end, subject, doubt))
    return normal, large


def _or_large(text: str, found: Sequence[Item], at: int) -> bool:
    """Whether "normal" is only one end of a range: "normal to mildly enlarged"."""
    following = [
        i for i in range(at + 1, len(found)) if not found[i].kinds & {"degree", "or"} or found[i].kinds & {"enlarged"}
    ][:1]
    said = following and found[following[0]].kinds & {"enlarged", "prominent", "borderline"}
    return bool(said) and text[found[at].end :].split(None, 1)[0].lower() in ("to", "or")


def _around(found: Sequence[Item], at: int, subject: int | None) -> tuple[int, int]:
    if subject is not None:
        return found[subject].start, found[at].end
    return found[at].start, found[at + 1].end


def _organs_of(found: Sequence[Item], at: int) -> tuple[set[str], int | None]:
    """Return the organs that item `at` ("normal", "enlarged", "clear") speaks of, and the first of them where they come
    before it."""
    names: set[str] = set()
    here = at + 1
    if here < len(found) and "organ" in found[here].kinds and not (at and "organ" in found[at - 1].kinds):
        while here < len(found) and "organ" in found[here].kinds:
            names |= found[here].names
            here += 1
            while here < len(found) and link_of(found, here):
                here += 1
        if (
            here < len(found)
            and "organ" in found[here - 1].kinds
            and found[here].kinds & {"verbs", *_SAID_OF_ORGANS}
            and here - 1 > at + 1
        ):
            # it has a predicate of its own: "normal heart and the mediastinum is widened"
            names -= found[here - 1].names
        return names, None
    if _attributive(found, at):
        return set(), None
    here = at - 1
    while here >= 0 and "organ" not in found[here].kinds:
        if "finding" in found[here].kinds or ("stop" in found[here].kinds and not _turns(found, here)):
            return set(), None
        here -= 1
    if here < 0 or found[at].start - found[here].end > _ORGAN_REACH:
        return set(), None
    first = here
    while here >= 0 and ("organ" in found[here].kinds or link_of(found, here)):
        if first != here and found[here + 1].start - found[here].end > _LIST_GAP:
            break  # "silhouette accentuated by technique, heart size enlarged"
        if "organ" in found[here].kinds:
            names |= found[here].names
            first = here
        here -= 1
    return names, first


def _attributive(found: Sequence[Item], at: int) -> bool:
    """Whether "prominent" or "large" belongs to what follows: "the border is obscured by a large effusion"."""
    if not found[at].kinds & {"enlarged", "prominent"}:
        return False
    following = at + 1
    while following < len(found) and "degree" in found[following].kinds:
        following += 1
    if following == len(found) or "finding" not in found[following].kinds:
        return False
    return all(found[i + 1].start - found[i].end <= _LIST_GAP for i in range(at, following))


def _turns(found: Sequence[Item], at: int) -> bool:
    """Whether a "but" continues about the same organ: "hyperinflated but clear"."""
    return at + 1 < len(found) and not found[at + 1].kinds & {"organ", "finding"}


def _denied(found: Sequence[Item], at: int, subject: int | None) -> bool:
    """Whether "normal" is itself denied: "not normal"."""
    return any(cue_of(item, "before") == "absent" for item in found[max(at - 2, subject or 0) : at])
