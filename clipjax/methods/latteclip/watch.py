"""What can be known of a run without a label, and when it tells to stop.

An epoch's `agreement` is the share of its images, as augmented, whose two labels are the same: what the current
prototypes say and what the zero-shot classifier said. It rises while the encoders learn what the fixed labels can
teach. `drift` says how far prototypes are from where they began (one minus the mean cosine), `mixer_entropy`
how evenly texts are blended (0: one counts alone, 1: all alike).
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

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


def unwatched() -> Watched:
    """Return the state before the first step."""
    nothing = {name: jnp.zeros(()) for name in ("agreement", "mixer_entropy", "drift")}
    sums = {f"sum_{name}": jnp.zeros(()) for name in ("agreement", "mixer_entropy")}
    counts = {"epochs_without_gain": jnp.zeros((), jnp.int32), "stop": jnp.zeros((), bool)}
    return {**nothing, **sums, **counts, "best_agreement": jnp.full((), -1.0)}


def watch(
    watched: Watched,
    agreement: Float[Array, ""],
    mixer_entropy: Float[Array, ""],
    drift: Float[Array, ""],
    *,
    epoch_ends: Array,
    steps: int,
    stopping: Stopping,
) -> Watched:
    """Add a step, and judge the epoch of so many `steps` where it ends.

    The result's `agreement`, `mixer_entropy` and `drift` are those of the last epoch that ended.
    """
    sums = {
        "agreement": watched["sum_agreement"] + agreement,
        "mixer_entropy": watched["sum_mixer_entropy"] + mixer_entropy,
    }
    mean = {name: total / steps for name, total in sums.items()}
    best = watched["best_agreement"]
    gained = mean["agreement"] >= best + stopping.gain
    without = jnp.where(gained, 0, watched["epochs_without_gain"] + 1)
    wrong = (
        (mean["agreement"] < best - stopping.most_fall)
        | (drift > stopping.most_drift)
        | (mean["mixer_entropy"] < stopping.least_entropy)
    )
    judged = {
        **mean,
        "drift": drift,
        "best_agreement": jnp.maximum(best, mean["agreement"]),
        "epochs_without_gain": without,
        "stop": wrong | (without >= stopping.patience) if stopping.patience else watched["stop"],
        **{f"sum_{name}": jnp.zeros(()) for name in sums},
    }
    going_on = {**watched, **{f"sum_{name}": total for name, total in sums.items()}}
    return {name: jnp.where(epoch_ends, judged[name], value) for name, value in going_on.items()}


def told_to_stop(carry: dict[str, Watched]) -> Array:
    """Say whether a stage with this carry is over."""
    return carry["watched"]["stop"]
