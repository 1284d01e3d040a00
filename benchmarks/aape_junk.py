"""Does AAPE's aggregator avoid junk? Attention to sentences that say nothing, before and after training.

    python -m benchmarks.aape_junk --work few

Four sentences of the kind that language models return instead of a description are planted among those of each of the
first five classes of DTD and EuroSAT (16 shots, testbed CLIP). "alike" starts with equal projections of queries and
keys, as the method does; "apart" draws both by themselves, small, as attention layers commonly start.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.fewshot_data import Opened, open_set
from clipjax.classify.embed import embed_texts
from clipjax.methods.aape.aggregation import AggregateStep, of_all_shots, targets
from clipjax.methods.aape.algorithm import attention_weights
from clipjax.methods.aape.config import Aggregation
from clipjax.methods.cached_shots import CachedShots, Descriptions
from clipjax.training.fit import Fitted, Pace
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run
from clipjax.training.stage import Stage

JUNK = (
    "I'm not sure what you are asking.",
    "I am not sure what you are asking.",
    "There is no one definitive answer to this question.",
    "The stock market fell on Monday.",
)
SETTINGS = {
    "stopped early (default)": Aggregation(),
    "60 epochs at 1e-3": Aggregation(epochs=60, rise=100.0, optimizer=Optimizer("adam", lr=1e-3, schedule="constant")),
}


class Watched(Run):
    """A run whose stage may start with projections drawn apart, and that keeps the weights before and after."""

    apart: bool = False

    def fit(self, stage: Stage) -> Fitted:
        """Run the stage."""
        if self.apart:
            dim = len(stage.trainable["wq"])
            key = jax.random.split(jax.random.key(7))
            small = {name: jax.random.normal(k, (dim, dim)) * dim**-0.5 for name, k in zip(("wq", "wk"), key)}
            stage.trainable.update(small)
        before = jax.tree.map(np.asarray, stage.trainable)
        fitted = super().fit(stage)
        object.__setattr__(self, "kept", (before, fitted.trainable, fitted.steps))
        return fitted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", default="few", metavar="DIR", help="where `benchmarks.fewshot` keeps embeddings")
    args = parser.parse_args()
    for name in ("dtd", "eurosat"):
        opened = open_set(name, Path(args.work))
        classes = np.arange(5)
        shots = opened.learn(classes, opened.shots(classes, 16, 1))
        planted = with_junk(opened, classes)
        for title, aggregation in SETTINGS.items():
            for start in ("alike", "apart"):
                about = {"set": name, "training": title, "start": start}
                print(json.dumps({**about, **watched(shots, planted, aggregation, start)}), flush=True)


def with_junk(opened: Opened, classes: np.ndarray) -> Descriptions:
    """Add the junk to the descriptions of each class, at their end."""
    own = next(iter(opened.descriptions.values())).select(classes)
    problem = opened.problem
    rows = embed_texts(problem.model, problem.params, problem.tokenizer, JUNK)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    everywhere = np.repeat(rows[None], len(classes), axis=0)
    there = np.ones(everywhere.shape[:2], bool)
    return Descriptions(np.concatenate([own.rows, everywhere], 1), np.concatenate([own.present, there], 1))


def watched(shots: CachedShots, texts: Descriptions, aggregation: Aggregation, start: str) -> dict[str, Any]:
    """Train an aggregator; say how much attention junk gets, as a multiple of an even share, and the mean cosines."""
    run = Watched(pace=Pace(log_every=100_000))
    object.__setattr__(run, "apart", start == "apart")
    targets(shots, texts, aggregation, run, batch_size=32, seed=0)
    before, after, steps = run.kept  # pyright: ignore[reportAttributeAccessIssue]
    rows, present = texts.rows[shots.labels], texts.present[shots.labels]

    def junk(weights: Any) -> float:
        asked = (weights["query"], jnp.asarray(rows), jnp.asarray(present))
        found = attention_weights(weights, *asked, heads=aggregation.heads)
        return round(float(np.mean(np.asarray(found)[..., -len(JUNK) :]) * np.mean(present.sum(1))), 2)

    def cosine(weights: Any) -> float:
        frozen = {"descriptions": texts.rows, "present": texts.present}
        fused = of_all_shots(AggregateStep(aggregation), weights, frozen, shots.plain, shots.labels)
        return round(float(np.mean(np.sum(fused * shots.plain, axis=1))), 3)

    return {
        "steps": steps,
        "junk": [junk(before), junk(after)],
        "cosine": [cosine(before), cosine(after)],
    }


if __name__ == "__main__":
    main()
