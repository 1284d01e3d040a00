import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_models import assert_same_params, small_clip

from clipjax.errors import ConfigError
from clipjax.parallel.rules import path_name
from clipjax.training import lora

PATTERNS = [r"vision/blocks/.*(query|value)/kernel$"]


@pytest.fixture(scope="module")
def clip():
    return small_clip()


def adapters_of(clip, rank=2, up=0.0):
    adapters = lora.init(jax.random.key(0), clip[1], PATTERNS, rank=rank)
    return {name: {**adapter, "up": adapter["up"] + up} for name, adapter in adapters.items()}


def test_fresh_adapters_change_nothing(clip):
    assert_same_params(lora.apply(clip[1], adapters_of(clip)), clip[1])


def test_only_the_matched_kernels_change(clip):
    adapters = adapters_of(clip, up=0.1)
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), lora.apply(clip[1], adapters), clip[1])
    found = {path_name(path) for path, differs in jax.tree_util.tree_leaves_with_path(changed) if differs}
    wanted = {path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(clip[1])}
    wanted = {n for n in wanted if n.startswith("vision/blocks") and n.endswith(("query/kernel", "value/kernel"))}
    assert found == wanted == set(adapters)


def test_the_update_is_the_scaled_product_layer_by_layer(clip):
    adapters = adapters_of(clip, rank=3, up=0.1)
    [name] = [name for name in adapters if "query" in name]
    leaf = lambda params: params["vision"]["blocks"]["attention"]["query"]["kernel"]
    update = leaf(lora.apply(clip[1], adapters, alpha=6.0)) - leaf(clip[1])
    for layer in range(len(update)):
        product = adapters[name]["down"][layer] @ adapters[name]["up"][layer]
        np.testing.assert_allclose(update[layer], 6.0 / 3 * product, rtol=1e-4, atol=1e-6)
        assert np.linalg.matrix_rank(product) <= 3


def test_gradients_flow_to_the_adapters(clip):
    loss = lambda adapters: sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(lora.apply(clip[1], adapters)))
    for gradient in jax.grad(loss)(adapters_of(clip, up=0.1)).values():
        assert all(float(jnp.abs(leaf).max()) > 0 for leaf in gradient.values())


def test_down_is_uniform_within_the_authors_bound(clip):
    for adapter in lora.init(jax.random.key(1), clip[1], PATTERNS, rank=8).values():
        bound = adapter["down"].shape[-2] ** -0.5
        largest = float(jnp.abs(adapter["down"]).max())
        assert 0.9 * bound < largest <= bound


@pytest.mark.parametrize(
    ("patterns", "rank", "message"),
    [
        (["nothing"], 2, "no parameter matches nothing"),
        (["logit_scale"], 1, "no adapter of rank 1 fits logit_scale"),
        (PATTERNS, 999, "rank 999"),
        (PATTERNS, 0, "rank 0"),
    ],
)
def test_adapters_that_fit_nowhere_are_refused(clip, patterns, rank, message):
    with pytest.raises(ConfigError, match=message):
        lora.init(jax.random.key(0), clip[1], patterns, rank=rank)


def test_an_adapter_for_another_model_is_refused_by_name(clip):
    adapters = adapters_of(clip)
    adapters["vision/elsewhere/kernel"] = next(iter(adapters.values()))
    with pytest.raises(ConfigError, match="no vision/elsewhere/kernel"):
        lora.apply(clip[1], adapters)
