"""What the signatures say of shapes is true of valid arguments; what the losses refuse is tested beside each."""

import beartype
import jax
import jax.numpy as jnp
import jaxtyping
import pytest

from clipjax.losses import clip_loss, siglip_loss


def checked(loss):
    return jaxtyping.jaxtyped(loss, typechecker=beartype.beartype)


def draw(key, rows: int):
    return jax.random.normal(key, (rows, 4))


@pytest.mark.parametrize("scale", [10.0, jnp.float32(10.0)], ids=["number", "array"])
def test_pairs_fit_the_annotations(getkey, scale):
    image, text = draw(getkey(), 5), draw(getkey(), 5)
    assert checked(clip_loss)(image, text, scale).shape == ()
    assert checked(siglip_loss)(image, text, scale, -scale).shape == ()


def test_soft_targets_of_several_texts_fit_the_annotations(getkey):
    targets = jnp.full((3, 5), 0.2), jnp.full((5, 3), 1 / 3)
    assert checked(clip_loss)(draw(getkey(), 3), draw(getkey(), 5), 10.0, targets=targets).shape == ()


def test_transposed_targets_do_not_fit_the_annotations(getkey):
    targets = jnp.full((5, 3), 0.2), jnp.full((3, 5), 1 / 3)
    with pytest.raises(jaxtyping.TypeCheckError):
        checked(clip_loss)(draw(getkey(), 3), draw(getkey(), 5), 10.0, targets=targets)
