"""What a file says of itself: synthetic, no patient, which network, which seed, what was asked, whose data and on which
terms.

The words are the same in every format; how a format holds them is its own affair.
"""

import json
from dataclasses import dataclass

from thiscxr.marks import FILM_TITLE, NOTICE, SOFTWARE, origin_text
from thiscxr.model.conditions import Condition
from thiscxr.sample.sampling import Network
from thiscxr.sample.truncation import Truncation
from thiscxr.terms import attribution, restriction


@dataclass(frozen=True)
class Origin:
    """The network behind a film."""

    name: str
    sha256: str
    sources: tuple[str, ...]  # titles
    restriction: str  # a sentence, or ""
    attribution: str = ""  # a sentence, or ""

    @property
    def terms(self) -> str:
        """What every file must say of passing it on, or ""."""
        return " ".join(filter(None, (self.restriction, self.attribution)))


@dataclass(frozen=True)
class Visit:
    """The place of a film in a series of one invented patient."""

    number: int  # from 1
    day: int  # after the first visit; invented
    finding: str  # the one that grows
    strength: float  # 0: asked to be absent, 1: asked for, between: on the straight line in w

    def __str__(self) -> str:
        return (
            f"visit {self.number}, day {self.day}: {self.finding} at {self.strength:.0%} "
            "of the way from asked absent to asked for"
        )


@dataclass(frozen=True)
class Film:
    """One film that is asked for: everything that decides it."""

    seed: int
    condition: Condition
    truncation: Truncation
    origin: Origin
    part: str = ""  # in the file's name, where a seed has several films
    visit: Visit | None = None

    @property
    def asked(self) -> dict[str, str]:
        """What was asked, without what was not, as samples.csv spells it."""
        condition = self.condition
        values = {
            "view": condition.view or "",
            "sex": condition.sex or "",
            "age_years": "" if condition.age_years is None else f"{condition.age_years:g}",
            "source": condition.source or "",
            "findings": "|".join(condition.present),
            "no_findings": "|".join(condition.absent),
        }
        return {key: value for key, value in values.items() if value}

    @property
    def asked_words(self) -> str:
        """The same as a sentence for people: nothing that a reader could take for a diagnosis."""
        words = "; ".join(f"{key.replace('_', ' ')} {value.replace('|', ', ')}" for key, value in self.asked.items())
        series = f"; {self.visit}" if self.visit else ""
        return (
            f"The network was asked for: {words or 'nothing in particular'}{series}. Nobody has said that it is there."
        )


def origin_of(network: Network, permission: bool = False) -> Origin:
    """Return what the files of a network say of it. permission: whoever runs this states to have the permission of the
    sources' owners."""
    sources = network.info.sources
    titles = tuple(str(source.get("title") or key) for key, source in sources.items())
    return Origin(network.info.name, network.sha256, titles, restriction(sources, permission), attribution(sources))


def film_text(film: Film) -> dict[str, str]:
    """Return the PNG text chunks of a film."""
    text = {
        "Title": FILM_TITLE,
        "Disclaimer": NOTICE,
        "Software": SOFTWARE,
        "Seed": str(film.seed),
        "Truncation": str(film.truncation),
        "Network": film.origin.sha256,
        "Asked": json.dumps(film.asked, sort_keys=True),
    }
    series = {"Visit": str(film.visit)} if film.visit else {}
    return {**text, **series, **origin_text(film.origin.sources, film.origin.restriction, film.origin.attribution)}


def grid_text(origin: Origin) -> dict[str, str]:
    """Return the PNG text chunks of a sheet of films."""
    marks = origin_text(origin.sources, origin.restriction, origin.attribution)
    return {"Disclaimer": NOTICE, "Software": SOFTWARE, "Network": origin.sha256, **marks}
