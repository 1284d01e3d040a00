"""Class weights that are the mean of many descriptions: CuPL (arXiv 2209.03320) and DCLIP (arXiv 2210.07183).

Which of the two depends on the texts: sentences as CuPL's models wrote them, or phrases joined to the class name.
"""

import dataclasses

import jax.numpy as jnp

from clipjax.classify.classifier import Classifier
from clipjax.classify.problem import Problem
from clipjax.methods.cached_shots import Descriptions, embedded_descriptions
from clipjax.models.clip import unit
from clipjax.training.run import Run
from clipjax.training.settings import check_range


@dataclasses.dataclass(frozen=True)
class Config:
    """`share` is how much the descriptions count beside the problem's own prompts."""

    share: float = 1.0

    def __post_init__(self):
        check_range(self, 0, 1, "share")


def adapt(problem: Problem, config: Config, run: Run) -> Classifier:
    """Embed the classes' descriptions and average them; nothing is trained.

    Raises:
      DataError: the problem has no texts, or a class has no description.
    """
    weights = fit(problem.zero_shot.class_weights, embedded_descriptions(problem, run), config)
    return Classifier(problem.model, problem.params, problem.class_names, weights)


def fit(class_weights, descriptions: Descriptions, config: Config):
    """Mix class weights with the unit means of the descriptions."""
    means = unit(jnp.asarray(descriptions.means, jnp.float32))
    return unit(config.share * means + (1 - config.share) * class_weights)
