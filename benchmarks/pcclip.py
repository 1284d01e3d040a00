"""PC-CLIP's training step: against a step of a text tower alone, against transformers on torch, and what a run holds.

    python -m benchmarks.pcclip                                     # ViT-B/32, sentences of 24 to 40 tokens
    python -m benchmarks.pcclip --model ViT-L/14 --batch 32
    python -m benchmarks.pcclip --only memory                       # 499,500 pairs of 1,000 images

"text_tower" is the engine's own step on the same token rows with the image side given: the difference is what PC-CLIP's
gather and subtraction cost. torch runs `benchmarks/pcclip_torch.py` on the same weights, batch, threads and token
length, in alternating steps. "memory" tokenizes sentences about all pairs, draws an epoch of batches of 512, and says
what is held and how much the process grew, with what all differences would take. Prints one JSON line for each part.
"""

import argparse
import dataclasses
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks.flops import text_flops
from benchmarks.latteclip import random_texts
from benchmarks.needs import require
from benchmarks.peers import random_clip, torch_threads, transformers_peer
from benchmarks.timing import alternate, machine
from clipjax.classify.problem import make_problem
from clipjax.data.batches import ArrayBatches
from clipjax.data.samplers import Shuffled
from clipjax.data.source import memory_source
from clipjax.inputs.tokenizer import openai_tokenizer
from clipjax.losses import ClipLossOverMesh
from clipjax.methods.pcclip import Config
from clipjax.methods.pcclip.rows import compact_tokens
from clipjax.methods.pcclip.step import DifferenceStep, moved, no_change, text_side
from clipjax.methods.text_pools import cut
from clipjax.models.clip import CLIP, Params, unit
from clipjax.models.presets import preset
from clipjax.parallel.mesh import make_mesh, put_rows
from clipjax.parallel.mesh import rows as rows_of
from clipjax.parallel.rules import FSDP, REPLICATED
from clipjax.training.optimizers import Optimizer
from clipjax.training.partition import join, split
from clipjax.training.state import initial_state
from clipjax.training.step import Program, train_step

ADAM = dataclasses.replace(Config().optimizer, schedule="constant")
IMAGES = 1000
PARTS = ("step", "memory")


@dataclasses.dataclass(frozen=True)
class TextStep:
    """The objective of a text tower alone: the image side comes with the batch."""

    model: CLIP
    mesh: Mesh = dataclasses.field(repr=False)

    def __call__(self, trainable: Params, frozen: Any, carry: Any, batch: Any, rng: Any, step: Any):
        """Return CLIP's loss of the batch."""
        params = join(moved(frozen["start"], trainable), frozen["params"])
        text = self.model.replace(rows=rows_of(self.mesh)).encode_text(params, batch["tokens"].astype(jnp.int32))
        return ClipLossOverMesh(self.mesh)(batch["side"], text, 1 / frozen["temperature"]), ({}, carry)


class ClipjaxStep:
    """The engine's step with its state; calling it takes one step, waits for all of it and returns the loss."""

    def __init__(
        self,
        model: CLIP,
        params: Params,
        images: np.ndarray,
        batch: dict[str, np.ndarray],
        optimizer: Optimizer,
        *,
        temperature: float = 1.0,
        text_alone: bool = False,
    ):
        mesh = make_mesh(devices=jax.devices()[:1])
        start, rest = split(text_side(params), Config().trainable)
        self._frozen = {"params": rest, "start": start, "temperature": np.float32(temperature)}
        if text_alone:
            side = unit(jnp.asarray(images[batch["first"]] - images[batch["second"]]))
            objective, batch = TextStep(model, mesh), {"tokens": batch["tokens"], "side": np.asarray(side)}
        else:
            objective, self._frozen["images"] = DifferenceStep(model, mesh), images
        self._frozen = jax.device_put(self._frozen)
        self._program = Program(objective, optimizer.structure(), None, mesh, FSDP, REPLICATED)
        change = no_change(start)
        state = initial_state(change, optimizer.init(change), {}, averaged=False, seed=0)
        copied = jax.jit(lambda state: jax.tree.map(jnp.copy, state), out_shardings=self._program.layout(state))
        self.state = copied(state)
        self._batch = put_rows(mesh, batch)
        self._numbers = optimizer.numbers(1)

    @property
    def params(self) -> Params:
        """The text side after the last step."""
        return join(moved(self._frozen["start"], self.state.trainable), self._frozen["params"])

    def __call__(self) -> jax.Array:
        self.state, metrics = train_step(self._program, self.state, self._frozen, self._batch, self._numbers)
        return jax.block_until_ready((metrics["loss"], self.state))[0]


def random_batch(model: CLIP, count: int, lengths: tuple[int, int]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draw unit embeddings, pairs of them, and sentences cut to the longest, two bytes a token."""
    random = np.random.default_rng(0)
    images = random.standard_normal((IMAGES, model.config.embed_dim), np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    first = random.permutation(IMAGES)[:count].astype(np.int32)
    second = ((first + random.integers(1, IMAGES, count)) % IMAGES).astype(np.int32)
    tokens = cut(model.config.text, random_texts(model.config, count, lengths, random)).astype(np.uint16)
    return images, {"first": first, "second": second, "tokens": tokens}


def steps(args: argparse.Namespace) -> dict[str, Any]:
    """Time the step beside a text tower's and torch's."""
    if args.device == "cuda":
        # jax would take three quarters of the memory and leave torch too little
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.4")
    model, params = random_clip(args.model)
    images, batch = random_batch(model, args.batch, tuple(args.lengths))
    ours = model.replace(dtype=args.dtype, remat=args.remat)
    make = lambda alone: ClipjaxStep(ours, params, images, batch, ADAM, text_alone=alone)
    beside: dict[str, Any] = {"clipjax": make(False), "text_tower": make(True)}
    loss = float(beside["clipjax"]())
    found = alternate(beside, args.rounds)
    report: dict[str, Any] = {
        **{name: getattr(args, name) for name in ("model", "batch", "dtype", "remat")},
        "length": batch["tokens"].shape[1],
        "step_s": round(found["clipjax"], 4),
        "text_tower_s": round(found["text_tower"], 4),
        "over_text_tower": round(found["clipjax"] / found["text_tower"] - 1, 3),
    }
    if not args.no_torch:
        torch_threads()
        from benchmarks.pcclip_torch import PCCLIPTorch, torch_batch

        options = {"dtype": args.dtype, "compiled": args.compile}
        peer = PCCLIPTorch(transformers_peer(model, params, device=args.device), images, ADAM, **options)
        given = torch_batch(batch, args.device)
        difference = abs(loss / peer.loss(given).item() - 1)
        del beside["text_tower"]
        found = alternate({**beside, "torch": lambda: peer.step(given).item()}, args.rounds)
        report |= {
            "clipjax_s": round(found["clipjax"], 4),
            "torch_s": round(found["torch"], 4),
            "ratio": round(found["torch"] / found["clipjax"], 2),
            "first_loss_difference": float(f"{difference:.1e}"),
            "compile": args.compile,
        }
    # forwards, and backwards towards activations and weights
    flops = 3 * args.batch * text_flops(model.config, batch["tokens"].shape[1])
    return report | {"gflops_per_s": round(flops / found["clipjax"] / 1e9, 1)}


def memory(args: argparse.Namespace) -> dict[str, Any]:
    """Tokenize sentences about all pairs, draw an epoch of batches, and say what is held."""
    model = CLIP(preset(args.model))
    images = args.images
    first, second = (places.astype(np.int32) for places in np.triu_indices(images, 1))
    words = ("dog", "boy", "street", "ball", "red car", "green field", "white wall", "tall tree", "beach", "horse")
    scene = [f"a {words[i % 10]} beside a {words[i // 10 % 10]} number {i}" for i in range(images)]
    sentences = [
        f"The first image shows {scene[a]}, while the second image shows {scene[b]} in the distance."
        for a, b in zip(first.tolist(), second.tolist())
    ]
    tokenizer = dataclasses.replace(openai_tokenizer(), context_length=model.config.context_length)
    problem = make_problem(model, {}, tokenizer, ("one", "another"), memory_source([b""]))
    start = time.perf_counter()
    tokens = compact_tokens(problem, sentences)
    tokenized = time.perf_counter() - start
    embeddings = np.zeros((images, model.config.embed_dim), np.float32)
    del sentences
    before, start = _memory(), time.perf_counter()
    most = before
    gather = jax.jit(lambda rows, a, b: unit(rows[a] - rows[b]).sum())
    source = ArrayBatches(
        {"first": first, "second": second, "tokens": tokens}, Shuffled(len(first), 0), min(512, len(first))
    )
    count, on_device = len(first) // source.batch_size, jax.device_put(embeddings)
    for _, batch in zip(range(count), source.batches()):
        gather(on_device, batch["first"], batch["second"]).block_until_ready()
        most = max(most, _memory())
    streamed = time.perf_counter() - start
    megabytes = lambda count: round(count / 1e6, 1)
    return {
        "images": images,
        "pairs": len(first),
        "tokenize_s": round(tokenized, 1),
        "tokens_mb": megabytes(tokens.nbytes),
        "token_length": tokens.shape[1],
        "positions_mb": megabytes(first.nbytes + second.nbytes),
        "embeddings_mb": megabytes(embeddings.nbytes),
        "all_differences_mb": megabytes(4 * len(first) * model.config.embed_dim),
        "grown_mb": megabytes(most - before),
        "epoch_s": round(streamed, 1),
        "rows_per_s": round(count * source.batch_size / streamed),
    }


def _memory() -> int:
    """Return the bytes that this process has in memory."""
    with Path("/proc/self/statm").open(encoding="utf-8") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--model", default="ViT-B/32")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lengths", type=int, nargs=2, default=(24, 40), help="of sentences, shortest and longest")
    parser.add_argument("--images", type=int, default=IMAGES, help="of part memory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--remat", default="none", choices=("none", "dots", "full"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--compile", action="store_true", help="torch.compile the peer's text tower")
    parser.add_argument("--no-torch", action="store_true")
    args = parser.parse_args()
    if "step" in args.only and not args.no_torch:
        require("torch")
    for part in args.only:
        found = {"step": steps, "memory": memory}[part](args)
        print(json.dumps({"benchmark": f"pcclip-{part}", **found, **machine()}), flush=True)


if __name__ == "__main__":
    main()
