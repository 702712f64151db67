"""What the pages of a pool and of scores are made of: figures in sections, one style, and no external resources."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from thiscxr import __version__
from thiscxr.pixels import Pixels, encode_png
from thiscxr.report.charts import UNSHOWN

if TYPE_CHECKING:
    from thiscxr.score.memorisation import Pair


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart, or pairs of films, with a description and its numbers; the first row of `table` is its header."""

    title: str
    text: str
    drawing: "Markup | Sequence[Pair]"
    table: Sequence[Sequence[str]]
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """Figures under one heading; `name`: its anchor."""

    name: str
    title: str
    text: str
    figures: Sequence[Figure]


def templates(folder: Path, **options: Any) -> jinja2.Environment:
    """Return the templates of a folder; a fact that a page lacks is an error."""
    loader = jinja2.FileSystemLoader(folder)
    return jinja2.Environment(loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True, **options)


def render(template: str, **facts: Any) -> str:
    """Return a self-contained page, every text escaped; template: a file beside this one."""
    folder = Path(__file__).parent
    environment = templates(folder, autoescape=True, lstrip_blocks=True)
    environment.filters["png"] = _png
    style = (folder / "page.css").read_text(encoding="utf-8")
    text = environment.get_template(template).render(
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        version=__version__,
        **facts,
    )
    return UNSHOWN.sub("\ufffd", text)


def _png(film: Pixels) -> str:
    return base64.b64encode(encode_png(film)).decode()
