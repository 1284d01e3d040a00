"""PC-CLIP from a problem to a classifier (Sam et al., arXiv 2409.09721)."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from clipjax.classify.classifier import Classifier
from clipjax.classify.problem import Problem
from clipjax.data.batches import ArrayBatches
from clipjax.data.samplers import Shuffled
from clipjax.data.views import eval_view
from clipjax.errors import DataError, Diverged
from clipjax.methods.interpolation import interpolated
from clipjax.methods.pcclip.algorithm import difference_accuracy
from clipjax.methods.pcclip.config import Config
from clipjax.methods.pcclip.rows import (
    Rows,
    Sentences,
    compact_tokens,
    drawn,
    have_difference,
    of_chosen_images,
    sentences_of,
    tokenized,
    with_swapped,
)
from clipjax.methods.pcclip.step import DifferenceStep, moved, no_change, text_side
from clipjax.models.clip import Params
from clipjax.parallel.mesh import enough_rows, fitting_batch, make_mesh
from clipjax.texts.pairs import choose_images
from clipjax.training.partition import join, split
from clipjax.training.run import Run
from clipjax.training.stage import Stage
from clipjax.weights.fingerprint import fingerprint


class Prepared(NamedTuple):
    """What training starts from: unit embeddings of the images, rows to train on and rows to choose by."""

    images: Float[np.ndarray, "images dim"]
    rows: Rows
    held_out: Rows | None
    captions: np.ndarray | None
    counts: dict[str, object]


def adapt(problem: Problem, config: Config, run: Run) -> Classifier:
    """Embed the images once, train the text tower on sentences about them, and read the prompts with it.

    Raises:
      DataError: the texts hold nothing to learn from, or not one pair differs.
      ConfigError: a pattern of `trainable` that matches nothing of the text side.
      Diverged: with every setting that was tried.
    """
    prepared = prepare(problem, config, run)
    said, before = prepared.counts, text_side(problem.params)
    tried: list[list[float | None]] = []
    kept: Params | None = None
    best = -math.inf
    for rate, temperature in config.candidates:
        try:
            tuned, said["steps"] = trained(problem, config, run, prepared, rate, temperature)
        except Diverged:
            if kept is None and len(tried) + 1 == len(config.candidates):
                raise  # so did all the others
            tried.append([rate, temperature, None])
            continue
        accuracy = _accuracy(problem, config, run, prepared, tuned)
        if kept is None or accuracy > best:
            kept, best, said["learning_rate"], said["temperature"] = tuned, accuracy, rate, temperature
        tried.append([rate, temperature, accuracy])
    assert kept is not None
    mixed = interpolated(before, kept, config.mix)
    if prepared.held_out is not None:
        said["difference_accuracy_before"] = _accuracy(problem, config, run, prepared, before)
        # of what is returned, which a `mix` makes another than the best of those tried
        said["difference_accuracy"] = _accuracy(problem, config, run, prepared, mixed)
        said["tried"] = tried
    classifier = problem.text_classifier({**problem.params, **mixed}, run.progress)
    return dataclasses.replace(classifier, provenance=said)


def prepare(problem: Problem, config: Config, run: Run) -> Prepared:
    """Choose images and sentences, embed the ones and tokenize the others.

    Raises:
      DataError: nothing is left to learn from.
    """
    written = sentences_of(problem.texts, problem.unlabelled.ids, config.learn_from)
    written, chosen = of_chosen_images(written, config.images, seed=config.seed)
    source = problem.unlabelled.select(chosen)
    model, params, clip = problem.model, problem.params, problem.model.config
    embedded = run.embed(
        source,
        lambda pixels: model.encode_image(params, pixels),
        eval_view(clip.image_size, clip.mean, clip.std, clip.preprocessing),
        weights=f"{problem.identity['weights']} {model!r}",
    )
    images = _unit(embedded, source.ids)
    counts: dict[str, object] = {"images": len(source)}
    if config.learn_from == "differences":
        differ = have_difference(embedded, written.pairs)
        written, counts["without_difference"] = written.select(differ), int((~differ).sum())
        if not differ.any():
            raise DataError("not one pair of images has a difference: all are copies of one; pass other images")
    aside = _held_out(len(source), config)
    known = np.sum(aside[written.pairs], axis=1)
    train, held = written.select(known == 0), written.select(known == 2)
    train = drawn(train, config.pairs, seed=config.seed)
    if config.held_out and not (train.texts and held.texts):
        raise DataError(
            f"{len(train.texts)} sentences are of two images to train on and {len(held.texts)} of two that are held "
            "out; write about more pairs, or set held_out nearer to one half"
        )
    if config.swap:
        before, train = len(train.texts), with_swapped(train)
        counts["swapped"] = len(train.texts) - before
    counts["sentences"] = len(train.texts)
    counts["sentences_cut"] = _cut_off(problem, train)
    captions = None
    if config.caption_weight and problem.texts is not None:
        about = problem.texts.about("caption", source.ids)
        captions = compact_tokens(problem, [texts[0] for texts in about])
    return Prepared(
        images,
        tokenized(problem, train),
        tokenized(problem, held) if config.held_out else None,
        captions,
        counts,
    )


def trained(
    problem: Problem, config: Config, run: Run, prepared: Prepared, rate: float, temperature: float
) -> tuple[Params, int]:
    """Train the text side once; return its params and the number of steps."""
    mesh = make_mesh() if run.mesh is None else run.mesh
    start, rest = split(text_side(problem.params), config.trainable)
    again = enough_rows(np.arange(len(prepared.rows)), mesh)
    batch_size = fitting_batch(config.batch_size, len(again), mesh)
    epoch = max(1, round(len(again) / batch_size))
    numbers = {"temperature": temperature}
    if prepared.captions is not None:
        numbers |= {name: getattr(config, name) for name in ("caption_weight", "caption_temperature")}
    frozen: dict[str, Any] = {name: np.float32(number) for name, number in numbers.items()}
    frozen |= {"images": prepared.images, "params": rest}
    if prepared.captions is not None:
        frozen["captions"] = prepared.captions
    delta = config.storage == "delta"
    if delta:
        frozen["start"] = start
    several = len(config.candidates) > 1
    fitted = run.fit(
        Stage(
            name=f"differences-{rate:g}-{temperature:g}" if several else config.learn_from,
            trainable=no_change(start) if delta else start,
            frozen=frozen,
            objective=DifferenceStep(
                problem.model.replace(dtype=config.dtype or problem.model.dtype),
                mesh,
                config.kind,
                delta,
                config.learn_from == "differences",
                prepared.captions is not None,
            ),
            optimizer=dataclasses.replace(config.optimizer, lr=rate, decay_steps=config.optimizer.decay_steps or epoch),
            steps=max(1, round(config.epochs * len(again) / batch_size)),
            batches=ArrayBatches(
                {
                    "first": prepared.rows.first[again],
                    "second": prepared.rows.second[again],
                    "tokens": prepared.rows.tokens[again],
                },
                Shuffled(len(again), config.seed),
                batch_size,
            ),
            seed=config.seed,
        )
    )
    learned = fitted.learned
    return join(moved(start, learned) if delta else learned, rest), fitted.steps


def encoded(problem: Problem, params: Params, rows: Rows, *, batch_size: int = 256) -> Float[np.ndarray, "rows dim"]:
    """Embed the sentences of rows, in batches of one size."""
    batch_size = min(batch_size, len(rows))
    parts = []
    for start in range(0, len(rows), batch_size):
        tokens = rows.tokens[start : start + batch_size].astype(np.int32)
        padded = np.pad(tokens, [(0, batch_size - len(tokens)), (0, 0)], mode="edge")
        parts.append(np.asarray(problem.model.encode_text(params, padded))[: len(tokens)])
    return np.concatenate(parts)


def _accuracy(problem: Problem, config: Config, run: Run, prepared: Prepared, params: Params) -> float:
    """Measure the difference accuracy on pairs of images that training did not see; 0 where none are held out."""
    rows = prepared.held_out
    if rows is None:
        return 0.0

    def compute():
        texts = encoded(problem, params, rows)
        first, second = (jnp.asarray(prepared.images[places]) for places in (rows.first, rows.second))
        return {"accuracy": difference_accuracy(first, second, jnp.asarray(texts))}

    digest = fingerprint(params)
    depends = (problem.identity, config, digest)
    return float(run.once(f"difference_accuracy-{digest[:16]}", compute, depends=depends)["accuracy"])


def _unit(rows: Float[np.ndarray, "images dim"], ids: Sequence[str]) -> Float[np.ndarray, "images dim"]:
    """Scale embeddings to unit length. One without a direction would count as a copy, or spoil every batch it is in."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    good = (np.isfinite(lengths) & (lengths > 0))[:, 0]
    if not good.all():
        raise DataError(
            f"the embedding of {ids[int(good.argmin())]!r} is zero or not finite; leave the image out, or check the "
            "weights with `clipjax inspect`"
        )
    return (rows / lengths).astype(np.float32)


def _held_out(images: int, config: Config) -> Bool[np.ndarray, " images"]:
    aside = np.zeros(images, bool)
    if config.held_out:
        count = max(2, round(config.held_out * images))
        aside[choose_images(images, count, seed=config.seed + 1)] = True
    return aside


def _cut_off(problem: Problem, sentences: Sentences) -> int:
    text = problem.model.config.text
    return 0 if text is None else int(problem.tokenizer.truncated(sentences.texts, text.context_length).sum())
