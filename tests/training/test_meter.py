"""The share of the devices' peak rate, with a peak of our own: the processor's is not known."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from toy_stages import toy_stage

from clipjax.training import meter
from clipjax.training.fit import Pace, fit

PEAK = 1e15


@pytest.fixture
def entries(monkeypatch):
    """A function that trains on devices of a known peak and returns the entries."""

    def run(stage):
        monkeypatch.setattr(meter, "peak_flops", lambda kind: PEAK)
        found = []
        fit(stage, pace=Pace(log_every=6), sinks=[found.append])
        return [entry.values for entry in found]

    return run


def test_utilisation_is_the_models_work_over_what_the_devices_could_do(entries):
    seen = []
    stage = toy_stage()
    work = meter.model_flops
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meter, "model_flops", lambda *arguments: seen.append(work(*arguments)) or seen[-1])
        found = entries(stage)
    (flops,) = seen  # counted once, not at each step
    assert flops > 0
    for values in found:
        share = flops / (PEAK * jax.device_count() * values["step_seconds"])
        assert values["model_flop_utilisation"] == pytest.approx(share)


def test_a_device_of_unknown_peak_has_no_utilisation():
    found = []
    fit(toy_stage(), sinks=[found.append])
    assert "model_flop_utilisation" not in found[-1].values


@jax.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))


@dataclasses.dataclass(frozen=True)
class OwnGradient:
    """An objective whose gradient is its own; what that takes cannot be told."""

    def __call__(self, trainable, frozen, carry, batch, rng, step):
        total = sum(jnp.sum(jnp.square(doubled(leaf))) for leaf in jax.tree.leaves(trainable))
        return total, ({}, carry)


def test_an_objective_with_a_gradient_of_its_own_has_no_utilisation(entries):
    for values in entries(dataclasses.replace(toy_stage(), objective=OwnGradient())):
        assert "model_flop_utilisation" not in values
