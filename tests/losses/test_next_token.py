import jax
import jax.numpy as jnp
import numpy as np
from numpy.testing import assert_allclose

from clipjax.losses.next_token import next_token_loss, next_token_losses

RANDOM = np.random.default_rng(0)
LOGITS = jnp.asarray(RANDOM.normal(size=(3, 4, 7)) * 5, jnp.float32)
TARGETS = jnp.asarray(RANDOM.integers(0, 7, (3, 4)), jnp.int32)
LEARNED = jnp.asarray(RANDOM.random((3, 4)) < 0.6)


def test_loss_is_the_mean_over_what_is_learned():
    likely = np.exp(np.asarray(LOGITS, np.float64))
    likely /= likely.sum(-1, keepdims=True)
    each = [-np.log(likely[i, j, TARGETS[i, j]]) for i in range(3) for j in range(4) if LEARNED[i, j]]
    assert_allclose(next_token_loss(LOGITS, TARGETS, LEARNED), np.mean(each), rtol=1e-6)


def test_what_is_not_learned_has_no_gradient():
    gradient = jax.grad(next_token_loss)(LOGITS, TARGETS, LEARNED)
    assert (np.abs(gradient).sum(-1) > 0).tolist() == LEARNED.tolist()


def test_nothing_to_learn_costs_nothing():
    loss, gradient = jax.value_and_grad(next_token_loss)(LOGITS, TARGETS, jnp.zeros((3, 4), bool))
    assert loss == 0 and not gradient.any()


def test_huge_logits_stay_finite():
    losses = next_token_losses(LOGITS * 1e6, TARGETS)
    assert jnp.isfinite(losses).all()


def test_half_precision_is_summed_in_float32():
    assert next_token_losses(LOGITS.astype(jnp.bfloat16), TARGETS).dtype == jnp.float32
