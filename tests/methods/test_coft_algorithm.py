"""CoFT's formulas against naive references, their limit cases and gradients; golden vectors where the data is there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from clipjax.methods.coft import (
    accepted_cross_entropy,
    clean_log_probability,
    cross_accept,
    ema,
    enqueue,
    moco_loss,
    negative_loss,
    positive_loss,
    select_seeds,
)
from clipjax.methods.coft.algorithm import draw_complements, prompt_loss


@pytest.fixture(autouse=True)
def _strict_types():
    with jax.numpy_dtype_promotion("strict"):
        yield


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def scores(batch=6, classes=5, seed=0, spread=3.0):
    """Scores of positive and negative texts, labels and complements."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, batch)
    complements = (labels + draw.integers(1, classes, batch)) % classes
    positive, negative = (jnp.asarray(spread * draw.normal(size=(batch, classes)), jnp.float32) for _ in range(2))
    return positive, negative, jnp.asarray(labels, jnp.int32), jnp.asarray(complements, jnp.int32)


# ---- phase I ----


def test_losses_are_what_a_loop_over_samples_computes():
    positive, negative, labels, complements = scores()
    first, second = [], []
    for s, n, y, c in zip(*(np.asarray(x, np.float64) for x in (positive, negative)), labels, complements):
        softmax = np.exp(s) / np.exp(s).sum()
        first.append(-np.log(softmax[y]))
        clean = np.exp(s) / (np.exp(s) + np.exp(n))
        second.append(-np.log(clean[y]) - np.log(1 - clean[c]))
    assert_allclose(positive_loss(positive, labels), np.mean(first), rtol=1e-5)
    assert_allclose(negative_loss(positive, negative, labels, complements), np.mean(second), rtol=1e-5)


def test_clean_probability_is_the_sigmoid_of_the_gap():
    positive, negative, *_ = scores()
    found = jnp.exp(clean_log_probability(positive, negative))
    gap = np.asarray(positive, np.float64) - np.asarray(negative, np.float64)
    assert_allclose(found, 1 / (1 + np.exp(-gap)), rtol=1e-5)


def test_equal_texts_leave_every_class_in_doubt():
    positive, _, labels, complements = scores()
    assert_allclose(clean_log_probability(positive, positive), np.log(0.5), rtol=1e-6)
    assert_allclose(negative_loss(positive, positive, labels, complements), 2 * np.log(2), rtol=1e-6)


def test_gaps_of_any_size_keep_loss_and_gradient_finite_and_alive():
    positive, negative, labels, complements = scores(spread=1000.0)
    value, gradient = jax.value_and_grad(negative_loss)(positive, negative, labels, complements)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    wrong = jnp.array([[-100.0, 0.0]])
    slope = jax.grad(negative_loss)(wrong, jnp.zeros((1, 2)), jnp.array([0]), jnp.array([1]))
    assert_allclose(slope[0, 0], -1.0)


@pytest.mark.parametrize("argument", [0, 1])
def test_gradients_of_the_second_loss_are_those_of_finite_differences(argument):
    given = scores()
    direction = jnp.asarray(np.random.default_rng(1).normal(size=given[0].shape), jnp.float32)

    def along(t):
        moved = list(given)
        moved[argument] = moved[argument] + jnp.float32(t) * direction
        return float(negative_loss(*moved))

    found = jnp.sum(jax.grad(negative_loss, argument)(*given) * direction)
    assert_allclose(found, (along(1e-2) - along(-1e-2)) / 2e-2, rtol=1e-2)


def embeddings(seed=0, batch=6, classes=4, dim=8):
    draw = np.random.default_rng(seed)
    images, texts = unit(draw.normal(size=(batch, dim))), unit(draw.normal(size=(2, classes, dim)))
    labels = jnp.asarray(draw.integers(0, classes, batch), jnp.int32)
    return jnp.asarray(images, jnp.float32), jnp.asarray(texts, jnp.float32), labels, (labels + 1) % classes


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_the_whole_is_the_first_loss_and_a_multiple_of_the_second(weight):
    images, texts, labels, complements = embeddings()
    whole, parts = prompt_loss(images, texts, labels, complements, scale=10.0, weight=weight)
    positive, negative = 10 * images @ texts[0].T, 10 * images @ texts[1].T
    first, second = positive_loss(positive, labels), negative_loss(positive, negative, labels, complements)
    assert_allclose(whole, first + weight * second, rtol=1e-5)
    assert_allclose([parts["loss_positive"], parts["loss_negative"]], [first, second], rtol=1e-5)


def gradients(detached, weight):
    images, texts, labels, complements = embeddings()
    loss = lambda images, texts: prompt_loss(
        images, texts, labels, complements, scale=10.0, weight=weight, detached=detached
    )[0]
    return jax.grad(loss, (0, 1))(images, texts)


def test_detaching_decides_who_learns_from_the_second_loss():
    alone = gradients("nothing", 0.0)
    for detached, image, positive in (("nothing", True, True), ("positive", True, False), ("both", False, False)):
        found = gradients(detached, 1.0)
        assert np.allclose(found[0], alone[0], atol=1e-6) != image
        assert np.allclose(found[1][0], alone[1][0], atol=1e-6) != positive
        assert not np.allclose(found[1][1], alone[1][1], atol=1e-6)


@pytest.mark.parametrize("name", ["moderate", "sharp", "wide"])
@pytest.mark.parametrize("detached", ["nothing", "positive", "both"])
def test_gradients_into_raw_embeddings_are_the_golden_ones(shared_data, name, detached):
    golden = np.load(shared_data / f"golden/losses/coft_loss_{name}.npz")
    raw = [jnp.asarray(golden[f"in_{part}"], jnp.float32) for part in ("image", "text_pos", "text_neg")]
    labels, complements = (jnp.asarray(golden[f"in_{part}"], jnp.int32) for part in ("y", "complement"))
    norm = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)

    def second(image, positive, negative):
        texts = jnp.stack([norm(positive), norm(negative)])
        scale = jnp.float32(1 / golden["in_tau"])
        return prompt_loss(norm(image), texts, labels, complements, scale=scale, weight=1.0, detached=detached)[1][
            "loss_negative"
        ]

    found = jax.grad(second, (0, 1, 2))(*raw)
    infix = {"nothing": "", "positive": "_detach_pos", "both": "_detach_both"}[detached]
    for gradient, part in zip(found, ("image", "text_pos", "text_neg")):
        wanted = golden[f"out_grad_L2{infix}_{part}"]
        assert_allclose(gradient, wanted, atol=2e-4 * max(1e-3, np.abs(wanted).max()))


def test_complements_are_never_the_label_and_all_others_alike(getkey):
    labels = jnp.asarray(np.arange(4000) % 4, jnp.int32)
    found = draw_complements(getkey(), labels, 4)
    assert not np.any(found == labels)
    counts = np.bincount(np.asarray((found - labels) % 4), minlength=4)
    assert counts[0] == 0 and counts[1:].min() > 1200
    assert not np.array_equal(found, draw_complements(getkey(), labels, 4))


# ---- seeds and acceptance ----


def test_seeds_are_what_sorting_each_class_by_hand_gives():
    draw = np.random.default_rng(0)
    probabilities = draw.integers(0, 5, (50, 4)) / 4
    wanted = np.zeros(50, bool)
    for label in range(4):
        members = [i for i in range(50) if probabilities[i].argmax() == label]
        wanted[sorted(members, key=lambda i: (-probabilities[i].max(), i))[:3]] = True
    assert_array_equal(select_seeds(probabilities, 3), wanted)


def test_acceptance_is_a_clean_probability_above_one_half():
    proposer, positive, negative, *_ = (*scores(40)[:1], *scores(40, seed=1))
    labels, accepted = cross_accept(proposer, positive, negative)
    assert_array_equal(labels, np.argmax(proposer, axis=1))
    clean = jnp.exp(clean_log_probability(positive, negative))[jnp.arange(40), labels]
    assert_array_equal(accepted, clean > 0.5)
    assert 0 < accepted.sum() < 40


def test_what_is_as_like_the_one_as_the_other_is_rejected():
    same = jnp.ones((3, 2))
    assert not cross_accept(same, same, same)[1].any()


# ---- phase II ----


def test_rejected_rows_count_neither_in_the_loss_nor_in_its_gradient():
    logits, _, labels, _ = scores()
    accepted = jnp.array([True, False, True, True, False, False])
    value, gradient = jax.value_and_grad(accepted_cross_entropy)(logits, labels, accepted)
    assert_allclose(value, positive_loss(logits[accepted], labels[accepted]), rtol=1e-6)
    assert_array_equal(gradient[~accepted], 0)
    none = jax.value_and_grad(accepted_cross_entropy)(logits, labels, jnp.zeros(6, bool))
    assert none[0] == 0 and not none[1].any()
    assert_allclose(accepted_cross_entropy(logits, labels, jnp.ones(6, bool)), positive_loss(logits, labels), rtol=1e-6)


def test_moving_averages_forget_by_powers_of_the_decay():
    average, tree = {"w": jnp.zeros(3)}, {"w": jnp.array([1.0, 2.0, 3.0])}
    for _ in range(5):
        average = ema(average, tree, 0.9)
    assert_allclose(average["w"], (1 - 0.9**5) * tree["w"], rtol=1e-6)
    assert_array_equal(ema(average, tree, 1.0)["w"], average["w"])
    assert_array_equal(ema(average, tree, 0.0)["w"], tree["w"])


@pytest.mark.parametrize(("size", "count"), [(10, 4), (12, 4), (5, 5)])
def test_the_queue_holds_the_newest_keys(size, count):
    queue, pointer = jnp.full((size, 1), -1.0), jnp.int32(0)
    pushed = []
    for step in range(7):
        keys = jnp.arange(count, dtype=jnp.float32)[:, None] + 100 * step
        queue, pointer = enqueue(queue, pointer, keys)
        pushed = [*pushed, *np.asarray(keys)[:, 0]]
        wanted = pushed[-size:] if len(pushed) >= size else pushed + [-1.0] * (size - len(pushed))
        assert sorted(np.asarray(queue)[:, 0]) == sorted(wanted)
        oldest_first = np.roll(np.asarray(queue)[:, 0], -int(pointer)) if len(pushed) >= size else None
        assert oldest_first is None or oldest_first.tolist() == wanted


def test_more_keys_than_places_are_refused():
    with pytest.raises(ValueError, match="5 keys do not fit into a queue of 4"):
        enqueue(jnp.zeros((4, 2)), 0, jnp.zeros((5, 2)))


def rows(count, seed, dim=6):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, dim)), jnp.float32)


def test_instances_are_told_apart_as_a_loop_says():
    queries, keys, queue = rows(4, 0), rows(4, 1), rows(7, 2)
    q, k, others = (unit(np.asarray(x, np.float64)) for x in (queries, keys, queue))
    wanted = [
        -np.log(np.exp(q[i] @ k[i] / 0.2) / (np.exp(q[i] @ k[i] / 0.2) + np.exp(others @ q[i] / 0.2).sum()))
        for i in range(4)
    ]
    assert_allclose(moco_loss(queries, keys, queue, temperature=0.2), np.mean(wanted), rtol=1e-5)


def test_keys_and_queue_get_no_gradient():
    loss = lambda *given: moco_loss(*given, temperature=0.2)
    gradients = jax.grad(loss, (0, 1, 2))(rows(4, 0), rows(4, 1), rows(7, 2))
    assert np.abs(gradients[0]).max() > 0
    assert not gradients[1].any() and not gradients[2].any()


def test_a_key_that_is_left_out_is_as_if_it_were_not_there():
    queries, keys, queue = rows(3, 0), rows(3, 1), rows(6, 2)
    left_out = jnp.zeros((3, 6), bool).at[:, 4].set(True)
    found = moco_loss(queries, keys, queue, temperature=0.2, left_out=left_out)
    assert_allclose(found, moco_loss(queries, keys, jnp.delete(queue, 4, axis=0), temperature=0.2), rtol=1e-6)
    everything = moco_loss(queries, keys, queue, temperature=0.2, left_out=jnp.ones((3, 6), bool))
    assert_allclose(everything, 0.0, atol=1e-6)
