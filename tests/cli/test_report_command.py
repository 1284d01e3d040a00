"""`clipjax report` on what `clipjax adapt` leaves, and what a run remembers for it."""

import json
import shutil
from pathlib import Path

import pytest

from clipjax.cli.problem_files import ProblemFiles, open_problem
from clipjax.data.source import UNKNOWN
from clipjax.evaluation.run_record import read_run
from clipjax.progress import silent


@pytest.fixture(scope="module")
def adapted(tmp_path_factory, checkpoint, pictures):
    """A run that is quickly over, measured on other pictures."""
    from clipjax.cli.main import main

    run = tmp_path_factory.mktemp("report") / "run"
    flags = ["--weights", checkpoint, "--images", pictures / "train", "--test", pictures / "test", "-o", run]
    assert main(["adapt", "--method", "zero_shot", *map(str, flags)]) == 0
    return run


def test_a_run_is_one_page_with_its_command(adapted, clipjax, tmp_path):
    done = clipjax("report", adapted, "-o", tmp_path / "page.html", "--json")
    assert done.status == 0, done.err
    (found,) = done.json["runs"]
    assert (found["method"], found["finished"], found["remarks"]) == ("zero_shot", True, [])
    assert found["top1"]["after"] == json.loads((adapted / "accuracy.json").read_text())["after"]["top1"]
    page = (tmp_path / "page.html").read_text()
    assert "clipjax adapt --method zero_shot" in page


def test_the_run_remembers_its_start_and_its_end(adapted):
    start, end = read_run(adapted).sessions
    assert start["command"][:2] == ["clipjax", "adapt"] and start["problem"]["images"].endswith("train")
    assert {"python", "jax", "flax"} <= start["versions"].keys()
    assert end["event"] == "done" and end["seconds"] > 0 and end["peak_memory_mb"] > 10


def test_what_both_classifiers_say_agrees_with_the_measurement(adapted):
    record = read_run(adapted)
    for when, best in (("before", record.predictions.before), ("after", record.predictions.after)):
        share = 100 * (best == record.predictions.labels).mean()
        assert share == pytest.approx(record.accuracy[when]["top1"])


def test_hidden_labels_are_kept_from_the_problem_and_known_to_the_report(checkpoint, pictures, tmp_path):
    names = sorted(folder.name for folder in (pictures / "train").iterdir())
    opened = open_problem(ProblemFiles(str(checkpoint), str(pictures / "train")), silent)
    assert [names[label] for label in opened.hidden] == [Path(name).parts[0] for name in opened.problem.images.ids]
    assert set(opened.problem.unlabelled.labels) == {UNKNOWN}
    (tmp_path / "flat").mkdir()
    for number, path in enumerate((pictures / "train").rglob("*.png")):
        shutil.copy(path, tmp_path / "flat" / f"{number}.png")
    (tmp_path / "classes.txt").write_text("\n".join(names))
    flat = ProblemFiles(str(checkpoint), str(tmp_path / "flat"), classes=str(tmp_path / "classes.txt"))
    assert open_problem(flat, silent).hidden is None


def test_a_failed_run_is_reported_with_its_reason(checkpoint, pictures, clipjax, tmp_path):
    flags = ("--weights", checkpoint, "--images", pictures / "train", "-o", tmp_path / "run")
    assert clipjax("adapt", "--method", "finetune", "--set", "batch_size=64", *flags).status == 2
    done = clipjax("report", tmp_path / "run", "-o", tmp_path / "page.html")
    assert (done.status, "it failed: " in done.err) == (0, True)
    assert "This run has not ended" in (tmp_path / "page.html").read_text()


def test_mistakes_are_one_line(adapted, clipjax, complains, tmp_path):
    complains(clipjax("report", tmp_path, "-o", tmp_path / "page.html"), "holds no run of clipjax")
    complains(clipjax("report", adapted.parent, "-o", tmp_path / "page.html"), "it holds runs (run), name them")
    (tmp_path / "there.html").write_text("mine")
    complains(clipjax("report", adapted, "-o", tmp_path / "there.html"), "exists already")
    assert (tmp_path / "there.html").read_text() == "mine"
