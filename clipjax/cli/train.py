"""clipjax train --config=configs/finetune.py:eurosat --config.optimizer.lr=1e-5 --workdir=run

The same entry as `launch/train.py`: one configuration file, on one device or on every host of a pod.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipjax.cli.adapt import adapt_and_measure, nested, show
from clipjax.cli.config_files import merged, read_config
from clipjax.errors import ConfigError

_UNLISTED = object()

_HELP = """usage: clipjax train --config=FILE.py[:ARGUMENT] [--config.KEY=VALUE ...] --workdir=DIR [options]

Run a configuration: pretrain or adapt, on one device or on every host of a pod. A run that was
stopped goes on when the command is repeated; configs/README.md lists the configurations.

options:
  --overwrite               replace another run in DIR
  --json                    print the result as JSON
  --coordinator=HOST:PORT   of process 0, --processes=N, --process=I: where they are not detected"""


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "train",
        help="run a configuration file: pretrain or adapt, on one device or a pod",
        description="Run a configuration: --config=FILE.py[:ARGUMENT] [--config.KEY=VALUE ...] --workdir=DIR. "
        "A run that was stopped goes on when the command is repeated.",
        add_help=False,
        prefix_chars="\0",  # all that follows is for absl
    )
    parser.add_argument("flags", nargs=argparse.REMAINDER)
    parser.set_defaults(run=run, interrupted="what was done is kept; repeat the command to go on", resumes=True)


def run(args: argparse.Namespace) -> int:
    return main(["clipjax train", *args.flags])


def main(argv: list[str]) -> int:
    """Parse the flags and run the configuration they name.

    Raises:
      ConfigError: unknown flags or settings.
    """
    from absl import flags
    from ml_collections import config_flags

    words = ("train", *argv[1:])
    argv, more = _split_off_unlisted(argv)
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "a Python file with get_config(), and its argument", flag_values=values, sys_argv=argv
    )
    flags.DEFINE_string("workdir", None, "the run's directory", flag_values=values)
    flags.DEFINE_bool("overwrite", False, "replace another run in --workdir", flag_values=values)
    flags.DEFINE_string("coordinator", None, "host:port of process 0, where it is not detected", flag_values=values)
    flags.DEFINE_integer("processes", None, "number of processes, where it is not detected", flag_values=values)
    flags.DEFINE_integer("process", None, "this process's number, where it is not detected", flag_values=values)
    flags.DEFINE_bool("json", False, "print the result as JSON", flag_values=values)
    if {"-h", "--help", "-help"} & set(argv):
        print(_HELP)
        return 0
    try:
        rest = values(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{str(error).splitlines()[0]}; see `clipjax train --help`") from None
    except FileNotFoundError as error:
        raise ConfigError(f"{error.filename}: no such configuration; give --config=FILE.py") from None
    if len(rest) > 1:
        raise ConfigError(f"{rest[1]!r} is no flag; write --config=FILE.py --workdir=DIR")
    for name in ("config", "workdir"):
        if not values[name].value:
            raise ConfigError(f"--{name} is missing; see `clipjax train --help`")
    from clipjax.parallel.distributed import initialize

    initialize(values.coordinator, values.processes, values.process)
    config = merged(values.config.to_dict(), nested(more))
    run_config(config, Path(values.workdir), overwrite=values.overwrite, as_json=values.json, words=words)
    return 0


def _split_off_unlisted(argv: list[str]) -> tuple[list[str], list[str]]:
    """Take out the settings that the configuration does not list: NAME=VALUE of each `--config.NAME=VALUE`.

    absl knows the type of what is listed; the others are checked where they are read, as all are.
    """
    spec = next((text.partition("=")[2] for text in argv if text.startswith("--config=")), None)
    if spec is None:
        return argv, []
    listed = read_config(spec)
    rest, more = [], []
    for text in argv:
        name, equals, _ = text.removeprefix("--config.").partition("=")
        known: Any = listed
        for part in name.split("."):
            known = known.get(part, _UNLISTED) if isinstance(known, dict) else _UNLISTED
        unlisted = text.startswith("--config.") and equals and known is _UNLISTED
        (more if unlisted else rest).append(text.removeprefix("--config.") if unlisted else text)
    return rest, more


def run_config(
    config: Mapping[str, Any],
    workdir: Path,
    *,
    overwrite: bool = False,
    as_json: bool = False,
    words: Sequence[str] = (),
) -> None:
    """Run a configuration: `method`, `run` (mesh, checkpoints), `problem` or `data`, and the method's own settings.

    The run remembers `words`, the command that it was started with.

    Raises:
      ConfigError: an unknown or missing key.
    """
    from clipjax.cli.console import progress
    from clipjax.cli.run_settings import RunSettings, log_to_stderr
    from clipjax.training.settings import from_mapping

    log_to_stderr()
    rest = dict(config)
    if "method" not in rest:
        raise ConfigError("the configuration lacks `method`; see configs/")
    method = rest.pop("method")
    settings = from_mapping(RunSettings, rest.pop("run", {}), "run.")
    if method == "pretrain":
        _pretrain(rest, settings, workdir, overwrite, as_json)
        return
    from clipjax.cli.problem_files import ProblemFiles, open_problem

    if "problem" not in rest:
        raise ConfigError("the configuration lacks `problem` (weights, images, classes); see configs/")
    opened = open_problem(from_mapping(ProblemFiles, rest.pop("problem"), "problem."), progress)
    document = adapt_and_measure(method, opened, rest, settings, workdir, overwrite=overwrite, words=words)
    import jax

    if jax.process_index() == 0:
        show(document, workdir, as_json=as_json)


def _pretrain(rest: dict[str, Any], settings: Any, workdir: Path, overwrite: bool, as_json: bool) -> None:
    import jax

    from clipjax.cli.console import note, print_json, progress
    from clipjax.cli.pretrain_files import PretrainFiles, build
    from clipjax.cli.run_settings import run_options
    from clipjax.inputs.tokenizer_writer import write_tokenizer
    from clipjax.methods.pretrain import Config, pretrain
    from clipjax.training.run import Run, open_run
    from clipjax.training.settings import from_mapping
    from clipjax.weights.fingerprint import fingerprint
    from clipjax.weights.save import save

    files = from_mapping(PretrainFiles, rest.pop("data", {}), "data.")
    config = from_mapping(Config, rest)
    model, params, tokenizer, batches = build(files, progress)
    identity = {
        "method": "pretrain",
        "config": dataclasses.asdict(config),
        "data": batches.fingerprint,
        "model": repr(model),
        "weights": None if params is None else fingerprint(params),
    }
    reads = [place for place in (files.weights, *(part.images for part in files.sources)) if place is not None]
    opened = open_run(workdir, identity, overwrite=overwrite, made_from=reads)
    run = Run(folder=opened.folder, **run_options(settings, workdir))
    params = pretrain(model, batches, config, run, params)
    if jax.process_index() == 0:
        extra = lambda place: write_tokenizer(place, place, tokenizer)
        save(workdir / "model", model, params, overwrite=True, extra=extra)
        if as_json:
            print_json({"method": "pretrain", "steps": config.steps, "run": str(workdir)})
        note(f"wrote {workdir / 'model'}: clipjax.load and transformers read it")
