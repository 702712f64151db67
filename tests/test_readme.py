"""What the README tells people to type exists, and what it shows is there."""

import re
import shlex
from pathlib import Path

import click
import pytest

from thiscxr import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    """Return the thiscxr and train_gan.py lines of the shell blocks of a page, continued lines joined."""
    blocks = re.findall(r"```(?:sh|bash|console)\n(.*?)```", page.read_text(), flags=re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    lines = [line.split("  #")[0].strip().removeprefix("$ ") for line in lines]
    return [line for line in lines if line.startswith(("thiscxr ", "python train_gan.py"))]


CASES = [(page.name, line) for page in PAGES for line in commands(page)]


def test_the_pages_have_commands() -> None:
    assert len(CASES) >= 10


@pytest.mark.parametrize(("page", "line"), CASES)
def test_every_command_of_the_pages_parses(page: str, line: str) -> None:
    words = shlex.split(line)
    words = ["train", *words[2:]] if words[0] == "python" else words[1:]
    command: click.Command = cli.group
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    assert not isinstance(command, click.Group) or words in ([], ["--help"]), f"{page}: no such command: {line}"
    if "--help" not in words:
        command.make_context("thiscxr", words)  # parses flags and types, runs nothing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name}: {target} is missing"


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make (\w+)", (ROOT / "README.md").read_text())):
        assert re.search(rf"^{target}:", makefile, flags=re.M), f"make {target}"
