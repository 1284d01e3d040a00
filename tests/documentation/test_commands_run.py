"""The commands of every page, run in their order where the files that they name are small ones.

Large is made small by words that are put in, or behind: what was said last holds. Lines of other programs than clipjax
are listed with what becomes of them.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from chat_stub import Stub, serving
from pages import PAGES, REPOSITORY, commands_in, shell_lines

from clipjax.cli.main import main

TUTORIAL = "docs/tutorial.md"
CHAT = "http://127.0.0.1:8000/v1"
ADAPTED = "adapt --method finetune --weights ViT-B-32.pt --images photos/ --classes classes.txt -o run"
CAPTIONED = (
    "texts generate --config=configs/texts.py:latteclip --set images={}.tar --set classes=classes.txt "
    f"--set weights=testbed --set writer=chat --set chat.url={CHAT} --set chat.model=m --store study/{{}}.jsonl"
)
ASSUMED = {
    "docs/choosing-a-method.md": [CAPTIONED.format("eurosat", "eurosat"), CAPTIONED.format("pacs", "pacs_cartoon")],
    "docs/export.md": [ADAPTED],
}
"""What a page takes for granted, made before its first command."""

FILES = {"weights": "testbed", "classes": "classes.txt"}
PROBLEMS = {"eurosat": FILES | {"images": "eurosat.tar"}, "pacs_cartoon": FILES | {"images": "pacs.tar"}}
TINY = {
    "preset": "null", "image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "heads": 2, "text_width": 64,
    "text_layers": 2, "text_heads": 2, "context_length": 24, "embed_dim": 40,
}  # fmt: skip
SHORT_COFT = ("least_prompt_steps=2", "prompt_epochs=1", "tune_epochs=1")
BEHIND = {
    r"^compare .*:testbed": [
        "--rows latteclip pcclip descriptions --set seeds=[1] --set rows.latteclip.settings.epochs=1",
        *(f"--set problems.{one}.{name}={file}" for one, files in PROBLEMS.items() for name, file in files.items()),
    ],
    # random towers are unsure, and believe no label of each other
    r"^adapt .*self_training": ["--set confidence=0.26"],
    r"^adapt .*coft": ["--set validation=none", *(f"--set {name}" for name in SHORT_COFT)],
    r"^train .*coft\.py": ["--config.validation=none", *(f"--config.{name}" for name in SHORT_COFT)],
    r"^compare .*problems\.mine": [
        "--rows zero_shot linear_probe_16 --set seeds=[1] --set problems.mine.labelled=true"
    ],
    r"^plan .*vit_l14": [
        "--set data.batch_size=32 --set data.caption_length=24 --set run.data=2 --set run.fsdp=2",
        *(f"--set data.architecture.{name}={value}" for name, value in TINY.items()),
    ],
    r"^texts generate .*:differences": ["--set pairs=60"],
    r"^train .*(pretrain|recipe)\.py": ["--config.steps=2"],
    r"^train .*pretrain\.py:images": ["--config.data.batch_size=32"],
    r"^train .*pcclip\.py": ["--config.epochs=1"],
    # in batches as large as embeddings are wide, which the released steps want
    r"^train .*latteclip\.py": ["--config.steps=2 --config.optimizer.warmup=1 --config.batch_size=16"],
    r"^(adapt|fewshot) .*(coop|aape)": ["--set epochs=1"],
}
WITHIN = {r"--topology=v\w+:[\dx]+": "--topology=cpu:4", '"rows": 256': '"rows": 32'}
ELSEWHERE = {
    r"clipjax quickstart|pip install [^;|&]*(&& (clipjax quickstart|pytest -n 2))?": "the README's in .ci/run",
    r"clipjax serve [^;|&]*|curl [^;|]*": "test_service.py",
    r"python -m benchmarks[^;|&]*": "most take hours; test_commands_parsed.py reads their options",
    r"(\w+=('.*'|\".*\"|\S+) +)*launch/\w+\.sh .*|[A-Z]+='[^']*'": "tests/launch; of pods, with stand-ins",
    r"[A-Z]+=\S+|python3\.12 -m venv .*|(docker|FROM|COPY|WORKDIR|RUN|xpk|--bucket.*) .*|DOCKER": "needs a cloud",
}
QUICK_BENCHMARKS = {
    "benchmarks --list": "",
    "benchmarks.fewshot --work few --signs": "",
    "benchmarks.decoding": "--tokens 4 --batch 2",
}
WITH_TEST_DATA = ("docs/benchmarks.md",)


@pytest.fixture(scope="module")
def chat():
    with serving(Stub()) as stub:
        yield stub.url


def made_small(command, chat):
    """Return a command's words with what makes it small."""
    for pattern, small in {**WITHIN, CHAT: chat}.items():
        command = re.sub(pattern, small, command)
    behind = " ".join(word for pattern, words in BEHIND.items() if re.search(pattern, command) for word in words)
    return [*shlex.split(os.path.expandvars(command)), *shlex.split(behind)]


def run(words):
    """Run a command here, or, since it chooses how many devices there are, a plan in a process of its own."""
    if words[0] != "plan":
        return main(words)
    program = "import sys; from clipjax.cli.main import main; sys.exit(main())"
    return subprocess.run([sys.executable, "-c", program, *words], timeout=600).returncode


def is_run_elsewhere(line):
    return any(re.fullmatch(pattern, line) for pattern in ELSEWHERE)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page != TUTORIAL and any(commands_in(page))])
def test_commands_work_in_their_order(page, here, chat, capfd, request, monkeypatch):
    if page in WITH_TEST_DATA:
        monkeypatch.setenv("CLIPJAX_TEST_DATA", str(request.getfixturevalue("shared_data")))
    commands = [shlex.join(words) for words in commands_in(page)]
    for command in [*ASSUMED.get(page, []), *(c for c in commands if not is_run_elsewhere(f"clipjax {c}"))]:
        words = made_small(command, chat)
        assert run(words) == 0, (shlex.join(words), capfd.readouterr().err)


@pytest.mark.slow
def test_the_tutorial_ends_with_what_it_promises(here, chat, capfd):
    shutil.rmtree("photos")
    Path("inbox").rename("photos")  # no class folders, no labels
    for words in commands_in(TUTORIAL):
        assert run(words) == 0, (shlex.join(words), capfd.readouterr().err)
    made = {"before.csv", "after.csv", "report.html", "for-torch", "for-openclip", "program", "run", "run-upl"}
    assert made <= {path.name for path in here.iterdir()}
    assert len(Path("after.csv").read_text().splitlines()) == 1 + len(list(Path("photos").iterdir()))


@pytest.mark.parametrize("page", PAGES)
def test_lines_of_other_programs_are_known(page):
    others = [line for line in shell_lines(page) if line.strip() and not re.match(r"#|clipjax [^;|&]*$", line)]
    assert [line for line in others if not is_run_elsewhere(line)] == []


@pytest.mark.slow
def test_processes_of_one_machine_work_together_as_the_page_says(here):
    (line,) = [line for line in shell_lines("docs/pods.md") if line.startswith("launch/local.sh ")]
    variables = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(["bash", "-euc", f"{line} --config.epochs=1"], env=variables, check=True, timeout=600)
    assert (here / "runs/two-processes/model/classifier.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("start", QUICK_BENCHMARKS)
def test_benchmarks_that_take_seconds_end(start, here):
    (line,) = [line for page in PAGES for line in shell_lines(page) if line.startswith(f"python -m {start}")]
    words = [*shlex.split(line, comments=True)[1:], *QUICK_BENCHMARKS[start].split()]
    variables = os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(REPOSITORY)])}
    assert subprocess.check_output([sys.executable, *words], env=variables, timeout=600)
