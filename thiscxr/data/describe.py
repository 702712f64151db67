"""What is inside a pool, or inside collections before preparing them, in numbers.

The dict of `describe_sources` is a contract (docs/formats.md); `describe_text` is for people and promises nothing.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thiscxr.data import labels
from thiscxr.data.labels import FINDINGS, STATES, VIEWS, FilmRecord
from thiscxr.data.pool import Pool
from thiscxr.data.prepare import check_sources, check_views, select_films
from thiscxr.data.sources import COLLECTIONS


def _facts(patients: Iterable[str], studies: Iterable[str], views: Sequence[str], sexes: Iterable[str], states: Any) -> dict[str, Any]:
    """Return the counts of one set of films. states: int [n,21]."""
    matrix = np.asarray(states, np.int64).reshape(-1, len(FINDINGS))
    return {
        "films": len(views),
        "patients": len(set(patients)),
        "studies": len(set(studies)),
        "views": dict(sorted(Counter(views).items(), key=lambda item: VIEWS.index(item[0]))),
        "sexes": dict(sorted(Counter(sexes).items())),
        "findings": {
            name: {word: int((matrix[:, column] == state).sum()) for state, word in STATES.items()} for column, name in enumerate(FINDINGS)
        },
    }


def _record_facts(films: Sequence[FilmRecord]) -> dict[str, Any]:
    return _facts(
        [film.patient for film in films],
        [film.study for film in films],
        [film.view for film in films],
        [film.sex for film in films],
        [film.states() for film in films],
    )


def describe_sources(
    sources: Sequence[tuple[str, Path]], views: Sequence[str] | None = None, labels_only: bool = False, derive: bool = False
) -> dict[str, Any]:
    """Return {"sources": {key: {"released", "kept", "dropped"}}}: every row, what `prepare` would take, and why not the others.

    labels_only: read only the label files, so that films are not missed when they are not there.
    Raises ValueError as `prepare` does.
    """
    sources = [(key, Path(root)) for key, root in sources]
    check_views(views)
    check_sources(sources)
    described: dict[str, Any] = {}
    for key in dict.fromkeys(key for key, _ in sources):
        released: list[FilmRecord] = []
        kept: dict[str, FilmRecord] = {}
        dropped: Counter[str] = Counter()
        for root in (root for source, root in sources if source == key):
            collection = COLLECTIONS[key]
            films = collection.read_labels(root)
            taken, missed = select_films(collection, films, None if labels_only else collection.find_files(root), views)
            released += films
            dropped.update(missed)
            dropped.update("listed twice" for film in taken if film.film in kept)
            kept = {**{film.film: film for film in taken}, **kept}
        chosen = list(kept.values())
        if derive:
            chosen = [labels.with_derived(film) for film in chosen]
        described[key] = {"released": _record_facts(released), "kept": _record_facts(chosen), "dropped": dict(sorted(dropped.items()))}
    return {"sources": described}


def describe_pool(path: Path) -> dict[str, Any]:
    """Return {"pool": {...}, "sources": {key: {"kept"}}, "rejected": {reason: count}}, with the counts of `describe_sources`.

    Raises ValueError when `path` is not a pool.
    """
    pool = Pool.open(path)
    names = ("patient", "study", "view", "sex")
    described = {}
    for key in pool.meta["sources"]:
        films = np.flatnonzero(pool.column("source") == key)
        patients, studies, views, sexes = (pool.column(name)[films].tolist() for name in names)
        described[key] = {"kept": _facts(patients, studies, views, sexes, pool.findings[films])}
    rejected: Counter[str] = Counter()
    if (pool.path / "rejected.csv").is_file():
        with open(pool.path / "rejected.csv", encoding="utf-8", newline="") as file:
            rejected.update(row["reason"] for row in csv.DictReader(file))
    head = {name: pool.meta[name] for name in ("resolution", "bits", "fingerprint", "counts", "options")}
    return {"pool": head, "sources": described, "rejected": dict(rejected.most_common())}


def describe_text(facts: dict[str, Any]) -> str:
    """Return the dict of either function above as aligned tables."""
    lines = []
    if "pool" in facts:
        pool = facts["pool"]
        counts = pool["counts"]
        lines.append(
            f"pool of {counts['films']:,} films, {counts['patients']:,} patients, {pool['resolution']} px, {pool['bits']} bits; "
            f"train {counts['train']:,}, holdout {counts['holdout']:,}; fingerprint {pool['fingerprint'][:16]}"
        )
    for key, parts in facts["sources"].items():
        lines += ["", key]
        for part in ("released", "kept"):
            if part in parts:
                one = parts[part]
                views = ", ".join(f"{name} {count:,}" for name, count in one["views"].items())
                sexes = ", ".join(f"{name} {count:,}" for name, count in one["sexes"].items())
                lines.append(f"  {part:9}{one['films']:>9,} films {one['patients']:>8,} patients  {views}; {sexes}")
        lines += [f"  dropped  {count:>9,} ({reason})" for reason, count in parts.get("dropped", {}).items()]
        shown = {name: states for name, states in parts["kept"]["findings"].items() if states["not_annotated"] < parts["kept"]["films"]}
        if shown:
            lines.append(f"  {'finding':27}" + "".join(f"{word.replace('_', ' '):>15}" for word in STATES.values()))
            lines += [f"  {name:27}" + "".join(f"{count:>15,}" for count in states.values()) for name, states in shown.items()]
    lines += [f"refused {count:>9,} ({reason})" for reason, count in facts.get("rejected", {}).items()]
    return "\n".join(lines).lstrip("\n")
