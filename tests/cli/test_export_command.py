"""`clipjax export` on a run, with what its card says of the run."""

import json
import re
from pathlib import Path

import pytest

from clipjax.methods.registry import METHODS
from clipjax.weights.load import load

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, checkpoint, pictures):
    """A measured run on unlabelled pictures."""
    from clipjax.cli.main import main

    run = tmp_path_factory.mktemp("export") / "my run"
    flags = ["--weights", checkpoint, "--images", pictures / "train", "--test", pictures / "test", "-o", run]
    assert main(["adapt", "--method", "zero_shot", *map(str, flags)]) == 0
    return run


@pytest.mark.parametrize("format", ["huggingface", "openclip", "stablehlo"])
def test_a_run_is_exported_with_what_it_is_made_of(format, adapted, clipjax, tmp_path):
    done = clipjax("export", adapted, "-o", tmp_path / "out", "--format", format, "--license", "apache-2.0", "--json")
    assert done.status == 0, done.err
    assert done.json["format"] == format
    card = (tmp_path / "out/README.md").read_text()
    assert f"clipjax adapt --method zero_shot --weights {adapted.parent.parent}" in card.replace("'", "")
    measured = json.loads((adapted / "accuracy.json").read_text())["after"]
    assert f"| this model | {measured['top1']:.2f} |" in card
    assert 'license: "apache-2.0"' in card and "without labels" in card


def test_a_lone_model_is_exported_without_the_run_around_it(adapted, clipjax, tmp_path):
    import shutil

    shutil.copytree(adapted / "model", tmp_path / "alone/model")
    assert clipjax("export", tmp_path / "alone/model", "-o", tmp_path / "out").status == 0
    assert load(tmp_path / "out")[0] == load(adapted / "model")[0]
    assert "Not measured" in (tmp_path / "out/README.md").read_text()


def test_mistakes_are_one_line_and_leave_nothing(adapted, clipjax, complains, tmp_path):
    complains(clipjax("export", tmp_path, "-o", tmp_path / "out"), "holds no classifier")
    (tmp_path / "there").mkdir()
    complains(clipjax("export", adapted, "-o", tmp_path / "there"), "exists already")
    complains(clipjax("export", adapted, "-o", adapted, "--overwrite"), "which is read here")
    complains(clipjax("export", adapted, "-o", adapted / "model", "--overwrite"), "which is read here")
    assert not (tmp_path / "out").exists() and (adapted / "model/classifier.json").is_file()


@pytest.mark.parametrize("format", ["huggingface", "stablehlo"])
def test_whatever_a_command_holds_is_text_in_the_card(format, adapted, clipjax, tmp_path):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(adapted, run)
    odd = ["clipjax", "adapt", "--images", "a\n```\n# Injected\n", "caf\udce9"]
    lines = [json.loads(line) for line in (run / "sessions.jsonl").read_text().splitlines()]
    changed = [{**line, "command": odd, "problem": {"images": odd[3]}} for line in lines]
    (run / "sessions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
    assert clipjax("export", run, "-o", tmp_path / "out", "--format", format).status == 0
    card = (tmp_path / "out/README.md").read_text()
    assert "````text\nclipjax adapt" in card and "'caf?'" in card


def test_the_table_of_what_can_be_exported_speaks_of_methods_that_there_are():
    table = (DOCS / "export.md").read_text()
    rows = re.findall(r"^\| `(\w+)`", table, re.MULTILINE)
    assert len(set(rows)) > 5 and set(rows) <= set(METHODS)
