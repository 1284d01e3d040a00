import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from clipjax.losses import clip_loss, equal_caption_mask, equal_caption_targets

INFONCE = ["all_equal", "batch_one", "large_norms", "scale100", "small", "tall", "unit_inputs", "wide"]
GOLDEN = [f"contrastive_infonce_{n}" for n in INFONCE] + ["contrastive_soft_dense", "contrastive_soft_groups"]


@pytest.fixture
def naive_loss(float64_similarity):
    """The loss as loops over float64 numbers."""

    def cross_entropy(scores, targets, ignored):
        choices = [s for s, t, i in zip(scores, targets, ignored) if t > 0 or not i]
        top = max(choices)
        log_total = top + math.log(sum(math.exp(s - top) for s in choices))
        return sum(t * (log_total - s) for t, s in zip(targets, scores))

    def loss(image, text, scale, targets=None, mask=None, normalize=True):
        scores = (float(scale) * float64_similarity(image, text, normalize)).tolist()
        images, texts = len(scores), len(scores[0])
        to_text, to_image = (np.eye(images),) * 2 if targets is None else targets
        ignored = np.zeros((images, texts), bool) if mask is None else np.asarray(mask)
        by_image = sum(cross_entropy(scores[i], to_text[i], ignored[i]) for i in range(images))
        columns = zip(*scores)
        by_text = sum(cross_entropy(column, to_image[j], ignored[:, j]) for j, column in enumerate(columns))
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


MASK = np.array([[c in row for c in "abcde"] for row in ("abd", "", "bce", "d", "cd")])
IDS = np.array([3, 7, 3, 1, 7])


@pytest.mark.parametrize("chunk", [None, 2], ids=["at_once", "chunked"])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_mask_equals_a_loop_that_skips(getkey, naive_loss, central_differences, soft, chunk):
    image, text = pairs(getkey())
    targets = None
    if soft:
        targets = tuple(jnp.where(distributions(getkey(), 5, 5) > 0.2, 0.4, 0.0) for _ in range(2))
    naive = functools.partial(naive_loss, targets=targets and [np.asarray(t, np.float64) for t in targets], mask=MASK)
    loss = functools.partial(clip_loss, targets=targets, mask=jnp.asarray(MASK), chunk=chunk)
    value, grads = value_and_grad(loss, (0, 1, 2))(image, text, jnp.float32(10.0))
    assert_allclose(value, naive(image, text, 10.0), rtol=1e-5)
    for grad, want in zip(grads, central_differences(naive, image, text, 10.0)):
        assert_allclose(grad, want, rtol=1e-4, atol=1e-5)


def test_ignored_equal_ids_equal_their_mask(getkey, naive_loss):
    image, text = pairs(getkey())
    want = naive_loss(image, text, 10.0, mask=IDS[:, None] == IDS)
    assert_allclose(clip_loss(image, text, 10.0, ids=jnp.asarray(IDS)), want, rtol=1e-5)
    mask = equal_caption_mask(jnp.asarray(IDS), jnp.asarray(IDS))
    assert_allclose(clip_loss(image, text, 10.0, mask=mask), want, rtol=1e-5)


def test_shared_equal_ids_equal_their_targets(getkey, naive_loss):
    image, text = pairs(getkey())
    equal = (IDS[:, None] == IDS).astype(float)
    want = naive_loss(image, text, 10.0, targets=(equal / equal.sum(1, keepdims=True),) * 2)
    assert_allclose(clip_loss(image, text, 10.0, ids=jnp.asarray(IDS), equal_ids="share"), want, rtol=1e-5)
    targets = equal_caption_targets(jnp.asarray(IDS), jnp.asarray(IDS))
    assert_allclose(clip_loss(image, text, 10.0, targets=targets), want, rtol=1e-5)


def test_ignored_pair_gets_no_gradient_however_large_its_logit():
    text = jnp.eye(3) * jnp.float32(1e4)
    image = text.at[0].set(0.0).at[0, 1].set(1e4)
    mask = jnp.zeros((3, 3), bool).at[0, 1].set(True)
    loss = functools.partial(clip_loss, mask=mask, normalize=False)
    value, (image_grad, text_grad) = value_and_grad(loss, (0, 1))(image, text, jnp.float32(1.0))
    assert np.isfinite(value) and np.isfinite(image_grad).all() and np.isfinite(text_grad).all()
    assert text_grad[1, 1] == 0


@pytest.mark.parametrize("chunk", [None, 2], ids=["at_once", "chunked"])
def test_without_any_negative_nothing_is_to_learn(getkey, chunk):
    image, text = pairs(getkey())
    loss = functools.partial(clip_loss, mask=jnp.ones((5, 5), bool), chunk=chunk)
    value, grads = value_and_grad(loss, (0, 1, 2))(image, text, jnp.float32(50.0))
    # not exactly zero where the processor rounds the two passes over the blocks differently
    assert abs(value) < 1e-9
    assert all(not np.asarray(g).any() for g in grads)


@pytest.mark.parametrize("chunk", [None, 2], ids=["at_once", "chunked"])
def test_row_without_targets_or_choices_costs_nothing(getkey, chunk):
    image, text = pairs(getkey())
    targets = (jnp.eye(5).at[2].set(0.0),) * 2
    mask = jnp.zeros((5, 5), bool).at[2].set(True)
    value, grads = value_and_grad(functools.partial(clip_loss, targets=targets, mask=mask, chunk=chunk), (0, 1))(
        image, text, jnp.float32(10.0)
    )
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in grads)
    assert_allclose(grads[0][2], 0.0)


def test_targets_are_constants_to_the_gradient(getkey):
    image, text = pairs(getkey())
    targets = distributions(getkey(), 5, 5), distributions(getkey(), 5, 5)
    grads = jax.grad(lambda targets: clip_loss(image, text, 10.0, targets=targets))(targets)
    assert all(not np.asarray(g).any() for g in grads)


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


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"mask": jnp.ones((5, 4), bool)}, "a mask of shape"),
        ({"ids": jnp.arange(4)}, "one id per pair"),
        ({"equal_ids": "share"}, "needs ids"),
        ({"equal_ids": "share", "ids": jnp.arange(5), "targets": (jnp.eye(5),) * 2}, "no targets"),
        ({"equal_ids": "merge"}, "is one of"),
        ({"chunk": 0}, "at least 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(getkey, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        clip_loss(*pairs(getkey()), 20.0, **options)


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
