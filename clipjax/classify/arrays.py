"""A classifier taken apart into its arrays and what they mean, so that it can be compiled, exported or moved.

Any frozen dataclass with `scores` will do: whichever of its fields hold arrays, in nested dicts or by themselves.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from clipjax.classify.classifier import Classifier
from clipjax.classify.embed import normalised
from clipjax.classify.ensemble import Ensemble


def arrays_of(classifier: Classifier | Ensemble) -> dict[str, Any]:
    """Return the fields that hold arrays, by name; the members of an ensemble by number."""
    if isinstance(classifier, Ensemble):
        return {_member(number): arrays_of(member) for number, member in enumerate(classifier.members, 1)}
    fields = {field.name: getattr(classifier, field.name) for field in dataclasses.fields(classifier)}
    return {name: value for name, value in fields.items() if _is_arrays(value)}


def with_arrays(classifier: Classifier | Ensemble, arrays: dict[str, Any]) -> Classifier | Ensemble:
    """Return the same classifier with other arrays in the places of its own (see `arrays_of`)."""
    if isinstance(classifier, Ensemble):
        parts = [(member, arrays[_member(number)]) for number, member in enumerate(classifier.members, 1)]
        return dataclasses.replace(
            classifier, members=tuple(dataclasses.replace(member, **part) for member, part in parts)
        )
    return dataclasses.replace(classifier, **arrays)


def score_pixels(
    classifier: Classifier | Ensemble, pixels: UInt8[Array | np.ndarray, "batch height width 3"]
) -> Float[Array, "batch classes"]:
    """Score 8-bit pixels, cropped to the model's size but not yet normalised."""
    return classifier.scores(normalised(classifier.model, pixels))


def _member(number: int) -> str:
    return f"member-{number}"


def _is_arrays(value: object) -> bool:
    leaves = jax.tree.leaves(value)
    return bool(leaves) and all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)
