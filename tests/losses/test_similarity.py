import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipjax.losses.similarity import pair_logits, unit_rows


@pytest.mark.parametrize("size", [1e-25, 1e-3, 1.0, 1e6, 1e30])
def test_rows_of_any_size_get_length_one(getkey, size):
    rows = jax.random.normal(getkey(), (5, 7)) * size
    np.testing.assert_allclose(np.linalg.norm(unit_rows(rows), axis=1), 1.0, rtol=1e-6)


def test_gradient_is_orthogonal_to_the_row_because_its_length_does_not_matter(getkey):
    rows, direction = jax.random.normal(getkey(), (5, 7)), jax.random.normal(getkey(), (5, 7))
    gradient = jax.grad(lambda r: jnp.sum(unit_rows(r) * direction))(rows)
    assert np.abs(gradient).min() > 1e-4
    np.testing.assert_allclose(np.sum(gradient * rows, axis=1), 0.0, atol=1e-5)


def test_zero_row_stays_zero_and_gets_no_gradient(getkey):
    rows = jnp.zeros((2, 4)).at[0].set(jax.random.normal(getkey(), (4,)))
    value, pullback = jax.vjp(unit_rows, rows)
    assert not value[1].any()
    assert not pullback(jnp.ones((2, 4)))[0][1].any()


def test_bad_numbers_are_not_hidden_by_normalising():
    rows = jnp.array([[jnp.nan, 1.0], [jnp.inf, 1.0], [3.0, 4.0]])
    assert np.array_equal(np.isnan(unit_rows(rows)).any(axis=1), [True, True, False])


def test_logits_are_float32_for_half_precision_embeddings(getkey):
    image = jax.random.normal(getkey(), (3, 16), jnp.bfloat16)
    with jax.numpy_dtype_promotion("strict"):
        logits = pair_logits(image, image, 100.0)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(jnp.diagonal(logits), 100.0, rtol=1e-6)


@pytest.mark.parametrize("shapes", [((3, 4), (3, 5)), ((3,), (3, 4)), ((0, 4), (0, 4))])
def test_embeddings_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match=r"pair|expected"):
        pair_logits(jnp.ones(shapes[0]), jnp.ones(shapes[1]), 1.0)
