"""AAPE from a problem to a classifier (Huang et al., arXiv 2410.23698)."""

from clipjax.classify.classifier import Classifier
from clipjax.classify.heads import Conditioned
from clipjax.classify.problem import Problem
from clipjax.errors import DataError
from clipjax.methods.aape.adaptation import adapted
from clipjax.methods.aape.aggregation import targets
from clipjax.methods.aape.config import Config
from clipjax.methods.cached_shots import CachedShots, Descriptions, cached_shots, classifier_of, embedded_descriptions
from clipjax.training.run import Run


def adapt(problem: Problem, config: Config, run: Run) -> Classifier:
    """Embed shots and descriptions, fuse the descriptions for each shot, and distil them into a prompt generator.

    Raises:
      DataError: no shots, a class without a shot, or a class without a description.
    """
    shots = cached_shots(problem, config.views, run, config.seed)
    descriptions = embedded_descriptions(problem, run) if config.weight else None
    return classifier_of(problem, shots, fit(shots, descriptions, config, run))


def fit(shots: CachedShots, descriptions: Descriptions | None, config: Config, run: Run) -> Conditioned:
    """Learn generator and class head from embeddings.

    Raises:
      DataError: the distillation loss counts, and there are no descriptions.
    """
    if not config.weight:
        return adapted(shots, None, None, config, run)
    if descriptions is None:
        raise DataError("AAPE distils descriptions of the classes; pass them, or set weight=0")
    if config.joint and config.aggregation.learns:
        return adapted(shots, None, descriptions, config, run)
    found = targets(shots, descriptions, config.aggregation, run, batch_size=config.batch_size, seed=config.seed)
    return adapted(shots, found, None, config, run)
