"""What `benchmarks.fewshot` compares: methods with settings, on embeddings that are made once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.fewshot_data import Opened
from clipjax.classify.classifier import Classifier
from clipjax.classify.linear_probe import linear_probe
from clipjax.classify.problem import Problem
from clipjax.methods import aape, clip_adapter, cocoop, coop, descriptions, kgcoop, tip_adapter
from clipjax.methods.cached_shots import CachedShots, Descriptions
from clipjax.training.fit import Pace
from clipjax.training.run import Run
from clipjax.training.settings import from_mapping


@dataclass(frozen=True)
class Variant:
    """A method with settings, its name in tables, and which description file (a position) it reads.

    `texts` are how many descriptions of each class it sees; it needs the `fewest` shots.
    """

    title: str
    method: str
    settings: dict[str, Any]
    source: int = 0
    texts: int | None = None
    fewest: int = 1


@dataclass(frozen=True)
class Lesson:
    """All that a method may learn from: the problem of some classes, their shots, and their descriptions."""

    problem: Problem
    shots: CachedShots
    described: Descriptions
    seed: int


def _aape(title: str, source: int = 0, texts: int | None = None, **settings: Any) -> Variant:
    return Variant(title, "aape", settings, source, texts)


VARIANTS = {
    "zero_shot": Variant("zero-shot", "zero_shot", {}),
    "descriptions": Variant("CuPL (descriptions alone)", "descriptions", {}),
    # the published files of these names, which of the sets with a table DTD alone has
    "cupl": Variant("CuPL, its own descriptions", "descriptions", {}, source=2),
    "dclip": Variant("DCLIP", "descriptions", {}, source=3),
    # one shot leaves none to choose its strength on
    "linear_probe": Variant("linear probe", "linear_probe", {}, fewest=2),
    "tip_adapter": Variant("Tip-Adapter", "tip_adapter", {}),
    "tip_adapter_f": Variant("Tip-Adapter-F", "tip_adapter", {"finetune": True}),
    "clip_adapter": Variant("CLIP-Adapter", "clip_adapter", {}),
    "coop": Variant("CoOp", "coop", {"contexts": 4, "words": "a photo of a"}),
    "kgcoop": Variant("KgCoOp", "kgcoop", {}),
    "cocoop": Variant("CoCoOp", "cocoop", {}),
    "undistilled": _aape("AAPE without distillation", weight=0.0),
    "aape": _aape("AAPE"),
    "random": _aape("AAPE, one random description", aggregation={"kind": "random"}),
    "mean": _aape("AAPE, mean description", aggregation={"kind": "mean"}),
    "mlp": _aape("AAPE, MLP aggregator", aggregation={"kind": "mlp"}),
    "class_query": _aape("AAPE, a query for each class", aggregation={"query": "class"}),
    "amortised": _aape("AAPE, queries made of the images", aggregation={"query": "amortised"}),
    "joint": _aape("AAPE, trained jointly", joint=True),
    "V0": _aape("AAPE, head V0", variant="V0"),
    "V1": _aape("AAPE, head V1", variant="V1"),
    "V3": _aape("AAPE, head V3", variant="V3"),
    "h_only": _aape("AAPE, h(x) alone", variant="none"),
    **{f"weight_{w}": _aape(f"AAPE, lambda {w}", weight=float(w)) for w in (1, 3, 9, 15)},
    **{f"texts_{n}": _aape(f"AAPE, {n} descriptions of each class", texts=n) for n in (1, 4)},
    **{
        f"descriptions_{n}": Variant(f"CuPL, {n} descriptions of each class", "descriptions", {}, texts=n)
        for n in (1, 4)
    },
    "other_texts": _aape("AAPE, second description file", source=1),
}

STUDIES = {
    "baselines": (
        *("zero_shot", "descriptions", "linear_probe", "tip_adapter", "tip_adapter_f", "clip_adapter"),
        *("undistilled", "aape"),
    ),
    "prompts": ("coop", "kgcoop", "cocoop"),
    "parts": (
        *("undistilled", "random", "mean", "mlp", "class_query", "amortised", "aape", "joint"),
        *("V0", "V1", "V3", "h_only"),
    ),
    # what the paper leaves open: the head g and the aggregator's query
    "selection": ("V0", "V1", "aape", "V3", "class_query", "amortised"),
    "sweeps": (
        *("undistilled", "weight_1", "weight_3", "aape", "weight_9", "weight_15"),
        *("texts_1", "texts_4", "descriptions_1", "descriptions_4", "other_texts"),
    ),
}
"""The rows of each table."""

GRIDS: dict[str, list[dict[str, Any]]] = {
    "aape": [{"optimizer": {"lr": 2e-3}}, {"optimizer": {"lr": 2e-2}}, {"optimizer": {"name": "adam", "lr": 1e-3}}],
    "clip_adapter": [{"optimizer": {"lr": 2e-3}}, {"optimizer": {"lr": 2e-2}}],
    "tip_adapter": [{"strength": s, "sharpness": k} for s in (0.3, 1.0, 3.0) for k in (5.5, 20.0)],
}
"""What is tried on the development domain."""

CHOSEN: dict[str, dict[str, Any]] = {}
"""The best of each grid there, by method; it belongs to every variant of the method."""


def settings_of(variant: Variant) -> dict[str, Any]:
    """Put a variant's settings together with those that were chosen."""
    return {**CHOSEN.get(variant.method, {}), **variant.settings}


def learnt(variant: Variant, lesson: Lesson) -> Classifier:
    """Adapt a variant to a lesson."""
    settings = settings_of(variant)
    problem, run = lesson.problem, Run(pace=Pace(log_every=100_000))
    names, model, params = problem.class_names, problem.model, problem.params
    build = lambda weights, **more: Classifier(model, params, names, jnp.asarray(weights), **more)
    texts = lesson.shots.class_weights
    if variant.method == "zero_shot":
        return build(texts)
    if variant.method == "descriptions":
        return build(descriptions.fit(texts, lesson.described, descriptions.Config()))
    if variant.method == "linear_probe":
        rows = lesson.shots.plain
        probe = linear_probe(rows, lesson.shots.labels, rows[:1], seed=lesson.seed)
        return build(probe.weights / lesson.shots.scale, bias=jnp.asarray(probe.bias))
    module: Any = METHODS[variant.method]
    config = from_mapping(module.Config, {**settings, "seed": lesson.seed})
    if variant.method in ("coop", "kgcoop", "cocoop"):
        fit: Callable = cocoop.fit if variant.method == "cocoop" else coop.fit
        return fit(problem, lesson.shots, config, run)
    more = (lesson.described,) if variant.method == "aape" else ()
    return build(texts, head=module.fit(lesson.shots, *more, config, run))


METHODS = {
    "aape": aape,
    "tip_adapter": tip_adapter,
    "clip_adapter": clip_adapter,
    "coop": coop,
    "kgcoop": kgcoop,
    "cocoop": cocoop,
}


def lesson_of(opened: Opened, variant: Variant, classes: np.ndarray, shots: int, seed: int) -> Lesson:
    """Draw shots of some classes; the seed draws them and all that a method draws."""
    sources = list(opened.descriptions.values())
    described = sources[min(variant.source, len(sources) - 1)].select(classes)
    if variant.texts is not None:
        described = Descriptions(described.rows[:, : variant.texts], described.present[:, : variant.texts])
    chosen = opened.shots(classes, shots, seed)
    return Lesson(opened.problem.restricted_to(classes), opened.learn(classes, chosen), described, seed)
