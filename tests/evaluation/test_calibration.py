import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clipjax.errors import DataError
from clipjax.evaluation import expected_calibration_error
from clipjax.evaluation.calibration import reliability_bins


def naive_error(logits, labels, bins):
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    confidence, correct = probability.max(axis=1), probability.argmax(axis=1) == labels
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.usefixtures("every_block_size")
@pytest.mark.parametrize("bins", [1, 7, 15])
def test_error_equals_a_loop_over_bins(random, bins):
    logits, labels = 2 * random.normal(size=(200, 5)), random.integers(0, 5, 200)
    assert_allclose(expected_calibration_error(logits, labels, bins), naive_error(logits, labels, bins), rtol=1e-10)


def test_certain_and_right_has_no_error():
    labels = np.arange(6)
    assert expected_calibration_error(1e4 * np.eye(6), labels) == 0.0


def test_certain_and_wrong_has_the_whole_error():
    labels = np.roll(np.arange(6), 1)
    assert expected_calibration_error(1e4 * np.eye(6), labels) == 1.0


def test_labels_drawn_from_the_predictions_are_calibrated(random):
    logits = 2 * random.normal(size=(20000, 4))
    labels = np.argmax(logits + random.gumbel(size=logits.shape), axis=1)
    assert expected_calibration_error(logits, labels) < 0.02
    assert expected_calibration_error(3 * logits, labels) > 0.1


def test_a_constant_added_to_a_row_changes_nothing(random):
    logits, labels = random.normal(size=(50, 4)), random.integers(0, 4, 50)
    shifted = logits + 1000.0 * random.normal(size=(50, 1))
    assert_allclose(expected_calibration_error(shifted, labels), expected_calibration_error(logits, labels), rtol=1e-9)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    halves = reliability_bins(np.zeros((3, 2)), np.array([0, 0, 1]), bins=2)
    assert_array_equal(halves.counts, [3, 0])


def test_bins_hold_every_sample_once(random):
    logits, labels = random.normal(size=(123, 4)), random.integers(0, 4, 123)
    assert reliability_bins(logits, labels, 10).counts.sum() == 123


def test_a_class_excluded_by_minus_infinity_is_no_obstacle():
    logits = np.array([[0.0, 0.0, -np.inf]])
    assert expected_calibration_error(logits, np.array([0])) == 0.5


@pytest.mark.parametrize(
    ("logits", "labels", "bins", "message"),
    [
        (np.zeros((3, 2)), np.array([0, 1]), 15, r"shape \(3,\)"),
        (np.zeros((2, 2)), np.array([0, 2]), 15, "between 0 and 1"),
        (np.zeros((0, 2)), np.zeros(0, int), 15, "nothing to measure"),
        (np.zeros((2, 2)), np.array([0, 1]), 0, "bins"),
        (np.array([[0.0, 1.0], [np.nan, 0.0]]), np.array([0, 1]), 15, "NaN in row 1"),
        (np.array([[0.0, 1.0], [np.inf, 0.0]]), np.array([0, 1]), 15, "row 1 is infinite"),
        (np.array([[-np.inf, -np.inf]]), np.array([0]), 15, "row 0 is infinite"),
    ],
)
def test_unusable_input_is_refused(logits, labels, bins, message):
    with pytest.raises(DataError, match=message):
        expected_calibration_error(logits, labels, bins)


@pytest.mark.parametrize("bins", [10, 15])
def test_golden(golden_metrics, bins):
    g = golden_metrics("calibration")
    result = reliability_bins(g["in_logits"], g["in_labels"], bins)
    assert_allclose(result.expected_error, g[f"out_ece_{bins}"], rtol=1e-10)
    assert_allclose(result.largest_error, g[f"out_mce_{bins}"], rtol=1e-10)
    assert_array_equal(result.counts, g[f"out_bin_count_{bins}"])
    assert_allclose(result.accuracy, g[f"out_bin_accuracy_{bins}"], rtol=1e-10)
    assert_allclose(result.confidence, g[f"out_bin_confidence_{bins}"], rtol=1e-10)
