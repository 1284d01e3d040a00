"""What the zero-shot classifier says about the unlabelled images: where every method without labels starts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from clipjax.classify.embed import embed_images
from clipjax.classify.problem import Problem
from clipjax.data.source import ImageSource
from clipjax.training.run import Run


class Scored(NamedTuple):
    """The unlabelled images that can be used, and their zero-shot scores."""

    images: ImageSource
    scores: Float[np.ndarray, "images classes"]

    @property
    def labels(self) -> Int[np.ndarray, " images"]:
        """The best class of each image."""
        return self.scores.argmax(1).astype(np.int32)


def zero_shot_scores(problem: Problem, run: Run, *, batch_size: int = 64) -> Scored:
    """Score the unlabelled images with the zero-shot classifier, once in a run.

    Raises:
      DataError: an image cannot be decoded.
    """

    def predict():
        rows, indices, _ = embed_images(
            problem.model, problem.params, problem.unlabelled, batch_size=batch_size, progress=run.progress
        )
        return {"scores": problem.zero_shot.scores_of(rows), "indices": indices}

    found = run.once("zero_shot", predict, depends=problem.identity)
    return Scored(problem.unlabelled.select(found["indices"]), found["scores"])


def pseudo_labels(
    scores: Float[np.ndarray, "images classes"], confident: float
) -> tuple[Int[np.ndarray, " kept"], Int[np.ndarray, " kept"]]:
    """Return the images to keep and their labels: of each predicted class the most confident share, at least one."""
    probabilities = np.asarray(jax.nn.softmax(jnp.asarray(scores)))
    labels, confidence = probabilities.argmax(1), probabilities.max(1)
    kept = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = members[np.argsort(-confidence[members], kind="stable")]
        kept.append(order[: max(1, round(confident * len(members)))])
    rows = np.sort(np.concatenate(kept))
    return rows, labels[rows].astype(np.int32)
