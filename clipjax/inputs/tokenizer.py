"""From texts to rows of token ids, with the tokenizer that belongs to a checkpoint.

Vocabularies live in `bpe`, a checkpoint's files in `tokenizer_files`; here is what surrounds the
tokens of a text, and which vocabulary a checkpoint gets.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
from jaxtyping import Bool, Int

from clipjax.errors import CheckpointError, ConfigError, DataError
from clipjax.inputs.bpe import BytePairs, published_byte_pairs
from clipjax.inputs.tokenizer_files import LibraryEncoding, read_encoding, read_text_facts
from clipjax.weights.hub import resolve

CONTEXT_LENGTH = 77


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Turns texts into rows of start token, tokens, end token and padding.

    CLIP's own vocabularies are padded with 0, as OpenAI pads: attention is causal and pooling looks at
    the end token, so what follows it changes nothing. `dataclasses.replace` gives the same tokenizer
    another context length. Tokenizers of equal fingerprint are equal and hash alike.
    """

    encoding: BytePairs | LibraryEncoding = field(repr=False)
    start_id: int
    end_id: int
    context_length: int = CONTEXT_LENGTH
    pad_id: int = 0

    def __post_init__(self):
        _check_context_length(self.context_length)

    def __call__(
        self, texts: str | Sequence[str], context_length: int | None = None
    ) -> Int[np.ndarray, "texts context"]:
        """Tokenize one text or many; a text that is too long is cut and keeps its end token.

        Raises:
          DataError: no texts, something that is not a string, or a context length below 3.
        """
        length = self._length(context_length)
        encoded = [self.encode(text) for text in _text_list(texts)]
        rows = np.full((len(encoded), length), self.pad_id, np.int32)
        for row, ids in zip(rows, encoded):
            ids = [self.start_id, *ids[: length - 2], self.end_id]
            row[: len(ids)] = ids
        return rows

    def truncated(self, texts: str | Sequence[str], context_length: int | None = None) -> Bool[np.ndarray, " texts"]:
        """Tell which texts do not fit into the context, start and end tokens included.

        Raises:
          DataError: as for a call.
        """
        length = self._length(context_length)
        return np.array([len(self.encode(text)) > length - 2 for text in _text_list(texts)])

    def encode(self, text: str) -> list[int]:
        """Turn one text into token ids of any number, without start and end.

        Raises:
          DataError: not a string, or a text that cannot be cleaned.
        """
        if not isinstance(text, str):
            raise DataError(f"expected a text, got {type(text).__name__}; pass a string or a list of strings")
        return self.encoding.encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Turn token ids back into text, special tokens by their names.

        Raises:
          DataError: an id is not in the vocabulary.
        """
        return self.encoding.decode(ids)

    @property
    def vocab_size(self) -> int:
        """The number of rows that a table of token embeddings needs."""
        return self.encoding.vocab_size

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that decides the ids: vocabulary, merges, special tokens, context length."""
        rules = [self.encoding.fingerprint, self.start_id, self.end_id, self.pad_id, self.context_length]
        return hashlib.sha256(json.dumps(rules).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def _length(self, context_length: int | None) -> int:
        if context_length is None:
            return self.context_length
        _check_context_length(context_length)
        return int(context_length)


def tokenize(texts: str | Sequence[str], context_length: int = CONTEXT_LENGTH) -> Int[np.ndarray, "texts context"]:
    """Tokenize with OpenAI's vocabulary: the ids of the published models, zeros after the end token.

    Raises:
      DataError: no texts, something that is not a string, or a context length below 3.
    """
    return openai_tokenizer()(texts, context_length)


@cache
def openai_tokenizer() -> Tokenizer:
    """Give the tokenizer of OpenAI's published models; it is built once."""
    encoding = published_byte_pairs()
    return Tokenizer(encoding, encoding.start_id, encoding.end_id)


def load_tokenizer(path: str | os.PathLike) -> Tokenizer:
    """Find the tokenizer that belongs to a checkpoint directory or file, or to a name on the Hugging Face hub.

    In this order: vocab.json with merges.txt, tokenizer.json, and where there is neither, OpenAI's
    vocabulary. The context length is the one in the model's configuration. Files other than
    .safetensors, .bin and .json stand alone, and weights are not read here: for a .pt file with a
    context other than 77, pass its length.

    Raises:
      CheckpointError: nothing exists at `path`, here or on the hub.
      ConfigError: a file is malformed, or contradicts the model's vocabulary size.
    """
    path = resolve(path, weights=False)
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or directory; pass a checkpoint")
    if path.is_file() and path.suffix not in (".safetensors", ".bin", ".json"):
        return openai_tokenizer()
    folder = path if path.is_dir() else path.parent
    facts = read_text_facts(folder)
    encoding = read_encoding(folder, facts)
    if encoding is None:
        encoding = published_byte_pairs()
        if facts.vocab_size not in (None, encoding.vocab_size):
            raise ConfigError(
                f"{folder}: the model has {facts.vocab_size} tokens, OpenAI's vocabulary "
                f"{encoding.vocab_size}, and no other is there; add the model's tokenizer.json"
            )
    elif facts.vocab_size is not None and encoding.vocab_size > facts.vocab_size:
        raise ConfigError(
            f"{folder}: the tokenizer has {encoding.vocab_size} tokens, the model only "
            f"{facts.vocab_size}; use the tokenizer files that came with the model"
        )
    context_length = facts.context_length or CONTEXT_LENGTH
    if isinstance(encoding, BytePairs):
        return Tokenizer(encoding, encoding.start_id, encoding.end_id, context_length)
    start, end, pad = (
        encoding.id_of(token) if isinstance(token, str) else token for token in (facts.start, facts.end, facts.pad)
    )
    if start is None or end is None or max(start, end, pad or 0) >= encoding.vocab_size:
        raise ConfigError(
            f"{folder}: the vocabulary has no start or no end token; name bos_token and eos_token "
            "in tokenizer_config.json"
        )
    return Tokenizer(encoding, start, end, context_length, pad or 0)


def _text_list(texts: str | Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, bytes) or not isinstance(texts, Iterable):
        raise DataError(f"expected texts, got {type(texts).__name__}; pass a string or a list of strings")
    texts = list(texts)
    if not texts:
        raise DataError("no texts to tokenize; pass at least one")
    return texts


def _check_context_length(length: int) -> None:
    if isinstance(length, bool) or not isinstance(length, int | np.integer) or length < 3:
        raise DataError(f"context length {length!r} leaves no room for a token; pass an integer of at least 3")
