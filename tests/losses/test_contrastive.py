import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from clipjax.losses import clip_loss

INFONCE = ["all_equal", "batch_one", "large_norms", "scale100", "small", "tall", "unit_inputs", "wide"]
GOLDEN = [f"contrastive_infonce_{n}" for n in INFONCE] + ["contrastive_soft_dense", "contrastive_soft_groups"]


@pytest.fixture
def naive_loss(float64_similarity):
    """The loss as loops over float64 numbers."""

    def cross_entropy(scores, targets):
        top = max(scores)
        log_total = top + math.log(sum(math.exp(s - top) for s in scores))
        return sum(t * (log_total - s) for t, s in zip(targets, scores))

    def loss(image, text, scale, targets=None, normalize=True):
        scores = (float(scale) * float64_similarity(image, text, normalize)).tolist()
        images, texts = len(scores), len(scores[0])
        to_text, to_image = (np.eye(images),) * 2 if targets is None else targets
        by_image = sum(cross_entropy(scores[i], to_text[i]) for i in range(images))
        by_text = sum(cross_entropy([row[j] for row in scores], to_image[j]) for j in range(texts))
        return (by_image / images + by_text / texts) / 2

    return loss


@functools.cache
def value_and_grad(loss, arguments=0):
    return jax.jit(jax.value_and_grad(loss, arguments))


def pairs(key, batch=5, dim=4):
    return tuple(jax.random.normal(k, (batch, dim)) for k in jax.random.split(key))


def distributions(key, rows, columns):
    return jax.nn.softmax(2 * jax.random.normal(key, (rows, columns)))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("scale", [1.0, 14.0])
def test_value_and_gradients_equal_a_loop(getkey, naive_loss, central_differences, scale, normalize):
    image, text = pairs(getkey())
    naive = functools.partial(naive_loss, normalize=normalize)
    value, grads = value_and_grad(functools.partial(clip_loss, normalize=normalize), (0, 1, 2))(
        image, text, jnp.float32(scale)
    )
    assert_allclose(value, naive(image, text, scale), rtol=1e-5)
    for grad, want in zip(grads, central_differences(naive, image, text, scale)):
        assert_allclose(grad, want, rtol=1e-4, atol=1e-5)


def test_soft_targets_equal_a_loop(getkey, naive_loss, central_differences):
    image, text = pairs(getkey())
    targets = distributions(getkey(), 5, 5), distributions(getkey(), 5, 5)
    naive = functools.partial(naive_loss, targets=[np.asarray(t, np.float64) for t in targets])
    value, grads = value_and_grad(functools.partial(clip_loss, targets=targets), (0, 1, 2))(
        image, text, jnp.float32(10.0)
    )
    assert_allclose(value, naive(image, text, 10.0), rtol=1e-5)
    for grad, want in zip(grads, central_differences(naive, image, text, 10.0)):
        assert_allclose(grad, want, rtol=1e-4, atol=1e-5)


def test_several_texts_per_image_equal_a_loop(getkey, naive_loss):
    image, text = pairs(getkey())[0][:3], pairs(getkey())[1]
    targets = distributions(getkey(), 3, 5), distributions(getkey(), 5, 3)
    want = naive_loss(image, text, 7.0, [np.asarray(t, np.float64) for t in targets])
    assert_allclose(clip_loss(image, text, 7.0, targets=targets), want, rtol=1e-5)


def test_one_hot_targets_equal_none(getkey):
    image, text = pairs(getkey())
    assert_allclose(
        clip_loss(image, text, 20.0, targets=(jnp.eye(5), jnp.eye(5))),
        clip_loss(image, text, 20.0),
        rtol=1e-6,
    )


def test_order_of_the_pairs_does_not_matter(getkey):
    image, text = pairs(getkey())
    order = jax.random.permutation(getkey(), 5)
    assert_allclose(clip_loss(image[order], text[order], 20.0), clip_loss(image, text, 20.0), rtol=1e-6)


def test_order_of_the_texts_alone_does_matter(getkey):
    image, text = pairs(getkey())
    assert abs(clip_loss(image, jnp.roll(text, 1, axis=0), 20.0) - clip_loss(image, text, 20.0)) > 1e-2


def test_images_and_texts_may_change_places(getkey):
    image, text = pairs(getkey())
    targets = distributions(getkey(), 5, 5), distributions(getkey(), 5, 5)
    assert_allclose(
        clip_loss(text, image, 20.0, targets=targets[::-1]),
        clip_loss(image, text, 20.0, targets=targets),
        rtol=1e-6,
    )


def test_length_of_the_rows_does_not_matter_when_normalised(getkey):
    image, text = pairs(getkey())
    sizes = jnp.array([[1e-20], [0.1], [1.0], [1e4], [1e25]])
    assert_allclose(clip_loss(image * sizes, text, 20.0), clip_loss(image, text, 20.0), rtol=1e-6)


def test_length_of_the_rows_matters_when_not_normalised(getkey):
    image, text = pairs(getkey())
    assert abs(clip_loss(2 * image, text, 1.0, normalize=False) - clip_loss(image, text, 1.0, normalize=False)) > 0.1


@pytest.mark.parametrize("scale", [100.0, 1e6, 1e30])
def test_large_scale_stays_finite(getkey, scale):
    image, text = pairs(getkey())
    value, grads = value_and_grad(clip_loss, (0, 1, 2))(image, text, jnp.float32(scale))
    assert np.isfinite(value) and value > 0
    assert all(np.isfinite(g).all() for g in grads)


def test_perfect_match_at_large_scale_costs_nothing():
    assert clip_loss(jnp.eye(6), jnp.eye(6), 100.0) == 0.0


def test_zero_embedding_leaves_every_gradient_finite(getkey):
    image, text = pairs(getkey())
    _, grads = value_and_grad(clip_loss, (0, 1))(image.at[2].set(0.0), text.at[4].set(0.0), 20.0)
    assert all(np.isfinite(g).all() for g in grads)


def test_half_precision_embeddings_give_a_float32_loss_and_their_own_gradients(getkey):
    image, text = (x.astype(jnp.bfloat16) for x in pairs(getkey()))
    value, grad = value_and_grad(clip_loss)(image, text, 20.0)
    widened = clip_loss(image.astype(jnp.float32), text.astype(jnp.float32), 20.0)
    assert (value.dtype, grad.dtype) == (jnp.float32, jnp.bfloat16)
    assert_allclose(value, widened, rtol=1e-6)


def test_unequal_numbers_without_targets_are_refused(getkey):
    image, text = pairs(getkey())
    with pytest.raises(ValueError, match="3 images and 5 texts"):
        clip_loss(image[:3], text, 20.0)


def test_targets_of_the_wrong_shape_are_refused(getkey):
    image, text = pairs(getkey())
    with pytest.raises(ValueError, match=r"\(5, 3\) expected"):
        clip_loss(image[:3], text, 20.0, targets=(jnp.ones((3, 5)), jnp.ones((3, 5))))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(shared_data, name):
    g = np.load(shared_data / "golden" / "losses" / f"{name}.npz")
    options = {"normalize": bool(g["in_normalize"])}
    if "in_targets_i2t" in g:
        options["targets"] = tuple(jnp.asarray(g[f"in_targets_{way}"], jnp.float32) for way in ("i2t", "t2i"))
    arrays = [jnp.asarray(g[f"in_{key}"], jnp.float32) for key in ("image", "text", "logit_scale")]
    value, grads = value_and_grad(lambda i, t, s: clip_loss(i, t, jnp.exp(s), **options), (0, 1, 2))(*arrays)
    assert_allclose(value, g["out_loss"], rtol=2e-5, atol=1e-7)
    for key, grad in zip(("image", "text", "logit_scale"), grads):
        if f"out_grad_{key}" in g:
            want = g[f"out_grad_{key}"]
            assert_allclose(grad, want, rtol=0, atol=2e-5 * max(1e-3, np.abs(want).max()))


def test_no_golden_file_is_left_out(shared_data):
    files = (shared_data / "golden" / "losses").glob("contrastive_*.npz")
    assert {f.stem for f in files if "siglip" not in f.stem} == set(GOLDEN)


@pytest.mark.torch
def test_equals_cross_entropy_in_pytorch(getkey):
    torch = pytest.importorskip("torch")
    image, text = pairs(getkey())
    value, grad = value_and_grad(clip_loss)(image, text, 100.0)
    i, t = (torch.tensor(np.asarray(x), requires_grad=True) for x in (image, text))
    logits = 100.0 * torch.nn.functional.normalize(i) @ torch.nn.functional.normalize(t).T
    truth = torch.arange(5)
    loss = (torch.nn.functional.cross_entropy(logits, truth) + torch.nn.functional.cross_entropy(logits.T, truth)) / 2
    loss.backward()
    assert_allclose(value, loss.item(), rtol=1e-5)
    assert_allclose(grad, i.grad.numpy(), rtol=1e-4, atol=1e-5)
