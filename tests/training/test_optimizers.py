import dataclasses
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from clipjax.errors import ConfigError
from clipjax.training.optimizers import Optimizer, learning_rate

STEPS = 5

# written by hand, as CLIP has it: matrices decay, and neither norms, nor biases (stacked ones are matrices too), nor
# the logit scale
DECAYED = {
    "vision": {
        "blocks": {
            "norm1": {"scale": False, "bias": False},
            "query": {"kernel": True, "bias": False},
        },
        "class_embedding": False,
    },
    "text": {"token_embedding": True},
    "image_projection": {"kernel": True},
    "logit_scale": False,
}
SHAPES = {
    "vision": {
        "blocks": {
            "norm1": {"scale": (3, 4), "bias": (3, 4)},
            "query": {"kernel": (3, 4, 4), "bias": (3, 4)},
        },
        "class_embedding": (4,),
    },
    "text": {"token_embedding": (7, 4)},
    "image_projection": {"kernel": (4, 2)},
    "logit_scale": (),
}


def drawn(seed):
    random = np.random.default_rng(seed)
    is_shape = lambda node: isinstance(node, tuple)
    return jax.tree.map(lambda s: jnp.asarray(random.normal(size=s), jnp.float32), SHAPES, is_leaf=is_shape)


def trained(optimizer, steps=STEPS):
    """The params after each of some steps with made-up gradients."""
    numbers, params, path = optimizer.numbers(steps), drawn(0), []
    state = optimizer.init(params)
    update = optimizer.structure().update
    for step in range(steps):
        params, state, _ = update(numbers, jnp.asarray(step), drawn(step + 1), state, params)
        path.append(params)
    return path


def trained_by_optax(transformation, steps=STEPS):
    params, path = drawn(0), []
    state = transformation.init(params)
    update = transformation.update
    for step in range(steps):
        updates, state = update(drawn(step + 1), state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path


def assert_trees_close(found, wanted):
    # 1 - 0.999 has a relative error of 5e-5 where the betas are float32 arrays, as they are here and not in optax
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=5e-6), found, wanted)


def cosine(lr, warmup, steps):
    """The learning rate of each step, written down a second time."""
    rates = [lr * (step + 1) / warmup for step in range(warmup)]
    rates += [lr * 0.5 * (1 + np.cos(np.pi * (step - warmup) / (steps - warmup))) for step in range(warmup, steps)]
    table = jnp.asarray(rates, jnp.float32)
    return lambda count: table[count]


@pytest.mark.parametrize(
    ("optimizer", "reference"),
    [
        (
            Optimizer("adamw", lr=0.1, weight_decay=0.2, b1=0.8, b2=0.95, eps=1e-6, schedule="constant"),
            optax.adamw(0.1, b1=0.8, b2=0.95, eps=1e-6, weight_decay=0.2, mask=DECAYED),
        ),
        (
            Optimizer("adamw", lr=0.1, weight_decay=0.2, warmup=2),
            optax.adamw(cosine(0.1, 2, STEPS), weight_decay=0.2, mask=DECAYED),
        ),
        (
            Optimizer("adam", lr=0.1, weight_decay=0.2, schedule="constant"),
            optax.chain(optax.add_decayed_weights(0.2, DECAYED), optax.adam(0.1)),
        ),
        (
            Optimizer("sgd", lr=0.1, weight_decay=0.2, momentum=0.7, clip_norm=1.5, schedule="constant"),
            optax.chain(
                optax.clip_by_global_norm(1.5), optax.add_decayed_weights(0.2, DECAYED), optax.sgd(0.1, momentum=0.7)
            ),
        ),
        (
            Optimizer("sgd", lr=0.1, momentum=0.7, nesterov=True, schedule="constant"),
            optax.sgd(0.1, momentum=0.7, nesterov=True),
        ),
    ],
    ids=["adamw", "adamw-cosine", "adam", "sgd-clipped", "nesterov"],
)
def test_every_step_equals_plain_optax(optimizer, reference):
    for found, wanted in zip(trained(optimizer), trained_by_optax(reference), strict=True):
        assert_trees_close(found, wanted)


def test_muon_moves_block_kernels_by_orthogonal_matrices():
    optimizer = Optimizer("muon", lr=1.0, schedule="constant")
    moved = trained(optimizer, 1)[0]["vision"]["blocks"]["query"]["kernel"]
    update = drawn(0)["vision"]["blocks"]["query"]["kernel"] - moved
    lengths = np.linalg.svd(update, compute_uv=False) / (0.2 * 2)  # root of the width 4
    assert lengths.min() > 0.6 and lengths.max() < 1.3  # five Newton-Schulz rounds bring them near 1, not to it


def test_muon_is_adamw_for_all_else():
    numbers = {"lr": 0.1, "weight_decay": 0.2, "schedule": "constant"}
    muon, adamw = (trained(Optimizer(name, **numbers))[-1] for name in ("muon", "adamw"))
    for tree in (muon, adamw):
        del tree["vision"]["blocks"]["query"]["kernel"]
    assert_trees_close(muon, adamw)


def rates(steps, **fields):
    optimizer = Optimizer(lr=2.0, **fields)
    numbers = optimizer.numbers(steps)
    return [float(learning_rate(optimizer.schedule, numbers, jnp.asarray(step))) for step in range(steps + 1)]


def test_warm_up_rises_in_equal_parts_to_the_rate():
    np.testing.assert_allclose(rates(10, warmup=4, schedule="constant")[:5], [0.5, 1.0, 1.5, 2.0, 2.0], rtol=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_rate_falls_from_its_peak_to_the_end_factor(schedule):
    found = rates(10, warmup=2, schedule=schedule, end_factor=0.1)
    assert found[2] == pytest.approx(2.0)
    assert found[10] == pytest.approx(0.2)
    assert all(later < earlier for earlier, later in itertools.pairwise(found[2:]))


def test_half_way_both_falling_schedules_are_at_the_middle():
    for schedule in ("cosine", "linear"):
        assert rates(10, schedule=schedule, end_factor=0.5)[5] == pytest.approx(1.5)


def test_a_constant_rate_stays():
    assert rates(6, schedule="constant", end_factor=0.1) == [2.0] * 7


def test_an_exponential_rate_falls_at_once_after_each_epoch():
    found = rates(12, schedule="exponential", decay_rate=0.9, decay_steps=4)
    np.testing.assert_allclose(found[:12], 2.0 * 0.9 ** (np.arange(12) // 4), rtol=1e-6)


def test_factors_scale_the_rate_of_matching_paths_only():
    plain = Optimizer("sgd", lr=0.1, momentum=0.0, schedule="constant")
    params, slowed, full = (
        drawn(0), trained(dataclasses.replace(plain, factors=(("^vision/", 0.25),)), 1)[0], trained(plain, 1)[0],
    )  # fmt: skip
    step = lambda tree, name: jax.tree.map(jnp.subtract, tree[name], params[name])
    assert_trees_close(step(slowed, "vision"), jax.tree.map(lambda x: x * 0.25, step(full, "vision")))
    assert_trees_close(step(slowed, "text"), step(full, "text"))


def test_a_factor_of_zero_keeps_a_path_as_it_is():
    frozen = trained(Optimizer(lr=0.1, weight_decay=0.2, factors=(("logit_scale", 0.0),)))[-1]
    assert frozen["logit_scale"] == drawn(0)["logit_scale"]


def test_clipping_bounds_the_update_of_plain_gradient_descent():
    moved = trained(Optimizer("sgd", lr=1.0, momentum=0.0, schedule="constant", clip_norm=0.5), 1)[0]
    assert optax.tree.norm(jax.tree.map(jnp.subtract, moved, drawn(0))) == pytest.approx(0.5, rel=1e-5)


def test_specs_that_differ_in_numbers_have_one_structure():
    one = Optimizer(lr=1.0, warmup=3, weight_decay=0.1, clip_norm=1.0, b1=0.5, b2=0.6, eps=0.1, ema=0.9)
    other = Optimizer(lr=2.0, warmup=5, weight_decay=0.2, clip_norm=2.0, b1=0.6, b2=0.7, eps=0.2, ema=0.8)
    assert one.structure() == other.structure()
    assert one.structure() != dataclasses.replace(one, clip_norm=None).structure()


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "adagrad"},
        {"schedule": "step"},
        {"lr": -1.0},
        {"clip_norm": 0.0},
        {"ema": 1.0},
        {"b1": 2.0},
        {"warmup": -1},
        {"decay_rate": -0.1},
        {"decay_steps": -1},
        {"weight_decay": -0.1},
        {"lr": float("inf")},
        {"eps": float("nan")},
    ],
)
def test_senseless_numbers_are_refused_by_name(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        Optimizer(**fields)


@pytest.mark.parametrize("fields", [{"decayed": "("}, {"factors": (("[", 0.1),)}])
def test_a_pattern_that_is_none_is_refused(fields):
    with pytest.raises(ConfigError, match="no regular expression"):
        Optimizer(**fields)


def test_decay_applies_to_matrices_as_in_clip():
    from clipjax.models.clip import CLIP
    from clipjax.models.presets import preset
    from clipjax.parallel.rules import path_name
    from clipjax.training.optimizers import DECAYED

    for name in ("ViT-B/32", "RN50"):
        for path, leaf in jax.tree_util.tree_leaves_with_path(CLIP(preset(name)).param_shapes()):
            # in OpenAI's layout blocks are not stacked: their biases and gains have one dimension
            dimensions = leaf.ndim - ("blocks/" in path_name(path))
            assert bool(re.search(DECAYED, path_name(path))) == (dimensions > 1), path_name(path)
