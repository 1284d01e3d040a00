"""CoFT's training steps against transformers on torch, and two models in one step or one after the other.

    python -m benchmarks.coft --model ViT-B/32 --batch 64 --classes 10
    python -m benchmarks.coft --model ViT-B/16 --batch 512 --device cuda --phases tune contrast

clipjax runs the engine's own step, torch runs `benchmarks/coft_torch.py`, on the same weights, batch and threads, in
alternating steps, both in `--dtype` (on GPUs float32 means TF32 to both). "prompts" is phase I, "tune" phase II,
"contrast" phase II of CoFT+, and "stacked" phase I's gradient for two models by two calls against `vmap` over stacked
prompts. Prints one JSON line a phase, with how far the losses of the first step differ.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.engine_step import SEED, EngineStep, leave_memory_to_torch, step_parser
from benchmarks.latteclip import PROMPT_LENGTHS, random_texts
from benchmarks.peers import random_clip, torch_threads, transformers_peer
from benchmarks.timing import alternate, machine
from clipjax.methods.coft import Config
from clipjax.methods.coft.algorithm import draw_complements
from clipjax.methods.coft.prompting import PromptStep, initial_prompts
from clipjax.methods.coft.tuning import TuneStep, divided, feature_count, initial_queue, random_head
from clipjax.models.clip import CLIP, Params
from clipjax.parallel.mesh import make_mesh
from clipjax.training.optimizers import Optimizer

DEFAULTS = Config()
SGD = Optimizer("sgd", lr=5e-4, schedule="constant", weight_decay=5e-4, decayed="")
PHASES = ("prompts", "stacked", "tune", "contrast")


Side = Callable[[], Any]


def main() -> None:
    args = _parser().parse_args()
    leave_memory_to_torch(args.device)
    torch_threads()
    if args.device == "cuda":
        import torch

        torch.set_float32_matmul_precision("high")  # TF32, as XLA's default; torch's own is slower
    model, params = random_clip(args.model)
    model = model.replace(dtype=args.dtype, remat=args.remat)
    images, labels = random_batch(model, args.batch, args.classes)
    for phase in args.phases:
        if phase == "stacked":
            ways = stacked(model, params, images, labels, args.classes)
            first = {}
        else:
            given = (model, params, images, labels, args)
            ours, theirs = prompts(*given) if phase == "prompts" else tune(*given, contrast=phase == "contrast")
            ways = {"clipjax": ours, "torch": theirs}
            first = {"first_loss_difference": float(f"{abs(float(ours()) / float(theirs()) - 1):.1e}")}
        seconds = alternate(ways, args.rounds)
        one, other = seconds.values()
        found = {
            "benchmark": f"coft {phase}",
            **{name: getattr(args, name) for name in ("model", "batch", "classes", "dtype", "remat", "device")},
            **{f"{name}_s": round(value, 4) for name, value in seconds.items()},
            "ratio": round(other / one, 2),
            "images_per_s": round(args.batch / one, 1),
        }
        print(json.dumps({**found, **first, **machine()}), flush=True)


def random_batch(model: CLIP, batch: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw noise for images, and labels."""
    random, size = np.random.default_rng(0), model.config.image_size
    images = random.standard_normal((batch, size, size, 3), np.float32)
    return images, random.integers(0, classes, batch, np.int32)


def class_tokens(model: CLIP, classes: int, contexts: int) -> np.ndarray:
    """Draw class names of ordinary lengths with room for contexts, cut to what the longest needs."""
    longest = PROMPT_LENGTHS[1]
    names = random_texts(model.config, classes, PROMPT_LENGTHS, np.random.default_rng(1))[:, :longest]
    return np.concatenate([names[:, :1], np.repeat(names[:, 1:2], contexts, axis=1), names[:, 1:]], axis=1)


def prompts(
    model: CLIP, params: Params, images: np.ndarray, labels: np.ndarray, args: argparse.Namespace
) -> tuple[Side, Side]:
    """Return both sides' step of phase I."""
    import torch

    from benchmarks.coft_torch import PromptStepTorch

    start = initial_prompts(model, jax.random.key(SEED), DEFAULTS.contexts, DEFAULTS.visual_prompts)
    tokens = class_tokens(model, args.classes, DEFAULTS.contexts)
    frozen = {"params": params, "tokens": tokens, "weight": np.float32(1.0)}
    objective = PromptStep(model, make_mesh(devices=jax.devices()[:1]))
    ours = EngineStep(objective, SGD, start, frozen, {"images": images, "labels": labels}, {})
    # what the engine's first step draws
    key = jax.random.fold_in(jax.random.key(SEED), 0)
    complements = np.array(draw_complements(key, jnp.asarray(labels), args.classes))
    to = lambda array: torch.tensor(np.asarray(array), device=args.device)
    peer = transformers_peer(model, params, device=args.device)
    given = (to(tokens).long(), to(start["contexts"]), to(start["visual_prompts"]))
    theirs = PromptStepTorch(peer, *given, SGD, dtype=args.dtype)
    batch = (_pixels(images, args.device), to(labels).long(), to(complements).long())
    return ours, lambda: theirs.step(*batch).item()


def tune(
    model: CLIP, params: Params, images: np.ndarray, labels: np.ndarray, args: argparse.Namespace, *, contrast: bool
) -> tuple[Side, Side]:
    """Return both sides' step of phase II; keys are other noise and three of four labels are accepted."""
    import torch

    from benchmarks.coft_torch import TuneStepTorch

    owners, keys = np.arange(len(images), dtype=np.int32), images[::-1].copy()
    accepted = owners % 4 != 3
    tower, rest = divided(params, DEFAULTS.tuned, DEFAULTS.head_input)
    features = feature_count(model, DEFAULTS.head_input)
    head = random_head(jax.random.key(SEED), args.classes, features)
    batch, frozen, carry = {"images": images, "labels": labels, "accepted": accepted}, {"params": rest}, {}
    options: dict[str, Any] = {}
    to = lambda array: torch.tensor(np.asarray(array), device=args.device)
    if contrast:
        queue = initial_queue(jax.random.key(SEED), DEFAULTS.queue, features)
        carry = {"average": tower, **queue}
        batch |= {"keys": keys, "owners": owners}
        numbers = {"contrast_weight": 0.1, "momentum": DEFAULTS.momentum, "temperature": DEFAULTS.temperature}
        frozen |= {name: np.float32(number) for name, number in numbers.items()}
        options = {"queue": to(queue["queue"]), "weight": 0.1, "momentum": DEFAULTS.momentum}
    objective = TuneStep(model, make_mesh(devices=jax.devices()[:1]), DEFAULTS.head_input, contrast)
    ours = EngineStep(objective, SGD, {"tower": tower, "head": head}, frozen, batch, carry)
    linear = torch.nn.Linear(features, args.classes).to(args.device)
    with torch.no_grad():
        linear.weight.copy_(to(head["weights"]))
        linear.bias.copy_(to(head["bias"]))
    peer = transformers_peer(model, params, device=args.device)
    theirs = TuneStepTorch(peer, linear, SGD, temperature=DEFAULTS.temperature, dtype=args.dtype, **options)
    given = (_pixels(images, args.device), to(labels).long(), to(accepted).float())
    more = (_pixels(keys, args.device), to(owners).long()) if contrast else ()
    return ours, lambda: theirs.step(*given, *more).item()


def stacked(
    model: CLIP, params: Params, images: np.ndarray, labels: np.ndarray, classes: int
) -> dict[str, Callable[[], Any]]:
    """Return the gradients of two models of phase I, each for a batch of its own, in two ways."""
    objective = PromptStep(model, make_mesh(devices=jax.devices()[:1]))
    tokens = class_tokens(model, classes, DEFAULTS.contexts)
    frozen = jax.device_put({"params": params, "tokens": tokens, "weight": np.float32(1.0)})
    keys = jax.random.split(jax.random.key(SEED), 2)
    each = [initial_prompts(model, key, DEFAULTS.contexts, DEFAULTS.visual_prompts) for key in keys]
    batches = [{"images": jnp.asarray(x), "labels": jnp.asarray(labels)} for x in (images, images[::-1].copy())]
    stack = lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    loss = lambda prompts, batch, key, frozen: objective(prompts, frozen, {}, batch, key, 0)[0]
    one = jax.jit(jax.value_and_grad(loss))
    both = jax.jit(jax.vmap(jax.value_and_grad(loss), (0, 0, 0, None)))
    together = (stack(each), stack(batches), keys)
    return {
        "two_calls": lambda: jax.block_until_ready([one(*given, frozen) for given in zip(each, batches, keys)]),
        "vmap": lambda: jax.block_until_ready(both(*together, frozen)),
    }


def _pixels(images: np.ndarray, device: str) -> Any:
    import torch

    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device)


def _parser() -> argparse.ArgumentParser:
    parser = step_parser(__doc__)
    parser.add_argument("--phases", nargs="+", default=PHASES, choices=PHASES)
    return parser


if __name__ == "__main__":
    main()
