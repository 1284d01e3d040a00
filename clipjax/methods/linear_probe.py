"""The labelled baseline on frozen features: logistic regression on the shots' embeddings."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np

from clipjax.classify.classifier import Classifier
from clipjax.classify.linear_probe import linear_probe
from clipjax.classify.problem import Problem
from clipjax.data.views import eval_view
from clipjax.training.run import Run
from clipjax.training.settings import check_range


@dataclasses.dataclass(frozen=True)
class Config:
    """`seed` draws the fifth of the shots that the strength of the regularisation is chosen on."""

    batch_size: int = 64
    seed: int = 0

    def __post_init__(self):
        check_range(self, 1, math.inf, "batch_size")


def adapt(problem: Problem, config: Config, run: Run) -> Classifier:
    """Fit a linear head on unit embeddings of the shots (Radford et al., arXiv 2103.00020, appendix A.3).

    Raises:
      DataError: the problem has no shots, or a class has none.
    """
    shots = problem.shots_of_every_class()

    model, params = problem.model, problem.params
    clip = model.config
    rows = run.embed(
        shots,
        lambda images: model.encode_image(params, images),
        eval_view(clip.image_size, clip.mean, clip.std, clip.preprocessing),
        weights=f"{problem.identity['weights']} {model!r}",
        batch_size=config.batch_size,
    )
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    probe = linear_probe(rows, shots.labels, rows[:1], seed=config.seed, progress=run.progress)
    # the classifier multiplies cosines by the logit scale; a head of its own undoes that
    scale = float(np.exp(np.asarray(params["logit_scale"], np.float32)))
    return Classifier(
        model,
        params,
        problem.class_names,
        class_weights=jnp.asarray(probe.weights) / scale,
        bias=jnp.asarray(probe.bias),
        provenance={"method": "linear_probe", "C": probe.C, "shots": len(shots)},
    )
