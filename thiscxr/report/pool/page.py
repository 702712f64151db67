"""The facts of `describe` as one HTML page that needs nothing else: no script, no request, no film; the same facts give
the same bytes.

Texts come from files of others, so all of them go through autoescape. What a chart shows stands as a table under it.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from thiscxr import __version__
from thiscxr.files import atomic_path
from thiscxr.report.pool.figures import sections
from thiscxr.report.pool.text import overview

# no text, or turns it around
_UNSHOWN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def write_page(path: Path, facts: Mapping[str, Any]) -> None:
    """Write the dict of `describe_pool` or `describe_sources` as an HTML file, whole or not at all."""
    text = page(facts)
    with atomic_path(Path(path)) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


def page(facts: Mapping[str, Any]) -> str:
    """Return the page; facts: as above, also when they went through JSON."""
    sources = {key: source for key, source in facts["sources"].items() if source["kept"]["films"]}
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (folder / "page.css").read_text(encoding="utf-8")
    text = environment.get_template("page.html").render(
        facts={"pool": None, "rejected": {}, "duplicates": None, "warnings": [], **facts},
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        overview=[
            ["", *facts["sources"], *(["all"] if len(facts["sources"]) > 1 else [])],
            *overview(facts["sources"], sparks=False),
        ],
        sections=sections(sources),
        version=__version__,
    )
    return _UNSHOWN.sub("\ufffd", text)
