"""PC-CLIP: a text tower that learns what differences of image embeddings mean (arXiv 2409.09721)."""

from clipjax.methods.pcclip.adapt import adapt
from clipjax.methods.pcclip.algorithm import (
    comparative_weights,
    confused_pairs,
    difference_accuracy,
    difference_cosines,
    difference_distance,
    difference_loss,
)
from clipjax.methods.pcclip.config import Config

__all__ = [
    "Config",
    "adapt",
    "comparative_weights",
    "confused_pairs",
    "difference_accuracy",
    "difference_cosines",
    "difference_distance",
    "difference_loss",
]
