"""`clipjax.adapt`: run a method on a problem, in a directory that remembers what is done."""

import dataclasses
from typing import Any

from clipjax.classify.classifier import Classifier
from clipjax.classify.ensemble import Ensemble
from clipjax.classify.problem import Problem
from clipjax.errors import ConfigError
from clipjax.methods.registry import method_named
from clipjax.training.run import Run, open_run
from clipjax.training.settings import from_mapping


def adapt(
    method: str,
    problem: Problem,
    *,
    config: Any = None,
    folder: Any = None,
    overwrite: bool = False,
    run: Run | None = None,
    **settings: Any,
) -> Classifier | Ensemble:
    """Adapt a model to a problem.

        classifier = clipjax.adapt("finetune", problem, folder="run", epochs=5)

    Args:
      method: a name in `clipjax.methods.METHODS`.
      config: the method's own `Config`; without one, its defaults with `settings` on top.
      folder: the path where checkpoints, metrics and the work between stages go. A run that was stopped
        goes on when the same call is repeated. Without it nothing is written.
      overwrite: replace another run in `folder`.
      run: a run with a mesh, sinks and pace of its own; its folder, if it has one, is used as it is.

    Raises:
      ConfigError: no such method, or an unknown setting.
      OutputError: `folder` holds another run.
      Stopped: SIGTERM or Ctrl-C came; what was done is saved in `folder`.
    """
    module = method_named(method)
    if config is None:
        config = from_mapping(module.Config, settings)
    elif settings or not isinstance(config, module.Config):
        raise ConfigError(f"give either settings or a config of {module.__name__}.Config")
    run = Run() if run is None else run
    if folder is not None:
        kept = {field.name: getattr(run, field.name) for field in dataclasses.fields(run) if field.name != "folder"}
        run = open_run(folder, identity(method, problem, config), overwrite=overwrite, **kept)
    classifier = module.adapt(problem, config, run)
    # a method's own words last: it counts the images that the problem only names
    provenance = {**identity(method, problem, config), **classifier.provenance, "method": method}
    return dataclasses.replace(classifier, provenance=provenance)


def identity(method: str, problem: Problem, config: Any) -> dict[str, Any]:
    """Say what a run is, in plain values."""
    return {"method": method, "config": dataclasses.asdict(config), **problem.identity}
