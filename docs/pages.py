"""What the documentation site has beside docs/*.md: the README as its first page, the cards of the networks, and a
reference by room."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PACKAGE, WEIGHTS = ROOT / "thiscxr", ROOT / "thiscxr" / "weights"
CARDS = sorted(path for path in WEIGHTS.glob("*.md") if not path.stem.endswith("-notes"))
# in the order of the table
ROOMS = re.findall(r"^\| `(.+?)` \|", (ROOT / "docs" / "architecture.md").read_text(), flags=re.M)


def modules(room: str) -> list[str]:
    """Return the names of the modules of a room of the table, such as `pixels/` or `files.py` `config.py`."""
    paths = [PACKAGE / name.strip("` ") for name in room.split("` `")]
    files = [file for path in paths for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]
    names = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in files
        if file.read_text()
    ]
    return sorted(names, key=lambda name: (name.count("."), name))


def title(room: str) -> str:
    return "ground" if "` `" in room else room.rstrip("/")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the two lists of the navigation that follow from the package."""
    lists = {
        "NETWORKS": [{card.stem: f"weights/{card.name}"} for card in CARDS],
        "REFERENCE": [{title(room): f"reference/{title(room)}.md"} for room in ROOMS],
    }
    config.nav = [
        {name: lists.get(entry, entry) if isinstance(entry, str) else entry for name, entry in part.items()}
        for part in config.nav or []
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files that do not lie in docs/."""
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text()))
    for path in [*CARDS, *(path for kind in ("csv", "json", "png") for path in WEIGHTS.glob(f"*.{kind}"))]:
        files.append(File.generated(config, f"weights/{path.name}", abs_src_path=str(path)))
    for room in ROOMS:
        text = "\n\n".join(f"::: {name}" for name in modules(room))
        files.append(File.generated(config, f"reference/{title(room)}.md", content=f"# {title(room)}\n\n{text}\n"))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links lead to where things are on the site; what is only in the repository is named, not linked."""
    uri = page.file.src_uri
    if uri == "index.md":
        markdown = markdown.replace("](docs/", "](").replace("](thiscxr/weights/", "](weights/")
        return re.sub(
            r"\[([^]]+)\]\((?!http|#)[^)]*/?(?:LICENSE|CHANGELOG\.md|CONTRIBUTING\.md|tests/[^)]*)\)", r"\1", markdown
        )
    if uri.startswith("weights/"):
        return markdown.replace("](../../docs/", "](../")
    return re.sub(r"\[([^]]+)\]\(\.\./thiscxr/(?!weights/)[^)]*\)", r"\1", markdown).replace(
        "](../thiscxr/weights/", "](weights/"
    )
