"""LatteCLIP from a problem to a classifier (Cao et al., arXiv 2410.08211)."""

import dataclasses
import math
from typing import Literal

import numpy as np

from clipjax.classify.classifier import Classifier
from clipjax.classify.embed import tokens_for
from clipjax.classify.problem import Problem
from clipjax.data.image_batches import ImageBatches
from clipjax.data.samplers import Shuffled
from clipjax.data.source import ImageSource
from clipjax.data.views import View, augmented_view
from clipjax.errors import ConfigError, DataError
from clipjax.methods.contrastive import clamp_logit_scale
from clipjax.methods.latteclip.algorithm import Branch, Mode, Rules, TextKind
from clipjax.methods.latteclip.step import LatteStep, Reference
from clipjax.methods.latteclip.watch import Stopping, last_epoch, told_to_stop, unwatched
from clipjax.methods.pseudo_labels import zero_shot_scores
from clipjax.methods.text_pools import Pool, cut, text_pool
from clipjax.parallel.mesh import make_mesh
from clipjax.training.optimizers import Optimizer
from clipjax.training.partition import join, split
from clipjax.training.run import Run
from clipjax.training.settings import check_above_zero, check_positive_share, check_range
from clipjax.training.stage import Stage


@dataclasses.dataclass(frozen=True)
class Config:
    """How to adapt with LatteCLIP.

    `steps`, where given, goes before `epochs`, and `steps_per_epoch` before the number of whole batches: it
    says how often the prototypes that texts are weighed against are taken anew. `alpha` is how far prototypes
    move towards the texts at each step. `mode`, `texts`, `branches` and `renormalize` are those of `Rules`;
    texts are weighed against the prototypes at the start of the epoch or the `current` ones (`reference`).
    `trainable` are patterns on parameter paths; "^logit_scale$" alone leaves all to the prototypes.
    Images are cropped to at least the share `crop`; colours are changed with probability `jitter`, and
    dropped with `grayscale`, as the authors did. `stopping` says when to end before all steps are done, by what can
    be known without labels; the authors took the last epoch, and that is the default.
    """

    epochs: float = 15.0
    steps: int | None = None
    steps_per_epoch: int | None = None
    batch_size: int = 64
    alpha: float = 0.01
    mode: Mode = "intended"
    texts: tuple[TextKind, ...] = ("class", "image", "group")
    branches: tuple[Branch, ...] = ("finetuned", "zero_shot")
    renormalize: bool = False
    reference: Reference = "epoch"
    trainable: tuple[str, ...] = ("",)
    optimizer: Optimizer = Optimizer(lr=1e-7, weight_decay=0.2, b2=0.98, eps=1e-6)
    warmup_share: float = 0.05
    crop: float = 0.9
    jitter: float = 0.8
    grayscale: float = 0.2
    stopping: Stopping = Stopping()
    dtype: Literal["float32", "bfloat16"] | None = None
    seed: int = 0

    def __post_init__(self):
        check_range(self, 1, math.inf, "batch_size", "steps", "steps_per_epoch")
        check_above_zero(self, "epochs")
        check_range(self, 0, 1, "alpha", "warmup_share", "jitter", "grayscale")
        check_positive_share(self, "crop")
        for name, chosen in (("texts", self.texts), ("branches", self.branches)):
            if not chosen or len(set(chosen)) < len(chosen):
                raise ConfigError(f"{name} is {list(chosen)}; name at least one, and none twice")

    @property
    def rules(self) -> Rules:
        """What a step does."""
        return Rules(self.mode, self.texts, self.branches, self.renormalize)


def adapt(problem: Problem, config: Config, run: Run) -> Classifier:
    """Label images zero-shot, train on their texts, and classify by prototypes.

    Raises:
      DataError: texts are missing, or fewer images than one batch.
      ConfigError: released mode with a batch of another size than the embedding.
    """
    _check_released(problem, config)
    scored = zero_shot_scores(problem, run, batch_size=config.batch_size)
    source, labels = scored.images, scored.labels
    mesh = make_mesh() if run.mesh is None else run.mesh
    trainable, frozen = split(problem.params, config.trainable)
    per_epoch = config.steps_per_epoch or max(1, len(source) // config.batch_size)
    steps = config.steps or max(1, round(config.epochs * per_epoch))
    # stored, or a restart on another kind of device, which may round otherwise, would begin anew
    start = run.once("prototypes", lambda: {"p": problem.zero_shot.class_weights}, depends=problem.identity)
    prototypes = np.asarray(start["p"], np.float32)
    optimizer = config.optimizer
    stage = Stage(
        name="latteclip",
        trainable=trainable,
        frozen={
            "params": frozen,
            "alpha": np.float32(config.alpha),
            "prompts": _prompts(problem),
            **_pools(problem, config, source, labels),
        },
        carry={**dict.fromkeys(("prototypes", "reference", "first"), prototypes), "watched": unwatched()},
        objective=LatteStep(
            problem.model.replace(dtype=config.dtype or problem.model.dtype),
            mesh,
            config.rules,
            tuple(len(texts) for texts in problem.prompts),
            per_epoch,
            config.reference,
            config.stopping if config.stopping.patience else Stopping(),
        ),
        optimizer=dataclasses.replace(optimizer, warmup=optimizer.warmup or round(config.warmup_share * steps)),
        steps=steps,
        batches=ImageBatches(
            source,
            Shuffled(len(source), config.seed),
            _view(problem, config),
            config.batch_size,
            config.seed,
            columns={"labels": labels},
        ),
        after_update=clamp_logit_scale,
        until=told_to_stop if config.stopping.patience else None,
        seed=config.seed,
    )
    fitted = run.fit(stage)
    params = join(fitted.learned, frozen)
    counts: dict[str, object] = {"images": len(source), "steps": fitted.steps, "skipped_steps": fitted.skipped}
    counts["last_epoch"] = last_epoch(fitted.carry["watched"])
    return Classifier(problem.model, params, problem.class_names, fitted.carry["prototypes"], counts)


def _check_released(problem: Problem, config: Config) -> None:
    dim = problem.zero_shot.class_weights.shape[1]
    if config.mode == "released" and config.batch_size != dim:
        raise ConfigError(
            f"batch_size is {config.batch_size}, and the embeddings have {dim} numbers; mode='released' needs them "
            f"equal, as the published code does: set batch_size={dim}, or mode='intended'"
        )


def _pools(problem: Problem, config: Config, source: ImageSource, labels: np.ndarray) -> dict[str, Pool]:
    """Tokenize the captions of each image, and for each class those of the groups of its images."""
    wanted = [kind for kind in ("image", "group") if kind in config.texts]
    if wanted and problem.texts is None:
        raise DataError(
            "latteclip learns from texts about the images; have them written with `clipjax texts generate` "
            "(configs/texts.py:latteclip) and pass --texts STORE, or set texts=['class']"
        )
    pools: dict[str, Pool] = {"captions": {}, "groups": {}}
    if problem.texts is not None and "image" in wanted:
        pools["captions"] = text_pool(problem, problem.texts.about("caption", source.ids))
    if problem.texts is not None and "group" in wanted:
        of_class: list[list[str]] = [[] for _ in problem.class_names]
        for label, texts in zip(labels.tolist(), problem.texts.about("group_caption", source.ids)):
            of_class[label].extend(texts)
        pools["groups"] = text_pool(problem, of_class)
    return pools


def _prompts(problem: Problem) -> np.ndarray:
    tokens = tokens_for(problem.model, problem.tokenizer, [text for texts in problem.prompts for text in texts])
    return cut(problem.model.config.text, tokens)


def _view(problem: Problem, config: Config) -> View:
    clip = problem.model.config
    return augmented_view(
        clip.image_size, clip.mean, clip.std, crop=config.crop, jitter=config.jitter, grayscale=config.grayscale
    )
