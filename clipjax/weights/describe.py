"""Say what a checkpoint is without reading its numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipjax.models.clip import CLIP
from clipjax.models.config import CLIPConfig
from clipjax.weights.assemble import check_tensors, flatten
from clipjax.weights.checkpoint import is_native, open_checkpoint
from clipjax.weights.native import config_to_dict, read_native_config


@dataclass(frozen=True)
class Parameter:
    """One leaf of the params tree, or the sum of several."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    count: int


@dataclass(frozen=True)
class Description:
    """What `describe` found."""

    format: str
    file: str
    config: dict[str, Any]
    parameters: tuple[Parameter, ...]

    def parts(self) -> list[Parameter]:
        """Sum the parameters up to the first two levels of the tree."""
        sums: dict[str, Parameter] = {}
        for leaf in self.parameters:
            name = "/".join(leaf.path.split("/")[:2])
            known = sums.get(name)
            if known is None:
                sums[name] = Parameter(name, leaf.shape, leaf.dtype, leaf.count)
            else:
                dtype = known.dtype if known.dtype == leaf.dtype else "mixed"
                sums[name] = Parameter(name, ("...",), dtype, known.count + leaf.count)  # pyright: ignore[reportArgumentType]
        return list(sums.values())


def describe(path: Path, config: CLIPConfig | None = None) -> Description:
    """Recognise a checkpoint and list its parameters.

    Args:
      config: the configuration, as for `clipjax.load`.

    Raises:
      CheckpointError, ConfigError: it is not a CLIP, or contradicts itself.
    """
    if path.is_dir() and is_native(path):
        config, shapes, _ = read_native_config(path, config)
        types = {name: str(shape.dtype) for name, shape in shapes.items()}
        return Description("orbax", str(path), config_to_dict(config), _parameters(CLIP(config), types))
    checkpoint = open_checkpoint(path, config)
    model = CLIP(checkpoint.config)
    check_tensors(checkpoint.file, model, checkpoint.rows, checkpoint.tensors)
    types = {row.path: str(checkpoint.tensors[row.names()[0]].dtype) for row in checkpoint.rows}
    return Description(checkpoint.format, str(checkpoint.file), config_to_dict(model.config), _parameters(model, types))


def _parameters(model: CLIP, types: dict[str, str]) -> tuple[Parameter, ...]:
    shapes = flatten(model.param_shapes())
    return tuple(Parameter(path, leaf.shape, types[path], leaf.size) for path, leaf in shapes.items())
