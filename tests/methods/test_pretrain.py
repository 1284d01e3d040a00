import dataclasses

import jax
import numpy as np
import pytest
from small_models import small_clip

from clipjax.methods.pretrain import Config, pretrain
from clipjax.training.fit import Pace
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Eight fixed pairs of noise, the same in every batch."""

    batch_size: int = 8
    fingerprint: str = "pairs"

    def batches(self, first_step=0, *, process=0, processes=1):
        random = np.random.default_rng(0)
        images = random.normal(size=(8, 16, 16, 3)).astype(np.float32)
        tokens = random.integers(1, 38, (8, 12)).astype(np.int32)
        tokens[:, -1] = 39
        while True:
            yield {"images": images, "tokens": tokens}


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_pairs_are_learned(loss):
    model, _ = small_clip()
    losses = []
    run = Run(sinks=(lambda entry: losses.append(entry.values["loss"]),), pace=Pace(log_every=5))
    optimizer = Optimizer(lr=3e-3, clip_norm=1.0, warmup=2)
    params = pretrain(model, Pairs(), Config(steps=30, loss=loss, optimizer=optimizer), run)
    model.check_params(params)
    assert losses[-1] < 0.5 * losses[0]


def test_another_seed_begins_elsewhere():
    model, _ = small_clip()
    first, second = (
        pretrain(model, Pairs(), Config(steps=1, seed=seed, optimizer=Optimizer(lr=0.0)), Run()) for seed in (0, 1)
    )
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), first, second)
    assert not same["vision"]["class_embedding"]
