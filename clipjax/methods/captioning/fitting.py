"""Train the map of an image's tokens on captions or on answers, while CLIP and, by default, the language model rest."""

import dataclasses
import math
from typing import Any, Literal

import numpy as np

from clipjax.data.batches import ArrayBatches
from clipjax.data.language_rows import LanguageRows
from clipjax.data.samplers import Shuffled
from clipjax.errors import ConfigError, DataError
from clipjax.losses.next_token import next_token_loss
from clipjax.methods.captioning.captioner import Captioner, Images
from clipjax.models.shapes import Params
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run
from clipjax.training.settings import check_range
from clipjax.training.stage import Stage

_MAPS = ("map", "prompt")


@dataclasses.dataclass(frozen=True)
class Config:
    """How to train. The maps always learn; `tuned` names what learns along, the prompt `generator` or the `language`
    model, at `tuned_factor` of the learning rate."""

    steps: int = 2000
    batch_size: int = 64
    optimizer: Optimizer = Optimizer(lr=1e-3, warmup=100, clip_norm=1.0)
    tuned: tuple[Literal["generator", "language"], ...] = ()
    tuned_factor: float = 1.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "dots", "full"] = "dots"
    seed: int = 0

    def __post_init__(self):
        check_range(self, 1, math.inf, "steps", "batch_size")
        check_range(self, 0, math.inf, "tuned_factor")


@dataclasses.dataclass(frozen=True)
class TextsOfImages:
    """Cross-entropy of texts, each token from the image's tokens and those before it."""

    captioner: Captioner

    def __call__(self, trainable: Any, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return the loss; a batch has images, `tokens` and what of them is `learned`."""
        params = {**trainable, **frozen}
        tokens, language = batch["tokens"], self.captioner.language
        whole = self.captioner.with_texts(params, batch, tokens[:, :-1])
        states = language.states(params["language"], whole)[:, 1 - tokens.shape[1] :]
        logits = language.head(params["language"], states)
        return next_token_loss(logits, tokens[:, 1:], batch["learned"][:, 1:]), ({}, carry)


def fit_captioner(
    captioner: Captioner, params: Params, images: Images, rows: LanguageRows, config: Config, run: Run
) -> Params:
    """Train on the texts of images, rows [images, variants, length]; one variant of each is drawn at a time.

    Returns:
      All params, with the trained ones in their place.

    Raises:
      DataError: not as many images as rows of texts.
      ConfigError: `tuned` names what the captioner does not have, or texts and images exceed the context.
    """
    if len(images["visual"]) != len(rows.tokens):
        raise DataError(f"{len(images['visual'])} images but texts for {len(rows.tokens)}; give each image its texts")
    missing = [name for name in config.tuned if name not in params]
    if missing:
        raise ConfigError(f"tuned={missing[0]!r}, but the captioner has no such part")
    tokens = images["visual"].shape[1] + ("prompt" in params)
    captioner.language.check_length(tokens + rows.tokens.shape[-1] - 1)
    learns = [name for name in (*_MAPS, *config.tuned) if name in params]
    factors = tuple((f"^{name}/", config.tuned_factor) for name in config.tuned)
    language = captioner.language.replace(dtype=config.dtype, remat=config.remat)
    arrays = {**images, "tokens": rows.tokens, "learned": rows.learned}
    fitted = run.fit(
        Stage(
            name="captioner",
            trainable={name: params[name] for name in learns},
            frozen={name: part for name, part in params.items() if name not in learns},
            objective=TextsOfImages(dataclasses.replace(captioner, language=language)),
            optimizer=dataclasses.replace(config.optimizer, factors=factors + config.optimizer.factors),
            steps=config.steps,
            batches=ArrayBatches(
                {name: np.asarray(array) for name, array in arrays.items()},
                Shuffled(len(rows.tokens), config.seed),
                config.batch_size,
                config.seed,
                one_of=("tokens", "learned"),
            ),
            seed=config.seed,
        )
    )
    learned = fitted.learned
    return {**params, **learned}
