import json

import numpy as np
import pytest

from clipjax.errors import DataError
from clipjax.evaluation import (
    confusion_matrix,
    expected_calibration_error,
    mean_per_class_accuracy,
    per_class_accuracy,
    top_k_accuracy,
)
from clipjax.evaluation.accuracy_report import accuracy_report

NAMES = ("ant", "bee", "cat", "dog", "emu", "fox", "gnu")


@pytest.fixture
def scored():
    random = np.random.default_rng(0)
    labels = random.integers(0, 6, 200)  # no image of the last class
    scores = random.normal(size=(200, 7)) + 2 * np.eye(7)[labels]
    return scores, labels


def test_report_agrees_with_each_measure(scored):
    report = accuracy_report(*scored, NAMES)
    assert report.images == 200
    assert report.top1 == 100 * top_k_accuracy(*scored, 1)
    assert report.top5 == 100 * top_k_accuracy(*scored, 5)
    assert report.mean_per_class == pytest.approx(100 * mean_per_class_accuracy(*scored))
    assert report.ece == 100 * expected_calibration_error(*scored)
    assert (report.confusion == confusion_matrix(*scored)).all()


def test_classes_come_weakest_first_and_without_those_that_have_no_image(scored):
    rows = accuracy_report(*scored, NAMES).classes()
    expected = dict(zip(NAMES[:6], 100 * per_class_accuracy(*scored)))
    assert {row.name: row.accuracy for row in rows} == pytest.approx(expected)
    assert [row.accuracy for row in rows] == sorted(row.accuracy for row in rows)
    assert sum(row.images for row in rows) == 200


def test_class_names_what_it_is_most_often_taken_for():
    scores = np.eye(3)[[0, 1, 1, 2, 1, 1]]
    report = accuracy_report(scores, np.array([0, 0, 0, 0, 1, 2]), ("ant", "bee", "cat"))
    assert [(row.name, row.taken_for) for row in report.classes()] == [
        ("cat", ("bee", 1)),
        ("ant", ("bee", 2)),
        ("bee", None),
    ]


def test_document_is_json_with_null_for_a_class_without_images(scored):
    document = json.loads(json.dumps(accuracy_report(*scored, NAMES).document(), allow_nan=False))
    assert document["per_class"]["gnu"] is None
    assert list(document["per_class"]) == list(NAMES)
    assert np.sum(document["confusion"]) == 200


def test_no_images_is_an_error():
    with pytest.raises(DataError):
        accuracy_report(np.zeros((0, 3)), np.zeros(0, int), ("a", "b", "c"))
