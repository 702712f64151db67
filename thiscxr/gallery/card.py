"""A model card's Markdown as HTML: raw HTML in it is escaped, and only links to http(s) addresses stay."""

import re
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup


def find_card(network: Path | None) -> Path | None:
    """Return the card that lies beside a network file: the same name, .md."""
    return network.with_suffix(".md") if network is not None and network.with_suffix(".md").is_file() else None


def read_card(path: Path | None) -> Markup:
    """Return the card in the file `path` as HTML, "" for None. Raises ValueError when it cannot be read as text."""
    if path is None:
        return Markup()
    try:
        return card_html(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the model card {path} cannot be read ({error}); expected a Markdown file in UTF-8") from None


def card_html(text: str) -> Markup:
    """Return the card as HTML, its highest heading an h3 (it stands inside a section of a page). HTML in it is
    escaped."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    # YAML front matter for a model hub
    tokens = reader.parse(re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 2)}"
        elif token.type == "table_open":
            token.attrSet("class", "plain")
        if token.children:
            token.children = _without_paths(token.children)
    return Markup(reader.renderer.render(tokens, reader.options, {}))


def _without_paths(tokens: list[Token]) -> list[Token]:
    """Return inline tokens without links to files beside the card, which are not beside the page; their text stays."""
    kept, inside = [], []
    for token in tokens:
        if token.type == "image":
            kept += token.children or []
        elif token.type == "link_open":
            inside.append(str(token.attrGet("href")).startswith(("http://", "https://")))
            token.attrSet("rel", "noreferrer")
            kept += [token] * inside[-1]
        elif token.type == "link_close":
            kept += [token] * inside.pop()
        else:
            kept.append(token)
    return kept
