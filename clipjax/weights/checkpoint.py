"""Find out what a path holds: which format, which configuration, which tensors under which names.

Nothing here reads numbers; `clipjax.weights.load` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipjax.errors import CheckpointError, ConfigError
from clipjax.models.config import CLIPConfig, ResNetConfig
from clipjax.weights import huggingface, openclip
from clipjax.weights.assemble import IGNORED_NAMES
from clipjax.weights.names import Row, openai_names
from clipjax.weights.native import CONFIG_FILE as NATIVE_CONFIG
from clipjax.weights.openai import infer_config, is_openclips_own, text_prefix
from clipjax.weights.safetensors_file import read_safetensors, read_safetensors_index
from clipjax.weights.sniff import sniff
from clipjax.weights.stored import StoredTensor
from clipjax.weights.torch_archive import read_torch_archive

Tensors = Mapping[str, StoredTensor]

# tried in this order inside a directory; names of weight files as their libraries write them
_INDEX_FILES = ("model.safetensors.index.json", "open_clip_model.safetensors.index.json")
_WEIGHT_FILES = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose layout is known and whose numbers are still in its files.

    `file` is the weight file (or index) that messages name; `tensors` may hold buffers that no
    row of `rows` mentions.
    """

    file: Path
    format: str
    config: CLIPConfig
    rows: Sequence[Row]
    tensors: Tensors


def open_checkpoint(path: Path, config: CLIPConfig | None = None) -> Checkpoint:
    """Recognise a file or directory by its content.

    Args:
      config: the configuration, for files that come without one; it wins over what would be inferred.

    Raises:
      CheckpointError, ConfigError: nothing usable is there, or it contradicts itself.
    """
    if path.is_dir():
        return _open_file(*tensors_in(path), config)
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or directory")
    return _open_file(path, read_tensors(path), config)


def is_native(path: Path) -> bool:
    """Tell whether a directory was written by clipjax in the Orbax format."""
    return (path / NATIVE_CONFIG).is_file()


def read_tensors(file: Path) -> Tensors:
    """List the tensors of a weight file of either container."""
    return read_safetensors(file) if sniff(file) == "safetensors" else read_torch_archive(file)


def tensors_in(folder: Path) -> tuple[Path, Tensors]:
    """Find a directory's weight file, or the index of several, and list its tensors.

    Raises:
      CheckpointError: there is none, there are several, or it cannot be read.
    """
    for name in _INDEX_FILES:
        if (folder / name).is_file():
            return folder / name, read_safetensors_index(folder / name)
    for name in _WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name, read_tensors(folder / name)
    others = sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".pt", ".pth", ".bin"))
    if len(others) == 1:
        return others[0], read_tensors(others[0])
    if others:
        listed = ", ".join(p.name for p in others[:3])
        raise CheckpointError(f"{folder}: {len(others)} weight files ({listed}); name the one to load")
    raise CheckpointError(
        f"{folder}: no weights here; a Hugging Face directory has model.safetensors, an OpenCLIP one "
        "open_clip_model.safetensors, one of clipjax clipjax.json"
    )


def _open_file(file: Path, tensors: Tensors, config: CLIPConfig | None) -> Checkpoint:
    if _is_openai_layout(tensors):
        return _open_openai_layout(file, tensors, config)
    return _open_huggingface_layout(file, tensors, config)


def _is_openai_layout(tensors: Tensors) -> bool:
    return any(name.startswith("visual.") for name in tensors) or "ln_final.weight" in tensors


def _open_openai_layout(file: Path, tensors: Tensors, config: CLIPConfig | None) -> Checkpoint:
    config_file = file.parent / openclip.CONFIG_FILE
    kind = "openclip" if _is_openclips(file, tensors) else "openai"
    if config is None and config_file.is_file():
        config, kind = openclip.read_config(config_file), "openclip"
    elif config is None:
        config = infer_config(file, tensors)
        if kind == "openclip" and not is_openclips_own(config):
            raise CheckpointError(
                f"{file}: holds OpenCLIP's weights; since shapes do not tell heads and activations, put "
                f"{openclip.CONFIG_FILE} beside it, or name its configuration (--preset, or config= of clipjax.load)"
            )
    if config.vision is None or config.text is None:
        raise ConfigError(f"{file}: holds both towers, the configuration given for it has one")
    return Checkpoint(file, kind, config, openai_names(config, text_prefix(tensors)), tensors)


def _is_openclips(file: Path, tensors: Tensors) -> bool:
    """Tell weights that are OpenCLIP's for sure; others of OpenAI's names may be anybody's."""
    if IGNORED_NAMES & tensors.keys():  # sizes, which OpenAI's archives carry as buffers
        return False
    return bool(text_prefix(tensors)) or "attn_mask" in tensors or file.name.startswith("open_clip_")


def _open_huggingface_layout(file: Path, tensors: Tensors, config: CLIPConfig | None) -> Checkpoint:
    if config is not None:
        if isinstance(config.vision, ResNetConfig):
            raise ConfigError(f"{file}: is in Hugging Face's layout; the ResNet of the given configuration has none")
        return Checkpoint(file, "huggingface", config, huggingface.name_table(config, tensors.keys()), tensors)
    if not (file.parent / "config.json").is_file():
        known = any(name.startswith(("vision_model.", "text_model.")) for name in tensors)
        what = "weights in Hugging Face's layout" if known else "tensors, but not those of a CLIP"
        raise CheckpointError(
            f"{file}: holds {what}; config.json must lie beside it, since shapes do not tell heads and activations"
        )
    config, rows = huggingface.read_config(file.parent, tensors.keys())
    return Checkpoint(file, "huggingface", config, rows, tensors)
