"""Measures of a classifier or an encoder; how it was trained does not matter here."""

from clipjax.evaluation.answers import answer_accuracy, normal_answer, vqa_accuracy
from clipjax.evaluation.attributes import attribute_classifier_scores, attribute_ranks
from clipjax.evaluation.calibration import expected_calibration_error
from clipjax.evaluation.caption_scores import bleu, cider_d
from clipjax.evaluation.classification import (
    confusion_matrix,
    mean_per_class_accuracy,
    per_class_accuracy,
    top_k_accuracy,
)
from clipjax.evaluation.clip_score import clip_scores
from clipjax.evaluation.difference import differences_right, over_seeds
from clipjax.evaluation.few_shot import base_new_split, harmonic_mean
from clipjax.evaluation.ranking import difference_scores, kendall_tau, ranked
from clipjax.evaluation.retrieval import median_rank, recall_at_k

__all__ = [
    "answer_accuracy",
    "attribute_classifier_scores",
    "attribute_ranks",
    "base_new_split",
    "bleu",
    "cider_d",
    "clip_scores",
    "confusion_matrix",
    "difference_scores",
    "differences_right",
    "expected_calibration_error",
    "harmonic_mean",
    "kendall_tau",
    "mean_per_class_accuracy",
    "median_rank",
    "normal_answer",
    "over_seeds",
    "per_class_accuracy",
    "ranked",
    "recall_at_k",
    "top_k_accuracy",
    "vqa_accuracy",
]
