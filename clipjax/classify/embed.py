"""Run a tower over many images or texts: batches of one compiled size, results in order, bounded memory."""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from clipjax.classify.classifier import Classifier
from clipjax.classify.ensemble import Ensemble, mean_vote
from clipjax.data.loader import BadImage, image_batches
from clipjax.data.source import ImageSource
from clipjax.errors import ConfigError
from clipjax.inputs.image import crop_uint8
from clipjax.inputs.tokenizer import Tokenizer
from clipjax.inputs.trim import text_lengths, trimmed_length
from clipjax.models.clip import CLIP, Params
from clipjax.parallel.spread import spread
from clipjax.progress import Progress, silent


def embed_images(
    model: CLIP,
    params: Params,
    source: ImageSource,
    *,
    batch_size: int = 64,
    skip_bad: bool = False,
    progress: Progress = silent,
    mesh: Mesh | None = None,
) -> tuple[Float[np.ndarray, "images dim"], np.ndarray, list[BadImage]]:
    """Embed a source's images, prepared as the checkpoint was trained and measured.

    With a mesh, the images of a batch are spread over its devices.

    Returns:
      The embeddings (projected, not normalised), the positions in the source that they belong
      to, and the images that were skipped.

    Raises:
      DataError: an image cannot be decoded and `skip_bad` is false, or not one can.
    """
    batch_size = min(batch_size, len(source))
    encode = functools.partial(encode_pixels, model, params)
    if mesh is not None:
        encode = spread(functools.partial(encode_pixels, model), params, mesh)
    stream = _encoded_batches(encode, model, source, batch_size, skip_bad)
    return _collected(progress(stream, total=len(source), label="encoding images", step=batch_size))


def score_images(
    classifier: Classifier | Ensemble,
    source: ImageSource,
    *,
    batch_size: int = 64,
    skip_bad: bool = False,
    progress: Progress = silent,
) -> tuple[Float[np.ndarray, "images classes"], np.ndarray, list[BadImage]]:
    """Score a source's images, prepared as the classifier's model was trained and measured.

    Returns:
      The scores, the positions in the source that they belong to, and the images that were skipped.

    Raises:
      DataError: an image cannot be decoded and `skip_bad` is false, or not one can.
    """
    model, batch_size = classifier.model, min(batch_size, len(source))
    encode = lambda pixels: classifier.scores(normalised(model, pixels))
    stream = _encoded_batches(encode, model, source, batch_size, skip_bad)
    return _collected(progress(stream, total=len(source), label="encoding images", step=batch_size))


def score_members(
    classifier: Classifier | Ensemble, source: ImageSource, *, progress: Progress = silent
) -> tuple[Float[np.ndarray, "images classes"], list[Float[np.ndarray, "images classes"]], np.ndarray]:
    """Score a source's images by a classifier; those of an ensemble are made of its members', which are returned, too.

    Returns:
      The scores, those of the members, and the positions in the source that they belong to.

    Raises:
      DataError: an image cannot be decoded.
    """
    if not isinstance(classifier, Ensemble):
        scores, indices, _ = score_images(classifier, source, progress=progress)
        return scores, [], indices
    found = [score_images(member, source, progress=progress) for member in classifier.members]
    each = [scores for scores, _, _ in found]
    return np.asarray(mean_vote(jnp.stack(each))), each, found[0][1]


def image_embedding_batches(
    model: CLIP, params: Params, source: ImageSource, *, batch_size: int, skip_bad: bool
) -> Iterator[tuple[np.ndarray, Float[np.ndarray, "batch dim"], list[BadImage]]]:
    """Yield (positions, embeddings, skipped) for each batch; the next batch is decoded meanwhile."""
    return _encoded_batches(functools.partial(encode_pixels, model, params), model, source, batch_size, skip_bad)


def _encoded_batches(
    encode: Callable[[UInt8[np.ndarray, "batch height width 3"]], Array],
    model: CLIP,
    source: ImageSource,
    batch_size: int,
    skip_bad: bool,
) -> Iterator[tuple[np.ndarray, Float[np.ndarray, "batch dim"], list[BadImage]]]:
    size, rule = model.config.image_size, model.config.preprocessing
    waiting = None
    batches = image_batches(source, lambda image: crop_uint8(image, size, rule), batch_size, skip_bad=skip_bad)
    for indices, pixels, bad in batches:
        padded = np.pad(pixels, [(0, batch_size - len(pixels)), (0, 0), (0, 0), (0, 0)])
        encoded = encode(padded)
        if waiting is not None:
            yield _fetched(*waiting)
        waiting = indices, encoded, bad
    if waiting is not None:
        yield _fetched(*waiting)


def encode_pixels(
    model: CLIP, params: Params, pixels: UInt8[np.ndarray, "batch height width 3"]
) -> Float[Array, "batch dim"]:
    """Normalise 8-bit pixels on the device, where a quarter of the bytes need to be sent, and embed them."""
    return _encode_pixels(model, params, pixels)


@jax.jit(static_argnums=0)
def _encode_pixels(model: CLIP, params: Params, pixels):
    return model.encode_image(params, normalised(model, pixels))


@jax.jit(static_argnums=0)
def normalised(
    model: CLIP, pixels: UInt8[Array | np.ndarray, "batch height width 3"]
) -> Float[Array, "batch height width 3"]:
    """Scale 8-bit pixels to [0, 1] and standardise each colour as the model was trained."""
    mean, std = jnp.asarray(model.config.mean, jnp.float32), jnp.asarray(model.config.std, jnp.float32)
    return (jnp.asarray(pixels, jnp.float32) / 255 - mean) / std


def _collected(stream) -> tuple[np.ndarray, np.ndarray, list[BadImage]]:
    parts, indices, skipped = [], [], []
    for rows, results, bad in stream:
        indices.append(rows)
        parts.append(results)
        skipped += bad
    return np.concatenate(parts), np.concatenate(indices), skipped


def _fetched(indices, encoded, bad):
    return indices, np.asarray(encoded)[: len(indices)], bad


def embed_texts(
    model: CLIP,
    params: Params,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    batch_size: int = 256,
    progress: Progress = silent,
) -> Float[np.ndarray, "texts dim"]:
    """Embed texts (projected, not normalised).

    Equal texts are encoded once, and texts of like length together, at the length they need.

    Raises:
      ConfigError: the tokenizer is not this model's.
      DataError: no texts, or something that is not a string.
    """
    texts = [texts] if isinstance(texts, str) else texts
    distinct = list(dict.fromkeys(texts))
    tokens = tokens_for(model, tokenizer, distinct)
    lengths = text_lengths(tokens)
    order = np.argsort(lengths, kind="stable")
    # few texts make a small batch, in powers of two: few sizes, few programs to compile
    batch_size = min(batch_size, 1 << (len(distinct) - 1).bit_length())
    parts = []
    starts = range(0, len(order), batch_size)
    for start in progress(starts, total=len(order), label="encoding texts", unit="texts", step=batch_size):
        rows = order[start : start + batch_size]
        length = trimmed_length(int(lengths[rows[-1]]), tokens.shape[1])
        padded = tokens[np.pad(rows, (0, batch_size - len(rows)), mode="edge"), :length]
        parts.append(np.asarray(model.encode_text(params, padded))[: len(rows)])
    place = dict(zip([distinct[i] for i in order], range(len(order))))
    return np.concatenate(parts)[[place[text] for text in texts]]


def tokens_for(model: CLIP, tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """Tokenize to the model's context length.

    Raises:
      ConfigError: the tokenizer has more tokens than the model has embeddings.
    """
    text = model.config.text
    if text is None:
        raise ConfigError("this checkpoint has no text tower; pass one that has")
    if tokenizer.vocab_size > text.vocab_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model {text.vocab_size}; "
            "put the model's own tokenizer files beside its weights"
        )
    return tokenizer(texts, text.context_length)
