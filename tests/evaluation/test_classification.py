import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clipjax.errors import DataError
from clipjax.evaluation import confusion_matrix, mean_per_class_accuracy, per_class_accuracy, top_k_accuracy
from clipjax.evaluation.few_shot import restrict_to_classes

MEASURES = {
    "top_k_accuracy": lambda logits, labels: top_k_accuracy(logits, labels, 1),
    "mean_per_class_accuracy": mean_per_class_accuracy,
    "per_class_accuracy": per_class_accuracy,
    "confusion_matrix": confusion_matrix,
}


def sorted_top_k(logits, labels, k):
    """Rank by a full stable sort: the definition, at its full price."""
    order = np.argsort(-logits.astype(np.float64), axis=1, kind="stable")
    return np.mean([label in row[:k] for label, row in zip(labels, order)])


@pytest.mark.usefixtures("every_block_size")
@pytest.mark.parametrize("k", [1, 2, 5, 9, 20])
def test_top_k_equals_a_stable_sort_with_many_ties(random, k):
    logits, labels = random.integers(0, 4, (50, 9)) / 2.0, random.integers(0, 9, 50)
    assert top_k_accuracy(logits, labels, k) == sorted_top_k(logits, labels, k)


def test_equal_scores_favour_the_first_class():
    labels = np.array([0, 0, 1, 2])
    assert [top_k_accuracy(np.zeros((4, 3)), labels, k) for k in (1, 2, 3)] == [0.5, 0.75, 1.0]


def test_perfect_scores_are_perfect(random):
    labels = random.integers(0, 6, 40)
    logits = np.eye(6)[labels]
    assert top_k_accuracy(logits, labels, 1) == mean_per_class_accuracy(logits, labels) == 1.0


def test_classes_may_change_places(random):
    logits, labels, order = random.normal(size=(60, 7)), random.integers(0, 7, 60), random.permutation(7)
    renamed = np.argsort(order)[labels]
    assert top_k_accuracy(logits[:, order], renamed, 3) == top_k_accuracy(logits, labels, 3)
    assert_array_equal(confusion_matrix(logits[:, order], renamed), confusion_matrix(logits, labels)[order][:, order])


@pytest.mark.usefixtures("every_block_size")
def test_confusion_counts_true_classes_in_rows_and_predicted_ones_in_columns(random):
    logits, labels = random.normal(size=(50, 4)), random.integers(0, 4, 50)
    counts = np.zeros((4, 4), int)
    for row, label in zip(logits, labels):
        counts[label, np.argmax(row)] += 1
    assert_array_equal(confusion_matrix(logits, labels), counts)


def test_confusion_diagonal_is_top_1(random):
    logits, labels = random.integers(0, 3, (80, 5)).astype(float), random.integers(0, 5, 80)
    assert np.trace(confusion_matrix(logits, labels)) / 80 == top_k_accuracy(logits, labels, 1)


def test_every_class_counts_alike_in_the_mean():
    labels = np.array([0] * 98 + [1, 1])
    logits = np.tile([1.0, 0.0], (100, 1))
    assert top_k_accuracy(logits, labels, 1) == 0.98
    assert mean_per_class_accuracy(logits, labels) == 0.5


def test_class_without_samples_is_nan_and_left_out_of_the_mean():
    logits, labels = np.eye(3)[[0, 1, 1]], np.array([0, 1, 0])
    assert_array_equal(per_class_accuracy(logits, labels), [0.5, 1.0, np.nan])
    assert mean_per_class_accuracy(logits, labels) == 0.75


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.int32])
def test_scores_of_any_precision_rank_alike(random, dtype):
    logits, labels = random.integers(-8, 8, (50, 9)), random.integers(0, 9, 50)
    assert top_k_accuracy(logits.astype(dtype), labels, 3) == sorted_top_k(logits, labels, 3)


def test_infinite_scores_have_a_rank():
    logits = np.array([[-np.inf, 0.0, np.inf], [-np.inf, -np.inf, 1.0]])
    assert top_k_accuracy(logits, np.array([2, 0]), 1) == 0.5
    assert top_k_accuracy(logits, np.array([2, 0]), 2) == 1.0


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((3, 2)), np.array([0, 1]), r"shape \(3,\)"),
        (np.zeros((2, 2)), np.array([0, 2]), "between 0 and 1, got 2"),
        (np.zeros((2, 2)), np.array([0, -1]), "between 0 and 1, got -1"),
        (np.zeros((2, 2)), np.array([0.0, 1.0]), "integers"),
        (np.zeros((0, 2)), np.zeros(0, int), "nothing to measure"),
        (np.zeros(2), np.array([0, 1]), "matrix"),
        (np.zeros((2, 2), complex), np.array([0, 1]), "real numbers"),
        (np.array([[0.0, 1.0], [np.nan, 0.0]]), np.array([0, 1]), "NaN in row 1"),
    ],
)
def test_unusable_input_is_refused(measure, logits, labels, message):
    with pytest.raises(DataError, match=message):
        measure(logits, labels)


@pytest.mark.parametrize("k", [0, -1, 1.5])
def test_k_below_one_is_refused(k):
    with pytest.raises(DataError, match="at least 1"):
        top_k_accuracy(np.zeros((2, 2)), np.array([0, 1]), k)


GOLDEN = ["all_equal", "no_ties", "three_classes", "ties"]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(golden_metrics, name):
    g = golden_metrics(f"classification_{name}")
    logits, labels = g["in_logits"], g["in_labels"]
    assert_allclose(top_k_accuracy(logits, labels, 1), g["out_top1"], rtol=1e-12)
    assert_allclose(top_k_accuracy(logits, labels, 5), g["out_top5"], rtol=1e-12)
    assert_allclose(mean_per_class_accuracy(logits, labels), g["out_mean_per_class"], rtol=1e-12)
    assert_allclose(per_class_accuracy(logits, labels), g["out_per_class"], rtol=1e-12)
    assert_array_equal(confusion_matrix(logits, labels), g["out_confusion_true_pred"])


def test_no_golden_file_is_left_out(shared_data):
    files = (shared_data / "golden" / "metrics").glob("classification_*.npz")
    assert {f.stem for f in files} == {f"classification_{name}" for name in GOLDEN}


@pytest.mark.parametrize(("name", "samples", "percent"), [("caltech101", 1830, 91.4), ("oxford_pets", 2383, 91.9)])
def test_zero_shot_on_real_embeddings_reaches_the_known_accuracy(shared_data, name, samples, percent):
    images = np.load(shared_data / "data" / "features" / f"clip_vitb32_{name}.npz")
    texts = np.load(shared_data / "data" / "features" / "clip_vitb32_class_text.npz")
    kept, labels = restrict_to_classes(images["test_labels"], texts[f"{name}_class_ids"])
    # some classes have equal texts: rounded, their scores are equal on every processor, and the first class counts
    logits = np.round(100 * images["test_features"][kept].astype(np.float64) @ texts[f"{name}_emb"].T, 6)
    assert len(kept) == samples
    assert abs(100 * top_k_accuracy(logits, labels, 1) - percent) < 0.05
