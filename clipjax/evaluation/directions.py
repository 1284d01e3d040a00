"""Embeddings as directions: of unit length, in double precision, and refused where they have none."""

import numpy as np
from jaxtyping import Float

from clipjax.errors import DataError


def directions(rows: Float[np.ndarray, "rows dim"], what: str) -> Float[np.ndarray, "rows dim"]:
    """Scale embeddings to unit length; `what` names them in the complaint.

    Raises:
      DataError: there are none, or one is zero or not finite.
    """
    wide = np.asarray(rows, np.float64)
    if wide.ndim != 2 or not len(wide):
        raise DataError(f"{what}: expected embeddings [rows, dim] and at least one, got {wide.shape}")
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise DataError(f"{what}: an embedding has no direction (zeros, or numbers that are not finite)")
    return wide / lengths
