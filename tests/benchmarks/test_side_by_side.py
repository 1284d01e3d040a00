"""`python -m benchmarks`: what it runs, keeps and writes, with a stand-in for a benchmark."""

from pathlib import Path

import pytest

import benchmarks.__main__ as command
from benchmarks import load, results
from benchmarks.side_by_side import MEASUREMENTS, Measurement

MACHINE = {
    "processor": "a processor",
    "threads": 2,
    "python": "3.11",
    "jax": "0.10",
    "torch": "2.13",
    "date": "2026-01-01",
}
PROGRAM = """
import json, os, sys
open("runs", "a").write("x")
if os.path.exists("fails"):
    sys.exit(3)
print("words that are no result")
print(json.dumps({"benchmark": "image", "ratio": 1.25, "errors": {"a": {"x": 1e-7}, "b": {"x": 3e-7}}}))
print(json.dumps({"benchmark": "text", "ratio": 0.5, "other": True}))
"""
STAND_IN = Measurement(
    "stand-in",
    "stand_in",
    "--model 'a b'",
    1,
    (),
    {"ratio": "speed", "errors": "error", "other": "-"},
    title="benchmark",
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(command, "describe_machine", lambda: MACHINE)
    monkeypatch.setattr(command, "code_version", lambda: "code")
    Path("stand_in.py").write_text(PROGRAM)
    Path("page.md").write_text(f"above\n{results.BEGIN}\nold\n{results.END}\nbelow\n")


def run(*words, measurements=(STAND_IN,)):
    return command.main([*words, "--results", "results.jsonl", "--page", "page.md"], measurements)


def runs():
    return len(Path("runs").read_text()) if Path("runs").exists() else 0


def test_results_are_kept_and_the_tables_written_between_the_markers():
    assert run() == 0
    [result] = results.read_results(Path("results.jsonl"))
    assert result["ratios"] == {"image: speed": 1.25, "image: error": 3e-7, "text: speed": 0.5}
    assert result["command"] == "python -m stand_in --model 'a b'"
    assert (result["machine"], len(result["lines"])) == (MACHINE, 2)
    page = Path("page.md").read_text()
    assert page.startswith("above\n") and page.endswith("\nbelow\n") and "old" not in page
    assert "| stand-in | text: speed | 0.5 |" in page
    assert f"| `{STAND_IN.command}` |" in page and "torch 2.13" in page


def test_what_is_measured_is_not_measured_again():
    run()
    run()
    assert runs() == 1
    run("--again")
    assert (runs(), len(results.read_results(Path("results.jsonl")))) == (2, 2)


@pytest.mark.parametrize("change", [{"torch": "2.14"}, {"processor": "another"}])
def test_another_machine_is_measured_and_has_a_table_of_its_own(change, monkeypatch):
    run()
    monkeypatch.setattr(command, "describe_machine", lambda: {**MACHINE, **change})
    run()
    assert runs() == 2
    assert Path("page.md").read_text().count("| measurement | what | value |") == 2


def test_other_code_or_another_day_is_measured_or_not(monkeypatch):
    run()
    monkeypatch.setattr(command, "describe_machine", lambda: {**MACHINE, "date": "2026-01-02"})
    run()
    assert runs() == 1
    monkeypatch.setattr(command, "code_version", lambda: "other code")
    run()
    assert runs() == 2
    assert Path("page.md").read_text().count("| stand-in | text: speed |") == 1


def test_failed_measurement_is_not_kept_and_the_others_go_on(capsys):
    Path("fails").touch()
    other = Measurement("other", "other", "", 1, (), {"ratio": "speed"})
    Path("other.py").write_text("print('{\"ratio\": 2}')")
    assert run(measurements=(STAND_IN, other)) == 1
    assert [result["name"] for result in results.read_results(Path("results.jsonl"))] == ["other"]
    assert "stand-in: ended with status 3" in capsys.readouterr().err


def test_measurement_without_a_figure_is_a_failure(capsys):
    Path("stand_in.py").write_text("print('{\"other\": 1}')")
    assert run(measurements=(Measurement("a", "stand_in", "", 1, (), {"ratio": "speed"}),)) == 1
    assert "no JSON line with a ratio" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("page.md", "no markers", "page.md: needs the lines"),
        ("results.jsonl", "{}\n", "results.jsonl, line 1: is no result"),
        ("results.jsonl", "{", "results.jsonl, line 1: is no result"),
        ("results.jsonl", "3", "results.jsonl, line 1: is no result"),
    ],
)
def test_spoilt_files_are_refused_before_anything_is_measured(file, text, said, capsys):
    Path(file).write_text(text)
    assert run() == 2
    assert capsys.readouterr().err.startswith(said)
    assert runs() == 0 and Path(file).read_text() == text


def test_what_is_missing_is_said_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(command, "missing", lambda needs: [f"no {need}" for need in needs])
    wants = Measurement("a", "stand_in", "", 1, ("torch", "testbed"), {"ratio": "speed"})
    assert run(measurements=(wants, wants)) == 2
    assert capsys.readouterr().err == "no torch; no testbed\n"
    assert runs() == 0


def test_list_says_how_long_each_takes(capsys):
    assert command.main(["--list"]) == 0
    printed = capsys.readouterr().out
    for one in MEASUREMENTS:
        assert one.command in printed and f"{one.minutes} min" in printed


def test_only_known_names_can_be_chosen(capsys):
    with pytest.raises(SystemExit) as stopped:
        run("--only", "unknown")
    assert stopped.value.code == 2


@pytest.mark.parametrize("one", MEASUREMENTS, ids=lambda one: one.name)
def test_options_are_those_of_the_benchmark(one):
    path = command.REPOSITORY / Path(*one.module.split(".")).with_suffix(".py")
    text = path.read_text() + (command.REPOSITORY / "benchmarks" / "engine_step.py").read_text()
    assert all(f'"{word}"' in text for word in one.options.split() if word.startswith("--"))


def test_figures_of_loading_are_in_its_report():
    [one] = [one for one in MEASUREMENTS if one.name == "load"]
    line = load.report("a model", 10, {side: [1.0] for side in load.SIDES}, dict.fromkeys(load.SIDES, 20.0))
    assert set(one.numbers([line]).values()) == {1.0, 2.0}
    assert len(one.numbers([line])) == len(one.figures)


def test_page_has_the_tables_of_the_results_in_the_repository():
    text = command.PAGE.read_text()
    written = text.partition(results.BEGIN)[2].partition(results.END)[0].strip()
    assert written == results.tables(results.read_results(command.RESULTS)).strip()
