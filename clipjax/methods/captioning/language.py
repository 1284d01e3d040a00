"""A small language model from nothing but captions, for machines that have no large one.

It is trained and measured on texts alone; images come in later, with a map of their tokens (`fitting`).
"""

import dataclasses
import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from clipjax.data.batches import ArrayBatches
from clipjax.data.language_rows import LanguageRows
from clipjax.data.samplers import Shuffled
from clipjax.losses.next_token import next_token_loss, next_token_losses
from clipjax.models.causal_lm import CausalLM
from clipjax.models.shapes import Params
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run
from clipjax.training.settings import check_range
from clipjax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class Config:
    """How to train a language model."""

    steps: int = 2000
    batch_size: int = 64
    optimizer: Optimizer = Optimizer(lr=1e-3, warmup=100, weight_decay=0.1, b2=0.98, clip_norm=1.0)
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Literal["none", "dots", "full"] = "dots"
    seed: int = 0

    def __post_init__(self):
        check_range(self, 1, math.inf, "steps", "batch_size")


@dataclasses.dataclass(frozen=True)
class NextToken:
    """Cross-entropy of the tokens that are to be learned, each from those before it."""

    model: CausalLM

    def __call__(self, trainable: Any, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return the loss; a batch has `tokens` and what of them is `learned`."""
        logits = self.model.logits(trainable, batch["tokens"][:, :-1])
        return next_token_loss(logits, batch["tokens"][:, 1:], batch["learned"][:, 1:]), ({}, carry)


def train_language_model(
    model: CausalLM, rows: LanguageRows, config: Config, run: Run, params: Params | None = None
) -> Params:
    """Train on rows [texts, variants, length], one variant of each text at a time; from random params unless given."""
    drawn = params is None
    fitted = run.fit(
        Stage(
            name="language",
            trainable=jax.jit(model.init)(jax.random.key(config.seed)) if params is None else params,
            objective=NextToken(model.replace(dtype=config.dtype, remat=config.remat)),
            optimizer=config.optimizer,
            steps=config.steps,
            batches=ArrayBatches(
                {"tokens": rows.tokens, "learned": rows.learned},
                Shuffled(len(rows.tokens), config.seed),
                config.batch_size,
                config.seed,
                one_of=("tokens", "learned"),
            ),
            seed=config.seed,
            origin=f"{model!r} drawn with seed {config.seed}" if drawn else None,
        )
    )
    return fitted.learned


def perplexity(
    model: CausalLM,
    params: Params,
    tokens: Int[np.ndarray, "texts length"],
    learned: Bool[np.ndarray, "texts length"],
    *,
    batch_size: int = 256,
) -> float:
    """Measure the perplexity of the `learned` tokens, end tokens among them, of all texts together."""
    total = 0.0
    for first in range(0, len(tokens), batch_size):
        part = slice(first, first + batch_size)
        short = ((0, batch_size - len(tokens[part])), (0, 0))
        total += float(
            _negative_log_likelihood(model, params, np.pad(tokens[part], short), np.pad(learned[part], short))
        )
    return math.exp(total / np.sum(learned[:, 1:]))


def unigram_perplexity(train: LanguageRows, held_out: LanguageRows, vocab_size: int) -> float:
    """Measure the perplexity of texts by token frequencies alone, each counted once more than it was seen."""
    counts = np.bincount(train.tokens[train.learned], minlength=vocab_size) + 1
    likely = np.log(counts / counts.sum())
    return math.exp(-likely[held_out.tokens[held_out.learned]].mean())


@functools.partial(jax.jit, static_argnums=0)
def _negative_log_likelihood(model: CausalLM, params: Params, tokens: Any, learned: Any):
    losses = next_token_losses(model.logits(params, tokens[:, :-1]), tokens[:, 1:])
    return jnp.sum(jnp.where(learned[:, 1:], losses, 0.0))
