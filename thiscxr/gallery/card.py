"""A model card's Markdown as HTML: headings, paragraphs, lists, tables, code, bold and links; everything else is shown as it is written.

Every character goes through `escape`, so a card can say anything and do nothing. Links lead only to http(s) addresses.
"""

import re
from itertools import groupby
from pathlib import Path

from markupsafe import Markup, escape

_INLINE = re.compile(
    r"`(?P<code>[^`]+)`|\*\*(?P<bold>.+?)\*\*|\*(?P<emphasis>[^*\s][^*]*)\*"
    r"|\[(?P<text>[^\]]+)\]\((?P<link>[^)\s]+)\)|<(?P<url>https?://[^>\s]+)>"
)
_BLOCKS = ((r"```", "code"), (r"#{1,6} ", "heading"), (r"\s*[-*] ", "item"), (r"\s*\|", "row"), (r"\s*$", "gap"))


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
    """Return the card as HTML, its highest heading an h3 (it stands inside a section of a page)."""
    blocks: list[tuple[str, list[str]]] = []
    fenced = False
    for line in text.splitlines():
        kind = next((name for pattern, name in _BLOCKS if re.match(pattern, line)), "text")
        if kind == "code":
            fenced = not fenced
            blocks.append(("fence" if fenced else "gap", []))
        elif fenced:
            blocks[-1][1].append(line)
        elif kind == "text" and blocks and blocks[-1][0] in ("text", "item"):
            blocks[-1][1].append(line.strip())
        else:
            blocks.append((kind, [line.strip()]))
    parts: list[Markup] = []
    for kind, group in groupby(blocks, lambda block: block[0]):
        parts += _block(kind, [lines for _, lines in group])
    return Markup("\n").join(parts)


def _block(kind: str, blocks: list[list[str]]) -> list[Markup]:
    """Return the HTML of neighbouring blocks of one kind."""
    texts = [" ".join(lines) for lines in blocks]
    if kind == "heading":
        marks = [min(6, 2 + len(text) - len(text.lstrip("#"))) for text in texts]
        return [Markup("<h{0}>{1}</h{0}>").format(mark, _inline(text.lstrip("# "))) for mark, text in zip(marks, texts, strict=True)]
    if kind == "item":
        return [Markup("<ul>{}</ul>").format(Markup("").join(Markup("<li>{}</li>").format(_inline(text[2:])) for text in texts))]
    if kind == "row":
        rows = [[cell.strip() for cell in text.strip("|").split("|")] for text in texts if not re.fullmatch(r"[|\s:-]+", text)]
        lines = [
            Markup("<tr>{}</tr>").format(Markup("").join(Markup("<{0}>{1}</{0}>").format(tag, _inline(cell)) for cell in row))
            for tag, row in zip(["th", *["td"] * len(rows)], rows, strict=False)
        ]
        return [Markup('<table class="plain">{}</table>').format(Markup("").join(lines))]
    if kind == "fence":
        return [Markup("<pre><code>{}</code></pre>").format("\n".join(lines)) for lines in blocks]
    return [Markup("<p>{}</p>").format(_inline(text)) for text in texts] if kind == "text" else []


def _inline(text: str) -> Markup:
    parts, at = [], 0
    for match in _INLINE.finditer(text):
        parts += [escape(text[at : match.start()]), _span(match)]
        at = match.end()
    return Markup("").join([*parts, escape(text[at:])])


def _span(match: re.Match[str]) -> Markup:
    said = match.groupdict()
    if said["code"]:
        return Markup("<code>{}</code>").format(said["code"])
    if said["bold"]:
        return Markup("<strong>{}</strong>").format(_inline(said["bold"]))
    if said["emphasis"]:
        return Markup("<em>{}</em>").format(_inline(said["emphasis"]))
    link = said["url"] or (said["link"] if re.match(r"https?://", said["link"]) else "")
    words = said["text"] or said["url"]
    return Markup('<a href="{}" rel="noreferrer">{}</a>').format(link, words) if link else escape(words)  # a path means nothing here
