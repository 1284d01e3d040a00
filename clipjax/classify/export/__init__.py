"""A classifier for those who do not have clipjax: checkpoints for PyTorch, or a program for any jax."""

from clipjax.classify.export.card import Facts
from clipjax.classify.export.directory import export_directory
from clipjax.classify.export.stablehlo import export_stablehlo

__all__ = ["Facts", "export_directory", "export_stablehlo"]
