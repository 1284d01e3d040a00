"""Captions as token rows of one length, and the draw of one of an image's captions.

Tokenized once before training: the length stays the same for a whole run, so that the training step
is compiled once.
"""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from clipjax.errors import DataError
from clipjax.inputs.tokenizer import Tokenizer
from clipjax.inputs.trim import text_lengths, trimmed_length


@dataclass(frozen=True, eq=False)
class CaptionTokens:
    """The captions of every image of a source.

    Images share groups of captions: those of one class the texts of their class, and where each
    image has its own captions each is a group. Group g owns the rows `starts[g]` to `starts[g + 1]`.
    """

    tokens: Int[np.ndarray, "captions length"]
    starts: Int[np.ndarray, " groups_and_1"]
    group_of: Int[np.ndarray, " images"]

    def __len__(self) -> int:
        return len(self.group_of)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of tokens and assignment."""
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.tokens, self.starts, self.group_of):
            digest.update(f"{array.shape}".encode())
            digest.update(np.ascontiguousarray(array, "<i8").tobytes())
        return digest.hexdigest()

    def draw(self, index: int, rng: np.random.Generator) -> Int[np.ndarray, " length"]:
        """Choose one caption of an image, all equally likely."""
        group = self.group_of[index]
        first, end = self.starts[group], self.starts[group + 1]
        return self.tokens[rng.integers(first, end) if end - first > 1 else first]


def tokenize_captions(
    captions: Sequence[Sequence[str]],
    tokenizer: Tokenizer,
    *,
    group_of: Int[np.ndarray, " images"] | None = None,
    length: int | None = None,
) -> CaptionTokens:
    """Tokenize the captions of all images, or of all groups that images belong to.

    `group_of` says which entry of `captions` an image takes its texts from, its label where they are
    class texts; without it there is one entry per image. Captions are cut at `length` tokens and
    keep their end token; without it, the length is the least that cuts none within the context.

    Raises:
      DataError: an entry without captions, or an image whose group does not exist.
    """
    counts = np.array([len(entry) for entry in captions], np.int64)
    groups = np.arange(len(captions)) if group_of is None else np.asarray(group_of, np.int64)
    if groups.size and not 0 <= groups.min() <= groups.max() < len(captions):
        wrong = int(np.flatnonzero((groups < 0) | (groups >= len(captions)))[0])
        raise DataError(
            f"image {wrong} belongs to group {groups[wrong]}, but captions are given for 0 to {len(captions) - 1}; "
            "leave the image out or add captions"
        )
    empty = np.flatnonzero(counts == 0)
    if empty.size:
        what = "image" if group_of is None else "group"
        raise DataError(f"{what} {empty[0]} has no caption; give it one or leave it out")
    tokens = tokenizer([text for entry in captions for text in entry], length)
    if length is None:
        tokens = tokens[:, : trimmed_length(int(text_lengths(tokens).max()), tokens.shape[1])]
    return CaptionTokens(np.ascontiguousarray(tokens), np.concatenate([[0], np.cumsum(counts)]), groups)
