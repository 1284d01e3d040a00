"""The baseline of all: class weights from texts, nothing trained."""

import dataclasses

from clipjax.classify.classifier import Classifier
from clipjax.classify.problem import Problem
from clipjax.training.run import Run


@dataclasses.dataclass(frozen=True)
class Config:
    """Zero-shot classification has no settings."""


def adapt(problem: Problem, config: Config, run: Run) -> Classifier:
    """Return the problem's zero-shot classifier (Radford et al., arXiv 2103.00020, section 3.1)."""
    return problem.text_classifier(problem.params, run.progress)
