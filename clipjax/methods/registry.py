"""The methods by name. A method is a module with a frozen dataclass `Config` and a function `adapt`.

`adapt(problem, config, run) -> Classifier` reads like the paper's algorithm box.
"""

import importlib
from types import ModuleType

from clipjax.errors import ConfigError

METHODS = {
    "zero_shot": "clipjax.methods.zero_shot",
    "finetune": "clipjax.methods.finetune",
    "latteclip": "clipjax.methods.latteclip",
    "coft": "clipjax.methods.coft",
    "pcclip": "clipjax.methods.pcclip",
    "linear_probe": "clipjax.methods.linear_probe",
    "self_training": "clipjax.methods.self_training",
    "upl": "clipjax.methods.upl",
    "aape": "clipjax.methods.aape",
    "descriptions": "clipjax.methods.descriptions",
    "tip_adapter": "clipjax.methods.tip_adapter",
    "clip_adapter": "clipjax.methods.clip_adapter",
    "coop": "clipjax.methods.coop",
    "kgcoop": "clipjax.methods.kgcoop",
    "cocoop": "clipjax.methods.cocoop",
}


def method_named(name: str) -> ModuleType:
    """Import a method.

    Raises:
      ConfigError: there is none of this name.
    """
    if name not in METHODS:
        raise ConfigError(f"no method {name!r}; known are {', '.join(METHODS)}")
    return importlib.import_module(METHODS[name])
