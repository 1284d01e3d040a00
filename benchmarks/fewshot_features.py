"""Few-shot methods on embeddings by OpenAI's ViT-B/32, of which the data holds the numbers and not the weights.

    python -m benchmarks.fewshot_features

Classes are those with a text embedding: 64 of Caltech101, 24 of Oxford Pets. A shot is the mean of ten views. There are
no embedded descriptions, so AAPE runs without distillation. Zero-shot and nearest-class-mean accuracies should be
those of the data's README (nearest mean: over all classes).
"""

import argparse
import json
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.needs import DATA, require
from benchmarks.timing import machine
from clipjax.classify.linear_probe import linear_probe
from clipjax.evaluation.few_shot import restrict_to_classes
from clipjax.methods import aape, clip_adapter, tip_adapter
from clipjax.methods.cached_shots import CachedShots
from clipjax.training.fit import Pace
from clipjax.training.run import Run

SETS = ("caltech101", "oxford_pets")
SCALE = 100.0
PARAMS = {"logit_scale": jnp.float32(math.log(SCALE))}
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "tip_adapter": (tip_adapter, {}),
    "tip_adapter_f": (tip_adapter, {"finetune": True}),
    "clip_adapter": (clip_adapter, {}),
    "aape_without_distillation": (aape, {"weight": 0.0}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 4, 16], choices=(1, 2, 4, 8, 16))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    args = parser.parse_args()
    require("testbed")
    for name in args.sets:
        stored = np.load(DATA / "data" / "features" / f"clip_vitb32_{name}.npz")
        texts = np.load(DATA / "data" / "features" / "clip_vitb32_class_text.npz")
        classes, weights = texts[f"{name}_class_ids"].astype(np.int64), texts[f"{name}_emb"]
        rows, labels = stored["test_features"].astype(np.float32), stored["test_labels"].astype(np.int64)
        kept, among = restrict_to_classes(labels, classes)
        say = lambda **words: print(json.dumps(words), flush=True)
        say(set=name, images=len(kept), zero_shot=top1(rows[kept] @ weights.T, among))
        say(set=name, images=len(rows), nearest_mean_16_all_classes=nearest_mean(stored, rows, labels))
        for shots in args.shots:
            cached = shots_of(stored, shots, classes, weights)
            say(set=name, shots=shots, linear_probe=probe(cached, rows[kept], among))
            for title, (module, settings) in METHODS.items():
                found = []
                for seed in args.seeds if title != "tip_adapter" else [0]:
                    config = module.Config(**settings, seed=seed)
                    inputs = (cached, None) if module is aape else (cached,)
                    head = module.fit(*inputs, config, Run(pace=Pace(log_every=100_000)))
                    scores = head.scores(None, PARAMS, jnp.asarray(rows[kept]), jnp.asarray(weights))
                    found.append(top1(np.asarray(scores), among))
                say(set=name, shots=shots, **{title: round(float(np.mean(found)), 2)}, of_seeds=found)
    print(json.dumps(machine()))


def top1(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of right classes in per cent."""
    return round(100 * float(np.mean(scores.argmax(1) == labels)), 2)


def nearest_mean(stored: Any, rows: np.ndarray, labels: np.ndarray) -> float:
    """Classify by the nearest mean of the sixteen shots of each class, texts unseen."""
    shots, own = stored["shot16_features"].astype(np.float32), stored["shot16_labels"]
    means = np.stack([shots[own == label].mean(0) for label in range(int(own.max()) + 1)])
    return top1(rows @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T, labels)


def shots_of(stored: Any, count: int, classes: np.ndarray, weights: np.ndarray) -> CachedShots:
    """Return the published shots of the classes that have a text."""
    rows = stored[f"shot{count}_features"].astype(np.float32)
    kept, labels = restrict_to_classes(stored[f"shot{count}_labels"].astype(np.int64), classes)
    rows = rows[kept] / np.linalg.norm(rows[kept], axis=1, keepdims=True)
    return CachedShots(rows[:, None], rows, labels.astype(np.int32), weights, SCALE)


def probe(shots: CachedShots, rows: np.ndarray, labels: np.ndarray) -> float | None:
    """Fit the linear probe; one shot of each class leaves none to choose its strength on."""
    if len(shots.labels) < 2 * len(shots.class_weights):
        return None
    found = linear_probe(shots.plain, shots.labels, rows)
    return round(100 * float(np.mean(found.predictions == labels)), 2)


if __name__ == "__main__":
    main()
