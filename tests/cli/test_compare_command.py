"""Methods side by side: which runs there are, that they are resumed, and what the tables say."""

import csv
import json
import os
import runpy
import subprocess
from pathlib import Path

import pyarrow.parquet
import pytest

from clipjax.cli.compare import locked
from clipjax.cli.comparison_cells import adapt_words, cells_of, chosen
from clipjax.cli.comparison_runs import NOTE, AtWork, _costs_of_several_sessions, result_of
from clipjax.cli.main import build_parser
from clipjax.cli.problem_files import ProblemFiles
from clipjax.evaluation.comparison import summary, write_results
from clipjax.methods.registry import METHODS, method_named
from clipjax.training.settings import from_mapping

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def config_of(checkpoint, pictures, tmp_path):
    """A function that writes a comparison with one problem and these rows, and returns its path."""

    def write(rows, **problem):
        values = {
            "weights": str(checkpoint),
            "images": str(pictures / "train"),
            "test": str(pictures / "test"),
            "labelled": True,
            **problem,
        }
        config = {"problems": {"small": values}, "rows": rows, "seeds": [1, 2], "run": {}}
        path = tmp_path / "config.py"
        path.write_text(
            f"from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({config!r})\n"
        )
        return path

    return write


def test_the_repository_s_comparison_has_every_method_and_settings_that_exist(tmp_path):
    config = runpy.run_path(str(CONFIGS / "compare.py"))["get_config"]("testbed").to_dict()
    cells = cells_of(config, tmp_path)
    assert {cell.method for cell in cells} == set(METHODS)
    assert {cell.problem for cell in cells} == {"eurosat", "pacs_cartoon"}
    # the baseline draws nothing and is run once; all others with the same seeds
    by_row = {
        row: [cell.seed for cell in cells if cell.row == row and cell.problem == "eurosat"] for row in config["rows"]
    }
    assert {cell.row for cell in cells} == set(by_row), "a method has no row of its own"
    assert by_row.pop("zero_shot") == by_row.pop("descriptions") == [None]
    assert set(map(tuple, by_row.values())) == {(1, 2, 3)}


@pytest.mark.parametrize("row, drawn", [("linear_probe_16", [1, 2, 3]), ("finetune", [0, 0, 0])])
def test_each_seed_draws_other_shots(tmp_path, row, drawn):
    config = runpy.run_path(str(CONFIGS / "compare.py"))["get_config"]("testbed").to_dict()
    cells = [cell for cell in chosen(cells_of(config, tmp_path), [row]) if cell.problem == "eurosat"]
    assert [build_parser().parse_args(cell.words).shots_seed for cell in cells] == drawn


@pytest.mark.parametrize(
    "row, problem, lacks",
    [
        ({"texts": "written"}, {}, "written (a store of texts)"),
        ({"texts": "written"}, {"written": "store.jsonl"}, ""),
        ({"problem": {"shots": 2}}, {}, "labels (it does not say labelled=true)"),
        ({"problem": {"labels": True}}, {"labelled": False}, "labels (it does not say labelled=true)"),
        ({"problem": {"shots": 2}}, {"labelled": True}, ""),
        ({}, {}, ""),
    ],
)
def test_a_row_is_passed_over_for_what_a_problem_lacks(tmp_path, row, problem, lacks):
    config = {
        "problems": {"p": {"weights": "w", "images": "i", "test": "t", **problem}},
        "rows": {"one": {"method": "finetune", **row}},
        "seeds": [1],
    }
    (cell,) = chosen(cells_of(config, tmp_path), ["one"])
    assert cell.lacks == lacks


def test_a_method_without_a_row_gets_one(tmp_path):
    problem = {"weights": "w", "images": "i", "test": "t"}
    cells = cells_of({"problems": {"p": problem}, "rows": {}, "seeds": [1]}, tmp_path)
    assert {cell.row for cell in cells} == set(METHODS)


def test_words_say_all_that_a_problem_says(tmp_path):
    files = ProblemFiles(
        "w", "i", where=("a=1", "b=2"), classes="c", template=("x {}", "y {}"), labels=True, shots=3, shots_seed=5,
        test_split="test", by_position=True, dtype="bfloat16",
    )  # fmt: skip
    settings = {"epochs": 2.0, "optimizer": {"lr": 1e-6}, "trainable": ["^a"], "dtype": None}
    args = build_parser().parse_args(adapt_words("finetune", files, settings, tmp_path, checkpoint_every=7))
    for name in (
        "weights", "images", "classes", "labels", "shots", "shots_seed", "test_split", "by_position", "dtype",
        "skip_bad",
    ):  # fmt: skip
        assert getattr(args, name) == getattr(files, name), name
    assert (tuple(args.where), tuple(args.template), args.checkpoint_every) == (files.where, files.template, 7)
    from clipjax.cli.adapt import nested

    read = from_mapping(method_named("finetune").Config, nested(args.set))
    assert read == from_mapping(method_named("finetune").Config, settings)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A program in the place of Python that prints what a run prints, and counts how often it was started."""
    measured = {"top1": 60.0, "mean_per_class": 60.0, "ece": 1.0}
    document = json.dumps({"images": 12, "before": {**measured, "top1": 50.0}, "after": measured})
    program = tmp_path / "program"
    program.write_text(
        f"#!/bin/sh\necho x >> {tmp_path}/starts\n"
        f"case $* in *badly*) echo 'clipjax: error: it went badly' >&2; exit 2;; esac\necho '{document}'\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    return lambda: len((tmp_path / "starts").read_text().split())


def test_what_is_done_is_not_run_again_and_what_failed_is(config_of, stand_in, clipjax, tmp_path):
    rows = {"probe": {"method": "linear_probe", "problem": {"template": ["badly {}"]}}, "upl": {"method": "upl"}}
    command = ("compare", "--config", config_of(rows), "--workdir", tmp_path / "out", "--rows", *rows)
    first = clipjax(*command, "--parallel", "2")
    assert (first.status, stand_in()) == (1, 4)
    assert "probe on small failed: it went badly" in first.err
    assert "60.00 ± 0.00" in first.out and "1 / 0" in first.out
    assert (clipjax(*command).status, stand_in()) == (1, 6)


def test_ctrl_c_ends_what_is_at_work_and_begins_nothing_more(config_of, stand_in, clipjax, tmp_path, monkeypatch):
    slow = tmp_path / "program"
    slow.write_text(f"#!/bin/sh\necho x >> {tmp_path}/starts\nexec sleep 600\n")
    asked = []

    def interrupt(items, **options):
        while not (tmp_path / "starts").exists():
            pass
        asked.append(options["total"])
        raise KeyboardInterrupt

    monkeypatch.setattr("clipjax.cli.console.progress", interrupt)
    with pytest.raises(KeyboardInterrupt):
        clipjax("compare", "--config", config_of({}), "--workdir", tmp_path / "out", "--rows", "upl", "finetune")
    assert asked == [4] and stand_in() == 1


def test_nothing_begins_after_a_stop():
    at_work = AtWork()
    with at_work.process("sleep", "600") as child:
        at_work.stop()
        assert child.wait() != 0
    with pytest.raises(InterruptedError), at_work.process("sleep", "600"):
        pass


def test_a_file_that_has_changed_under_its_name_is_another_run(config_of, stand_in, clipjax, tmp_path):
    store = tmp_path / "descriptions.json"
    store.write_text("{}")
    rows = {"upl": {"method": "upl", "problem": {"descriptions": str(store)}}}
    command = ("compare", "--config", config_of(rows), "--workdir", tmp_path / "out", "--rows", "upl")
    clipjax(*command)
    clipjax(*command)
    assert stand_in() == 2
    store.write_text('{"a": ["more"]}')
    clipjax(*command)
    assert stand_in() == 4


def test_results_of_several_versions_are_remarked_on(config_of, stand_in, clipjax, tmp_path, monkeypatch):
    command = ("compare", "--config", config_of({}), "--workdir", tmp_path / "out", "--rows", "upl")
    clipjax(*command, "--set", "seeds=[1]")
    monkeypatch.setattr("clipjax.cli.sessions.versions", lambda: {"clipjax": "9.9", "jax": "9.8"})
    done = clipjax(*command)
    assert "different versions: clipjax" in done.err and "clipjax 9.9, jax 9.8" in done.err
    table = list(csv.DictReader((tmp_path / "out/results.csv").open()))
    assert table[1]["versions"] == "clipjax 9.9, jax 9.8" != table[0]["versions"]


def test_a_directory_at_work_is_left_alone_also_by_what_a_killed_comparison_left(
    config_of, stand_in, clipjax, complains, tmp_path
):
    work = tmp_path / "out"
    work.mkdir()
    command = ("compare", "--config", config_of({}), "--workdir", work, "--rows", "upl")
    lock = locked(work)
    with subprocess.Popen(["sleep", "600"], pass_fds=(lock,)) as left_behind:
        os.close(lock)
        complains(clipjax(*command), "are at work there")
        left_behind.kill()
    assert clipjax(*command).status == 0


def test_tables_have_the_same_columns_whatever_is_missing(tmp_path):
    skipped = {"problem": "a", "row": "b", "method": "c", "seed": None, "status": "skipped"}
    done = {**skipped, "status": "done", "seed": 1, "top1": 50, "seconds": 2.5}
    for name, results in {"one": [skipped], "both": [skipped, done], "none": []}.items():
        (tmp_path / name).mkdir()
        write_results(tmp_path / name, results)
    schemas = [pyarrow.parquet.read_schema(tmp_path / name / "results.parquet") for name in ("one", "both", "none")]
    assert schemas[0] == schemas[1] == schemas[2]


@pytest.mark.slow
def test_runs_are_tabulated_and_not_repeated(config_of, clipjax, tmp_path):
    rows = {
        "zero_shot": {"method": "zero_shot"},
        "probe": {"method": "linear_probe", "problem": {"labels": True}},
        "unready": {"method": "latteclip", "texts": "texts"},
        "wrong": {"method": "linear_probe"},
    }
    command = ("compare", "--config", config_of(rows), "--workdir", tmp_path / "out", "--rows", *rows)
    flags = ("--set", "seeds=[1]", "--parallel", "2", "--json")
    done = clipjax(*command, *flags)
    assert done.status == 1
    assert "wrong on small failed: this method learns from labelled images" in done.err
    found = {one["row"]: one for one in done.json["results"]}
    assert [found[row]["status"] for row in rows] == ["done", "done", "skipped", "failed"]
    assert found["probe"]["top1"] == 100 and found["probe"]["top1_zero_shot"] == found["zero_shot"]["top1"]
    assert found["probe"]["peak_memory_mb"] > 50 and found["probe"]["texts"] == 0
    table = list(csv.DictReader((tmp_path / "out/results.csv").open()))
    assert {row["row"] for row in table} == set(rows)
    assert pyarrow.parquet.read_table(tmp_path / "out/results.parquet").num_rows == 4
    before = (tmp_path / "out/runs/small/probe-1/comparison.json").stat().st_mtime_ns
    again = clipjax(*command[:5], "--rows", "zero_shot", "probe", *flags)
    assert again.status == 0
    assert (tmp_path / "out/runs/small/probe-1/comparison.json").stat().st_mtime_ns == before
    assert again.json["results"] == [found["probe"], found["zero_shot"]]


def test_what_is_known_of_other_rows_stays_in_the_tables(config_of, stand_in, clipjax, tmp_path):
    command = ("compare", "--config", config_of({}), "--workdir", tmp_path / "out", "--rows")
    assert clipjax(*command, "upl", "finetune").status == clipjax(*command, "upl").status == 0
    assert {row["row"] for row in csv.DictReader((tmp_path / "out/results.csv").open())} == {"upl", "finetune"}


def test_a_changed_setting_is_run_again(config_of, tmp_path, monkeypatch):
    from clipjax.cli.config_files import read_config

    config = read_config(str(config_of({"probe": {"method": "linear_probe", "problem": {"labels": True}}})))
    cell = next(cell for cell in cells_of(config, tmp_path) if cell.row == "probe")
    note = cell.folder / NOTE
    note.parent.mkdir(parents=True)
    kept = {"row": "probe", "status": "done", "files": {}}
    note.write_text(json.dumps({**kept, "words": cell.words}))
    assert result_of(cell, AtWork()) == {"row": "probe", "status": "done"}
    note.write_text(json.dumps({**kept, "words": [*cell.words, "--skip-bad"]}))
    monkeypatch.setattr("subprocess.Popen", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        result_of(cell, AtWork())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("rows.a.method=magic", "no method 'magic'"),
        ("rows.a.settings.epoch=1", "unknown setting rows.a.settings.epoch"),
        ("problems.small.test=null", "problems.small has no test images"),
        ("budget=3", "unknown key budget"),
        ("problems=null", "no `problems`"),
        ("problems=3", "problems is no group of settings"),
        ("rows=3", "rows is no group of settings"),
        ("run=3", "run is no group of settings"),
        ("rows.a.settings=3", "rows.a.settings is no group of settings"),
        ("rows.a.problem=3", "rows.a.problem is no group of settings"),
        ("rows.a.method=[3]", "rows.a names no method"),
        ('rows.a.texts=["b"]', "give the name of a problem's store"),
        ("problems.small.splt=train", "unknown setting problems.small.splt"),
        ("problems.small.labelled=no", "labelled='no': give true or false"),
        ('problems={"../p":{}}', "names a directory"),
        ("problems.small=3", "problems.small is no group of settings"),
        ("rows.a=3", "rows.a is no group of settings"),
        ("seeds=null", "seeds are None; give a list"),
        ("seeds=3", "seeds are 3; give a list"),
        ("seeds=[]", "seeds are []; give a list"),
        ('seeds=["x"]', "give a list of whole numbers"),
        ('rows.a-1={"method":"zero_shot"}', "two runs would have the directory"),
    ],
)
def test_mistakes_are_one_line_before_anything_runs(change, complaint, config_of, clipjax, complains, tmp_path):
    config = config_of({"a": {"method": "finetune"}})
    done = clipjax("compare", "--config", config, "--workdir", tmp_path / "out", "--set", change)
    complains(done, complaint)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("sessions", "costs"),
    [
        ([("start", 0, 0), ("done", 5.0, 300)], (100.0, 50.0, 900)),
        ([("start", 0, 0), ("stopped", 90.0, 700), ("start", 0, 0), ("done", 5.0, 300)], (190.0, None, 700)),
        ([("start", 0, 0), ("stopped", None, 700), ("start", 0, 0), ("done", 5.0, 300)], (None, None, None)),
        ([("start", 0, 0), ("start", 0, 0), ("done", 5.0, 300)], (None, None, None)),
    ],
)
def test_a_run_that_went_on_costs_what_all_its_parts_did(sessions, costs, tmp_path):
    path = tmp_path / "sessions.jsonl"
    path.write_text("".join(json.dumps({"event": e, "seconds": s, "peak_memory_mb": m}) + "\n" for e, s, m in sessions))
    found = {
        "seconds": 100.0,
        "processor_seconds": 50.0,
        "peak_memory_mb": 900,
        **_costs_of_several_sessions(path, 100.0),
    }
    assert tuple(found.values()) == costs


def test_a_summary_has_means_spreads_and_wins():
    one = lambda problem, top1, **more: {
        "problem": problem, "row": "a", "status": "done", "top1": top1, "top1_zero_shot": 50.0, "seconds": 2.0, **more
    }  # fmt: skip
    results = [one("x", 60.0), one("x", 64.0), one("y", 40.0), {"problem": "y", "row": "a", "status": "failed"}]
    (found,) = summary(results, ["x", "y"], ["a"])
    assert found["accuracies"] == {"x": (62.0, pytest.approx(8**0.5)), "y": (40.0, None)}
    assert (found["mean"], found["wins"], found["losses"], found["failed"], found["seconds"]) == (51.0, 1, 1, 1, 2.0)
