import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from clipjax.classify.embed import score_images
from clipjax.classify.problem import unlabelled
from clipjax.classify.saved import load_classifier
from clipjax.cli.main import main
from clipjax.cli.quickstart import METHODS, digits_problem
from clipjax.cli.quickstart_texts import digit_texts
from clipjax.data.digits import handwritten_digits
from clipjax.progress import silent
from clipjax.weights.embedded import EMBEDDED
from clipjax.weights.load import load


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What `clipjax quickstart --json` prints, and where its files are; compiled as for users, since it trains."""
    folder = tmp_path_factory.mktemp("quickstart") / "run"
    command = [sys.executable, "-m", "clipjax.cli.main", "quickstart", "--json", "-o", str(folder)]
    done = subprocess.run(command, env=os.environ | {"XLA_FLAGS": ""}, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout), folder


def test_embedded_model_is_small_and_reads_real_digits_it_has_never_seen():
    assert sum(file.stat().st_size for file in EMBEDDED.iterdir()) < 8_000_000
    problem, test = digits_problem(EMBEDDED)
    scores, rows, _ = score_images(problem.zero_shot, test)
    assert np.mean(scores.argmax(1) == test.labels[rows]) > 0.75


@pytest.mark.slow
def test_adaptation_without_labels_makes_a_better_classifier(shown):
    for row in shown[0]["methods"]:
        assert row["after"]["top1"] > row["before"]["top1"], row["method"]


@pytest.mark.slow
def test_adapted_models_load(shown):
    for method in METHODS:
        assert len(load_classifier(shown[1] / method / "model").class_names) == 10
        model, params = load(shown[1] / method)
        model.check_params(params)


def test_three_parts_share_no_image_and_are_all():
    ids = [set(handwritten_digits(part).ids) for part in ("choose", "adapt", "test")]
    assert [len(part) for part in ids] == [599, 599, 599]
    assert set.union(*ids) == set(handwritten_digits().ids)


def test_methods_see_no_label():
    problem, _ = digits_problem(EMBEDDED)
    assert set(problem.unlabelled.labels.tolist()) == {-1}
    assert not any(problem.unlabelled.classnames)


def test_texts_are_the_same_without_labels(tmp_path):
    problem, _ = digits_problem(EMBEDDED)
    some = problem.images.select(range(24))
    erased = unlabelled(some)
    assert set(some.labels.tolist()) - set(erased.labels.tolist())
    written = [
        digit_texts(dataclasses.replace(problem, images=images), EMBEDDED, tmp_path / name, silent)
        for name, images in (("known", some), ("erased", erased))
    ]
    assert written[0] == written[1]
    assert {len(written[0].of_kind[kind]) for kind in ("caption", "group_caption")} == {24}


def test_an_output_that_is_a_file_is_refused_at_once(tmp_path, capsys):
    place = tmp_path / "file"
    place.write_text("mine")
    assert main(["quickstart", "-o", str(place)]) == 2
    assert "is a file" in capsys.readouterr().err and place.read_text() == "mine"


def test_embedded_model_is_half_precision_on_disk_and_single_in_memory():
    _, params = load(EMBEDDED)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} == {"float32"}
