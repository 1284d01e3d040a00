import dataclasses
from typing import Literal

import pytest

from clipjax.errors import ConfigError
from clipjax.training.optimizers import Optimizer
from clipjax.training.settings import from_mapping


@dataclasses.dataclass(frozen=True)
class Settings:
    name: str
    epochs: float = 1.0
    steps: int = 3
    flip: bool = False
    loss: Literal["clip", "siglip"] = "clip"
    chunk: int | None = None
    scale: tuple[float, float] = (0.5, 1.0)
    patterns: tuple[str, ...] = ("",)
    optimizer: Optimizer = Optimizer(lr=0.5, weight_decay=0.2)


def test_plain_values_fill_the_fields():
    values = {"name": "x", "epochs": 2, "chunk": 8, "scale": [1, 2], "patterns": ["a", "b"], "loss": "siglip"}
    settings = from_mapping(Settings, values)
    assert settings == Settings("x", 2.0, chunk=8, scale=(1.0, 2.0), patterns=("a", "b"), loss="siglip")
    assert isinstance(settings.epochs, float) and isinstance(settings.scale, tuple)


def test_a_nested_mapping_changes_only_what_it_names():
    settings = from_mapping(Settings, {"name": "x", "optimizer": {"lr": 1}})
    assert settings.optimizer == Optimizer(lr=1.0, weight_decay=0.2)


def test_a_dataclass_may_be_given_whole():
    optimizer = Optimizer("sgd")
    assert from_mapping(Settings, {"name": "x", "optimizer": optimizer}).optimizer is optimizer


def test_tuples_of_tuples_are_converted():
    settings = from_mapping(Settings, {"name": "x", "optimizer": {"factors": [["vision/", 1]]}})
    assert settings.optimizer.factors == (("vision/", 1.0),)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x", "epoch": 2}, "unknown setting epoch; did you mean 'epochs'"),
        ({"name": "x", "zzz": 2}, "unknown setting zzz; known are name, epochs"),
        ({"name": "x", "optimizer": {"learning_rate": 1}}, "unknown setting optimizer.learning_rate"),
        ({"epochs": 2}, "the setting name is missing"),
        ({"name": 3}, "the setting name is 3; str is needed"),
        ({"name": "x", "steps": 2.5}, "steps is 2.5; int is needed"),
        ({"name": "x", "steps": "3"}, "steps is '3'; int is needed"),
        ({"name": "x", "steps": True}, "steps is True; int is needed"),
        ({"name": "x", "epochs": True}, "epochs is True; float is needed"),
        ({"name": "x", "flip": 1}, "flip is 1; bool is needed"),
        ({"name": "x", "loss": "l2"}, "loss is 'l2'; one of 'clip', 'siglip' is needed"),
        ({"name": "x", "chunk": "8"}, "chunk is '8'; int or None is needed"),
        ({"name": "x", "scale": [1.0]}, "scale is"),
        ({"name": "x", "patterns": "abc"}, "patterns is 'abc'"),
        ({"name": "x", "patterns": ["a", 1]}, r"patterns\[1\] is 1; str is needed"),
        ({"name": "x", "optimizer": "adamw"}, "optimizer is 'adamw'; Optimizer is needed"),
        ({"name": "x", "optimizer": {"lr": "fast"}}, "optimizer.lr is 'fast'; float is needed"),
        ({"name": "x", "optimizer": {"lr": -1}}, "optimizer.lr is -1.0"),
    ],
)
def test_what_does_not_fit_is_named(values, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(Settings, values)
