"""Several classifiers of the same classes as one: the mean of what they hold for likely."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from clipjax.classify.classifier import Classifier
from clipjax.errors import ConfigError
from clipjax.models.clip import CLIP


@dataclasses.dataclass(frozen=True, eq=False)
class Ensemble:
    """Classifiers that vote with their probabilities; they see images of the same size.

    Where one classifier can stand, so can an ensemble: it has a model (that of its first member, which says how
    images are prepared), class names, provenance and scores.
    """

    members: tuple[Classifier, ...]
    provenance: dict[str, object] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        """Check that the members speak of the same.

        Raises:
          ConfigError: there is none, or two differ in classes or in how images are prepared.
        """
        if not self.members:
            raise ConfigError("an ensemble without members has no scores; give at least one classifier")
        if len({member.class_names for member in self.members}) > 1:
            raise ConfigError("the members of an ensemble name different classes; give classifiers of the same ones")
        configs = [member.model.config for member in self.members]
        if len({(c.image_size, c.mean, c.std, c.preprocessing) for c in configs}) > 1:
            raise ConfigError("the members of an ensemble prepare images differently; give those of one checkpoint")

    @property
    def model(self) -> CLIP:
        """The model of the first member."""
        return self.members[0].model

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of the scores."""
        return self.members[0].class_names

    def scores(self, images: Float[Array, "batch height width 3"]) -> Float[Array, "batch classes"]:
        """Score normalised images: the logarithms of the members' mean probabilities."""
        return mean_vote(jnp.stack([member.scores(images) for member in self.members]))

    def with_dtype(self, dtype: str) -> "Ensemble":
        """Return the same classifiers with another compute type."""
        return dataclasses.replace(self, members=tuple(member.with_dtype(dtype) for member in self.members))


@jax.jit
def mean_vote(scores: Float[Array, "members batch classes"]) -> Float[Array, "batch classes"]:
    """Average softmaxes; the result is their logarithm, whose softmax is the mean again."""
    each = jax.nn.log_softmax(scores.astype(jnp.float32), axis=-1)
    return jax.nn.logsumexp(each, axis=0) - jnp.log(jnp.float32(len(scores)))
