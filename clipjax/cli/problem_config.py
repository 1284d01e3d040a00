"""The `problem` part of a configuration file: every field of `ProblemFiles`, as flags of `clipjax train` can set it."""

import dataclasses
import types
import typing
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from clipjax.cli.problem_files import ProblemFiles


def problem_config(**values: Any) -> ConfigDict:
    """List what a problem consists of, with these values in place of the defaults.

    What has no value is a placeholder that knows its type.

    Raises:
      TypeError: a value that a problem does not have.
    """
    hints = typing.get_type_hints(ProblemFiles)
    fields = {field.name: field.default for field in dataclasses.fields(ProblemFiles)}
    unknown = values.keys() - fields.keys()
    if unknown:
        raise TypeError(f"a problem has no {', '.join(sorted(unknown))}; it has {', '.join(fields)}")
    found = ConfigDict()
    for name, default in fields.items():
        value = values.get(name, default)
        found[name] = placeholder(_kind(hints[name])) if value in (None, dataclasses.MISSING) else value
    return found


def _kind(hint: Any) -> type:
    """Take the type out of an optional one."""
    return next(kind for kind in typing.get_args(hint) if kind is not types.NoneType) if typing.get_args(hint) else hint
