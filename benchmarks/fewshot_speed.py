"""How long AAPE takes on cached embeddings, against CoCoOp through a text tower and against a plain cosine classifier.

    python -m benchmarks.fewshot_speed                # all three parts
    python -m benchmarks.fewshot_speed --only head

Embeddings and descriptions are random numbers: time does not depend on what they say. CoCoOp reads the names of as many
classes with a text tower of three layers of width 192, far smaller than any published one; its time for as many
images is that of a few steps, times what is missing.
"""

import argparse
import json
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import alternate, machine
from clipjax.classify.problem import Problem
from clipjax.data.source import memory_source
from clipjax.inputs.tokenizer import openai_tokenizer
from clipjax.methods import aape, cocoop
from clipjax.methods.aape.initial import class_head, generator
from clipjax.methods.cached_shots import CachedShots, Descriptions
from clipjax.models.clip import CLIP, cosines, unit
from clipjax.models.conditioned import class_logits, generate
from clipjax.models.config import CLIPConfig, TextConfig, ViTConfig
from clipjax.training.fit import Pace
from clipjax.training.optimizers import Optimizer
from clipjax.training.run import Run

DIM, CLASSES, SHOTS, VIEWS, TEXTS = 512, 100, 16, 8, 30
STEPS, BATCH = 10_000, 32
COCOOP_STEPS = 40
WATCHED = Pace(log_every=100_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("study", "cocoop", "head"))
    parser.add_argument("--rounds", type=int, default=15, help="of timing the head")
    args = parser.parse_args()
    shots, descriptions = drawn()
    found: dict[str, Any] = {}
    if args.only in (None, "study"):
        found["aape_seconds"] = timed(lambda: aape.fit(shots, descriptions, aape.Config(), Run(pace=WATCHED)))
    if args.only in (None, "cocoop"):
        found["cocoop_seconds"] = cocoop_seconds(shots)
    if args.only is None:
        found["cocoop_over_aape"] = found["cocoop_seconds"] / found["aape_seconds"]
    if args.only in (None, "head"):
        found |= head_times(args.rounds)
    print(json.dumps({name: round(value, 5) for name, value in found.items()}))
    print(json.dumps(machine()))


def timed(work) -> float:
    """Return the seconds of a call, compilation included."""
    start = time.monotonic()
    work()
    return time.monotonic() - start


def drawn() -> tuple[CachedShots, Descriptions]:
    """Draw shots around a point for each class, and descriptions around the same points."""
    draw = np.random.default_rng(0)
    rows = lambda *shape: draw.normal(size=(*shape, DIM)).astype(np.float32)
    length = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
    centres, labels = length(rows(CLASSES)), np.repeat(np.arange(CLASSES, dtype=np.int32), SHOTS)
    views = length(centres[labels, None] + 0.05 * rows(CLASSES * SHOTS, VIEWS))
    texts = length(centres[:, None] + 0.05 * rows(CLASSES, TEXTS))
    shots = CachedShots(views, views[:, 0], labels, centres, 100.0)
    return shots, Descriptions(texts, np.ones((CLASSES, TEXTS), bool))


def cocoop_seconds(shots: CachedShots) -> float:
    """Time steps of CoCoOp, one image each, without compilation; return the time of as many images as AAPE sees."""
    text = TextConfig(49408, 32, width=192, layers=3, heads=3, mlp_width=768, bos_token_id=49406, eos_token_id=49407)
    model = CLIP(CLIPConfig(ViTConfig(32, 16, width=64, layers=1, heads=1, mlp_width=64), text, DIM))
    params = model.init(jax.random.key(0))
    names = tuple(f"thing number {place}" for place in range(CLASSES))
    images = memory_source([b""])
    problem = Problem(model, params, openai_tokenizer(), names, tuple((f"a photo of a {n}.",) for n in names), images)
    seconds = []
    for steps in (COCOOP_STEPS, 3 * COCOOP_STEPS):
        epochs = steps / len(shots.labels)
        config = cocoop.Config(epochs=epochs, optimizer=Optimizer("sgd", lr=2e-3))
        cocoop.fit(problem, shots, config, Run(pace=WATCHED))  # compiles
        seconds.append(timed(lambda config=config: cocoop.fit(problem, shots, config, Run(pace=WATCHED))))
    each = (seconds[1] - seconds[0]) / (2 * COCOOP_STEPS)
    return each * STEPS * BATCH


def head_times(rounds: int) -> dict[str, float]:
    """Time forward pass and training step for 1,000 classes, of the head and of a plain cosine classifier."""
    keys = jax.random.split(jax.random.key(0), 4)
    images, texts = (unit(jax.random.normal(key, (n, DIM))) for key, n in zip(keys, (BATCH, 1000)))
    labels = jnp.arange(BATCH)
    h, g = generator(keys[2], DIM, 32), class_head(keys[3], DIM, 32, "V2", 1.0)
    g = {**g, "w2": 0.1 * jax.random.normal(keys[3], g["w2"].shape)}

    def ours(weights):
        return class_logits(weights[1], texts, images, generate(weights[0], images), temperature=0.01, variant="V2")

    plain = lambda texts: cosines(images, unit(texts)) / 0.01
    loss = lambda logits: -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(BATCH), labels])
    programs = {
        "head_forward": (jax.jit(ours), (h, g)),
        "cosine_forward": (jax.jit(plain), texts),
        "head_step": (jax.jit(jax.grad(lambda w: loss(ours(w)))), (h, g)),
        "cosine_step": (jax.jit(jax.grad(lambda w: loss(plain(w)))), texts),
    }
    calls = {name: (lambda f=f, x=x: jax.block_until_ready(f(x))) for name, (f, x) in programs.items()}
    seconds = alternate(calls, rounds, pause=0.0)
    ratios = {part: seconds[f"head_{part}"] / seconds[f"cosine_{part}"] for part in ("forward", "step")}
    return {**seconds, **{f"{part}_ratio": ratio for part, ratio in ratios.items()}}


if __name__ == "__main__":
    main()
