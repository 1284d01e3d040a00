"""PC-CLIP's formulas against naive references, their limit cases and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clipjax.methods.pcclip import (
    comparative_weights,
    confused_pairs,
    difference_accuracy,
    difference_cosines,
    difference_distance,
    difference_loss,
)


@pytest.fixture(autouse=True)
def _strict_types():
    with jax.numpy_dtype_promotion("strict"):
        yield


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def triples(batch=7, dim=5, seed=0) -> tuple[jax.Array, jax.Array, jax.Array]:
    """First images, second images and sentences: rows of any length."""
    draw = np.random.default_rng(seed)
    drawn = [jnp.asarray(3 * draw.normal(size=(batch, dim)), jnp.float32) for _ in range(3)]
    return drawn[0], drawn[1], drawn[2]


def cosines(first, second, text):
    """All sentences against all differences, in float64."""
    first, second, text = (unit(np.asarray(x, np.float64)) for x in (first, second, text))
    return text @ unit(first - second).T


def naive(first, second, text, temperature):
    scores = cosines(first, second, text) / temperature
    count = range(len(scores))
    by_text = [np.log(np.exp(scores[i]).sum()) - scores[i, i] for i in count]
    by_difference = [np.log(np.exp(scores[:, i]).sum()) - scores[i, i] for i in count]
    return (np.mean(by_text) + np.mean(by_difference)) / 2


contrastive = jax.jit(difference_loss)
squared = jax.jit(functools.partial(difference_loss, kind="squared"))
gradients = jax.jit(jax.grad(difference_loss, (0, 1, 2)))


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_contrastive_loss_is_what_a_loop_over_pairs_computes(temperature):
    arrays = triples()
    assert_allclose(contrastive(*arrays, temperature=temperature), naive(*arrays, temperature=temperature), rtol=1e-5)


def test_squared_loss_keeps_the_length_of_the_difference():
    first, second, text = (unit(np.asarray(x, np.float64)) for x in triples())
    assert_allclose(squared(*triples()), np.mean((text - (first - second)) ** 2), rtol=1e-5)


@pytest.mark.parametrize("loss", [contrastive, squared])
@pytest.mark.parametrize("which", range(3))
def test_lengths_of_embeddings_do_not_matter(loss, which):
    arrays = list(triples())
    before = loss(*arrays)
    arrays[which] = arrays[which] * 17.0
    assert_allclose(loss(*arrays), before, rtol=1e-6)


def test_equal_cosines_give_the_logarithm_of_the_batch():
    same = [jnp.tile(x[:1], (7, 1)) for x in triples()]
    assert_allclose(contrastive(*same), np.log(7), rtol=1e-6)


def test_at_temperature_one_the_loss_is_nearly_the_gap_of_mean_cosines():
    # ln B - (matched - mean) + variance / 2, as an expansion for small cosines; high dimensions make them small
    arrays = triples(batch=64, dim=4096)
    scores = cosines(*arrays)
    expansion = np.log(64) - (np.diag(scores).mean() - scores.mean())
    expansion += (scores.var(axis=0).mean() + scores.var(axis=1).mean()) / 4
    assert abs(float(contrastive(*arrays)) - expansion) < 1e-5 < abs(expansion - np.log(64))


def test_swapping_images_and_negating_texts_changes_nothing():
    first, second, text = triples()
    assert_allclose(contrastive(second, first, -text), contrastive(first, second, text), rtol=1e-6)


@pytest.mark.parametrize("loss", [contrastive, squared])
def test_a_pair_without_a_difference_is_left_out(loss):
    first, second, text = triples()
    with_one = loss(first, second.at[2].set(first[2] * 3.0), text)
    kept = np.delete(np.arange(7), 2)
    assert_allclose(with_one, loss(first[kept], second[kept], text[kept]), rtol=1e-6)


def test_pairs_without_a_difference_get_no_gradient_and_spoil_none():
    first, second, text = triples()
    found = gradients(first, second.at[2].set(first[2] * 3.0), text)
    for gradient in found:
        assert np.isfinite(gradient).all()
        assert_array_equal(gradient[2], 0.0)
        assert np.abs(np.delete(gradient, 2, axis=0)).max() > 1e-3


def test_a_batch_without_any_difference_costs_nothing():
    first, _, text = triples()
    assert contrastive(first, first, text) == 0.0 and squared(first, first, text) == 0.0


def test_gradients_are_those_of_finite_differences():
    arrays = [np.asarray(x, np.float64) for x in triples(batch=3, dim=4)]
    found = gradients(*(jnp.asarray(x, jnp.float32) for x in arrays))
    for which, gradient in enumerate(found):
        for place in np.ndindex(3, 4):
            values = []
            for step in (1e-5, -1e-5):
                moved = [x.copy() for x in arrays]
                moved[which][place] += step
                values.append(naive(*moved, temperature=1.0))
            assert_allclose(gradient[place], (values[0] - values[1]) / 2e-5, rtol=2e-4, atol=2e-6)


def test_unknown_kinds_and_shapes_are_refused():
    first, second, text = triples()
    with pytest.raises(ValueError, match="known are contrastive, squared"):
        difference_loss(first, second, text, kind="mse")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="give pairs"):
        difference_loss(first, second[:3], text)


# ---- what a sentence says about two images ----


def test_the_sign_of_the_cosine_says_which_image_is_more_like_the_sentence():
    first, second, text = triples(batch=200)
    a, b, t = (unit(np.asarray(x, np.float64)) for x in (first, second, text))
    more_like_first = (a * t).sum(1) > (b * t).sum(1)
    assert_array_equal(np.asarray(difference_cosines(first, second, text)) > 0, more_like_first)
    assert_allclose(difference_accuracy(first, second, text), more_like_first.mean(), rtol=1e-6)


def test_swapping_the_images_flips_every_answer():
    first, second, text = triples(batch=200)
    assert_allclose(difference_cosines(second, first, text), -difference_cosines(first, second, text), rtol=1e-6)
    assert_allclose(difference_accuracy(second, first, text), 1 - difference_accuracy(first, second, text), rtol=1e-6)


def test_a_tie_is_wrong():
    first, _, text = triples()
    assert difference_accuracy(first, first, text) == 0.0


# ---- comparative prompting ----


def classes(seed=1):
    draw = np.random.default_rng(seed)
    weights = jnp.asarray(unit(draw.normal(size=(6, 8))), jnp.float32)
    pairs = jnp.array([[0, 3], [5, 3], [1, 0], [2, 4]], jnp.int32)
    return weights, pairs, jnp.asarray(draw.normal(size=(4, 8)), jnp.float32)


def test_weights_move_towards_the_mean_of_what_their_pairs_say():
    weights, _, differences = (np.asarray(x) for x in classes())
    found = comparative_weights(*classes(), alpha=0.7)
    said = (weights[[0, 5]] - unit(differences[[0, 1]])).mean(0)
    assert_allclose(found[3], unit(0.7 * weights[3] + 0.3 * said), rtol=1e-5)


def test_alpha_of_one_changes_nothing():
    assert_allclose(comparative_weights(*classes(), alpha=1.0), classes()[0], rtol=1e-6)


def test_classes_that_never_stand_second_stay_to_the_bit():
    weights, *rest = classes()
    found = comparative_weights(weights, *rest, alpha=0.2)
    assert_array_equal(found[jnp.array([1, 2, 5])], weights[jnp.array([1, 2, 5])])
    assert all(not np.allclose(found[i], weights[i], atol=1e-3) for i in (0, 3, 4))


def test_the_reversed_distance_is_two_minus_the_distance():
    weights, pairs, differences = classes()
    weights = weights * jnp.arange(1, 7, dtype=jnp.float32)[:, None]
    forward = difference_distance(weights, pairs, differences)
    assert_allclose(difference_distance(weights, pairs[:, ::-1], differences), 2 - forward, rtol=1e-6)


def test_distance_is_between_zero_for_what_agrees_and_two_for_its_opposite():
    weights, pairs, _ = classes()
    exact = weights[pairs[:, 0]] - weights[pairs[:, 1]]
    assert_allclose(difference_distance(weights, pairs, 5.0 * exact), 0.0, atol=1e-6)
    assert_allclose(difference_distance(weights, pairs, -exact), 2.0, rtol=1e-6)


def test_confused_pairs_are_the_largest_errors_and_never_right_answers():
    confusion = np.array([[90, 3, 0], [7, 80, 3], [0, 0, 99]])
    assert_array_equal(confused_pairs(confusion, 2), [[1, 0], [0, 1]])
    assert_array_equal(confused_pairs(confusion, 9), [[1, 0], [0, 1], [1, 2]])
    assert confusion[0, 0] == 90
