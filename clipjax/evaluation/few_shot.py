"""The base-to-new protocol: adapt on one half of the classes, measure on both.

From CoCoOp (Zhou et al., arXiv 2203.05557). Drawing the shots is the business of the data.
"""

import numpy as np
from jaxtyping import Int

from clipjax.errors import DataError


def base_new_split(
    classes: int | Int[np.ndarray, " n"],
) -> tuple[Int[np.ndarray, " base"], Int[np.ndarray, " new"]]:
    """Divide the classes into a base half to adapt on and a new half never seen in adaptation.

    `classes` is a number of classes, their ids, or the labels of a dataset, in any order and with
    repetitions. The base half is the first half of the ids in ascending order and is the larger
    one when their number is odd, as in the published splits.

    Raises:
      DataError: no classes, or ids that are not integers.
    """
    if isinstance(classes, int | np.integer):
        classes = np.arange(classes)
    ids = np.unique(np.asarray(classes))
    if ids.size == 0:
        raise DataError("no classes to split into base and new")
    if ids.dtype.kind not in "iu":
        raise DataError(f"class ids must be integers, got {ids.dtype}")
    half = (len(ids) + 1) // 2
    return ids[:half], ids[half:]


def restrict_to_classes(
    labels: Int[np.ndarray, " samples"], classes: Int[np.ndarray, " classes"]
) -> tuple[Int[np.ndarray, " kept"], Int[np.ndarray, " kept"]]:
    """Keep the samples of some classes and number these classes from 0, in the order given.

    Returns the indices of the kept samples and their new labels.

    Raises:
      DataError: a class is named twice, or labels or classes are not lists of integers.
    """
    labels, classes = np.asarray(labels), np.asarray(classes)
    for what, values in (("labels", labels), ("classes", classes)):
        if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
            raise DataError(f"{what} must be a list of integers, got {values.dtype} of shape {values.shape}")
    order = np.argsort(classes)
    ascending = classes[order]
    repeated = ascending[1:][ascending[1:] == ascending[:-1]]
    if repeated.size:
        raise DataError(f"class {repeated[0]} is named twice; name each class once")
    kept = np.flatnonzero(np.isin(labels, classes))
    return kept, order[np.searchsorted(ascending, labels[kept])]


def harmonic_mean(base: float, new: float) -> float:
    """Combine base and new accuracy so that neither can be bought with the other; 0 when both are 0.

    Raises:
      DataError: a negative accuracy or NaN.
    """
    if not (base >= 0 and new >= 0):
        raise DataError(f"accuracies must not be negative or NaN, got base {base} and new {new}")
    return float(2 * base * new / (base + new)) if base + new else 0.0
