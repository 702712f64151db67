"""What every file states: synthetic, no patient, the network, the seed, the request, whose data and on which terms.

The words are the same in every format; each format stores them in its own way.
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
        """What every file must state about sharing it, or ""."""
        return " ".join(filter(None, (self.restriction, self.attribution)))


@dataclass(frozen=True)
class Visit:
    """The place of a film in a series of one invented patient."""

    number: int  # from 1
    day: int  # after the first visit; invented
    finding: str  # the one that grows
    strength: float  # 0: requested absent, 1: requested present, between: on the straight line in w

    def __str__(self) -> str:
        return (
            f"visit {self.number}, day {self.day}: {self.finding} at {self.strength:.0%} "
            "of the way from requested absent to requested present"
        )


@dataclass(frozen=True)
class Film:
    """One requested film: everything that decides it."""

    seed: int
    condition: Condition
    truncation: Truncation
    origin: Origin
    part: str = ""  # in the file's name, where a seed has several films
    visit: Visit | None = None

    @property
    def requested(self) -> dict[str, str]:
        """The requested condition as samples.csv spells it, without what is left open."""
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
    def requested_words(self) -> str:
        """The same as a sentence for people, worded so that nobody takes it for a diagnosis."""
        words = "; ".join(
            f"{key.replace('_', ' ')} {value.replace('|', ', ')}" for key, value in self.requested.items()
        )
        series = f"; {self.visit}" if self.visit else ""
        return (
            f"Requested of the network: {words or 'nothing in particular'}{series}. Nobody has said that it is there."
        )


def origin_of(network: Network, permission: bool = False) -> Origin:
    """Return what the files of a network state about it. permission: the user states that the sources' owners permit
    sharing."""
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
        "Asked": json.dumps(film.requested, sort_keys=True),
    }
    series = {"Visit": str(film.visit)} if film.visit else {}
    return {**text, **series, **origin_text(film.origin.sources, film.origin.restriction, film.origin.attribution)}


def grid_text(origin: Origin) -> dict[str, str]:
    """Return the PNG text chunks of a grid of films."""
    marks = origin_text(origin.sources, origin.restriction, origin.attribution)
    return {"Disclaimer": NOTICE, "Software": SOFTWARE, "Network": origin.sha256, **marks}
