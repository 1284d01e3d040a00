import json

import numpy as np
import pytest
from picture_folders import write_pictures

from clipjax.classify.saved import load_classifier
from clipjax.weights.load import load

QUICK = ("--set", "epochs=1", "--set", "batch_size=8")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Pictures in train/ and test/, of plain colours."""
    root = tmp_path_factory.mktemp("data") / "divided"
    write_pictures(root / "train", seed=1, per_class=4)
    write_pictures(root / "test", seed=2, per_class=3)
    return root


@pytest.fixture
def adapt(clipjax, checkpoint, pictures, tmp_path):
    """A function that adapts to the pictures in train/ and writes tmp_path/run."""

    def run(method, *arguments, images=pictures / "train"):
        run = tmp_path / "run"
        return clipjax("adapt", "--method", method, "--weights", checkpoint, "--images", images, "-o", run, *arguments)

    return run


def test_result_loads_as_a_checkpoint_and_as_a_classifier(adapt, tmp_path):
    assert adapt("finetune", *QUICK).status == 0
    model, params = load(tmp_path / "run" / "model")
    model.check_params(params)
    classifier = load_classifier(tmp_path / "run" / "model")
    assert len(classifier.class_names) == 3
    assert classifier.provenance["method"] == "finetune"


def test_probe_s_bias_survives_the_directory(adapt, tmp_path):
    assert adapt("linear_probe", "--labels").status == 0
    assert np.abs(load_classifier(tmp_path / "run" / "model").bias).max() > 0


def test_test_images_are_measured_before_and_after(adapt, pictures, tmp_path):
    found = adapt("linear_probe", "--labels", "--test", pictures / "test", "--json").json
    assert (found["before"]["images"], found["after"]["images"]) == (9, 9)
    assert found["after"]["top1"] == 100
    assert json.loads((tmp_path / "run" / "accuracy.json").read_text()) == found


def test_repeated_command_trains_no_further(adapt, tmp_path):
    first = adapt("finetune", *QUICK)
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert (first.status, adapt("finetune", *QUICK).status) == (0, 0)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["magic"], "no method 'magic'"),
        (["finetune", "--set", "epoch=1"], "unknown setting epoch; did you mean 'epochs'"),
        (["finetune", "--set", "epochs=many"], "the setting epochs is 'many'"),
        (["finetune", "--set", "epochs"], "write NAME=VALUE"),
        (["finetune", "--set", "batch_size=64"], "12 images"),
        (["finetune", "--set", "batch_size=8", "--fsdp", "3"], "fsdp=3 does not divide"),
        (["linear_probe"], "learns from labelled images"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(adapt, arguments, complaint):
    done = adapt(*arguments)
    assert done.status == 2
    assert complaint in done.err
    assert done.err.strip().count("\n") == 0


def test_directory_of_another_run_is_refused_and_replaced_on_request(adapt):
    assert adapt("zero_shot").status == 0
    refused = adapt("linear_probe", "--labels")
    assert (refused.status, "holds another run" in refused.err) == (2, True)
    assert adapt("linear_probe", "--labels", "--overwrite").status == 0


def test_run_stands_for_its_model(adapt, clipjax, tmp_path):
    assert adapt("zero_shot").status == 0
    model, params = load(tmp_path / "run")
    model.check_params(params)
    assert clipjax("inspect", tmp_path / "run").status == 0


def test_unfinished_run_is_no_checkpoint(clipjax, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    refused = clipjax("inspect", tmp_path)
    assert (refused.status, "has not ended" in refused.err) == (2, True)
