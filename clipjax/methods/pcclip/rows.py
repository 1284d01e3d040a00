"""From a store's texts to rows to train on: two positions of images and the tokens of a sentence.

Sentences are tokenized once, into an array of two bytes a token; differences of embeddings are never stored.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from clipjax.classify.embed import tokens_for
from clipjax.classify.problem import Problem
from clipjax.data.image_names import ImageNames
from clipjax.errors import DataError
from clipjax.methods.text_pools import cut
from clipjax.texts.collected import Texts
from clipjax.texts.orientation import swapped
from clipjax.texts.pairs import SMALLEST_DIFFERENCE, choose_images
from clipjax.texts.record import Kind

Source = Literal["differences", "captions", "rewrites"]

_KINDS: dict[Source, Kind] = {"differences": "difference", "captions": "caption", "rewrites": "rewrite"}

SENTENCES_AT_A_TIME = 16_384
"""So many are tokenized at once, with four bytes a token."""

DIFFERENCES_AT_A_TIME = 65_536
"""So many are in memory at once."""


class Sentences(NamedTuple):
    """What was written about pairs of images, first and second by position; a caption's image is both."""

    first: Int[np.ndarray, " sentences"]
    second: Int[np.ndarray, " sentences"]
    texts: list[str]

    def select(self, kept: Bool[np.ndarray, " sentences"] | Int[np.ndarray, " kept"]) -> "Sentences":
        """Keep some, by a mask or by position."""
        places = np.flatnonzero(kept) if kept.dtype == bool else kept
        return Sentences(self.first[places], self.second[places], [self.texts[place] for place in places])

    @property
    def pairs(self) -> Int[np.ndarray, "sentences 2"]:
        """The positions as a matrix."""
        return np.stack([self.first, self.second], axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """What a step draws from: positions of images, and token rows."""

    first: Int[np.ndarray, " rows"]
    second: Int[np.ndarray, " rows"]
    tokens: Shaped[np.ndarray, "rows length"]

    def __len__(self) -> int:
        return len(self.first)


def sentences_of(texts: Texts | None, ids: Sequence[str], source: Source) -> Sentences:
    """Find the texts of one kind about these images; those about other images are left out.

    Raises:
      DataError: there are none.
    """
    if texts is None:
        raise DataError(
            "pcclip learns from sentences about pairs of images; have them written with `clipjax texts generate` "
            "(configs/texts.py:differences) and pass --texts STORE"
        )
    kind = _KINDS[source]
    written = texts.pairs() if kind == "difference" else texts.of_kind.get(kind, {})
    place, found = ImageNames(ids).place, []
    for subjects, own in written.items():
        places = [place(name) for name in subjects]
        if None not in places:
            found += [(places[0], places[-1], text) for text in own]
    if not found:
        raise DataError(
            f"the texts hold no {kind} of these {len(ids):,} images; write some with `clipjax texts generate`, or "
            "pass the images that they were written about"
        )
    first, second, sentences = zip(*found)
    return Sentences(np.array(first, np.int32), np.array(second, np.int32), list(sentences))


def of_chosen_images(found: Sentences, count: int | None, *, seed: int) -> tuple[Sentences, Int[np.ndarray, " images"]]:
    """Keep what is written about `count` images, drawn among those that something is written about.

    Returns:
      The sentences, whose positions now count the chosen images, and the positions these had before.

    Raises:
      DataError: nothing is written about the chosen images alone.
    """
    occurring = np.unique(found.pairs)
    chosen = occurring[choose_images(len(occurring), count, seed=seed)]
    kept = found.select(np.isin(found.first, chosen) & np.isin(found.second, chosen))
    if not kept.texts:
        raise DataError(
            f"of {len(found.texts):,} sentences about {len(occurring):,} images, none is about two of the "
            f"{len(chosen):,} that were drawn; raise images, or write about the pairs of fewer images (pair_images of "
            "`clipjax texts generate`)"
        )
    first, second = (np.searchsorted(chosen, places).astype(np.int32) for places in (kept.first, kept.second))
    return Sentences(first, second, kept.texts), chosen


def have_difference(
    embeddings: Float[np.ndarray, "images dim"], pairs: Int[np.ndarray, "pairs 2"]
) -> Bool[np.ndarray, " pairs"]:
    """Say of which pairs the unit embeddings differ; a copy of an image has no difference to it."""
    wide = np.asarray(embeddings, np.float64)
    rows = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    pieces = (pairs[start : start + DIFFERENCES_AT_A_TIME] for start in range(0, len(pairs), DIFFERENCES_AT_A_TIME))
    lengths = [np.linalg.norm(rows[piece[:, 0]] - rows[piece[:, 1]], axis=1) for piece in pieces]
    return np.concatenate([np.zeros(0), *lengths]) >= SMALLEST_DIFFERENCE


def drawn(found: Sentences, most: int | None, *, seed: int) -> Sentences:
    """Keep `most` of them, drawn evenly; all where there are no more."""
    if most is None or most >= len(found.texts):
        return found
    return found.select(np.sort(np.random.default_rng((seed, 2)).permutation(len(found.texts))[:most]))


def with_swapped(found: Sentences) -> Sentences:
    """Add every pair in the other order, where its sentence can be told the other way round."""
    others = [swapped(text) for text in found.texts]
    kept = np.flatnonzero([other is not None for other in others])
    return Sentences(
        np.concatenate([found.first, found.second[kept]]),
        np.concatenate([found.second, found.first[kept]]),
        found.texts + [other for other in others if other is not None],
    )


def tokenized(problem: Problem, found: Sentences) -> Rows:
    """Tokenize sentences to the length that the longest needs."""
    return Rows(found.first, found.second, compact_tokens(problem, found.texts))


def compact_tokens(problem: Problem, texts: Sequence[str]) -> Shaped[np.ndarray, "texts length"]:
    """Tokenize texts into rows of the length that the longest needs, of two bytes a token where ids allow it."""
    pieces = list(_pieces(problem, texts))
    # what follows the end of a text does not matter
    length = max(piece.shape[1] for piece in pieces)
    return np.concatenate([np.pad(piece, [(0, 0), (0, length - piece.shape[1])]) for piece in pieces])


def _pieces(problem: Problem, texts: Sequence[str]) -> Iterator[Shaped[np.ndarray, "texts length"]]:
    config = problem.model.config.text
    for start in range(0, len(texts), SENTENCES_AT_A_TIME):
        tokens = tokens_for(problem.model, problem.tokenizer, texts[start : start + SENTENCES_AT_A_TIME])
        yield cut(config, tokens).astype(np.uint16 if problem.tokenizer.vocab_size <= 1 << 16 else np.int32)
