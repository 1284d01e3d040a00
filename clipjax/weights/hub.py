"""From what a user calls a checkpoint to a local path.

Names on the Hugging Face hub are fetched, where there is a network, by the hub's own cache and variables.
"""

import os
import re
from pathlib import Path

from clipjax.errors import CheckpointError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_RUN_NOTE, _RUN_MODEL = "run.json", "model"
_SMALL_FILES = ["*.json", "*.txt"]


def resolve(path: str | os.PathLike, *, weights: bool = True) -> Path:
    """Return the local path of a checkpoint, fetching hub names; without `weights` the small files alone.

    The directory of a run stands for the model that the run ended with.

    Raises:
      CheckpointError: the home directory it names does not exist, or the hub does not give it.
    """
    try:
        local = Path(path).expanduser()
    except RuntimeError:
        raise CheckpointError(f"{path}: there is no such home directory; pass the path in full") from None
    if not local.exists() and is_hub_name(os.fspath(path)):
        return fetch(os.fspath(path), weights=weights)
    if (local / _RUN_NOTE).is_file():
        if not (local / _RUN_MODEL).is_dir():
            raise CheckpointError(f"{local}: holds a run that has not ended; repeat its command to finish it")
        return local / _RUN_MODEL
    return local


def is_hub_name(name: str) -> bool:
    """Tell whether a string has the form "organisation/model"."""
    return _NAME.fullmatch(name) is not None


def fetch(name: str, *, weights: bool = True) -> Path:
    """Return a local directory with the checkpoint, from the hub's cache or the network.

    Args:
      weights: fetch the weights too, not only configurations and the tokenizer's files.

    Raises:
      CheckpointError: neither has it.
    """
    import huggingface_hub

    def download(*kinds: str) -> Path:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=[*_SMALL_FILES, *kinds]))

    try:
        if not weights:
            return download()
        folder = download("*.safetensors")
        if not any(folder.glob("*.safetensors")):
            folder = download("*.bin")
    except Exception as error:  # the hub's client and its HTTP library raise many unrelated kinds
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{name}: no such path, and the Hugging Face hub does not give it ({type(error).__name__}: {reason}); "
            "download it elsewhere and pass its directory"
        ) from None
    return folder
