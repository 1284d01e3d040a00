"""What the scripts would do: their dry runs, and the commands of their pages."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from checked_settings import check_flags
from pages import blocks

from clipjax.cli.pretrain_files import Captioned

REPOSITORY = Path(__file__).resolve().parents[2]
LAUNCH = REPOSITORY / "launch"
PAGES = (LAUNCH / "README.md", REPOSITORY / "docs" / "pods.md")
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
ARGUMENTS = {
    "local": ["2", "2"],
    "gpu": [],
    "slurm": ["2", "8", "--time=1:00:00", "--comment=two words", "--"],
    "tpu": ["clip", "us-east5-a", "v5litepod-16"],
    "gke": ["cluster", "us-east5-a", "v5litepod-16", "clip"],
}
FLAGS = [
    "--config=configs/pretrain.py:images",
    """--config.data.sources=[{"images": "$HOME/my photos", "captions": "it's.csv", "rows": 8}]""",
    "--config.run.fsdp=*",
    "--workdir=/mnt/my run",
]


def words(shown):
    """The words of a command as the shell of the machine that trains will see them."""
    (line,) = [line for line in shown.splitlines() if "launch/train.py" in line][-1:]
    found = shlex.split(line)
    for word in found:
        if word.startswith("--command="):
            return shlex.split(word.removeprefix("--command="))
    return found


def flags_in(command):
    (entry,) = [number for number, word in enumerate(command) if word.endswith("launch/train.py")]
    return command[entry + 1 :]


def test_every_script_is_known_here():
    assert {script.stem for script in SCRIPTS} == ARGUMENTS.keys()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_dry_run_shows_the_entry_point_with_all_flags_as_they_were_given(script, launch):
    done = launch(script.name, "--dry-run", *ARGUMENTS[script.stem], *FLAGS, PYTHON=sys.executable)
    assert (done.returncode, done.stderr) == (0, "")
    assert flags_in(words(done.stdout))[: len(FLAGS)] == FLAGS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_without_arguments_a_script_explains_itself(script, launch):
    done = launch(script.name)
    assert done.returncode == 2
    assert f"launch/{script.name}" in done.stderr


def test_local_script_numbers_its_processes(launch):
    done = launch("local.sh", "--dry-run", "2", "3", *FLAGS, PYTHON=sys.executable, PORT=1234)
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    where = ["--coordinator=127.0.0.1:1234", "--processes=2"]
    assert [line[-3:] for line in lines] == [[*where, "--process=0"], [*where, "--process=1"]]
    assert all(line[1:3] == ["JAX_PLATFORMS=cpu", "JAX_NUM_CPU_DEVICES=3"] for line in lines)


@pytest.mark.parametrize("given", [{}, {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_one=1 --xla_two=2"}])
def test_gpu_script_does_what_its_dry_run_shows(given, launch, stand_in):
    python = stand_in(
        "python", """printf '%s\\n' env "JAX_PLATFORMS=$JAX_PLATFORMS" "XLA_FLAGS=$XLA_FLAGS" "$0" "$@" """
    )
    shown = launch("gpu.sh", "--dry-run", *FLAGS, PYTHON=python, **given)
    assert shlex.split(shown.stdout) == launch("gpu.sh", *FLAGS, PYTHON=python, **given).stdout.splitlines()
    for name, value in ({"JAX_PLATFORMS": "cuda"} | given).items():
        assert any(word.startswith(f"{name}=") and word.endswith(value) for word in shlex.split(shown.stdout))


def test_gpu_script_ends_with_the_status_of_the_run(launch, stand_in):
    assert launch("gpu.sh", *FLAGS, PYTHON=stand_in("python", "exit 75")).returncode == 75


def documented_commands(page):
    """A page's calls of scripts, each with the variables that are set before it, as dry runs."""
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
        lines = re.sub(r"\\\n", " ", block).splitlines()
        variables = [line for line in lines if re.fullmatch(r"[A-Z]+=('[^']*'|\S*)", line)]
        for line in lines:
            if re.search(r"launch/\w+\.sh", line):
                yield "\n".join([*variables, re.sub(r"(launch/\w+\.sh)", r"\1 --dry-run", line)])


@pytest.mark.parametrize(
    "command",
    [command for page in PAGES for command in documented_commands(page)],
    ids=lambda command: re.findall(r"launch/(\w+)", command)[0],
)
def test_documented_commands_say_what_to_train_on(command, environment, monkeypatch):
    command = ["bash", "-euc", command]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, env=environment(PORT=1234))
    assert done.returncode == 0, done.stderr
    given = flags_in(words(done.stdout))
    flags = dict(flag.split("=", 1) for flag in given)
    path, _, name = flags["--config"].partition(":")
    assert (REPOSITORY / path).is_file()
    if path != "configs/pretrain.py":
        assert {"--config.problem.weights", "--config.problem.images"} <= flags.keys()
    elif name != "glyphs":
        parts = [Captioned(**part) for part in ast.literal_eval(flags["--config.data.sources"])]
        assert parts and all(part.captions for part in parts)
    monkeypatch.chdir(REPOSITORY)
    check_flags([flag for flag in given if not re.match("--(coordinator|process)", flag)], monkeypatch)


def test_what_every_command_needs_are_flags_of_train(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    (needed,) = [block for block in blocks("docs/pods.md", "text") if block.startswith("--config=")]
    check_flags(shlex.split(needed), monkeypatch)


def test_readme_shows_every_script():
    shown = {re.findall(r"launch/(\w+)", command)[0] for command in documented_commands(PAGES[0])}
    assert shown == ARGUMENTS.keys()
