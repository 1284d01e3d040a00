"""Adaptation methods and baselines, by name."""

from clipjax.methods.registry import METHODS, method_named

__all__ = ["METHODS", "method_named"]
