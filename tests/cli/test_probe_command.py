import warnings

import numpy as np
import pytest

from clipjax.classify import linear_probe as linear_probe_module


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    """Pictures in train/ and test/, of plain colours that any features tell apart."""
    from picture_folders import write_pictures

    root = tmp_path_factory.mktemp("data") / "divided"
    write_pictures(root / "train", seed=1, per_class=6)
    write_pictures(root / "test", seed=2, per_class=3)
    return root


@pytest.fixture
def probe(clipjax, checkpoint, divided):
    """A function that probes the divided pictures."""

    def run(*arguments, images=divided):
        return clipjax("probe", "--weights", checkpoint, "--images", images, *arguments)

    return run


def test_plain_colours_are_told_apart(probe):
    found = probe("--json").json
    assert (found["train_images"], found["test_images"]) == (18, 9)
    assert found["top1"] == found["mean_per_class"] == 100
    assert found["converged"] is True


def test_sweep_lists_every_c_that_was_tried(probe):
    sweep = probe("--json").json["sweep"]
    assert {1e-6, 1.0, 1e6} <= {step["C"] for step in sweep}
    assert all(0 <= step["accuracy"] <= 100 for step in sweep)


def test_table_has_the_accuracies(probe):
    out = probe().out
    assert "linear probe on" in out and "top-1 %" in out and "100.00" in out


def test_shots_limit_the_images_of_each_class(probe):
    assert probe("--shots", 2, "--json").json["train_images"] == 6


def test_more_shots_than_images_is_an_error(probe, complains):
    complains(probe("--shots", 99), "ask for at most 6 per class")


def test_same_seed_gives_the_same_result(probe):
    assert probe("--shots", 3, "--seed", 5, "--json") == probe("--shots", 3, "--seed", 5, "--json")


def test_validation_images_choose_c_and_are_fitted_too(probe, monkeypatch):
    seen = {}
    fit = linear_probe_module.linear_probe

    def watch(*arguments, **options):
        seen.update(options)
        return fit(*arguments, **options)

    monkeypatch.setattr(linear_probe_module, "linear_probe", watch)
    assert probe("--val", "split=test", "--json").json["train_images"] == 18 + 9
    assert len(seen["validation"][1]) == 9


def test_validation_images_choose_c_for_shots_and_are_not_fitted(probe):
    assert probe("--shots", 1, "--val", "split=test", "--json").json["train_images"] == 3


@pytest.mark.parametrize(
    ("arguments", "remark"),
    [
        (["--val", "split=test"], "9 images are both fitted and measured"),
        (["--val", "split=test", "--shots", 1], "9 images are both used to choose C and measured"),
        (["--test", "split=train", "--shots", 2], "6 images are both fitted and measured"),
    ],
)
def test_overlap_is_counted_after_the_draw_and_with_the_validation_images(arguments, remark, probe):
    assert remark in probe(*arguments).err


@pytest.mark.parametrize("seed", [-1, "x", 1.5])
def test_seed_that_is_no_natural_number_is_one_line(seed, probe, complains):
    complains(probe("--seed", seed), f"'{seed}' is not an integer of at least 0")


def test_images_that_are_fitted_and_measured_are_remarked_on(probe):
    assert "18 images are both fitted and measured" in probe("--test", "split=train").err


def test_fit_that_stops_early_is_remarked_on_and_nothing_else_is_said(probe, monkeypatch):
    monkeypatch.setattr(linear_probe_module, "MAX_ITERATIONS", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = probe("--json")
    assert result.json["converged"] is False
    assert "did not converge" in result.err and result.err.count("\n") == 1


def test_test_class_that_was_never_fitted_counts_as_wrong(probe, tmp_path):
    from picture_folders import write_pictures

    folder = write_pictures(tmp_path / "parts")
    parts = {"red_panda": "train", "blue_sky": "train", "green_tree": "test"}
    lines = [f"{name}/{n}.png,{name},{split}" for name, split in parts.items() for n in range(4)]
    (folder / "manifest.csv").write_text("\n".join(["path,classname,split", *lines]))
    found = probe("--json", images=folder).json
    assert (found["train_images"], found["test_images"], found["top1"]) == (8, 4, 0)
    assert "top5" not in found and "mean_per_class" not in found


def test_one_class_cannot_be_fitted(probe, complains):
    complains(probe("--train", "classname=red_panda"), "needs at least 2 classes")


def test_images_without_splits_are_an_error_with_a_remedy(probe, photos, complains):
    complains(probe(images=photos), photos, "has no splits", "another column with --train")


def test_images_without_labels_are_an_error(probe, photos, complains):
    result = probe("--train", "id=0.png", "--test", "id=1.png", images=photos / "red_panda")
    complains(result, "without a label", "class folders or a manifest")


@pytest.mark.parametrize("option", ["--train", "--test", "--val"])
def test_condition_without_a_value_names_its_option(option, probe, complains):
    complains(probe(option, "train"), f"{option} train: write COLUMN=VALUE")


def test_labels_of_the_data_need_not_begin_at_zero(clipjax, checkpoint, tmp_path):
    from picture_folders import write_pictures

    folder = write_pictures(tmp_path / "odd")
    lines = [f"{name}/{n}.png,{label},{'train' if n < 3 else 'test'}"
             for name, label in (("red_panda", 7), ("blue_sky", 3), ("green_tree", 40)) for n in range(4)]  # fmt: skip
    (folder / "manifest.csv").write_text("\n".join(["path,label,split", *lines]))
    found = clipjax("probe", "--weights", checkpoint, "--images", folder, "--json").json
    assert found["top5"] == 100
    assert np.isclose(found["top1"], found["mean_per_class"])
