import dataclasses

import pytest
from numpy.testing import assert_array_equal

import clipjax
from clipjax.errors import ConfigError, OutputError
from clipjax.methods import METHODS, method_named


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_frozen_config_with_defaults_and_an_adapt(name):
    module = method_named(name)
    assert dataclasses.is_dataclass(module.Config) and module.Config() == module.Config()
    assert hash(module.Config()) == hash(module.Config())
    assert callable(module.adapt)


TRAINED = [
    (name, field.name)
    for name in METHODS
    for field in dataclasses.fields(method_named(name).Config)
    if field.name in ("epochs", "tune_epochs")
]


@pytest.mark.parametrize(("name", "setting"), TRAINED)
def test_no_epochs_are_refused_and_not_made_one_step(name, setting):
    with pytest.raises(ConfigError, match=f"the setting {setting} is 0; it must be above 0"):
        method_named(name).Config(**{setting: 0})


def test_unknown_method_is_refused_with_those_there_are(problem):
    with pytest.raises(ConfigError, match="no method 'magic'; known are zero_shot"):
        clipjax.adapt("magic", problem)


def test_zero_shot_method_is_the_zero_shot_classifier(problem):
    found = clipjax.adapt("zero_shot", problem)
    assert_array_equal(found.class_weights, problem.zero_shot.class_weights)


def test_provenance_names_the_method_and_all_inputs(problem):
    provenance = clipjax.adapt("zero_shot", problem).provenance
    assert provenance["method"] == "zero_shot"
    assert {"weights", "images", "classes", "config"} <= provenance.keys()


def test_another_method_s_directory_is_refused(problem, tmp_path):
    clipjax.adapt("zero_shot", problem, folder=tmp_path / "run")
    with pytest.raises(OutputError, match="holds another run"):
        clipjax.adapt("linear_probe", problem, folder=tmp_path / "run")
