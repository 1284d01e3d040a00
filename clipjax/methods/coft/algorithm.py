"""CoFT's formulas as pure functions of arrays (Wang et al., arXiv 2602.04337; numbers of equations are the paper's).

Each class has two texts, one that says "this is it" and one that says "it is not". What an image's scores for both say
about one class decides whether the class is believed, without a threshold.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped

from clipjax.models.clip import cosines, unit

Detached = Literal["nothing", "positive", "both"]


def positive_loss(positive: Float[Array, "batch classes"], labels: Int[Array, " batch"]) -> Float[Array, ""]:
    """Compute the cross-entropy of the positive texts' scores (equation 4)."""
    return optax.softmax_cross_entropy_with_integer_labels(positive, labels).mean()


def clean_log_probability(positive: Float[Array, "..."], negative: Float[Array, "..."]) -> Float[Array, "..."]:
    """Say how likely a class is right, as a logarithm: the softmax over its own two texts (equation 5)."""
    return jax.nn.log_sigmoid(positive - negative)


def negative_loss(
    positive: Float[Array, "batch classes"],
    negative: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    complements: Int[Array, " batch"],
) -> Float[Array, ""]:
    """Teach the two texts to believe the label and to doubt another class (equation 6).

    One minus stands before the sum of both logarithms. Neither is clamped: a gap of any size keeps its gradient.
    """
    at = lambda scores, classes: jnp.take_along_axis(scores, classes[:, None], axis=1)[:, 0]
    believed = clean_log_probability(at(positive, labels), at(negative, labels))
    doubted = clean_log_probability(at(negative, complements), at(positive, complements))
    return -jnp.mean(believed + doubted)


def prompt_loss(
    images: Float[Array, "batch dim"],
    texts: Float[Array, "2 classes dim"],
    labels: Int[Array, " batch"],
    complements: Int[Array, " batch"],
    *,
    scale: float | Float[Array, ""],
    weight: float | Float[Array, ""],
    detached: Detached = "nothing",
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """Compute what phase I minimises: equation 4 plus `weight` times equation 6.

    Args:
      images, texts: unit embeddings; the positive texts come first.
      detached: what equation 6 sees as a constant: nothing, as the paper has it; the positive scores; or those and
        the image, as its ancestor DeFT does, so that the negative texts alone learn from it.

    Returns:
      The loss, and both parts with the mean probability that label and complement are right.
    """
    positive = scale * cosines(images, texts[0])
    judged = positive if detached == "nothing" else jax.lax.stop_gradient(positive)
    negative = scale * cosines(jax.lax.stop_gradient(images) if detached == "both" else images, texts[1])
    first, second = positive_loss(positive, labels), negative_loss(judged, negative, labels, complements)
    clean = jnp.exp(clean_log_probability(positive, negative))
    rows = jnp.arange(len(labels))
    parts = {
        "loss_positive": first,
        "loss_negative": second,
        "clean_label": jnp.mean(clean[rows, labels]),
        "clean_complement": jnp.mean(clean[rows, complements]),
        "agreement": jnp.mean(jnp.argmax(positive, axis=1) == labels),
    }
    return first + weight * second, parts


def draw_complements(key: PRNGKeyArray, labels: Int[Array, " batch"], classes: int) -> Int[Array, " batch"]:
    """Draw for each label another class, all equally likely."""
    return (labels + jax.random.randint(key, labels.shape, 1, classes)) % classes


def cross_accept(
    proposer: Float[Array, "images classes"],
    validator_positive: Float[Array, "images classes"],
    validator_negative: Float[Array, "images classes"],
) -> tuple[Int[Array, " images"], Bool[Array, " images"]]:
    """Let one model propose a class for each image, and another accept or reject it (section 3.2).

    Accepted is what is more like the validator's positive than like its negative text of that class; equal is rejected.
    """
    labels = jnp.argmax(proposer, axis=1)
    at = lambda scores: jnp.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    return labels, at(validator_positive) > at(validator_negative)


def accepted_cross_entropy(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"], accepted: Bool[Array, " batch"]
) -> Float[Array, ""]:
    """Average the cross-entropy of the accepted rows (equation 7); 0 where there is none."""
    each = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    count = jnp.maximum(jnp.sum(accepted), 1)
    return jnp.sum(jnp.where(accepted, each, 0.0)) / count.astype(each.dtype)


def ema(average: Any, params: Any, decay: float | Float[Array, ""]) -> Any:
    """Move an average of params towards those of now (equation 8)."""
    return jax.tree.map(lambda a, p: (decay * a + (1 - decay) * p).astype(a.dtype), average, params)


def enqueue(
    queue: Shaped[Array, "size ..."], pointer: int | Int[Array, ""], keys: Shaped[Array, "batch ..."]
) -> tuple[Shaped[Array, "size ..."], Int[Array, ""]]:
    """Put keys in place of the oldest, in a ring whose next place is `pointer`.

    Raises:
      ValueError: more keys than the queue has places.
    """
    size, count = len(queue), len(keys)
    if count > size:
        raise ValueError(f"{count} keys do not fit into a queue of {size}; use a longer queue, or a smaller batch")
    places = (pointer + jnp.arange(count)) % size
    return queue.at[places].set(keys), jnp.asarray((pointer + count) % size, jnp.int32)


def moco_loss(
    queries: Float[Array, "batch dim"],
    keys: Float[Array, "batch dim"],
    queue: Float[Array, "size dim"],
    *,
    temperature: float | Float[Array, ""],
    left_out: Bool[Array, "batch size"] | None = None,
) -> Float[Array, ""]:
    """Compare each query with its own key and with those of the queue (equation 9).

    All are scaled to unit length; gradients go into the queries alone. Where `left_out` is true, a key of the queue
    is no negative of a query: it belongs to the same image.
    """
    queries = unit(queries)
    keys, queue = unit(jax.lax.stop_gradient(keys)), unit(jax.lax.stop_gradient(queue))
    own = jnp.sum(queries * keys, axis=1, keepdims=True)
    others = cosines(queries, queue)
    if left_out is not None:
        others = jnp.where(left_out, -jnp.inf, others)
    logits = jnp.concatenate([own, others], axis=1) / temperature
    return -jnp.mean(jax.nn.log_softmax(logits, axis=1)[:, 0])
