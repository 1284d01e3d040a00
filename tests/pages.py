"""The pages of the documentation, and the commands and programs in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = {
    str(page.relative_to(REPOSITORY)): page
    for pattern in ("*.md", "docs/**/*.md", "configs/*.md", "launch/*.md")
    for page in sorted(REPOSITORY.glob(pattern))
}


def text_of(page: str) -> str:
    return PAGES[page].read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """List a page's blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL)


def shell_lines(page: str) -> Iterator[str]:
    """Yield the lines of a page's shell blocks, continued ones joined."""
    for block in blocks(page, "bash"):
        yield from block.replace("\\\n", " ").splitlines()


def commands_in(page: str) -> Iterator[list[str]]:
    """Yield the clipjax commands of a page, as words without the first."""
    for line in shell_lines(page):
        command = re.match(r"(?:pip install [^&]*&& )?clipjax (.*)", line)
        if command:
            yield shlex.split(command[1], comments=True)


def mentioned_in(page: str) -> list[list[str]]:
    """List the clipjax commands within a page's sentences, which may be abbreviated."""
    prose = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    return [shlex.split(words) for words in re.findall(r"`clipjax ([^`]+)`", prose)]
