"""Image-conditioned class weights against a naive reference, their limit cases, gradients and sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from clipjax.models import conditioned
from clipjax.models.conditioned import generate

# compiled whole: operation by operation takes longer
class_logits = jax.jit(conditioned.class_logits, static_argnames="variant")
DIM, HIDDEN, CLASSES, BATCH, TAU = 8, 7, 5, 4, 0.05
VARIANTS = ("V0", "V1", "V2", "V3")


@pytest.fixture(autouse=True)
def _strict_types():
    with jax.numpy_dtype_promotion("strict"):
        yield


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def numbers(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def head(variant, bias=False):
    if variant == "V0":
        return {"w": numbers(2 * DIM, DIM, seed=1), "b": numbers(DIM, seed=2)}
    hidden = 2 * DIM if variant == "V3" else HIDDEN
    arrays = {"w1": numbers(2 * DIM, hidden, seed=3), "w2": numbers(hidden, DIM, seed=4)}
    arrays |= {"b1": numbers(hidden, seed=6)} if bias else {}
    return arrays if variant == "V1" else {**arrays, "alpha": jnp.float32(0.7)}


@pytest.fixture
def parts():
    texts, images = (jnp.asarray(unit(np.asarray(numbers(n, DIM, seed=n)))) for n in (CLASSES, BATCH))
    return texts, images, numbers(BATCH, DIM, seed=9)


def class_weights(arrays, texts, generated, variant):
    """g([w; h(x)]) for each image and class, one after the other, in float64."""
    arrays = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
    found = np.zeros((len(generated), len(texts), texts.shape[1]))
    for b, h in enumerate(np.asarray(generated, np.float64)):
        for c, w in enumerate(np.asarray(texts, np.float64)):
            both = np.concatenate([w, h])
            if variant == "V0":
                found[b, c] = np.maximum(both @ arrays["w"] + arrays["b"], 0)
                continue
            added = np.maximum(both @ arrays["w1"] + arrays.get("b1", 0), 0) @ arrays["w2"]
            found[b, c] = added if variant == "V1" else w + arrays["alpha"] * added
    return found


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_cosines_to_the_class_weights_of_each_image(parts, variant, bias):
    texts, images, generated = parts
    arrays = head(variant, bias)
    weights = unit(class_weights(arrays, texts, generated, variant))
    naive = np.einsum("bcd,bd->bc", weights, np.asarray(images, np.float64)) / TAU
    assert_allclose(class_logits(arrays, *parts, temperature=TAU, variant=variant), naive, atol=2e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_is_that_of_the_naive_form(parts, variant):
    texts, images, generated = parts
    arrays = head(variant)

    def naive(arrays, generated):
        both = jnp.concatenate(
            [jnp.broadcast_to(texts, (BATCH, CLASSES, DIM)), jnp.repeat(generated[:, None], CLASSES, axis=1)], axis=-1
        )
        if variant == "V0":
            weights = jax.nn.relu(both @ arrays["w"] + arrays["b"])
        else:
            weights = jax.nn.relu(both @ arrays["w1"]) @ arrays["w2"]
            weights = weights if variant == "V1" else texts + arrays["alpha"] * weights
        lengths = jnp.linalg.norm(weights, axis=-1)
        return jnp.sum(jnp.sin(jnp.einsum("bcd,bd->bc", weights, images) / lengths / TAU))

    ours = lambda a, h: jnp.sum(jnp.sin(class_logits(a, texts, images, h, temperature=TAU, variant=variant)))
    found, wanted = (jax.jit(jax.grad(f, (0, 1)))(arrays, generated) for f in (ours, naive))
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-3, atol=2e-3), found, wanted)


@pytest.mark.parametrize("variant", ["V2", "V3"])
def test_a_last_layer_of_zeros_is_the_zero_shot_classifier(parts, variant):
    texts, images, _ = parts
    arrays = head(variant)
    arrays = {**arrays, "w2": jnp.zeros_like(arrays["w2"])}
    assert_allclose(class_logits(arrays, *parts, temperature=TAU, variant=variant), images @ texts.T / TAU, atol=1e-5)


@pytest.mark.parametrize("variant", [*VARIANTS, "none"])
def test_products_are_taken_at_full_precision_on_every_device(parts, variant):
    arrays = {} if variant == "none" else head(variant)
    with jax.default_matmul_precision("default"):
        logits = lambda *parts: conditioned.class_logits(arrays, *parts, temperature=TAU, variant=variant)
        found = str(jax.make_jaxpr(logits)(*parts))
    assert found.count("dot_general[") == found.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") > 0


def test_without_a_head_the_generated_embedding_is_compared_with_the_texts(parts):
    texts, _, generated = parts
    found = class_logits({}, *parts, temperature=TAU, variant="none")
    assert_allclose(found, unit(np.asarray(generated)) @ np.asarray(texts).T / TAU, atol=1e-5)


def differences_between_classes(arrays, texts, images, generated):
    """What a softmax sees, had the weights not been scaled to unit length."""
    lengths = np.linalg.norm(class_weights(arrays, texts, generated, "V1"), axis=-1)
    scores = np.asarray(class_logits(arrays, texts, images, generated, temperature=1.0, variant="V1")) * lengths
    return scores - scores[:, :1]


def test_a_head_that_is_linear_ignores_what_was_generated_and_the_relu_does_not(parts):
    texts, images, generated = parts
    other = numbers(BATCH, DIM, seed=11)
    always_on = {**head("V1"), "b1": jnp.full(HIDDEN, 50.0, jnp.float32)}
    linear = [differences_between_classes(always_on, texts, images, h) for h in (generated, other)]
    assert_allclose(linear[0], linear[1], atol=1e-3)
    curved = [differences_between_classes(head("V1"), texts, images, h) for h in (generated, other)]
    assert np.abs(curved[0] - curved[1]).max() > 0.1


def test_a_hidden_layer_that_is_off_gives_scores_of_zero_and_finite_gradients(parts):
    off = {**head("V1"), "b1": jnp.full(HIDDEN, -50.0, jnp.float32)}
    loss = lambda a: class_logits(a, *parts, temperature=TAU, variant="V1").sum()
    value, gradient = jax.jit(jax.value_and_grad(loss))(off)
    assert value == 0 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def largest_array(jaxpr):
    found = 0
    for equation in jaxpr.eqns:
        found = max([found, *(int(np.prod(v.aval.shape)) for v in equation.outvars)])
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            found = (
                max(found, largest_array(inner.jaxpr if hasattr(inner, "jaxpr") else inner))
                if (hasattr(inner, "eqns") or hasattr(inner, "jaxpr"))
                else found
            )
    return found


def test_no_array_is_larger_than_batch_times_classes_times_hidden(parts):
    batch, classes, dim, hidden = 8, 40, 64, 6
    arrays = {"w1": jnp.ones((2 * dim, hidden)), "w2": jnp.ones((hidden, dim)), "alpha": jnp.float32(1)}
    loss = lambda a, w, x, h: conditioned.class_logits(a, w, x, h, temperature=TAU, variant="V2").sum()
    shapes = (arrays, jnp.ones((classes, dim)), jnp.ones((batch, dim)), jnp.ones((batch, dim)))
    forward_and_back = jax.make_jaxpr(jax.value_and_grad(loss, (0, 3)))(*shapes)
    assert largest_array(forward_and_back.jaxpr) <= max(batch * classes * hidden, classes * dim)
    assert batch * classes * hidden < batch * classes * dim


def test_generator_is_two_layers_with_a_relu_between(parts):
    _, images, _ = parts
    arrays = {"w1": numbers(DIM, HIDDEN), "b1": numbers(HIDDEN), "w2": numbers(HIDDEN, DIM), "b2": numbers(DIM)}
    w1, b1, w2, b2 = (np.asarray(arrays[name], np.float64) for name in ("w1", "b1", "w2", "b2"))
    naive = [np.maximum(x @ w1 + b1, 0) @ w2 + b2 for x in np.asarray(images, np.float64)]
    assert_allclose(generate(arrays, images), naive, atol=1e-5)
