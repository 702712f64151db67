"""Free-text reports of chest films to states of the findings, by phrases and the words around them.

The phrases are data (`report_phrases.json`), the rules are here: how far a negation, a doubt or a question reaches;
what a normal organ denies is in `report_organs`. After NegEx (Chapman et al. 2001, doi:10.1006/jbin.2001.1029), ConText
(Harkema et al. 2009, doi:10.1016/j.jbi.2009.05.002), NegBio (Peng et al. 2018, arXiv:1712.05898) and CheXpert (Irvin et
al. 2019, arXiv:1901.07031).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from thiscxr.collections.report_lexicon import Item, cue_of, items, link_of, plain
from thiscxr.collections.report_organs import Mention, organ_mentions
from thiscxr.collections.report_text import read_sections, sentences
from thiscxr.labels import FINDINGS, NEGATIVE, NO_FINDING, NOT_MENTIONED, POSITIVE, SUPPORT_DEVICES, UNCERTAIN

# of several mentions of a finding the most informative one counts (CheXpert, section 3.1)
_RANK = {POSITIVE: 3, UNCERTAIN: 2, NEGATIVE: 1}
_ENDS = ("stop", "colon", "dot")
# what there may be one of, and "the one on the left" means
_COUNTED = frozenset(
    ("Effusion", "Fracture", "Hernia", "Lung_Opacity", "Mass", "Nodule", "Pneumothorax", SUPPORT_DEVICES)
)
_LESIONS = frozenset(("Lung_Lesion", "Lung_Opacity", "Mass", "Nodule"))  # an indeterminate one is there
_LONGEST = 60  # phrases of a sentence: with more it is none, and the walks over it would take their time


@dataclass(frozen=True, slots=True)
class Span:
    """The words that decided: characters [start, end) of the report name the finding, and `phrase` with `rule` gave its
    state."""

    finding: str
    state: int
    start: int
    end: int
    phrase: str  # as it stands in the report: the finding's own words where no others decided
    phrase_start: int
    rule: str  # mention, negation, removal, uncertainty, alternative, normality or normal chest


@dataclass(frozen=True, slots=True)
class ReportLabels:
    """What a report says: a state for each of FINDINGS, the spans that decided, and those of every mention."""

    states: Mapping[str, int]
    spans: tuple[Span, ...]
    mentions: tuple[Span, ...] = ()


def label_report(text: str) -> ReportLabels:
    """Return the states of all findings in a report in English: 1 present, 0 absent, -1 uncertain, -2 not mentioned.

    "No Finding" is 1 where the report looked for findings, or calls the chest normal, and leaves none but support
    devices; it is never 0.
    """
    lower = plain(text)
    mentions: list[Span] = []
    spoken_of: frozenset[str] = frozenset()  # what the last sentence began with: "the one on the left"
    for part in read_sections(text):
        for start, end in sentences(text, *part):
            found = items(lower, start, end)
            for first in range(0, len(found), _LONGEST):
                here = found[first : first + _LONGEST]
                mentions += _read_sentence(text, here, spoken_of)
                named = [item.names for item in here if "finding" in item.kinds and item.names]
                spoken_of = next((names for names in named if names & _COUNTED), named[-1] if named else spoken_of)
    states = dict.fromkeys(FINDINGS, NOT_MENTIONED)
    for span in mentions:
        if _RANK[span.state] > _RANK.get(states[span.finding], 0):
            states[span.finding] = span.state
    if any(
        state in (POSITIVE, UNCERTAIN) for name, state in states.items() if name not in (NO_FINDING, SUPPORT_DEVICES)
    ):
        states[NO_FINDING] = NOT_MENTIONED
    elif states[NO_FINDING] == NOT_MENTIONED and any(states[n] == NEGATIVE for n in FINDINGS if n != SUPPORT_DEVICES):
        states[NO_FINDING] = POSITIVE
    return ReportLabels(states, tuple(span for span in mentions if states[span.finding] == span.state), tuple(mentions))


def _read_sentence(text: str, found: Sequence[Item], spoken_of: frozenset[str]) -> Iterator[Span]:
    """Yield what a sentence says of each finding that it names, or means by "one" and "none": the last that was named,
    at first `spoken_of`, that of the sentence before."""
    last, counted = spoken_of, spoken_of & _COUNTED
    normal, mentions = organ_mentions(text, found)
    for mention in normal:
        for name in mention.names:
            start, end = mention.start, mention.end
            yield Span(name, NEGATIVE, start, end, text[start:end], start, "normality")
    for at, item in enumerate(found):
        if "finding" in item.kinds and "look_alikes" not in item.kinds and item.names:
            mentions.append(Mention(at, tuple(item.names), item.start, item.end))
            last, counted = item.names, item.names & _COUNTED or counted
        elif "none" in item.kinds:
            for name in last:
                words = text[item.start : item.end]
                yield Span(name, NEGATIVE, item.start, item.end, words, item.start, "negation")
        elif counted and "one" in item.kinds:
            mentions.append(Mention(at, tuple(counted), item.start, item.end))
        if "normal_chest" in item.kinds and not (at and cue_of(found[at - 1], "before") == "absent"):
            yield Span(
                NO_FINDING, POSITIVE, item.start, item.end, text[item.start : item.end], item.start, "normal chest"
            )
    for mention in mentions:
        for device in (False, True):
            names = [name for name in mention.names if (name == SUPPORT_DEVICES) == device]
            if names and (decided := _decide(found, mention, device)) is not None:
                state, cue, rule = decided
                start, end = (mention.start, mention.end) if cue is None else (cue.start, cue.end)
                for name in names:
                    yield Span(name, state, mention.start, mention.end, text[start:end], start, rule)


def _decide(found: Sequence[Item], mention: Mention, device: bool) -> tuple[int, Item | None, str] | None:
    """Return (state, cue, rule) of a finding; None where it is only asked about, or stated of another time."""
    kind, before = _before(found, mention)
    after_kind, after = _after(found, mention, device)
    if "asked" in (kind, after_kind) and after_kind != "absent" and not device:
        return None
    if kind == "absent":
        return NEGATIVE, before, "negation"
    if after_kind in ("absent", "removed"):
        return NEGATIVE, after, "removal" if device else "negation"
    if after_kind == "uncertain":
        return UNCERTAIN, after, "uncertainty"
    if kind == "uncertain":
        return UNCERTAIN, before, "uncertainty"
    if mention.doubt is not None:
        return UNCERTAIN, mention.doubt, "uncertainty"
    if not device and (link := _alternative(found, mention.at)) is not None:
        return UNCERTAIN, link, "alternative"
    return POSITIVE, None, "mention"


def _before(found: Sequence[Item], mention: Mention) -> tuple[str, Item | None]:
    """Return the kind and the item of the words before a finding that speak of it, ("", None) where none do.

    Goes back from the finding, item by item, over a list and what is said of its members, to the first cue; then on to
    one around that:

        no   focal   opacity   or   nodule   suspicious for   cancer    "suspicious for" is within "no": absent
        no   pneumothorax   ,   small   effusion                        "small" begins a clause: "no" ends there
    """
    kind, cue = "", None
    links: list[str] = []  # between here and the finding, the nearest first
    # linked: over "suspicious for"; weak: over a "with"; pending: a comma or "and" opens something new; broken: after
    # another finding
    # told: over the verb of a negation, "the prior film showed effusions, this one shows none"
    linked = pending = broken = weak = told = False
    at = mention.at
    while (at := at - 1) >= 0:
        item = found[at]
        if mention.subject is not None and at <= mention.subject and not cue_of(item, "before"):
            if at == mention.subject or item.kinds & {"organ", "degree"}:
                continue
            break  # what stands before "the heart is" is another clause
        if this := cue_of(item, "before") if not _looks_back(found, at) else "":
            broken = broken or (pending and "normal_chest" in item.kinds)
            if kind:  # an outer one: "no opacity suspicious for", "may be without"
                if (
                    kind == "uncertain"
                    and this == "absent"
                    and not broken
                    and not weak
                    and (not linked or _whole(links))
                ):
                    return this, item
                over = kind != "asked" and not broken and not weak
                return (this, item) if over and (this == "uncertain" or (this == "asked" and not told)) else (kind, cue)
            if (broken and not _oxford(found, mention.at, links)) or (weak and this != "uncertain"):
                break
            if (links and links[0] != "or" and "or" in links) or _says_more(found, mention.at, links):
                break
            kind, cue = this, item
            linked = "link" in item.kinds
            continue
        if any(end in item.kinds for end in _ENDS) or (kind == "absent" and "verbs" not in item.kinds):
            # of a negation, only what stands before it counts: "possibly without edema", not "borderline heart without
            # edema"
            break
        told = told or "verbs" in item.kinds
        if "beside" in item.kinds and not kind and not links:
            break  # a landmark: "possible mass behind the pacemaker"
        if "together" in item.kinds:
            broken = pending = False  # "a combination of atelectasis and small effusions" is one thing
        if "with" in item.kinds:
            weak = True
        elif link := link_of(found, at):
            pending = pending or (link != "or" and _begins_clause(found, at + 1))
            if not (at + 1 < len(found) and link_of(found, at + 1)):
                links.append(link)
            elif link != "comma" and links:
                links[-1] = link
        elif "finding" in item.kinds:
            broken = pending
        elif "link" in item.kinds:
            linked = True
        elif "verbs" in item.kinds and not linked and not (at and cue_of(found[at - 1], "before")):
            break
    return kind, cue


def _whole(links: Sequence[str]) -> bool:
    """Whether the links between a negation and "suspicious for" are within one list."""
    return "comma" not in links or "or" in links


def _oxford(found: Sequence[Item], at: int, links: Sequence[str]) -> bool:
    """Whether a finding is in a list that ends in ", or": there "large effusion" opens no clause of its own."""
    if links[:1] == ["or"] and at >= 2 and _oxford_before(found, at):
        return True
    for here in range(at + 1, len(found)):
        if "or" in found[here].kinds:
            return "comma" in found[here - 1].kinds
        if any(kind in found[here].kinds for kind in ("stop", "colon", "verbs", "with", "and")) or cue_of(
            found[here], "before"
        ):
            return False
    return False


def _oxford_before(found: Sequence[Item], at: int) -> bool:
    here = max((i for i in range(at) if "or" in found[i].kinds), default=0)
    return here > 0 and "comma" in found[here - 1].kinds


def _begins_clause(found: Sequence[Item], at: int) -> bool:
    """Whether what follows a comma or "and" speaks of something new: "small effusion", "possible edema", "the
    heart"."""
    if at >= len(found):
        return False
    kinds = found[at].kinds
    return "degree" in kinds or "organ" in kinds or "verbs" in kinds or bool(cue_of(found[at], "before"))


def _says_more(found: Sequence[Item], at: int, links: Sequence[str]) -> bool:
    """Whether the last of several findings has a predicate of its own: "no pneumothorax, effusion is small"."""
    if not links or links[0] == "or":
        return False
    after = [item.kinds for item in found[at + 1 : at + 3]]
    return any("status" in kinds for kinds in after[:1]) or (
        len(after) == 2 and "verbs" in after[0] and "status" in after[1]
    )


def _looks_back(found: Sequence[Item], at: int) -> bool:
    """Whether words that may stand before or after a finding ("resolved", "possible") belong to one before them."""
    if not cue_of(found[at], "after") or not cue_of(found[at], "before"):
        return False
    before = at - 1
    while before >= 0 and "verbs" in found[before].kinds:
        before -= 1
    return before >= 0 and "finding" in found[before].kinds


def _after(found: Sequence[Item], mention: Mention, device: bool) -> tuple[str, Item | None]:
    """Return the kind and the item of the words after a finding that speak of it, ("", None) where none do."""
    links: list[str] = []
    # other findings, a new clause, a "with" or a predicate between
    others = broken = held = told = False
    asked: tuple[str, Item | None] = "", None
    for here in range(mention.at + 1, len(found)):
        item = found[here]
        kind = cue_of(item, "after")
        if "nature" in item.kinds and _LESIONS.issuperset(mention.names):
            continue
        if told:
            if kind == "uncertain" and link_of(found, here - 1):
                return kind, item
            if item.kinds & {"finding", "organ", "dot"}:
                break
            continue
        if device:
            kind = "removed" if "after removed" in item.kinds else "uncertain" if kind == "uncertain" else ""
        elif kind == "removed":
            kind = ""
        if kind and not _opens(found, here):
            apart = others and (not links or links[-1] == "comma")  # "atelectasis, infection cannot be excluded"
            if apart or broken:
                break
            if kind != "asked":
                return kind, item
            asked, told = (kind, item), True
            continue
        if "verbs" in item.kinds and not others and not device:
            told = True  # it continues in "is small and cannot be excluded" alone
            continue
        if (
            cue_of(item, "before")
            or any(end in item.kinds for end in _ENDS)
            or "verbs" in item.kinds
            or (others and "with" in item.kinds)
        ):
            break
        if link := link_of(found, here):
            links.append(link)
            begins = link != "or" and _begins_clause(found, here + 1)
            broken = broken or (begins and not cue_of(found[here + 1], "after"))
        elif "with" in item.kinds:
            held = True
        elif "finding" in item.kinds:
            if "finding" in found[here - 1].kinds:
                continue  # one thing in two words: "infiltrate density"
            if held or not links:
                break
            others = True
    return asked


def _opens(found: Sequence[Item], at: int) -> bool:
    """Whether words that may stand before or after a finding ("possible") open what follows a comma: "effusion,
    possible loculation"."""
    if not cue_of(found[at], "before") or _looks_back(found, at):
        return False
    if link_of(found, at - 1) and at + 1 < len(found) and found[at + 1].start - found[at].end > 1:
        return True
    following = [item.kinds for item in found[at + 1 : at + 6] if "finding" in item.kinds or "degree" not in item.kinds]
    return any("finding" in kinds for kinds in following[:2])


def _alternative(found: Sequence[Item], at: int) -> Item | None:
    """Return the "or" of "atelectasis or pneumonia", where a finding is one of the two; none in "no change in effusion
    or edema"."""
    for item in reversed(found[:at]):
        if item.kinds & {"stop", "verbs"}:
            break
        if "ignored" in item.kinds:
            return None
    for step in (1, -1):
        link: Item | None = None
        here = at + step
        while 0 <= here < len(found):
            item = found[here]
            if "versus" in item.kinds:
                return item
            if "or" in item.kinds:
                link = item
            elif "finding" in item.kinds:
                if link is not None and item.names != found[at].names:
                    return link
                break
            elif (
                "comma" in item.kinds
                and link is None
                and step == 1
                and _oxford(found, at, ())
                and not _begins_clause(found, here + 1)
            ):
                following = found[here + 1] if here + 1 < len(found) else None
                if following is not None and "finding" in following.kinds:
                    return _alternative(found, here + 1) if _goes_right(found, here + 1) else None
            elif not (item.kinds & {"degree", "comma", "link"}) or (
                step == -1 and link is None and "comma" in item.kinds
            ):
                break
            here += step
    return None


def _goes_right(found: Sequence[Item], at: int) -> bool:
    return at + 1 < len(found) and bool(link_of(found, at + 1))
