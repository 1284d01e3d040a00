"""Stage 1 of AAPE: the aggregator learns to fuse descriptions so that CLIP finds the result like the image."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from clipjax.methods.aape import initial
from clipjax.methods.aape.algorithm import aggregate, amortised_queries, clip_s, mean_description, mixed_mean
from clipjax.methods.aape.config import Aggregation
from clipjax.methods.cached_shots import CachedShots, Descriptions, steps_for
from clipjax.models.clip import unit
from clipjax.parallel.rules import REPLICATED
from clipjax.training.checksums import digest
from clipjax.training.run import Run
from clipjax.training.stage import Stage

REWARD = 2.5
"""CLIPScore's factor; it only scales the learning rate."""

AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class AggregateStep:
    """The objective of stage 1; `frozen` holds `descriptions`, what is `present` of them, the `goal` and `per_epoch`.

    A batch has `plain` embeddings, `labels`, which say whose descriptions are meant, and `images`, which of all shots
    they are. The carry sums up the cosines of an epoch and says whether they have risen to the goal.
    """

    aggregation: Aggregation

    def __call__(self, trainable: Any, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return the negative reward, the mean cosine to the images, and the sums."""
        found = self.aggregated(trainable, frozen, batch, rng)
        reward = jnp.mean(clip_s(batch["plain"], found, scale=REWARD))
        cosine = jnp.mean(jnp.sum(batch["plain"] * unit(found), axis=-1))
        total, count = carry["total"] + cosine, carry["count"] + 1
        full = count >= frozen["per_epoch"]
        risen = carry["risen"] | (full & (total >= frozen["goal"] * count))
        restart = lambda x: jnp.where(full, jnp.zeros_like(x), x)
        return -reward, ({"similarity": cosine}, {"total": restart(total), "count": restart(count), "risen": risen})

    def aggregated(
        self, weights: Any, frozen: Any, batch: Any, key: PRNGKeyArray | None = None
    ) -> Float[Array, "batch dim"]:
        """Fuse the descriptions of a batch; with a `key` some attention is dropped."""
        owners = batch["labels"]
        rows, present = frozen["descriptions"][owners], frozen["present"][owners]
        means = mean_description(rows, present)
        if self.aggregation.kind == "mlp":
            return mixed_mean({name.removeprefix("mlp_"): array for name, array in weights.items()}, means)
        match self.aggregation.query:
            case "image":
                queries = weights["query"][batch["images"]]
            case "class":
                queries = weights["query"][owners]
            case "amortised":
                own = {name.removeprefix("query_"): array for name, array in weights.items()}
                queries = amortised_queries(own, batch["plain"], means)
            case "mean":
                queries = means
        dropout = 0.0 if key is None else self.aggregation.dropout
        return aggregate(weights, queries, rows, present, heads=self.aggregation.heads, dropout=dropout, key=key)


def targets(
    shots: CachedShots, descriptions: Descriptions, aggregation: Aggregation, run: Run, *, batch_size: int, seed: int
) -> Float[np.ndarray, "shots dim"]:
    """Make the embedding of each shot that the generator is to reproduce, of unit length.

    Where the aggregator learns, it is trained first, and forgotten afterwards.
    """
    if not aggregation.learns:
        return fixed_targets(shots.labels, descriptions, aggregation, seed)
    step = AggregateStep(aggregation.program())
    frozen = {"descriptions": descriptions.rows, "present": descriptions.present}
    images = np.arange(len(shots.labels), dtype=np.int32)
    batches = shots.batches(run, batch_size, seed, plain=shots.plain, images=images)
    per_epoch = steps_for(batches, 1.0)
    before = _mean_cosine(shots, descriptions.means[shots.labels])
    fitted = run.fit(
        Stage(
            name="aggregate",
            trainable=initial.aggregator(jax.random.key(seed), aggregation, shots, descriptions),
            frozen={
                **frozen,
                "goal": jnp.float32(before + aggregation.rise * abs(before)),
                "per_epoch": jnp.float32(per_epoch),
            },
            carry={"total": jnp.float32(0), "count": jnp.float32(0), "risen": jnp.asarray(False)},
            until=_risen,
            objective=step,
            optimizer=aggregation.optimizer,
            steps=steps_for(batches, aggregation.epochs),
            batches=batches,
            rules=REPLICATED,
            seed=seed,
            origin=f"drawn by {seed}",
        )
    )
    weights = fitted.learned
    found = run.once(
        "targets",
        lambda: {"rows": of_all_shots(step, weights, frozen, shots.plain, shots.labels)},
        depends=(digest(weights), digest(frozen), digest({"rows": shots.plain, "labels": shots.labels})),
    )
    return found["rows"]


def of_all_shots(
    step: AggregateStep,
    weights: Any,
    frozen: Any,
    plain: Float[np.ndarray, "shots dim"],
    labels: Int[np.ndarray, " shots"],
) -> Float[np.ndarray, "shots dim"]:
    """Fuse the descriptions of every shot by a trained aggregator, to unit length."""
    batch = {"plain": plain, "labels": labels, "images": np.arange(len(labels), dtype=np.int32)}
    parts = [
        unit(_fused(step, weights, frozen, {name: array[first : first + AT_ONCE] for name, array in batch.items()}))
        for first in range(0, len(labels), AT_ONCE)
    ]
    return np.concatenate([np.asarray(part, np.float32) for part in parts])


def fixed_targets(
    labels: Int[np.ndarray, " shots"], descriptions: Descriptions, aggregation: Aggregation, seed: int
) -> Float[np.ndarray, "shots dim"]:
    """Take the mean description of each shot's class, or one that is drawn for each shot once."""
    rows = descriptions.means[labels]
    if aggregation.kind == "random":
        drawn = np.random.default_rng(seed).random((len(labels), descriptions.rows.shape[1]))
        chosen = np.where(descriptions.present[labels], drawn, -1).argmax(1)
        rows = descriptions.rows[labels, chosen]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@jax.jit(static_argnums=0)
def _fused(step: AggregateStep, weights: Any, frozen: Any, batch: Any):
    return step.aggregated(weights, frozen, batch)


def _risen(carry: Any) -> Bool[Array, ""]:
    return carry["risen"]


def _mean_cosine(shots: CachedShots, rows: Float[np.ndarray, "shots dim"]) -> float:
    return float(np.mean(np.sum(shots.plain * rows, axis=1) / np.linalg.norm(rows, axis=1)))
