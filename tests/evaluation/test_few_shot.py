import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clipjax.errors import DataError
from clipjax.evaluation import base_new_split, harmonic_mean
from clipjax.evaluation.few_shot import restrict_to_classes


@pytest.fixture
def golden(shared_data):
    return json.loads((shared_data / "golden" / "losses" / "aape_base_new.json").read_text())


@pytest.mark.parametrize("classes", range(1, 12))
def test_every_class_is_in_one_half_and_base_has_the_odd_one(classes):
    base, new = base_new_split(classes)
    assert_array_equal(np.concatenate([base, new]), np.arange(classes))
    assert len(base) - len(new) == classes % 2


def test_labels_split_like_their_classes():
    base, new = base_new_split(np.array([9, 2, 2, 7, 9, 4, 30]))
    assert (base.tolist(), new.tolist()) == ([2, 4, 7], [9, 30])


def test_restriction_keeps_the_named_classes_in_the_order_named():
    kept, labels = restrict_to_classes(np.array([5, 3, 8, 5, 1]), np.array([8, 5]))
    assert (kept.tolist(), labels.tolist()) == ([0, 2, 3], [1, 0, 1])


def test_restriction_to_both_halves_loses_no_sample(random):
    labels = random.integers(0, 9, 40)
    kept = [restrict_to_classes(labels, half)[0] for half in base_new_split(9)]
    assert_array_equal(np.sort(np.concatenate(kept)), np.arange(40))


@pytest.mark.parametrize(("base", "new"), [(0.5, 0.7), (80.47, 71.69), (1.0, 1.0)])
def test_harmonic_mean_lies_between_the_smaller_and_the_plain_mean(base, new):
    assert min(base, new) <= harmonic_mean(base, new) <= (base + new) / 2
    assert harmonic_mean(base, new) == harmonic_mean(new, base)


def test_nothing_right_on_one_side_is_worth_nothing():
    assert harmonic_mean(0.9, 0.0) == harmonic_mean(0.0, 0.0) == 0.0


@pytest.mark.parametrize("accuracies", [(-0.1, 0.5), (0.5, float("nan"))])
def test_impossible_accuracies_are_refused(accuracies):
    with pytest.raises(DataError, match="negative or NaN"):
        harmonic_mean(*accuracies)


@pytest.mark.parametrize("classes", [0, np.array([], int), np.array([0.5, 1.5])])
def test_nothing_to_split_is_refused(classes):
    with pytest.raises(DataError):
        base_new_split(classes)


def test_class_named_twice_is_refused():
    with pytest.raises(DataError, match="class 3 is named twice"):
        restrict_to_classes(np.array([3, 4]), np.array([3, 4, 3]))


def test_golden_class_counts(golden):
    for name, classes in golden["class_counts"].items():
        assert len(base_new_split(classes)[0]) == golden["base_class_counts"][name]


def test_golden_splits(golden):
    for example in golden["split_examples"]:
        for half, classes in zip(("base", "new"), base_new_split(np.array(example["class_ids"]))):
            kept, labels = restrict_to_classes(np.array(example["labels"]), classes)
            assert classes.tolist() == example[f"{half}_classes"]
            assert kept.tolist() == example[f"{half}_sample_index"]
            assert labels.tolist() == example[f"{half}_relabelled"]


def test_golden_harmonic_means(golden):
    for case in golden["harmonic"]:
        assert_allclose(harmonic_mean(case["base"], case["new"]), case["H"], rtol=1e-12)
