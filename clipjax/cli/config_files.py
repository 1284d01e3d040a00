"""Configurations as plain nested dicts: run the file, change some of its values."""

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipjax.errors import ConfigError


def read_config(spec: str) -> dict[str, Any]:
    """Run `get_config` of FILE.py[:ARGUMENT].

    Raises:
      ConfigError: no such file, no such argument, or a file that does not run.
    """
    path, _, argument = spec.partition(":")
    if not Path(path).is_file():
        raise ConfigError(f"{path}: no such configuration; give FILE.py or FILE.py:ARGUMENT")
    try:
        module = runpy.run_path(path)
    except Exception as error:  # whatever a person's own program does wrong
        raise ConfigError(f"{path}: does not run ({type(error).__name__}: {error})") from None
    if "get_config" not in module:
        raise ConfigError(f"{path}: has no get_config(); see configs/")
    try:
        return module["get_config"](*([argument] if argument else [])).to_dict()
    except Exception as error:
        raise ConfigError(f"{path}: {error}") from None


def merged(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with the values of `changes` in place of its own, level by level."""
    result = dict(config)
    for name, value in changes.items():
        inside = result.get(name)
        result[name] = merged(inside, value) if isinstance(value, dict) and isinstance(inside, dict) else value
    return result
