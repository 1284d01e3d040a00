"""Commands in the documentation: all can be parsed, and those of the tutorial are run in order on small inputs."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_models import small_clip

from clipjax.cli.main import build_parser, main
from clipjax.models.config import TextConfig, ViTConfig
from clipjax.weights.save import save

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md"), REPOSITORY / "configs" / "README.md"])
COLOURS = {"red panda": (200, 30, 30), "green tree": (30, 200, 30), "blue sky": (30, 30, 200)}


def commands_in(page):
    """The clipjax commands of a page's shell blocks, as words; those that are shortened by "..." are left out."""
    for block in re.findall(r"^```bash\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                words = shlex.split(part, comments=True)
                if words[:1] == ["clipjax"] and "..." not in words:
                    yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_documented_command_can_be_parsed(page, capsys):
    parser = build_parser()
    for words in commands_in(page):
        try:
            parser.parse_args(words)
        except SystemExit:
            pytest.fail(f"clipjax {shlex.join(words)}: {capsys.readouterr().err}")


def write_pictures(folder, names, count, seed):
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names * count):
        pixels = np.clip(random.normal(COLOURS[name], 40, (18, 20, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.mark.slow
def test_the_tutorial_s_commands_work_in_their_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    vision = ViTConfig(image_size=16, patch_size=8, width=64, layers=1, heads=1, mlp_width=256)
    text = TextConfig(49408, 16, width=64, layers=1, heads=1, mlp_width=256, end_of_text="largest")
    save("ViT-B-32.pt", *small_clip(vision, text), "openai-state-dict")
    Path("classes.txt").write_text("\n".join(COLOURS) + "\n")
    write_pictures(Path("photos"), list(COLOURS), 24, seed=1)
    for seed, name in enumerate(COLOURS, 2):
        write_pictures(Path("labelled") / name, [name], 3, seed)
    commands = list(commands_in(REPOSITORY / "docs" / "tutorial.md"))
    assert len(commands) > 9
    for words in commands:
        assert main(words) == 0, (words, capsys.readouterr().err)
    made = {"before.csv", "after.csv", "report.html", "for-torch", "for-openclip", "program", "run", "run-upl"}
    assert made <= {path.name for path in tmp_path.iterdir()}
    assert len(Path("after.csv").read_text().splitlines()) == 73
