"""The settings of PC-CLIP; but for `storage`, the defaults are those of the released code."""

import dataclasses
import math
from typing import Literal

from clipjax.errors import ConfigError
from clipjax.methods.pcclip.algorithm import Kind
from clipjax.methods.pcclip.rows import Source
from clipjax.training.optimizers import Optimizer
from clipjax.training.settings import check_above_zero, check_range

Storage = Literal["delta", "plain"]


@dataclasses.dataclass(frozen=True)
class Config:
    """How to train a text tower on differences.

    `learn_from` the differences that the problem's texts hold, or, as the two baselines, each image's captions or
    rewritten captions. At most `images` distinct images are used, drawn by `seed`, and at most `pairs` of their
    sentences. `swap` adds every pair in the other order, where its sentence can be told the other way round. A
    `caption_weight` above 0 adds CLIP's loss of the first image's captions, at `caption_temperature`.

    `kind` and `temperature` are those of the loss. `trainable` are patterns on the paths of the text side. `storage`
    "delta" trains the change of the weights as numbers of their own, so that steps too small for the weights'
    precision add up; "plain" trains the weights, as the released code does.

    The share `held_out` of the images, and every pair with one of them, is kept from training: pairs of two such
    images tell by their difference accuracy what was learnt. Of `learning_rates` and `temperatures`, where there are
    several, the best by that measure is kept. `mix` interpolates between the params before (0) and after (1). A rate
    that falls exponentially does so after each epoch, unless the optimiser names a number of steps. A part of an
    epoch, be it ever so small, is at least one step.
    """

    learn_from: Source = "differences"
    images: int | None = 1000
    pairs: int | None = None
    swap: bool = False
    kind: Kind = "contrastive"
    temperature: float = 1.0
    caption_weight: float = 0.0
    caption_temperature: float = 0.1
    trainable: tuple[str, ...] = ("^text/blocks/",)
    storage: Storage = "delta"
    epochs: float = 20.0
    batch_size: int = 512
    optimizer: Optimizer = Optimizer("adam", lr=1e-8, schedule="exponential", decay_rate=0.9)
    held_out: float = 0.0
    learning_rates: tuple[float, ...] = ()
    temperatures: tuple[float, ...] = ()
    mix: float = 1.0
    dtype: Literal["float32", "bfloat16"] | None = None
    seed: int = 0

    def __post_init__(self):
        check_range(self, 2, math.inf, "images")
        check_range(self, 1, math.inf, "pairs", "batch_size")
        check_range(self, 0, math.inf, "caption_weight", "seed")
        check_range(self, 0, 1, "mix", "held_out")
        check_above_zero(self, "epochs", "temperature", "caption_temperature")
        for name in ("learning_rates", "temperatures"):
            if any(not number > 0 for number in getattr(self, name)):
                raise ConfigError(f"the setting {name} is {list(getattr(self, name))}; each must be above 0")
        if len(self.candidates) > 1 and not self.held_out:
            raise ConfigError(
                "several learning_rates or temperatures need images to choose by; set held_out to a share such as 0.1"
            )
        if self.learn_from != "differences" and (self.swap or self.held_out or self.caption_weight):
            raise ConfigError(f"swap, held_out and caption_weight are for differences, not for {self.learn_from}")

    @property
    def candidates(self) -> tuple[tuple[float, float], ...]:
        """Every learning rate with every temperature to try."""
        rates, temperatures = self.learning_rates or (self.optimizer.lr,), self.temperatures or (self.temperature,)
        return tuple((rate, temperature) for rate in rates for temperature in temperatures)
