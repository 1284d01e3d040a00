"""transformers' GPT-2 directories: `LanguageConfig` from config.json and back, and which tensors a model has."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clipjax.errors import CheckpointError, ConfigError
from clipjax.models.config import LanguageConfig
from clipjax.weights.fields import Fields, read_json
from clipjax.weights.names import Row, gpt2_names
from clipjax.weights.stored import StoredTensor

_PREFIX = "transformer."
_HEAD = "lm_head.weight"
_BUFFERS = (".attn.bias", ".attn.masked_bias")  # causal masks in files of old versions, not the biases of a layer
_ACTIVATIONS = {"gelu_new": "gelu_new", "gelu_pytorch_tanh": "gelu_new", "gelu": "gelu"}


def read_config(folder: Path) -> LanguageConfig:
    """Read the configuration of a GPT-2.

    Raises:
      ConfigError: config.json contradicts itself, is another model's, or asks for what clipjax does not have.
    """
    file = folder / "config.json"
    fields = Fields(file, read_json(file))
    if fields.values.get("model_type") != "gpt2":
        raise ConfigError(f"{file}: model_type is {fields.values.get('model_type')!r:.100}; clipjax reads gpt2")
    fields.refuse_unless(
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        reorder_and_upcast_attn=False,
        add_cross_attention=False,
        tie_word_embeddings=True,
    )
    width = fields.integer("n_embd", 768, high=65_536)
    inner = None if fields.values.get("n_inner") is None else fields.integer("n_inner", high=1_048_576)
    try:
        return LanguageConfig(
            vocab_size=fields.integer("vocab_size", 50257, high=16_777_216),
            context_length=fields.integer("n_positions", 1024, high=1_048_576),
            width=width,
            layers=fields.integer("n_layer", 12, high=512),
            heads=fields.integer("n_head", 12, high=1024),
            mlp_width=inner or 4 * width,
            activation=fields.choice("activation_function", "gelu_new", _ACTIVATIONS),
            layer_norm_eps=fields.number("layer_norm_epsilon", 1e-5),
            bos_token_id=fields.integer("bos_token_id", 50256, low=0, high=2**31 - 1),
            eos_token_id=fields.integer("eos_token_id", 50256, low=0, high=2**31 - 1),
        )
    except ConfigError as error:
        raise error if str(error).startswith(str(file)) else ConfigError(f"{file}: {error}") from None


def write_config(folder: Path, config: LanguageConfig, dtype: str) -> tuple[Row, ...]:
    """Write config.json and return the name table to write by."""
    document = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.mlp_width,
        "activation_function": config.activation,
        "layer_norm_epsilon": config.layer_norm_eps,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "tie_word_embeddings": True,
        "dtype": dtype,
    }
    (folder / "config.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return gpt2_names(config, _PREFIX)


def weights_of(
    file: Path, config: LanguageConfig, tensors: Mapping[str, StoredTensor]
) -> tuple[tuple[Row, ...], dict[str, StoredTensor]]:
    """Return the name table of a file, and its tensors without masks and without a head that repeats the token table.

    Raises:
      CheckpointError: the head is a matrix of its own.
    """
    prefix = _PREFIX if any(name.startswith(_PREFIX) for name in tensors) else ""
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(_BUFFERS)}
    head, table = kept.pop(_HEAD, None), kept.get(prefix + "wte.weight")
    if head is not None and table is not None and not _equal(head, table):
        raise CheckpointError(f"{file}: {_HEAD} is not the token table; clipjax has no model with another head")
    return gpt2_names(config, prefix), kept


def _equal(one: Any, other: Any) -> bool:
    return one.shape == other.shape and np.array_equal(one.read(), other.read())
