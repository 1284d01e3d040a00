"""The page on adding a method: its method, configuration and tests run as they are written there."""

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from clipjax.cli.problem_files import ProblemFiles
from clipjax.cli.run_settings import RunSettings
from clipjax.methods import METHODS
from clipjax.training.settings import from_mapping

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding-a-method.md"


@pytest.fixture(scope="module")
def programs():
    """The three programs of the page, by the file that each heading names."""
    found = re.findall(r"^## [^\n]*`([^`\n]+\.py)`\n.*?```(\w+)\n(.*?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return {path: program for path, language, program in found if language == "python"}


@pytest.fixture
def method(programs, monkeypatch):
    """The page's method, registered under its name."""
    module = types.ModuleType("clipjax.methods.offsets")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(programs["clipjax/methods/offsets.py"], str(PAGE), "exec"), module.__dict__)
    monkeypatch.setitem(METHODS, "offsets", module.__name__)
    return module


def defined_tests(program):
    found: dict[str, Any] = {}
    exec(compile(program, str(PAGE), "exec"), found)
    return {name: value for name, value in found.items() if name.startswith("test_")}


@pytest.mark.parametrize(
    "name",
    ["it_grows_surer_of_what_it_was_sure_of", "no_strength_changes_nothing", "a_run_that_is_repeated_is_only_read"],
)
def test_the_pages_own_tests_pass(name, method, programs, request):
    test = defined_tests(programs["tests/methods/test_offsets.py"])[f"test_{name}"]
    arguments = test.__code__.co_varnames[: test.__code__.co_argcount]
    test(**{argument: request.getfixturevalue(argument) for argument in arguments})


def test_every_test_of_the_page_is_run(programs):
    assert len(defined_tests(programs["tests/methods/test_offsets.py"])) == 3


def test_the_pages_configuration_has_only_known_keys(method, programs):
    found: dict[str, Any] = {}
    exec(compile(programs["configs/offsets.py"], str(PAGE), "exec"), found)
    config = found["get_config"]()
    config.problem.weights, config.problem.images = "weights", "images"
    rest = config.to_dict()
    assert rest.pop("method") in METHODS
    from_mapping(RunSettings, rest.pop("run"), "run.")
    from_mapping(ProblemFiles, rest.pop("problem"), "problem.")
    from_mapping(method.Config, rest)
