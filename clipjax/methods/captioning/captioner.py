"""What stands before a text about an image: its tokens, mapped into a language model's space (arXiv 2209.15162).

With AAPE (arXiv 2410.23698) one more token follows them, made of the image's prompt embedding.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from clipjax.models.causal_lm import CausalLM
from clipjax.models.shapes import Params

Images = dict[str, Any]
"""`visual` [images, tokens, features], the image tower's tokens, and `prompt` [images, dim] for an extra token."""


@dataclasses.dataclass(frozen=True)
class Captioner:
    """A language model behind a linear map, without its numbers.

    `generate(params, x)` makes a prompt embedding of what is given for an image, AAPE's h of its CLIP embedding;
    without it the prompt embedding itself is given. A module-level function, so that equal captioners share
    compilations. The params are those of the linear `map`, of the linear `prompt` map where there is an extra
    token, of the `generator`, and of the `language` model.
    """

    language: CausalLM
    generate: Callable[[Any, Any], Any] | None = None

    def init(self, key: PRNGKeyArray, language: Params, images: Images, *, generator: Params | None = None) -> Params:
        """Draw maps whose results have the spread of the model's own token embeddings.

        `images` are some to learn the spread of features from.
        """
        params: Params = {"language": language}
        parts = {"map": jnp.asarray(images["visual"])}
        if generator is not None:
            params["generator"] = generator
        if "prompt" in images:
            parts["prompt"] = self._prompt_embeddings(params, jnp.asarray(images["prompt"]))
        spread = jnp.std(language["token_embedding"])
        for one, (name, features) in zip(jax.random.split(key), parts.items()):
            n_in = features.shape[-1]
            size = jnp.sqrt(jnp.mean(features.astype(jnp.float32) ** 2) * n_in)
            shape = (n_in, language["token_embedding"].shape[1])
            params[name] = {
                "kernel": jax.random.normal(one, shape) * (spread / jnp.maximum(size, 1e-6)),
                "bias": jnp.zeros(shape[1]),
            }
        return params

    def prefix(self, params: Params, images: Images) -> Float[Array, "batch prefix width"]:
        """Map images to the tokens that stand before a text: the visual ones, then the extra one."""
        tokens = _linear(params["map"], images["visual"])
        if "prompt" not in params:
            return tokens
        extra = _linear(params["prompt"], self._prompt_embeddings(params, images["prompt"]))
        return jnp.concatenate([tokens, extra[:, None]], axis=1)

    def with_texts(
        self, params: Params, images: Images, tokens: Int[Array, "batch length"]
    ) -> Float[Array, "batch prefix_and_length width"]:
        """Put texts behind their images."""
        texts = self.language.embed_tokens(params["language"], tokens)
        return jnp.concatenate([self.prefix(params, images), texts.astype(jnp.float32)], axis=1)

    def _prompt_embeddings(self, params: Params, given: Float[Array, "batch dim"]) -> Float[Array, "batch dim"]:
        return given if self.generate is None else self.generate(params["generator"], given)


def _linear(layer: Params, x: Float[Array | np.ndarray, "... n_in"]) -> Float[Array, "... n_out"]:
    # features may be stored in half precision
    return jnp.asarray(x, jnp.float32) @ layer["kernel"] + layer["bias"]
