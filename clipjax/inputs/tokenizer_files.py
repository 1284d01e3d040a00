"""Reading the files that say how a checkpoint's texts become token ids.

Vocabularies of CLIP's kind become `BytePairs`, every other one runs in the `tokenizers` library.
Which of them a checkpoint gets, and what surrounds the tokens, is decided in `tokenizer`.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipjax.errors import ConfigError, DataError
from clipjax.inputs.bpe import END_OF_WORD, END_TOKEN, START_TOKEN, BytePairs, has_byte_tokens

_LARGEST_VOCABULARY = 1 << 30
_LONGEST_CONTEXT = 1 << 20  # tokenizer_config.json says 1e30 where it means "unlimited"


class LibraryEncoding:
    """A vocabulary of any kind, run by the `tokenizers` library from its tokenizer.json."""

    def __init__(self, file: Path):
        """Read the file.

        Raises:
          ConfigError: the library cannot read it.
        """
        from tokenizers import Tokenizer as LibraryTokenizer

        content = file.read_bytes()
        try:
            self._library = LibraryTokenizer.from_buffer(content)
        except Exception as error:  # the library raises nothing more specific
            raise ConfigError(f"{file}: the tokenizers library cannot read it ({error}); save it anew") from error
        self._library.no_truncation()
        self._library.no_padding()
        self.vocab_size = max(self._library.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.fingerprint = hashlib.sha256(content).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Turn a text into token ids, without start and end."""
        whole = text.encode("utf-8", "replace").decode()  # half a surrogate pair has no UTF-8
        return self._library.encode(whole, add_special_tokens=False).ids

    def decode(self, ids: Iterable[int]) -> str:
        """Turn token ids into text, special tokens by their names.

        Raises:
          DataError: an id is not in the vocabulary.
        """
        ids = [int(index) for index in ids]
        for index in ids:
            if not 0 <= index < self.vocab_size:
                raise DataError(f"token id {index} is not in the vocabulary of {self.vocab_size} tokens")
        return self._library.decode(ids, skip_special_tokens=False)

    def id_of(self, token: str) -> int | None:
        """Look up a token by its name."""
        return self._library.token_to_id(token)


@dataclass(frozen=True)
class TextFacts:
    """What the files beside the weights say about texts; None where they say nothing.

    A special token is known by its name, or by its id where only the model's configuration has it.
    """

    vocab_size: int | None
    context_length: int | None
    start: str | int | None
    end: str | int | None
    pad: str | int | None


def read_text_facts(folder: Path) -> TextFacts:
    """Read the model's configuration, in any of three layouts, and the small tokenizer files.

    The model's own configuration has the last word on the context length.

    Raises:
      ConfigError: one of them is not a JSON object, or a number in it makes no sense.
    """
    model = _section(folder / "config.json", "text_config")
    openclip = _section(folder / "open_clip_config.json", "model_cfg", "text_cfg")
    native = _section(folder / "clipjax.json", "config", "text")
    tokenizer = _section(folder / "tokenizer_config.json")
    names = _section(folder / "special_tokens_map.json")

    def special(model_key: str, *keys: str) -> str | int | None:
        for key in keys:
            for _, content in (tokenizer, names):
                token = content.get(key)
                token = token.get("content") if isinstance(token, dict) else token
                if isinstance(token, str):
                    return token
        return _integer(0, _LARGEST_VOCABULARY, (model, model_key))

    context_length = _integer(
        3,
        _LONGEST_CONTEXT,
        (model, "max_position_embeddings"),
        (model, "n_positions"),
        (openclip, "context_length"),
        (native, "context_length"),
    )
    limit = tokenizer[1].get("model_max_length")
    if context_length is None and type(limit) is int and 3 <= limit <= _LONGEST_CONTEXT:
        context_length = limit
    return TextFacts(
        vocab_size=_integer(1, _LARGEST_VOCABULARY, *((source, "vocab_size") for source in (model, openclip, native))),
        context_length=context_length,
        start=special("bos_token_id", "bos_token", "cls_token"),
        end=special("eos_token_id", "eos_token", "sep_token"),
        pad=special("pad_token_id", "pad_token"),
    )


def read_encoding(folder: Path, facts: TextFacts) -> BytePairs | LibraryEncoding | None:
    """Read the vocabulary in a checkpoint directory: vocab.json with merges.txt, or tokenizer.json.

    Raises:
      ConfigError: a file is malformed, or one of a pair is missing.
    """
    vocabulary_file, merges_file, library_file = (
        folder / name for name in ("vocab.json", "merges.txt", "tokenizer.json")
    )
    if vocabulary_file.exists() and merges_file.exists():
        vocabulary = _read_object(vocabulary_file)
        if has_byte_tokens(vocabulary) or not library_file.exists():
            lines = _read_text(merges_file).split("\n")
            return _byte_pairs(vocabulary_file, vocabulary, _merges(merges_file, lines), facts)
    if library_file.exists():
        content = _read_object(library_file)
        vocabulary = _clip_vocabulary(content, facts)
        if vocabulary is None:
            return LibraryEncoding(library_file)
        return _byte_pairs(library_file, vocabulary, _merges(library_file, content["model"].get("merges")), facts)
    for file, other in ((vocabulary_file, merges_file), (merges_file, vocabulary_file)):
        if file.exists():
            raise ConfigError(f"{file}: {other.name} is missing beside it; copy it from the original checkpoint")
    return None


def _clip_vocabulary(content: dict[str, Any], facts: TextFacts) -> dict[str, int] | None:
    """Take the vocabulary out of a tokenizer.json whose rules are CLIP's; None when they are others."""
    model = content.get("model")
    if not isinstance(model, dict) or (model.get("type"), model.get("end_of_word_suffix")) != (
        "BPE",
        END_OF_WORD,
    ):
        return None
    vocabulary = model.get("vocab")
    lower_case = '"Lowercase"' in json.dumps(content.get("normalizer"))
    if not lower_case or not isinstance(vocabulary, dict) or not has_byte_tokens(vocabulary):
        return None
    try:
        added = {token["content"]: token["id"] for token in content.get("added_tokens") or ()}
    except (KeyError, TypeError):
        return None
    specials = _specials(facts).values()
    if not added.keys() <= vocabulary.keys() | set(specials):
        return None  # tokens of the user's own, which only the library splits off
    return vocabulary | {token: added[token] for token in specials if token in added}


def _byte_pairs(file: Path, vocabulary: dict[str, int], merges: list[tuple[str, str]], facts: TextFacts) -> BytePairs:
    try:
        return BytePairs(vocabulary, merges, **_specials(facts))
    except ValueError as error:
        raise ConfigError(f"{file}: {error}; use the tokenizer files that came with the model") from error


def _specials(facts: TextFacts) -> dict[str, str]:
    return {
        "start": facts.start if isinstance(facts.start, str) else START_TOKEN,
        "end": facts.end if isinstance(facts.end, str) else END_TOKEN,
    }


def _merges(file: Path, lines: Any) -> list[tuple[str, str]]:
    """Read merges, lines "left right" under an optional header or pairs."""
    if not isinstance(lines, list):
        raise ConfigError(f"{file}: it has no list of merges; save the tokenizer anew")
    merges = []
    for number, line in enumerate(lines):
        pair = line.split() if isinstance(line, str) else line
        if pair == [] or (number == 0 and isinstance(line, str) and "#version" in line):
            continue
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise ConfigError(f"{file}: the merge {str(line)[:60]!r} is not a pair; save the tokenizer anew")
        merges.append((pair[0], pair[1]))
    return merges


def _section(file: Path, *sections: str) -> tuple[Path, dict[str, Any]]:
    """Read a JSON file down to the innermost of the named sections that are there; empty without the file."""
    content = _read_object(file) if file.exists() else {}
    for section in sections:
        content = content[section] if isinstance(content.get(section), dict) else content
    return file, content


def _integer(smallest: int, largest: int, *places: tuple[tuple[Path, dict[str, Any]], str]) -> int | None:
    """Take the first of some keys that is there, and insist on a sensible number."""
    for (file, content), key in places:
        value = content.get(key)
        if value is None:
            continue
        if type(value) is not int or not smallest <= value <= largest:
            raise ConfigError(f"{file}: {key} is {value!r}, not an integer between {smallest} and {largest}")
        return value
    return None


def _read_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read_text(file))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: not JSON ({error}); fetch the file again") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: a JSON {type(content).__name__} instead of an object; fetch the file again")
    return content


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read as UTF-8 text ({error}); fetch the file again") from error
