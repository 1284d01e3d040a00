"""Labelled images as embeddings: the frozen towers run once for each view, and methods read what came out.

Every few-shot method that leaves the towers alone starts here; a study embeds once and tries them all.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from clipjax.classify.class_texts import class_texts
from clipjax.classify.classifier import Classifier
from clipjax.classify.embed import embed_texts
from clipjax.classify.heads import Head
from clipjax.classify.problem import Problem
from clipjax.data.batches import ArrayBatches
from clipjax.data.samplers import Shuffled
from clipjax.data.source import ImageSource
from clipjax.data.views import augmented_view, eval_view
from clipjax.errors import DataError
from clipjax.parallel.mesh import enough_rows, fitting_batch, make_mesh
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run
from clipjax.training.settings import check_positive_share, check_range


@dataclasses.dataclass(frozen=True)
class Views:
    """Which views of the shots are embedded: `count` crops of at least the share `crop`, the share `flip` mirrored.

    A batch draws one of them. With a `count` of 0 there is one, the image as it is measured.
    """

    count: int = 8
    crop: float = 0.08
    flip: float = 0.5

    def __post_init__(self):
        check_range(self, 0, math.inf, "count")
        check_range(self, 0, 1, "flip")
        check_positive_share(self, "crop")


@dataclasses.dataclass(frozen=True, eq=False)
class CachedShots:
    """Unit embeddings of labelled images: `views` to draw from, and the images `plain`, as they are measured.

    `class_weights` are the unit text embeddings of the classes; `scale` multiplies cosines.
    """

    views: Float[np.ndarray, "shots views dim"]
    plain: Float[np.ndarray, "shots dim"]
    labels: Int[np.ndarray, " shots"]
    class_weights: Float[Array | np.ndarray, "classes dim"]
    scale: float

    def select(self, chosen: Int[np.ndarray, " chosen"]) -> "CachedShots":
        """Keep some of the images, in the order given."""
        return dataclasses.replace(self, views=self.views[chosen], plain=self.plain[chosen], labels=self.labels[chosen])

    def batches(self, run: Run, batch_size: int, seed: int, **more: np.ndarray) -> ArrayBatches:
        """Describe training batches: a view of each image as `rows`, its `labels`, and `more` by image.

        Few images are repeated until each device has one, and make smaller batches. None is smaller than the devices.
        """
        mesh = make_mesh() if run.mesh is None else run.mesh
        chosen = enough_rows(np.arange(len(self.labels)), mesh)
        arrays = {"rows": self.views, "labels": self.labels, **more}
        return ArrayBatches(
            {name: array[chosen] for name, array in arrays.items()},
            Shuffled(len(chosen), seed),
            fitting_batch(max(batch_size, mesh.size), len(chosen), mesh),
            seed,
            one_of=("rows",),
        )


def steps_for(batches: ArrayBatches, epochs: float) -> int:
    """Return how many steps see every image `epochs` times, at least one."""
    return max(1, round(epochs * batches.sampler.size / batches.batch_size))


def coop_epochs(shots: CachedShots) -> float:
    """Return CoOp's number of epochs: 200 with eight and more images of a class, 100 with two, 50 with one."""
    most = int(np.bincount(shots.labels, minlength=1).max())
    return 50.0 if most < 2 else 100.0 if most < 8 else 200.0


def warmed_up(optimizer: Optimizer, batches: ArrayBatches, steps: int) -> Optimizer:
    """Give an optimiser that has no warm-up CoOp's, one epoch, and at most half of the steps."""
    return dataclasses.replace(optimizer, warmup=optimizer.warmup or min(steps_for(batches, 1.0), steps // 2))


def classified(
    logits: Float[Array, "batch classes"], labels: Int[Array, " batch"]
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Return the mean cross-entropy, and the share of labels that are met as `agreement`."""
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, {"agreement": jnp.mean(logits.argmax(1) == labels)}


def classifier_of(problem: Problem, shots: CachedShots, head: Head, **said: object) -> Classifier:
    """Put a head that was learnt from shots before the problem's class weights; `said` goes into its provenance."""
    provenance = {"shots": len(shots.labels), **said}
    weights = problem.zero_shot.class_weights
    return Classifier(problem.model, problem.params, problem.class_names, weights, provenance, head=head)


def cached_shots(problem: Problem, views: Views, run: Run, seed: int) -> CachedShots:
    """Embed the problem's shots and their views, or read what a run of before has.

    Raises:
      DataError: there are no shots, or a class has none.
    """
    shots = problem.shots_of_every_class()
    plain = embedded(problem, shots, Views(0), run, seed)[:, 0]
    drawn = embedded(problem, shots, views, run, seed) if views.count else plain[:, None]
    scale = float(np.exp(np.asarray(problem.params["logit_scale"], np.float32)))
    return CachedShots(drawn, plain, shots.labels.astype(np.int32), problem.zero_shot.class_weights, scale)


def embedded(
    problem: Problem, images: ImageSource, views: Views, run: Run, seed: int
) -> Float[np.ndarray, "images views dim"]:
    """Embed views of images, of unit length."""
    model, params, clip = problem.model, problem.params, problem.model.config
    plain = eval_view(clip.image_size, clip.mean, clip.std, clip.preprocessing)
    drawn = augmented_view(clip.image_size, clip.mean, clip.std, crop=views.crop, flip=views.flip)
    found = run.embed(
        images,
        lambda pixels: model.encode_image(params, pixels),
        drawn if views.count else plain,
        weights=f"{problem.identity['weights']} {model!r}",
        views=views.count or 1,
        seed=seed,
    )
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Descriptions:
    """Unit embeddings of texts about classes or images; where one has fewer texts, the rest is not `present`."""

    rows: Float[np.ndarray, "owners texts dim"]
    present: Bool[np.ndarray, "owners texts"]

    def select(self, chosen: Int[np.ndarray, " chosen"]) -> "Descriptions":
        """Keep the texts of some owners, in the order given."""
        return Descriptions(self.rows[chosen], self.present[chosen])

    @property
    def means(self) -> Float[np.ndarray, "owners dim"]:
        """The mean text embedding of each owner, not of unit length."""
        return (self.rows * self.present[..., None]).sum(1) / self.present.sum(1, keepdims=True)


def padded(rows: Float[np.ndarray, "texts dim"], counts: list[int]) -> Descriptions:
    """Arrange unit rows, of which so many belong to each owner in turn, with room for the most."""
    ends = np.cumsum(counts)
    bank = np.zeros((len(counts), max(counts), rows.shape[1]), np.float32)
    present = np.arange(max(counts)) < np.asarray(counts)[:, None]
    for owner, (end, count) in enumerate(zip(ends, counts)):
        bank[owner, :count] = rows[end - count : end]
    return Descriptions(bank, present)


def embedded_descriptions(problem: Problem, run: Run) -> Descriptions:
    """Embed the descriptions of the problem's classes, once in a run; phrases (DCLIP) are joined to the class names.

    Raises:
      DataError: the problem has no texts, or a class has no description.
    """
    if problem.texts is None:
        raise DataError("this method learns from descriptions of the classes; pass them as texts (--texts STORE)")
    names = problem.class_names
    about = class_texts(names, descriptions=dict(zip(names, problem.texts.about("class_description", names))))
    flat = [text for own in about for text in own]

    def embed():
        rows = embed_texts(problem.model, problem.params, problem.tokenizer, flat, progress=run.progress)
        return {"rows": rows / np.linalg.norm(rows, axis=1, keepdims=True)}

    rows = run.once("descriptions", embed, depends=problem.identity)["rows"]
    return padded(rows, [len(own) for own in about])
