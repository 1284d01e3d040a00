"""Fetch checkpoints from the Hugging Face hub, where there is a network, by the hub's own cache and variables."""

import re
from pathlib import Path

from clipjax.errors import CheckpointError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SMALL_FILES = ["*.json", "*.txt"]


def is_hub_name(name: str) -> bool:
    """Tell whether a string has the form "organisation/model"."""
    return _NAME.fullmatch(name) is not None


def fetch(name: str) -> Path:
    """Return a local directory with the checkpoint, from the hub's cache or the network.

    Raises:
      CheckpointError: neither has it.
    """
    import huggingface_hub

    try:
        folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=[*_SMALL_FILES, "*.safetensors"]))
        if not any(folder.glob("*.safetensors")):
            folder = Path(huggingface_hub.snapshot_download(name, allow_patterns=[*_SMALL_FILES, "*.bin"]))
    except Exception as error:  # the hub's client and its HTTP library raise many unrelated kinds
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{name}: no such path, and the Hugging Face hub does not give it ({type(error).__name__}: {reason}); "
            "download it elsewhere and pass its directory"
        ) from None
    return folder
