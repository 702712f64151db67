"""Films with known counts, as pools, releases and facts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thiscxr.labels import FilmRecord, Terms
from thiscxr.pixels import save_png
from thiscxr.pool.writer import PoolWriter
from thiscxr.report import pool as describe
from thiscxr.report.pool import facts as describe_facts

TERMS = Terms("A title", "Some terms.", "A citation.", "https://example.org", "Thanks.")
HOSTILE = "<script>alert(1)</script>&\"'\x1b[31m"


def pixels(seed: int) -> np.ndarray:
    return np.clip(np.random.default_rng(seed).normal(100, 40, (32, 32)), 0, 255).astype(np.uint8)


def film(number: int, **changes: Any) -> FilmRecord:
    """Four films of two patients each ten years; half have Effusion, evenly over views and sexes; Mass comes with every
    other of them."""
    effusion = number // 4 % 2
    findings = {"Effusion": effusion, "Mass": effusion & (number // 8 % 2), "Edema": -2}
    record = {
        "patient": str(number // 2),
        "study": str(number),
        "view": ("PA", "AP")[number % 2],
        "sex": "MF"[number // 2 % 2],
        "age_years": float(10 * (number // 4 % 9)),
        "findings": findings,
        "labeler": "reader",
    }
    return FilmRecord(str(number), str(number), **{**record, **changes})


def write_pool(
    path: Path, *sources: tuple[str, list[FilmRecord]], terms: Terms = TERMS, options: dict[str, Any] | None = None
) -> Path:
    options = options or {"views": "default", "aspect": "released"}
    with PoolWriter(path, 32, 8, {key: terms for key, _ in sources}, b"k" * 16, options) as writer:
        for place, (key, films) in enumerate(sources):
            for number, record in enumerate(films):
                writer.add(key, record, pixels(1000 * place + number), (3000, 2500, 12), inverted=number == 0)
    return path


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of the same films from two sources, for all tests: who changes it takes a copy."""
    films = [film(number) for number in range(144)]
    return write_pool(tmp_path_factory.mktemp("two") / "pool", ("here", films), ("there", films))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A folder of eight films with a table; film 3 is broken, film 4 is missing, film 5 is lateral."""
    root = tmp_path / "films"
    rows = ["file_name,patient,view,sex,age_years,Effusion"]
    for number in range(8):
        view = "lateral" if number == 5 else "PA"
        rows.append(f"{number}.png,{number // 2},{view},F,{30 + number},{number % 2}")
        if number != 4:
            save_png(root / f"{number}.png", np.tile(pixels(number), (2, 1)))
    (root / "3.png").write_bytes((root / "3.png").read_bytes()[:-20])
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return root


def facts_of(**sources: list[FilmRecord]) -> dict[str, Any]:
    """Facts as of label files alone, without warnings, which is what the tests of warnings start from."""
    described = {}
    for key, films in sources.items():
        kept = describe._kept_facts(describe_facts.film_table(key, films))
        described[key] = {**kept, "dropped": {}, "release": {"squashed": False, "equalised": []}, "terms": {}}
    return {"sources": described}


def plain() -> dict[str, Any]:
    return facts_of(here=[film(number) for number in range(144)], there=[film(number) for number in range(144)])


def changed(**change: Any) -> dict[str, Any]:
    """The plain facts with some of one source's changed."""
    facts = plain()
    facts["sources"]["here"] |= change
    return facts


def only(key: str, value: Any, numbers: Any = range(144)) -> dict[str, Any]:
    """The plain facts with one field of the films of one source changed."""
    return facts_of(
        here=[film(n, **({key: value(n)} if n in numbers else {})) for n in range(144)],
        there=[film(n) for n in range(144)],
    )


def flat(unevenness: float) -> dict[str, Any]:
    return {"films": 9, "of": 9, "refused": {}, "histogram": [1 / 64] * 64, "mean": 0.5, "unevenness": unevenness}
