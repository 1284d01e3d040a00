"""CLIP's byte-level byte-pair encoding: clean a text, split it into words, merge their bytes.

Start and end tokens, truncation and padding live in `tokenizer`, and so do all files but the
published merge table that ships with the package.
"""

import gzip
import hashlib
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, cached_property
from heapq import heapify, heappop, heappush
from importlib import resources
from itertools import pairwise

import ftfy
import regex

from clipjax.errors import DataError

START_TOKEN, END_TOKEN = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
PUBLISHED_MERGES = 49_152 - 256 - 2  # the table has 262,144 lines; the models know these first ones

_CACHED_WORDS = 1 << 16
_CACHED_WORD_LENGTH = 32  # longer "words" are noise that does not come back
_GONE = -1


class BytePairs:
    """A byte-pair vocabulary with CLIP's rules: lower case, '</w>' on a word's last token.

    A special token's name inside a text becomes that token, as in OpenAI's tokenizer.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        start: str = START_TOKEN,
        end: str = END_TOKEN,
    ):
        """Build the tables from a map of tokens to ids and from the merges, best first.

        Raises:
          ValueError: an id is not a distinct non-negative integer, or a byte's token, a part or
            the result of a merge, or one of the two special tokens is not in the vocabulary.
        """
        _check_vocabulary(vocabulary, (start, end))
        self.start_id, self.end_id = vocabulary[start], vocabulary[end]
        self.vocab_size = max(vocabulary.values()) + 1
        self._tokens = {index: token for token, index in vocabulary.items()}
        self._inside = [vocabulary[_CHARACTER[byte]] for byte in range(256)]
        self._last = [vocabulary[_CHARACTER[byte] + END_OF_WORD] for byte in range(256)]
        try:
            self._merges = [((vocabulary[left], vocabulary[right]), vocabulary[left + right]) for left, right in merges]
        except KeyError as error:
            raise ValueError(f"the merges need token {error}, which is not in the vocabulary") from None
        self._ranks = {pair: rank for rank, (pair, _) in enumerate(self._merges)}
        self._specials = {start.lower(): self.start_id, end.lower(): self.end_id}
        self._words: dict[str, list[int]] = {}
        self._split = regex.compile(
            "|".join(regex.escape(special) for special in self._specials)
            + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
            regex.IGNORECASE,
        )

    def encode(self, text: str) -> list[int]:
        """Turn a text into token ids, without start and end.

        Raises:
          DataError: the text cannot be cleaned (see `clean`).
        """
        ids: list[int] = []
        for word in self._split.findall(clean(text)):
            ids += self._word_ids(word)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Turn token ids into text: lower case, one space after each word, special tokens by name.

        Raises:
          DataError: an id is not in the vocabulary.
        """
        text = bytearray()
        for index in map(int, ids):
            if index not in self._tokens:
                raise DataError(f"token id {index} is not in the vocabulary of {self.vocab_size} tokens")
            stem = self._tokens[index].removesuffix(END_OF_WORD)
            text += b"".join(_BYTE.get(character) or character.encode("utf-8", "replace") for character in stem)
            if stem != self._tokens[index]:
                text += b" "
        return text.decode("utf-8", errors="replace")

    def tables(self) -> tuple[dict[str, int], list[tuple[str, str]]]:
        """Give the vocabulary and the merges this was built from, for writing them to files."""
        vocabulary = {token: index for index, token in sorted(self._tokens.items())}
        merges = [(self._tokens[left], self._tokens[right]) for (left, right), _ in self._merges]
        return vocabulary, merges

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the vocabulary and the merges: equal for equal ids, the same in every process."""
        content = ["clip-bpe", self.start_id, self.end_id, sorted(self._tokens.items()), self._merges]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _word_ids(self, word: str) -> list[int]:
        ids = self._words.get(word)
        if ids is None:
            if word in self._specials:
                return [self._specials[word]]
            *inside, last = word.encode()
            ids = self._merged([*(self._inside[byte] for byte in inside), self._last[last]])
            if len(word) <= _CACHED_WORD_LENGTH:
                if len(self._words) >= _CACHED_WORDS:
                    self._words.clear()
                self._words[word] = ids
        return ids

    def _merged(self, tokens: list[int]) -> list[int]:
        """Merge the best pair everywhere, from left to right, until no pair is in the table.

        The tokens form a linked list and the candidate pairs a heap: n log n where scanning the
        word after each merge would be quadratic, and a text of one long word is all it takes.
        """
        size = len(tokens)
        after, before = list(range(1, size + 1)), list(range(-1, size - 1))
        # A candidate is one integer, its rank times `size` plus its place: cheap to compare, and
        # places of equal rank come out from left to right.
        candidates = [
            self._ranks[pair] * size + place for place, pair in enumerate(pairwise(tokens)) if pair in self._ranks
        ]
        heapify(candidates)
        while candidates:
            rank = candidates[0] // size
            # All places of one rank are taken before any pair that they create is looked at: such a
            # pair may have a better rank, and still has to wait for its turn.
            places = []
            while candidates and candidates[0] // size == rank:
                places.append(heappop(candidates) % size)
            pair, product = self._merges[rank]
            for left in places:
                right = after[left]
                if right == size or (tokens[left], tokens[right]) != pair:
                    continue  # an earlier merge took one of the two
                tokens[left], tokens[right] = product, _GONE
                after[left] = after[right]
                if after[left] < size:
                    before[after[left]] = left
                for place in (before[left], left):
                    if place >= 0 and after[place] < size:
                        new_rank = self._ranks.get((tokens[place], tokens[after[place]]))
                        if new_rank is not None:
                            heappush(candidates, new_rank * size + place)
        return [token for token in tokens if token != _GONE]


def clean(text: str) -> str:
    """Repair a text as OpenAI's tokenizer does: mojibake, HTML entities (twice), white space, lower case.

    Raises:
      DataError: the text holds a numeric HTML entity of thousands of digits.
    """
    # Without an entity and outside Unicode there is nothing to repair, and ftfy takes longer than the rest.
    if "&" in text or not (text.isascii() and text.isprintable()):
        try:
            text = html.unescape(html.unescape(ftfy.fix_text(text)))
        except ValueError as error:
            raise DataError(f"text {text[:40]!r}... has a numeric HTML entity of absurd length; remove it") from error
    return regex.sub(r"\s+", " ", text.strip()).strip().lower()


@cache
def published_byte_pairs() -> BytePairs:
    """Read OpenAI's vocabulary of 49,408 tokens from the merge table in the package."""
    table = (resources.files("clipjax") / "assets" / "bpe_simple_vocab_16e6.txt.gz").read_bytes()
    lines = gzip.decompress(table).decode().split("\n")[1 : PUBLISHED_MERGES + 1]
    merges = [(left, right) for left, right in map(str.split, lines)]
    bytes_inside = list(_BYTE)
    tokens = [
        *bytes_inside,
        *(character + END_OF_WORD for character in bytes_inside),
        *(left + right for left, right in merges),
        START_TOKEN,
        END_TOKEN,
    ]
    return BytePairs({token: index for index, token in enumerate(tokens)}, merges)


def has_byte_tokens(vocabulary: Mapping[str, int]) -> bool:
    """Tell whether a vocabulary holds every byte, inside a word and at its end, as CLIP's does."""
    return all(character in vocabulary and character + END_OF_WORD in vocabulary for character in _CHARACTER.values())


def _check_vocabulary(vocabulary: Mapping[str, int], specials: Sequence[str]) -> None:
    for token, index in vocabulary.items():
        if type(index) is not int or not 0 <= index < 2**31:
            raise ValueError(f"the id of token {token!r} is {index!r}, not a non-negative 32-bit integer")
    if len(set(vocabulary.values())) < len(vocabulary):
        raise ValueError("two tokens of the vocabulary share an id")
    if not has_byte_tokens(vocabulary):
        raise ValueError(
            f"the vocabulary is not CLIP's kind: not every byte has a token with and without {END_OF_WORD}"
        )
    for special in specials:
        if special not in vocabulary:
            raise ValueError(f"the special token {special!r} is not in the vocabulary")


def _byte_characters() -> dict[int, str]:
    """Give each byte a visible character: itself in Latin-1 where it has one, else one from U+0100 on.

    The order is the published vocabulary's: visible bytes first.
    """
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


_CHARACTER = _byte_characters()
_BYTE = {character: bytes([byte]) for byte, character in _CHARACTER.items()}
