"""What a checkpoint of CLIP can hold of a classifier, and what is left for the file beside it."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from clipjax.classify.classifier import Classifier
from clipjax.classify.ensemble import Ensemble
from clipjax.classify.heads import Contexts, described
from clipjax.errors import CheckpointError

HEAD_FILE = "classifier.safetensors"

_HELD = {"model", "params", "class_names", "class_weights", "provenance", "bias", "features"}
"""The fields of a classifier that a checkpoint and a head say in full."""


def members_of(classifier: Classifier | Ensemble, format: str) -> tuple[Classifier, ...]:
    """Return the classifiers that become a directory each, of one kind.

    Raises:
      CheckpointError: the classifier has something that neither a checkpoint nor class weights beside it can say.
    """
    members = classifier.members if isinstance(classifier, Ensemble) else (classifier,)
    members = tuple(_folded(member) for member in members)
    for member in members:
        if type(member) is not Classifier:
            raise CheckpointError(
                f"a {type(member).__name__} is no CLIP with one vector for each class, which is all that {format} can "
                "hold; export it with --format stablehlo"
            )
        if member.head is not None:
            kind = described(member.head)["kind"].replace("_", " ")
            raise CheckpointError(
                f"a learned head ({kind}) stands between embeddings and class weights, for which the architecture in "
                f"{format} has no place; export it with --format stablehlo"
            )
        for field in dataclasses.fields(member):
            if field.name not in _HELD and getattr(member, field.name) is not None:
                raise CheckpointError(
                    f"this classifier has {field.name.replace('_', ' ')}, for which the architecture in {format} has "
                    "no place; export it with --format stablehlo"
                )
    if len({member.features for member in members}) > 1:
        raise CheckpointError("the members read different features; export the ensemble with --format stablehlo")
    return members


def _folded(member: Classifier) -> Classifier:
    """Leave out learned contexts: what they say of these classes is in the class weights."""
    folded = type(member) is Classifier and isinstance(member.head, Contexts)
    return dataclasses.replace(member, head=None) if folded else member


def head_tensors(classifier: Classifier) -> Mapping[str, np.ndarray]:
    """Return what scores features: `scale` times features by `weights`, plus `bias`.

    Features are unit embeddings, or pooled ones as they are, for which the scale is 1.
    """
    weights = np.asarray(classifier.class_weights, np.float32)
    bias = np.zeros(len(weights), np.float32) if classifier.bias is None else np.asarray(classifier.bias, np.float32)
    scale = np.float32(1)
    if classifier.features == "embedding":
        # as the classifier does it, in float32
        scale = np.exp(np.asarray(classifier.params["logit_scale"], np.float32))
    return {"weights": weights, "bias": bias, "scale": np.asarray(scale, np.float32)}
