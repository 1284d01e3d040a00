"""`clipjax.save`: a model and its params to any supported format, whole or not at all."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import jax
import numpy as np

from clipjax.errors import CheckpointError
from clipjax.models.clip import CLIP, Params
from clipjax.outputs import new_directory, new_file
from clipjax.weights import huggingface, openclip
from clipjax.weights.assemble import Disassembled, all_finite, flatten
from clipjax.weights.names import openai_names
from clipjax.weights.native import write_native
from clipjax.weights.openai import check_expressible
from clipjax.weights.safetensors_file import write_safetensors
from clipjax.weights.torch_writer import write_torch_archive

Format = Literal["huggingface", "openclip", "openai-state-dict", "orbax"]
FORMATS: tuple[Format, ...] = get_args(Format)


def save(
    path: str | os.PathLike,
    model: CLIP,
    params: Params,
    format: Format = "huggingface",
    *,
    overwrite: bool = False,
    extra: Callable[[Path], None] | None = None,
) -> None:
    """Write a checkpoint.

    "huggingface" (a directory for transformers), "openclip" (a directory for open_clip's
    `local-dir:`), "openai-state-dict" (one file that `torch.load` reads) and "orbax" (a directory
    of clipjax's own). The numbers keep their type.

    Args:
      extra: called with the directory before it gets its final name, to add files to it.

    Raises:
      CheckpointError: the format cannot hold this model, the message says which one can; or the
        params hold NaN or infinity, with which no checkpoint would load again.
      ConfigError: the params are not this model's.
      OutputError: `path` exists and `overwrite` is false, or cannot be written.
    """
    if format not in FORMATS:
        raise CheckpointError(f"no format {format!r}; known are {', '.join(FORMATS)}")
    model.check_params(params)
    for name, leaf in flatten(params).items():
        if not all_finite(np.asarray(leaf)):
            raise CheckpointError(f"{path}: not written, since {name} holds NaN or infinite numbers; save sound params")
    path = Path(path)
    if format == "openai-state-dict":
        check_expressible(model.config)
        with new_file(path, overwrite=overwrite) as file:
            write_torch_archive(file, Disassembled(openai_names(model.config), params))
        return
    with new_directory(path, overwrite=overwrite) as folder:
        _write_directory(folder, model, params, format)
        if extra is not None:
            extra(folder)


def _write_directory(folder: Path, model: CLIP, params: Params, format: Format) -> None:
    if format == "huggingface":
        rows = huggingface.write_config(folder, model.config, _dtype(params))
        write_safetensors(folder / "model.safetensors", Disassembled(rows, params), {"format": "pt"})
    elif format == "openclip":
        openclip.write_config(folder, model.config)
        tensors = Disassembled(openai_names(model.config), params)
        write_safetensors(folder / "open_clip_model.safetensors", tensors, {"format": "pt"})
    else:
        write_native(folder, model.config, params)


def _dtype(params: Params) -> str:
    """The type of most numbers, which transformers wants to know."""
    sizes: dict[str, int] = {}
    for leaf in jax.tree.leaves(params):
        sizes[str(leaf.dtype)] = sizes.get(str(leaf.dtype), 0) + leaf.size
    return max(sizes, key=lambda name: sizes[name])
