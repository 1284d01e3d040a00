"""The pages of the documentation, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = {
    str(page.relative_to(REPOSITORY)): page
    for pattern in ("*.md", "docs/**/*.md", "configs/*.md", "launch/*.md")
    for page in sorted(REPOSITORY.glob(pattern))
}


def shell_lines(page: str) -> Iterator[str]:
    """Yield the lines of a page's shell blocks, continued ones joined."""
    text = PAGES[page].read_text(encoding="utf-8")
    for block in re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield from block.replace("\\\n", " ").splitlines()


def commands_in(page: str) -> Iterator[list[str]]:
    """Yield the clipjax commands of a page, as words without the first."""
    for line in shell_lines(page):
        command = re.match(r"(?:pip install [^&]*&& )?clipjax (.*)", line)
        if command:
            yield shlex.split(command[1], comments=True)
