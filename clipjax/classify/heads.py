"""What may stand between embeddings and class weights: heads that methods learn and `Classifier` applies.

A head is a frozen dataclass of `arrays` by name and plain options, so that each can be saved beside a checkpoint, and
a pytree, so that heads of the same kind and shapes share one compilation.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from clipjax.models.clip import CLIP, Params, cosines, unit
from clipjax.models.conditioned import Variant, class_logits, generate

Arrays = Mapping[str, Array]

TEXT_SIDE = ("text", "text_projection", "logit_scale")
"""The parts of a model's params that a head may use."""

ROWS_AT_ONCE = 64
"""Images that are scored together where each has class weights of its own."""

CLASSES_AT_ONCE = 128
"""Class names that are encoded together where each image encodes all of them."""


class Head(Protocol):
    """How unit embeddings become scores."""

    @property
    def arrays(self) -> Arrays:
        """What was learnt."""
        ...

    def scores(
        self, model: CLIP, params: Params, rows: Float[Array, "batch dim"], class_weights: Float[Array, "classes dim"]
    ) -> Float[Array, "batch classes"]:
        """Score unit image embeddings against unit class weights; scaled as their softmax is meant."""
        ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Conditioned:
    """AAPE's generator and class head, with names such as `generator/w1` and `head/w2` (`models.conditioned`)."""

    arrays: Arrays
    variant: Variant = dataclasses.field(default="V2", metadata={"static": True})

    def scores(self, model: CLIP, params: Params, rows: Array, class_weights: Array) -> Array:
        """Compare each image with the class weights that it makes of the texts."""
        generator, head = part(self.arrays, "generator"), part(self.arrays, "head")
        temperature = jnp.exp(-params["logit_scale"].astype(jnp.float32))
        one = lambda row: class_logits(
            head,
            class_weights,
            row[None],
            generate(generator, row[None]),
            temperature=temperature,
            variant=self.variant,
        )[0]
        # a program for any number of images cannot part them into so many at a time
        known = isinstance(rows.shape[0], int)
        return jax.lax.map(one, rows, batch_size=ROWS_AT_ONCE if known else None)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class FeatureAdapter:
    """CLIP-Adapter: a narrow network changes image embeddings by the share `ratio` (arXiv 2110.04544, equation 6)."""

    arrays: Arrays
    ratio: float = 0.2

    def scores(self, model: CLIP, params: Params, rows: Array, class_weights: Array) -> Array:
        """Compare changed embeddings with the class weights."""
        return _scale(params) * cosines(self.changed(rows), class_weights)

    def changed(self, rows: Float[Array, "batch dim"]) -> Float[Array, "batch dim"]:
        """Mix embeddings with what the network makes of them."""
        inside = jax.nn.relu(cosines(rows, self.arrays["w1"].T))
        return unit(self.ratio * jax.nn.relu(cosines(inside, self.arrays["w2"].T)) + (1 - self.ratio) * rows)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class KeyValueCache:
    """Tip-Adapter: shots as `keys` that vote for their `labels` by how near they are (arXiv 2111.03930, equation 6)."""

    arrays: Arrays
    strength: float = 1.0
    sharpness: float = 5.5

    def scores(self, model: CLIP, params: Params, rows: Array, class_weights: Array) -> Array:
        """Add the votes of the shots to the zero-shot scores."""
        near = jnp.exp(self.sharpness * (cosines(rows, self.arrays["keys"]) - 1))
        of_class = jax.nn.one_hot(self.arrays["labels"], len(class_weights), dtype=near.dtype)
        votes = jnp.matmul(near, of_class, precision=jax.lax.Precision.HIGHEST)
        return _scale(params) * cosines(rows, class_weights) + self.strength * votes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Contexts:
    """Learned contexts that the class weights were read behind (CoOp); kept so that other classes can be, too."""

    arrays: Arrays

    def scores(self, model: CLIP, params: Params, rows: Array, class_weights: Array) -> Array:
        """Compare embeddings with the class weights, which have the contexts in them."""
        return _scale(params) * cosines(rows, class_weights)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class ImageContexts:
    """Learned contexts that each image shifts (CoCoOp, arXiv 2203.05557): every image reads all class names anew.

    `arrays` are `contexts`, the network `w1`, `b1`, `w2`, `b2` from embeddings to token embeddings, and the classes'
    `tokens` with room for the contexts.
    """

    arrays: Arrays

    def scores(self, model: CLIP, params: Params, rows: Array, class_weights: Array) -> Array:
        """Embed the class names behind each image's contexts, one image after the other."""
        a = self.arrays
        tokens, count = a["tokens"], len(a["contexts"])
        if tokens.shape[0] != len(class_weights):
            raise ValueError(f"{tokens.shape[0]} rows of tokens do not fit {len(class_weights)} classes")
        embedded = model.embed_tokens(params, tokens)
        together = min(len(tokens), CLASSES_AT_ONCE)
        # the last part is filled up with the last class
        places = jnp.minimum(jnp.arange(-(-len(tokens) // together) * together), len(tokens) - 1)

        def one(row: Float[Array, " dim"]) -> Float[Array, " classes"]:
            shifted = (a["contexts"] + generate(a, row[None])).astype(embedded.dtype)

            def of_some(classes: Int[Array, " some"]) -> Float[Array, " some"]:
                own, repeated = embedded[classes], jnp.repeat(shifted[None], together, axis=0)
                filled = jnp.concatenate([own[:, :1], repeated, own[:, 1 + count :]], axis=1)
                texts = unit(model.encode_text(params, tokens[classes], token_embeddings=filled))
                return cosines(row[None], texts)[0]

            parts = places.reshape(-1, together)
            # what one image makes of a few classes is kept for the gradient; of more, the text tower runs once more
            some = of_some if rows.shape[0] == 1 and len(parts) == 1 else jax.checkpoint(of_some)
            return jax.lax.map(some, parts).reshape(-1)[: len(tokens)]

        # some classes of one image at a time: memory knows no batch
        return _scale(params) * jax.lax.map(one, rows)


HEADS: dict[str, type[Any]] = {
    "conditioned": Conditioned,
    "feature_adapter": FeatureAdapter,
    "key_value_cache": KeyValueCache,
    "contexts": Contexts,
    "image_contexts": ImageContexts,
}
"""The heads by the names that they are saved under."""


def part(arrays: Arrays, name: str) -> dict[str, Array]:
    """Return the arrays whose names begin with `name/`, without that."""
    return {key.removeprefix(f"{name}/"): array for key, array in arrays.items() if key.startswith(f"{name}/")}


def joined(**parts: Arrays) -> dict[str, Array]:
    """Put several groups of arrays under one another's names, as `part` takes them apart."""
    return {f"{name}/{key}": array for name, arrays in parts.items() for key, array in arrays.items()}


def described(head: Any) -> dict[str, Any]:
    """Say in plain values which head it is and with which options; the arrays go elsewhere."""
    (kind,) = (name for name, known in HEADS.items() if isinstance(head, known))
    options = {f.name: getattr(head, f.name) for f in dataclasses.fields(head) if f.name != "arrays"}
    return {"kind": kind, "options": options}


def rebuilt(description: Mapping[str, Any], arrays: Mapping[str, Any]) -> Any:
    """Build the head that `described` speaks of.

    Raises:
      ValueError, TypeError, KeyError: there is no such head, or it has other options.
    """
    kind = HEADS[description["kind"]]
    if (variant := description["options"].get("variant", "V2")) not in get_args(Variant):
        raise ValueError(f"there is no head {variant!r}")
    as_array = lambda numbers: jnp.asarray(numbers, jnp.int32 if numbers.dtype.kind in "iu" else jnp.float32)
    return kind({name: as_array(numbers) for name, numbers in arrays.items()}, **description["options"])


def _scale(params: Params) -> Float[Array, ""]:
    return jnp.exp(params["logit_scale"].astype(jnp.float32))
