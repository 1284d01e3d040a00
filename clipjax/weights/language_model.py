"""Language models from and to directories in transformers' GPT-2 layout."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from clipjax.errors import CheckpointError
from clipjax.models.causal_lm import CausalLM
from clipjax.models.shapes import Params
from clipjax.outputs import new_directory
from clipjax.weights import gpt2
from clipjax.weights.assemble import Disassembled, all_finite, assemble, flatten
from clipjax.weights.checkpoint import tensors_in
from clipjax.weights.hub import resolve
from clipjax.weights.load import check_dtype
from clipjax.weights.safetensors_file import write_safetensors


def load_language_model(path: str | os.PathLike, *, dtype: str | None = "float32") -> tuple[CausalLM, Params]:
    """Load a GPT-2 directory, without torch; its tokenizer comes from `clipjax.load_tokenizer`.

    Names such as "openai-community/gpt2" that are no path here are fetched from the Hugging Face hub.

    Args:
      dtype: type of the params; None keeps what the file has.

    Raises:
      CheckpointError: nothing is there, or the weights are damaged or no GPT-2's; the message names the file.
      ConfigError: the configuration contradicts itself or the weights, or asks for what clipjax does not have.
    """
    check_dtype(dtype)
    folder = resolve(path)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such directory; pass one with config.json and weights of a GPT-2")
    config = gpt2.read_config(folder)
    file, tensors = tensors_in(folder)
    rows, tensors = gpt2.weights_of(file, config, tensors)
    model = CausalLM(config)
    return model, assemble(file, model, rows, tensors, dtype)


def save_language_model(
    path: str | os.PathLike,
    model: CausalLM,
    params: Params,
    *,
    overwrite: bool = False,
    extra: Callable[[Path], None] | None = None,
) -> None:
    """Write a directory that `GPT2LMHeadModel.from_pretrained` and `load_language_model` read, whole or not at all.

    Args:
      extra: called with the directory before it gets its final name, to add files to it, such as the tokenizer's.

    Raises:
      CheckpointError: the params hold NaN or infinity.
      ConfigError: the params are not this model's.
      OutputError: `path` exists and `overwrite` is false, or cannot be written.
    """
    model.check_params(params)
    for name, leaf in flatten(params).items():
        if not all_finite(np.asarray(leaf)):
            raise CheckpointError(f"{path}: not written, since {name} holds NaN or infinite numbers; save sound params")
    with new_directory(Path(path), overwrite=overwrite) as folder:
        rows = gpt2.write_config(folder, model.config, str(params["token_embedding"].dtype))
        write_safetensors(folder / "model.safetensors", Disassembled(rows, params), {"format": "pt"})
        if extra is not None:
            extra(folder)
