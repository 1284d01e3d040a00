"""Contrastive pretraining from captioned images. Not an adaptation: there is no problem yet, and no classifier."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from clipjax.data.batches import BatchSource
from clipjax.losses.pairing import EqualIds
from clipjax.methods.contrastive import Contrastive, clamp_logit_scale
from clipjax.models.clip import CLIP, Params
from clipjax.parallel.mesh import make_mesh
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run
from clipjax.training.settings import check_range
from clipjax.training.stage import Stage

_SIGLIP_SCALE, _SIGLIP_BIAS = 2.3026, -10.0  # ln 10 and the bias, the start values of arXiv 2303.15343


@dataclasses.dataclass(frozen=True)
class Config:
    """How to pretrain. The numbers of the optimiser's default are CLIP's own (arXiv 2103.00020, table 19)."""

    steps: int = 10_000
    optimizer: Optimizer = Optimizer(lr=5e-4, weight_decay=0.2, warmup=2000, b2=0.98, eps=1e-6)
    loss: Literal["clip", "siglip"] = "clip"
    equal_captions: EqualIds = "ignore"
    chunk: int | None = None
    microbatches: int = 1
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "dots", "full"] = "dots"
    seed: int = 0

    def __post_init__(self):
        check_range(self, 1, math.inf, "steps", "chunk", "microbatches")


def pretrain(model: CLIP, batches: BatchSource, config: Config, run: Run, params: Params | None = None) -> Params:
    """Train both towers on batches of `images` and `tokens`, from random params unless some are given."""
    fitted = run.fit(pretrain_stage(model, batches, config, run, params))
    tuned = dict(fitted.learned)
    tuned.pop("logit_bias", None)
    return tuned


def pretrain_stage(model: CLIP, batches: BatchSource, config: Config, run: Run, params: Params | None = None) -> Stage:
    """Describe the one stage of pretraining."""
    drawn = params is None
    params = dict(jax.jit(model.init)(jax.random.key(config.seed)) if params is None else params)
    if config.loss == "siglip":
        params["logit_bias"] = jnp.float32(_SIGLIP_BIAS)
        if drawn:
            params["logit_scale"] = jnp.float32(_SIGLIP_SCALE)
    mesh = make_mesh() if run.mesh is None else run.mesh
    return Stage(
        name="pretrain",
        trainable=params,
        objective=pretrain_objective(model, config, mesh),
        optimizer=config.optimizer,
        steps=config.steps,
        batches=batches,
        after_update=clamp_logit_scale,
        seed=config.seed,
        origin=f"{model!r} drawn with seed {config.seed}" if drawn else None,
    )


def pretrain_objective(model: CLIP, config: Config, mesh: Mesh) -> Contrastive:
    """Describe what pretraining minimises."""
    return Contrastive(
        model.replace(dtype=config.dtype, remat=config.remat),
        mesh,
        loss=config.loss,
        equal_ids=config.equal_captions,
        chunk=config.chunk,
        microbatches=config.microbatches,
    )
