"""What can be known of a run without a label, and when it tells to stop.

An epoch's `agreement` is the share of its images, as augmented, whose two labels are the same: what the current
prototypes say and what the zero-shot classifier said. It rises while the encoders learn what the fixed labels can
teach. `drift` says how far prototypes are from where they began (one minus the mean cosine), `mixer_entropy`
how evenly texts are blended (0: one counts alone, 1: all alike).
"""

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from clipjax.training.settings import check_range

Watched = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Stopping:
    """When to stop, looked at when an epoch ends.

    After `patience` epochs in a row whose agreement is not higher than any before by `gain`, and at once where
    something goes wrong: agreement falls by `most_fall` below its best, prototypes drift by `most_drift` from the
    class texts, or the blend's entropy goes below `least_entropy`, so that one text decides all. A patience of 0
    never stops.
    """

    patience: int = 0
    gain: float = 0.01
    most_fall: float = 0.1
    most_drift: float = 0.5
    least_entropy: float = 0.05

    def __post_init__(self):
        check_range(self, 0, math.inf, "patience")
        check_range(self, 0, 1, "gain", "most_fall", "least_entropy")
        check_range(self, 0, 2, "most_drift")


def unwatched() -> Watched:
    """Return the state before the first step."""
    nothing = {name: jnp.zeros(()) for name in ("agreement", "mixer_entropy", "drift", "sum_agreement", "sum_entropy")}
    counts = {name: jnp.zeros((), jnp.int32) for name in ("steps", "epochs", "epochs_without_gain")}
    # numbers of epochs begin with 0
    begun = {"epoch": jnp.full((), -1, jnp.int32), "best_agreement": jnp.full((), -1.0, jnp.float32)}
    return {**nothing, **counts, **begun, "stop": jnp.zeros((), bool)}


def watch(
    watched: Watched,
    agreement: Float[Array, ""],
    mixer_entropy: Float[Array, ""],
    drift: Float[Array, ""],
    *,
    epoch: Int[Array, ""],
    epoch_ends: Bool[Array, ""],
    stopping: Stopping,
) -> Watched:
    """Add a step of epoch number `epoch`, and judge the epoch if it ends with this step.

    The result's `agreement`, `mixer_entropy` and `drift` are those of the last epoch that was judged, `epochs` counts
    them. Steps that were skipped, as their numbers were not finite, have no part; an epoch whose last step was
    skipped is not judged.
    """
    begins = watched["epoch"] != epoch
    added = {"sum_agreement": agreement, "sum_entropy": mixer_entropy, "steps": 1}
    sums = {name: jnp.where(begins, 0, watched[name]) + value for name, value in added.items()}
    mean, entropy = sums["sum_agreement"] / sums["steps"], sums["sum_entropy"] / sums["steps"]
    best = watched["best_agreement"]
    without = jnp.where(mean >= best + stopping.gain, 0, watched["epochs_without_gain"] + 1)
    wrong = (mean < best - stopping.most_fall) | (drift > stopping.most_drift) | (entropy < stopping.least_entropy)
    judged = {
        "agreement": mean,
        "mixer_entropy": entropy,
        "drift": drift,
        "best_agreement": jnp.maximum(best, mean),
        "epochs": watched["epochs"] + 1,
        "epochs_without_gain": without,
        "stop": wrong | (without >= stopping.patience) if stopping.patience else watched["stop"],
    }
    going_on = {**watched, **sums, "epoch": epoch}
    return {name: jnp.where(epoch_ends, judged.get(name, value), value) for name, value in going_on.items()}


def agreement_so_far(watched: Watched) -> Float[Array, ""]:
    """Return the mean agreement of the steps of the present epoch."""
    return watched["sum_agreement"] / jnp.maximum(watched["steps"], 1)


def last_epoch(watched: Watched) -> dict[str, float]:
    """Return in plain numbers what was seen of the last epoch that was judged, nothing before there is one."""
    signs = ("agreement", "drift", "mixer_entropy")
    return {name: round(float(watched[name]), 4) for name in signs} if int(watched["epochs"]) else {}


def told_to_stop(carry: dict[str, Watched]) -> Array:
    """Say whether a stage with this carry is over."""
    return carry["watched"]["stop"]
