"""KgCoOp: CoOp that stays near the texts people write (Yao et al., arXiv 2303.13283)."""

import dataclasses

from clipjax.classify.classifier import Classifier
from clipjax.classify.problem import Problem
from clipjax.methods import coop
from clipjax.training.run import Run


@dataclasses.dataclass(frozen=True)
class Config(coop.Config):
    """CoOp's settings, from "a photo of a" and with the distance to the problem's own prompts in the loss."""

    words: str | None = "a photo of a"
    knowledge: float = 8.0


def adapt(problem: Problem, config: Config, run: Run) -> Classifier:
    """Learn contexts as CoOp does, with a price for moving the class embeddings.

    Raises:
      DataError, ConfigError: see `coop.adapt`.
    """
    return coop.adapt(problem, config, run)
