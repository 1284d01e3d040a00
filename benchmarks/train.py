"""One training step of CLIP, both towers and AdamW, side by side with transformers on torch.

    python -m benchmarks.train --model ViT-B/32 --batch 32
    python -m benchmarks.train --model ViT-L/14 --batch 256 --dtype bfloat16 --device cuda --compile

Same weights, same batch, same threads, alternating steps. clipjax runs the engine's own step;
torch runs `CLIPModel` with sdpa attention, its own loss and `torch.optim.AdamW` (fused where it can).
With bfloat16 both keep float32 params and moments and compute in bfloat16. Prints one JSON line.
"""

import argparse
import json
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.flops import image_flops, text_flops
from benchmarks.peers import images_and_tokens, random_clip, torch_threads, transformers_peer
from benchmarks.timing import alternate, machine
from clipjax.methods.contrastive import Contrastive, clamp_logit_scale
from clipjax.models.clip import CLIP, Params
from clipjax.parallel.chips import peak_flops
from clipjax.parallel.mesh import make_mesh, put_rows
from clipjax.parallel.rules import FSDP, REPLICATED
from clipjax.training.optimizers import Optimizer
from clipjax.training.state import initial_state
from clipjax.training.step import Program, train_step

ADAMW = Optimizer(lr=1e-5, weight_decay=0.1, schedule="constant")


def main() -> None:
    args = _parser().parse_args()
    if args.device == "cuda":
        # jax would take three quarters of the memory and leave torch too little
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.6")
    torch_threads()
    model, params = random_clip(args.model)
    images, tokens = images_and_tokens(model.config, args.batch)
    peer = transformers_peer(model, params, device=args.device)
    theirs = torch_step(peer, images, tokens, args.dtype, compiled=args.compile)
    ours = clipjax_step(model.replace(dtype=args.dtype, remat=args.remat), params, images, tokens)
    seconds = alternate({"clipjax": ours, "torch": theirs}, args.rounds)
    flops = 3 * args.batch * (image_flops(model.config) + text_flops(model.config, tokens.shape[1]))
    peak = peak_flops(jax.devices()[0].device_kind) if args.dtype == "bfloat16" else None
    report = {
        "benchmark": "train",
        **{name: getattr(args, name) for name in ("model", "batch", "dtype", "remat", "compile")},
        "clipjax_s": round(seconds["clipjax"], 4),
        "torch_s": round(seconds["torch"], 4),
        "ratio": round(seconds["torch"] / seconds["clipjax"], 2),
        "clipjax_per_s": round(args.batch / seconds["clipjax"], 1),
        "torch_per_s": round(args.batch / seconds["torch"], 1),
        "flop_utilisation": peak and round(flops / seconds["clipjax"] / peak, 3),
        "torch_flop_utilisation": peak and round(flops / seconds["torch"] / peak, 3),
        "losses": [round(float(ours()), 5), round(float(theirs()), 5)],
    }
    print(json.dumps({**report, **machine()}), flush=True)


def clipjax_step(model: CLIP, params: Params, images: Any, tokens: Any) -> Callable[[], float]:
    """Return a function that takes one step of the training engine and waits for its loss."""
    mesh = make_mesh(devices=jax.devices()[:1])
    program = Program(Contrastive(model, mesh), ADAMW.structure(), clamp_logit_scale, mesh, FSDP, REPLICATED)
    state = initial_state(params, ADAMW.init(params), {}, averaged=False, seed=0)
    # a copy: the step reuses its memory, which torch's params and equal leaves may share
    state = jax.jit(lambda state: jax.tree.map(jnp.copy, state), out_shardings=program.layout(state))(state)
    batch, numbers = put_rows(mesh, {"images": images, "tokens": tokens}), ADAMW.numbers(1)

    def step() -> float:
        nonlocal state
        state, metrics = train_step(program, state, {}, batch, numbers)
        # the params too: the loss is there before the update is
        return jax.block_until_ready((metrics["loss"], state))[0]

    return step


def torch_step(peer: Any, images: Any, tokens: Any, dtype: str, *, compiled: bool) -> Callable[[], float]:
    """Return a function that takes the same step in torch and waits for its loss."""
    import torch

    device = peer.device
    pixels = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(device)
    ids = torch.from_numpy(tokens).long().to(device)
    decayed = [p for p in peer.parameters() if p.ndim > 1]
    others = [p for p in peer.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-5, betas=(0.9, 0.999), eps=1e-8, fused=True)
    peer.train()

    def loss_of(pixels: Any, ids: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            return peer(pixel_values=pixels, input_ids=ids, return_loss=True).loss

    forward = torch.compile(loss_of) if compiled else loss_of

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = forward(pixels, ids)
        loss.backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return loss.item()

    return step


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B/32")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--remat", default="dots", choices=("none", "dots", "full"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--compile", action="store_true", help="torch.compile the peer")
    return parser


if __name__ == "__main__":
    main()
