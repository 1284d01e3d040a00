"""Put a tokenizer beside the weights of an exported checkpoint, in the files that transformers reads."""

import json
import shutil
from pathlib import Path

from clipjax.errors import ClipjaxError
from clipjax.inputs.bpe import BytePairs
from clipjax.inputs.tokenizer import Tokenizer, load_tokenizer

FILES = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def write_tokenizer(folder: Path, source: Path, tokenizer: Tokenizer) -> None:
    """Write the files of `tokenizer`, which belongs to the checkpoint at `source`.

    Files beside `source` are copied as they are, provided that they are this tokenizer's: a lone
    weight file may lie among the files of something else.
    """
    origin = source if source.is_dir() else source.parent
    if _holds(origin, tokenizer):
        for name in FILES:
            if (origin / name).is_file():
                shutil.copyfile(origin / name, folder / name)
    elif isinstance(tokenizer.encoding, BytePairs):
        _write(folder, tokenizer.encoding, tokenizer.context_length)


def _holds(folder: Path, tokenizer: Tokenizer) -> bool:
    if not any((folder / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        return False
    try:
        found = load_tokenizer(folder)
    except ClipjaxError:
        return False
    ids = lambda t: (t.encoding.fingerprint, t.start_id, t.end_id)
    return ids(found) == ids(tokenizer)


def _write(folder: Path, pairs: BytePairs, context_length: int) -> None:
    vocabulary, merges = pairs.tables()
    start, end = (next(t for t, i in vocabulary.items() if i == index) for index in (pairs.start_id, pairs.end_id))
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": context_length,
        "do_lower_case": True,
        **special,
    }
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n", encoding="utf-8")
