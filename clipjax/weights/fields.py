"""Read a JSON configuration field by field; every complaint names the file and the field."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipjax.errors import ConfigError

MAX_JSON_BYTES = 64 * 2**20
_DEEPEST = 64  # levels of nesting; every later walk through the document may then recurse
_LARGEST = 1e30


def read_json(path: Path) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
      ConfigError: the file is too large, not UTF-8, not JSON, nested too deeply, or not an object.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_JSON_BYTES >> 20} MiB; this is no configuration")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON ({error}); download it again") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: holds a {type(value).__name__}, a JSON object is needed")
    if _is_deep(value):
        raise ConfigError(f"{path}: nested more than {_DEEPEST} levels deep; this is no configuration")
    return value


@dataclass(frozen=True)
class Fields:
    """A JSON object of one file, with the names that lead to it."""

    path: Path
    values: dict[str, Any]
    prefix: str = ""

    def section(self, name: str) -> "Fields":
        """Step into a nested object.

        Raises:
          ConfigError: it is absent or not an object.
        """
        value = self.values.get(name)
        if not isinstance(value, dict):
            state = "missing" if value is None else f"a {type(value).__name__}, an object is needed"
            raise ConfigError(f"{self.path}: {self.prefix}{name} is {state}")
        return Fields(self.path, value, f"{self.prefix}{name}.")

    def integer(self, name: str, default: int | None = None, *, low: int = 1, high: int) -> int:
        """Read an integer from `low` to `high`; None as default means that the field must be there."""
        value = self.values.get(name, default)
        if value is None:
            raise ConfigError(f"{self.path}: {self.prefix}{name} is missing")
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.refusal(name, value, f"it must be an integer from {low} to {high}")
        return value

    def number(self, name: str, default: float) -> float:
        """Read a number that float32 can hold."""
        value = self.values.get(name, default)
        # compared before it is converted: JSON has integers that no float can hold
        if not isinstance(value, int | float) or isinstance(value, bool) or not -_LARGEST < value < _LARGEST:
            raise self.refusal(name, value, "it must be a number of usual size")
        return float(value)

    def numbers(self, name: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """Read a list of as many finite numbers as `default` has."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, list) or len(value) != len(default):
            raise self.refusal(name, value, f"it must hold {len(default)} numbers")
        return tuple(Fields(self.path, {name: item}, self.prefix).number(name, 0.0) for item in value)

    def choice(self, name: str, default: str, known: dict[str, Any]) -> Any:
        """Read one of the strings of `known` and return what it stands for."""
        value = self.values.get(name, default)
        if not isinstance(value, str) or value not in known:
            raise self.refusal(name, value, f"known are {', '.join(known)}")
        return known[value]

    def refuse_unless(self, **known: Any) -> None:
        """Complain about options that would change the model and that clipjax does not have.

        `known` gives each option's one supported value; an absent or null option is fine.
        """
        for name, supported in known.items():
            value = self.values.get(name)
            if value is not None and value != supported:
                raise self.refusal(name, value, f"clipjax supports {supported!r} only")

    def refusal(self, name: str, value: Any, demand: str) -> ConfigError:
        """Word the complaint about a field that has this value; the value is cut short where it is long."""
        return ConfigError(f"{self.path}: {self.prefix}{name} is {value!r:.100}; {demand}")


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [child for node in level for child in _children(node)]
    return bool(level)


def _children(node: Any) -> Iterable[Any]:
    return node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
