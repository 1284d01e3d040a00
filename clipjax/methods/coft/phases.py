"""The pieces of work that CoFT is made of, as stages of a run and results that are kept between them."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from clipjax.classify.classifier import Classifier
from clipjax.classify.problem import Problem, Student
from clipjax.data.image_batches import ImageBatches
from clipjax.data.samplers import Shuffled
from clipjax.data.source import ImageSource
from clipjax.data.views import Transform, View, augmented_view
from clipjax.errors import ConfigError, DataError
from clipjax.methods.coft import tuning
from clipjax.methods.coft.config import Config
from clipjax.methods.coft.filtering import Judged, judged
from clipjax.methods.coft.prompting import Prompted, PromptStep, initial_prompts, read_with
from clipjax.methods.coft.seeds import Known
from clipjax.methods.learned_contexts import context_tokens
from clipjax.models.clip import CLIP
from clipjax.parallel.mesh import enough_rows, fitting_batch, make_mesh
from clipjax.parallel.rules import FSDP
from clipjax.training.partition import join
from clipjax.training.run import Run
from clipjax.training.stage import Stage
from clipjax.weights.fingerprint import fingerprint


class Phases:
    """Both phases on the `images` of a problem.

    The two models are trained one after the other: their stages share one compiled step, and as each has a stage of
    its own, gradients are clipped and bad steps skipped for each alone. They never see the same batch, so that there
    is nothing to share by training them at once.
    """

    def __init__(self, problem: Problem, config: Config, run: Run, images: ImageSource):
        self.problem, self.config, self.run, self.images = problem, config, run, images
        self.mesh: Mesh = make_mesh() if run.mesh is None else run.mesh
        self.model = self._computing(problem.model)
        self.student = problem.student or Student(problem.model, problem.params)
        self.tokens = context_tokens(self.model, problem.tokenizer, problem.class_names, config.contexts)
        self.scale = float(np.exp(np.asarray(problem.params["logit_scale"], np.float32)))
        if config.finetune and config.head_start == "text" and problem.student is not None:
            raise ConfigError("texts of one model say nothing to the features of another; set head_start='random'")

    def prompted(
        self, rows: Int[np.ndarray, " seeds"], labels: Int[np.ndarray, " seeds"], turn: int, i: int
    ) -> Prompted:
        """Train the prompts of model i from the beginning on seeds, and read all images with them (phase I)."""
        config, params = self.config, self.problem.params
        seed = _numbered(config.seed, turn, i)
        again = enough_rows(np.arange(len(rows)), self.mesh)
        rows, labels = rows[again], labels[again]
        batch_size = fitting_batch(config.batch_size, len(rows), self.mesh)
        fitted = self.run.fit(
            Stage(
                name=f"prompts-{turn}-{i + 1}",
                trainable=initial_prompts(self.model, jax.random.key(seed), config.contexts, config.visual_prompts),
                frozen={"params": params, "tokens": self.tokens, "weight": np.float32(config.negative_weight)},
                objective=PromptStep(self.model, self.mesh, config.detached, config.text_parts),
                optimizer=config.prompt_optimizer,
                steps=max(config.least_prompt_steps, round(config.prompt_epochs * len(rows) / batch_size)),
                batches=_batches(self.images.select(rows), self._view(self.model), batch_size, seed, labels=labels),
                seed=seed,
                origin=f"{config.contexts} contexts and {config.visual_prompts} visual prompts drawn by {seed}",
            )
        )
        return read_with(
            fitted.learned,
            self.model,
            params,
            self.tokens,
            self.images,
            self.run,
            weights=self.problem.identity["weights"],
            mesh=self.mesh,
            batch_size=config.batch_size,
            text_parts=config.text_parts,
        )

    def judged(self, prompted: list[Prompted], i: int, known: Known) -> Judged:
        """Let model i propose labels of all images, and whoever validates accept or reject them."""
        config = self.config
        validator = i if config.validation == "self" else (i + 1) % len(prompted)
        compute = lambda: judged(
            prompted[i],
            prompted[validator],
            self.scale,
            validation=config.validation,
            threshold=config.threshold,
            said=known.said,
            certain=known.certain is not None,
        )._asdict()
        digests = [fingerprint(prompted[model].prompts) for model in (i, validator)]
        depends = (self.problem.identity, digests, known.identity, config.validation, config.threshold)
        return Judged(**self.run.once(f"judged-{i + 1}", compute, depends=depends))

    def tuned(self, found: Judged, prompted: Prompted, i: int) -> Classifier:
        """Fine-tune an image tower and a head on the labels that were accepted of model i (phase II).

        Raises:
          DataError: there is none.
        """
        config, contrast = self.config, self.config.contrast_weight > 0
        if not found.accepted.any():
            raise DataError(
                "not one pseudo-label was accepted, so there is nothing to fine-tune on; "
                "train the prompts longer (least_prompt_steps), or on more seeds_per_class"
            )
        model, params = self._computing(self.student.model), self.student.params
        seed = _numbered(config.seed, 0, i)
        rows = enough_rows(np.arange(len(self.images)) if contrast else np.flatnonzero(found.accepted), self.mesh)
        batch_size = fitting_batch(config.batch_size, len(rows), self.mesh)
        tower, frozen = tuning.divided(params, config.tuned, config.head_input)
        features = tuning.feature_count(model, config.head_input)
        if config.head_start == "text":
            head = tuning.text_head(prompted.texts[0], params, config.head_input)
        else:
            head = tuning.random_head(jax.random.key(seed), len(self.problem.class_names), features)
        numbers, carry, views = {}, {}, self._view(model)
        if contrast:
            chosen = {name: getattr(config, name) for name in ("contrast_weight", "momentum", "temperature")}
            numbers = {name: np.float32(number) for name, number in chosen.items()}
            size = tuning.queue_size(config.queue, len(self.images), batch_size)
            carry = {"average": tower, **tuning.initial_queue(jax.random.key(seed), size, features)}
            views = {"images": views, "keys": self._key_view(model)}
        fitted = self.run.fit(
            Stage(
                name=f"tune-{i + 1}",
                trainable={"tower": tower, "head": head},
                frozen={"params": frozen, **numbers},
                carry=carry,
                objective=tuning.TuneStep(model, self.mesh, config.head_input, contrast),
                optimizer=config.tune_optimizer,
                steps=max(1, round(config.tune_epochs * len(rows) / batch_size)),
                batches=_batches(
                    self.images.select(rows),
                    views,
                    batch_size,
                    seed,
                    labels=found.labels[rows],
                    accepted=found.accepted[rows],
                    owners=rows,
                ),
                carry_rules=FSDP,
                seed=seed,
            )
        )
        learned = fitted.learned
        side = join(learned["tower"], frozen)
        weights, bias = tuning.on_pooled(learned["head"], side, config.head_input)
        said: dict[str, object] = {"accepted": int(found.accepted.sum()), "steps": fitted.steps}
        names = self.problem.class_names
        return Classifier(self.student.model, {**params, **side}, names, weights, said, bias, features="pooled")

    def by_texts(self, prompted: Prompted) -> Classifier:
        """Classify with the prompted model itself, by its positive texts."""
        return Classifier(
            self.problem.model,
            self.problem.params,
            self.problem.class_names,
            prompted.texts[0],
            visual_prompts=prompted.prompts.get("visual_prompts"),
        )

    def _computing(self, model: CLIP) -> CLIP:
        return model.replace(dtype=self.config.dtype or model.dtype)

    def _view(self, model: CLIP) -> View:
        clip = model.config
        return augmented_view(clip.image_size, clip.mean, clip.std, crop=self.config.crop, flip=self.config.flip)

    def _key_view(self, model: CLIP) -> View:
        clip, config = model.config, self.config
        return augmented_view(
            clip.image_size, clip.mean, clip.std, crop=config.key_crop, flip=config.flip, rand_augment=1
        )


def _batches(
    images: ImageSource,
    transform: Transform | Mapping[str, Transform],
    batch_size: int,
    seed: int,
    **columns: np.ndarray,
) -> ImageBatches:
    return ImageBatches(images, Shuffled(len(images), seed), transform, batch_size, seed, columns=columns)


def _numbered(seed: int, *path: int) -> int:
    """Give each model of each round random numbers of its own."""
    return int(np.random.SeedSequence((seed, *path)).generate_state(1)[0] >> 1)
