"""Between the phases of CoFT: one model says what every image is, the other which of that to believe."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from clipjax.data.source import UNKNOWN
from clipjax.methods.coft.algorithm import clean_log_probability, cross_accept, draw_complements
from clipjax.methods.coft.prompting import Prompted
from clipjax.methods.pseudo_labels import Predicted, predictions
from clipjax.models.clip import cosines

Validation = Literal["peer", "self", "confidence", "none"]

IMAGES_AT_A_TIME = 4096
"""So many rows of scores are in memory at once."""

_COMPLEMENT_SEED = 0


class Judged(NamedTuple):
    """What is proposed for each image, and what becomes of it.

    `clean` is the validator's probability that the proposal is right and `complement` that another class, drawn at
    random, is; `confidence` is the proposer's softmax. Labels that were `told` are somebody else's.
    """

    labels: Int[np.ndarray, " images"]
    accepted: Bool[np.ndarray, " images"]
    clean: Float[np.ndarray, " images"]
    complement: Float[np.ndarray, " images"]
    confidence: Float[np.ndarray, " images"]
    told: Bool[np.ndarray, " images"]


def judged(
    proposer: Prompted,
    validator: Prompted,
    scale: float,
    *,
    validation: Validation = "peer",
    threshold: float = 0.5,
    said: Int[np.ndarray, " images"] | None = None,
    certain: bool = False,
) -> Judged:
    """Let one model propose and another validate (section 3.2 of the paper).

    Args:
      validation: with "peer" and "self" the validator decides by its own two texts, without a threshold; with
        "confidence" the proposer's softmax of at least `threshold` does, and "none" accepts all.
      said: labels of somebody else that are proposed in place of the proposer's; where `UNKNOWN`, its own are.
      certain: these are known to be right, and never rejected; otherwise they may be noise.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in Judged._fields}
    for part in _slices(len(proposer.images)):
        proposed = None if said is None else jnp.asarray(said[part])
        found = _judge(
            proposer.images[part], proposer.texts, validator.images[part], validator.texts, scale, proposed, part.start
        )
        for name, values in found.items():
            parts[name].append(np.asarray(values))
    found = Judged(**{name: np.concatenate(values) for name, values in parts.items()})
    if validation == "confidence":
        found = found._replace(accepted=found.confidence >= threshold)
    elif validation == "none":
        found = found._replace(accepted=np.ones_like(found.accepted))
    return found._replace(accepted=found.accepted | found.told) if certain else found


def positive_predictions(model: Prompted, scale: float) -> Predicted:
    """Classify all images by the positive texts; scaled in float64, so that the surest can be told apart."""
    parts = []
    for part in _slices(len(model.images)):
        scores = np.asarray(cosines(jnp.asarray(model.images[part]), model.texts[0]), np.float64) * scale
        parts.append(predictions(scores))
    return Predicted(*map(np.concatenate, zip(*parts)))


@jax.jit
def _judge(images, texts, validator_images, validator_texts, scale, said, first) -> dict[str, Any]:
    scores = scale * cosines(images, texts[0])
    positive = scale * cosines(validator_images, validator_texts[0])
    negative = scale * cosines(validator_images, validator_texts[1])
    classes = scores.shape[1]
    told = jnp.zeros(len(scores), bool) if said is None else said != UNKNOWN
    proposer = scores if said is None else jnp.where(told[:, None], jax.nn.one_hot(said, classes), scores)
    labels, accepted = cross_accept(proposer, positive, negative)
    clean = jnp.exp(clean_log_probability(positive, negative))
    at = lambda values, chosen: jnp.take_along_axis(values, chosen[:, None], axis=1)[:, 0]
    key = jax.random.fold_in(jax.random.key(_COMPLEMENT_SEED), first)
    return {
        "labels": labels.astype(jnp.int32),
        "accepted": accepted,
        "clean": at(clean, labels),
        "complement": at(clean, draw_complements(key, labels, classes)),
        "confidence": at(jax.nn.softmax(scores, axis=1), labels),
        "told": told,
    }


def _slices(count: int) -> Iterator[slice]:
    return (slice(first, min(first + IMAGES_AT_A_TIME, count)) for first in range(0, count, IMAGES_AT_A_TIME))
