"""Stage 2 of AAPE: generator and class head learn from the aggregated descriptions and from the labels."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from clipjax.classify.heads import Conditioned, joined
from clipjax.methods.aape import initial
from clipjax.methods.aape.aggregation import AggregateStep
from clipjax.methods.aape.algorithm import distill_loss
from clipjax.methods.aape.config import Config
from clipjax.methods.cached_shots import CachedShots, Descriptions, classified, coop_epochs, steps_for, warmed_up
from clipjax.models.clip import unit
from clipjax.models.conditioned import Variant, class_logits, generate
from clipjax.parallel.rules import REPLICATED
from clipjax.training.run import Run
from clipjax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class AdaptStep:
    """The objective of stage 2 (equation 4); `frozen` holds `class_weights`, `temperature` and the loss's `weight`.

    A batch has `rows` (embeddings of views), `labels` and, with `distils`, `targets`. With an `aggregate` step the
    aggregator learns along by its own reward, and what it says of the batch are the targets.
    """

    variant: Variant
    distils: bool = True
    aggregate: AggregateStep | None = None

    def __call__(self, trainable: Any, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return the loss, and its parts with the share of labels that are met."""
        generated = generate(trainable["generator"], batch["rows"])
        logits = class_logits(
            trainable["head"],
            frozen["class_weights"],
            batch["rows"],
            generated,
            temperature=frozen["temperature"],
            variant=self.variant,
        )
        loss, said = classified(logits, batch["labels"])
        said = {**said, "loss_task": loss}
        targets = batch.get("targets")
        if self.aggregate is not None:
            own, (seen, carry) = self.aggregate(trainable["aggregator"], frozen, carry, batch, rng, step)
            targets = unit(self.aggregate.aggregated(trainable["aggregator"], frozen, batch))
            loss, said = loss + own, {**said, **seen}
        if self.distils:
            distilled = distill_loss(generated, targets)
            loss, said = loss + frozen["weight"] * distilled, {**said, "loss_distill": distilled}
        return loss, (said, carry)


def adapted(
    shots: CachedShots,
    targets: Float[np.ndarray, "shots dim"] | None,
    descriptions: Descriptions | None,
    config: Config,
    run: Run,
) -> Conditioned:
    """Train generator and class head, with `targets` of stage 1 or, jointly, with the descriptions themselves."""
    dim = shots.plain.shape[1]
    hidden = config.hidden or max(1, dim // 16)
    keys = jax.random.split(jax.random.key(config.seed), 3)
    trainable = {
        "generator": initial.generator(keys[0], dim, hidden),
        "head": initial.class_head(keys[1], dim, hidden, config.variant, config.alpha),
    }
    frozen: dict[str, Any] = {
        "class_weights": jnp.asarray(shots.class_weights),
        "temperature": jnp.float32(1 / shots.scale),
        "weight": jnp.float32(config.weight),
    }
    more = {} if targets is None else {"targets": targets}
    carry: dict[str, Any] = {}
    optimizer, aggregate = config.optimizer, None
    if config.joint and descriptions is not None:
        aggregate = AggregateStep(config.aggregation.program())
        trainable["aggregator"] = initial.aggregator(keys[2], config.aggregation, shots, descriptions)
        # what is stopped by in a stage of its own is only reported here
        frozen |= {"descriptions": descriptions.rows, "present": descriptions.present}
        frozen |= {"goal": jnp.float32(2), "per_epoch": jnp.float32(jnp.inf)}
        carry = {"total": jnp.float32(0), "count": jnp.float32(0), "risen": jnp.asarray(False)}
        more |= {"plain": shots.plain, "images": np.arange(len(shots.labels), dtype=np.int32)}
        slower = config.aggregation.optimizer.lr / optimizer.lr if optimizer.lr else 1.0
        optimizer = dataclasses.replace(optimizer, factors=(("^aggregator/", slower), *optimizer.factors))
    batches = shots.batches(run, config.batch_size, config.seed, **more)
    steps = steps_for(batches, coop_epochs(shots) if config.epochs is None else config.epochs)
    fitted = run.fit(
        Stage(
            name="adapt",
            trainable=trainable,
            frozen=frozen,
            carry=carry,
            objective=AdaptStep(config.variant, targets is not None or aggregate is not None, aggregate),
            optimizer=warmed_up(optimizer, batches, steps),
            steps=steps,
            batches=batches,
            rules=REPLICATED,
            seed=config.seed,
            origin=f"{hidden} hidden units and alpha {config.alpha} drawn by {config.seed}",
        )
    )
    learned = fitted.learned
    return Conditioned(joined(generator=learned["generator"], head=learned["head"]), config.variant)
