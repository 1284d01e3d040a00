"""Commands in the documentation: every one can be parsed, and its settings exist."""

import argparse
import importlib
import math
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from checked_settings import check_flags, check_settings
from pages import PAGES, REPOSITORY, blocks, commands_in, mentioned_in, text_of

from clipjax.cli.adapt import nested
from clipjax.cli.comparison_cells import cells_of
from clipjax.cli.config_files import merged, read_config
from clipjax.cli.main import build_parser
from clipjax.cli.texts.questions import TextFiles
from clipjax.cli.texts.writers import WriterSettings
from clipjax.methods.registry import method_named
from clipjax.training.settings import from_mapping


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_one_that_the_tests_know(page):
    fences = re.findall(r"^[ \t]*(?:```|~~~).*$", text_of(page), re.MULTILINE)
    assert set(fences) <= {"```", "```bash", "```python", "```text", "```json"}
    assert len(fences) == 2 * sum(len(blocks(page, language)) for language in ("bash", "python", "text", "json"))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_can_be_parsed(page, capsys):
    parser = build_parser()
    for words in commands_in(page):
        try:
            parser.parse_args(words)
        except SystemExit:
            pytest.fail(f"clipjax {shlex.join(words)}: {capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES)
def test_options_within_sentences_exist(page):
    for words in (words for words in mentioned_in(page) if words[0] != "train"):
        known = set(parser_of(words)._option_string_actions)
        assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known, words


def parser_of(words):
    """Find the parser of a command, or of a command's command."""
    parser = build_parser()
    for word in words:
        commands = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
        if not commands or word.startswith("-"):
            break
        parser = commands[0].choices[word]
    return parser


@pytest.mark.parametrize("page", PAGES)
def test_settings_of_commands_exist(page, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    trained = [words for words in mentioned_in(page) if words[0] == "train" and "--workdir=run" in words]
    for words in [*commands_in(page), *trained]:
        args = build_parser().parse_args(words)
        if words[0] == "train":
            check_flags(words[1:], monkeypatch)
        elif words[0] in ("adapt", "fewshot"):
            from_mapping(method_named(args.method).Config, nested(args.set))
        elif words[:2] == ["texts", "generate"]:
            settings = merged(read_config(args.config), nested(args.set))
            writer = WriterSettings.names() & settings.keys()
            from_mapping(WriterSettings, {name: settings.pop(name) for name in writer})
            from_mapping(TextFiles, {name: value for name, value in settings.items() if name != "budget"})
        elif words[0] == "compare":
            assert cells_of(merged(read_config(args.config), nested(args.set)), Path("comparison"))
        elif words[0] == "plan":
            check_plan(merged(read_config(args.config), nested(args.set)), args.topology)


def check_plan(config, topology):
    """See that the mesh is as large as the topology, and the batch divides over it."""
    kind, _, sides = topology.partition(":")
    devices = math.prod(map(int, sides.split("x")))
    assert kind in ("cpu", "v4", "v5e", "v5p", "v6e")
    run, batch = config["run"], config["data"]["batch_size"]
    assert run["fsdp"] * run.get("data", devices // run["fsdp"]) == devices and batch % devices == 0
    check_settings(config)


class Parsed(Exception):
    """Stops a benchmark that has read its options."""


@pytest.mark.parametrize("page", PAGES)
def test_benchmarks_take_the_options_that_pages_give(page, monkeypatch, capsys):
    parse_args = argparse.ArgumentParser.parse_args

    def only_parse(parser, words=None, namespace=None):
        parse_args(parser, words, namespace)
        raise Parsed

    monkeypatch.syspath_prepend(REPOSITORY)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    said = re.findall(r"python -m (benchmarks[.\w]*)([^`\n|]*)", text_of(page).replace("\\\n", " "))
    for name, options in said:
        module = importlib.import_module(name if "." in name else f"{name}.__main__")
        words = [] if options.startswith(",") else shlex.split(options, comments=True)
        monkeypatch.setattr(sys, "argv", [name, *words])
        with pytest.raises(Parsed):
            module.main()


@pytest.mark.parametrize("page", PAGES)
def test_extras_that_are_to_be_installed_exist(page):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"pip install ['\"]?(?:\.|clipjax)\[([\w,-]+)\]", text_of(page))
    assert {extra for one in named for extra in one.split(",")} <= project["optional-dependencies"].keys()
