import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipjax.losses import equal_caption_mask, equal_caption_targets
from clipjax.losses.pairing import Texts, over_text_blocks


def test_mask_marks_equal_ids_and_only_them():
    mask = equal_caption_mask(jnp.array([1, 2]), jnp.array([2, 1, 1]))
    assert mask.tolist() == [[False, True, True], [True, False, False]]


def test_targets_are_uniform_over_equal_ids():
    to_text, to_image = equal_caption_targets(jnp.array([1, 2]), jnp.array([2, 1, 1]))
    assert to_text.tolist() == [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]]
    assert to_image.tolist() == [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]


def test_targets_of_an_id_without_partner_are_zero():
    to_text, to_image = equal_caption_targets(jnp.array([1, 5]), jnp.array([1, 9]))
    assert to_text.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert to_image.tolist() == [[1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("chunk", [None, 1, 2, 3, 6, 7, 100])
def test_blocks_show_every_text_once_and_in_order(chunk):
    texts = Texts(jnp.arange(7.0)[:, None], jnp.arange(7))

    def step(seen, block):
        real = jnp.ones_like(block.places, bool) if block.real is None else block.real
        return seen + jnp.sum(jnp.where(real, block.embeddings[:, 0] + 1, 0.0)), block.embeddings[:, 0]

    seen, values = over_text_blocks(step, jnp.float32(0), texts, chunk)
    assert seen == 28
    np.testing.assert_array_equal(values, np.arange(7))


def test_a_block_holds_no_more_texts_than_asked():
    sizes = []

    def step(carry, block):
        sizes.append(block.places.shape[0])
        return carry, block.places

    jax.eval_shape(lambda: over_text_blocks(step, 0, Texts(jnp.ones((7, 2)), jnp.arange(7)), 3))
    assert set(sizes) == {3}
