"""`clipjax.load`: any checkpoint, told by its content, to a model and its params."""

import os

import jax.numpy as jnp

from clipjax.errors import CheckpointError, ConfigError
from clipjax.models.clip import CLIP, Params
from clipjax.models.config import CLIPConfig
from clipjax.weights.assemble import assemble
from clipjax.weights.checkpoint import is_native, open_checkpoint
from clipjax.weights.hub import resolve
from clipjax.weights.native import read_native


def load(
    path: str | os.PathLike, *, dtype: str | None = "float32", config: CLIPConfig | None = None
) -> tuple[CLIP, Params]:
    """Load a CLIP checkpoint of any supported format, without torch.

    Reads OpenAI's archives and state dicts, Hugging Face directories and files, OpenCLIP's,
    and clipjax's own; a name such as "openai/clip-vit-base-patch32" that is no path here is
    fetched from the Hugging Face hub. Nothing in a file is ever executed.

    Args:
      dtype: type of the params; None keeps what the file has.
      config: the configuration, for a file whose own is missing or is to be overruled.

    Returns:
      The model (static, hashable) and its params (a nested dict of arrays).

    Raises:
      CheckpointError: the file is missing, damaged, hostile or not a CLIP; the message names it.
      ConfigError: the configuration contradicts itself or the weights, or `dtype` is no floating point type.
    """
    check_dtype(dtype)
    path = resolve(path)
    if path.is_dir() and is_native(path):
        return read_native(path, dtype, config)
    checkpoint = open_checkpoint(path, config)
    model = CLIP(checkpoint.config)
    try:
        params = assemble(checkpoint.file, model, checkpoint.rows, checkpoint.tensors, dtype)
    except MemoryError:
        raise CheckpointError(f"{checkpoint.file}: does not fit into memory; try dtype='bfloat16'") from None
    return model, params


def check_dtype(dtype: str | None) -> None:
    """Refuse a type that params cannot have.

    Raises:
      ConfigError: it is no floating point type.
    """
    try:
        known = dtype is None or jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
    except TypeError:
        known = False
    if not known:
        raise ConfigError(f"params cannot have the type {dtype!r}; choose float32, float16 or bfloat16")
