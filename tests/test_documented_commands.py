"""Commands in the documentation: all can be parsed, their settings exist, and those of the tutorial are run in order.

A page whose commands are not run here is in `NOT_RUN`, with the reason.
"""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_models import small_clip

from clipjax.cli.adapt import nested
from clipjax.cli.comparison_cells import cells_of
from clipjax.cli.config_files import merged, read_config
from clipjax.cli.main import build_parser, main
from clipjax.cli.pretrain_files import PretrainFiles
from clipjax.cli.problem_files import ProblemFiles
from clipjax.cli.run_settings import RunSettings
from clipjax.cli.texts.questions import TextFiles
from clipjax.cli.texts.writers import WriterSettings
from clipjax.cli.train import main as train
from clipjax.methods import pretrain
from clipjax.methods.registry import method_named
from clipjax.models.config import TextConfig, ViTConfig
from clipjax.training.settings import from_mapping
from clipjax.weights.save import save

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md"), REPOSITORY / "configs" / "README.md"])
TUTORIAL = "docs/tutorial.md"
NOT_RUN = {
    "README.md": "needs published weights; tests/cli runs each command, and a clean environment its first lines",
    "configs/README.md": "needs published weights; tests/configs reads every configuration",
    "docs/benchmarks.md": "minutes to hours; tests/benchmarks runs the command with a stand-in",
    "docs/choosing-a-method.md": "hours; tests/cli/test_compare_command.py compares on small inputs",
    "docs/command-line.md": "needs published weights; tests/cli runs each command",
    "docs/embedded-model.md": "hours of pretraining; tests/cli/test_train_command.py trains for a few steps",
    "docs/export.md": "the tutorial has the same commands",
    "docs/methods/aape.md": "needs published weights; tests/methods and tests/cli run the method",
    "docs/methods/coft.md": "needs published weights; tests/methods run the method",
    "docs/methods/latteclip.md": "needs published weights and a chat server; tests/methods run the method",
    "docs/methods/pcclip.md": "needs a chat server; tests/cli/test_pcclip_commands.py runs the chain on small inputs",
    "docs/methods/self_training.md": "needs published weights; tests/methods run the method",
    "docs/methods/upl.md": "needs published weights; tests/methods run the method",
    "docs/pods.md": "needs a pod; tests/launch runs the scripts with stand-ins for its programs",
    "docs/reproducing.md": "needs published weights and data sets, which nobody had here",
    "docs/serving.md": "does not end; tests/cli/test_serve_command.py starts a server and stops it",
    "docs/texts.md": "needs a chat server; tests/cli/test_texts_command.py runs each command with stand-ins",
}
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


def test_commands_of_every_page_are_run_or_it_is_said_why_not():
    pages = {str(page.relative_to(REPOSITORY)) for page in PAGES if list(commands_in(page))}
    assert pages == {TUTORIAL, *NOT_RUN}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_settings_of_documented_commands_exist(page, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr("clipjax.parallel.distributed.initialize", lambda *process: None)
    monkeypatch.setattr("clipjax.cli.train.run_config", lambda config, *rest, **options: check_settings(config))
    for words in commands_in(page):
        args = build_parser().parse_args(words)
        if words[0] == "train":
            train(["clipjax train", *words[1:]])
        elif words[0] in ("adapt", "fewshot"):
            from_mapping(method_named(args.method).Config, nested(args.set))
        elif words[:2] == ["texts", "generate"]:
            settings = merged(read_config(args.config), nested(args.set))
            writer = WriterSettings.names() & settings.keys()
            from_mapping(WriterSettings, {name: settings.pop(name) for name in writer})
            from_mapping(TextFiles, {name: value for name, value in settings.items() if name != "budget"})
        elif words[0] == "compare":
            assert cells_of(merged(read_config(args.config), nested(args.set)), Path("comparison"))


def check_settings(config):
    """Read all parts of a configuration as `clipjax train` does, and open nothing."""
    method = config.pop("method")
    from_mapping(RunSettings, config.pop("run"), "run.")
    if method == "pretrain":
        from_mapping(PretrainFiles, config.pop("data"), "data.")
        from_mapping(pretrain.Config, config)
    else:
        from_mapping(ProblemFiles, config.pop("problem"), "problem.")
        from_mapping(method_named(method).Config, config)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_documented_benchmarks_exist_and_know_their_options(page):
    shared = (REPOSITORY / "benchmarks" / "engine_step.py").read_text(encoding="utf-8")
    said = re.findall(r"python -m benchmarks(\.\w+)?([^`\n]*)", page.read_text(encoding="utf-8").replace("\\\n", " "))
    for module, rest in said:
        program = REPOSITORY / "benchmarks" / f"{module.lstrip('.') or '__main__'}.py"
        text = program.read_text(encoding="utf-8") + shared
        options = re.findall(r"--[a-z-]+", rest.partition("#")[0])
        assert [option for option in options if f'"{option}"' not in text] == []


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
    commands = list(commands_in(REPOSITORY / TUTORIAL))
    assert len(commands) > 9
    for words in commands:
        assert main(words) == 0, (words, capsys.readouterr().err)
    made = {"before.csv", "after.csv", "report.html", "for-torch", "for-openclip", "program", "run", "run-upl"}
    assert made <= {path.name for path in tmp_path.iterdir()}
    assert len(Path("after.csv").read_text().splitlines()) == 73
