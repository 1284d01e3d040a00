"""Commands in the documentation: every one can be parsed, and its settings exist."""

import argparse
import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
from pages import PAGES, REPOSITORY, commands_in

from clipjax.cli.adapt import nested
from clipjax.cli.comparison_cells import cells_of
from clipjax.cli.config_files import merged, read_config
from clipjax.cli.main import build_parser
from clipjax.cli.pretrain_files import PretrainFiles
from clipjax.cli.problem_files import ProblemFiles
from clipjax.cli.run_settings import RunSettings
from clipjax.cli.texts.questions import TextFiles
from clipjax.cli.texts.writers import WriterSettings
from clipjax.cli.train import main as train
from clipjax.methods import pretrain
from clipjax.methods.registry import method_named
from clipjax.training.settings import from_mapping


@pytest.mark.parametrize("page", PAGES)
def test_every_command_can_be_parsed(page, capsys):
    parser = build_parser()
    for words in commands_in(page):
        try:
            parser.parse_args(words)
        except SystemExit:
            pytest.fail(f"clipjax {shlex.join(words)}: {capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES)
def test_settings_of_commands_exist(page, monkeypatch):
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
    said = re.findall(r"python -m (benchmarks[.\w]*)([^`\n|]*)", PAGES[page].read_text().replace("\\\n", " "))
    for name, options in said:
        module = importlib.import_module(name if "." in name else f"{name}.__main__")
        words = shlex.split(options, comments=True) if "--" in options else []
        monkeypatch.setattr(sys, "argv", [name, *words])
        with pytest.raises(Parsed):
            module.main()
