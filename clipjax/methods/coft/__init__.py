"""CoFT: two prompted models check each other's pseudo-labels, then an encoder is fine-tuned (arXiv 2602.04337)."""

from clipjax.methods.coft.adapt import adapt
from clipjax.methods.coft.algorithm import (
    accepted_cross_entropy,
    clean_log_probability,
    cross_accept,
    ema,
    enqueue,
    moco_loss,
    negative_loss,
    positive_loss,
)
from clipjax.methods.coft.config import Config
from clipjax.methods.pseudo_labels import select_seeds

__all__ = [
    "Config",
    "accepted_cross_entropy",
    "adapt",
    "clean_log_probability",
    "cross_accept",
    "ema",
    "enqueue",
    "moco_loss",
    "negative_loss",
    "positive_loss",
    "select_seeds",
]
