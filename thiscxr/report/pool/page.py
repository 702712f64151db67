"""The facts of `describe` as one HTML page that needs nothing else: no script, no request, no film; the same facts give
the same bytes.

Texts come from files of others, so all of them go through autoescape. What a chart shows stands as a table under it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thiscxr.files import write_file
from thiscxr.report.page import render
from thiscxr.report.pool.figures import sections
from thiscxr.report.pool.text import overview


def write_page(path: Path, facts: Mapping[str, Any]) -> None:
    """Write the dict of `describe_pool` or `describe_sources` as an HTML file, whole or not at all."""
    write_file(path, page(facts))


def page(facts: Mapping[str, Any]) -> str:
    """Return the page; facts: as above, also when they went through JSON."""
    sources = facts["sources"]
    return render(
        "pool.html",
        facts={"pool": None, "rejected": {}, "duplicates": None, "warnings": [], **facts},
        overview=[["", *sources, *(["all"] if len(sources) > 1 else [])], *overview(sources, sparks=False)],
        every=sections({key: source for key, source in sources.items() if source["kept"]["films"]}),
    )
