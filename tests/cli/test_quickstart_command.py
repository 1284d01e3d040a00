import json

import jax
import pytest

from clipjax.classify.saved import load_classifier
from clipjax.cli.quickstart import METHODS, digits_problem
from clipjax.data.digits import handwritten_digits
from clipjax.weights.embedded import EMBEDDED
from clipjax.weights.load import load


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What `clipjax quickstart --json` prints, and where its files are."""
    import contextlib
    import io

    from clipjax.cli.main import main

    folder = tmp_path_factory.mktemp("quickstart") / "run"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["quickstart", "--json", "-o", str(folder)]) == 0
    return json.loads(printed.getvalue()), folder


def test_embedded_model_is_small_and_reads_real_digits_it_has_never_seen(shown):
    assert sum(file.stat().st_size for file in EMBEDDED.iterdir()) < 8_000_000
    assert shown[0]["zero_shot"]["top1"] > 75


def test_adaptation_without_labels_makes_a_better_classifier(shown):
    for row in shown[0]["methods"]:
        assert row["after"]["top1"] > row["before"]["top1"], row["method"]


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
    problem, _ = digits_problem()
    assert set(problem.unlabelled.labels.tolist()) == {-1}
    assert not any(problem.unlabelled.classnames)


def test_embedded_model_is_half_precision_on_disk_and_single_in_memory():
    _, params = load(EMBEDDED)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(params)} == {"float32"}
