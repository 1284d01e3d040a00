"""A digest of a params tree: equal for equal numbers under equal names, whatever file they came from."""

import hashlib

import numpy as np

from clipjax.models.clip import Params
from clipjax.weights.assemble import flatten


def fingerprint(params: Params) -> str:
    """Return a hexadecimal digest of all names, types, shapes and numbers."""
    digest = hashlib.blake2b(digest_size=16)
    for name, leaf in sorted(flatten(params).items()):
        array = np.asarray(leaf, order="C")
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
