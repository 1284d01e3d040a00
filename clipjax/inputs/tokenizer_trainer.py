"""Learn a byte-pair vocabulary of CLIP's kind from texts, for models that need only a small one.

`tokenizer_writer` puts it into files.
"""

import json
from collections.abc import Iterable

from clipjax.errors import ConfigError, DataError
from clipjax.inputs.bpe import END_OF_WORD, END_TOKEN, START_TOKEN, BytePairs, clean, published_byte_pairs
from clipjax.inputs.tokenizer import Tokenizer

_BYTES = 256
_SMALLEST = 2 * _BYTES + 2  # every byte, inside a word and at its end; start and end of a text
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # as `BytePairs` splits a text


def train_tokenizer(texts: Iterable[str], vocab_size: int, context_length: int) -> Tokenizer:
    """Learn a tokenizer of at most `vocab_size` tokens; the last two ids are the start and the end token.

    Equal texts give equal vocabularies. There are fewer tokens when every word of the texts is one already.

    Raises:
      ConfigError: `vocab_size` leaves no room for the bytes and the two special tokens.
      DataError: something that is not a string, a text that cannot be cleaned, or no word in them all.
    """
    if vocab_size < _SMALLEST:
        raise ConfigError(f"a vocabulary of {vocab_size} tokens cannot hold all bytes; ask for at least {_SMALLEST}")
    inside = list(published_byte_pairs().tables()[0])[:_BYTES]
    alphabet = [*inside, *(character + END_OF_WORD for character in inside)]
    merges = _learn_merges(texts, alphabet, vocab_size - _SMALLEST)
    tokens = [*alphabet, *(left + right for left, right in merges), START_TOKEN, END_TOKEN]
    pairs = BytePairs({token: index for index, token in enumerate(tokens)}, merges)
    return Tokenizer(pairs, pairs.start_id, pairs.end_id, context_length)


def _learn_merges(texts: Iterable[str], alphabet: list[str], most: int) -> list[tuple[str, str]]:
    from tokenizers import Regex
    from tokenizers import Tokenizer as LibraryTokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
    from tokenizers.trainers import BpeTrainer

    library = LibraryTokenizer(BPE(end_of_word_suffix=END_OF_WORD))
    library.pre_tokenizer = Sequence(
        [Split(Regex(_WORDS), behavior="removed", invert=True), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = BpeTrainer(
        vocab_size=len(alphabet) + most,
        min_frequency=2,
        show_progress=False,
        # pairs of equal count are merged in the order of their ids: left to itself, the library gives
        # ids to last bytes in the order of a hash table, another one in every process
        special_tokens=alphabet,
        end_of_word_suffix=END_OF_WORD,
    )
    library.train_from_iterator(_cleaned(texts), trainer)
    merges = [tuple(pair) for pair in json.loads(library.to_str())["model"]["merges"]]
    if most and not merges:
        raise DataError("the texts hold no word to learn a vocabulary from; pass texts that repeat words")
    return merges


def _cleaned(texts: Iterable[str]) -> Iterable[str]:
    if isinstance(texts, str):
        raise DataError("expected many texts, got one string; pass a list of strings")
    for text in texts:
        if not isinstance(text, str):
            raise DataError(f"expected a text, got {type(text).__name__}; pass strings")
        yield clean(text)
