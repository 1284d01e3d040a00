"""The settings of CoFT; where the paper is silent, those of its authors' other work (docs/methods/coft.md)."""

import dataclasses
import math
from typing import Literal

from clipjax.errors import ConfigError
from clipjax.methods.coft.algorithm import Detached
from clipjax.methods.coft.filtering import Validation
from clipjax.methods.coft.seeds import Labels
from clipjax.methods.coft.tuning import HeadInput
from clipjax.training.optimizers import Optimizer
from clipjax.training.settings import check_above_zero, check_positive_share, check_range


@dataclasses.dataclass(frozen=True)
class Config:
    """How to adapt with CoFT. CoFT+ is `rounds=3, contrast_weight=0.1`.

    Phase I: `models` learn `contexts` for the positive and the negative texts and `visual_prompts` in each layer,
    from the `seeds_per_class` most confident images of each predicted class, for `prompt_epochs` and at least
    `least_prompt_steps` steps; `negative_weight` multiplies the second loss, and `detached` says what it does not
    train. This is done anew in each of `rounds`, with seeds by the models of the round before. Many classes are read in
    several `text_parts`, for less memory: of at most 128 texts each, unless told otherwise.

    Between: `validation` by the other model ("peer"), by the same ("self"), by the proposer's own softmax of at least
    `threshold` ("confidence") or not at all ("none"). Without `finetune` the prompted models are the classifier.

    Phase II: `tuned` are patterns on the paths of the image side. The head reads `head_input` features and starts at
    random or from the positive texts (`head_start`). With `contrast_weight` the tower also tells instances apart, by a
    moving average of itself (`momentum`), a `queue` of keys, at most half as many as images but at least a batch, and
    a `temperature`.

    `labels`: the problem's shots are right and join the seeds and what is accepted ("clean"), or they are proposals to
    check in place of the models' own ("noisy"), or nobody looks ("ignored"). Images are cropped to at least the
    share `crop` (keys: `key_crop`) and flipped with probability `flip`.
    """

    labels: Labels = "clean"
    models: int = 2
    seeds_per_class: int = 16
    contexts: int = 16
    visual_prompts: int = 20
    rounds: int = 1
    negative_weight: float = 1.0
    detached: Detached = "nothing"
    prompt_epochs: float = 10.0
    least_prompt_steps: int = 200
    prompt_optimizer: Optimizer = Optimizer("sgd", lr=0.03, weight_decay=5e-4, decayed="")
    text_parts: int | None = None
    validation: Validation = "peer"
    threshold: float = 0.5
    finetune: bool = True
    tune_epochs: float = 10.0
    tune_optimizer: Optimizer = Optimizer("sgd", lr=5e-4, weight_decay=5e-4, decayed="")
    tuned: tuple[str, ...] = ("",)
    head_input: HeadInput = "pooled"
    head_start: Literal["random", "text"] = "random"
    contrast_weight: float = 0.0
    momentum: float = 0.999
    temperature: float = 0.07
    queue: int = 8192
    batch_size: int = 64
    crop: float = 0.75
    key_crop: float = 0.5
    flip: float = 0.5
    dtype: Literal["float32", "bfloat16"] | None = None
    seed: int = 0

    def __post_init__(self):
        check_range(self, 1, 2, "models")
        check_range(self, 1, math.inf, "seeds_per_class", "contexts", "rounds", "queue", "batch_size")
        check_range(self, 0, math.inf, "visual_prompts", "negative_weight", "prompt_epochs")
        check_range(self, 0, math.inf, "contrast_weight", "seed")
        check_range(self, 1, math.inf, "least_prompt_steps")
        check_range(self, 0, 1, "threshold", "momentum", "flip")
        check_positive_share(self, "crop", "key_crop")
        if self.text_parts is not None:
            check_range(self, 1, math.inf, "text_parts")
        check_above_zero(self, "tune_epochs", "temperature")
        if self.models == 1 and self.validation == "peer":
            raise ConfigError('one model has no peer to validate it; set models=2, or validation="self"')
