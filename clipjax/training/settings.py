"""From nested plain values (a config file, the command line) to frozen dataclasses, with clear complaints."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from clipjax.errors import ConfigError

T = TypeVar("T")


def from_mapping(kind: type[T], values: Mapping[str, Any], where: str = "", base: T | None = None) -> T:
    """Build a dataclass from a mapping; fields that are dataclasses themselves are built from mappings.

    What a mapping does not say is as in `base`, by default as the dataclass says: of a field that is a
    dataclass with a default, only the settings that are given change. Values keep their meaning or
    are refused: an integer may stand for a float, a list for a tuple, and nothing else for anything
    else.

    Raises:
      ConfigError: an unknown key, a missing one, or a value of the wrong type; the message names it.
    """
    types_ = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}  # pyright: ignore[reportArgumentType]
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(fields)}"
            raise ConfigError(f"unknown setting {where}{key}; {hint}")
    defaults = {name: getattr(base, name) if base is not None else field.default for name, field in fields.items()}
    given = {key: _converted(types_[key], value, f"{where}{key}", defaults[key]) for key, value in values.items()}
    if base is not None:
        return dataclasses.replace(base, **given)  # pyright: ignore[reportArgumentType]
    required = (dataclasses.MISSING, dataclasses.MISSING)
    for name, field in fields.items():
        if name not in given and (field.default, field.default_factory) == required:
            raise ConfigError(f"the setting {where}{name} is missing")
    return kind(**given)


def check_range(settings: Any, low: float, high: float = math.inf, *names: str) -> None:
    """Refuse settings that are not in [low, high]; None, where nothing is set, passes.

    Raises:
      ConfigError: one is outside; the message names it.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            bounds = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise ConfigError(f"the setting {name} is {value!r}; it must be {bounds}")


def check_above_zero(settings: Any, *names: str) -> None:
    """Refuse settings that are not above 0, such as a temperature; None, where nothing is set, passes.

    Raises:
      ConfigError: one is 0, negative or no number; the message names it.
    """
    for name in names:
        if (value := getattr(settings, name)) is not None and not value > 0:
            raise ConfigError(f"the setting {name} is {value!r}; it must be above 0")


def check_positive_share(settings: Any, *names: str) -> None:
    """Refuse settings that are not in (0, 1], such as the smallest share of an image that a crop shows.

    Raises:
      ConfigError: one is outside; the message names it.
    """
    for name in names:
        if not 0 < (value := getattr(settings, name)) <= 1:
            raise ConfigError(f"the setting {name} is {value!r}; it must be above 0 and at most 1")


def _converted(wanted: Any, value: Any, name: str, default: Any = None) -> Any:
    if dataclasses.is_dataclass(wanted) and isinstance(value, Mapping):
        base = default if dataclasses.is_dataclass(default) else None
        return from_mapping(wanted, value, f"{name}.", base)  # pyright: ignore[reportArgumentType]
    if dataclasses.is_dataclass(wanted) and isinstance(value, wanted):  # pyright: ignore[reportArgumentType]
        return value
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if wanted is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        for option in arguments:
            try:
                return _converted(option, value, name)
            except ConfigError:
                continue
    elif origin is typing.Literal:
        if value in arguments:
            return value
    elif origin is tuple and isinstance(value, list | tuple):
        if arguments[-1] is Ellipsis:
            return tuple(_converted(arguments[0], item, f"{name}[{i}]") for i, item in enumerate(value))
        if len(value) == len(arguments):
            return tuple(_converted(t, item, f"{name}[{i}]") for i, (t, item) in enumerate(zip(arguments, value)))
    elif wanted is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    elif wanted is type(None) and value is None:
        return None
    elif isinstance(wanted, type) and isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool):
        return value
    raise ConfigError(f"the setting {name} is {value!r}; {_described(wanted)} is needed")


def _described(wanted: Any) -> str:
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_described(option) for option in arguments)
    return "None" if wanted is type(None) else getattr(wanted, "__name__", str(wanted))
