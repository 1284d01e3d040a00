"""The settings of AAPE; where the paper is silent, docs/methods/aape.md says why they are as they are."""

import dataclasses
import math
from typing import Literal

from clipjax.errors import ConfigError
from clipjax.methods.cached_shots import Views
from clipjax.models.conditioned import Variant
from clipjax.training.optimizers import Optimizer
from clipjax.training.settings import check_above_zero, check_range

Aggregator = Literal["attention", "mlp", "mean", "random"]
Query = Literal["image", "class", "amortised", "mean"]


@dataclasses.dataclass(frozen=True)
class Aggregation:
    """How descriptions become one embedding for each image.

    "attention" is the paper's: its queries are learnt for each "image", for each "class", by a map of the image
    ("amortised"), or are the "mean" description. "mlp" changes the mean by a narrow network. Both learn by CLIP's
    own reward, for at most `epochs`, and stop when the mean cosine to the images has risen by the share `rise`. "mean"
    and "random", which draws one description for each image, learn nothing.
    """

    kind: Aggregator = "attention"
    query: Query = "image"
    heads: int = 4
    dropout: float = 0.1
    epochs: float = 20.0
    rise: float = 0.05
    optimizer: Optimizer = Optimizer("adam", lr=1e-4, schedule="constant")

    def __post_init__(self):
        check_range(self, 1, math.inf, "heads")
        check_range(self, 0, 0.99, "dropout")
        check_above_zero(self, "epochs")
        check_range(self, 0, math.inf, "rise")

    @property
    def learns(self) -> bool:
        """Whether there is anything to train."""
        return self.kind in ("attention", "mlp")

    def program(self) -> "Aggregation":
        """Return the settings that shape a compiled step; those that say how long and how fast are left alone."""
        return Aggregation(self.kind, self.query, self.heads, self.dropout)


@dataclasses.dataclass(frozen=True)
class Config:
    """How to adapt with AAPE; the defaults are the paper's, or CoOp's, which it follows.

    `weight` multiplies the distillation loss; with 0 no descriptions are needed. `variant` is the class head, which
    starts with `alpha` where it has one; `hidden` units are between its layers and the generator's, a sixteenth of the
    embedding by default. With `joint` the aggregator learns along and not before, and to the end: neither its `rise`
    nor its `epochs` stop it. Without `epochs` these are CoOp's for the number of shots.
    """

    aggregation: Aggregation = Aggregation()
    variant: Variant = "V2"
    alpha: float = 1.0
    hidden: int | None = None
    weight: float = 5.0
    joint: bool = False
    epochs: float | None = None
    batch_size: int = 32
    optimizer: Optimizer = Optimizer("sgd", lr=2e-3, weight_decay=5e-4, decayed="")
    views: Views = Views()
    seed: int = 0

    def __post_init__(self):
        check_range(self, 1, math.inf, "hidden", "batch_size")
        check_above_zero(self, "epochs")
        check_range(self, 0, math.inf, "weight", "seed")
        if self.alpha == 0 and self.variant in ("V2", "V3"):
            raise ConfigError(
                f"the setting alpha is 0, with which {self.variant} learns nothing; give another, such as 1"
            )
