"""The training step against the loss it stands for, on several devices, and the gradient that frozen numbers get."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_models import random_texts, small_clip

from clipjax.data.batches import ArrayBatches
from clipjax.data.samplers import Shuffled
from clipjax.losses import clip_loss
from clipjax.methods.pcclip import Config, difference_loss
from clipjax.methods.pcclip.step import DifferenceStep, moved, no_change, text_side
from clipjax.models.clip import unit
from clipjax.parallel.mesh import make_mesh, put_rows, replicated
from clipjax.parallel.rules import path_name
from clipjax.training.fit import fit
from clipjax.training.optimizers import Optimizer
from clipjax.training.partition import join, split
from clipjax.training.stage import Stage

MODEL, PARAMS = small_clip()
TEMPERATURE = 0.5


def world() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Unit embeddings of six images, and eight pairs of them with a sentence each."""
    random = np.random.default_rng(0)
    images = np.asarray(unit(jnp.asarray(random.normal(size=(6, MODEL.config.embed_dim)), jnp.float32)))
    pairs = np.array([[0, 1], [1, 2], [2, 0], [3, 4], [4, 5], [5, 3], [0, 5], [2, 4]], np.int32)
    assert MODEL.config.text is not None
    tokens = np.asarray(random_texts(MODEL.config.text, (4, 7, 5, 6, 8, 4, 9, 5)), np.uint16)
    return images, {"first": pairs[:, 0], "second": pairs[:, 1], "tokens": tokens}


IMAGES, BATCH = world()


def plain_loss(params, kind):
    """The loss of record, on one device and with all text params in one tree."""
    text = MODEL.encode_text(params, BATCH["tokens"].astype(np.int32))
    return difference_loss(IMAGES[BATCH["first"]], IMAGES[BATCH["second"]], text, temperature=TEMPERATURE, kind=kind)


@functools.cache
def plain(kind) -> tuple[float, dict[str, np.ndarray]]:
    loss, gradient = jax.jit(jax.value_and_grad(plain_loss), static_argnums=1)(text_side(PARAMS), kind)
    return float(loss), leaves(gradient)


def leaves(params) -> dict[str, np.ndarray]:
    return {path_name(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def parts(delta: bool) -> tuple[Any, dict[str, Any]]:
    start, rest = split(text_side(PARAMS), Config().trainable)
    frozen = {"images": IMAGES, "params": rest, "temperature": jnp.float32(TEMPERATURE)}
    return (no_change(start), frozen | {"start": start}) if delta else (start, frozen)


@pytest.mark.parametrize(
    ("kind", "devices"), [("contrastive", 1), ("contrastive", 2), ("contrastive", 4), ("squared", 4)]
)
def test_on_any_number_of_devices_the_step_minimises_the_loss_of_record(kind, devices):
    mesh = make_mesh(devices=jax.devices()[:devices])
    delta = devices == 2  # one of both ways of storage suffices: they differ by an addition
    trainable, frozen = jax.device_put(parts(delta), replicated(mesh))
    step = DifferenceStep(MODEL, mesh, kind, delta)
    found = lambda trainable, batch: step(trainable, frozen, {}, batch, None, 0)[0]
    loss, gradient = jax.jit(jax.value_and_grad(found))(trainable, put_rows(mesh, BATCH))
    wanted, gradients = plain(kind)
    assert_allclose(loss, wanted, rtol=1e-5)
    scale = max(np.abs(gradient).max() for gradient in gradients.values())
    assert scale > 1e-3
    for name, leaf in leaves(gradient).items():
        assert_allclose(leaf, gradients[name], rtol=1e-3, atol=1e-5 * scale, err_msg=name)


def test_a_step_down_the_gradient_moves_blocks_by_it_and_all_else_by_exactly_nothing():
    trainable, frozen = parts(delta=True)
    descent = Optimizer("sgd", lr=1.0, schedule="constant", momentum=0.0, weight_decay=0.0)
    mesh = make_mesh(devices=jax.devices()[:1])
    batches = ArrayBatches(BATCH, Shuffled(8, 0), 8)
    stage = Stage(
        name="one",
        trainable=trainable,
        frozen=frozen,
        objective=DifferenceStep(MODEL, mesh),
        optimizer=descent,
        steps=1,
        batches=batches,
    )
    fitted = fit(stage, mesh=mesh)
    after = leaves({**PARAMS, **join(moved(frozen["start"], fitted.trainable), frozen["params"])})
    _, gradients = plain("contrastive")
    for name, before in leaves(PARAMS).items():
        if name.startswith("text/blocks/"):
            assert_allclose(before - after[name], gradients[name], rtol=1e-3, atol=1e-5, err_msg=name)
        else:
            assert_array_equal(after[name], before, err_msg=name)
    frozen_text = [name for name in gradients if not name.startswith("text/blocks/")]
    # the loss does depend on these: nothing but the choice of what trains keeps them
    assert len(frozen_text) == 5 and all(np.abs(gradients[name]).max() > 1e-4 for name in frozen_text)


def test_without_differences_the_first_images_are_compared_with_their_texts():
    mesh = make_mesh(devices=jax.devices()[:1])
    trainable, frozen = parts(delta=False)
    loss, _ = jax.jit(DifferenceStep(MODEL, mesh, delta=False, differences=False))(
        trainable, frozen, {}, BATCH, None, 0
    )
    text = MODEL.encode_text(PARAMS, BATCH["tokens"].astype(np.int32))
    assert_allclose(loss, clip_loss(IMAGES[BATCH["first"]], text, 1 / TEMPERATURE), rtol=1e-5)


def test_the_caption_term_is_the_loss_of_the_first_images_captions_of_which_equal_ones_are_no_negatives():
    mesh, (trainable, frozen) = make_mesh(devices=jax.devices()[:2]), parts(delta=False)
    assert MODEL.config.text is not None
    captions = np.asarray(random_texts(MODEL.config.text, (5, 4, 6, 7, 5, 8), seed=3), np.uint16)
    frozen |= {"captions": captions, "caption_weight": jnp.float32(0.3), "caption_temperature": jnp.float32(0.2)}
    step = jax.jit(DifferenceStep(MODEL, mesh, delta=False, captions=True))
    placed = jax.device_put((trainable, frozen), replicated(mesh))
    loss, _ = step(*placed, {}, put_rows(mesh, BATCH), None, 0)
    first = BATCH["first"]
    assert len(set(first.tolist())) < len(first)
    text = MODEL.encode_text(PARAMS, captions[first].astype(np.int32))
    own = np.eye(len(first), dtype=bool)
    term = clip_loss(IMAGES[first], text, 1 / 0.2, mask=jnp.asarray((first[:, None] == first) & ~own))
    assert_allclose(loss, plain("contrastive")[0] + 0.3 * term, rtol=1e-5)
