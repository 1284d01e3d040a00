"""AAPE: descriptions by a language model, distilled into a prompt generator (Huang et al., arXiv 2410.23698)."""

from clipjax.methods.aape.adapt import adapt, fit
from clipjax.methods.aape.algorithm import aggregate, clip_s, distill_loss
from clipjax.methods.aape.config import Aggregation, Config
from clipjax.models.conditioned import class_logits, generate

__all__ = ["Aggregation", "Config", "adapt", "aggregate", "class_logits", "clip_s", "distill_loss", "fit", "generate"]
