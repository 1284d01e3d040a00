"""How well texts fit what they are about, by CLIP: low values are likely inventions of the model that wrote them."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from clipjax.texts.record import Kind

_OTHERS = 512
_ROWS = 4096


@dataclasses.dataclass(frozen=True)
class Faithfulness:
    """Scores of texts of one kind.

    `similarity` is the cosine of a text and its subject. `percentile` says how many percent of the texts
    have a lower one. `suits_better` is the share of other subjects that the text suits better than its
    own: near 0 for a text that fits, 0.5 for one that could be about anything.
    """

    similarity: Float[np.ndarray, " texts"]
    percentile: Float[np.ndarray, " texts"]
    suits_better: Float[np.ndarray, " texts"]

    def low(self, percent: float) -> np.ndarray:
        """Return the positions of the texts that are among the lowest `percent`, the lowest first."""
        order = np.argsort(self.similarity, kind="stable")
        return order[self.percentile[order] < percent]


def faithfulness(
    kind: Kind,
    texts: Float[np.ndarray, "texts dim"],
    images: Float[np.ndarray, "images dim"],
    subjects: Sequence[Sequence[int]],
) -> Faithfulness:
    """Score texts of one kind against the images that each is about.

    A caption is compared with its image, a group caption with the mean of its images, a difference
    with first minus second: the direction that PC-CLIP aligns it with (arXiv 2409.09721). Embeddings need not
    have unit length. The share of other subjects is taken over at most 512 of them, evenly spread.

    Args:
      subjects: for each text the rows of `images` it is about, in order.
    """
    texts, images = _unit(texts), _unit(images)
    targets = _unit(np.stack([_target(kind, images[list(rows)]) for rows in subjects]))
    similarity = np.einsum("td,td->t", texts, targets)
    lower = np.searchsorted(np.sort(similarity), similarity, side="left")
    others = targets[np.unique(np.linspace(0, len(targets) - 1, _OTHERS).astype(int))]
    better = np.concatenate(
        [
            np.mean(texts[i : i + _ROWS] @ others.T > similarity[i : i + _ROWS, None] + 1e-6, axis=1)
            for i in range(0, len(texts), _ROWS)
        ]
    )
    return Faithfulness(similarity, 100 * lower / len(similarity), better)


def _target(kind: Kind, images: Float[np.ndarray, "about dim"]) -> Float[np.ndarray, " dim"]:
    return images[0] - images[1] if kind == "difference" else images.mean(0)


def _unit(rows: Float[np.ndarray, "rows dim"]) -> Float[np.ndarray, "rows dim"]:
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
