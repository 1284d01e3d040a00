"""clipjax's own format: params in an Orbax checkpoint, the configuration and checksums in clipjax.json.

Orbax restores a file with a flipped byte without complaint, so each leaf's CRC-32 is kept and compared.
"""

import dataclasses
import json
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from clipjax.errors import CheckpointError, ConfigError, OutputError
from clipjax.models.clip import CLIP, Params
from clipjax.models.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from clipjax.outputs import check_room, uninterrupted
from clipjax.weights.assemble import all_finite, flatten, unflatten
from clipjax.weights.fields import Fields, read_json
from clipjax.weights.names import resnet_names

CONFIG_FILE = "clipjax.json"
_FORMAT_VERSION = 1
_PARAMS_FOLDER = "params"


def write_native(folder: Path, config: CLIPConfig, params: Params) -> None:
    """Write params and configuration into an empty directory.

    Raises:
      OutputError: the disk is full, or Orbax cannot write.
    """
    import orbax.checkpoint as ocp

    leaves = flatten(params)
    check_room(folder, sum(leaf.nbytes for leaf in leaves.values()))
    try:
        with uninterrupted(), ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save((folder / _PARAMS_FOLDER).absolute(), params)
    except Exception as error:  # Orbax and TensorStore raise many kinds, none of them documented
        reason = _lines(error)[-1]
        raise OutputError(f"{folder}: cannot be written ({reason}); choose another place") from error
    document = {
        "format": "clipjax",
        "version": _FORMAT_VERSION,
        "config": config_to_dict(config),
        "leaves": {
            name: {"shape": list(leaf.shape), "dtype": str(leaf.dtype), "crc32": _checksum(leaf)}
            for name, leaf in leaves.items()
        },
    }
    (folder / CONFIG_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_native_config(
    folder: Path, config: CLIPConfig | None = None
) -> tuple[CLIPConfig, dict[str, jax.ShapeDtypeStruct], dict[str, int]]:
    """Read the configuration, unless one is given to overrule it, and each leaf's shape and checksum.

    Raises:
      ConfigError: clipjax.json is malformed, of a newer version, or lists other leaves than the configuration's.
    """
    file = folder / CONFIG_FILE
    fields = Fields(file, read_json(file))
    version = fields.integer("version", high=2**31)
    if version > _FORMAT_VERSION:
        raise ConfigError(f"{file}: version {version} was written by a newer clipjax; upgrade clipjax to read it")
    shapes, checksums = {}, {}
    section = fields.section("leaves")
    for name in section.values:
        leaf = section.section(name)
        shape = leaf.values.get("shape")
        if not isinstance(shape, list) or not all(isinstance(n, int) and 0 < n < 2**40 for n in shape):
            raise ConfigError(f"{file}: {leaf.prefix}shape is {shape!r}; a list of sizes is needed")
        dtype = leaf.choice("dtype", "", {t: t for t in ("float32", "float16", "bfloat16", "float64")})
        shapes[name] = jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype))
        checksums[name] = leaf.integer("crc32", low=0, high=2**32 - 1)
    config = config or config_from_dict(file, fields.section("config").values)
    try:
        _check_leaves(config, shapes)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    return config, shapes, checksums


def read_native(folder: Path, dtype: str | None, config: CLIPConfig | None = None) -> tuple[CLIP, Params]:
    """Restore what `write_native` wrote; a given configuration overrules the one that is there.

    Raises:
      CheckpointError: the params are incomplete or damaged, or hold NaN or infinity.
      ConfigError: as for `read_native_config`.
    """
    import orbax.checkpoint as ocp

    config, shapes, checksums = read_native_config(folder, config)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = unflatten({n: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=device) for n, s in shapes.items()})  # pyright: ignore[reportArgumentType]
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            params = checkpointer.restore((folder / _PARAMS_FOLDER).absolute(), target)
    except Exception as error:  # Orbax and TensorStore raise many kinds, none of them documented
        reason = _lines(error)[0]
        raise CheckpointError(f"{folder / _PARAMS_FOLDER}: cannot be restored ({reason}); copy it again") from error
    leaves = flatten(params)
    for name, leaf in leaves.items():
        if _checksum(leaf) != checksums[name]:
            raise CheckpointError(f"{folder / _PARAMS_FOLDER}: {name} is damaged (checksum differs); copy it again")
        if not all_finite(np.asarray(leaf)):
            raise CheckpointError(f"{folder / _PARAMS_FOLDER}: {name} holds NaN or infinite numbers; save sound ones")
        leaves[name] = leaf if dtype is None else leaf.astype(dtype)
        if not all_finite(np.asarray(leaves[name])):
            raise CheckpointError(
                f"{folder / _PARAMS_FOLDER}: {name} holds numbers too large for {dtype}; choose a wider type"
            )
    return CLIP(config), unflatten(leaves)


def config_to_dict(config: CLIPConfig) -> dict[str, Any]:
    """Describe a configuration in JSON types."""
    document = dataclasses.asdict(config)
    if config.vision is not None:
        document["vision"]["kind"] = "resnet" if isinstance(config.vision, ResNetConfig) else "vit"
    return document


def config_from_dict(file: Path, document: dict[str, Any]) -> CLIPConfig:
    """Rebuild what `config_to_dict` described; `file` is for messages.

    Raises:
      ConfigError: the description is malformed.
    """
    try:
        values = _frozen(document)
        vision, text = values.pop("vision"), values.pop("text")
        if vision is not None:
            kind = {"resnet": ResNetConfig, "vit": ViTConfig}[vision.pop("kind")]
            vision = kind(**vision)
        return CLIPConfig(vision, None if text is None else TextConfig(**text), **values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file}: config is malformed ({error}); copy the directory again") from None
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def _check_leaves(config: CLIPConfig, shapes: dict[str, jax.ShapeDtypeStruct]) -> None:
    if isinstance(config.vision, ResNetConfig):
        # by names alone, before the tower is built: hundreds of blocks that nobody saved would take a minute
        missing = next((row.path for row in resnet_names(config.vision) if row.path not in shapes), None)
        if missing is not None:
            raise ConfigError(f"params lack {missing}")
    CLIP(config).check_shapes({name: leaf.shape for name, leaf in shapes.items()})


def _frozen(values: dict[str, Any]) -> dict[str, Any]:
    """Copy a JSON object with lists as tuples, which frozen dataclasses can hash."""
    frozen = {name: _frozen(value) if isinstance(value, dict) else value for name, value in values.items()}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in frozen.items()}


def _lines(error: Exception) -> list[str]:
    """The lines of an error's message, its type where there is none."""
    return [line[:200] for line in str(error).strip().splitlines()] or [type(error).__name__]


def _checksum(leaf: Any) -> int:
    return zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).reshape(-1).data)
