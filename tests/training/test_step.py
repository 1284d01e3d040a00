import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from toy_stages import OPTIMIZER, Rows, limit_scale, toy_stage

from clipjax.parallel.mesh import make_mesh, put_rows
from clipjax.training.fit import initial
from clipjax.training.optimizers import Optimizer
from clipjax.training.step import Program, train_step


def walk(stage, steps, mesh=None):
    """The states and metrics of some steps from the start, on one device unless a mesh is given."""
    mesh = make_mesh(devices=jax.devices()[:1]) if mesh is None else mesh
    program, state = Program.of(stage, mesh), initial(stage)
    state = jax.device_put(jax.tree.map(jnp.copy, state), program.layout(state))
    batches, numbers, path = stage.batches.batches(), stage.optimizer.numbers(stage.steps), []
    for _ in range(steps):
        state, metrics = train_step(program, state, stage.frozen, put_rows(mesh, next(batches)), numbers)
        path.append((jax.device_get(state), jax.device_get(metrics)))  # a copy: the next step reuses the memory
    return path


def assert_equal(found, wanted):
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_a_step_without_finite_loss_changes_nothing_but_the_counters():
    (before, _), (after, metrics) = walk(toy_stage(batches=Rows(bad_steps=(1,))), 2)
    for name in ("trainable", "optimizer", "carry", "average", "key"):
        assert_equal(getattr(after, name), getattr(before, name))
    assert (after.step, after.skipped, after.skipped_in_row) == (2, 1, 1)
    assert np.isnan(metrics["loss"]) and metrics["skipped"] == 1


@dataclasses.dataclass(frozen=True)
class SteepAtZero:
    """A finite loss whose gradient is not."""

    def __call__(self, trainable, frozen, carry, batch, rng, step):
        return jnp.sqrt(jnp.abs(trainable["x"] * 0)).sum() + batch["x"].sum() * 0, ({}, carry)


def test_a_step_without_finite_gradient_changes_nothing_either():
    stage = dataclasses.replace(
        toy_stage(after_update=None, trainable={"x": jnp.ones(3)}, carry={}), objective=SteepAtZero()
    )
    [(after, metrics)] = walk(stage, 1)
    assert np.isfinite(metrics["loss"])
    assert_equal(after.trainable["x"], np.ones(3))
    assert after.skipped == 1


def test_a_good_step_ends_a_row_of_bad_ones_but_not_their_count():
    states = [state for state, _ in walk(toy_stage(batches=Rows(bad_steps=(0, 1, 3))), 4)]
    assert [int(s.skipped_in_row) for s in states] == [1, 2, 0, 1]
    assert [int(s.skipped) for s in states] == [1, 2, 2, 3]


def test_frozen_params_get_no_optimiser_memory():
    stage = toy_stage()
    moments = sum(leaf.size for leaf in jax.tree.leaves(initial(stage).optimizer))
    trained = sum(leaf.size for leaf in jax.tree.leaves(stage.trainable))
    assert moments == 2 * trained + 1  # Adam's two moments, and its count


@dataclasses.dataclass(frozen=True)
class UsesFrozen:
    def __call__(self, trainable, frozen, carry, batch, rng, step):
        return jnp.sum((trainable["x"] - frozen["x"]) ** 2) + 0 * batch["x"].sum(), ({}, carry)


def test_the_gradient_is_of_the_trainable_params_alone():
    parts = {"trainable": {"x": jnp.full(3, 2.0)}, "frozen": {"x": jnp.full(3, 1.0)}, "carry": {}}
    stage = dataclasses.replace(toy_stage(after_update=None, **parts), objective=UsesFrozen())
    [(_, metrics)] = walk(stage, 1)
    np.testing.assert_allclose(metrics["gradient_norm"], np.sqrt(3 * 2.0**2), rtol=1e-6)  # with frozen: sqrt(2) more


def test_after_update_projects_each_step():
    free = [state.trainable["logit_scale"] for state, _ in walk(toy_stage(after_update=None), 4)]
    held = [state.trainable["logit_scale"] for state, _ in walk(toy_stage(after_update=limit_scale), 4)]
    assert min(free) < -0.02 <= min(held)


def test_the_average_equals_the_recursion_written_out():
    stage = toy_stage()
    average = np.asarray(stage.trainable["head"]["kernel"])
    for state, _ in walk(stage, 4):
        average = 0.9 * average + 0.1 * state.trainable["head"]["kernel"]
        np.testing.assert_allclose(state.average["head"]["kernel"], average, rtol=1e-5)


def test_without_a_decay_there_is_no_average():
    [(state, _)] = walk(toy_stage(optimizer=Optimizer()), 1)
    assert state.average is None


def test_the_carry_is_what_the_objective_returned():
    states = [state for state, _ in walk(toy_stage(), 3)]
    assert [int(state.carry["seen"]) for state in states] == [1, 2, 3]


def test_each_step_draws_its_own_random_numbers():
    still = toy_stage(optimizer=dataclasses.replace(OPTIMIZER, lr=0.0), batches=OneBatch(), after_update=None)
    losses = [float(metrics["loss"]) for _, metrics in walk(still, 3)]
    assert len(set(losses)) == 3


class OneBatch(Rows):
    """The same rows at every step."""

    def batches(self, first_step=0, **place):
        while True:
            yield next(Rows.batches(self, 0, **place))


def test_specs_that_differ_in_numbers_share_one_compilation():
    stage = toy_stage(tag="numbers")
    walk(stage, 1)
    compiled = train_step._cache_size()
    other = dataclasses.replace(
        OPTIMIZER, lr=0.5, warmup=1, end_factor=0.2, weight_decay=0.3, clip_norm=2.0, b1=0.5, b2=0.9, eps=1e-3, ema=0.5
    )
    changed = walk(toy_stage(tag="numbers", optimizer=other), 1)
    assert train_step._cache_size() == compiled
    assert changed[0][1]["learning_rate"] == np.float32(0.5)


def test_equal_stages_share_one_compilation_and_others_do_not():
    walk(toy_stage(tag="one"), 1)
    compiled = train_step._cache_size()
    walk(toy_stage(tag="one", seed=3), 1)
    assert train_step._cache_size() == compiled
    walk(toy_stage(tag="another"), 1)
    assert train_step._cache_size() == compiled + 1


@dataclasses.dataclass(frozen=True)
class Best:
    """An objective whose carry holds the best loss."""

    def __call__(self, trainable, frozen, carry, batch, rng, step):
        loss = jnp.sum(trainable["x"] ** 2) + batch["x"].sum() * 0
        return loss, ({}, {"best": jnp.minimum(carry["best"], loss)})


def test_a_carry_of_plain_numbers_is_compiled_for_once():
    stage = toy_stage(after_update=None, trainable={"x": jnp.ones(3)}, carry={"best": jnp.asarray(9.0)})
    compiled = train_step._cache_size()
    states = [state for state, _ in walk(dataclasses.replace(stage, objective=Best()), 3)]
    assert train_step._cache_size() == compiled + 1
    assert states[-1].carry["best"] < 3


def test_the_given_state_is_reused_and_results_lie_as_the_rules_say():
    stage, mesh = toy_stage(), make_mesh(fsdp=4)
    program, state = Program.of(stage, mesh), initial(stage)
    state = jax.device_put(jax.tree.map(jnp.copy, state), program.layout(state))
    batch = put_rows(mesh, next(stage.batches.batches()))
    following, _ = train_step(program, state, stage.frozen, batch, stage.optimizer.numbers(stage.steps))
    assert state.trainable["blocks"]["fc1"]["kernel"].is_deleted()
    shards = {shard.data.shape for shard in following.trainable["blocks"]["fc1"]["kernel"].addressable_shards}
    assert shards == {(2, 1, 4)}
    same = lambda array, sharding: array.sharding.is_equivalent_to(sharding, array.ndim)
    assert all(jax.tree.leaves(jax.tree.map(same, following, program.layout(following))))
