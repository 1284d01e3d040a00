"""Small optimisation problems: one that has everything a stage can have and compiles quickly, and a tiny CLIP."""

import dataclasses
import hashlib
from collections.abc import Hashable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from small_models import random_images, random_texts, small_clip

from clipjax.data.batches import ArrayBatches
from clipjax.data.samplers import Shuffled
from clipjax.methods.contrastive import Contrastive, clamp_logit_scale
from clipjax.models.config import TextConfig, ViTConfig
from clipjax.training.optimizers import Optimizer
from clipjax.training.stage import Stage

OPTIMIZER = Optimizer(lr=0.03, warmup=3, weight_decay=0.1, clip_norm=1.0, ema=0.9)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Random rows `x` and what to predict from them, `y`; NaN in the batches of `bad_steps`."""

    batch_size: int = 8
    seed: int = 0
    bad_steps: tuple[int, ...] = ()

    @property
    def fingerprint(self):
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def batches(self, first_step=0, *, process=0, processes=1):
        here = slice(process * self.batch_size // processes, (process + 1) * self.batch_size // processes)
        step = first_step
        while True:
            x = np.random.default_rng((self.seed, step)).normal(size=(self.batch_size, 4)).astype(np.float32)
            y = np.stack([x.sum(1), x[:, 0] - x[:, 1]], axis=1)
            if step in self.bad_steps:
                x = np.full_like(x, np.nan)
            yield {"x": x[here], "y": y[here]}
            step += 1


@dataclasses.dataclass(frozen=True)
class Regression:
    """The squared error of a small network with a little noise, so that random keys matter."""

    tag: Hashable = None

    def __call__(self, trainable, frozen, carry, batch, rng, step):
        hidden = batch["x"] + frozen["noise"] * jax.random.normal(rng, batch["x"].shape)
        layers = trainable["blocks"]["fc1"]
        for kernel, bias in zip(layers["kernel"], layers["bias"]):
            hidden = jnp.tanh(hidden @ kernel + bias)
        error = hidden @ trainable["head"]["kernel"] * jnp.exp(trainable["logit_scale"]) - batch["y"]
        carry = {"seen": carry["seen"] + 1, "mean": 0.9 * carry["mean"] + 0.1 * error.mean(0)}
        return jnp.mean(error**2), ({"largest": jnp.max(jnp.abs(error))}, carry)


def limit_scale(trainable):
    return trainable | {"logit_scale": jnp.maximum(trainable["logit_scale"], -0.02)}


def toy_params(seed=0):
    random = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(random.normal(size=shape) / 2, jnp.float32)
    return {
        "blocks": {"fc1": {"kernel": draw(2, 4, 4), "bias": draw(2, 4)}},
        "head": {"kernel": draw(4, 2)},
        "logit_scale": jnp.zeros(()),
    }


def toy_stage(steps=12, *, tag=None, **changes):
    """Describe the problem; every part that `changes` names is replaced. A `tag` gives it a program of its own."""
    parts = {
        "trainable": toy_params(),
        "frozen": {"noise": jnp.float32(0.05)},
        "carry": {"seen": jnp.zeros((), jnp.int32), "mean": jnp.zeros(2)},
        "optimizer": OPTIMIZER,
        "batches": Rows(),
        "after_update": limit_scale,
    }
    return Stage("toy", objective=Regression(tag), steps=steps, **(parts | changes))


def clip_stage(mesh: Mesh, steps=9):
    """Describe the pretraining of a CLIP on eight made-up images with captions of different lengths."""
    vision = ViTConfig(image_size=8, patch_size=4, width=8, layers=2, heads=2, mlp_width=16)
    text = TextConfig(40, 8, width=8, layers=1, heads=2, mlp_width=16, bos_token_id=38, eos_token_id=39)
    model, params = small_clip(vision, text, embed_dim=8)
    images, tokens = random_images(model, 24), random_texts(text, (4, 5, 6, 7) * 6)
    batches = ArrayBatches({"images": np.asarray(images), "tokens": np.asarray(tokens)}, Shuffled(24, 0), 8)
    # with Adam's usual eps the biases of the keys, whose gradient is zero but for rounding, would move at random
    optimizer = Optimizer(lr=0.02, weight_decay=0.1, clip_norm=1.0, ema=0.5, eps=1e-3)
    objective = Contrastive(model, mesh)
    return Stage("clip", params, objective, optimizer, steps, batches, after_update=clamp_logit_scale)


def leaves(fitted):
    """All numbers that a stage ends with, by name."""
    tree = {"trainable": fitted.trainable, "carry": fitted.carry, "average": fitted.average}
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in found}


def assert_same_bits(found, wanted):
    found, wanted = leaves(found), leaves(wanted)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def assert_close(found, wanted, tolerance):
    found, wanted = leaves(found), leaves(wanted)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance, err_msg=name)
