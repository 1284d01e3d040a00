"""LatteCLIP: unlabelled images, generated texts, dual pseudo-labels and class prototypes (arXiv 2410.08211)."""

from clipjax.methods.latteclip.adapt import Config, adapt
from clipjax.methods.latteclip.algorithm import Rules, mixer_weights, objective

__all__ = ["Config", "Rules", "adapt", "mixer_weights", "objective"]
