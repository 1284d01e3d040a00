"""Measures of a classifier or an encoder; how it was trained does not matter here."""

from clipjax.evaluation.calibration import expected_calibration_error
from clipjax.evaluation.classification import (
    confusion_matrix,
    mean_per_class_accuracy,
    per_class_accuracy,
    top_k_accuracy,
)
from clipjax.evaluation.few_shot import base_new_split, harmonic_mean
from clipjax.evaluation.retrieval import median_rank, recall_at_k

__all__ = [
    "base_new_split",
    "confusion_matrix",
    "expected_calibration_error",
    "harmonic_mean",
    "mean_per_class_accuracy",
    "median_rank",
    "per_class_accuracy",
    "recall_at_k",
    "top_k_accuracy",
]
