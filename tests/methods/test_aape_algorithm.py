"""AAPE's aggregator and losses against naive references, their properties and gradients; golden vectors, too."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from clipjax.methods.aape import algorithm, clip_s, distill_loss, generate
from clipjax.methods.aape.aggregation import fixed_targets
from clipjax.methods.aape.algorithm import amortised_queries, mean_description, mixed_mean
from clipjax.methods.aape.config import Aggregation
from clipjax.methods.aape.initial import aggregator, class_head, generator
from clipjax.methods.cached_shots import CachedShots, Descriptions, padded
from clipjax.models import conditioned

# compiled whole: operation by operation takes longer
aggregate = jax.jit(algorithm.aggregate, static_argnames=("heads", "dropout"))
attention_weights = jax.jit(algorithm.attention_weights, static_argnames="heads")
class_logits = jax.jit(conditioned.class_logits, static_argnames="variant")
DIM, HEADS, BATCH, TEXTS = 12, 3, 4, 5


@pytest.fixture(autouse=True)
def _strict_types():
    with jax.numpy_dtype_promotion("strict"):
        yield


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def rows(*shape, seed=0):
    return jnp.asarray(unit(np.random.default_rng(seed).normal(size=(*shape, DIM))), jnp.float32)


@pytest.fixture(scope="module")
def weights():
    draw = np.random.default_rng(5)
    shapes = dict.fromkeys(("wq", "wk", "wv", "wo", "ff_w1", "ff_w2"), (DIM, DIM))
    shapes |= dict.fromkeys(("bq", "bk", "bv", "bo", "ff_b1", "ff_b2", "ln1_bias", "ln2_bias"), (DIM,))
    shapes |= dict.fromkeys(("ln1_scale", "ln2_scale"), (DIM,))
    return {name: jnp.asarray(0.5 * draw.normal(size=shape), jnp.float32) for name, shape in shapes.items()}


@pytest.fixture
def inputs():
    present = np.ones((BATCH, TEXTS), bool)
    present[1, 3:] = present[2, 1:] = False
    return rows(BATCH, seed=1), rows(BATCH, TEXTS, seed=2), jnp.asarray(present)


def naive_aggregate(weights, queries, descriptions, present):
    """One image and one head at a time, in float64, as the layer is written down."""
    w = {name: np.asarray(array, np.float64) for name, array in weights.items()}
    norm = lambda x, n: (x - x.mean()) / np.sqrt(x.var() + 1e-5) * w[f"{n}_scale"] + w[f"{n}_bias"]
    width, found = DIM // HEADS, []
    for query, texts, there in zip(*(np.asarray(x) for x in (queries, descriptions, present))):
        texts = texts[there].astype(np.float64)
        q, k, v = query @ w["wq"] + w["bq"], texts @ w["wk"] + w["bk"], texts @ w["wv"] + w["bv"]
        mixed = []
        for head in range(HEADS):
            part = slice(head * width, (head + 1) * width)
            scores = np.exp(k[:, part] @ q[part] / np.sqrt(width))
            mixed.append(scores / scores.sum() @ v[:, part])
        u = norm(texts.mean(0) + np.concatenate(mixed) @ w["wo"] + w["bo"], "ln1")
        found.append(unit(norm(u + np.maximum(u @ w["ff_w1"] + w["ff_b1"], 0) @ w["ff_w2"] + w["ff_b2"], "ln2")))
    return np.array(found)


def test_aggregator_is_an_attention_layer(weights, inputs):
    assert_allclose(aggregate(weights, *inputs, heads=HEADS), naive_aggregate(weights, *inputs), atol=1e-5)


def test_gradients_of_the_aggregator_are_finite_differences(weights, inputs):
    queries, descriptions, present = inputs
    reward = lambda w, q: jnp.sum(jnp.sin(aggregate(w, q, descriptions, present, heads=HEADS)))
    grads, grad_queries = jax.jit(jax.grad(reward, (0, 1)))(weights, queries)
    naive = lambda w, q: np.sum(np.sin(naive_aggregate(w, q, descriptions, present)))
    for name in ("wq", "wk", "wv", "wo", "bv", "ff_w1", "ln1_scale"):
        array = np.asarray(weights[name], np.float64)
        moved = np.zeros_like(array)
        moved.flat[3] = 1e-5
        ends = [naive({**weights, name: array + sign * moved}, queries) for sign in (1, -1)]
        assert_allclose(np.asarray(grads[name]).flat[3], (ends[0] - ends[1]) / 2e-5, atol=1e-4, err_msg=name)
    moved = np.zeros((BATCH, DIM))
    moved[0, 2] = 1e-5
    ends = [naive(weights, np.asarray(queries, np.float64) + sign * moved) for sign in (1, -1)]
    assert_allclose(grad_queries[0, 2], (ends[0] - ends[1]) / 2e-5, atol=1e-4)


def test_order_of_the_descriptions_does_not_matter(weights, inputs):
    queries, descriptions, present = inputs
    order = np.array([3, 0, 4, 2, 1])
    moved = aggregate(weights, queries, descriptions[:, order], present[:, order], heads=HEADS)
    assert_allclose(aggregate(weights, *inputs, heads=HEADS), moved, atol=1e-5)


def test_absent_descriptions_count_for_nothing(weights, inputs):
    queries, descriptions, present = inputs
    other = jnp.where(present[..., None], descriptions, jnp.float32(7))
    assert_allclose(
        aggregate(weights, *inputs, heads=HEADS), aggregate(weights, queries, other, present, heads=HEADS), atol=1e-6
    )
    attention = attention_weights(weights, *inputs, heads=HEADS)
    assert_allclose(attention.sum(-1), 1, atol=1e-5)
    assert np.all(np.asarray(attention)[1, :, 3:] == 0)


def test_one_description_leaves_nothing_to_ask(weights):
    one = rows(BATCH, 1, seed=3), jnp.ones((BATCH, 1), bool)
    first, second = (aggregate(weights, rows(BATCH, seed=seed), *one, heads=HEADS) for seed in (1, 8))
    assert_allclose(first, second, atol=1e-6)


def cached(labels, seed=0):
    plain = np.asarray(rows(len(labels), seed=seed))
    return CachedShots(plain[:, None], plain, np.asarray(labels, np.int32), np.asarray(rows(3, seed=4)), 10.0)


@pytest.mark.parametrize("query", ["image", "class", "amortised", "mean"])
def test_aggregator_starts_at_the_centred_mean_description(inputs, query):
    bank = Descriptions(np.asarray(inputs[1])[:3], np.asarray(inputs[2])[:3])
    aggregation = Aggregation(query=query, heads=HEADS)
    start = aggregator(jax.random.key(0), aggregation, cached([0, 1, 2, 0]), bank)
    means = bank.means[[0, 1, 2, 0]]
    queries = jnp.asarray(means, jnp.float32)
    own = [0, 1, 2, 0]
    found = aggregate(start, queries, jnp.asarray(bank.rows[own]), jnp.asarray(bank.present[own]), heads=HEADS)
    assert_allclose(found, unit(means - means.mean(1, keepdims=True)), atol=1e-4)
    if query in ("image", "class"):
        assert_allclose(start["query"], means if query == "image" else bank.means, atol=1e-6)


def test_dropout_drops_attention_and_keeps_its_mean(weights, inputs):
    drop = lambda key: aggregate(weights, *inputs, heads=HEADS, dropout=0.5, key=key)
    several = jax.vmap(drop)(jax.random.split(jax.random.key(0), 8))
    assert np.std(np.asarray(several), axis=0).max() > 1e-3
    without_key = aggregate(weights, *inputs, heads=HEADS, dropout=0.5)
    assert_allclose(without_key, aggregate(weights, *inputs, heads=HEADS), atol=1e-6)


def test_reward_is_a_cosine_that_is_never_negative():
    images, texts = rows(6, seed=1), 3 * rows(6, seed=2)
    cosines = np.sum(np.asarray(images) * unit(np.asarray(texts)), axis=1)
    assert (cosines < 0).any() and (cosines > 0).any()
    assert_allclose(clip_s(images, texts, scale=2.5), 2.5 * np.maximum(cosines, 0), atol=1e-6)


def test_distillation_sums_over_coordinates_and_spares_the_target():
    generated, target = rows(4, seed=1), rows(4, seed=2)
    naive = np.mean([np.sum((g - t) ** 2) for g, t in zip(np.asarray(generated), np.asarray(target))])
    assert_allclose(distill_loss(generated, target), naive, rtol=1e-6)
    to_generated, to_target = jax.grad(distill_loss, (0, 1))(generated, target)
    assert_allclose(to_generated, (generated - target) / 2, atol=1e-6)
    assert not np.any(to_target)


def test_amortised_queries_are_the_normalised_means_until_they_learn():
    means = rows(BATCH, seed=3)
    start = {"w": jnp.zeros((DIM, DIM)), "ln_scale": jnp.ones(DIM), "ln_bias": jnp.zeros(DIM)}
    found = amortised_queries(start, rows(BATCH, seed=1), means)
    assert_allclose(found.mean(1), 0, atol=1e-6)
    assert_allclose(unit(np.asarray(found)), unit(np.asarray(means - means.mean(1, keepdims=True))), atol=1e-4)


def test_fixed_targets_are_the_mean_or_one_of_the_class_s_own_descriptions():
    bank = padded(np.asarray(rows(7, seed=6)), [4, 1, 2])
    labels = np.array([0, 0, 0, 1, 2, 2])
    mean = fixed_targets(labels, bank, Aggregation(kind="mean"), 0)
    assert_allclose(mean, unit(bank.means[labels]), atol=1e-6)
    drawn = fixed_targets(labels, bank, Aggregation(kind="random"), 0)
    for label, row in zip(labels, drawn):
        assert np.isclose(bank.rows[label][bank.present[label]], row, atol=1e-6).all(1).any()
    assert not np.array_equal(drawn, fixed_targets(labels, bank, Aggregation(kind="random"), 1))


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_sizes_are_those_of_the_paper():
    key = jax.random.key(0)
    h = jax.eval_shape(lambda: generator(key, 512, 32))
    heads = {v: jax.eval_shape(lambda v=v: class_head(key, 512, 32, v, 1.0)) for v in ("V0", "V1", "V2")}
    assert size(h) == 33_312 and size(h) + size(heads["V1"]) == 82_464
    assert size(heads["V0"]) == 524_800 and size(heads["V2"]) == size(heads["V1"]) + 1


def test_generator_and_head_start_as_the_zero_shot_classifier():
    h, g = generator(jax.random.key(0), DIM, 2), class_head(jax.random.key(1), DIM, 2, "V2", 1.0)
    images, texts = rows(BATCH, seed=1), rows(3, seed=2)
    logits = class_logits(g, texts, images, generate(h, images), temperature=0.1)
    assert_allclose(logits, images @ texts.T / 0.1, atol=1e-5)


def test_golden_baselines_of_the_aggregator(shared_data):
    golden = np.load(shared_data / "golden/losses/aape_aggregator_baselines.npz")
    descriptions = jnp.asarray(golden["in_P"], jnp.float32)
    means = mean_description(descriptions, jnp.ones(descriptions.shape[:2], bool))
    assert_allclose(means, golden["out_mean"], atol=1e-6)
    weights = {name: jnp.asarray(golden[f"param_{name}"], jnp.float32) for name in ("w1", "b1", "w2", "b2", "alpha")}
    assert_allclose(mixed_mean(weights, means), golden["out_mlp"], atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "masked"])
def test_golden_attention(shared_data, name):
    golden = np.load(shared_data / f"golden/losses/aape_aggregator_{name}.npz")
    array = lambda key: jnp.asarray(golden[key], jnp.float32)
    weights = {key.removeprefix("param_"): array(key) for key in golden.files if key.startswith("param_")}
    found = attention_weights(
        weights, array("in_q"), array("in_P"), jnp.asarray(golden["in_mask"]), heads=int(golden["in_heads"])
    )
    assert_allclose(found, golden["out_attention"], atol=1e-5)


@pytest.mark.parametrize("name", ["small", "wide"])
def test_golden_head_with_a_hidden_bias_and_without_a_head(shared_data, name):
    golden = np.load(shared_data / f"golden/losses/aape_head_{name}.npz")
    array = lambda key: jnp.asarray(golden[key], jnp.float32)
    h = {key.removeprefix("param_h_"): array(key) for key in golden.files if key.startswith("param_h_")}
    g = {"w1": array("param_g_w1"), "w2": array("param_g_w2"), "b1": array("param_g_b1")}
    tau, images, texts = float(golden["in_tau"]), array("in_x"), array("in_w")
    generated = generate(h, images)
    biased = class_logits(g, texts, images, generated, temperature=tau, variant="V1")
    assert_allclose(biased, golden["out_V1_hidden_bias_logits"], atol=2e-3)
    alone = class_logits({}, texts, images, generated, temperature=tau, variant="none")
    assert_allclose(alone, golden["out_logits_h_only"], atol=2e-3)


def sizes(dim, hidden):
    """Count the numbers of every part, without drawing one."""
    bank = Descriptions(np.zeros((2, 1, dim), np.float32), np.ones((2, 1), bool))
    plain = np.zeros((3, dim), np.float32)
    shots = CachedShots(plain[:, None], plain, np.zeros(3, np.int32), plain[:2], 1.0)

    def draw():
        key = jax.random.key(0)
        heads = {f"g_{variant}": class_head(key, dim, hidden, variant, 1.0) for variant in ("V0", "V1", "V2")}
        return {"h": generator(key, dim, hidden), **heads, "aggregator": aggregator(key, Aggregation(), shots, bank)}

    return {name: size(part) for name, part in jax.eval_shape(draw).items()}


def test_golden_sizes(shared_data):
    for known in json.loads((shared_data / "golden/losses/aape_parameter_counts.json").read_text()):
        found = sizes(known["d"], known["hidden"])
        assert found.pop("aggregator") == known["aggregator_shared"] + 3 * known["aggregator_query_per_image"]
        assert found == {name: known[name] for name in found}
