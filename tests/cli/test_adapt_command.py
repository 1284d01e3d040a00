import json
import os
import signal

import numpy as np
import pytest

from clipjax.classify.saved import load_classifier
from clipjax.inputs.tokenizer import load_tokenizer
from clipjax.weights.embedded import EMBEDDED
from clipjax.weights.load import load

QUICK = ("--set", "epochs=1", "--set", "batch_size=8")


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


def test_an_ensemble_is_measured_with_its_members_and_predicts(adapt, clipjax, pictures, tmp_path):
    settings = {"contexts": 2, "visual_prompts": 2, "least_prompt_steps": 2, "prompt_epochs": 0, "batch_size": 4}
    settings |= {"tune_epochs": 1, "validation": "none"}
    flags = [flag for name, value in settings.items() for flag in ("--set", f"{name}={value}")]
    found = adapt("coft", *flags, "--test", pictures / "test", "--json").json
    assert [member["images"] for member in found["members"]] == [9, 9]
    assert len(load_classifier(tmp_path / "run/model").members) == 2
    again = clipjax("predict", tmp_path / "run", "--images", pictures / "test", "--labels", "--json").json
    assert again["top1"] == found["after"]["top1"]


def test_a_student_is_saved_with_its_own_tokenizer(adapt, tmp_path):
    settings = {"contexts": 2, "visual_prompts": 1, "least_prompt_steps": 1, "prompt_epochs": 0, "batch_size": 4}
    settings |= {"tune_epochs": 0.01, "validation": "none", "models": 1}
    flags = [flag for name, value in settings.items() for flag in ("--set", f"{name}={value}")]
    assert adapt("coft", *flags, "--student", EMBEDDED).status == 0
    assert load_classifier(tmp_path / "run/model").provenance["student"]
    assert load_tokenizer(tmp_path / "run/model") == load_tokenizer(EMBEDDED)
    assert adapt("coft", *flags, "--student", EMBEDDED, "--set", "finetune=false", "--overwrite").status == 0
    assert load_tokenizer(tmp_path / "run/model").vocab_size == 49408


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
        (["finetune", "--set", "optimizer=adamw", "--set", "optimizer.lr=1"], "was given a value already"),
        (["finetune", "--set", "epochs=NaN"], "the setting epochs is nan"),
        (["finetune", "--set", "epochs=-5"], "the setting epochs is -5.0; it must be above 0"),
        (["finetune", "--set", "batch_size=0"], "the setting batch_size is 0"),
        (["finetune", "--set", "mix=7"], "the setting mix is 7.0; it must be from 0 to 1"),
        (["finetune", "--set", "optimizer.decayed=("], "no regular expression"),
        (["finetune", "--labels", "--where", "classname=green_tree"], "has no image"),
        (["zero_shot", "--split", ""], "the value is empty"),
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


def test_weights_are_not_removed_with_the_run_that_made_them(adapt, clipjax, pictures, complains, tmp_path):
    assert adapt("zero_shot").status == 0
    run = tmp_path / "run"
    flags = ("--images", pictures / "train", "-o", run, "--overwrite")
    again = clipjax("adapt", "--method", "linear_probe", "--labels", "--weights", run / "model", *flags)
    complains(again, "is or holds")
    assert (run / "model" / "classifier.npz").is_file()


def test_labels_of_test_images_are_never_learnt_from(clipjax, checkpoint, pictures, complains, tmp_path):
    flags = ("--weights", checkpoint, "--images", pictures, "-o", tmp_path / "run", "--test-split", "test")
    adapt = ("adapt", "--method", "linear_probe", *flags, "--labels")
    complains(clipjax(*adapt), "9 test images are among those whose labels are learnt from")
    done = clipjax(*adapt, "--split", "train")
    assert (done.status, "9 images" in done.out or "9 " in done.out) == (0, True)


def test_unlabelled_test_images_are_remarked_on(clipjax, checkpoint, pictures, tmp_path):
    flags = ("--weights", checkpoint, "--images", pictures, "-o", tmp_path / "run", "--test-split", "test")
    done = clipjax("adapt", "--method", "zero_shot", *flags)
    assert (done.status, "9 test images are among the unlabelled ones" in done.err) == (0, True)


def test_bad_images_are_left_out_when_asked(clipjax, checkpoint, broken_photos, complains, tmp_path):
    command = ("adapt", "--method", "finetune", *QUICK, "--weights", checkpoint, "--images", broken_photos)
    complains(clipjax(*command, "-o", tmp_path / "run"), "--skip-bad")
    done = clipjax(*command, "-o", tmp_path / "other", "--skip-bad")
    assert (done.status, "left out 2 images" in done.err) == (0, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_before_it_trains_asks_to_be_started_again(adapt, monkeypatch, number):
    monkeypatch.setattr("clipjax.cli.problem_files.open_problem", lambda *files: os.kill(os.getpid(), number))
    stopped = adapt("finetune")
    assert (stopped.status, "repeat the command to go on" in stopped.err) == (75, True)


def test_the_models_own_precision_is_that_of_training(adapt, tmp_path):
    assert adapt("finetune", *QUICK, "--dtype", "bfloat16").status == 0
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert "bfloat16" in run["model"] and run["config"]["dtype"] is None


def test_run_stands_for_its_model(adapt, clipjax, tmp_path):
    assert adapt("zero_shot").status == 0
    model, params = load(tmp_path / "run")
    model.check_params(params)
    assert clipjax("inspect", tmp_path / "run").status == 0


def test_unfinished_run_is_no_checkpoint(clipjax, tmp_path):
    (tmp_path / "run.json").write_text("{}")
    refused = clipjax("inspect", tmp_path)
    assert (refused.status, "has not ended" in refused.err) == (2, True)
