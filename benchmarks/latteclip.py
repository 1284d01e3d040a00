"""LatteCLIP's training step: against the encoder passes it cannot do without, and against transformers on torch.

    python -m benchmarks.latteclip --classes 10 --batch 64
    python -m benchmarks.latteclip --classes 10 --batch 512 --dtype bfloat16 --device cuda --compile

clipjax runs the engine's own step. Its overhead is what the step takes beyond the passes of images, captions and class
texts, forwards and backwards, each measured alone in the same run; AdamW, which is no pass and yet needed, is measured
too. torch runs `benchmarks/latteclip_torch.py` in two ways, as published and with clipjax's deduplication and
trimming, on the same weights, batch and threads, in alternating steps. Captions have 12 to 24 tokens, prompts 8 to 11,
start and end included. Prints one JSON line, with how far the first step's loss and prototypes of both sides differ.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.engine_step import EngineStep, leave_memory_to_torch, step_parser
from benchmarks.flops import image_flops, text_flops
from benchmarks.peers import random_clip, torch_threads, transformers_peer
from benchmarks.timing import alternate, machine
from clipjax.methods.contrastive import clamp_logit_scale
from clipjax.methods.latteclip import Config
from clipjax.methods.latteclip.algorithm import Rules
from clipjax.methods.latteclip.step import LatteStep
from clipjax.methods.latteclip.watch import unwatched
from clipjax.methods.text_pools import cut
from clipjax.models.clip import CLIP, Params, unit
from clipjax.models.config import CLIPConfig
from clipjax.parallel.chips import peak_flops
from clipjax.parallel.mesh import make_mesh
from clipjax.parallel.rules import REPLICATED
from clipjax.training.optimizers import Optimizer

ALPHA = Config().alpha
ADAMW = dataclasses.replace(Config().optimizer, schedule="constant")
CAPTION_LENGTHS, PROMPT_LENGTHS = (12, 24), (8, 11)
PASSES = ("images", "captions", "class_texts")
WAYS = ("published", "deduplicated")


@dataclasses.dataclass(frozen=True)
class Inputs:
    """A batch and its texts as token rows: a caption of each image, a group caption and a prompt of each class."""

    images: np.ndarray
    labels: np.ndarray
    captions: np.ndarray
    groups: np.ndarray
    prompts: np.ndarray

    @property
    def written(self) -> np.ndarray:
        """The captions, and the group caption of each image."""
        return np.concatenate([self.captions, self.groups[self.labels]])

    def trimmed(self, config: CLIPConfig) -> "Inputs":
        """Cut texts to the length that the longest of their kind needs, as the method does."""
        kinds = ("captions", "groups", "prompts")
        return dataclasses.replace(self, **{name: cut(config.text, getattr(self, name)) for name in kinds})


def main() -> None:
    args = _parser().parse_args()
    leave_memory_to_torch(args.device)
    torch_threads()
    model, params = random_clip(args.model)
    inputs = random_inputs(model.config, args.batch, args.classes)
    short = inputs.trimmed(model.config)
    prototypes = unit(model.encode_text(params, inputs.prompts))
    ours = model.replace(dtype=args.dtype, remat=args.remat)
    step = clipjax_step(ours, params, prototypes, short, ADAMW)
    first = float(step()), np.asarray(step.state.carry["prototypes"])
    parts = {**encoder_passes(ours, params, short), "adamw": adamw_alone(params)}
    alone = alternate({"clipjax": step, **parts}, args.rounds)
    del parts  # the memory of a second AdamW
    peer, batches = torch_side(model, params, prototypes, inputs, args)
    differences = {way: first_step_differences(first, peer, batch, way) for way, batch in batches.items()}
    steps = {way: lambda way=way, batch=batch: peer.step(batch, way).item() for way, batch in batches.items()}
    beside = alternate({"clipjax": step, **steps}, args.rounds)
    found = report(args, model.config, short, alone, beside)
    print(json.dumps({**found, "first_step_differences": differences, **machine()}), flush=True)


def random_inputs(config: CLIPConfig, batch: int, classes: int) -> Inputs:
    """Draw noise for images, and texts of ordinary lengths."""
    random = np.random.default_rng(0)
    images = random.standard_normal((batch, config.image_size, config.image_size, 3), np.float32)
    labels = random.integers(0, classes, batch, np.int32)
    kinds = ((batch, CAPTION_LENGTHS), (classes, CAPTION_LENGTHS), (classes, PROMPT_LENGTHS))
    return Inputs(images, labels, *(random_texts(config, count, lengths, random) for count, lengths in kinds))


def random_texts(config: CLIPConfig, count: int, lengths: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Draw texts whose numbers of tokens are spread evenly between two, which both occur."""
    assert config.text is not None
    tokens = random.integers(1, config.text.bos_token_id, (count, config.context_length), np.int32)
    ends = np.linspace(*lengths, count).round().astype(int)[:, None] - 1
    tokens[:, 0] = config.text.bos_token_id
    place = np.arange(config.context_length)
    return random.permutation(np.where(place < ends, tokens, np.where(place == ends, config.text.eos_token_id, 0)))


def clipjax_step(
    model: CLIP, params: Params, prototypes: Any, inputs: Inputs, optimizer: Optimizer, *, alpha: float = ALPHA
) -> EngineStep:
    """Return LatteCLIP's step; its prototypes are in `state.carry`."""
    classes = len(inputs.prompts)
    latte = LatteStep(model, make_mesh(devices=jax.devices()[:1]), Rules(), (1,) * classes, steps_per_epoch=1000)
    carry = {**dict.fromkeys(("prototypes", "reference", "first"), prototypes), "watched": unwatched()}
    frozen = {
        "params": {},
        "alpha": np.float32(alpha),
        "prompts": inputs.prompts,
        "captions": _one_each(inputs.captions),
        "groups": _one_each(inputs.groups),
    }
    indices = np.arange(len(inputs.images), dtype=np.int32)
    batch = {"images": inputs.images, "indices": indices, "labels": inputs.labels}
    options: dict[str, Any] = {"after_update": clamp_logit_scale, "carry_rules": REPLICATED}
    return EngineStep(latte, optimizer, params, frozen, batch, carry, **options)


def _one_each(tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Make a pool of one text of each owner, so that torch knows what is drawn."""
    starts = np.arange(len(tokens), dtype=np.int32)
    return {"tokens": tokens, "starts": starts, "counts": np.ones_like(starts)}


def encoder_passes(model: CLIP, params: Params, inputs: Inputs) -> dict[str, Callable[[], Any]]:
    """Return the necessary passes, forwards and backwards: images, captions with group captions, and class texts."""
    vision, text = ("vision", "image_projection"), ("text", "text_projection")
    return {
        "images": _pass(model.encode_image, {name: params[name] for name in vision}, inputs.images),
        "captions": _pass(model.encode_text, {name: params[name] for name in text}, inputs.written),
        "class_texts": _pass(model.encode_text, {name: params[name] for name in text}, inputs.prompts),
    }


def _pass(encode: Callable[[Params, Any], jax.Array], params: Params, rows: np.ndarray) -> Callable[[], Any]:
    rows = jax.device_put(rows)
    toward = jax.random.normal(jax.random.key(1), jax.eval_shape(encode, params, rows).shape)
    loss = lambda params, rows: jnp.sum(toward * unit(encode(params, rows)))
    gradient = jax.jit(jax.value_and_grad(loss))
    return lambda: jax.block_until_ready(gradient(params, rows))


def adamw_alone(params: Params) -> Callable[[], Any]:
    """Return a function that updates a copy of the params."""
    numbers, step = ADAMW.numbers(1), jnp.zeros((), jnp.int32)

    def update(trainable: Params, moments: Any, grads: Params) -> tuple[Params, Any]:
        return ADAMW.structure().update(numbers, step, grads, moments, trainable)[:2]

    compiled = jax.jit(update, donate_argnums=(0, 1))
    trained = jax.tree.map(jnp.copy, params), jax.tree.map(jnp.copy, ADAMW.init(params))

    def run() -> None:
        nonlocal trained
        trained = jax.block_until_ready(compiled(*trained, params))

    return run


def torch_side(
    model: CLIP, params: Params, prototypes: Any, inputs: Inputs, args: argparse.Namespace
) -> tuple[Any, dict[Any, dict[str, Any]]]:
    """Return the torch step and for each way the batch it takes."""
    import torch

    from benchmarks.latteclip_torch import LatteCLIPTorch, torch_batch

    peer = transformers_peer(model, params, device=args.device)
    start = torch.tensor(np.asarray(prototypes), device=args.device)
    options = {"dtype": args.dtype, "compiled": args.compile, "together": args.device == "cuda"}
    latte = LatteCLIPTorch(peer, start, ADAMW, alpha=ALPHA, **options)
    given = {"published": inputs, "deduplicated": inputs.trimmed(model.config)}
    return latte, {
        way: torch_batch(rows.images, rows.labels, rows.captions, rows.groups[rows.labels], rows.prompts, args.device)
        for way, rows in given.items()
        if way in args.ways
    }


def first_step_differences(ours: tuple[float, np.ndarray], peer: Any, batch: Any, way: Any) -> dict[str, float]:
    """Compare the loss, relatively, and the prototypes after it with torch's before its first step."""
    import torch

    with torch.no_grad():
        loss, prototypes = peer.loss(batch, way)
    worst = {"loss": abs(ours[0] / loss.item() - 1), "prototypes": np.abs(ours[1] - prototypes.cpu().numpy()).max()}
    return {name: float(f"{value:.1e}") for name, value in worst.items()}


def report(
    args: argparse.Namespace, config: CLIPConfig, inputs: Inputs, alone: dict[str, float], beside: dict[str, float]
) -> dict[str, Any]:
    """Describe the times: `alone` those of clipjax's step and its parts, `beside` those of both sides."""
    parts = {name: seconds for name, seconds in alone.items() if name != "clipjax"}
    passes = sum(parts[name] for name in PASSES)
    ours, ways = beside["clipjax"], [name for name in beside if name != "clipjax"]
    texts = sum(len(rows) * text_flops(config, rows.shape[1]) for rows in (inputs.written, inputs.prompts))
    flops = 3 * (args.batch * image_flops(config) + texts)
    peak = peak_flops(jax.devices()[0].device_kind) if args.dtype == "bfloat16" else None
    return {
        "benchmark": "latteclip",
        **{name: getattr(args, name) for name in ("model", "batch", "classes", "dtype", "remat", "compile")},
        "caption_length": inputs.written.shape[1],
        "prompt_length": inputs.prompts.shape[1],
        **{f"{name}_s": round(seconds, 4) for name, seconds in parts.items()},
        "step_s": round(alone["clipjax"], 4),
        "overhead": round(alone["clipjax"] / passes - 1, 3),
        "overhead_besides_adamw": round(alone["clipjax"] / (passes + parts["adamw"]) - 1, 3),
        "clipjax_s": round(ours, 4),
        **{f"{way}_s": round(beside[way], 4) for way in ways},
        **{f"ratio_{way}": round(beside[way] / ours, 2) for way in ways},
        "images_per_s": round(args.batch / ours, 1),
        **{f"{way}_images_per_s": round(args.batch / beside[way], 1) for way in ways},
        "gflops_per_s": round(flops / ours / 1e9, 1),
        "flop_utilisation": peak and round(flops / ours / peak, 3),
    }


def _parser() -> argparse.ArgumentParser:
    parser = step_parser(__doc__)
    parser.add_argument("--compile", action="store_true", help="torch.compile the peer's encoders")
    parser.add_argument("--ways", nargs="*", default=WAYS, choices=WAYS, help="how the peer takes its step")
    return parser


if __name__ == "__main__":
    main()
