"""Settings of a training, read as `clipjax train` reads them, with nothing opened."""

from clipjax.cli.pretrain_files import PretrainFiles
from clipjax.cli.problem_files import ProblemFiles
from clipjax.cli.run_settings import RunSettings
from clipjax.cli.train import main
from clipjax.methods import pretrain
from clipjax.methods.registry import method_named
from clipjax.training.settings import from_mapping


def check_settings(config):
    """Read all parts of a configuration, each of which refuses what it does not know."""
    method = config.pop("method")
    from_mapping(RunSettings, config.pop("run"), "run.")
    if method == "pretrain":
        from_mapping(PretrainFiles, config.pop("data"), "data.")
        from_mapping(pretrain.Config, config)
    else:
        from_mapping(ProblemFiles, config.pop("problem"), "problem.")
        from_mapping(method_named(method).Config, config)


def check_flags(flags, monkeypatch):
    """Read the flags of `clipjax train`, and the configuration that they change."""
    checked = []
    monkeypatch.setattr("clipjax.parallel.distributed.initialize", lambda *process: None)
    monkeypatch.setattr(
        "clipjax.cli.train.run_config", lambda config, *rest, **options: checked.append(check_settings(config))
    )
    main(["clipjax train", *flags])
    assert checked == [None]
