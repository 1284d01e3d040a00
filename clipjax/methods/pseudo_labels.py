"""What the zero-shot classifier says about the unlabelled images: where every method without labels starts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from clipjax.classify.embed import embed_images
from clipjax.classify.problem import Problem
from clipjax.data.source import ImageSource
from clipjax.parallel.mesh import make_mesh
from clipjax.training.run import Run

ROWS_AT_A_TIME = 4096
"""So many rows of scores are in memory in float64."""


class Predicted(NamedTuple):
    """What a classifier says about each image: the best class, and how probable that is."""

    labels: Int[np.ndarray, " images"]
    confidence: Float[np.ndarray, " images"]

    def of(self, rows: Int[np.ndarray, " chosen"]) -> "Predicted":
        """Take some of the images."""
        return Predicted(self.labels[rows], self.confidence[rows])


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
            problem.model,
            problem.params,
            problem.unlabelled,
            batch_size=batch_size,
            progress=run.progress,
            mesh=make_mesh() if run.mesh is None else run.mesh,
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


def select_seeds(probabilities: Float[Array | np.ndarray, "images classes"], count: int) -> Bool[np.ndarray, " images"]:
    """Mark the `count` most confident images of each predicted class, fewer where it is predicted less often.

    The rule of UPL (Huang et al., arXiv 2204.03649) and of CoFT (arXiv 2602.04337, equation 1). Of equal classes and
    of equally confident images the first counts.
    """
    known = np.asarray(probabilities)
    return surest(Predicted(known.argmax(1), known.max(1)), count)


def surest(predicted: Predicted, count: int) -> Bool[np.ndarray, " images"]:
    """Mark the images that `select_seeds` marks, where only the best class of each is known."""
    labels, confidence = predicted
    # by class, then by falling confidence, then by place
    order = np.lexsort((-confidence, labels))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.searchsorted(labels[order], labels[order])
    return ranks < count


def predictions(scores: Float[np.ndarray, "images classes"]) -> Predicted:
    """Take the best class and its softmax, in float64: float32 cannot tell apart what is beyond doubt."""
    parts = []
    for first in range(0, len(scores), ROWS_AT_A_TIME):
        wide = np.asarray(scores[first : first + ROWS_AT_A_TIME], np.float64)
        parts.append(1 / np.exp(wide - wide.max(1, keepdims=True)).sum(1))
    return Predicted(scores.argmax(1).astype(np.int32), np.concatenate(parts))
