"""PC-CLIP: a text tower that learns what differences of image embeddings mean (arXiv 2409.09721)."""

from clipjax.methods.pcclip.algorithm import (
    comparative_weights,
    confused_pairs,
    difference_accuracy,
    difference_cosines,
    difference_distance,
    difference_loss,
)

__all__ = [
    "comparative_weights",
    "confused_pairs",
    "difference_accuracy",
    "difference_cosines",
    "difference_distance",
    "difference_loss",
]
