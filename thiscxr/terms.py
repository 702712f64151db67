"""The one rule on sharing what a network generated: a collection whose terms forbid sharing, or leave it open,
restricts every network trained on it.

Sources are named as in a network file or a sample folder. This module imports nothing of ours, so that every room may
use it.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


@cache
def collections() -> dict[str, dict[str, Any]]:
    """Return what terms.json says of every collection, by its key: the flag of `prepare`.

    name: in sentences. sharing: "showable" where anybody may show the films themselves, with citation and
    acknowledgement, "restricted" where they may not be shared, or not in altered form, else "undecided". words: any of
    them in a key, title or address names the collection. tables: files that it alone has. terms: of `labels.Terms`.
    """
    return json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))


def is_phantom(source: str) -> bool:
    """Return whether a source (its key) is a site of the phantom, whose films have no patients."""
    return source.startswith("phantom-")


def restricted_sources(sources: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the names of the restricted collections among `sources` (key -> title, terms, citation, url, …), each
    once."""
    texts = [f"{key} {source.get('title', '')} {source.get('url', '')}".lower() for key, source in sources.items()]
    return tuple(
        known["name"]
        for known in collections().values()
        if known["sharing"] == "restricted" and any(word in text for word in known["words"] for text in texts)
    )


def restriction(sources: Mapping[str, Mapping[str, Any]], permission: bool = False) -> str:
    """Return the sentence that every file of a network must carry; "" where none of its sources is restricted."""
    names = ", ".join(restricted_sources(sources))
    if not names:
        return ""
    if permission:
        return (
            f"Trained on {names}, whose terms restrict sharing; whoever released this file states to have permission."
        )
    return f"Trained on {names}, whose terms restrict sharing: for local use only."


def attribution(sources: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what the licences of `sources` require in every file (CC BY: whose films, where, which licence, changed),
    or ""."""
    named = [
        (
            f"{source.get('citation') or source.get('title') or key} {source.get('url', '')}, "
            f"{str(source['terms']).partition(' (')[0]}"
        )
        for key, source in sources.items()
        if str(source.get("terms", "")).startswith("CC BY")
    ]
    return f"The network has learnt from, and changes: {'; '.join(named)}" if named else ""


def require_permission(sources: Mapping[str, Mapping[str, Any]], given: bool, what: str) -> str:
    """Return `restriction` of what is to be released. Raises ValueError when a source is restricted and permission was
    not `given`.

    what: the thing that is refused, as the first words of the line, such as "a gallery of these films".
    """
    if (names := restricted_sources(sources)) and not given:
        raise ValueError(
            f"{what} is refused: the network was trained on {', '.join(names)}, whose terms "
            "restrict sharing; keep it to yourself, or, "
            "with the permission of those who own the films, use --i-have-permission, which every file will then state"
        )
    return restriction(sources, given)


def require_showable(sources: Mapping[str, Mapping[str, Any]], what: str) -> None:
    """Raise ValueError unless anybody may show the films themselves of every source. Refused: restricted and unknown
    sources, and phantoms.

    what: the thing that is refused, as the first words of the line.
    """
    known = [key for key, each in collections().items() if each["sharing"] == "showable"]
    showable = {key for key in known if key in sources and not restricted_sources({key: sources[key]})}
    refused = [str(source.get("title") or key) for key, source in sources.items() if key not in showable]
    if refused or not sources:
        raise ValueError(
            f"{what} is refused: it holds films of {', '.join(refused) or 'no named source'}; "
            "real films are shown only of collections "
            f"whose terms let anybody show them ({', '.join(known)}): prepare a pool of these alone"
        )
